"""Latents as a transformer makes them, and what they err by, for a decoder that has to bear with it.

Fitted to the latents of real clips only, a decoder knows nothing of the small errors of generated ones, and shows them.
Here a real clip's latent is noised to a random level and denoised again (SDEdit, arXiv:2108.01073): what comes back
still is that clip, with errors such as generation leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..autoencoder import CausalVideoAutoencoder
from ..conditioning import Prompt, combine
from ..errors import ConfigError
from ..generate import denoise_latent, model_objective
from ..latents import weights_sha256
from ..text import TextEncoder
from ..transformer import VideoDiT


class AsGenerated:
    """(raw latent, generator) -> the same clip's raw latent, noised and denoised again without words.

    most: highest level it is noised to, as a share of the way to pure noise, above 0 and below 1.
    steps: of the denoising, euler.
    Raises `ConfigError` naming the setting.
    """

    def __init__(self, model: VideoDiT, text: TextEncoder, most: float = 0.5, steps: int = 2) -> None:
        if not 0 < most < 1:
            raise ConfigError(f"As generated: got most = {most!r}; expected a number above 0 and below 1.")
        if steps < 1:
            raise ConfigError(f"As generated: got steps = {steps!r}; expected a whole number of at least 1.")
        self.model, self.most, self.steps = model.requires_grad_(False).eval(), most, steps
        self.objective = model_objective(model.config)
        empty = text.encode([""])
        self.prompt = Prompt(empty.embeddings, empty.mask, empty.pooled)

    @torch.no_grad()
    def __call__(self, latent: Tensor, generator: torch.Generator) -> Tensor:
        """latent: `[B, C, T, h, w]`; one level for the batch, drawn from `generator`."""
        drawn = torch.rand((), generator=generator, device=generator.device).item()
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        way = torch.linspace(self.most * max(drawn, 1e-3), 0.0, self.steps + 1)
        sigmas = self.objective.sigma(way * self.objective.timestep_max)
        sigmas[-1] = 0.0
        conditioning = combine(self.model, self.objective, sigmas, self.prompt)
        return denoise_latent(self.model, conditioning, latent, seed=seed).to(latent)

    def identity(self) -> dict[str, Any]:
        """What it does, JSON values, to tell how a file was made."""
        return {"transformer": weights_sha256(self.model), "most": self.most, "steps": self.steps}


@torch.no_grad()
def error_deviation(
    autoencoder: CausalVideoAutoencoder, spoil: AsGenerated, clips: Iterable[Tensor], seed: int
) -> Tensor:
    """Root mean square [C] of what `spoil` changes in each channel of the clips' latents. clips: [B, 3, F, H, W]."""
    generator, total, count = torch.Generator().manual_seed(seed), 0.0, 0
    for video in clips:
        latent = autoencoder.encode(video).mean.float()
        error = (spoil(latent, generator) - latent).movedim(1, 0).flatten(1)
        total, count = total + error.square().sum(1), count + error.shape[1]
    return (total / count).sqrt()
