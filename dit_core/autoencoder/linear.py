"""A linear codec beside the convolutions: each box of pixels, as deep as a latent frame, is projected by itself.

Its best weights are known in closed form (principal components), so a model that has it is a usable codec before the
first training step, and the convolutions only learn what it leaves over.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .latent import Posterior
from .stream import Stream


class LinearCodec(nn.Module):
    """Boxes of `time` frames x `space` x `space` pixels to `latent_channels` numbers and back.

    The clip's first latent frame stands for one video frame, taken as `time` equal ones.
    """

    def __init__(self, channels: int, latent_channels: int, time: int, space: int, alone: bool = False) -> None:
        super().__init__()
        self.time, self.space = time, space
        size = channels * time * space**2
        self.down = nn.Linear(size, latent_channels)
        self.up = nn.Linear(latent_channels, size)
        # of the posterior, the same everywhere; beside convolutions those say it
        self.logvar = nn.Parameter(torch.full((latent_channels,), -8.0)) if alone else None

    def boxes(self, video: Tensor, starts_clip: bool = True) -> Tensor:
        """`[B, C, F, H, W]` -> `[B, T, h, w, C * time * space^2]`."""
        if starts_clip:
            video = torch.cat([video[:, :, :1].expand(-1, -1, self.time - 1, -1, -1), video], 2)
        b, c, f, h, w = video.shape
        s, t = self.space, self.time
        x = video.reshape(b, c, f // t, t, h // s, s, w // s, s)
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)

    def encode(self, video: Tensor, stream: Stream | None = None) -> Tensor:
        """`[B, C, F, H, W]` -> `[B, latent_channels, T, h, w]`."""
        return self.down(self.boxes(video, self._starts(stream, video))).movedim(-1, 1)

    def posterior(self, video: Tensor, stream: Stream | None = None) -> Posterior:
        """The posterior of this codec alone: a Gaussian whose width does not depend on the video."""
        mean = self.encode(video, stream)
        return Posterior(mean, self.logvar[:, None, None, None].expand_as(mean))

    def decode(self, latent: Tensor, stream: Stream | None = None) -> Tensor:
        """`[B, latent_channels, T, h, w]` -> `[B, C, F, H, W]`."""
        starts = self._starts(stream, latent)
        s, t = self.space, self.time
        x = self.up(latent.movedim(1, -1)).unflatten(-1, (-1, t, s, s))  # [B, T, h, w, C, t, s, s]
        x = x.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return x[:, :, t - 1 :] if starts else x

    def _starts(self, stream: Stream | None, x: Tensor) -> bool:
        if stream is None:
            return True
        starts = stream.past(self) is None
        stream.remember(self, x[:, :, :0])
        return starts

    @torch.no_grad()
    def fit(self, clips: Iterable[Tensor], whitening: float = 1.0) -> None:
        """Set the weights to the principal components of `clips` ([B, C, F, H, W] each).

        whitening: 1 gives latents of unit variance each; less keeps strong components larger (0: their own scale), so
        that a diffusion model of the latents works from the coarse to the fine, as it does on pixels.

        The posterior's width is that of probabilistic PCA (Tipping & Bishop 1999): what the kept components miss counts
        as noise, the same in every direction. This is the maximum-likelihood linear Gaussian model.
        """
        count, total, products = 0, 0.0, 0.0
        for clip in clips:
            x = self.boxes(clip).flatten(0, 3).float()
            count, total, products = count + len(x), total + x.sum(0).double(), products + (x.T @ x).double()
        mean = total / count
        values, vectors = torch.linalg.eigh(products / count - mean.outer(mean))
        kept = self.down.out_features
        vectors = vectors.flip(1)[:, :kept].T  # [latent_channels, size], the largest first
        spread = values.flip(0)[:kept].clamp_min(1e-8).sqrt()[:, None]
        scale = spread**whitening
        noise = values.flip(0)[kept:].clamp_min(0).mean() if kept < len(values) else values.new_zeros(())
        if self.logvar is not None:
            share = (noise / spread.flatten().square()).clamp(1e-6, 1.0)  # posterior variance : component's variance
            self.logvar.copy_(torch.log(share * (spread / scale).flatten().square()))
        self.down.weight.copy_(vectors / scale)
        self.down.bias.copy_(-(vectors / scale) @ mean)
        self.up.weight.copy_((vectors * scale).T)
        self.up.bias.copy_(mean)
