"""Noise from the CPU's generator: the same numbers for the same seed, whatever device the model runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def cpu_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Unit Gaussian noise of `shape`, float32 on the CPU: torch.manual_seed(seed), torch.randn, as ComfyUI draws it.

    seed: 0 .. 2^64 - 1. The caller moves the result to its device. The global generator is not touched.
    """
    return torch.randn(tuple(shape), generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


@dataclass(frozen=True)
class SeededNoise:
    """A noise source for samplers: `source(x, index)` is unit noise like x, fixed by the seed and the step."""

    seed: int

    def __call__(self, x: Tensor, index: int) -> Tensor:
        # torch's CPU generator uses the seed's low 32 bits. An odd multiplier keeps all of them in play, and the added
        # term keeps every step's noise apart from the initial noise cpu_noise(seed) and from its neighbours' steps.
        mixed = (self.seed * 0x9E3779B1 + (index + 1) * 0x85EBCA77) % 2**32
        return cpu_noise(mixed, x.shape).to(x)
