"""Hot-air balloon, flock of birds, plane with contrail, each over a batch of clips that has one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .stage import Canvas, Cast, blend, smoothstep, tint

_SIN, _COS = math.sin(0.66), math.cos(0.66)  # where the straight flank leaves the round top of the envelope
_MIDDLE = 1.0  # seconds: the moment at which an object is at (object_x, object_y)
# Birds of the flock: offset along the flight, offset down (wing spans), phase, size.
_FLOCK = (
    (0.0, 0.0, 0.0, 1.0),
    (-1.15, 0.55, 0.35, 0.9),
    (-1.05, -0.65, 0.6, 0.95),
    (-2.2, 0.95, 0.1, 0.85),
    (0.95, 0.9, 0.5, 0.8),
)


def _local(cast: Cast, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Offsets of every pixel from the object's centre: dx [B,1,F,1,W], dy [B,1,F,H,1]."""
    t = canvas.t - _MIDDLE
    x = cast.x(cast.object_x + cast.object_vx * t, canvas)
    return canvas.x - x, canvas.y - (cast.object_y + cast.object_vy * t)


def balloon(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """A striped envelope in the named colour, with basket, over `rgb` [B, 3, F, H, W]."""
    radius = 0.5 * cast.object_size
    dx, dy = _local(cast, canvas)
    a, b = dx / radius, dy / radius
    pixel = canvas.pixel / radius
    wide = a.abs()
    # Envelope: a circle above, its tangent cone below.
    cone = b * _COS > wide * _SIN
    line = wide * _COS + b * _SIN - 1
    distance = torch.maximum(torch.where(cone, line, torch.hypot(a, b) - 1), b - 1.30)
    cover = (0.5 - distance / pixel).clamp(0, 1)
    half = torch.where(b * _COS > 0.5 * _SIN, (1 - b * _SIN) / _COS, (1 - b * b).clamp(min=0.02).sqrt())
    gore = torch.sin(11.0 * torch.asin((a / half.clamp(min=0.15)).clamp(-0.98, 0.98)))
    stripe = smoothstep(-0.35, 0.35, gore)
    main = cast.balloon_color()
    side = torch.sign(cast.light_x - cast.object_x)
    light_side = torch.where(cast.has_light > 0, side, -torch.ones_like(side))
    shade = (0.90 - 0.16 * b + 0.20 * a * light_side - 0.22 * (wide * wide)).clamp(0.35, 1.12)
    lamp = cast.color("lamp")
    pale = blend(main, torch.ones_like(main), 0.28)
    dark = main * 0.78
    color = torch.lerp(dark, pale, stripe) * lamp * shade
    # By dusk and night the burner lights the envelope from below.
    burner = cast.by_time(0, 0, 0, 0.35, 0.5) * smoothstep(-0.6, 1.2, b)
    color = color + main * tint(1.0, 0.8, 0.5, rgb.device) * burner
    rgb = torch.lerp(rgb, color.clamp(max=1), cover)
    basket = torch.maximum(wide - 0.19, (b - 1.72).abs() - 0.16)
    ropes = torch.maximum((wide - 0.19).abs() - 0.02, (b - 1.43).abs() - 0.14)
    hung = torch.maximum((0.5 - basket / pixel).clamp(0, 1), 0.6 * (0.5 - ropes / pixel).clamp(0, 1))
    brown = tint(0.34, 0.20, 0.10, rgb.device) * lamp
    return torch.lerp(rgb, brown, hung)


def birds(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """Five birds that flap, each out of step, over `rgb` [B, 3, F, H, W]."""
    dx, dy = _local(cast, canvas)
    heading = torch.sign(cast.object_vx)
    cover = None
    for along, down, phase, size in _FLOCK:
        span = 0.5 * cast.object_size * size
        beat = torch.sin(6.2832 * (1.9 * canvas.t + phase + cast.variation(4)))
        a = (dx / cast.object_size - heading * along) * (cast.object_size / span)
        b = (dy / cast.object_size - down + 0.12 * beat) * (cast.object_size / span)
        wide = a.abs()
        # Wings rise to the wrist and bend down again towards the tip.
        wing = -(0.28 + 0.62 * beat) * wide * (1.25 - 0.45 * wide) + 0.10 * wide * wide
        thick = 0.055 + 0.10 * (1 - wide).clamp(min=0)
        distance = torch.maximum(((b - wing).abs() - thick) * 0.82, wide - 1.0)
        mask = (0.5 - distance * (span / canvas.pixel)).clamp(0, 1)
        cover = mask if cover is None else torch.maximum(cover, mask)
    return torch.lerp(rgb, cast.color("silhouette"), cover)


def plane(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """An airliner from the side with a contrail that widens and fades, over `rgb` [B, 3, F, H, W]."""
    dx, dy = _local(cast, canvas)
    heading = torch.sign(cast.object_vx)
    speed = torch.hypot(cast.object_vx, cast.object_vy)
    cos, sin = cast.object_vx.abs() / speed, cast.object_vy / speed
    half = 0.5 * cast.object_size
    a = (dx * heading * cos + dy * sin) / half  # along the flight
    b = (dy * cos - dx * heading * sin) / half
    pixel = canvas.pixel / half
    behind = (-a - 0.9).clamp(min=0)
    trail_half = 0.055 + 0.035 * behind.clamp(max=4.0)
    length = 0.14 + 1.2 * (canvas.t + 0.8) * speed / half  # it has grown since before the clip began
    fade = smoothstep(0.0, 0.25, behind) * torch.exp(-0.16 * behind) * smoothstep(length, 0.5 * length, behind)
    trail = (0.5 - (b.abs() - trail_half) / (1.5 * pixel)).clamp(0, 1) * fade * cast.by_time(0.85, 0.85, 0.85, 0.8, 0.7)
    rgb = torch.lerp(rgb, cast.color("contrail"), trail)
    body = torch.hypot(a - a.clamp(-0.88, 0.88), b) - 0.10
    # A swept wing below, a fin above the tail: slanted bars.
    wing = torch.maximum((a + 0.55 * b + 0.02).abs() - 0.16 + 0.12 * b, (b - 0.24).abs() - 0.26)
    fin = torch.maximum((a + 0.86 - 0.5 * b - 0.02).abs() - 0.10, (b + 0.20).abs() - 0.20)
    shape = torch.minimum(torch.minimum(body, wing), fin)
    return torch.lerp(rgb, cast.color("silhouette"), (0.5 - shape / pixel).clamp(0, 1))
