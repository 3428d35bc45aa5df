"""One diagram: a frame, an axis of steps, an axis of values, and lines in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .axes import Scale, label, scale_for
from .canvas import INK, LINE, PANEL, SOFT, Canvas, Colour, fade

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 34, 26  # room around the plot, in pixels
_RAW = 0.28  # strength of the values themselves behind their smoothed line
_POINTS = 600  # more would not be seen


@dataclass(frozen=True)
class Curve:
    """A line of a diagram.

    Attributes:
        smooth: draw a running mean over it, and the values themselves faintly behind.
        dots: mark every value, for few values.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    colour: Colour
    smooth: bool = False
    dots: bool = False
    width: float = 1.8


@dataclass(frozen=True)
class Panel:
    """What is drawn in one frame.

    Attributes:
        log: axis of values by their logarithm; None = where that shows more.
        floor: a value that has to be on the axis.
    """

    title: str
    curves: Sequence[Curve] = field(default_factory=tuple)
    log: bool | None = None
    floor: float | None = None
    unit: str = ""


def draw_panel(canvas: Canvas, area: tuple[int, int, int, int], panel: Panel, last_step: float) -> None:
    """Draw into `area` (left, top, right, bottom); the axis of steps ends at `last_step`."""
    left, top, right, bottom = area
    canvas.box(left, top, right, bottom, PANEL, LINE)
    canvas.text((left + 12, top + 8), panel.title, 13, INK)
    curves = [curve for curve in panel.curves if len(curve.values)]
    inside = (left + _LEFT, top + _TOP, right - _RIGHT, bottom - _BOTTOM)
    if not curves:
        canvas.text(((left + right) / 2, (top + bottom) / 2), "nothing yet", 12, SOFT, "mm")
        return
    rows = _scale(curves, panel)
    drawn = [(curve, _thin(curve.steps, curve.values, rows.log)) for curve in curves]
    columns = Scale(0.0, max(last_step, 1.0))
    _grid(canvas, inside, rows, columns, panel.unit)
    for curve, (steps, values) in drawn:
        _draw_curve(canvas, inside, curve, steps, values, (columns, rows))
    _legend(canvas, (inside[2], top + 8), [curve for curve in curves if curve.name], left + 24 + 7 * len(panel.title))


def running_mean(values: Sequence[float], share: float = 0.05, log: bool = False) -> list[float]:
    """Exponential means over about `share` of the values, from both sides, so that the curve lags nowhere.

    log: of their logarithms, for an axis that shows these: where values fall fast, the others would lie above them all.
    """
    if log and min(values) > 0:
        return [math.exp(one) for one in running_mean([math.log(value) for value in values], share)]
    keep = 1 - 1 / max(1.0, share * len(values))
    before, after = _exponential(values, keep), _exponential(values[::-1], keep)[::-1]
    return [(a + b) / 2 for a, b in zip(before, after, strict=True)]


def _exponential(values: Sequence[float], keep: float) -> list[float]:
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        found.append(mean / weight)
    return found


def _scale(curves: Sequence[Curve], panel: Panel) -> Scale:
    """Of a smoothed curve the wildest hundredth may leave the frame: one spike would flatten all the rest."""
    values: list[float] = []
    for curve in curves:
        ordered = sorted(curve.values)
        cut = len(ordered) // 100 if curve.smooth else 0
        values += ordered[: len(ordered) - cut]
    return scale_for(values, panel.log, panel.floor)


def _thin(steps: Sequence[float], values: Sequence[float], log: bool) -> tuple[list[float], list[float]]:
    """Means of neighbours (see `running_mean`), so that no more points are left than can be seen."""
    size = -(-len(values) // _POINTS)
    if size <= 1:
        return list(steps), list(values)
    groups = range(0, len(values), size)
    return (
        [steps[min(at + size, len(steps)) - 1] for at in groups],
        [_mean(values[at : at + size], log) for at in groups],
    )


def _mean(values: Sequence[float], log: bool) -> float:
    if log and min(values) > 0:
        return math.exp(sum(map(math.log, values)) / len(values))
    return sum(values) / len(values)


def _grid(canvas: Canvas, inside: tuple[int, int, int, int], rows: Scale, columns: Scale, unit: str) -> None:
    left, top, right, bottom = inside
    for value in rows.ticks(max(2, (bottom - top) // 34)):
        y = bottom - rows.at(value) * (bottom - top)
        canvas.line([(left, y), (right, y)], LINE, 1)
        canvas.text((left - 7, y), label(value), 10, SOFT, "rm")
    for value in columns.ticks(max(3, (right - left) // 90)):
        x = left + columns.at(value) * (right - left)
        canvas.line([(x, bottom), (x, bottom + 4)], SOFT, 1)
        canvas.text((x, bottom + 7), label(value), 10, SOFT, "ma")
    canvas.line([(left, bottom), (right, bottom)], fade(SOFT, 0.7), 1)
    if unit:
        canvas.text((left + 2, top - 3), unit, 9, SOFT, "la")


def _draw_curve(canvas: Canvas, inside, curve: Curve, steps, values, scales: tuple[Scale, Scale]) -> None:
    left, top, right, bottom = inside
    columns, rows = scales

    def place(step: float, value: float) -> tuple[float, float]:
        at = min(max(rows.at(value), 0.0), 1.0)
        return left + columns.at(step) * (right - left), bottom - at * (bottom - top)

    points = [place(*pair) for pair in zip(steps, values, strict=True)]
    if curve.smooth and len(values) > 8:
        canvas.line(points, fade(curve.colour, _RAW), 1)
        points = [place(*pair) for pair in zip(steps, running_mean(values, log=rows.log), strict=True)]
    canvas.line(points, curve.colour, curve.width)
    if curve.dots and len(points) <= 60:
        for point in points:
            canvas.dot(point, curve.colour, 2.4)


def _legend(canvas: Canvas, corner: tuple[float, float], curves: Sequence[Curve], least: float) -> None:
    """Names in their colours, from the right edge to the left; where there is no room for them, their colours only."""
    right, top = corner
    if len(curves) < 2:
        return
    if right - sum(canvas.text_width(curve.name, 11) + 28 for curve in curves) < least - 10:
        _colour_scale(canvas, corner, curves)
        return
    for curve in reversed(curves):
        width = canvas.text_width(curve.name, 11)
        canvas.text((right, top + 1), curve.name, 11, curve.colour, "ra")
        canvas.line([(right - width - 15, top + 8), (right - width - 4, top + 8)], curve.colour, 2.2)
        right -= width + 28


def _colour_scale(canvas: Canvas, corner: tuple[float, float], curves: Sequence[Curve]) -> None:
    """The curves' colours side by side, named at both ends: so many curves come in an order."""
    right, top = corner
    first, last = curves[0], curves[-1]
    canvas.text((right, top + 1), last.name, 11, last.colour, "ra")
    right -= canvas.text_width(last.name, 11) + 4
    for curve in reversed(curves):
        canvas.line([(right - 11, top + 8), (right, top + 8)], curve.colour, 3)
        right -= 13
    canvas.text((right - 2, top + 1), first.name, 11, first.colour, "ra")
