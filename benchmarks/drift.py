"""Which way things go, measured from the pixels: nothing is trained, nothing can have learnt the wrong thing.

Brightness that is carried along by a motion u obeys I_t = -u I_x, so the correlation of -I_t with I_x has the sign of
u. It is taken separately in small cells, normalised to -1..1 there; `drift` adds up those of the sky. A bird or a
balloon owns a few cells, however much it stands out; what stands still has no I_t and no say.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sora_dit.dit_core.measures import luminance
from torch import Tensor

CELLS = 6  # the sky is cut into CELLS x CELLS boxes
SKY = 0.6  # share of the frame's height that is sky in every scene
BLUR = 1.5 / 64  # in frame heights; fast clouds move 2 of 64 pixels from frame to frame


def drift(clips: Tensor) -> Tensor:
    """How sure the clouds go to the right.

    clips: [B, F, H, W, 3] in 0..1, two frames or more.
    Returns [B] in -1..1: positive to the right, about 0 where nothing moves.
    """
    along, _, change = gradients(luminance(clips))
    top = max(1, round(SKY * along.shape[2]))
    return correlation(along[:, :, :top], change[:, :, :top], CELLS).mean((1, 2))


def drift_direction(clips: Tensor) -> list[str]:
    """ "left" or "right" for each clip of [B, F, H, W, 3]."""
    return ["right" if value > 0 else "left" for part in clips.split(32) for value in drift(part).tolist()]


def motion_map(brightness: Tensor, fps: float, cells: int) -> Tensor:
    """What moves where, averaged over the clip.

    brightness: [B, F, H, W]. Returns [B, 3, cells, cells]: correlations for motion to the right and downwards in -1..1,
    and the speed to the right in quarters of the width per second, -2..2.
    """
    along, down, change = gradients(brightness)
    carried, steep = _cells(-along * change, cells), _cells(along * along, cells)
    speed = carried / (steep + 1e-6) * fps / brightness.shape[-1] * 4
    maps = (correlation(along, change, cells), correlation(down, change, cells), speed.clamp(-2, 2))
    return torch.stack(maps, 1)


def gradients(brightness: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """I_x, I_y and I_t of blurred [B, F, H, W], each [B, F - 1, H - 2, W - 2], between two frames."""
    b, f, h, w = brightness.shape
    smooth = _blur(brightness.reshape(b * f, 1, h, w), BLUR * h).view(b, f, h, w)
    middle = (smooth[:, 1:] + smooth[:, :-1]) / 2
    along = (middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2]) / 2
    down = (middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]) / 2
    return along, down, (smooth[:, 1:] - smooth[:, :-1])[..., 1:-1, 1:-1]


def correlation(slope: Tensor, change: Tensor, cells: int) -> Tensor:
    """Correlation of -I_t with a slope in each cell, over all frames: [B, F, h, w] twice -> [B, cells, cells]."""
    carried, steep, changed = (_cells(p, cells) for p in (-slope * change, slope * slope, change * change))
    return carried / (steep * changed).sqrt().clamp_min(1e-9)


def _cells(product: Tensor, cells: int) -> Tensor:
    return F.adaptive_avg_pool2d(product.mean(1, keepdim=True), cells)[:, 0]


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [N, 1, H, W]; the border is repeated."""
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma) ** 2)
    weights = weights / weights.sum()
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
