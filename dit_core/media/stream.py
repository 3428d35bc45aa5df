"""Reading a video one frame at a time, in memory that does not grow with its length, as often as wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import MediaError
from .probe import in_words
from .read import Animation, check_file, open_source


@dataclass(frozen=True)
class VideoHeader:
    """What a file says of itself, and its first frame shows.

    Attributes:
        kind: "video" or "animation" (GIF, WebP).
        width, height: upright, in pixels.
        fps: frames per second.
        frames: how many it announces, None where it does not tell.
        seconds: length, None where it does not tell.
        notes: remarks for the person, sentences.
    """

    kind: str
    width: int
    height: int
    fps: Fraction
    frames: int | None
    seconds: float | None
    notes: tuple[str, ...] = ()


class VideoStream:
    """A video file whose frames can be run through, from any time on.

    Attributes:
        damage: after a run from the very beginning to the very end: what was found broken, a sentence; else None.
    """

    def __init__(self, path: str | Path):
        self.path, self.damage = Path(path), None

    def header(self) -> VideoHeader:
        """Read the header and decode one frame (of a GIF or WebP: all). Raises `MediaError`."""
        with in_words(self.path, "read as a video"):
            check_file(self.path)
            source = open_source(self.path)
            first = next(source.frames(), None)
            if first is None:
                raise MediaError(f"{self.path} cannot be read as a video: no picture in it can be decoded.")
            height, width = first[1].shape[:2]
            notes = tuple(source.notes)
            if isinstance(source, Animation):
                frames = 1 + sum(1 for _ in source.frames())
                return VideoHeader("animation", width, height, source.fps, frames, float(frames / source.fps), notes)
            frames = source.announced or None
            seconds = float(frames / source.fps) if frames else source.seconds
            return VideoHeader("video", width, height, source.fps, frames, seconds, notes)

    def frames(
        self,
        start: float = 0.0,
        size: tuple[int, int] | None = None,
        wanted: Callable[[float], bool] | None = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Decode frame by frame.

        Args:
            start: seconds on the file's clock; frames before are left out.
            size: (width, height) to bring frames to (bicubic, antialiased); None = their own.
            wanted: tells by its time whether a frame is given out; the others are decoded, but not converted.

        Yields: (time in seconds on the file's clock, `[H, W, 3]` uint8 or uint16). Raises `MediaError`.
        """
        with in_words(self.path, "read as a video"):
            check_file(self.path)
            source = open_source(self.path)
            yield from source.frames(start, size, wanted)
            self.damage = source.damage
