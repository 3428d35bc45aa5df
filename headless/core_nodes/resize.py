"""Resizing as core's nodes do it: method names, and cropping to the new proportions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
CROPS = ("disabled", "center")


def resize(pictures: Tensor, width: int, height: int, method: str, crop: str) -> Tensor:
    """`[N, C, H, W]` or `[N, C, T, H, W]` -> the same with `height` rows and `width` columns.

    method: one of `METHODS`; "lanczos" works on 8-bit values and needs 1, 3 or 4 channels. crop: "center" cuts the
    edges that do not fit the new proportions, "disabled" stretches.
    """
    import torch

    if pictures.ndim == 5:
        clips, times = pictures.shape[0], pictures.shape[2]
        flat = resize(pictures.transpose(1, 2).flatten(0, 1), width, height, method, crop)
        return flat.unflatten(0, (clips, times)).transpose(1, 2)
    if crop == "center":
        left, top = margins(pictures.shape[3], pictures.shape[2], width, height)
        pictures = pictures[..., top : pictures.shape[2] - top, left : pictures.shape[3] - left]
    if method == "lanczos":
        return _lanczos(pictures, width, height)
    return torch.nn.functional.interpolate(pictures, size=(height, width), mode=method)


def margins(old_width: int, old_height: int, width: int, height: int) -> tuple[int, int]:
    """(columns to cut left and right, rows to cut above and below) for the new proportions; something is left over."""
    old, new = old_width / old_height, width / height
    left = top = 0
    if old > new:
        left = round((old_width - old_width * (new / old)) / 2)
    elif old < new:
        top = round((old_height - old_height * (old / new)) / 2)
    return min(left, (old_width - 1) // 2), min(top, (old_height - 1) // 2)


def _lanczos(pictures: Tensor, width: int, height: int) -> Tensor:
    import numpy as np
    import torch
    from PIL import Image

    from .pictures import to_picture

    frames = []
    for number, picture in enumerate(pictures.movedim(1, -1)):
        resized = to_picture(picture, number).resize((width, height), Image.Resampling.LANCZOS)
        frames.append(torch.from_numpy(np.array(resized)).reshape(height, width, -1))
    return (torch.stack(frames).movedim(-1, 1).float() / 255).to(pictures)
