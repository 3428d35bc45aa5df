"""What a training needs of its data, and what is made sure of data that somebody else's class hands out."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import Protocol

import torch
from torch import Tensor

from ..errors import DataError
from .buckets import Bucket
from .fingerprint import Fingerprint

_BEYOND = 1e-3  # of -1..1: rounding may go so far


class TrainingClips(Protocol):
    """What a trainer needs of its data. Derive from it: `name` and `group` then have something to say already."""

    @abstractmethod
    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Of clip `index`, for people."""
        return f"clip {index}"

    twins = False
    """Whether the two clips of a group differ in a word only: they are drawn together and noised alike."""

    def group(self, index: int) -> str:
        """What clip `index` was cut from: clips of one group are alike, and are held out together."""
        return str(index)

    @abstractmethod
    def bucket(self, index: int) -> Bucket:
        """Frames, height and width of clip `index`."""

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """Wordings of clip `index`, at least one; ("",) for a clip without words."""

    @abstractmethod
    def clip(self, index: int) -> Tensor:
        """`[3, F, H, W]` float32 in -1..1. Raises `MediaError` where it cannot be read: it is skipped and counted."""

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """What the data are; equal for equal data."""

    def by_bucket(self) -> dict[Bucket, list[int]]:
        """Clip numbers of each bucket that has any, sorted by bucket."""
        groups: dict[Bucket, list[int]] = {}
        for index in range(len(self)):
            groups.setdefault(self.bucket(index), []).append(index)
        return dict(sorted(groups.items()))


def bucket_counts(clips: TrainingClips) -> dict[Bucket, int]:
    """How many clips each bucket has, smallest bucket first."""
    return dict(sorted(Counter(clips.bucket(index) for index in range(len(clips))).items()))


def clip_of(clips: TrainingClips, index: int) -> Tensor:
    """Clip `index`: `[3, F, H, W]` float32 in -1..1, of the size that its bucket says.

    Raises:
        MediaError: it cannot be read; as `TrainingClips.clip` says.
        DataError: it is anything else: names the class, the clip, what was got and what was expected.
    """
    clip, bucket = clips.clip(index), clips.bucket(index)
    shape = (3, bucket.frames, bucket.height, bucket.width)
    if not isinstance(clip, Tensor):
        got = type(clip).__name__
    elif clip.dtype != torch.float32 or tuple(clip.shape) != shape:
        got = f"{str(clip.dtype).removeprefix('torch.')} of shape {list(clip.shape)}"
    elif not (clip.abs() <= 1 + _BEYOND).all():  # not so either for NaN
        low, high = clip.min().item(), clip.max().item()
        got = f"numbers from {low:g} to {high:g}" if low == low else "numbers that are none (NaN)"
    else:
        return clip
    raise DataError(
        f"{type(clips).__name__}.clip({index}), {clips.name(index)}: got {got}; expected a float32 tensor of shape "
        f"{list(shape)}, as bucket({index}) says, with numbers in -1..1."
    )


def captions_of(clips: TrainingClips, index: int) -> tuple[str, ...]:
    """Wordings of clip `index`, at least one. Raises `DataError` for anything else; see `clip_of`."""
    captions = clips.captions(index)
    if isinstance(captions, (tuple, list)) and captions and all(isinstance(one, str) for one in captions):
        return tuple(captions)
    raise DataError(
        f"{type(clips).__name__}.captions({index}), {clips.name(index)}: got {captions!r}; expected a tuple of at "
        'least one text, ("",) for a clip without words.'
    )
