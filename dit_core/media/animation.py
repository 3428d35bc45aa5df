"""Animated GIF and WebP through Pillow: pictures with a duration each, metadata where ComfyUI looks for it."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .frames import to_rgb8
from .probe import common_rate

if TYPE_CHECKING:
    from .write import Job

_EXIF_FIRST = 0x0110  # ComfyUI puts "prompt:{...}" here and the rest in the tags below it


class AnimationWriter:
    """Collects 8-bit pictures and saves them at the end; Pillow has no way to write them one by one."""

    def __init__(self, temporary: Path, job: Job, width: int, height: int):
        self._temporary, self._job, self._pictures = temporary, job, []

    def add(self, frame: Tensor) -> None:
        """Keep one frame `[H, W, 3]`; for GIF it is reduced to its own 256 colours, dithered."""
        from PIL import Image

        picture = Image.fromarray(to_rgb8(frame))
        if self._job.container.format == "GIF":
            palette = picture.quantize(256, Image.Quantize.MEDIANCUT)
            picture = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        self._pictures.append(picture)

    def close(self) -> list[str]:
        """Save; returns remarks."""
        is_gif = self._job.container.format == "GIF"
        durations, notes = _durations(len(self._pictures), self._job.fps, 10 if is_gif else 1)
        extra = _gif_metadata(self._job.metadata) if is_gif else webp_metadata(self._job.metadata)
        options = {key: int(value.format(q=self._job.quality)) for key, value in self._job.codec.options.items()}
        first, *others = self._pictures
        first.save(
            self._temporary, format=self._job.container.format, save_all=True, append_images=others,
            duration=durations, loop=0, **extra, **options,
        )  # fmt: skip
        return notes

    def abandon(self) -> None:
        """Nothing is open between calls."""


def _durations(count: int, fps: Fraction, step: int) -> tuple[list[int], list[str]]:
    """Milliseconds of each picture in multiples of `step`, such that rounding never adds up; and remarks."""
    ends = [round(index / fps * 1000 / step) * step for index in range(count + 1)]
    durations = [max(step, end - begin) for begin, end in zip(ends, ends[1:], strict=False)]
    if step == 10 and fps > 50:
        return durations, [f"Most viewers show a GIF at 50 frames per second at most; this one has {float(fps):g}."]
    return durations, []


def _gif_metadata(metadata: dict[str, str]) -> dict[str, bytes]:
    return {"comment": json.dumps(metadata).encode()} if metadata else {}


def webp_metadata(metadata: dict[str, str]) -> dict:
    """Pillow's arguments that put `metadata` into a WebP file as EXIF entries "key:value", where ComfyUI looks."""
    from PIL import Image, TiffTags

    exif = Image.Exif()
    tags = (tag for tag in range(_EXIF_FIRST, 0, -1) if TiffTags.lookup(tag).type in (None, TiffTags.ASCII))
    for key, tag in zip(sorted(metadata, key=lambda name: name != "prompt"), tags, strict=False):
        exif[tag] = f"{key}:{metadata[key]}".encode()
    return {"exif": exif} if metadata else {}


def is_animation(path: Path) -> bool:
    """Whether the file is a GIF or WebP picture, by its first bytes. Raises `OSError`."""
    with open(path, "rb") as file:
        start = file.read(12)
    return start[:4] == b"GIF8" or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def read_animation(path: Path) -> tuple[Iterator, Fraction, list[str]]:
    """Return (pictures as `[H, W, 3]` uint8 arrays with their times in seconds), fps, and remarks.

    Raises `OSError` or `ValueError` for a damaged file.
    """
    import numpy as np
    from PIL import Image, ImageSequence

    with _damage_in_words(), Image.open(path) as image:
        is_gif = image.format == "GIF"
        milliseconds = [_duration(picture) for picture in ImageSequence.Iterator(image)]
    total, count, notes = sum(milliseconds), len(milliseconds), []
    step = 10 if is_gif else 1  # milliseconds to which durations are rounded
    fps = common_rate(Fraction(count * 1000, total), Fraction(step, total))
    if max(milliseconds) > 1.5 * min(milliseconds) and max(milliseconds) - min(milliseconds) > step:
        fps = Fraction(1000, min(milliseconds))
        notes.append(f"The pictures are shown for different times; they were read at {float(fps):g} frames per second.")

    def pictures() -> Iterator[tuple[float, np.ndarray]]:
        time = 0
        with _damage_in_words(), Image.open(path) as image:
            for picture, duration in zip(ImageSequence.Iterator(image), milliseconds, strict=True):
                yield time / 1000, np.asarray(over_black(picture))
                time += duration

    return pictures(), fps.limit_denominator(1001), notes


def over_black(picture):
    """The picture in RGB. What is transparent comes out black: behind it are colours that nobody was to see."""
    from PIL import Image

    if "transparency" not in picture.info and picture.mode not in ("RGBA", "LA", "PA", "RGBa", "La"):
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    flat = Image.new("RGB", clear.size)
    flat.paste(clear, mask=clear.getchannel("A"))
    return flat


@contextmanager
def _damage_in_words() -> Iterator[None]:
    """A `ValueError` in place of what Pillow raises for damaged files, which is nearly anything."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except Image.DecompressionBombError as error:
        raise ValueError("its pictures are larger than any that can be meant") from error
    except (UnidentifiedImageError, LookupError, SyntaxError, EOFError, struct.error) as error:
        raise ValueError("it is damaged, or not a video file") from error


def _duration(picture) -> int:
    picture.load()
    # Browsers show pictures of no duration for a tenth of a second.
    return int(picture.info.get("duration") or 100)


def read_animation_metadata(path: Path) -> dict[str, str]:
    """The texts that `AnimationWriter` (or ComfyUI, for WebP) put into a file. Raises `OSError` or `ValueError`."""
    from PIL import Image

    with _damage_in_words(), Image.open(path) as image:
        if image.format == "GIF":
            return _from_comment(image.info.get("comment", b""))
        texts = [value for _, value in sorted(image.getexif().items(), reverse=True) if isinstance(value, str | bytes)]
    pairs = [_text(value).partition(":") for value in texts]
    return {key: value for key, colon, value in pairs if colon}


def _text(value: str | bytes) -> str:
    data = value.encode("latin-1", "replace") if isinstance(value, str) else value
    return data.decode("utf-8", "replace").rstrip("\0")


def _from_comment(comment: bytes | str) -> dict[str, str]:
    text = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else comment
    try:
        values = json.load(io.StringIO(text))
    except ValueError:
        values = None
    if isinstance(values, dict) and all(isinstance(value, str) for value in values.values()):
        return values
    return {"comment": text} if text else {}
