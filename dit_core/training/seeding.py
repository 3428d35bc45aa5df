"""Random numbers of a step: drawn from its number, so that a training that goes on draws as one that never stopped."""

from __future__ import annotations

import torch
from torch import Tensor

from .loop import StepFunction


def seed_of_step(seed: int, step: int) -> int:
    """The seed of one step of a training; the factor keeps the steps of neighbouring seeds apart."""
    return seed * 1_000_003 + step


def generator_of_step(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for one step."""
    return torch.Generator(device).manual_seed(seed_of_step(seed, step))


def seeded(step_function: StepFunction, seed: int, device: torch.device) -> StepFunction:
    """The step with torch's own generator, which dropout draws from, seeded by its number; it is put back."""

    def with_seed(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed_of_step(seed, step))
            return step_function(step)

    return with_seed
