"""How like two clips are, pixel by pixel: PSNR and SSIM. Clips are `[B, F, H, W, 3]` in 0..1, as on an IMAGE wire."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601)


def luminance(clips: Tensor) -> Tensor:
    """`[B, F, H, W, 3]` -> `[B, F, H, W]`, float32."""
    return clips.float() @ clips.new_tensor(LUMINANCE, dtype=torch.float32)


def psnr(got: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB -> [B]. Both [B, F, H, W, 3] in 0..1."""
    return -10 * torch.log10((got - wanted).square().mean(dim=(1, 2, 3, 4)).clamp_min(1e-12))


def ssim(got: Tensor, wanted: Tensor) -> Tensor:
    """Structural similarity of each clip's luminance -> [B], 1 = equal (Wang et al. 2004: 11 x 11 Gaussian window).

    Both [B, F, H, W, 3] in 0..1, sides of 11 pixels or more. Mean over the places where the window fits, variances
    divided by the whole weight: scikit-image's `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.
    """
    a, b = (luminance(clip).flatten(0, 1)[:, None] for clip in (got, wanted))  # [B * F, 1, H, W]
    window = torch.exp(-0.5 * (torch.arange(-5, 6, device=got.device) / 1.5) ** 2)
    window = window / window.sum()

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a.square(), mean(b * b) - mean_b.square()
    both = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    similarity = similarity / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2))
    return similarity.mean(dim=(1, 2, 3)).view(len(got), -1).mean(1)
