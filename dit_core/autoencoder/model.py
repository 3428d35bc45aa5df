"""The causal video autoencoder: video `[B, 3, F, H, W]` in -1..1 to latent `[B, C, T, h, w]` and back.

Purely convolutional and causal in time (frames = temporal_factor * k + 1; a single frame is an image), so a clip may
pass in chunks of any length with the same result and in memory that does not grow with its length. A whole clip is
one chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ..errors import ShapeError
from .config import AutoencoderConfig
from .latent import LatentStatistics, Posterior
from .layers import CausalConv3d, Downsample, ResidualBlock, Upsample, from_patches, start_repeated, to_patches
from .linear import LinearCodec
from .stream import Stream


class Encoder(nn.Module):
    """Video chunk to the latent's mean and log variance, side by side in the channels."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths, blocks = config.encoder_channels, config.blocks("encoder")
        body: list[nn.Module] = [CausalConv3d(config.in_channels * config.patch**2, widths[0])]
        for level, width in enumerate(widths):
            body += [ResidualBlock(width) for _ in range(blocks[level])]
            if level + 1 < len(widths):
                time, space = config.temporal_downsample[level], config.spatial_downsample[level]
                body.append(Downsample(width, widths[level + 1], time, space))
        body.append(CausalConv3d(widths[-1], 2 * config.latent_channels))
        self.body = nn.ModuleList(body)
        if config.linear != "none":
            nn.init.zeros_(body[-1].weight)
            nn.init.constant_(body[-1].bias[config.latent_channels :], -4.0)  # a narrow posterior to begin with

    def forward(self, video: Tensor, stream: Stream | None = None, linear: LinearCodec | None = None) -> Tensor:
        """`[B, 3, F, H, W]` -> `[B, 2 * latent_channels, T, h, w]`."""
        x = to_patches(video, self.patch)
        for part in self.body:
            x = part(x, stream)
        if linear is None:
            return x
        mean, logvar = x.chunk(2, 1)
        return torch.cat([mean + linear.encode(video, stream), logvar], 1)


class Decoder(nn.Module):
    """Latent chunk to video."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths, blocks = config.decoder_channels, config.blocks("decoder")
        body: list[nn.Module] = [CausalConv3d(config.latent_channels, widths[-1])]
        for level in reversed(range(len(widths))):
            body += [ResidualBlock(widths[level]) for _ in range(blocks[level])]
            if level > 0:
                time, space = config.temporal_downsample[level - 1], config.spatial_downsample[level - 1]
                body.append(Upsample(widths[level], widths[level - 1], time, space))
        body.append(CausalConv3d(widths[0], config.in_channels * config.patch**2))
        start_repeated(body[-1], config.patch**2)
        self.body = nn.ModuleList(body)
        if config.linear != "none":
            nn.init.zeros_(body[-1].weight)

    def forward(self, latent: Tensor, stream: Stream | None = None, linear: LinearCodec | None = None) -> Tensor:
        """`[B, latent_channels, T, h, w]` -> `[B, 3, F, H, W]`."""
        x = latent
        for part in self.body:
            x = part(x, stream)
        video = from_patches(x, self.patch)
        return video if linear is None else video + linear.decode(latent, stream)


class CausalVideoAutoencoder(nn.Module):
    """Encoder and decoder with checked sizes and chunked passes. Latents here are raw; see `statistics`."""

    def __init__(self, config: AutoencoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or AutoencoderConfig()
        self.encoder = Encoder(self.config) if self.config.linear in ("none", "both") else None
        self.decoder = Decoder(self.config) if self.config.linear != "alone" else None
        c = self.config
        sizes = (c.in_channels, c.latent_channels, c.temporal_factor, c.spatial_factor)
        how = {"alone": self.encoder is None, "lookahead": c.lookahead, "sides": c.linear_sides}
        self.linear = LinearCodec(*sizes, **how) if c.linear != "none" else None

    @property
    def statistics(self) -> LatentStatistics | None:
        """How to normalise this model's latents for the transformer; None before they were measured."""
        if self.config.latent_mean is None or self.config.latent_std is None:
            return None
        return LatentStatistics(self.config.latent_mean, self.config.latent_std)

    def forward(self, video: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """Reconstruction `[B, 3, F, H, W]` from one draw of the posterior, and the posterior: a training step."""
        posterior = self.encode(video)
        return self.decode(posterior.sample(generator)), posterior

    def encode(self, video: Tensor, chunk_frames: int | None = None) -> Posterior:
        """Encode a whole clip.

        Args:
            video: `[B, 3, F, H, W]` in -1..1; F = temporal_factor * k + 1, H and W multiples of spatial_factor.
            chunk_frames: how many frames at a time, any number from 1; None takes all at once. Same result.

        Returns: posterior of shape `[B, latent_channels, (F - 1) // temporal_factor + 1, h, w]`.
        Raises: `ShapeError` naming the nearest sizes that fit.
        """
        self._check_video(video)
        self._check_frames(video.shape[2])
        if chunk_frames is None:
            return self._posterior(video)
        chunks = list(self.encode_chunks(video.split(_at_least_one(chunk_frames, "chunk_frames"), 2)))
        return Posterior(torch.cat([c.mean for c in chunks], 2), torch.cat([c.logvar for c in chunks], 2))

    def encode_chunks(self, chunks: Iterable[Tensor]) -> Iterator[Posterior]:
        """Encode a clip that arrives in pieces `[B, 3, f, H, W]` of any length, holding one piece at a time.

        Yields the posterior of each piece as far as its frames fill latent frames. Raises `ShapeError` at the end
        when the total is not temporal_factor * k + 1 frames.
        """
        stream, total, waiting, factor = Stream(), 0, None, self.config.temporal_factor
        for chunk in chunks:
            self._check_video(chunk)
            _check_same_clip(chunk, waiting)
            group = chunk if waiting is None else torch.cat([waiting, chunk], 2)
            # The first latent frame takes one video frame, each later one takes `factor`.
            offset = 1 if total == 0 else 0
            total += chunk.shape[2]
            ready = (group.shape[2] - offset) // factor * factor + offset
            waiting = group[:, :, ready:].clone()
            if ready > 0:
                yield self._posterior(group[:, :, :ready], stream)
        self._check_frames(total)

    def decode(self, latent: Tensor, chunk_latents: int | None = None) -> Tensor:
        """Decode a whole clip.

        Args:
            latent: raw (not normalised) latent `[B, latent_channels, T, h, w]`.
            chunk_latents: how many latent frames at a time; None takes all at once. Same result.

        Returns: video `[B, 3, temporal_factor * (T - 1) + 1, H, W]`, about -1..1, not clamped.
        Raises: `ShapeError`.
        """
        if chunk_latents is None:
            self._check_latent(latent)
            return self._decode(latent)
        return torch.cat(list(self.decode_chunks(latent, chunk_latents)), 2)

    def decode_chunks(self, latent: Tensor | Iterable[Tensor], chunk_latents: int = 1) -> Iterator[Tensor]:
        """Decode a clip piece by piece, holding one piece at a time.

        Args:
            latent: raw latent `[B, latent_channels, T, h, w]`, or an iterable of such pieces of one clip.
            chunk_latents: latent frames per piece when `latent` is a tensor.

        Yields: video `[B, 3, f, H, W]`; the first latent frame gives one frame, each later one temporal_factor.
        """
        pieces: Iterable[Tensor] = [latent] if isinstance(latent, Tensor) else latent
        if isinstance(latent, Tensor):
            self._check_latent(latent)
            pieces = latent.split(_at_least_one(chunk_latents, "chunk_latents"), 2)
        return self._decode_pieces(pieces)

    def _decode_pieces(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        stream, waiting = Stream(), None  # one piece waits until it is known whether it is the last
        for piece in pieces:
            self._check_latent(piece)
            _check_same_clip(piece, waiting)
            if waiting is not None and (video := self._decode(waiting, stream, ends=False)).shape[2]:
                yield video
            waiting = piece
        if waiting is not None:
            yield self._decode(waiting, stream)

    def _posterior(self, video: Tensor, stream: Stream | None = None) -> Posterior:
        if self.encoder is None:
            return self.linear.posterior(video, stream)
        mean, logvar = self.encoder(video, stream, self.linear).chunk(2, 1)
        return Posterior(mean, logvar.clamp(-30.0, 20.0))

    def _decode(self, latent: Tensor, stream: Stream | None = None, ends: bool = True) -> Tensor:
        if self.decoder is None:
            return self.linear.decode(latent, stream, ends)
        return self.decoder(latent, stream, self.linear)

    def _check_video(self, video: Tensor) -> None:
        channels, factor = self.config.in_channels, self.config.spatial_factor
        if video.ndim != 5 or video.shape[1] != channels:
            raise ShapeError(
                f"Got a video of shape {list(video.shape)}; this autoencoder takes "
                f"[batch, {channels}, frames, height, width]."
            )
        for name, size in (("height", video.shape[3]), ("width", video.shape[4])):
            if size < factor or size % factor:
                low = max(size // factor, 1) * factor
                raise ShapeError(
                    f"Got {name} {size}; this autoencoder takes multiples of {factor}: "
                    f"the nearest are {low} and {low + factor}."
                )

    def _check_frames(self, frames: int) -> None:
        factor = self.config.temporal_factor
        if frames < 1 or (frames - 1) % factor:
            low = max(frames - 1, 0) // factor * factor + 1
            form = f"{factor}k+1 frames" if factor > 1 else "1 or more frames"
            raise ShapeError(
                f"Got {frames} frames; this autoencoder takes {form}: the nearest are {low} and {low + factor}."
            )

    def _check_latent(self, latent: Tensor) -> None:
        channels = self.config.latent_channels
        if latent.ndim != 5 or latent.shape[1] != channels or 0 in latent.shape[2:]:
            raise ShapeError(
                f"Got a latent of shape {list(latent.shape)}; this autoencoder takes "
                f"[batch, {channels}, frames, height, width] with at least one frame."
            )


def _check_same_clip(piece: Tensor, earlier: Tensor | None) -> None:
    if earlier is not None and earlier.shape[:2] + earlier.shape[3:] != piece.shape[:2] + piece.shape[3:]:
        raise ShapeError(
            f"Got a chunk of shape {list(piece.shape)} after one of shape {list(earlier.shape)}; all chunks of one "
            "clip must have the same batch, height and width."
        )


def _at_least_one(value: int, name: str) -> int:
    if value < 1:
        raise ShapeError(f"Got {name} {value}; expected a whole number of at least 1.")
    return value
