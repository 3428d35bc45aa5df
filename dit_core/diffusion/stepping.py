"""What every sampler is made of: one step of a run, and the exact step for a constant x0.

At level i the latent is `x = a * x0 + s * noise` with a = signal(sigma_i), s = sigma_i, and its half-log-SNR is
lambda = log(a / s). If the estimate x0 stays the same between two levels, the probability-flow ODE has the solution

    x' = (s' / s) * x + (a' - a * s' / s) * x0

(DPM-Solver++, Lu et al. 2211.01095, equation 9, with exp(-h) written out as (a * s') / (a' * s)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Denoise = Callable[[Tensor, int], Tensor]
NoiseSource = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Step:
    """From level (signal, sigma) at `index` to level (next_signal, next_sigma) at `index + 1`.

    denoise: (x, index) -> x0, for samplers that look more than once. noise: (x, index) -> unit noise like x.
    """

    index: int
    signal: float
    sigma: float
    next_signal: float
    next_sigma: float
    denoise: Denoise
    noise: NoiseSource

    @property
    def log_snr(self) -> float:
        """lambda at the start; -inf where there is no signal."""
        return math.log(self.signal / self.sigma) if self.signal > 0 else -math.inf

    @property
    def log_snr_step(self) -> float:
        """h, the step in lambda; +inf where the step starts without signal or ends without noise."""
        if self.next_sigma == 0:
            return math.inf
        return math.log(self.next_signal / self.next_sigma) - self.log_snr


# (x, x0, step, memory) -> (x at the next level, memory for the next call); memory is None at the first step.
Sampler = Callable[[Tensor, Tensor, Step, Any], tuple[Tensor, Any]]


def first_order(x: Tensor, x0: Tensor, step: Step) -> Tensor:
    """Solve the ODE over the step for a constant x0; x0 itself, bit for bit, where the step ends at sigma 0."""
    if step.next_sigma == 0:
        return x0
    ratio = step.next_sigma / step.sigma
    return ratio * x + (step.next_signal - step.signal * ratio) * x0
