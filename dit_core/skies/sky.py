"""The still part of the sky: gradient, glow, sun or moon; and the stars, which twinkle."""

from __future__ import annotations

import torch
from torch import Tensor

from .stage import Canvas, Cast, blend, edge, smoothstep
from .textures import random_table


def backdrop(cast: Cast, canvas: Canvas) -> Tensor:
    """Gradient, glow and disc, without stars and clouds -> [B, 3, 1, H, W]."""
    foot = cast.horizon.clamp(max=1.0)
    s = (canvas.y / foot).clamp(0, 1)
    rgb = blend(cast.color("zenith"), cast.color("middle"), smoothstep(0.0, 0.72, s))
    rgb = blend(rgb, cast.color("horizon"), smoothstep(0.35, 1.0, s))
    # An overcast sky takes its colour from the cloud deck; what little shows through is dull.
    dull = cast.by_cover(0, 0, 0.15, 0.75) + 0.25 * cast.rain
    rgb = blend(rgb, 0.5 * (cast.color("deck_lit") + cast.color("deck_shadow")), dull.clamp(max=1))
    dx, dy = canvas.x - cast.x(cast.light_x, canvas), canvas.y - cast.light_y
    r = (dx * dx + dy * dy).sqrt()
    low_sun = cast.by_time(1, 0, 1, 0, 0)
    halo = 0.55 * torch.exp(-r / 0.16) + low_sun * 0.38 * torch.exp(-(dx * dx / 0.16 + dy * dy / 0.025))
    strength = cast.by_time(1.0, 0.95, 1.1, 0.75, 0.75) * cast.has_light
    rgb = blend(rgb, cast.color("glow"), (halo * strength).clamp(max=1))
    return _disc(rgb, cast, dx, dy, r, canvas)


def _disc(rgb: Tensor, cast: Cast, dx: Tensor, dy: Tensor, r: Tensor, canvas: Canvas) -> Tensor:
    """Sun by day, moon with its phase by dusk and night."""
    moon = cast.by_time(0, 0, 0, 1, 1)
    radius = cast.by_time(0.062, 0.055, 0.075, 0.058, 0.064)
    inside = edge(r - radius, canvas.pixel)
    # The terminator is half an ellipse: lit where x is beyond k * sqrt(R^2 - y^2) on the lit side.
    side = torch.sign(cast.moon_phase)
    k = 1 - 2 * cast.moon_phase.abs()
    chord = (radius * radius - dy * dy).clamp(min=0).sqrt()
    lit = edge(k * chord - side * dx, 1.5 * canvas.pixel)
    tilt = dx * 61.0 + dy * 37.0
    seas = 1 - 0.13 * smoothstep(0.2, 0.9, torch.sin(tilt) * torch.sin(dx * 43 - dy * 71 + 1.0))
    coverage = inside * blend(torch.ones_like(lit), lit, moon) * cast.has_light
    return blend(rgb, cast.color("disc") * blend(torch.ones_like(seas), seas, moon), coverage)


def stars(cast: Cast, canvas: Canvas) -> Tensor:
    """Light of the stars, to be added under the clouds -> [B, 1, F, H, W]; dim at dusk, none by day."""
    table = random_table(canvas.x.device)
    total = None
    for layer, (cells, size) in enumerate(((9.0, 1.0), (15.0, 0.72))):
        gx = canvas.x * cells + 64 * cast.variation(layer)
        gy = canvas.y * cells + 64 * cast.variation(layer + 2)
        row, col = gy.floor().long() % 64, gx.floor().long() % 64
        jx, jy, bright, phase = (table[(k + layer) % 4][row, col] for k in range(4))
        # The star keeps its distance from the border of its cell, so that no neighbour cell need be looked at.
        dx = (gx - gx.floor() - 0.25 - 0.5 * jx) / cells
        dy = (gy - gy.floor() - 0.25 - 0.5 * jy) / cells
        sigma = 0.0052 * size
        wide = max(sigma, 0.62 * canvas.pixel)
        spot = torch.exp((dx * dx + dy * dy) * (-0.5 / wide**2)) * (sigma / wide) ** 2
        spot = spot * smoothstep(0.35, 0.95, bright) * smoothstep(0.95, 0.6, canvas.y / cast.horizon.clamp(max=1))
        twinkle = 0.78 + 0.22 * torch.sin(6.2832 * phase + (4.0 + 5.0 * jx) * canvas.t)
        total = spot * twinkle if total is None else torch.addcmul(total, spot, twinkle)
    return total * cast.by_time(0, 0, 0, 0.45, 1.0) * (1 - 0.85 * cast.rain)
