"""Which way the clouds go, measured from the pixels: nothing is trained, nothing can have learnt the wrong thing.

Brightness that is carried along by a motion u obeys I_t = -u I_x, so the correlation of -I_t with I_x has the sign of u.
It is taken separately in small cells, normalised to -1..1 there, and added up: a bird or a balloon owns a few cells,
however much it stands out; what stands still has no I_t and no say.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 6  # the sky is cut into CELLS x CELLS boxes
SKY = 0.6  # share of the frame's height that is sky in every scene
BLUR = 1.5 / 64  # in frame heights; fast clouds move 2 of 64 pixels from frame to frame


def drift(clips: Tensor) -> Tensor:
    """How sure the clouds go to the right.

    clips: [B, F, H, W, 3] in 0..1, two frames or more.
    Returns [B] in -1..1: positive to the right, about 0 where nothing moves.
    """
    b, f, h, w, _ = clips.shape
    luminance = clips.float() @ clips.new_tensor((0.299, 0.587, 0.114), dtype=torch.float32)
    smooth = _blur(luminance.reshape(b * f, 1, h, w), BLUR * h).view(b, f, h, w)[:, :, : max(1, round(SKY * h))]
    middle = (smooth[:, 1:] + smooth[:, :-1]) / 2
    along = (middle[..., 2:] - middle[..., :-2]) / 2  # I_x [B, F - 1, h, W - 2]
    change = (smooth[:, 1:] - smooth[:, :-1])[..., 1:-1]  # I_t
    carried, i_x, i_t = (_cells(product) for product in (-along * change, along * along, change * change))
    return (carried / (i_x * i_t).sqrt().clamp_min(1e-9)).mean(1)


def drift_direction(clips: Tensor) -> list[str]:
    """ "left" or "right" for each clip of [B, F, H, W, 3]."""
    return ["right" if value > 0 else "left" for value in drift(clips).tolist()]


def _cells(product: Tensor) -> Tensor:
    """Mean over all frames in each cell: [B, F, h, w] -> [B, CELLS * CELLS]."""
    return F.adaptive_avg_pool2d(product.mean(1, keepdim=True), CELLS).flatten(1)


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [N, 1, H, W]; the border is repeated."""
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma) ** 2)
    weights = weights / weights.sum()
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
