"""Samplers that remember nothing between steps: euler, heun, and ancestral (ddim, ddpm)."""

from __future__ import annotations

import math

from torch import Tensor

from .stepping import Step, first_order


def euler(x: Tensor, x0: Tensor, step: Step, memory: None) -> tuple[Tensor, None]:
    """Euler's method in sigma. Signal is linear in sigma for every objective, so it is `first_order`."""
    return first_order(x, x0, step), None


def heun(x: Tensor, x0: Tensor, step: Step, memory: None) -> tuple[Tensor, None]:
    """Heun's method in sigma: a second model call at the end of the step, except where that is sigma 0.

    The slope dx/dsigma is (x - x0) / sigma for every objective, since signal is linear in sigma.
    Source: Karras et al. 2206.00364, algorithm 1.
    """
    guess = first_order(x, x0, step)
    if step.next_sigma == 0:
        return guess, None
    guess_x0 = step.denoise(guess, step.index + 1)
    slopes = (x - x0) / step.sigma + (guess - guess_x0) / step.next_sigma
    return x + 0.5 * (step.next_sigma - step.sigma) * slopes, None


def ancestral(x: Tensor, x0: Tensor, step: Step, memory: None, eta: float) -> tuple[Tensor, None]:
    """Draw the next level given x and x0, with eta times the noise of the forward process's own posterior.

    With the forward process x = (a / a') x' + noise that posterior has the deviation s' * sqrt(1 - exp(-2h)).
    eta 0 is DDIM, eta 1 is DDPM (its "small" variance); at flow's sigma 1 (h = inf) eta 1 draws all noise anew.
    Sources: Song et al. 2010.02502, equations 12 and 16; Ho et al. 2006.11239, equation 7.
    """
    if eta == 0 or step.next_sigma == 0:
        return first_order(x, x0, step), None
    shrink = step.signal * step.next_sigma / (step.next_signal * step.sigma)  # exp(-h), 0 where there is no signal
    fresh = eta * step.next_sigma * math.sqrt(1.0 - shrink**2)
    kept = math.sqrt(max(step.next_sigma**2 - fresh**2, 0.0)) / step.sigma
    return kept * x + (step.next_signal - step.signal * kept) * x0 + fresh * step.noise(x, step.index), None
