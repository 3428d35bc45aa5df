"""Clips through the autoencoder and back; the measures of what that loses are in `dit_core.measures`."""

from __future__ import annotations

import torch
from sora_dit.dit_core.autoencoder import CausalVideoAutoencoder
from sora_dit.dit_core.measures import to_frames
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
