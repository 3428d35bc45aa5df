"""What a trainer of the transformer needs of its data."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Clips of one size: latents [B, C, T, h, w] float32 normalised, tokens [B, L] int64 with 0 = padding.

    group: so many successive clips are the same but for what their captions say, and get the same noise (see
    `TrainingClips.twins`); the last group may be cut off.
    """

    latents: Tensor
    tokens: Tensor
    group: int = 1


class Latents(Protocol):
    """Encoded clips with their tokenised captions."""

    def __len__(self) -> int:
        """How many clips."""

    def draw(self, batch: int, generator: torch.Generator) -> Batch:
        """Random clips of one size, each with one of its wordings, on the generator's device.

        The same numbers for a generator in the same state: a training that goes on draws what it would have drawn.
        """

    def deviation(self) -> tuple[float, ...]:
        """Standard deviation of each channel: `TransformerConfig.skip_std`."""

    def fingerprint(self) -> dict[str, Any]:
        """What the data are, JSON values; {} where that is not known."""
