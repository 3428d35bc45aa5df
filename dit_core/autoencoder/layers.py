"""The parts of the causal video autoencoder. All tensors are `[B, C, T, H, W]`.

No part mixes positions in space or time except convolutions, and no part looks at a later frame. Each takes an
optional `Stream`: None means that the tensor is a whole clip, a stream that it is the clip's next chunk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .stream import Stream

# Up to this B * C * T * H a single clip's conv3d bypasses oneDNN in torch's CPU dispatch (ConvParams::use_mkldnn) and
# runs at a third of the speed; conv2d does not.
SLOW_ON_CPU = 20480


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution whose output frame i sees input frames up to stride * i, never later ones.

    Before the clip's first frame that frame is repeated, so a single image looks like a clip that stands still.
    Odd spatial kernels are centred; an even one (4, with stride 2) is centred between the two middle pixels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int, int] = (3, 3, 3),
        stride: tuple[int, int, int] = (1, 1, 1),
        gain: float = 1.0,
    ) -> None:
        padding = (0, (kernel[1] - 1) // 2, (kernel[2] - 1) // 2)
        super().__init__(in_channels, out_channels, kernel, stride, padding)
        # Keeps the variance on a linear path: at the start the whole network is nearly one.
        nn.init.normal_(self.weight, std=gain * self.weight[0].numel() ** -0.5)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """x [B, C, F, H, W] -> [B, C out, F out, H out, W out]; `stream`: x goes on where its last chunk ended."""
        x = self._with_past(x, stream)
        if x.is_cpu and x.shape[0] == 1 and x.shape[:4].numel() <= SLOW_ON_CPU:
            return self._as_pictures(x)
        return super().forward(x)

    def _with_past(self, x: Tensor, stream: Stream | None) -> Tensor:
        """The frames before `x` and `x`; leaves in the stream what the next chunk will need."""
        reach = self.kernel_size[0] - 1
        if reach == 0:
            return x
        past = None if stream is None else stream.past(self)
        if past is None:
            past = x[:, :, :1].expand(-1, -1, reach, -1, -1)
        x = torch.cat([past, x], 2)
        if stream is not None:
            step = self.stride[0]
            used = (x.shape[2] - reach - 1) // step * step + step
            stream.remember(self, x[:, :, used:])
        return x

    def _as_pictures(self, x: Tensor) -> Tensor:
        """The same convolution as a 2-D one: every output frame's input frames side by side in the channels."""
        frames = x.unfold(2, self.kernel_size[0], self.stride[0]).permute(0, 2, 1, 5, 3, 4)  # [B, T, C, kernel, H, W]
        pictures, weight = frames.flatten(2, 3).flatten(0, 1), self.weight.flatten(1, 2)
        y = F.conv2d(pictures, weight, self.bias, self.stride[1:], self.padding[1:])
        return y.unflatten(0, frames.shape[:2]).transpose(1, 2)


class ChannelNorm(nn.Module):
    """RMS norm over the channels of each position by itself, with a learned gain (arXiv:1910.07467)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))  # 1-D: optimisers and memory formats go by rank

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, F, H, W] -> the same shape; the mean is taken in float32."""
        wide = x.float() if x.dtype == torch.float16 else x  # whose squares end at 255
        mean_square = wide.square().mean(1, keepdim=True, dtype=torch.float32)
        return x * torch.rsqrt(mean_square + self.eps).to(x.dtype) * self.weight.to(x.dtype).view(-1, 1, 1, 1)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); starts near the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(channels), CausalConv3d(channels, channels)
        self.norm2, self.conv2 = ChannelNorm(channels), CausalConv3d(channels, channels, gain=0.1)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """x [B, C, F, H, W] -> the same shape."""
        y = self.conv1(F.silu(self.norm1(x)), stream)
        return x + self.conv2(F.silu(self.norm2(y)), stream)


class Downsample(nn.Module):
    """From one resolution to the next coarser: `space` halves H and W, `time` turns 2k + 1 frames into k + 1."""

    def __init__(self, in_channels: int, out_channels: int, time: bool, space: bool) -> None:
        super().__init__()
        kernel, stride = (4, 2) if space else (3, 1)
        time_stride = 2 if time else 1
        self.conv = CausalConv3d(in_channels, out_channels, (3, kernel, kernel), (time_stride, stride, stride))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """x [B, C, F, H, W] -> [B, C out, F or (F + 1) / 2, H or H / 2, W or W / 2]."""
        return self.conv(x, stream)


class Upsample(nn.Module):
    """From one resolution to the next finer: `time` turns k + 1 frames into 2k + 1, `space` doubles H and W.

    Each frame makes two, only the clip's first makes one. Space is doubled by repetition and then convolved, which
    leaves no checkerboard; time is doubled on the small pictures, where it costs little.
    """

    def __init__(self, in_channels: int, out_channels: int, time: bool, space: bool) -> None:
        super().__init__()
        self.space = space
        self.time_conv = CausalConv3d(in_channels, 2 * in_channels, (3, 1, 1)) if time else None
        if self.time_conv is not None:
            start_repeated(self.time_conv, 2)
        self.conv = CausalConv3d(in_channels, out_channels, (1, 3, 3))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """x [B, C, F, H, W] -> [B, C out, F or 2F - 1 (2F later in a stream), H or 2H, W or 2W]."""
        if self.time_conv is not None:
            starts_clip = stream is None or stream.past(self.time_conv) is None
            x = self.time_conv(x, stream)  # [B, 2C, T, H, W]
            x = x.unflatten(1, (2, -1)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)  # [B, C, 2T, H, W]
            if starts_clip:
                x = x[:, :, 1:]
        if self.space:
            x = F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="nearest")
        return self.conv(x)


def start_repeated(conv: nn.Conv3d, copies: int) -> None:
    """Let groups of output channels that become neighbours in time or space start equal (ICNR, arXiv:1707.02937).

    Output channels are laid out `[copies, C]`.
    """
    with torch.no_grad():
        weight = conv.weight.unflatten(0, (copies, -1))
        weight.copy_(weight[:1].clone().expand_as(weight))


def to_patches(x: Tensor, patch: int) -> Tensor:
    """`[B, C, T, H, W]` -> `[B, patch * patch * C, T, H / patch, W / patch]`."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t, h // patch, patch, w // patch, patch)
    return x.permute(0, 4, 6, 1, 2, 3, 5).reshape(b, patch * patch * c, t, h // patch, w // patch)


def from_patches(x: Tensor, patch: int) -> Tensor:
    """The inverse of `to_patches`."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, patch, patch, c // patch**2, t, h, w)
    return x.permute(0, 3, 4, 5, 1, 6, 2).reshape(b, c // patch**2, t, h * patch, w * patch)
