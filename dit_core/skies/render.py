"""`render`: scenes to frames, batched over clips and frames, on any torch device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeError, SoraDiTError
from . import clouds, ground, objects, sky
from .scene import GROUNDS, OBJECTS, SkyScene, attributes, check_attributes
from .stage import Canvas, Cast, send

_PIXELS = {"cpu": 300_000, "cuda": 40_000_000}
"""Pixels of all frames worked on at once: what stays in the cache of a CPU core, or well within a GPU's memory."""

_WITH_STARS = ("dusk", "night")


def render(
    scenes: Sequence[SkyScene],
    frames: int = 17,
    height: int = 128,
    width: int = 128,
    fps: float = 8.0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw the clips of `scenes` -> [B, F, H, W, 3] in 0..1 (sRGB), in the order given.

    The arithmetic is float32 on every device; `dtype` is that of the result. In memory the result is
    [B, 3, F, H, W], seen with the channels last, so `.permute(0, 4, 1, 2, 3)` is contiguous.

    Raises:
        ConfigError: a scene holds a word that the skies do not know.
        SoraDiTError: no scenes, or fps not above zero.
        ShapeError: frames below 1, or a side below 8 pixels.
    """
    _check(scenes, frames, height, width, fps)
    device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0", so that caches have one key per device
    canvas = Canvas.make(frames, height, width, fps, device)
    per_chunk = max(1, _PIXELS.get(device.type, _PIXELS["cpu"]) // (frames * height * width))
    out = torch.empty(len(scenes), 3, frames, height, width, device=device, dtype=dtype)
    with torch.no_grad():
        for start in range(0, len(scenes), per_chunk):
            part = scenes[start : start + per_chunk]
            out[start : start + per_chunk] = _paint(part, canvas).clamp_(0, 1)
    return out.permute(0, 2, 3, 4, 1)


def _check(scenes: Sequence[SkyScene], frames: int, height: int, width: int, fps: float) -> None:
    if len(scenes) == 0:
        raise SoraDiTError("The sky renderer was given no scenes; it needs at least one.")
    for scene in scenes:
        check_attributes(attributes(scene))
    if frames < 1:
        raise ShapeError(f"A sky clip needs at least 1 frame, got {frames}.")
    if height < 8 or width < 8:
        raise ShapeError(f"A sky clip must be at least 8 x 8 pixels, got {width} x {height}.")
    if not (math.isfinite(fps) and fps > 0):
        raise SoraDiTError(f"The frame rate of a sky clip must be above zero, got {fps}.")


def _paint(scenes: Sequence[SkyScene], canvas: Canvas) -> Tensor:
    """One chunk, back to front -> [B, 3, F, H, W]."""
    device = canvas.x.device
    cast = Cast.stack(scenes, device)

    def where(test) -> Tensor | None:
        found = [i for i, s in enumerate(scenes) if test(s)]
        return send(torch.tensor(found), device) if found else None

    rgb = _still(sky.backdrop(cast, canvas.still), canvas)
    rgb = _apply(rgb, cast, canvas, where(lambda s: s.time in _WITH_STARS), _add_stars)
    rgb = _apply(rgb, cast, canvas, where(lambda s: s.cover != "overcast"), clouds.paint_high)
    rgb = _apply(rgb, cast, canvas, where(lambda s: s.cover != "clear"), clouds.paint_low)
    rgb = _apply_sea(rgb, cast, canvas, [i for i, s in enumerate(scenes) if s.ground == GROUNDS[0]], scenes)
    rgb = _apply(rgb, cast, canvas, where(lambda s: s.ground == "hills"), ground.hills)
    rgb = _apply(rgb, cast, canvas, where(lambda s: s.ground == "city"), ground.city)
    for name, draw in zip(OBJECTS[1:], (objects.balloon, objects.birds, objects.plane), strict=True):
        rgb = _apply(rgb, cast, canvas, where(lambda s, name=name: s.object == name), draw)
    return _apply(rgb, cast, canvas, where(lambda s: s.rain), ground.rain)


def _still(layer: Tensor, canvas: Canvas) -> Tensor:
    return layer.expand(-1, -1, canvas.t.shape[2], -1, -1).contiguous()


def _apply(rgb: Tensor, cast: Cast, canvas: Canvas, index: Tensor | None, draw) -> Tensor:
    """Let `draw` paint over the clips numbered by `index`."""
    if index is None:
        return rgb
    if len(index) == len(rgb):
        return draw(rgb, cast, canvas)
    return rgb.index_copy_(0, index, draw(rgb.index_select(0, index), cast.pick(index), canvas))


def _add_stars(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    return rgb + sky.stars(cast, canvas)


def _apply_sea(rgb: Tensor, cast: Cast, canvas: Canvas, found: list[int], scenes: Sequence[SkyScene]) -> Tensor:
    """The sea fills only the rows below the highest horizon of the batch."""
    if not found:
        return rgb
    top = max(0, int(min(scenes[i].horizon for i in found) / canvas.pixel) - 1)
    below = rgb[:, :, :, top:]
    index = send(torch.tensor(found), rgb.device)
    below[index] = ground.sea(below[index], cast.pick(index), canvas.rows(top))
    return rgb
