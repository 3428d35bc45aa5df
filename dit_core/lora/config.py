"""What a LoRA changes and how strongly it can: rank, alpha, target layers. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import filter as matching
from typing import Any

from ..errors import ConfigError

GROUPS: dict[str, tuple[str, ...]] = {
    "attention": ("blocks.*.attention.*",),
    "text_attention": ("blocks.*.text_attention.*",),
    "feed_forward": ("blocks.*.feed_forward.*",),
    "modulation": ("modulation",),
    "all": ("*",),
}
"""Name of a group of layers -> patterns over the names of a `VideoDiT`'s linear layers."""


@dataclass(frozen=True)
class LoraConfig:
    """Shape and place of the low-rank weights.

    Attributes:
        rank: rows of A and columns of B; the number of directions that each matrix can change in.
        alpha: the change is alpha / rank * B A, so that the rank can be tried without another learning rate.
        targets: names of `GROUPS` and patterns over layer names (`blocks.0.*`, `*.qkv`); one text with commas will do.
        dropout: share of a layer's inputs that its low-rank path does not see in training.

    Raises:
        ConfigError: a value out of its range, or no target.
    """

    rank: int = 16
    alpha: float = 16.0
    targets: tuple[str, ...] = ("attention", "feed_forward")
    dropout: float = 0.0

    def __post_init__(self) -> None:
        given = self.targets.split(",") if isinstance(self.targets, str) else self.targets
        object.__setattr__(self, "targets", tuple(one.strip() for one in given if one.strip()))
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ConfigError(f"LoRA rank: got {self.rank!r}; expected a whole number from 1 on.")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ConfigError(f"LoRA alpha: got {self.alpha!r}; expected a number above 0, often the rank.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"LoRA dropout: got {self.dropout!r}; expected 0 to less than 1.")
        if not self.targets:
            raise ConfigError(f"LoRA targets: none are named; expected some of {', '.join(GROUPS)}, or patterns.")

    @property
    def scale(self) -> float:
        """The factor alpha / rank before B A."""
        return self.alpha / self.rank

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"targets": list(self.targets)}


def chosen_layers(names: Iterable[str], targets: Sequence[str]) -> tuple[str, ...]:
    """Those of the linear layers `names` that `targets` mean, in the order of `names`.

    Raises:
        ConfigError: a target means none of them; the message lists what there is.
    """
    names = list(names)
    chosen: set[str] = set()
    for target in targets:
        found = {name for pattern in GROUPS.get(target, (target,)) for name in matching(names, pattern)}
        if not found:
            raise ConfigError(
                f'LoRA targets: "{target}" matches no layer of this model. Groups: {", ".join(GROUPS)}. '
                f"Layers: {', '.join(patterns_of(names))}."
            )
        chosen |= found
    return tuple(name for name in names if name in chosen)


def patterns_of(names: Iterable[str]) -> list[str]:
    """The names with block numbers as `*`, each once: what a person can read."""
    return list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
