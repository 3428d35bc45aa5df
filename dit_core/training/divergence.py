"""Noticing at once that a training falls apart, and at which noise level, while the state on disk is still good."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ..errors import SoraDiTError

BLOCK = 8  # steps whose mean loss is judged: single batches differ too much
HISTORY = 64  # blocks
FAR = 8.0  # times the lowest usual loss so far, two blocks running: diverged
EARLY = 5.0  # in its place before there are 8 blocks: times the first two losses, and what `_all_far` asks as well
UNEASY = 3.0  # times what is usual now: no state is saved yet, it could be a bad one
RUNAWAY = 10_000.0  # times the first loss, the second: no batch is so by chance, the first step has blown it up
EXPLODED = 100.0  # times the lowest usual loss so far, in one block: diverged at once
NAT = 0.5  # least unit for a log-likelihood, in nats: its zero means nothing, a step of a nat always the same
_PENDING = 8  # steps before values are fetched from a graphics card


class TrainingDiverged(SoraDiTError):
    """The loss or the weights are no numbers any more, or the loss exploded; the last good state is kept."""


class DivergenceWatch:
    """Follows loss and gradient norm of every step, and the loss by noise level where a training tells it.

    A number that is not finite is divergence, and so are means over 8 steps far above the lowest that was usual so far:
    the running median of such means, which alone would follow any slow rise, or at first the first two losses, which
    are from before the weights moved much. Distance is counted in units of the usual loss, or of the spread for losses
    around zero.

    least_unit: what the unit is never below; `NAT` where the loss is a negative log-likelihood. A loss below zero can
        only be one, so that it is taken for one without being told.
    """

    def __init__(self, least_unit: float = 0.0) -> None:
        self._pending: list[tuple[int, Tensor, Tensor | None]] = []
        self._start: list[float] = []  # the first two losses
        self._recent: deque[float] = deque(maxlen=2 * BLOCK)  # losses of single steps
        self._in_block = 0  # how many of them belong to the block that is not full yet
        self._blocks: deque[float] = deque(maxlen=HISTORY)  # mean of each block
        self._peaks: deque[float] = deque(maxlen=HISTORY)  # its highest single loss
        self._lowest: tuple[float, float] | None = None  # the lowest running median so far, and the spread then
        self._levels: list[float | None] | None = None  # running mean loss by noise level
        self._far, self._least = False, least_unit

    def to_dict(self) -> dict[str, Any]:
        """All it knows, JSON values, for `restore`. `check` must have been called after the last step."""
        known = {name: value for name, value in vars(self).items() if name != "_pending"}
        return {name[1:]: list(value) if isinstance(value, deque | list) else value for name, value in known.items()}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on watching where another watch was when its `to_dict` was called; what it lacks stays as it is."""
        for name, value in kept.items():
            now = vars(self).get(f"_{name}")
            setattr(self, f"_{name}", deque(value, now.maxlen) if isinstance(now, deque) else value)

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
        if loss < 0:
            self._least = max(self._least, NAT)
        if len(self._start) < 2:
            self._start.append(loss)
        self._recent.append(loss)
        self._in_block += 1
        if self._in_block == BLOCK:
            self._judge_block(step, loss, levels)
        if levels is not None:
            before = self._levels or [None] * len(levels)
            self._levels = [_moved(old, new) for old, new in zip(before, levels, strict=True)]

    def _judge_block(self, step: int, loss: float, levels: list[float | None] | None) -> None:
        block, self._in_block = list(self._recent)[-BLOCK:], 0
        mean = sum(block) / BLOCK
        far = self._times(mean) > (FAR if self._lowest else EARLY)
        if far and self._far and (self._lowest or self._all_far()) or self._times(mean) > EXPLODED:
            what = f"the loss rose to {mean:.4g}, and was about {self._reference()[0]:.4g}"
            raise Divergence(step, what, loss, self._worst(levels))
        self._far = far
        self._blocks.append(mean)
        self._peaks.append(max(block))
        if len(self._blocks) >= BLOCK:
            usual, spread = self._usual_now()
            if self._lowest is None or usual < self._lowest[0]:
                self._lowest = (usual, spread)

    def _all_far(self) -> bool:
        """Whether three quarters of the last 16 losses are above four times the first two.

        Those may be low by chance alone where a batch is a clip or two: then ordinary losses are as low, now and then.
        """
        return self._times(sorted(self._recent)[len(self._recent) // 4]) > EARLY - 1

    @property
    def uneasy(self) -> bool:
        """Whether the weights after the last step may be bad ones, so that they must not replace a good state.

        Judged by what is usual now, not by the lowest ever: a training may stay above that for good, and be saved.
        """
        if not self._recent:
            return False
        last, mean = self._recent[-1], self._mean()
        if len(self._recent) == 2:  # the reference is the higher of the two, which may have exploded already
            first = self._recent[0]
            return 1 + (last - first) / max(self._unit(first, 0.0), 1e-3) > FAR
        if not self._lowest:
            return self._times(mean) > EARLY or self._times(last) > FAR
        usual, spread = self._usual_now()
        margin = (UNEASY - 1) * self._unit(usual, spread)
        return mean > usual + margin or last > median(self._peaks) + margin

    def end(self, step: int) -> None:
        """The last of all steps was done. Raises `Divergence` for an explosion that is too young to be two blocks."""
        self.check()
        if self._recent and self._times(min(self._recent[-1], self._mean())) > FAR:
            raise Divergence(step, f"the loss rose to {self._mean():.4g} at the very end", self._recent[-1], None)

    def _mean(self) -> float:
        """Of the last 8 steps, wherever blocks begin."""
        last = list(self._recent)[-BLOCK:]
        return sum(last) / len(last)

    def _times(self, loss: float) -> float:
        """How often the reference fits into a loss: 1 = as usual."""
        usual, unit = self._reference()
        return 1 + (loss - usual) / unit

    def _reference(self) -> tuple[float, float]:
        """The lowest usual loss so far, and the unit in which distance from it is counted."""
        if self._lowest:
            return self._lowest[0], self._unit(*self._lowest)
        first, second = self._start[0], self._start[-1]
        unit = max(self._unit(first, 0.0), 1e-3)
        if second > first and (second - first) / unit < RUNAWAY:
            first, unit = second, max(self._unit(second, 0.0), 1e-3)
        return first, unit

    def _usual_now(self) -> tuple[float, float]:
        """Running median of the blocks' means, and their median distance from it."""
        usual = median(self._blocks)
        return usual, median(abs(value - usual) for value in self._blocks)

    def _unit(self, usual: float, spread: float) -> float:
        return max(abs(usual), spread, self._least, 1e-6)

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
