"""Reading a video: pictures as sRGB floats, sound, exact frame rate, and the texts stored in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from ..memory import gigabytes, machine_memory
from .animation import is_animation, read_animation, read_animation_metadata
from .film import Film
from .probe import exact_fps, in_words


@dataclass(frozen=True)
class VideoClip:
    """A clip in memory.

    Attributes:
        frames: `[F, H, W, 3]` float32, sRGB, 0..1.
        fps: frames per second of `frames`.
        audio: `{"waveform": [1, C, S], "sample_rate": Hz}` as long as the frames, or None.
        notes: remarks for the person, sentences.
        metadata: the texts stored in the file.
    """

    frames: Tensor
    fps: Fraction
    audio: dict[str, Any] | None
    notes: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


def read_video(
    path: str | Path,
    start: int = 0,
    max_frames: int = 0,
    every: int = 1,
    fps: float | int | Fraction | None = None,
    on_frame: Callable[[int], None] | None = None,
    plain: bool = False,
) -> VideoClip:
    """Read a video file, animated GIF or animated WebP.

    Args:
        plain: films (not GIF and WebP) as PyAV converts them when asked for nothing, and not turned upright. Colours
            are less exact, but that is how ComfyUI's own nodes (0.8) read them.
        fps: first of all, repeat or drop frames to this rate; None keeps the file's frames.
        start: then skip so many frames,
        every: then keep every n-th (the clip's fps is divided by it),
        max_frames: then stop after so many; 0 = all.
        on_frame: called with the number of frames so far; may raise to stop.

    Raises:
        MediaError: no such file, not a video, damaged, no picture in it, or no frame left after `start`.
    """
    path = Path(path)
    for name, value, least in (("start", start, 0), ("max_frames", max_frames, 0), ("every", every, 1)):
        if isinstance(value, bool) or int(value) != value or value < least:
            raise MediaError(f"{path}: {name} is {value!r}; expected a whole number of at least {least}.")
    wanted = exact_fps(fps) if fps is not None else None
    with in_words(path, "read as a video"):
        check_file(path)
        source = open_source(path, plain)
        rate = wanted or source.fps
        timed = _Counted(_resampled(source.frames(), wanted, source.fps) if wanted else source.frames())
        picked = islice(timed, start, start + max_frames * every if max_frames else None, every)
        frames = []
        for time, picture in picked:
            frames.append((time, picture))
            _require_room(path, len(frames), picture)
            if on_frame is not None:
                on_frame(len(frames))
        if not frames:
            raise MediaError(_nothing(path, timed.count, start))
        clip_fps = rate / every
        audio = source.sound(frames[0][0], len(frames) / clip_fps)
    stack = torch.from_numpy(np.stack([picture for _, picture in frames]))
    largest = 65535.0 if stack.dtype == torch.uint16 else 255.0
    return VideoClip(stack.to(torch.float32).div_(largest), clip_fps, audio, tuple(source.notes), read_metadata(path))


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts stored in a video, GIF or WebP file; names from Matroska and WebM in lower case.

    Raises:
        MediaError: the file cannot be read as a video.
    """
    import av

    path = Path(path)
    with in_words(path, "read as a video"):
        check_file(path)
        if is_animation(path):
            return read_animation_metadata(path)
        with av.open(str(path), metadata_errors="replace") as container:
            matroska = "matroska" in container.format.name  # its muxer turns names into capitals
            return {key.lower() if matroska else key: value for key, value in container.metadata.items()}


def check_file(path: Path) -> None:
    """Raise `MediaError` unless `path` is a file with something in it."""
    if path.is_dir():
        raise MediaError(f"{path} is a folder; expected a video file.")
    if not path.exists():
        raise MediaError(f"{path} does not exist; expected a video file.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes); expected a video file.")


def _nothing(path: Path, count: int, start: int) -> str:
    if count == 0:
        return f"{path} cannot be read as a video: no picture in it can be decoded; it may be damaged."
    frames = "1 frame" if count == 1 else f"{count} frames"
    return (
        f"{path} has {frames}; the first frame wanted is {start}, so none is left. "
        f"Expected a first frame below {count}; counting starts at 0."
    )


class _Counted:
    """An iterator that knows how many items it has given."""

    def __init__(self, items: Iterator):
        self._items, self.count = items, 0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        item = next(self._items)
        self.count += 1
        return item


def _require_room(path: Path, count: int, picture: np.ndarray) -> None:
    """Raise `MediaError` when the frames read so far, once as they are and once as float32, fill the whole memory."""
    there, needed = machine_memory(), count * (picture.nbytes + picture.size * 4)
    if there is not None and needed > there:
        height, width = picture.shape[:2]
        raise MediaError(
            f"{path} is too long to be read at once: its first {count} frames of {width} x {height} take "
            f"{gigabytes(needed)}, and this machine has {gigabytes(there)} of memory. Read fewer frames, or every n-th."
        )


def open_source(path: Path, plain: bool = False) -> Animation | Film:
    """What `path` holds, ready to give its frames. Raises what `in_words` puts into words."""
    if not is_animation(path):
        return Film(path, plain)
    pictures, fps, notes = read_animation(path)
    # Pictures shown for different times are brought to one rate.
    return Animation(_resampled(pictures, fps, fps) if notes else pictures, fps, notes)


@dataclass
class Animation:
    """An animated GIF or WebP; its frames can be asked for once."""

    pictures: Iterator
    fps: Fraction
    notes: list[str]
    count: int = 0
    damage: str | None = None

    def frames(
        self,
        start: float = 0.0,
        size: tuple[int, int] | None = None,
        wanted: Callable[[float], bool] | None = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """As `Film.frames`."""
        from PIL import Image

        for time, picture in self.pictures:
            self.count += 1
            if time >= start and (wanted is None or wanted(time)):
                resized = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC) if size else picture
                yield time, np.asarray(resized)

    def sound(self, start: float, seconds: float) -> None:
        """None: pictures make no sound."""
        return None


def _resampled(frames: Iterator, rate: Fraction, own: Fraction) -> Iterator[tuple[float, np.ndarray]]:
    """Repeat or drop frames so that they come at `rate`: at each instant, the frame that is on the screen."""
    held, begin, emitted = None, 0.0, 0
    slack = float(1 / own) / 100  # time stamps are rounded
    for time, picture in frames:
        if held is None:
            begin = time
        else:
            while float(emitted / rate) < time - begin - slack:
                yield begin + float(emitted / rate), held
                emitted += 1
        held, last = picture, time
    if held is not None:
        while float(emitted / rate) < last + float(1 / own) - begin - slack:
            yield begin + float(emitted / rate), held
            emitted += 1
