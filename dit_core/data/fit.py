"""A frame brought to another size: covering, antialiased, the middle cut out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def covering(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int]:
    """The (height, width), in the proportions of the first size, that just covers the second."""
    scale = max(to_height / height, to_width / width)
    return max(to_height, round(height * scale)), max(to_width, round(width * scale))


def middle(picture: np.ndarray, height: int, width: int) -> Tensor:
    """Cut out the middle.

    Args:
        picture: `[H, W, 3]` uint8 or uint16, at least height x width.

    Returns: `[3, height, width]` float32 in -1..1.
    """
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    part = picture[top : top + height, left : left + width].astype(np.float32)
    half = (65535.0 if picture.dtype == np.uint16 else 255.0) / 2
    return torch.from_numpy(part / half - 1).permute(2, 0, 1)
