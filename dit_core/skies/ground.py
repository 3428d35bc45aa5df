"""What lies below: sea, hills, a city skyline."""

from __future__ import annotations

import torch
from torch import Tensor

from .stage import Canvas, Cast, blend, edge, smoothstep, tint
from .textures import level_for, random_table, sample


def sea(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """Water below the horizon over `rgb` [B, 3, F, h, W], with waves and the glitter of sun or moon."""
    below = canvas.y - cast.horizon
    q = (below / (1 - cast.horizon)).clamp(0, 1)
    depth = 1 / (q + 0.13)
    u = (canvas.x - 0.5) * 0.30 * depth
    v = -0.30 * depth
    size = level_for(1.0 / canvas.pixel)
    roll = canvas.t * 0.035
    long_waves = sample("waves", size, 0.8 * u + cast.variation(4) + roll * 0.4, v + cast.variation(5) + roll)
    short = sample("waves", size, 2.1 * u + cast.variation(6) - roll * 0.5, 2.1 * v + cast.variation(7) + roll * 1.4)
    far = smoothstep(0.0, 0.35, q)
    wave = (0.75 * long_waves + 0.65 * short) * (0.25 + 0.75 * far)
    grey = cast.by_cover(0, 0, 0.2, 0.6) + 0.25 * cast.rain
    sky = blend(cast.color("horizon"), cast.color("deck_lit"), grey)
    deep = blend(cast.color("sea"), 0.55 * cast.color("deck_shadow"), 0.6 * grey)
    sheen = (0.62 - 0.52 * q.sqrt() + 0.13 * wave).clamp(0, 1)
    water = torch.lerp(deep, sky * (1 - 0.22 * grey), sheen)
    # Glitter: a path below the light, broken up by the waves, wider towards the viewer.
    dx = canvas.x - cast.x(cast.light_x, canvas)
    path = torch.exp(-((dx / (0.045 + 0.10 * q)) ** 2)) * cast.has_light * cast.by_time(0.95, 0.9, 1.0, 0.65, 0.7)
    sparkle = smoothstep(-0.9 + 1.0 * q, 1.1 + 0.5 * q, wave) * path
    water = torch.lerp(water, cast.color("disc"), sparkle)
    return torch.lerp(rgb, water, edge(-below, canvas.pixel))


def hills(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """Three ridges in haze over `rgb` [B, 3, F, H, W]."""
    tone, cover = _hill_layers(cast, canvas)
    return torch.lerp(rgb, tone, cover)


def _hill_layers(cast: Cast, canvas: Canvas) -> tuple[Tensor, Tensor]:
    far, near = cast.color("far_hill"), cast.color("near_hill")
    dull = 0.35 * cast.by_cover(0, 0, 0.3, 1.0) + 0.25 * cast.rain
    far = blend(far, 0.5 * (cast.color("deck_lit") + cast.color("deck_shadow")), dull)
    near = near * (1 - 0.35 * dull)
    tone, cover = far, torch.zeros_like(canvas.x * canvas.y)
    for k, (depth, rise, step) in enumerate(((0.0, 0.075, -0.045), (0.55, 0.06, 0.035), (1.0, 0.05, 0.115))):
        p = 6.2832 * cast.variation(k + 2)
        x = canvas.x * (1.0 + 0.35 * k)
        ridge = torch.sin(4.1 * x + p) + 0.55 * torch.sin(9.3 * x + 2.3 * p + k) + 0.28 * torch.sin(19.7 * x + 3.1 * p)
        ridge = ridge + 0.10 * torch.sin(43.0 * x + 5.7 * p)
        top = cast.horizon + step - rise * 0.6 * ridge
        below = canvas.y - top
        mask = edge(-below, canvas.pixel)
        color = blend(far, near, torch.full_like(below, depth))
        # Mist gathers at the foot of each ridge.
        color = blend(color, far, (below / 0.22).clamp(0, 1) * (0.45 - 0.45 * depth))
        tone = blend(tone, color, mask)
        cover = torch.maximum(cover, mask)
    return tone, cover


def city(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """Two rows of buildings, with lit windows towards night, over `rgb` [B, 3, F, H, W]."""
    tone, cover = _city_layers(cast, canvas)
    return torch.lerp(rgb, tone, cover)


def _city_layers(cast: Cast, canvas: Canvas) -> tuple[Tensor, Tensor]:
    table = random_table(canvas.x.device)
    dull = 0.35 * cast.by_cover(0, 0, 0.3, 1.0) + 0.25 * cast.rain
    haze = 0.5 * (cast.color("deck_lit") + cast.color("deck_shadow"))
    tone, cover = cast.color("far_building"), torch.zeros_like(canvas.x * canvas.y)
    for k, (columns, tall, name) in enumerate(((11.0, 0.30, "far_building"), (8.0, 0.20, "near_building"))):
        color = blend(cast.color(name), haze, dull * (0.8 - 0.6 * k))
        g = canvas.x * columns + 64 * cast.variation(k + 4)
        cell = g.floor()
        row = (64 * cast.variation(k + 6)).long()
        a, b, c = (table[i][row, cell.long() % 64] for i in range(3))
        f = g - cell
        # A tower with a narrower top; the rest of the column is a lower block.
        inset = 0.10 * c
        middle = ((f - 0.5).abs() - (0.5 - inset)) / columns
        height = 0.05 + tall * a * (0.35 + 0.65 * b)
        top = cast.horizon + 0.07 - height + 0.03 * k
        tower = edge(middle, canvas.pixel) * edge(top - canvas.y, canvas.pixel)
        spire = edge((f - 0.5).abs() / columns - 0.012, canvas.pixel) * edge(top - 0.05 * c - canvas.y, canvas.pixel)
        block = edge(cast.horizon + 0.045 - 0.06 * b + 0.03 * k - canvas.y, canvas.pixel)
        mask = torch.maximum(torch.maximum(tower, block), spire * (a > 0.6))
        glow = 0.35 * ((canvas.y - top) / 0.3).clamp(0, 1) * (1 - k)
        tone = blend(tone, blend(color, cast.color("horizon"), glow * 0.4), mask)
        tone = _windows(tone, cast, canvas, torch.maximum(tower, block), top, k)
        cover = torch.maximum(cover, mask)
    return tone, cover


def _windows(tone: Tensor, cast: Cast, canvas: Canvas, wall: Tensor, top: Tensor, k: int) -> Tensor:
    """Lit windows, at least two pixels wide at 128, on the walls."""
    table = random_table(canvas.x.device)
    pitch_x, pitch_y = (0.030, 0.036) if k else (0.024, 0.030)
    gx, gy = canvas.x / pitch_x + 17.3 * cast.variation(k), (canvas.y - top) / pitch_y - 0.35
    cx, cy = gx.floor(), gy.floor()
    share = table[3][cy.long() % 64, cx.long() % 64]
    lit = (share < cast.by_time(0.16, 0.0, 0.22, 0.46, 0.55) * (0.6 + 0.4 * k)) & (cy >= 0)
    box = torch.maximum(((gx - cx - 0.5).abs() - 0.30) * pitch_x, ((gy - cy - 0.5).abs() - 0.28) * pitch_y)
    light = edge(box, canvas.pixel) * lit * wall * (0.55 + 0.45 * k)
    warm = tint(1.0, 0.80, 0.42, tone.device)
    return blend(tone, warm, light * (0.6 + 0.4 * table[2][cx.long() % 64, cy.long() % 64]))


def rain(rgb: Tensor, cast: Cast, canvas: Canvas) -> Tensor:
    """Falling streaks over everything in `rgb` [B, 3, F, H, W]; the wind slants them the way the clouds go."""
    slant = 0.9 * cast.drift
    size = level_for(1.25 / canvas.pixel)
    x = canvas.x + slant * canvas.y
    fall = canvas.t * 1.15
    u = (x - 2 * slant * fall * 0.5) / 1.1 + cast.variation(6)
    streaks = sample("rain", size, u, (canvas.y - fall) / 1.3 + cast.variation(7))
    veil = 0.10 + 0.42 * streaks
    return torch.lerp(rgb * 0.93, 0.35 + 0.65 * cast.color("deck_lit"), veil * cast.by_time(0.9, 1.0, 0.9, 0.7, 0.55))
