"""Does the autoencoder keep its word that nothing depends on what comes later?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..autoencoder import CausalVideoAutoencoder
from ..errors import ShapeError


@dataclass(frozen=True)
class Causality:
    """Largest absolute changes over all cuts of a clip; a causal model leaks 0 (float rounding aside)."""

    encoder_leak: float  # of latents before the cut, after frames from the cut on were changed
    encoder_response: float  # of latents from the cut on: must be above 0, or the check has checked nothing
    decoder_leak: float  # of frames that may not know of the cut, after latents from the cut on were changed
    decoder_response: float

    @property
    def holds(self) -> bool:
        """No leak above a millionth of the response."""
        return (
            self.encoder_leak <= 1e-6 * self.encoder_response
            and self.decoder_leak <= 1e-6 * self.decoder_response
            and min(self.encoder_response, self.decoder_response) > 0
        )


@torch.no_grad()
def check_causality(model: CausalVideoAutoencoder, video: Tensor) -> Causality:
    """Change a clip from each latent frame on and see what changes before it.

    A decoder that looks ahead by its configuration may change as many latent frames earlier.
    video: `[B, 3, F, H, W]` in -1..1 of two latent frames or more. Raises `ShapeError` otherwise.
    """
    factor = model.config.temporal_factor
    latent = model.encode(video).mean
    if latent.shape[2] < 2:
        raise ShapeError(
            f"Got a clip of {video.shape[2]} frames, which is one latent frame; a check of causality needs at least "
            f"{factor + 1} frames."
        )
    frames = model.decode(latent)
    rows = []
    for cut in range(1, latent.shape[2]):
        first = (cut - 1) * factor + 1  # the video frame with which latent frame `cut` begins
        other_video, other_latent = video.clone(), latent.clone()
        other_video[:, :, first:] = -other_video[:, :, first:] + 0.5
        other_latent[:, :, cut:] = -other_latent[:, :, cut:] + 0.5
        encoded = (model.encode(other_video).mean - latent).abs()
        decoded = (model.decode(other_latent) - frames).abs()
        known = max(0, first - factor * model.config.lookahead)
        parts = (encoded[:, :, :cut], encoded[:, :, cut:], decoded[:, :, :known], decoded[:, :, first:])
        rows.append([part.max().item() if part.numel() else 0.0 for part in parts])
    return Causality(*(max(column) for column in zip(*rows, strict=True)))
