"""Tileable fractal textures for clouds, waves and rain, made once from a fixed seed and kept per device.

The cloud field mixes gradient-like value noise with inverted Worley (cellular) noise, the usual way to get cauliflower
edges (Schneider, "The real-time volumetric cloudscapes of Horizon Zero Dawn", 2015).
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 512
"""Texels a side of the finest level."""


def _value_noise(cells: int, generator: torch.Generator, cells_y: int | None = None) -> Tensor:
    """Smooth tileable noise of `cells` lattice cells a side -> [SIZE, SIZE], about zero mean."""
    lattice = torch.rand(1, 1, cells_y or cells, cells, generator=generator) - 0.5
    padded = F.pad(lattice, (2, 2, 2, 2), mode="circular")
    rows, cols = padded.shape[-2] * SIZE // lattice.shape[-2], padded.shape[-1] * SIZE // cells
    big = F.interpolate(padded, size=(rows, cols), mode="bicubic", align_corners=False)[0, 0]
    top, left = (rows - SIZE) // 2, (cols - SIZE) // 2
    return big[top : top + SIZE, left : left + SIZE]


def _fractal(first: int, octaves: int, gain: float, generator: torch.Generator, stretch: int = 1) -> Tensor:
    """Sum of octaves of value noise; `stretch` > 1 draws it out along x."""
    layers = (
        _value_noise(max(first * 2**o // stretch, 1), generator, first * 2**o) * gain**o
        for o in range(octaves)
    )  # fmt: skip
    return functools.reduce(torch.add, layers)


def _worley(cells: int, generator: torch.Generator) -> Tensor:
    """Distance to the nearest of cells**2 jittered points, in cells, tileable -> [SIZE, SIZE]."""
    points = torch.rand(cells, cells, 2, generator=generator)
    position = (torch.arange(SIZE) + 0.5) * cells / SIZE
    cell = position.long()
    best = torch.full((SIZE, SIZE), 9.0)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            row, col = (cell + dy) % cells, (cell + dx) % cells
            point = points[row][:, col]
            py = (cell + dy)[:, None] + point[..., 0] - position[:, None]
            px = (cell + dx)[None, :] + point[..., 1] - position[None, :]
            best = torch.minimum(best, px * px + py * py)
    return best.sqrt()


def _equalise(field: Tensor) -> Tensor:
    """Map values to their rank in 0..1, so that a threshold is a share of the area."""
    order = field.flatten().argsort().argsort()
    return ((order.float() + 0.5) / order.numel()).view_as(field)


def _standard(field: Tensor) -> Tensor:
    return (field - field.mean()) / field.std()


def _blur(field: Tensor, sigma: float) -> Tensor:
    """Circular Gaussian blur by FFT, sigma in texels."""
    fy = torch.fft.fftfreq(SIZE)[:, None]
    fx = torch.fft.rfftfreq(SIZE)[None, :]
    kernel = torch.exp(-2 * (torch.pi * sigma) ** 2 * (fx * fx + fy * fy))
    return torch.fft.irfft2(torch.fft.rfft2(field) * kernel, s=(SIZE, SIZE))


def _slopes(field: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Slopes of the blurred field along x and y, unit standard deviation."""
    smooth = _blur(field, sigma)
    along_x = smooth.roll(-1, 1) - smooth.roll(1, 1)
    along_y = smooth.roll(-1, 0) - smooth.roll(1, 0)
    scale = 1 / (0.5 * (along_x.std() + along_y.std()))
    return along_x * scale, along_y * scale


def _rain(generator: torch.Generator) -> Tensor:
    """Vertical streaks, tileable, 0..1."""
    drops = (torch.rand(SIZE, SIZE, generator=generator) < 0.0016).float()
    fy, fx = torch.fft.fftfreq(SIZE)[:, None], torch.fft.rfftfreq(SIZE)[None, :]
    kernel = torch.exp(-2 * torch.pi**2 * ((1.5 * fx) ** 2 + (11.0 * fy) ** 2))
    streaks = torch.fft.irfft2(torch.fft.rfft2(drops) * kernel, s=(SIZE, SIZE))
    return (streaks / streaks.flatten().sort().values[int(0.995 * SIZE * SIZE)]).clamp(0, 1)


@functools.cache
def _finest() -> dict[str, Tensor]:
    """Textures [C, SIZE, SIZE] on the CPU."""
    g = torch.Generator().manual_seed(20241122)
    billow = -(_worley(6, g) + 0.5 * _worley(13, g) + 0.25 * _worley(27, g) + 0.13 * _worley(55, g))
    base = _equalise(0.75 * _standard(_fractal(4, 6, 0.5, g)) + 0.75 * _standard(billow))
    puffs = -(_worley(12, g) + 0.55 * _worley(25, g) + 0.3 * _worley(51, g))
    detail = _equalise(_standard(puffs) + 0.6 * _standard(_fractal(8, 5, 0.6, g)))
    wisps = _equalise(_standard(_fractal(8, 6, 0.6, g, stretch=2)) + 0.9 * _standard(_fractal(4, 4, 0.5, g)))
    waves = _standard(_fractal(16, 5, 0.6, g, stretch=2))
    return {
        "base": torch.stack((base, *_slopes(base, 5.0))),
        "detail": torch.stack((detail - 0.5, *_slopes(detail, 2.5))),
        "wisps": wisps[None],
        "waves": waves[None].clamp(-3, 3),
        "rain": _rain(g)[None],
        "random": torch.rand(4, 64, 64, generator=g),
    }


@functools.lru_cache(maxsize=64)
def texture(name: str, size: int, device: torch.device) -> Tensor:
    """Texture `name` at `size` texels a side, ready for `sample`: [1, C, size + 2, size + 2] with a wrapped border."""
    field = _finest()[name][None]
    if field.shape[-1] > size:
        field = F.avg_pool2d(field, field.shape[-1] // size)
    return F.pad(field, (1, 1, 1, 1), mode="circular").to(device)


def level_for(texels: float) -> int:
    """The power of two next to `texels`, within 32..SIZE."""
    size = SIZE
    while size > 32 and size > 1.42 * texels:
        size //= 2
    return size


@functools.lru_cache(maxsize=8)
def random_table(device: torch.device) -> Tensor:
    """[4, 64, 64] uniform numbers for buildings, windows and stars."""
    return _finest()["random"].to(device)


def sample(name: str, size: int, u: Tensor, v: Tensor) -> Tensor:
    """Bilinear look-up with wrap-around. u, v: texture coordinates, 1 = one tile, broadcastable to [B, 1, F, H, W].

    Returns [B, C, F, H, W].
    """
    b, _, f, h, w = torch.broadcast_shapes(u.shape, v.shape)
    grid = torch.empty(b, f, h, w, 2, device=u.device, dtype=u.dtype)
    scale = 2 * size / (size + 2)
    offset = 2 / (size + 2) - 1  # align_corners=False: texel k+1 of the padded texture has its centre at (k + 1.5)
    grid[..., 0] = (u - u.floor())[:, 0] * scale + offset
    grid[..., 1] = (v - v.floor())[:, 0] * scale + offset
    field = texture(name, size, u.device).to(u.dtype).expand(b, -1, -1, -1)
    out = F.grid_sample(field, grid.view(b, f * h, w, 2), mode="bilinear", padding_mode="border", align_corners=False)
    return out.view(b, -1, f, h, w)
