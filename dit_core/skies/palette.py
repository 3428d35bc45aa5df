"""Colours by time of day, sRGB in 0..1. One row per time; the renderer looks them up as tensors."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .scene import COLORS, TIMES

_SKY = {
    # time: zenith, middle, horizon, glow around the light
    "dawn": ((0.40, 0.55, 0.82), (0.76, 0.74, 0.87), (1.00, 0.80, 0.74), (1.00, 0.90, 0.74)),
    "day": ((0.11, 0.38, 0.84), (0.30, 0.60, 0.95), (0.72, 0.87, 0.98), (1.00, 0.99, 0.92)),
    "sunset": ((0.29, 0.15, 0.40), (0.84, 0.30, 0.25), (1.00, 0.60, 0.16), (1.00, 0.82, 0.36)),
    "dusk": ((0.12, 0.10, 0.36), (0.31, 0.22, 0.55), (0.68, 0.42, 0.66), (0.74, 0.66, 0.90)),
    "night": ((0.012, 0.022, 0.08), (0.03, 0.055, 0.155), (0.08, 0.12, 0.26), (0.36, 0.44, 0.62)),
}
_CLOUD = {
    # time: lit side, shadow, lit side of an overcast deck, its shadow
    "dawn": ((1.00, 0.90, 0.87), (0.62, 0.56, 0.72), (0.88, 0.80, 0.82), (0.58, 0.54, 0.66)),
    "day": ((1.00, 1.00, 1.00), (0.58, 0.67, 0.80), (0.84, 0.87, 0.90), (0.50, 0.55, 0.61)),
    "sunset": ((1.00, 0.68, 0.38), (0.44, 0.18, 0.28), (0.94, 0.55, 0.34), (0.42, 0.22, 0.27)),
    "dusk": ((0.60, 0.46, 0.72), (0.19, 0.16, 0.38), (0.43, 0.36, 0.58), (0.17, 0.15, 0.31)),
    "night": ((0.33, 0.38, 0.52), (0.05, 0.065, 0.14), (0.20, 0.23, 0.32), (0.045, 0.055, 0.11)),
}
_GROUND = {
    # time: near sea, far hills, near hills, far buildings, near buildings
    "dawn": ((0.30, 0.40, 0.55), (0.66, 0.60, 0.72), (0.22, 0.26, 0.33), (0.62, 0.55, 0.66), (0.24, 0.23, 0.33)),
    "day": ((0.05, 0.26, 0.46), (0.50, 0.66, 0.76), (0.16, 0.38, 0.18), (0.58, 0.68, 0.78), (0.30, 0.36, 0.44)),
    "sunset": ((0.28, 0.13, 0.22), (0.62, 0.30, 0.26), (0.13, 0.07, 0.08), (0.55, 0.25, 0.24), (0.13, 0.07, 0.10)),
    "dusk": ((0.14, 0.11, 0.30), (0.34, 0.24, 0.46), (0.06, 0.05, 0.13), (0.31, 0.22, 0.44), (0.07, 0.06, 0.15)),
    "night": ((0.015, 0.035, 0.09), (0.05, 0.075, 0.16), (0.01, 0.015, 0.035), (0.04, 0.055, 0.12), (0.01, 0.01, 0.03)),
}
_MISC = {
    # time: the disc of sun or moon, birds and plane, contrail, light that falls on a balloon
    "dawn": ((1.00, 0.96, 0.82), (0.20, 0.17, 0.24), (1.00, 0.93, 0.90), (1.00, 0.95, 0.93)),
    "day": ((1.00, 1.00, 0.97), (0.13, 0.15, 0.18), (1.00, 1.00, 1.00), (1.00, 1.00, 1.00)),
    "sunset": ((1.00, 0.93, 0.60), (0.12, 0.05, 0.08), (1.00, 0.78, 0.55), (1.00, 0.90, 0.80)),
    "dusk": ((0.97, 0.95, 1.00), (0.05, 0.04, 0.12), (0.76, 0.62, 0.84), (0.80, 0.75, 0.88)),
    "night": ((0.96, 0.97, 1.00), (0.46, 0.50, 0.62), (0.34, 0.38, 0.50), (0.72, 0.72, 0.80)),
}
_BALLOON = {
    "red": (0.90, 0.06, 0.08),
    "yellow": (1.00, 0.84, 0.05),
    "blue": (0.06, 0.20, 0.85),
    "green": (0.05, 0.62, 0.20),
    "white": (0.97, 0.97, 0.97),
    "orange": (1.00, 0.47, 0.02),
}
NAMES = (
    "zenith", "middle", "horizon", "glow", "lit", "shadow", "deck_lit", "deck_shadow",
    "sea", "far_hill", "near_hill", "far_building", "near_building", "disc", "silhouette", "contrail", "lamp",
)  # fmt: skip


@functools.lru_cache(maxsize=8)
def time_colors(device: torch.device) -> Tensor:
    """[5 times, 17 names, 3] in the order of `TIMES` and `NAMES`."""
    rows = [_SKY[t] + _CLOUD[t] + _GROUND[t] + _MISC[t] for t in TIMES]
    return torch.tensor(rows, dtype=torch.float32).to(device)


@functools.lru_cache(maxsize=8)
def balloon_colors(device: torch.device) -> Tensor:
    """[6 colours + 1, 3] in the order of `COLORS`; the last row stands for "none"."""
    return torch.tensor([*(_BALLOON[c] for c in COLORS), (0.5, 0.5, 0.5)], dtype=torch.float32).to(device)
