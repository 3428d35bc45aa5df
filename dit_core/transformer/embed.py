"""Vectors for the timestep and the text."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INTEGER_BITS, FRACTION_BITS = 10, 6


def sinusoidal_encoding(timesteps: Tensor, width: int) -> Tensor:
    """[N] -> [N, width]: cosines, then sines, of geometrically spaced frequencies (DDPM, arXiv:2006.11239)."""
    half = width // 2
    frequency = torch.exp(-math.log(10000.0) / half * torch.arange(half, dtype=torch.float32, device=timesteps.device))
    angle = timesteps.float()[:, None] * frequency
    return F.pad(torch.cat((angle.cos(), angle.sin()), dim=-1), (0, width - 2 * half))


def binary_encoding(timesteps: Tensor) -> Tensor:
    """[N] -> [N, 16]: the timestep as a fixed-point binary number, highest bit first, bits as -1 and +1.

    Ten bits before the point and six behind it ("analog bits", arXiv:2208.04202): 0 to 1023 in steps of 1/64.
    """
    bits = INTEGER_BITS + FRACTION_BITS
    number = (timesteps.float() * 2**FRACTION_BITS).round().clamp(0, 2**bits - 1).long()
    places = torch.arange(bits - 1, -1, -1, device=timesteps.device)
    return ((number[:, None] >> places) & 1).float() * 2 - 1


def frame_position(grid: tuple[int, int], harmonics: int, device: torch.device) -> Tensor:
    """Where in the frame each token of a grid (rows, columns) is: [rows * columns, 4 * harmonics].

    Cosines and sines of pi k y and pi k x, k = 1 .. harmonics, of the centres of the tokens as shares of the frame, so
    that "left" is the same in a frame of any size (fixed waves as in arXiv:1706.03762, section 3.5).
    """
    waves = torch.pi * torch.arange(1, harmonics + 1, dtype=torch.float32, device=device)
    rows, columns = ((torch.arange(n, device=device) + 0.5)[:, None] / n * waves for n in grid)
    rows, columns = (torch.cat((angle.cos(), angle.sin()), -1) for angle in (rows, columns))
    return torch.cat((rows.repeat_interleave(grid[1], 0), columns.repeat(grid[0], 1)), -1)


class TwoLayer(nn.Module):
    """Linear, activation, linear: [..., width_in] -> [..., width_out]."""

    def __init__(self, width_in: int, width_out: int, activation: str = "silu") -> None:
        super().__init__()
        self.inner = nn.Linear(width_in, width_out)
        self.outer = nn.Linear(width_out, width_out)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Project; `activation` is silu (timesteps) or gelu in its tanh form (text)."""
        x = self.inner(x)
        x = F.silu(x) if self.activation == "silu" else F.gelu(x, approximate="tanh")
        return self.outer(x)


class TimestepEmbedding(nn.Module):
    """Timesteps [N] -> vectors [N, width]: an encoding of the number, then two layers."""

    def __init__(self, encoding: str, encoding_width: int, width: int) -> None:
        super().__init__()
        self.encoding = encoding
        self.encoding_width = encoding_width if encoding == "sinusoidal" else INTEGER_BITS + FRACTION_BITS
        self.mlp = TwoLayer(self.encoding_width, width)

    def forward(self, timesteps: Tensor) -> Tensor:
        """Timesteps in the model's units (0 to `timestep_scale`)."""
        if self.encoding == "sinusoidal":
            code = sinusoidal_encoding(timesteps, self.encoding_width)
        else:
            code = binary_encoding(timesteps)
        return self.mlp(code.to(self.mlp.inner.weight.dtype))
