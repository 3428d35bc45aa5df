"""What the encoder says about a clip, and the scale on which the transformer wants it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents; `mean` and `logvar` are `[B, C, T, h, w]`."""

    mean: Tensor
    logvar: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw `[B, C, T, h, w]`. The noise is drawn on the generator's device: a CPU generator gives the same
        noise on every device."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """KL divergence to the standard normal in nats per latent number, a scalar (mean over all numbers)."""
        mean, logvar = self.mean.float(), self.logvar.float()
        return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and standard deviation of each latent channel; the transformer sees (latent - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, latent: Tensor) -> Tensor:
        """Raw latent `[B, C, T, h, w]` -> about zero mean and unit variance per channel."""
        mean, std = self._tensors(latent)
        return (latent - mean) / std

    def denormalise(self, latent: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        mean, std = self._tensors(latent)
        return latent * std + mean

    def _tensors(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        if latent.ndim != 5 or latent.shape[1] != len(self.mean):
            raise ShapeError(
                f"Got a latent of shape {list(latent.shape)}; expected [batch, {len(self.mean)}, frames, h, w]."
            )
        pair = torch.tensor([self.mean, self.std], dtype=latent.dtype, device=latent.device)
        return tuple(pair.view(2, 1, -1, 1, 1, 1).unbind(0))

    @classmethod
    def measure(cls, latents: Iterable[Tensor], per_channel: bool = True) -> LatentStatistics:
        """Statistics over all of `latents`, each `[B, C, T, h, w]`; sizes may differ. Sums in float64, on the CPU.

        per_channel: False gives every channel the same deviation (the root of the mean variance), which keeps their
        relative scale.
        """
        count, total, squares = 0, 0.0, 0.0
        for latent in latents:
            flat = latent.detach().transpose(0, 1).flatten(1).cpu().double()
            count, total, squares = count + flat.shape[1], total + flat.sum(1), squares + flat.square().sum(1)
        if count == 0:
            raise ShapeError("Got no latents to measure; expected at least one [batch, channels, frames, h, w].")
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(1e-12)
        std = variance.sqrt() if per_channel else variance.mean().sqrt().expand_as(variance)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))
