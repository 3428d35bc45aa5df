"""3-D rotary positions (RoFormer, arXiv:2104.09864, per axis as in Wan): head channels are shared out between
frame, row and column, and each pair of channels turns by an angle proportional to the token's place on that axis."""

from __future__ import annotations

import torch
from torch import Tensor

from .patch import Grid


def axis_widths(head_width: int) -> Grid:
    """Channels of a head given to (frame, row, column); all even, the frame takes what is left over."""
    side = 2 * (head_width // 6)
    return head_width - 2 * side, side, side


def rotary_table(grid: Grid, head_width: int, theta: float, device: torch.device | str = "cpu") -> Tensor:
    """Cosine and sine [t*h*w, head_width/2, 2] (float32): how far each pair of channels of each token turns."""
    angles = []
    for axis, (size, width) in enumerate(zip(grid, axis_widths(head_width), strict=True)):
        # float64 as in Wan: float32 powers drift at far positions. On the CPU: Apple's GPUs have no float64.
        frequency = theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.arange(size, dtype=torch.float64)[:, None] * frequency
        view = [1, 1, 1, width // 2]
        view[axis] = size
        angles.append(angle.view(view).expand(*grid, width // 2))
    angle = torch.cat(angles, dim=-1).flatten(0, 2)
    return torch.stack((angle.cos(), angle.sin()), dim=-1).float().to(device)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn neighbouring channel pairs of x [B, L, heads, head_width] by `table` [L, head_width/2, 2]; like x."""
    if x.dtype == torch.float32 and not torch.compiler.is_compiling():
        # one fused pass on a CPU
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * torch.view_as_complex(table)[:, None]).flatten(-2)
    cos, sin = table[:, None].to(x.dtype).unbind(-1)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
