"""A spacetime patch discriminator: tells rendered clips from decoded ones, place by place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..errors import ConfigError, ShapeError

NORMS = ("none", "spectral")
SMALLEST = 8  # pixels: below this nothing is left after three halvings


class PatchDiscriminator(nn.Module):
    """Video `[B, 3, F, H, W]` in -1..1 to scores `[B, 1, f, H / 8, W / 8]`, one for each patch it can see.

    A 3-D PatchGAN (arXiv:1611.07004, section 3.2.2): each score looks at 38 x 38 pixels and 17 frames. The first
    convolution looks at pairs of frames as well as at pixels, so that flicker is as visible as blur. No batch norm: in
    the small batches of video it would let the clips of a batch tell on each other. `spectral` keeps each layer's gain
    at 1 (arXiv:1802.05957).
    """

    def __init__(self, channels: int = 16, norm: str = "none", in_channels: int = 3) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ConfigError(f"The discriminator has norm = {norm!r}; allowed is {', '.join(NORMS)}.")
        if channels < 1:
            raise ConfigError(
                f"The discriminator has channels = {channels!r}; allowed is a whole number of at least 1."
            )
        widths = (in_channels, channels, 2 * channels, 4 * channels)
        strides = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
        layers = [nn.Conv3d(widths[i], widths[i + 1], (3, 4, 4), stride, padding=1) for i, stride in enumerate(strides)]
        layers.append(nn.Conv3d(widths[-1], 1, 3, padding=1))
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers if norm == "none" else [spectral_norm(layer) for layer in layers])

    def forward(self, video: Tensor) -> Tensor:
        """Scores, high where the patch looks rendered. Raises `ShapeError` for sides below 8 pixels."""
        if min(video.shape[-2:]) < SMALLEST:
            raise ShapeError(
                f"Got clips of {video.shape[-2]} x {video.shape[-1]} pixels; the discriminator needs sides of at least "
                f"{SMALLEST}."
            )
        x = video
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
        return self.layers[-1](x)


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's: mean of max(0, 1 - D(real)) and of max(0, 1 + D(fake)), halved (arXiv:1705.02894)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """The decoder's side of the hinge game: -mean D(fake)."""
    return -fake.mean()


def r1_penalty(scores: Tensor, real: Tensor) -> Tensor:
    """Half the squared gradient of the summed scores at real clips, mean over the batch (arXiv:1801.04406, eq. 9).

    `real` must require a gradient and `scores` come from it. The sum is over each clip's mean score, so that the size
    of the penalty does not grow with the number of patches.
    """
    total = scores.flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(total, real, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


class LeCam(nn.Module):
    """Regularisation that holds scores near the other side's running mean (arXiv:2104.03310, eq. 7).

    mean (D(real) - a_fake)^2 + mean (D(fake) - a_real)^2, with a_real and a_fake moving averages of the mean scores.
    """

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """The penalty, a scalar; moves the averages first."""
        with torch.no_grad():
            self.real.lerp_(real.mean(), 1 - self.decay)
            self.fake.lerp_(fake.mean(), 1 - self.decay)
        return (real - self.fake).square().mean() + (fake - self.real).square().mean()
