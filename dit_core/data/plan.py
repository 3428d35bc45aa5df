"""How large a cache of latents and text embeddings becomes, before it is made."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from ..errors import DataError
from ..memory import machine_memory
from .buckets import Bucket
from .training_clips import TrainingClips, bucket_counts, captions_of

_SPARE = 1.02  # file headers, file system blocks


@dataclass(frozen=True)
class CacheFormat:
    """What is stored of each clip and of each wording.

    Attributes:
        latent_channels, spatial_factor, temporal_factor: of the autoencoder.
        latent_dtype: of the latents.
        text_tokens: positions stored for each wording; 0 = no text.
        text_width: numbers per position: the encoder's width, or 1 for token ids.
        text_dtype: of these numbers.
    """

    latent_channels: int
    spatial_factor: int
    temporal_factor: int
    latent_dtype: torch.dtype = torch.float16
    text_tokens: int = 0
    text_width: int = 1
    text_dtype: torch.dtype = torch.int16

    def __post_init__(self) -> None:
        least = {"latent_channels": 1, "spatial_factor": 1, "temporal_factor": 1, "text_tokens": 0, "text_width": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise DataError(f"{name} is {value!r}; expected a whole number of at least {low}.")

    def latent_shape(self, bucket: Bucket) -> tuple[int, int, int, int]:
        """(C, T, h, w) of one clip. Raises `DataError` for a size that the autoencoder does not take."""
        space, time = self.spatial_factor, self.temporal_factor
        if bucket.height % space or bucket.width % space or (bucket.frames - 1) % time:
            raise DataError(
                f"A bucket is {bucket}; the autoencoder takes heights and widths that are multiples of {space} and "
                f"{f'{time}k+1' if time > 1 else 'any number of'} frames. Make the buckets with its factors."
            )
        return self.latent_channels, (bucket.frames - 1) // time + 1, bucket.height // space, bucket.width // space


@dataclass(frozen=True)
class CachePlan:
    """Bytes of a cache.

    Attributes:
        rows: (bucket, clips, latent shape of one, bytes of all).
        wordings: captions in all. text_bytes: their bytes.
    """

    rows: tuple[tuple[Bucket, int, tuple[int, int, int, int], int], ...]
    wordings: int
    text_bytes: int

    @property
    def latent_bytes(self) -> int:
        """Of all buckets."""
        return sum(row[3] for row in self.rows)

    @property
    def total_bytes(self) -> int:
        """Latents and text."""
        return self.latent_bytes + self.text_bytes

    def text(self) -> str:
        """As a table in plain words: sizes, and whether this machine's memory holds what a training reads."""
        lines = [
            f"  {clips:>6} x {bucket}: latent {' x '.join(map(str, shape))}, {in_bytes(size)}"
            for bucket, clips, shape, size in self.rows
        ]
        words = f"  {self.wordings:>6} captions, {in_bytes(self.text_bytes)}"
        total = f"At most {in_bytes(self.total_bytes)} on disk. {self._while_training()}"
        return "\n".join([*lines, words, total]) + "\n"

    def _while_training(self) -> str:
        """Shards are mapped: the system keeps in memory what fits."""
        there = machine_memory()
        reads = "A training reads the clips of a batch from there"
        if there is None:
            return f"{reads}; what fits stays in memory."
        if self.total_bytes <= there / 2:
            return f"{reads}; this machine's memory ({in_bytes(there)}) has room for all of it."
        return f"{reads}; this machine's memory ({in_bytes(there)}) does not hold it all, so a fast disk helps."

    def disk_refusal(self, folder: str | Path) -> str | None:
        """A sentence when the disk under `folder` (which need not exist yet) has less room than the cache takes."""
        place = Path(folder).absolute()
        while not place.exists():
            place = place.parent
        needed, free = int(self.total_bytes * _SPARE), shutil.disk_usage(place).free
        if needed <= free:
            return None
        return (
            f"The cache takes {in_bytes(needed)}, and the disk of {folder} has {in_bytes(free)} left. "
            "Choose another disk, make room, or train on fewer, shorter or smaller clips."
        )


def plan_cache(clips: TrainingClips, form: CacheFormat) -> CachePlan:
    """Bytes that `clips` take in that form. Raises `DataError` for a bucket the autoencoder does not take."""
    rows = []
    for bucket, count in bucket_counts(clips).items():
        shape = form.latent_shape(bucket)
        rows.append((bucket, count, shape, count * prod(shape) * form.latent_dtype.itemsize))
    wordings = sum(len(captions_of(clips, index)) for index in range(len(clips)))
    text = wordings * form.text_tokens * form.text_width * form.text_dtype.itemsize
    return CachePlan(tuple(rows), wordings, text)


def in_bytes(count: int) -> str:
    """A number of bytes in words: 812 bytes, 4.5 MB, 25 GB."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{count} bytes"
