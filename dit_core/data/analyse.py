"""What one look through a clip tells: cuts, motion, brightness, black bars, and hashes that survive re-encoding.

One pass over small previews, a frame at a time: memory grows by some 200 bytes a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import MediaError
from .cuts import PREVIEW, CutFinder, CutRules, luma, preview
from .scan import ClipFile
from .source import ClipSource, content_sha256

HASH_FRAMES = 8  # frames of a clip that are hashed
_TELL_EVERY = 32  # frames between two calls of the callback
_DARK = 16 / 255  # luma that still counts as black: video noise and compression leave it a little above 0
_BLACK_CELL = 24 / 255
_STILL_CELL = 6 / 255
_CELLS = 16


@dataclass(frozen=True)
class Analysis:
    """Facts about one clip.

    Attributes:
        frames: how many could be decoded.
        times: `[frames]` float64, seconds on the file's clock.
        cuts: frames that begin a new scene.
        brightness: `[frames]` float32, mean luma 0..1.
        motion: `[frames - 1]` float32, mean absolute change of luma from frame to frame, 0..1, at 16 x 16 cells.
        is_black: no part of any frame is brighter than black.
        is_still: no part of any frame differs visibly from the first frame.
        bars: share of the (height above, height below, width left, width right) that is black in every frame.
        hashes: `[8, 2]` uint64, of 8 frames spread evenly over the clip; see `frame_hash`.
        colours: `[8, 48]` uint8, mean RGB of 4 x 4 parts of those frames: hashes alone cannot tell plain skies apart.
        sha256: of the bytes on disk.
    """

    frames: int
    times: np.ndarray
    cuts: tuple[int, ...]
    brightness: np.ndarray
    motion: np.ndarray
    is_black: bool
    is_still: bool
    bars: tuple[float, float, float, float]
    hashes: np.ndarray
    colours: np.ndarray
    sha256: str

    @property
    def has_bars(self) -> bool:
        """Black at opposite sides, at least a thirtieth of the size on both: nobody films that."""
        top, bottom, left, right = self.bars
        return min(top, bottom) >= 1 / 30 or min(left, right) >= 1 / 30


def analyse(clip: ClipFile, rules: CutRules | None = None, on_frame: Callable[[int], None] | None = None) -> Analysis:
    """Look through a whole clip.

    Args:
        on_frame: called now and then with the number of frames so far; may raise to stop.

    Raises:
        MediaError: the file cannot be read to its end, or parts of it only (damaged, cut short).
    """
    source, look = ClipSource(clip), _Look(rules)
    for time, picture in source.frames(size=(PREVIEW, PREVIEW)):
        look.add(time, picture)
        if on_frame is not None and len(look.times) % _TELL_EVERY == 0:
            on_frame(len(look.times))
    if source.damage:
        raise MediaError(f"{clip.path} is left out: {source.damage[0].lower()}{source.damage[1:]}")
    if not look.times:
        raise MediaError(f"{clip.path} cannot be read: no picture in it can be decoded; it may be damaged.")
    return look.result(content_sha256(clip))


class _Look:
    """What is kept while the frames go by."""

    def __init__(self, rules: CutRules | None):
        self.times: list[float] = []
        self._cuts = CutFinder(rules)
        self._brightness: list[float] = []
        self._motion: list[float] = []
        self._hashes: list[tuple[int, int]] = []
        self._colours: list[np.ndarray] = []  # [48] uint8
        self._first = self._last = None  # cells [16, 16]
        self._peak, self._change = 0.0, 0.0
        self._rows = self._columns = np.zeros(PREVIEW, np.float32)

    def add(self, time: float, picture: np.ndarray) -> None:
        """`[64, 64, 3]` uint8 or uint16."""
        if picture.dtype == np.uint16:
            picture = (picture >> 8).astype(np.uint8)
        frame = preview(picture)
        self._cuts.add(frame)
        light, cells = luma(picture), frame.picture[..., 0]
        self.times.append(time)
        self._brightness.append(float(light.mean()))
        self._hashes.append(frame_hash(light))
        quarter = PREVIEW // 4
        self._colours.append(picture.reshape(4, quarter, 4, quarter, 3).mean((1, 3)).astype(np.uint8).ravel())
        self._rows = np.maximum(self._rows, light.max(1))
        self._columns = np.maximum(self._columns, light.max(0))
        self._peak = max(self._peak, float(cells.max()))
        if self._last is None:
            self._first = cells
        else:
            self._motion.append(float(np.abs(cells - self._last).mean()))
            self._change = max(self._change, float(np.abs(cells - self._first).max()))
        self._last = cells

    def result(self, sha256: str) -> Analysis:
        """What was found in the frames looked at so far."""
        count = len(self.times)
        chosen = [(2 * k + 1) * count // (2 * HASH_FRAMES) for k in range(HASH_FRAMES)]
        is_black = self._peak < _BLACK_CELL
        bars = (0.0,) * 4 if is_black else (*_dark_ends(self._rows), *_dark_ends(self._columns))
        return Analysis(
            count, np.array(self.times), tuple(self._cuts.finish()), np.array(self._brightness, np.float32),
            np.array(self._motion, np.float32), is_black, self._change < _STILL_CELL, bars,
            np.array([self._hashes[k] for k in chosen], np.uint64),
            np.stack([self._colours[k] for k in chosen]), sha256,
        )  # fmt: skip


def _dark_ends(brightest: np.ndarray) -> tuple[float, float]:
    """Share of the lines, at both ends, of which the brightest pixel ever was black."""
    bright = np.flatnonzero(brightest > _DARK)
    if not len(bright):
        return 0.0, 0.0
    return float(bright[0]) / PREVIEW, float(PREVIEW - 1 - bright[-1]) / PREVIEW


def frame_hash(light: np.ndarray) -> tuple[int, int]:
    """Two 64-bit difference hashes of `[64, 64]` luma: is a place brighter than its right, its lower neighbour?

    After N. Krawetz, "Kind of Like That" (dHash); both directions, so that vertical gradients count as well.
    """
    across = light.reshape(8, 8, PREVIEW).mean(1)
    across = np.stack([across[:, i * PREVIEW // 9 : (i + 1) * PREVIEW // 9].mean(1) for i in range(9)], 1)
    down = light.reshape(PREVIEW, 8, 8).mean(2)
    down = np.stack([down[i * PREVIEW // 9 : (i + 1) * PREVIEW // 9].mean(0) for i in range(9)], 0)
    return _bits(across[:, :-1] > across[:, 1:]), _bits(down[:-1] > down[1:])


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags.ravel()).tobytes(), "big")
