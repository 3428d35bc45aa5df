"""A linear codec: beside the convolutions, as the encoder, or as the whole autoencoder.

Encoding projects each box of pixels, as deep as a latent frame, by itself. Decoding is one causal convolution over
neighbouring latents, so that boxes join without seams. The best weights of both are known in closed form (principal
components, then least squares), so such a model is a usable codec before the first training step, and convolutions
beside it only have to learn what it leaves over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device import autocast
from .joins import Joins, solve_joined
from .latent import Posterior
from .layers import CausalConv3d
from .stream import Stream

PAST = 1  # a decoded box depends on its latent frame and the one before


def wide(sums: Tensor) -> Tensor:
    """Sums in float64, on the CPU: Apple's GPUs have no float64."""
    return sums.cpu().double()


class LinearCodec(nn.Module):
    """Boxes of `time` frames x `space` x `space` pixels to `latent_channels` numbers and back.

    The clip's first latent frame stands for one video frame, taken as `time` equal ones.

    lookahead: how many later latent frames a decoded box depends on, 0 or 1. Boxes then join in time from both sides;
    decoding chunk by chunk gives each frame one latent frame later. Encoding stays causal.
    sides: on how many rows and columns of latents a decoded box depends, odd.
    """

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        time: int,
        space: int,
        alone: bool = False,
        lookahead: int = 0,
        sides: int = 3,
    ) -> None:
        super().__init__()
        self.time, self.space, self.lookahead, self.sides = time, space, lookahead, sides
        size = channels * time * space**2
        self.down = nn.Linear(size, latent_channels)
        self.up = CausalConv3d(latent_channels, size, (PAST + 1 + lookahead, sides, sides))
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
        starts = stream is None or stream.past(self) is None
        if stream is not None:
            stream.remember(self, video[:, :, :0])
        return self.down(self.boxes(video, starts)).movedim(-1, 1)

    def posterior(self, video: Tensor, stream: Stream | None = None) -> Posterior:
        """The posterior of this codec alone: a Gaussian whose width does not depend on the video."""
        mean = self.encode(video, stream)
        return Posterior(mean, self.logvar[:, None, None, None].expand_as(mean))

    def decode(self, latent: Tensor, stream: Stream | None = None, ends: bool = True) -> Tensor:
        """`[B, latent_channels, T, h, w]` -> `[B, C, F, H, W]`.

        In a stream, with lookahead, F may be less than the chunk's frames (0 at first); `ends` says that this chunk is
        the clip's last one, and what was held back comes too.
        """
        starts = stream is None or stream.past(self) is None
        late = 0 if stream is not None and stream.past(self.up) is not None else self.lookahead
        if self.lookahead and ends:  # after the clip's last frame that frame is repeated
            latent = torch.cat([latent, latent[:, :, -1:].expand(-1, -1, self.lookahead, -1, -1)], 2)
        s, t = self.space, self.time
        with autocast(latent.device):  # in a calm sky the steps of bfloat16 are seen
            x = self.up(latent.to(self.up.weight.dtype), stream)[:, :, late:]
        if stream is not None and x.shape[2]:
            stream.remember(self, x[:, :, :0])
        x = x.unflatten(1, (-1, t, s, s))  # [B, C, t, s, s, T, h, w]
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return x[:, :, t - 1 :] if starts else x

    @torch.no_grad()
    def fit(self, clips: Callable[[], Iterable[Tensor]], whitening: float = 1.0) -> None:
        """Set the weights from clips ([B, C, F, H, W] each); `clips()` is called twice and must give the same.

        whitening: 1 gives latents of unit variance each; less keeps strong components larger (0: their own scale), so
        that a diffusion model of the latents works from the coarse to the fine, as it does on pixels.

        The posterior's width is that of probabilistic PCA (Tipping & Bishop 1999): what the kept components miss counts
        as noise, the same in every direction. This is the maximum-likelihood linear Gaussian model.
        """
        self._fit_down(clips(), whitening)
        self.fit_decoder(clips())

    def _fit_down(self, clips: Iterable[Tensor], whitening: float) -> None:
        count, total, products = 0, 0.0, 0.0
        for clip in clips:
            x = self.boxes(clip).flatten(0, 3).float()
            count, total, products = count + len(x), total + wide(x.sum(0)), products + wide(x.T @ x)
        mean = total / count
        values, vectors = torch.linalg.eigh(products / count - mean.outer(mean))
        kept = self.down.out_features
        vectors = vectors.flip(1)[:, :kept].T  # [latent_channels, size], the largest first
        # a component's sign is arbitrary: make its largest weight positive, so that every machine finds the same
        vectors = vectors * vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
        spread = values.flip(0)[:kept].clamp_min(1e-8).sqrt()[:, None]
        scale = spread**whitening
        noise = values.flip(0)[kept:].clamp_min(0).mean() if kept < len(values) else values.new_zeros(())
        if self.logvar is not None:
            share = (noise / spread.flatten().square()).clamp(1e-6, 1.0)  # posterior variance : component's variance
            self.logvar.copy_(torch.log(share * (spread / scale).flatten().square()))
        self.down.weight.copy_(vectors / scale)
        self.down.bias.copy_(-(vectors / scale) @ mean)

    @torch.no_grad()
    def fit_decoder(self, clips: Iterable[Tensor], ridge: float = 1e-5, joins: Joins | None = None) -> None:
        """Set the decoder's weights by least squares for the encoder as it is; latents stay what they are.

        clips: [B, C, F, H, W] each. ridge: weight of the squared weights, in units of a latent's mean square. joins:
        what generated latents have for errors; the decoder then hides where their boxes meet.
        """
        squares, products, count = 0.0, 0.0, 0
        for clip in clips:
            x = self._neighbourhoods(self.encode(clip)).float()  # [N, latent_channels * depth * sides^2 + 1]
            y = self.boxes(clip).flatten(0, 3).float()
            squares, products = squares + wide(x.T @ x), products + wide(x.T @ y)
            count += len(x)
        squares += ridge * squares.diagonal().mean() * torch.eye(len(squares), device=squares.device)
        solution = torch.linalg.solve(squares, products).T
        weight = solution[:, :-1].reshape(self.up.weight.shape)
        if joins is not None:
            # the bias goes with the mean neighbourhood: without both, what is left to minimise is in the weights alone
            squares, products = squares / count, products / count
            mean, level = squares[-1, :-1], products[-1]
            squares, products = squares[:-1, :-1] - mean.outer(mean), products[:-1] - mean.outer(level)
            weight = solve_joined(weight, squares, products, joins, (self.time, self.space))
            solution[:, -1] = level - weight.flatten(1) @ mean
        self.up.weight.copy_(weight)
        self.up.bias.copy_(solution[:, -1])

    def _neighbourhoods(self, latent: Tensor) -> Tensor:
        """What `up` sees at each place, and a 1 for its bias: `[B, C, T, h, w]` -> `[N, C * depth * sides^2 + 1]`."""
        first, last = latent[:, :, :1], latent[:, :, -1:]
        later = last.expand(-1, -1, self.lookahead, -1, -1)
        x = torch.cat([first.expand(-1, -1, PAST, -1, -1), latent, later], 2)
        x = F.pad(x, (self.sides // 2,) * 4)
        depth = self.up.kernel_size[0]
        x = x.unfold(2, depth, 1).unfold(3, self.sides, 1).unfold(4, self.sides, 1)  # [B, C, T, h, w, depth, sides^2]
        x = x.movedim(1, 4).flatten(4).flatten(0, 3)
        return torch.cat([x, x.new_ones(len(x), 1)], 1)
