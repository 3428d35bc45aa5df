"""What the autoencoder loses: clips there and back, PSNR and SSIM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sora_dit.dit_core.autoencoder import CausalVideoAutoencoder
from torch import Tensor


@torch.inference_mode()
def encode_decode(autoencoder: CausalVideoAutoencoder, clips: Tensor, noise: Tensor | None = None) -> Tensor:
    """Through the latent and back.

    clips: [B, F, H, W, 3] in 0..1; noise: [B], standard deviation of noise on the latents, in units of each channel's
    own. Returns [B, F, H, W, 3] in 0..1, float32, on the CPU.
    """
    parameter = next(autoencoder.parameters())
    video = (clips * 2 - 1).permute(0, 4, 1, 2, 3).contiguous().to(parameter)
    latent = autoencoder.encode(video).mean
    if noise is not None:
        spread = latent.std(dim=(0, 2, 3, 4), keepdim=True)
        latent = latent + noise.to(latent).view(-1, 1, 1, 1, 1) * spread * torch.randn_like(latent)
    return to_frames(autoencoder.decode(latent))


def to_frames(video: Tensor) -> Tensor:
    """Decoded [B, 3, F, H, W] in about -1..1 -> [B, F, H, W, 3] in 0..1, float32, on the CPU."""
    return (video.float().cpu().permute(0, 2, 3, 4, 1) * 0.5 + 0.5).clamp(0, 1)


def psnr(got: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB -> [B]. Both [B, F, H, W, 3] in 0..1."""
    return -10 * torch.log10((got - wanted).square().mean(dim=(1, 2, 3, 4)).clamp_min(1e-12))


def ssim(got: Tensor, wanted: Tensor) -> Tensor:
    """Structural similarity of each clip's luminance -> [B], 1 = equal (Wang et al. 2004: 11 x 11 Gaussian window).

    Both [B, F, H, W, 3] in 0..1, sides of 11 pixels or more.
    """
    luminance = got.new_tensor((0.299, 0.587, 0.114))
    a, b = ((clip @ luminance).flatten(0, 1)[:, None] for clip in (got, wanted))  # [B * F, 1, H, W]
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
