"""Key maps: how the weights of a published checkpoint lie in our transformer; immutable, testable without weights.

A rule names one tensor of ours and the tensors of theirs that it is made of. The same rules read (`convert`) and write
(`export`), so a round trip is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """`ours` is made of `theirs`; `{i}` in both stands for the block's number.

    One source is copied; several are joined along the rows (q, k, v in one product); with `{i}` only in `theirs` the
    blocks are stacked to one tensor. Sources are reshaped: `their_shape` is what export gives back, -1 = what is left.
    """

    ours: str
    theirs: tuple[str, ...]
    their_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class KeyMap:
    """The rules of a family for a model of `depth` blocks."""

    family: str
    depth: int
    rules: tuple[Rule, ...]

    def pairs(self) -> list[tuple[Rule, str, tuple[str, ...]]]:
        """Every (rule, our name, their names) with block numbers filled in."""
        out = []
        for rule in self.rules:
            per_block = "{i}" in rule.ours
            stacked = not per_block and any("{i}" in name for name in rule.theirs)
            if per_block:
                out += [
                    (rule, rule.ours.format(i=i), tuple(n.format(i=i) for n in rule.theirs)) for i in range(self.depth)
                ]
            elif stacked:
                out.append((rule, rule.ours, tuple(rule.theirs[0].format(i=i) for i in range(self.depth))))
            else:
                out.append((rule, rule.ours, rule.theirs))
        return out

    def convert(
        self, theirs: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
    ) -> tuple[dict[str, Tensor], list[str]]:
        """Their weights as ours, reshaped to `shapes` (ours), and the names of theirs that no rule knows.

        Tensors of which a part is missing are left out, for the load report to name.
        """
        out, used = {}, set()
        for _, ours, names in self.pairs():
            used.update(names)
            if ours in shapes and all(n in theirs for n in names):
                parts = [theirs[n] for n in names]
                joined = (
                    parts[0] if len(parts) == 1 else torch.cat([p.flatten(0, -2) if p.ndim > 1 else p for p in parts])
                )
                out[ours] = joined.reshape(shapes[ours]) if joined.numel() == shapes[ours].numel() else joined
        return out, sorted(set(theirs) - used)

    def export(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our weights under their names and in their shapes; the inverse of `convert`."""
        out = {}
        for rule, name, theirs in self.pairs():
            if name not in ours:
                continue
            for key, part in zip(theirs, ours[name].chunk(len(theirs)), strict=True):
                out[key] = (part.reshape(rule.their_shape) if rule.their_shape else part).contiguous()
        return out
