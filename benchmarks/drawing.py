"""Small things that our pictures are put together from: text, frames, curves, grids. Pillow only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

INK, PAPER, SOFT, LINE = (30, 30, 36), (250, 250, 248), (112, 112, 120), (205, 205, 202)
COLOURS = ((33, 102, 172), (214, 96, 30), (27, 135, 90), (150, 70, 160), (180, 40, 60))
Point = tuple[float, float]
LEAST = 13
"""Smallest text, in pixels: the help panel shows our pictures at half their size."""


def font(points: int) -> ImageFont.ImageFont:
    """Pillow's own typeface, so that a picture is the same on every machine."""
    try:
        return ImageFont.load_default(points)
    except (TypeError, OSError):  # Pillow before 10.1, or built without FreeType: one size only
        return ImageFont.load_default()


class Sheet:
    """A picture that is drawn on, in pixels from the top left."""

    def __init__(self, width: int, height: int, paper: tuple[int, int, int] = PAPER):
        self.image = Image.new("RGB", (width, height), paper)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, place: Point, words: str, points: int = 14, colour=INK, anchor: str = "la") -> None:
        """One line of at least LEAST pixels; `anchor` is Pillow's (la: place is the top left, ma: middle top, mm: the
        centre)."""
        if points < LEAST:
            raise ValueError(f'"{words}" would be {points} pixels high; expected {LEAST} or more, to be read.')
        self.draw.text(place, words, colour, font(points), anchor=anchor)

    def frame(self, place: tuple[int, int], picture: Tensor, scale: int, smooth: bool = False) -> tuple[int, int]:
        """Paste a frame [H, W, 3] in 0..1, enlarged; returns its width and height."""
        image = to_image(picture)
        size = (image.width * scale, image.height * scale)
        how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
        self.image.paste(image.resize(size, how), place)
        return size

    def box(self, left: float, top: float, right: float, bottom: float, fill=None, edge=LINE, width: int = 1) -> None:
        """A rectangle."""
        self.draw.rectangle((left, top, right, bottom), fill=fill, outline=edge, width=width)

    def arrow(self, start: Point, end: Point, colour=SOFT, width: int = 2) -> None:
        """A straight arrow to the right or down."""
        self.draw.line((start, end), fill=colour, width=width)
        (x, y), size = end, 6
        across = abs(end[0] - start[0]) >= abs(end[1] - start[1])
        tip = [(x, y), (x - size, y - size / 1.5), (x - size, y + size / 1.5)]
        if not across:
            tip = [(x, y), (x - size / 1.5, y - size), (x + size / 1.5, y - size)]
        self.draw.polygon(tip, fill=colour)

    def grid(self, left: int, top: int, columns: int, rows: int, step: int, colour=(255, 255, 255)) -> None:
        """Lines every `step` pixels."""
        for column in range(columns + 1):
            self.draw.line((left + column * step, top, left + column * step, top + rows * step), fill=colour)
        for row in range(rows + 1):
            self.draw.line((left, top + row * step, left + columns * step, top + row * step), fill=colour)

    def curves(self, area: tuple[int, int, int, int], lines: Sequence[tuple[str, Sequence[float]]]) -> None:
        """Curves of values 0..1 over equal steps, their names in their colours; `area`: left, top, right, bottom."""
        left, top, right, bottom = area
        for level in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = bottom - level * (bottom - top)
            self.draw.line((left, y, right, y), fill=LINE)
            self.text((left - 6, y), f"{level:g}", 13, SOFT, "rm")
        for number, (name, values) in enumerate(lines):
            colour = COLOURS[number % len(COLOURS)]
            step = (right - left) / (len(values) - 1)
            points = [(left + i * step, bottom - value * (bottom - top)) for i, value in enumerate(values)]
            self.draw.line(points, fill=colour, width=2)
            for x, y in points:
                self.draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
            self.text((right - 6, top + 6 + 18 * number), name, 13, colour, "ra")


def to_image(picture: Tensor) -> Image.Image:
    """A frame [H, W, 3] in 0..1 as an image."""
    return Image.fromarray((picture.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().numpy())


def enlarged(image: Image.Image, width: int) -> Image.Image:
    """A picture at another width, so that what is small in it can be read."""
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def as_colours(latent: Tensor) -> Tensor:
    """A latent [C, T, h, w] as colours [T, h, w, 3] in 0..1: its three strongest directions, each spread out."""
    flat = latent.flatten(1).T.float()
    flat = (flat - flat.mean(0)) / flat.std(0).clamp_min(1e-6)
    _, _, directions = torch.linalg.svd(flat, full_matrices=False)
    # A direction has no sign of its own: fixed here, so that the picture does not depend on the machine.
    chosen = directions[:3] * directions[:3].sum(1, keepdim=True).sign()
    found = flat @ chosen.T
    found = 0.5 + 0.22 * found / found.std(0).clamp_min(1e-6)
    return found.clamp(0, 1).reshape(*latent.shape[1:], 3)


def save_small(image: Image.Image, path: Path, most: int = 58_000) -> int:
    """Write a WebP of at most `most` bytes: without loss if that fits, else as good as fits. Returns its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    attempts = [{"lossless": True, "quality": 100}, *({"quality": q} for q in (95, 90, 85, 80, 70, 60, 45))]
    for options in attempts:
        data = io.BytesIO()
        image.save(data, "WEBP", method=6, **options)
        if data.tell() <= most:
            break
    path.write_bytes(data.getvalue())
    return data.tell()
