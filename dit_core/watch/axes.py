"""Scales with round numbers on them: where a value lies, and which values to write beside an axis. No Pillow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_WIDE = 6.0  # largest over smallest value from which on a logarithmic axis shows more


@dataclass(frozen=True)
class Scale:
    """Values `low` .. `high` to 0 .. 1, by their size or by their logarithm."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Place of a value; outside of 0..1 for one outside."""
        if self.log:
            value = max(value, self.low * 1e-3)
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values inside the scale, at most about `most`."""
        return _log_ticks(self.low, self.high, most) if self.log else _ticks(self.low, self.high, most)


def scale_for(values: Iterable[float], log: bool | None = None, floor: float | None = None) -> Scale:
    """A scale that shows `values` with a little room.

    log: None = if all are above 0 and they differ by more than a factor of 6.
    floor: a value that is to be on the scale, such as 0.
    """
    known = [value for value in values if math.isfinite(value)]
    if floor is not None:
        known.append(floor)
    if not known:
        return Scale(0.0, 1.0)
    low, high = min(known), max(known)
    if log is None:
        log = low > 0 and high > _WIDE * low
    if log and low > 0:
        room = (high / low) ** 0.06 if high > low else 1.5
        return Scale(low / room, high * room, True)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low - (0 if low == floor else room), high + room)


def label(value: float) -> str:
    """A number beside an axis: 0.05, 12, 3k, 1.5M, 2e-05."""
    size = abs(value)
    if size >= 1e13:
        return f"{value:.3g}"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{value / factor:.4g}{letter}"
    return f"{value:.4g}"


def _ticks(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in decades for factor in factors]
        found = [float(f"{value:.3g}") for value in found if low <= value <= high]
        if len(found) <= most + 2:
            break
    found = found[:: math.ceil(len(found) / (most + 2))] if found else []
    return found if len(found) > 1 else _ticks(low, high, most)
