"""Clouds: a low layer with lit and shadowed sides, and high wisps behind it that drift more slowly."""

from __future__ import annotations

import torch
from torch import Tensor

from .stage import Canvas, Cast, blend, smoothstep
from .textures import level_for, sample

_LOW_TILE, _DETAIL_TILE, _HIGH_TILE = 1.75, 0.75, 1.9  # frame heights that one texture tile spans at the top


def _plane(cast: Cast, canvas: Canvas, tile: float) -> tuple[Tensor, Tensor]:
    """Texture coordinates (u at rest, v) of the cloud deck in perspective: smaller and slower towards the horizon."""
    s = (canvas.y / cast.horizon.clamp(max=1.0)).clamp(0, 1.2)
    zoom = 1 + 0.9 * s * s
    u = (canvas.x - 0.5) * zoom / tile
    v = (canvas.y + 0.55 * canvas.y * s * s) * 1.25 / tile
    return u, v


def _towards_light(cast: Cast, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Unit direction from each pixel to the light; straight up where there is none -> two of [B, 1, 1, H, W]."""
    dx = (cast.x(cast.light_x, canvas) - canvas.x) * cast.has_light
    dy = blend(torch.full_like(cast.light_y, -1.0), cast.light_y - canvas.y, cast.has_light)
    length = (dx * dx + dy * dy + 0.02).sqrt()
    return dx / length, dy / length - 0.35


def paint_low(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """Cumulus or a closed deck over `rgb` [B, 3, F, H, W]."""
    height = 1 / canvas.pixel
    drift = cast.drift * canvas.aspect * 1.25 * canvas.t  # 1.25: the mean zoom, so that the mean drift is as named
    u, v = _plane(cast, canvas, _LOW_TILE)
    size = level_for(_LOW_TILE * height)
    base = sample("base", size, u - drift / _LOW_TILE + cast.variation(0), v + cast.variation(1))
    u, v = _plane(cast, canvas, _DETAIL_TILE)
    # The fine puffs lag a little and sink through the coarse shape: the clouds change while they drift.
    detail = sample(
        "detail",
        level_for(_DETAIL_TILE * height),
        u - 0.94 * drift / _DETAIL_TILE + cast.variation(2),
        v + cast.variation(3) + 0.035 * canvas.t,
    )
    closed = cast.by_cover(0, 0, 0.25, 1.0)
    puffy = 0.26 - 0.12 * closed  # a closed deck is smoother than a heap of cloud
    density = torch.addcmul(base[:, :1], detail[:, :1], puffy)
    threshold = cast.by_cover(0.97, 0.70, 0.42, -0.25)
    body = density - threshold
    alpha = smoothstep(0.0, 0.17, body)
    lx, ly = _towards_light(cast, canvas)
    slope_x = torch.addcmul(base[:, 1:2], detail[:, 1:2], 1.5 * puffy)
    slope_y = torch.addcmul(base[:, 2:3], detail[:, 2:3], 1.5 * puffy)
    # Density rises away from the edge, so a slope against the light is a lit flank.
    facing = -(slope_x * lx + slope_y * ly)
    core = smoothstep(0.05, 0.75, body) * (1 - closed) + closed * density.clamp(0, 1)
    shade = (0.80 - 0.42 * core + (0.16 - 0.07 * closed) * facing).clamp(0, 1)
    deck = (cast.by_cover(0, 0, 0, 1.0) + 0.6 * cast.rain).clamp(max=1)
    dim = 1 - 0.20 * cast.rain
    lit = blend(cast.color("lit"), cast.color("deck_lit"), deck) * dim
    shadow = blend(cast.color("shadow"), cast.color("deck_shadow"), deck) * dim
    # A closed deck is brighter towards the horizon, where one looks out from under it.
    s = (canvas.y / cast.horizon.clamp(max=1.0)).clamp(0, 1)
    shadow = blend(shadow, lit, closed * (0.05 + 0.45 * s * s))
    lit = blend(lit, 0.5 * (lit + cast.color("horizon")), closed * s * s * (1 - 0.6 * cast.rain))
    # Low down the air between takes the colour of the horizon; near the light thin cloud glows.
    haze = 0.38 * smoothstep(0.55, 1.0, canvas.y / cast.horizon.clamp(max=1.0)) * (1 - 0.75 * deck)
    lit = blend(lit, cast.color("horizon"), haze)
    shadow = blend(shadow, cast.color("horizon"), haze)
    dx, dy = canvas.x - cast.x(cast.light_x, canvas), canvas.y - cast.light_y
    near = cast.has_light * torch.exp(-(dx * dx + dy * dy) / 0.035) * cast.by_time(0.55, 0.5, 0.6, 0.5, 0.55)
    lit = blend(lit, cast.color("glow"), near)
    shadow = blend(shadow, cast.color("glow"), 0.45 * near)
    return torch.lerp(rgb, torch.lerp(shadow, lit, shade), alpha * 0.98)


def paint_high(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """Thin wisps high up over `rgb`; they drift at 0.7 of the named speed, in a clear sky at all of it."""
    height = 1 / canvas.pixel
    share = cast.by_cover(1.0, 0.7, 0.7, 0.7)
    drift = share * cast.drift * canvas.aspect * 1.2 * canvas.t
    u, v = _plane(cast, canvas, _HIGH_TILE)
    skew = 0.25 * (cast.variation(5) - 0.5) * canvas.y
    size = level_for(_HIGH_TILE * height)
    wisps = sample("wisps", size, u + skew - drift / _HIGH_TILE + cast.variation(4), v + cast.variation(5))
    alpha = smoothstep(cast.by_cover(0.80, 0.66, 0.72, 0.9), 1.05, wisps) * cast.by_cover(0.62, 0.5, 0.45, 0.0)
    color = blend(cast.color("lit"), cast.color("horizon"), 0.25)
    dx, dy = canvas.x - cast.x(cast.light_x, canvas), canvas.y - cast.light_y
    near = cast.has_light * torch.exp(-(dx * dx + dy * dy) / 0.05) * 0.5
    return torch.lerp(rgb, blend(color, cast.color("glow"), near), alpha)
