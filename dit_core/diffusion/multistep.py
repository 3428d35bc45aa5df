"""Samplers that reuse the model's answers of earlier steps: dpmpp_2m and unipc, both of second order.

Both extrapolate x0 in lambda. An interval of lambda that began at -inf (flow's sigma 1) gets weight 0 in the
extrapolation, which is the formula's limit: the second step of such a run is then first order, like the first.
The last step to sigma 0 returns x0, also by the formula's limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from .stepping import Step, first_order


@dataclass(frozen=True)
class Past:
    """One step as it was taken: latent and x0 at its start, and the step before it (which has no `before` itself)."""

    x: Tensor
    x0: Tensor
    step: Step
    before: Past | None


def dpmpp_2m(x: Tensor, x0: Tensor, step: Step, last: Past | None) -> tuple[Tensor, Past]:
    """DPM-Solver++(2M): x0 extrapolated to the middle of the step. Source: Lu et al. 2211.01095, algorithm 2."""
    now = Past(x, x0, step, replace(last, before=None) if last else None)
    return _predict(now), now


def unipc(x: Tensor, x0: Tensor, step: Step, last: Past | None) -> tuple[Tensor, Past]:
    """UniPC-2 with B(h) = exp(h) - 1 ("bh2"): each step is taken a second time once x0 at its end is known.

    The predictor of order 2 is that of `dpmpp_2m`. The corrector costs no model call: the x0 at the predicted latent
    is kept for the corrected one. Source: Zhao et al. 2302.04867, algorithms 1 and 2 in the data-prediction form.
    """
    if last is not None:
        x = _correct(last, x0)
    return dpmpp_2m(x, x0, step, last)


def _predict(now: Past) -> Tensor:
    if now.before is None or now.step.next_sigma == 0:
        return first_order(now.x, now.x0, now.step)
    weight = 0.5 * now.step.log_snr_step / now.before.step.log_snr_step
    return first_order(now.x, now.x0 + weight * (now.x0 - now.before.x0), now.step)


def _correct(past: Past, x0_end: Tensor) -> Tensor:
    """Take the step `past` again, with x0 at its end, at its start, and (from the second step on) one step earlier."""
    if past.before is None:
        return first_order(past.x, past.x0 + 0.5 * (x0_end - past.x0), past.step)
    h = past.step.log_snr_step
    ratio = past.before.step.log_snr_step / h
    first, second = _moments(h)
    early = (first - second) / (1.0 + ratio)
    x0 = past.x0 + (early / ratio) * (past.x0 - past.before.x0) + (first - early) * (x0_end - past.x0)
    return first_order(past.x, x0, past.step)


def _moments(h: float) -> tuple[float, float]:
    """Mean of u and of u^2 over the step u = 0..1, under the weight exp(h * u) of the exact solution (h > 0).

    They are UniPC's right-hand sides phi_2(-h) / B(h) and 2 * phi_3(-h) / B(h). Below h = 0.05 the closed form
    subtracts nearly equal numbers; the first terms of its Taylor series are then exact to 1e-9.
    """
    if h < 0.05:
        return 0.5 + h / 12 - h**3 / 720, 1 / 3 + h / 12 + h**2 / 360 - h**3 / 720
    inverse = -1.0 / math.expm1(-h)
    first = inverse - 1.0 / h
    return first, inverse - 2.0 * first / h
