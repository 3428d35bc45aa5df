"""Noise from the CPU's generator: the same numbers for the same seed, whatever device the model runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError


def cpu_noise(seed: int, shape: Sequence[int], numbers: Sequence[int] | None = None) -> Tensor:
    """Unit Gaussian noise of `shape`, float32 on the CPU: torch.manual_seed(seed), torch.randn, as ComfyUI draws it.

    seed: 0 .. 2^64 - 1. The caller moves the result to its device. The global generator is not touched.
    numbers: for each clip of the batch the number of its noise among those that the seed gives one after the other, as
        `batch_index` of a LATENT says; None = those of a whole batch. Raises `ShapeError` when there are not as many.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    if numbers is None:
        return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)
    if len(numbers) != shape[0]:
        raise ShapeError(f"batch_index: got {len(numbers)} numbers; expected {shape[0]}, one for each clip.")
    one, wanted, drawn = (1, *shape[1:]), set(numbers), {}
    for number in range(max(numbers) + 1):
        noise = torch.randn(one, generator=generator, dtype=torch.float32)
        if number in wanted:
            drawn[number] = noise
    return torch.cat([drawn[number] for number in numbers])


@dataclass(frozen=True)
class SeededNoise:
    """A noise source for samplers: `source(x, index)` is unit noise like x, fixed by the seed and the step.

    numbers: see `cpu_noise`. first: number of the first step, in the second part of a split schedule.
    """

    seed: int
    numbers: tuple[int, ...] | None = None
    first: int = 0

    def __call__(self, x: Tensor, index: int) -> Tensor:
        # torch's CPU generator uses the seed's low 32 bits. An odd multiplier keeps all of them in play, and the added
        # term keeps every step's noise apart from the initial noise cpu_noise(seed) and from its neighbours' steps.
        mixed = (self.seed * 0x9E3779B1 + (self.first + index + 1) * 0x85EBCA77) % 2**32
        return cpu_noise(mixed, x.shape, self.numbers).to(x)
