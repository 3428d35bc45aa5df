"""Samplers: from noise to a clean latent, step by step down a list of noise levels.

| name     | order | model calls per step | what it does                                                              |
| -------- | ----- | -------------------- | ------------------------------------------------------------------------- |
| euler    | 1     | 1                    | each step solved for a constant x0 (`stepping.first_order`)               |
| heun     | 2     | 2 (to sigma 0: 1)    | Euler, then again with the mean of the slopes at both ends                |
| dpmpp_2m | 2     | 1                    | x0 extrapolated from the step before                                      |
| unipc    | 2-3   | 1                    | dpmpp_2m, and each step taken again once the model has seen its end       |
| ddim     | 1     | 1                    | `ancestral` with eta 0: the same line as euler                            |
| ddpm     | 1     | 1                    | `ancestral` with eta 1: fresh noise at every step, for any objective      |

Order means: for steps that are small in log-SNR. Those at the two ends of a flow run from sigma 1 to 0 never are; over
such a run unipc is of order 2, and the error of dpmpp_2m falls as log(steps) / steps^2.

All are written in signal and sigma alone (see `stepping`) and so run on flow, epsilon and v models alike. The two ends
of a schedule need no small constants:

- sigma 0 at the end: the step returns x0 itself, bit for bit, so what the denoiser holds fixed comes out exact.
- sigma 1 of flow at the start (no signal, lambda = -inf): the first step is x' = s' * x + a' * x0, and multistep
  samplers give that interval weight 0 in their extrapolation, its limit. (diffusers moves the level to 1 - 1e-6.)

A sampler is a function `(x, x0, step, memory) -> (x', memory)`. A new one is a new file and an entry in SAMPLERS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import ShapeError, SoraDiTError
from .multistep import dpmpp_2m, unipc
from .objectives import Objective
from .schedules import check_sigmas, unknown_name
from .single_step import ancestral, euler, heun
from .stepping import Denoise, NoiseSource, Sampler, Step

Callback = Callable[[int, int, Tensor, Tensor], Any]

SAMPLERS: dict[str, Sampler] = {
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
    "ddim": partial(ancestral, eta=0.0),
    "ddpm": partial(ancestral, eta=1.0),
}


def sample(
    sampler: str | Sampler,
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    objective: Objective,
    noise_source: NoiseSource | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Walk x from noise level sigmas[0] down to sigmas[-1] and return it.

    sampler: a name in SAMPLERS, or a function like those, such as `partial(ancestral, eta=0.5)`.
    denoise: (x, index) -> x0, the clean latent estimated at level sigmas[index], which is above 0.
    x: noisy latent of any shape, at level sigmas[0]; half precision is raised to float32 for the whole run.
    sigmas: [steps + 1], descending; a last level of 0 gives a clean latent.
    noise_source: (x, index) -> unit noise like x, needed by ddpm (`noise.SeededNoise`).
    callback: (index, steps, x, x0) after each step, x being at level index + 1; what it raises ends the run.
    Raises ConfigError for an unknown sampler, SoraDiTError or ShapeError for bad levels, a denoised latent of another
    shape, or a missing noise source.
    """
    advance = get_sampler(sampler) if isinstance(sampler, str) else sampler
    levels = [(objective.signal(sigma), sigma) for sigma in check_sigmas(sigmas, objective).tolist()]
    x = x.to(torch.promote_types(x.dtype, torch.float32))

    def estimate(x: Tensor, index: int) -> Tensor:
        x0 = denoise(x, index)
        if x0.shape != x.shape:
            raise ShapeError(f"The denoiser gave shape {list(x0.shape)} for a latent of shape {list(x.shape)}.")
        return x0.to(x.dtype)

    memory = None
    for index, ((signal, sigma), (next_signal, next_sigma)) in enumerate(zip(levels, levels[1:], strict=False)):
        step = Step(index, signal, sigma, next_signal, next_sigma, estimate, noise_source or _no_noise)
        x0 = estimate(x, index)
        x, memory = advance(x, x0, step, memory)
        if callback is not None:
            callback(index, len(levels) - 1, x, x0)
    return x


def get_sampler(name: str) -> Sampler:
    """The sampler called `name`. Raises ConfigError, with the nearest name, if there is none."""
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    return SAMPLERS[name]


def _no_noise(x: Tensor, index: int) -> Tensor:
    raise SoraDiTError("This sampler adds fresh noise at every step and needs a noise source; none was given.")
