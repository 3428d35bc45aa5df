"""Hard cuts inside a clip, found without a model, from small previews, in one pass and bounded memory.

The distance of two frames joins their brightness and colour histograms (which camera motion leaves alone) and their
small pictures (which do not mistake two scenes of like colours). A cut is a frame whose distance from the one before

- is large, and stands alone: well above the second largest among its neighbours (fades, dissolves, fast pans, strobes
  and shaky cameras have many alike; a cut through one blended frame has two);
- lasts: the frames after stay away from the frames before (a flash of one to three frames comes back);
- is no change of light (the new picture is not the old one brighter) and no jerk of the camera (nor the old one moved).

The threshold relative to the neighbourhood follows the idea of adaptive detectors (as PySceneDetect documents its
AdaptiveDetector); the tests that follow it are ours.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

PREVIEW = 64  # width and height of the previews, in pixels
_GRID = 16  # the small pictures compared
_REACH = 4  # frames on either side that make the neighbourhood
_BINS, _COLOUR_BINS = 16, 8


@dataclass(frozen=True)
class CutRules:
    """When a change counts as a cut.

    Attributes:
        least: distance from 0 (same frame) to about 1.5 below which nothing is a cut.
        ratio: how many times the second largest distance of the neighbourhood it must be.
        lasting: share of the distance that must remain between the frames before and after.
        same_scene: correlation of the brightness patterns, from -1 to 1, from which a change is one of light only.
        moved: share of the picture distance below which a shifted picture explains the change.
    """

    least: float = 0.22
    ratio: float = 2.5
    lasting: float = 0.6
    same_scene: float = 0.9
    moved: float = 0.4


@dataclass(frozen=True)
class Preview:
    """What is compared of a frame: `[16, 16, 3]` luma and colour differences in 0..1 and -0.5..0.5; histograms."""

    picture: np.ndarray
    histogram: np.ndarray


def luma(rgb: np.ndarray) -> np.ndarray:
    """Brightness 0..1 of `[..., 3]` uint8 sRGB (BT.601 weights, which every picture format of old uses)."""
    return rgb.astype(np.float32) @ (np.array([0.299, 0.587, 0.114], np.float32) / 255)


def preview(rgb: np.ndarray) -> Preview:
    """`[64, 64, 3]` uint8 -> what is compared."""
    y = luma(rgb)
    blue, red = rgb[..., 2] / np.float32(255) - y, rgb[..., 0] / np.float32(255) - y
    planes = np.stack([y, blue * 0.564, red * 0.713], -1)
    cell = PREVIEW // _GRID
    picture = planes.reshape(_GRID, cell, _GRID, cell, 3).mean((1, 3))
    bright = _soft_histogram(y.ravel(), _BINS, 0.0, 1.0)
    colours = [_soft_histogram(planes[..., k].ravel(), _COLOUR_BINS, -0.5, 0.5) for k in (1, 2)]
    return Preview(picture, np.concatenate([bright * 0.5, colours[0] * 0.25, colours[1] * 0.25]))


def _soft_histogram(values: np.ndarray, bins: int, low: float, high: float) -> np.ndarray:
    """Shares of the values in each bin, every value split over the two bins it lies between: no jumps at the edges."""
    place = ((values - low) * ((bins - 1) / (high - low))).clip(0, bins - 1.001)
    below = place.astype(np.int64)
    share = place - below
    counts = np.bincount(below, 1 - share, bins) + np.bincount(below + 1, share, bins)[:bins]
    return counts / len(values)


def distance(a: Preview, b: Preview) -> float:
    """0 for equal frames; two unlike scenes have about 0.4 to 1.2."""
    return float(np.abs(a.histogram - b.histogram).sum() / 2 + 2 * _picture_distance(a.picture, b.picture))


def _picture_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean(axis=(0, 1)).sum() / 1.5)


class CutFinder:
    """Feed previews one by one; `cuts` are the numbers of frames that begin a new scene.

    It knows of a cut a few frames late; `finish` decides on the last ones.
    """

    def __init__(self, rules: CutRules | None = None):
        self._rules = rules or CutRules()
        self._distances: list[float] = []  # item i: frame i from frame i - 1; item 0 is 0
        self._recent: deque[Preview] = deque(maxlen=2 * _REACH + 2)
        self.cuts: list[int] = []

    def add(self, frame: Preview) -> float:
        """The next frame; returns its distance from the one before."""
        gap = distance(self._recent[-1], frame) if self._recent else 0.0
        self._distances.append(gap)
        self._recent.append(frame)
        self._judge(len(self._distances) - 1 - _REACH)
        return gap

    def finish(self) -> list[int]:
        """All cuts; to be called once, after the last frame."""
        count = len(self._distances)
        for number in range(max(count - _REACH, 0), count):
            self._judge(number)
        return self.cuts

    def _judge(self, number: int) -> None:
        """Decide on one frame, whose followers within reach are there."""
        if number < 1 or self._distances[number] < self._rules.least:
            return
        low = max(number - _REACH, 1)
        around = self._distances[low:number] + self._distances[number + 1 : number + 1 + _REACH]
        ranked = sorted(around, reverse=True) + [0.0, 0.0]
        gap = self._distances[number]
        if gap < self._rules.ratio * ranked[1]:
            return
        beside = self._distances[max(number - 1, 1) : number] + self._distances[number + 1 : number + 2]
        if gap < max(beside, default=0.0) or self.cuts and self.cuts[-1] == number - 1:
            return  # one half of a cut through a blended frame
        if self._lasts(number, gap) and not self._is_same_scene(number):
            self.cuts.append(number)

    def _frame(self, number: int) -> Preview | None:
        index = number - (len(self._distances) - len(self._recent))
        return self._recent[index] if 0 <= index < len(self._recent) else None

    def _lasts(self, number: int, gap: float) -> bool:
        """Do the frames after stay away from the frames before, both ways?"""
        before, after = self._frame(number - 1), self._frame(number)
        later = [self._frame(number + k) for k in (1, 2, 3)]
        earlier = [self._frame(number - 1 - k) for k in (1, 2, 3)]
        pairs = [(before, frame) for frame in later] + [(frame, after) for frame in earlier]
        return all(distance(a, b) >= self._rules.lasting * gap for a, b in pairs if a is not None and b is not None)

    def _is_same_scene(self, number: int) -> bool:
        """Is the new frame the old one in another light, or seen from a little beside?"""
        # Through a blended frame the pictures before and after it tell.
        after = self._frame(number + 1) or self._frame(number)
        old, new = self._frame(number - 1).picture, after.picture
        if _correlation(old[..., 0], new[..., 0]) >= self._rules.same_scene:
            return True
        return _best_shift(old, new) < self._rules.moved * _picture_distance(old, new)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two `[16, 16]` patterns; 0 where one is flat (nothing to recognise).

    Means of rows and columns are taken out first: a bright sky over dark ground is common to far too many scenes.
    """
    a, b = (x - x.mean(0, keepdims=True) - x.mean(1, keepdims=True) + x.mean() for x in (a, b))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if a.std() > 0.02 and b.std() > 0.02 else 0.0


def _best_shift(old: np.ndarray, new: np.ndarray) -> float:
    """Smallest picture distance over shifts of up to a third of the width and a quarter of the height."""
    best = np.inf
    for dy in range(-4, 5):
        for dx in range(-5, 6):
            a = old[max(0, dy) : _GRID + min(0, dy), max(0, dx) : _GRID + min(0, dx)]
            b = new[max(0, -dy) : _GRID + min(0, -dy), max(0, -dx) : _GRID + min(0, -dx)]
            best = min(best, _picture_distance(a, b))
    return best


def segments(frames: int, cuts: list[int] | tuple[int, ...]) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of each stretch between cuts, in order."""
    edges = [0, *cuts, frames]
    return [(a, b) for a, b in zip(edges, edges[1:], strict=False) if b > a]
