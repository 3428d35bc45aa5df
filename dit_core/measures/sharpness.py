"""How much detail a reconstruction kept: its energy in bands of spatial frequency and in time, over the original's.

1 = as much as the original, less = blurred, more = noise or ringing was added. Energy says nothing about whether the
detail is in the right place: read it beside PSNR and SSIM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .likeness import luminance

# cycles per pixel, an octave each: periods of 16 to 8 pixels, 8 to 4, and 4 to 2
BANDS = {"coarse": (1 / 16, 1 / 8), "middle": (1 / 8, 1 / 4), "fine": (1 / 4, 1 / 2)}


def band_energy(clips: Tensor) -> dict[str, Tensor]:
    """Energy of each clip's luminance in the rings of `BANDS` -> [B] each, mean over frames.

    clips: [B, F, H, W, 3], sides of 16 pixels or more. The picture's mean is taken off and a Hann window laid over it,
    so that the jump between opposite edges does not count as detail. The corners beyond 1/2 belong to no band.
    """
    light = luminance(clips)
    height, width = light.shape[-2:]
    rows, columns = (torch.hann_window(n, device=light.device) for n in (height, width))
    light = (light - light.mean(dim=(2, 3), keepdim=True)) * rows[:, None] * columns
    power = torch.fft.rfft2(light).abs().square()
    power[..., 1 : (width + 1) // 2] *= 2  # the half plane that `rfft2` leaves out
    vertical = torch.fft.fftfreq(height, device=light.device)[:, None]
    radius = torch.hypot(vertical, torch.fft.rfftfreq(width, device=light.device))
    inside = {name: (low <= radius) & (radius < high) for name, (low, high) in BANDS.items()}
    return {name: power[..., ring].sum(-1).mean(1) for name, ring in inside.items()}


def detail_ratio(got: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """`band_energy` of `got` over that of `wanted` -> [B] for each band; NaN where `wanted` has none. Both
    [B, F, H, W, 3]."""
    energy, reference = band_energy(got), band_energy(wanted)
    return {name: _over(energy[name], reference[name]) for name in BANDS}


def motion_ratio(got: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute frame difference of `got` over that of `wanted` -> [B]; NaN where `wanted` stands still. Both
    [B, F, H, W, 3], F of 2 or more."""
    step, reference = (clip.diff(dim=1).abs().mean(dim=(1, 2, 3, 4)) for clip in (got, wanted))
    return _over(step, reference)


def _over(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole; NaN where the whole is nothing but rounding."""
    return torch.where(whole > 1e-7, part / whole, torch.nan)
