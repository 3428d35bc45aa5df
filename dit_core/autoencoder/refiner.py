"""What a deblocking filter is to a video codec: small convolutions that mend what a linear codec decodes.

Latents that a diffusion model made are not quite those of a real clip, and each has an error of its own: decoded box by
box, they give themselves away at the borders. The pixels on both sides tell which steps are not meant.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import CausalConv3d
from .stream import Stream


class Refiner(nn.Module):
    """Video to video, a residual; causal in time, seven pixels far. It starts as the identity.

    time, space: frames and pixels of a box, in which every place has a bias of its own: the filter knows where it is.
    width: channels between.
    """

    def __init__(self, channels: int, time: int, space: int, width: int) -> None:
        super().__init__()
        self.door = CausalConv3d(channels, width, (3, 5, 5))
        self.table = nn.Parameter(torch.randn(width, time, space, space) * 0.3)
        self.near = CausalConv3d(width, width, (1, 5, 5))
        self.past = CausalConv3d(width, width, (3, 3, 3))
        self.exit = CausalConv3d(width, channels, (1, 5, 5))
        nn.init.zeros_(self.exit.weight)

    def forward(self, video: Tensor, stream: Stream | None = None) -> Tensor:
        """`[B, C, F, H, W]`, whole boxes in each direction -> the same shape."""
        _, time, space, _ = self.table.shape
        place = self.table.repeat(1, video.shape[2] // time, video.shape[3] // space, video.shape[4] // space)
        x = self.door(video, stream) + place
        x = x + F.silu(self.near(F.silu(x), stream))
        x = x + F.silu(self.past(x, stream))
        return video + self.exit(x, stream)
