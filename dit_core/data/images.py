"""A series of numbered images as a clip: checked by headers alone, read one by one."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..checkpoint.atomic import reason
from ..errors import MediaError
from ..media.animation import over_black

_TURNED = (5, 6, 7, 8)  # values of the EXIF tag Orientation with width and height exchanged
_ORIENTATION = 0x0112
_NUMBERED = re.compile(r"^(.*?)(?:(\d+)|\((\d+)\))$")


@dataclass(frozen=True)
class ImageFacts:
    """Common upright size in pixels, bytes on disk, remarks (sentences)."""

    width: int
    height: int
    size: int
    notes: tuple[str, ...]


def numbered(name: str) -> tuple[str, int] | None:
    """("left", 7) of "left_07.png", ("cat", 7) of "cat (7).png"; None for a name that does not end in a number."""
    match = _NUMBERED.match(Path(name).stem)
    return (match[1].rstrip("_-. "), int(match[2] or match[3])) if match else None


def image_facts(folder: Path, names: Sequence[str]) -> ImageFacts:
    """Read the header of every image. Raises `MediaError` naming one that is damaged or of another size."""
    first, total = None, 0
    for name in names:
        with _opened(folder / name) as image:
            size = image.size[::-1] if image.getexif().get(_ORIENTATION) in _TURNED else image.size
        total += (folder / name).stat().st_size
        first = first or size
        if size != first:
            raise MediaError(
                f"{folder / name} is {size[0]} x {size[1]}; expected {first[0]} x {first[1]} as {names[0]}, the first "
                "image of the series."
            )
    numbers = [numbered(name)[1] for name in names]
    jump = next((i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1), None)
    notes = (f"The numbers jump from {names[jump - 1]} to {names[jump]}; nothing is put between.",) if jump else ()
    return ImageFacts(*first, total, notes)


def image_frames(
    folder: Path,
    names: Sequence[str],
    fps: Fraction,
    start: float = 0.0,
    size: tuple[int, int] | None = None,
    wanted: Callable[[float], bool] | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (time in seconds, `[H, W, 3]` uint8) of each image; `start`, `size`, `wanted` as in `VideoStream.frames`.

    Transparent pixels come out black; 16-bit grey becomes 8-bit. Raises `MediaError`.
    """
    from PIL import Image

    for index, name in enumerate(names):
        time = float(index / fps)
        if time < start or wanted is not None and not wanted(time):
            continue
        with _opened(folder / name) as image:
            picture = _rgb(image)
        yield time, np.asarray(picture.resize(size, Image.Resampling.BICUBIC) if size else picture)


def _rgb(image):
    from PIL import Image, ImageOps

    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion cuts off at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return over_black(ImageOps.exif_transpose(image))


@contextmanager
def _opened(path: Path):
    """Pillow's image; what goes wrong while it is open becomes a `MediaError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            yield image
    except MediaError:
        raise
    except (UnidentifiedImageError, SyntaxError, EOFError, LookupError, ValueError, struct.error) as error:
        raise MediaError(f"{path} cannot be read: it is damaged, or not a picture; expected an image.") from error
    except OSError as error:
        why = reason(error) if error.errno else f"it is damaged ({error})"
        raise MediaError(f"{path} cannot be read: {why}; expected an image.") from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} cannot be read: it is larger than any picture that can be meant.") from error
