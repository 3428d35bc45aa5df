"""Where and what to draw, as tensors: `Canvas` (pixel coordinates and times) and `Cast` (stacked scene parameters).

Every picture tensor is [B, C, F, H, W] (clips, channels, frames, rows, columns); parameters are [B, 1, 1, 1, 1] and
colours [B, 3, 1, 1, 1], so that plain broadcasting does the rest and what does not move is worked out for one frame.
Coordinates are in frame heights: y from 0 at the top to 1, x so that 0.5 is the middle column.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import palette
from .scene import COLORS, COVERS, GROUNDS, OBJECTS, TIMES, SkyScene

_NUMBERS = (
    "drift", "horizon", "light_x", "light_y", "moon_phase",
    "object_x", "object_y", "object_vx", "object_vy", "object_size",
)  # fmt: skip


@functools.lru_cache(maxsize=512)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A short list of numbers on a device, sent there once: a transfer would make the GPU wait in every call."""
    return torch.tensor(values, dtype=torch.float32).to(device)


def tint(red: float, green: float, blue: float, device: torch.device) -> Tensor:
    """A fixed colour -> [1, 3, 1, 1, 1]."""
    return constant((red, green, blue), device).view(1, 3, 1, 1, 1)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a fresh CPU tensor to a device without making the CPU wait for the GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass(frozen=True)
class Canvas:
    """Pixel centres and frame times. x [1,1,1,1,W], y [1,1,1,H,1], t [1,1,F,1,1] seconds, pixel: its size."""

    x: Tensor
    y: Tensor
    t: Tensor
    pixel: float
    aspect: float

    @staticmethod
    def make(frames: int, height: int, width: int, fps: float, device: torch.device) -> Canvas:
        """Sizes in pixels; lengths of the canvas are in frame heights, with x = .5 in the middle at any aspect."""
        def centres(count: int) -> Tensor:
            return torch.arange(count, device=device, dtype=torch.float32) + 0.5

        x = (centres(width) - width / 2) / height + 0.5
        y = centres(height) / height
        t = torch.arange(frames, device=device, dtype=torch.float32) / fps
        x, y, t = x.view(1, 1, 1, 1, -1), y.view(1, 1, 1, -1, 1), t.view(1, 1, -1, 1, 1)
        return Canvas(x, y, t, 1 / height, width / height)

    @property
    def still(self) -> Canvas:
        """The same canvas with the first instant only."""
        return Canvas(self.x, self.y, self.t[:, :, :1], self.pixel, self.aspect)

    def rows(self, start: int) -> Canvas:
        """The canvas from row `start` down."""
        return Canvas(self.x, self.y[:, :, :, start:], self.t, self.pixel, self.aspect)


class Cast:
    """Parameters of a batch of scenes on a device. Numbers [B,1,1,1,1]; `color(name)` [B,3,1,1,1]."""

    def __init__(self, table: Tensor, words: Tensor):
        self.table, self.words = table, words

    @staticmethod
    def stack(scenes: Sequence[SkyScene], device: torch.device) -> Cast:
        """The parameters of `scenes`, in their order."""
        numbers = [[*(getattr(s, n) for n in _NUMBERS), *s.variation] for s in scenes]
        words = [
            [
                TIMES.index(s.time),
                COVERS.index(s.cover),
                GROUNDS.index(s.ground),
                OBJECTS.index(s.object),
                COLORS.index(s.object_color) if s.object_color in COLORS else len(COLORS),
                int(s.rain),
                int(s.light != "none"),
            ]
            for s in scenes
        ]
        return Cast(send(torch.tensor(numbers, dtype=torch.float32), device), send(torch.tensor(words), device))

    def pick(self, index: Tensor) -> Cast:
        """The scenes numbered by `index`."""
        return Cast(self.table[index], self.words[index])

    def __getattr__(self, name: str) -> Tensor:
        if name not in _NUMBERS:
            raise AttributeError(name)
        return self._view(self.table[:, _NUMBERS.index(name)])

    def variation(self, k: int) -> Tensor:
        """The scene's random number k, 0..1."""
        return self._view(self.table[:, len(_NUMBERS) + k])

    def x(self, place: Tensor, canvas: Canvas) -> Tensor:
        """From a share of the frame's width to the canvas's x."""
        return (place - 0.5) * canvas.aspect + 0.5

    @property
    def time(self) -> Tensor:
        """Which of `TIMES` [B]."""
        return self.words[:, 0]

    @property
    def cover(self) -> Tensor:
        """Which of `COVERS` [B]."""
        return self.words[:, 1]

    @property
    def rain(self) -> Tensor:
        """1 where it rains, else 0."""
        return self._view(self.words[:, 5].float())

    @property
    def has_light(self) -> Tensor:
        """1 where sun or moon is to be seen, else 0."""
        return self._view(self.words[:, 6].float())

    def by_time(self, *values: float) -> Tensor:
        """One number per time of day, looked up for each scene."""
        return self._view(constant(values, self.table.device)[self.time])

    def by_cover(self, *values: float) -> Tensor:
        """One number per cloud cover, looked up for each scene."""
        return self._view(constant(values, self.table.device)[self.cover])

    def color(self, name: str) -> Tensor:
        """The palette's colour of that name at each scene's time of day."""
        colors = palette.time_colors(self.table.device)[:, palette.NAMES.index(name)]
        return colors[self.time].view(-1, 3, 1, 1, 1)

    def balloon_color(self) -> Tensor:
        """Of each scene's balloon; some colour where there is none."""
        return palette.balloon_colors(self.table.device)[self.words[:, 4]].view(-1, 3, 1, 1, 1)

    @staticmethod
    def _view(column: Tensor) -> Tensor:
        return column.view(-1, 1, 1, 1, 1)


def smoothstep(low: Tensor | float, high: Tensor | float, value: Tensor) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between."""
    s = ((value - low) / (high - low)).clamp(0, 1)
    return s * s * (3 - 2 * s)


def edge(distance: Tensor, pixel: float) -> Tensor:
    """Coverage of a pixel by the inside (negative distance) of a shape: anti-aliasing over one pixel."""
    return (0.5 - distance / pixel).clamp(0, 1)


def blend(below: Tensor, above: Tensor, alpha: Tensor) -> Tensor:
    """`above` over `below`."""
    return below + (above - below) * alpha
