"""Latent cells as colours: a linear map, good enough to watch a clip appear while it is denoised."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

Colours = tuple[tuple[float, float, float], ...]
"""One row (red, green, blue) for each latent channel and a last one that is added; colours in -1..1, latents raw."""


def fit_colours(pairs: Iterable[tuple[Tensor, Tensor]]) -> Colours:
    """The map whose colours are nearest, in least squares, to the mean colours of the boxes that cells stand for.

    pairs: raw latents [B, C, T, h, w] and the videos [B, 3, F, H, W] in -1..1 that they were made from.
    """
    squares, products = 0.0, 0.0
    for latent, video in pairs:
        cells = latent.movedim(1, -1).flatten(0, 3).cpu().double()  # some devices have no float64
        x = torch.cat([cells, torch.ones_like(cells[:, :1])], 1)
        y = _cell_colours(video, latent.shape[2:]).movedim(1, -1).flatten(0, 3).cpu().double()
        squares, products = squares + x.T @ x, products + x.T @ y
    squares += 1e-8 * squares.diagonal().mean() * torch.eye(len(squares), dtype=squares.dtype, device=squares.device)
    return tuple(tuple(row) for row in torch.linalg.solve(squares, products).tolist())


def _cell_colours(video: Tensor, size: Iterable[int]) -> Tensor:
    """Mean colour of each cell [B, 3, T, h, w]; the first latent frame stands for one video frame."""
    t, h, w = size
    b, c, f, height, width = video.shape
    cells = video.reshape(b, c, f, h, height // h, w, width // w).mean((4, 6))
    if t == 1:
        return cells
    later = cells[:, :, 1:].unflatten(2, (t - 1, -1)).mean(3)
    return torch.cat([cells[:, :, :1], later], 2)


def latent_picture(latent: Tensor, colours: Colours, largest: int = 512) -> Tensor:
    """All frames of one clip's raw latent [C, T, h, w] in one picture [height, width, 3] uint8, in equal rows.

    Frames are shown in reading order, a cell is a square of pixels, no side is longer than `largest` unless the cells
    alone are.
    """
    table = torch.tensor(colours, dtype=torch.float32, device=latent.device)
    pixels = latent.float().movedim(0, -1) @ table[:-1] + table[-1]  # [T, h, w, 3]
    frames, h, w = pixels.shape[:3]
    columns = max(1, min(frames, round(math.sqrt(frames * 2 * h / w))))  # about twice as wide as high
    rows = math.ceil(frames / columns)
    empty = pixels.new_full((rows * columns - frames, h, w, 3), -1.0)
    grid = torch.cat([pixels, empty]).unflatten(0, (rows, columns)).permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    scale = max(1, largest // max(grid.shape[:2]))
    grid = grid.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    return grid.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()
