"""From what was asked and what was seen to the numbers of the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Words = dict[str, str]
Test = Callable[[Words, Words], "bool | None"]  # (asked, seen) -> right? None: this prompt does not ask


def says(name: str) -> Test:
    """Right when what was seen has the value that the prompt names. Only an object has a colour and a direction."""

    def test(asked: Words, seen: Words) -> bool | None:
        value = asked.get(name)
        if value is None or (value == "none" and name in ("object_color", "object_direction")):
            return None
        return seen[name] == value

    return test


def balloon_there(asked: Words, seen: Words) -> bool | None:
    """Asked for a balloon: it is there."""
    return seen["object"] == "balloon" if asked.get("object") == "balloon" else None


def balloon_absent(asked: Words, seen: Words) -> bool | None:
    """Not asked for a balloon: there is none."""
    return None if asked.get("object") == "balloon" else seen["object"] != "balloon"


def share_right(asked: Sequence[Words], seen: Sequence[Words], test: Test) -> dict[str, Any]:
    """How often the test holds: {"share", "count", "low", "high"}, with the 95 % Wilson interval; NaN for none."""
    results = [r for r in map(test, asked, seen) if r is not None]
    low, high = wilson(sum(results), len(results))
    share = sum(results) / len(results) if results else math.nan
    return {"share": share, "count": len(results), "low": low, "high": high}


def chance(asked: Sequence[Words], seen: Sequence[Words], test: Test) -> float:
    """The same against shuffled prompts: the exact mean over all pairs of a clip with another clip's prompt."""
    n = len(seen)
    results = [test(asked[i], seen[j]) for i in range(n) for j in range(n) if i != j]
    results = [r for r in results if r is not None]
    return sum(results) / len(results) if results else math.nan


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval of a share (Wilson 1927)."""
    if count == 0:
        return math.nan, math.nan
    p = right / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass
class Row:
    """One line of the table; a value that does not exist is None."""

    measure: str
    rendered: float | str | None = None
    coded: float | str | None = None
    generated: float | str | None = None
    chance: float | None = None
    required: str = ""
    met: bool | None = None  # None: nothing is required, or nothing was generated
    digits: int = 2

    def cells(self) -> list[str]:
        """The row as Markdown cells."""
        values = [self._show(v) for v in (self.rendered, self.coded, self.generated, self.chance)]
        verdict = "" if self.met is None else (" yes" if self.met else " **no**")
        return [self.measure, *values, self.required or "-", verdict.strip() or "-"]

    def _show(self, value: float | str | None) -> str:
        if isinstance(value, str):
            return value
        return "-" if value is None or math.isnan(value) else f"{value:.{self.digits}f}"


HEADINGS = ("measure", "rendered", "encoded, decoded", "generated", "chance", "required", "met")


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON values; NaN becomes None."""
    clean = lambda v: None if isinstance(v, float) and math.isnan(v) else v  # noqa: E731
    return [{name: clean(value) for name, value in asdict(row).items()} for row in rows]
