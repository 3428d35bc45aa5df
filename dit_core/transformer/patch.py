"""Spacetime patches: a latent video is cut into small boxes, each of which becomes one token (Sora report; ViViT)."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Grid = tuple[int, int, int]


def grid_of(shape: tuple[int, int, int], patch: Grid) -> Grid:
    """Number of patches along frames, rows and columns for a video of `shape` (T, H, W), rounded up."""
    return tuple(-(-size // p) for size, p in zip(shape, patch, strict=True))


def pad_to_patches(x: Tensor, patch: Grid) -> Tensor:
    """Pad [B, C, T, H, W] at the end of each axis, by repeating the edge, until the patch divides it."""
    extra = [(-size) % p for size, p in zip(x.shape[-3:], patch, strict=True)]
    if not any(extra):
        return x
    t, h, w = extra
    return F.pad(x, (0, w, 0, h, 0, t), mode="replicate")


def patchify(x: Tensor, patch: Grid) -> Tensor:
    """[B, C, T, H, W] -> tokens [B, t, h*w, C*pt*ph*pw]; sizes must be multiples of the patch."""
    pt, ph, pw = patch
    return rearrange(x, "b c (t pt) (h ph) (w pw) -> b t (h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw)


def unpatchify(tokens: Tensor, patch: Grid, grid: Grid) -> Tensor:
    """Tokens [B, t, h*w, pt*ph*pw*C] -> [B, C, T, H, W]; `grid` is (t, h, w).

    The order inside a token is (pt, ph, pw, C), as in DiT and Wan, and not that of `patchify`.
    """
    pt, ph, pw = patch
    return rearrange(tokens, "b t (h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)", pt=pt, ph=ph, pw=pw, h=grid[1])
