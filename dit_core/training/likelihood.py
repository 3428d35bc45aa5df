"""Reconstruction as a likelihood whose width is learned, so that nobody has to weigh it against the KL by hand.

The decoder says a distribution of each number of the video, centred at what it draws, with one width for all (the
optimal-sigma decoder, arXiv:2006.13202). With e = drawn - wanted, in nats per number of the video:

    laplace    -log p = |e| / b + log 2b                      widest likelihood at b = mean |e|
    gaussian   -log p = e^2 / (2 v) + log(2 pi v) / 2          widest likelihood at v = mean e^2

The evidence bound of a clip (arXiv:1312.6114) is the sum of -log p over its D numbers plus beta times the sum of the KL
over its latent numbers; divided by D, so that clip sizes do not matter:

    loss = mean(-log p) + beta * (latent numbers / D) * mean(KL)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError

DISTRIBUTIONS = ("laplace", "gaussian", "both")


@dataclass(frozen=True)
class LikelihoodSettings:
    """Raises `ConfigError` naming the field."""

    distribution: str = "laplace"  # both: the mean of the two -log p, each with its own width
    beta: float = 1.0  # weight of the KL in the bound; 1 is maximum likelihood
    lr: float = 1e-2  # of the logarithms of the widths: they have to follow an error that falls by half in no time

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ConfigError(
                f"The likelihood has distribution = {self.distribution!r}; allowed is {', '.join(DISTRIBUTIONS)}."
            )
        for name, least in (("beta", 0.0), ("lr", 1e-12)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise ConfigError(f"The likelihood has {name} = {value!r}; allowed is a number of at least {least:g}.")


class Likelihood(nn.Module):
    """`log_width` holds log b (laplace) and log v / 2 (gaussian), so that both move at the pace of a scale."""

    def __init__(self, distribution: str = "laplace") -> None:
        super().__init__()
        kinds = DISTRIBUTIONS[:2] if distribution == "both" else (distribution,)
        self.log_width = nn.ParameterDict({kind: nn.Parameter(torch.zeros(())) for kind in kinds})

    def forward(self, error: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats per number, a scalar; `error` [...] of any shape, float32."""
        values = []
        for kind, log_width in self.log_width.items():
            if kind == "laplace":
                values.append(error.abs().mean() * torch.exp(-log_width) + log_width + math.log(2))
            else:
                half = 0.5 * error.square().mean() * torch.exp(-2 * log_width)
                values.append(half + log_width + 0.5 * math.log(2 * math.pi))
        return sum(values) / len(values)

    @torch.no_grad()
    def start_at(self, error: Tensor) -> None:
        """Set the widths to the best for `error`, where a gradient would need many steps from far off."""
        error = error.detach().float()
        for kind, log_width in self.log_width.items():
            width = error.abs().mean() if kind == "laplace" else error.square().mean().sqrt()
            log_width.copy_(width.clamp_min(1e-6).log())

    def width(self) -> Tensor:
        """b, or the square root of v, or the geometric mean of both; a scalar in units of the video (-1..1)."""
        return torch.stack([p.detach() for p in self.log_width.values()]).mean().exp()
