"""Buckets: the few sizes and lengths that all clips are brought to, so that clips of one bucket make a batch.

Each segment goes to the bucket that loses least of it. Mixed sizes in one training, as Sora's description has it
(native aspect ratios frame better than square crops); buckets of near-equal area as in NovelAI's aspect ratio
bucketing for images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isqrt, log

from ..errors import DataError
from ..media.probe import exact_fps


@dataclass(frozen=True, order=True)
class Bucket:
    """Frames and size in pixels of all clips in one batch."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.width} x {self.height}"


@dataclass(frozen=True)
class BucketRules:
    """What a training asks of its clips.

    Attributes:
        pixels: most pixels of a frame (height x width).
        min_frames, max_frames: shortest and longest clip, in frames after resampling to `fps`.
        spatial_factor: heights and widths are multiples of it (the autoencoder's factor times the patch).
        temporal_factor: frame counts are multiples of it, plus 1.
        fps: frame rate to bring all clips to; None keeps each clip's own.
        max_aspect: largest ratio of the longer side to the shorter.
        aspect_step: neighbouring shapes differ in width / height by about this factor; nearer 1 = more buckets.
        length_step: neighbouring lengths differ by about this factor.
    """

    pixels: int = 128 * 128
    min_frames: int = 17
    max_frames: int = 33
    spatial_factor: int = 16
    temporal_factor: int = 4
    fps: float | Fraction | None = None
    max_aspect: float = 2.0
    aspect_step: float = 1.15
    length_step: float = 1.5

    def __post_init__(self) -> None:
        for name in ("pixels", "min_frames", "max_frames", "spatial_factor", "temporal_factor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise DataError(f"{name} is {value!r}; expected a whole number of at least 1.")
        for name in ("max_aspect", "aspect_step", "length_step"):
            if not getattr(self, name) >= 1:
                raise DataError(f"{name} is {getattr(self, name)!r}; expected a number of at least 1.")
        if self.pixels < self.spatial_factor**2:
            raise DataError(
                f"pixels is {self.pixels}; expected at least {self.spatial_factor**2}, one square of the spatial "
                f"factor {self.spatial_factor}."
            )
        if self.fps is not None:
            object.__setattr__(self, "fps", exact_fps(self.fps))
        self.lengths()

    def lengths(self) -> tuple[int, ...]:
        """Frame counts of the buckets, longest first. Raises `DataError` where the limits leave none."""
        step = self.temporal_factor
        fitting = [n for n in range(1, self.max_frames + 1, step) if n >= self.min_frames]
        if not fitting:
            low = (self.max_frames - 1) // step * step + 1
            raise DataError(
                f"No frame count from {self.min_frames} to {self.max_frames} is a multiple of {step} plus 1, as the "
                f"temporal factor {step} needs; the nearest are {low} and {low + step}."
            )
        chosen = [fitting[-1]]
        for count in reversed(fitting[:-1]):
            if chosen[-1] >= count * self.length_step or count == fitting[0]:
                chosen.append(count)
        return tuple(chosen)

    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the buckets, flat to tall; from the square outwards, each as large as `pixels` allows."""
        return _shapes(self.pixels // self.spatial_factor**2, self.spatial_factor, self.max_aspect, self.aspect_step)

    def buckets(self) -> tuple[Bucket, ...]:
        """All buckets, shortest first."""
        return tuple(sorted(Bucket(n, h, w) for n in self.lengths() for h, w in self.shapes()))

    def shape_for(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that loses least of a frame of the given size to the crop; of equals the largest."""
        return max(self.shapes(), key=lambda shape: (kept_area(height, width, *shape), shape[0] * shape[1], shape))

    def windows(self, frames: Sequence[int]) -> list[tuple[int, ...]]:
        """Cut the resampled frames of a segment into clips, one after another.

        The longest length as often as it fits, then the longest that fits into the rest: long clips are worth more
        than a few frames lost at the end. Returns [] for a segment shorter than the shortest length.
        """
        cut, at = [], 0
        for length in self.lengths():
            while len(frames) - at >= length:
                cut.append(tuple(frames[at : at + length]))
                at += length
        return cut


@lru_cache(maxsize=64)
def _shapes(limit: int, factor: int, max_aspect: float, aspect_step: float) -> tuple[tuple[int, int], ...]:
    """See `BucketRules.shapes`; limit: squares of `factor` pixels in a frame. Kept: it is asked for each file."""
    fitting: list[tuple[int, int]] = []
    for height in range(isqrt(limit), 0, -1):
        width = min(limit // height, int(height * max_aspect))
        # A shape that fits into another of them is never the better one. Each is lower than those before it, so it
        # fits into one of them unless it is wider than all.
        if width >= height and (not fitting or width > fitting[-1][1]):
            fitting.append((height, width))
    chosen = [fitting[0]]  # from the square outwards
    for shape in fitting[1:]:
        if log(shape[1] / shape[0]) - log(chosen[-1][1] / chosen[-1][0]) >= log(aspect_step) * 0.999:
            chosen.append(shape)
    both = {shape for h, w in chosen for shape in ((h, w), (w, h))}
    return tuple((h * factor, w * factor) for h, w in sorted(both, key=lambda s: (-s[1] / s[0], s)))


def kept_area(height: int, width: int, to_height: int, to_width: int) -> float:
    """Share of a frame's area, 0..1, that a covering resize and centre crop to another size keeps."""
    aspect, wanted = Fraction(width, height), Fraction(to_width, to_height)
    return float(min(aspect / wanted, wanted / aspect))
