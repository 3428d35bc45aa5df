"""Noticing at once that a training falls apart, and at which noise level, while the state on disk is still good."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

import torch
from torch import Tensor

from ..errors import SoraDiTError

BLOCK = 8  # steps whose mean loss is judged: single batches differ too much
HISTORY = 64  # blocks
FAR = 8.0  # times the median of the history, two blocks running: diverged
UNEASY = 3.0  # times it: no state is saved yet, it could be a bad one
EXPLODED = 100.0  # times it, or times the very first loss while there is no history: diverged at once
_PENDING = 8  # steps before values are fetched from a graphics card


class TrainingDiverged(SoraDiTError):
    """The loss or the weights are no numbers any more, or the loss exploded; the last good state is kept."""


class DivergenceWatch:
    """Follows loss and gradient norm of every step, and the loss by noise level where a training tells it.

    A number that is not finite is divergence, and so are means over 8 steps far above the running median of such means;
    distance is counted in units of the median (or of the spread, for losses around zero, such as likelihoods).
    """

    def __init__(self) -> None:
        self._pending: list[tuple[int, Tensor, Tensor | None]] = []
        self._blocks: deque[float] = deque(maxlen=HISTORY)
        self._block: list[float] = []
        self._first: float | None = None
        self._levels: list[float | None] | None = None  # running mean loss by noise level
        self._far, self.uneasy = False, False

    def add(self, step: int, loss: Tensor, norm: Tensor, levels: tuple[Tensor, Tensor] | None = None) -> None:
        """One step: its number from 1, loss, gradient norm, and sums and counts of the loss by noise level.

        Raises `Divergence`; on a graphics card up to 8 steps late.
        """
        pair = torch.stack([loss.detach().float(), norm.detach().float()])
        self._pending.append((step, pair, None if levels is None else torch.stack([x.float() for x in levels])))
        if loss.device.type == "cpu" or len(self._pending) >= _PENDING:
            self.check()

    def check(self) -> None:
        """Judge all that was added. Raises `Divergence`."""
        pending, self._pending = self._pending, []
        for step, pair, levels in pending:
            loss, norm = pair.tolist()
            means = None if levels is None else _means(*levels.tolist())
            self._judge(step, loss, norm, means)

    def _judge(self, step: int, loss: float, norm: float, levels: list[float | None] | None) -> None:
        if not math.isfinite(loss):
            raise Divergence(step, f"the loss is {loss}", loss, self._worst(levels))
        if not math.isfinite(norm):
            raise Divergence(step, f"the gradient's norm is {norm}", loss, self._worst(levels))
        self._first = loss if self._first is None else self._first
        self._block.append(loss)
        if not self._blocks:
            usual, unit = self._usual()
            self.uneasy = loss > usual + (FAR - 1) * unit
        if len(self._block) == BLOCK:
            mean, self._block = sum(self._block) / BLOCK, []
            usual, unit = self._usual()
            far = len(self._blocks) >= BLOCK and mean > usual + (FAR - 1) * unit
            if far and self._far or mean > usual + (EXPLODED - 1) * unit:
                what = f"the loss rose to {mean:.4g}, and was about {usual:.4g}"
                raise Divergence(step, what, loss, self._worst(levels))
            self._far = far
            self.uneasy = mean > usual + (UNEASY - 1) * unit
            self._blocks.append(mean)
        if levels is not None:
            before = self._levels or [None] * len(levels)
            self._levels = [_moved(old, new) for old, new in zip(before, levels, strict=True)]

    def _usual(self) -> tuple[float, float]:
        """The usual loss, and the unit in which distance from it is counted."""
        if len(self._blocks) < BLOCK:
            return self._first, max(abs(self._first), 1e-3)
        usual = median(self._blocks)
        spread = median(abs(value - usual) for value in self._blocks)
        return usual, max(abs(usual), spread, 1e-6)

    def _worst(self, levels: list[float | None] | None) -> tuple[float, float] | None:
        """Bounds (0..1) of the noise levels that are worst, compared with before; None where it is not known."""
        if levels is None:
            return None
        broken = [i for i, value in enumerate(levels) if value is not None and not math.isfinite(value)]
        before = self._levels or [None] * len(levels)
        if not broken:
            rise = {i: value / max(before[i] or 1.0, 1e-9) for i, value in enumerate(levels) if value is not None}
            broken = [max(rise, key=rise.get)] if rise else []
        return (min(broken) / len(levels), (max(broken) + 1) / len(levels)) if broken else None


class Divergence(Exception):
    """What the watch found; the loop makes a `TrainingDiverged` of it, which knows the folder as well."""

    def __init__(self, step: int, what: str, loss: float, levels: tuple[float, float] | None) -> None:
        super().__init__(what)
        self.step, self.what, self.loss, self.levels = step, what, loss, levels

    def event(self) -> dict:
        """For the log."""
        loss = self.loss if math.isfinite(self.loss) else str(self.loss)  # JSON has no NaN
        levels = None if self.levels is None else list(self.levels)
        return {"event": "diverged", "step": self.step, "what": self.what, "loss": loss, "noise_level": levels}

    def where(self) -> str:
        """Step and noise levels in words."""
        if self.levels is None:
            return f"step {self.step}"
        low, high = self.levels
        at = "at all noise levels" if (low, high) == (0.0, 1.0) else f"at noise levels {low:g} to {high:g}"
        return f"step {self.step}, {at}"


def _means(sums: list[float], counts: list[float]) -> list[float | None]:
    return [s / n if n else None for s, n in zip(sums, counts, strict=True)]


def _moved(old: float | None, new: float | None) -> float | None:
    if old is None or new is None:
        return old if new is None else new
    return 0.95 * old + 0.05 * new
