"""Drawing with smooth lines: Pillow draws twice as large, the picture is made smaller at the end."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

INK, PAPER, SOFT, LINE, PANEL = (32, 33, 40), (250, 250, 248), (112, 113, 122), (226, 226, 222), (255, 255, 255)
BLUE, ORANGE, GREEN, PURPLE, RED = (38, 104, 176), (217, 98, 30), (30, 138, 92), (134, 78, 160), (190, 42, 56)
Colour = tuple[int, int, int]
Point = tuple[float, float]
_FINE = 2  # drawn so many times larger


@functools.lru_cache(maxsize=16)
def font(points: int):
    """Pillow's own typeface, so that a picture is the same on every machine."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(points)
    except (TypeError, OSError):  # Pillow before 10.1, or built without FreeType: one size only
        return ImageFont.load_default()


class Canvas:
    """A picture of width x height pixels that is drawn on, from the top left."""

    def __init__(self, width: int, height: int, paper: Colour = PAPER):
        from PIL import Image, ImageDraw

        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * _FINE, height * _FINE), paper)
        self._draw = ImageDraw.Draw(self._image)

    def finish(self) -> Image:
        """The picture."""
        from PIL import Image

        return self._image.resize((self.width, self.height), Image.Resampling.LANCZOS)

    def text(self, place: Point, words: str, points: int = 12, colour: Colour = INK, anchor: str = "la") -> None:
        """One line of text; `anchor` is Pillow's (la: place is the top left, rm: the middle of the right edge)."""
        try:
            self._draw.text(_fine(place), words, colour, font(points * _FINE), anchor=anchor)
        except (UnicodeEncodeError, ValueError):  # without FreeType: Latin letters only, and no anchors
            self._draw.text(_fine(place), words.encode("ascii", "replace").decode(), colour, font(points * _FINE))

    def text_width(self, words: str, points: int = 12) -> float:
        """How wide a line of text is."""
        try:
            return self._draw.textlength(words, font(points * _FINE)) / _FINE
        except UnicodeEncodeError:
            return 6.0 * len(words)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour, edge: Colour | None = None):
        """A rectangle."""
        self._draw.rectangle((*_fine((left, top)), *_fine((right, bottom))), fill, edge, _FINE)

    def line(self, points: Sequence[Point], colour: Colour, width: float = 1.5) -> None:
        """A line through all points; a single one becomes a dot."""
        if len(points) == 1:
            self.dot(points[0], colour, width + 0.5)
            return
        fine = max(1, round(width * _FINE))
        self._draw.line([_fine(point) for point in points], colour, fine, "curve" if fine > 2 else None)

    def dot(self, place: Point, colour: Colour, radius: float = 3.0) -> None:
        """A filled circle."""
        (x, y), r = _fine(place), radius * _FINE
        self._draw.ellipse((x - r, y - r, x + r, y + r), colour)


def fade(colour: Colour, share: float, into: Colour = PANEL) -> Colour:
    """`share` of a colour, the rest of another."""
    return tuple(round(share * one + (1 - share) * other) for one, other in zip(colour, into, strict=True))


def _fine(point: Point) -> Point:
    return point[0] * _FINE, point[1] * _FINE
