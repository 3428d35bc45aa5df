"""Clips for the autoencoder's training: endless skies, or a person's own in buckets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

from ..autoencoder import AutoencoderConfig
from ..data import Bucket, CacheFormat, TrainingClips, clip_of
from ..errors import DataError, MediaError
from .seeding import generator_of_step
from .sky_data import SkySource

HELD_BYTES = 1 << 30  # decoded clips that are kept in memory
FIT_CLIPS = 512  # of a person's own that a linear codec is fitted to

SkiesOrClips = SkySource | TrainingClips


class Feed(Protocol):
    """What the autoencoder's training looks at. Another kind of source needs such a class and its line in `feed_of`."""

    def batch(self, number: int, device: torch.device) -> Tensor:
        """Clips of batch `number`, [B, 3, F, H, W] in -1..1; the same for the same number."""

    def some(self, clips: int, device: torch.device, start: int = 0) -> Iterator[Tensor]:
        """About so many clips to measure on, batch by batch, the same ones each time; endless sources from `start`."""

    def fitting(self, device: torch.device) -> Iterator[Tensor]:
        """What a linear codec is fitted to, batch by batch."""

    def check(self, config: AutoencoderConfig) -> None:
        """Raises `DataError` for a size that the autoencoder does not take."""

    def identity(self) -> dict[str, Any]:
        """What the clips are, JSON values, for `TrainingState`."""


def feed_of(source: SkiesOrClips, batch: int, sizes: tuple[int, ...] = (), seed: int = 0) -> Feed:
    """The feed of a source. sizes: of skies, in turn; a person's own clips have the sizes of their buckets.

    batch: clips of the smallest size. Of a larger one there are fewer, so that a step costs about the same.
    """
    return SkyFeed(source, batch, sizes) if isinstance(source, SkySource) else ClipFeed(source, batch, seed)


def clip_batches(
    source: SkiesOrClips, clips: int, batch: int, device: torch.device, start: int = 0
) -> Iterator[Tensor]:
    """About so many clips to measure on, [B, 3, F, H, W] in -1..1 each; see `Feed.some`."""
    return feed_of(source, batch).some(clips, device, start)


def fitting_clips(source: SkiesOrClips, device: torch.device) -> Iterator[Tensor]:
    """What a linear codec is fitted to, [B, 3, F, H, W] in -1..1 each."""
    return feed_of(source, 16).fitting(device)


def check_sizes(source: SkiesOrClips, config: AutoencoderConfig) -> None:
    """Raises `DataError` for a size that the autoencoder does not take."""
    feed_of(source, 1).check(config)


class SkyFeed:
    """Skies number 0, 1, 2, ...: no clip comes twice."""

    def __init__(self, source: SkySource, batch: int, sizes: tuple[int, ...]) -> None:
        self.source, self.size_of_batch, self.sizes = source, batch, sizes

    def batch(self, number: int, device: torch.device) -> Tensor:
        """See `Feed`."""
        size = self.sizes[number % len(self.sizes)]
        count = max(1, self.size_of_batch * min(self.sizes) ** 2 // size**2)
        return replace(self.source, height=size, width=size).clips(number * self.size_of_batch, count, device)

    def some(self, clips: int, device: torch.device, start: int = 0) -> Iterator[Tensor]:
        """See `Feed`."""
        batch = self.size_of_batch
        yield from (self.source.clips(start + i, batch, device) for i in range(0, clips, batch))

    def fitting(self, device: torch.device) -> Iterator[Tensor]:
        """See `Feed`; of several sizes."""
        sized = [replace(self.source, height=size, width=size) for size in (64, 96, 128)]
        yield from (sized[i % 3].clips(i * 32, 32, device) for i in range(24))

    def check(self, config: AutoencoderConfig) -> None:
        """Skies have the size that is asked for."""

    def identity(self) -> dict[str, Any]:
        """See `Feed`."""
        return {"source": self.source.settings()}


class ClipFeed:
    """Clips of one bucket a batch, drawn with replacement; buckets by their share. Decoded clips stay in memory.

    Attributes:
        skipped: clip number -> why it could not be decoded; another one of its bucket took its place.
    """

    def __init__(self, clips: TrainingClips, batch: int, seed: int = 0) -> None:
        self.clips, self.size_of_batch, self.seed = clips, batch, seed
        self.skipped: dict[int, str] = {}
        self._by_bucket = clips.by_bucket()
        self._held: OrderedDict[int, Tensor] = OrderedDict()
        self._held_bytes = 0
        self._smallest = min(map(_volume, self._by_bucket))

    def batch(self, number: int, device: torch.device) -> Tensor:
        """See `Feed`."""
        generator = generator_of_step(self.seed, number)
        bucket = self.clips.bucket(int(torch.randint(len(self.clips), (1,), generator=generator)))
        group = self._by_bucket[bucket]
        drawn = torch.randint(len(group), (self._count(bucket),), generator=generator).tolist()
        return torch.stack([self._whole(group, at) for at in drawn]).to(device).float()

    def some(self, clips: int, device: torch.device, start: int = 0) -> Iterator[Tensor]:
        """At most so many clips at even distances, in batches of one bucket."""
        total = len(self.clips)
        chosen = {i * total // min(clips, total) for i in range(min(clips, total))}
        for _, group in sorted(self._by_bucket.items()):
            wanted = [at for at, index in enumerate(group) if index in chosen]
            for start in range(0, len(wanted), self.size_of_batch):
                some = wanted[start : start + self.size_of_batch]
                yield torch.stack([self._whole(group, at) for at in some]).to(device).float()

    def fitting(self, device: torch.device) -> Iterator[Tensor]:
        """See `Feed`."""
        return self.some(FIT_CLIPS, device)

    def check(self, config: AutoencoderConfig) -> None:
        """See `Feed`."""
        form = CacheFormat(config.latent_channels, config.spatial_factor, config.temporal_factor)
        for bucket in self._by_bucket:
            form.latent_shape(bucket)

    def identity(self) -> dict[str, Any]:
        """See `Feed`."""
        return {"data": {"data": self.clips.fingerprint().to_dict()}}

    def _count(self, bucket: Bucket) -> int:
        return max(1, self.size_of_batch * self._smallest // _volume(bucket))

    def _whole(self, group: list[int], at: int) -> Tensor:
        """The clip at a place of a bucket, or the next that can be decoded."""
        for step in range(len(group)):
            index = group[(at + step) % len(group)]
            if index in self.skipped:
                continue
            try:
                return self._clip(index)
            except MediaError as error:
                self.skipped[index] = str(error)
        raise DataError(f"No clip of {self.clips.bucket(group[0])} can be decoded. {self.skipped[group[0]]}")

    def _clip(self, index: int) -> Tensor:
        """[3, F, H, W] in half precision, which is finer than the 8 bits of a video."""
        if index not in self._held:
            clip = clip_of(self.clips, index).half()
            self._held[index] = clip
            self._held_bytes += clip.nbytes
            while self._held_bytes > HELD_BYTES and len(self._held) > 1:
                self._held_bytes -= self._held.popitem(last=False)[1].nbytes
        self._held.move_to_end(index)
        return self._held[index]


def _volume(bucket: Bucket) -> int:
    return prod((bucket.frames, bucket.height, bucket.width))
