"""The log of a training: one JSON object a line in `log.jsonl`, appended while it runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.atomic import reason
from ..errors import DataError

LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class TrainingLog:
    """What a training wrote, one line for every so many steps.

    Attributes:
        name: of its folder, for people.
        lines: in the order of steps, each step once. Keys: step, samples, total (steps, or None), seconds (of training,
            pauses left out), rate (of the schedule, 0..1), loss, gradient_norm, level_loss (means by noise level 0..1),
            samples_per_second, memory_bytes, held_out, held_out_level_loss; any of them may be missing.
        events: other lines, as {"event": "diverged", ...}.
    """

    name: str
    lines: tuple[dict[str, Any], ...]
    events: tuple[dict[str, Any], ...] = ()

    @property
    def step(self) -> int:
        """Steps done, 0 before the first line."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    @property
    def total(self) -> int | None:
        """Steps planned, None while nobody knows."""
        return next((int(line["total"]) for line in reversed(self.lines) if line.get("total")), None)

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """(steps, values) of the lines that have a finite number under `key`."""
        found = [(line["step"], _number(line.get(key))) for line in self.lines]
        kept = [(step, value) for step, value in found if value is not None]
        return [step for step, _ in kept], [value for _, value in kept]

    def levels(self, key: str = "level_loss") -> list[tuple[list[int], list[float]]]:
        """As `series`, one for each noise level bin, least noise first; a bin that a line has no number for is left
        out of that line."""
        rows = [(line["step"], level_means(line, key)) for line in self.lines]
        count = max((len(means) for _, means in rows), default=0)
        found: list[tuple[list[int], list[float]]] = [([], []) for _ in range(count)]
        for step, means in rows:
            for (steps, values), value in zip(found, means, strict=False):
                if value is not None:
                    steps.append(step)
                    values.append(value)
        return found

    def pace(self, recent: int = 20) -> float | None:
        """Seconds that a step takes, judged by the last lines; None while too little is known."""
        last = self.lines[-recent - 1 :]
        if len(last) < 2:
            return None
        steps = last[-1]["step"] - last[0]["step"]
        seconds = (_number(last[-1].get("seconds")) or 0.0) - (_number(last[0].get("seconds")) or 0.0)
        return seconds / steps if steps > 0 and seconds > 0 else None

    def samples_per_second(self) -> tuple[list[int], list[float]]:
        """(steps, clips trained on in a second): as logged, else worked out from the lines' times."""
        steps, values = self.series("samples_per_second")
        if values:
            return steps, values
        pairs = zip(self.lines, self.lines[1:], strict=False)
        known = [(b["step"], b.get("samples", 0) - a.get("samples", 0), b.get("seconds", 0) - a.get("seconds", 0))
                 for a, b in pairs]  # fmt: skip
        kept = [(step, samples / seconds) for step, samples, seconds in known if samples > 0 and seconds > 0]
        return [step for step, _ in kept], [speed for _, speed in kept]


def level_means(line: dict[str, Any], key: str = "level_loss") -> list[float | None]:
    """Loss by noise level of one line, None for a level that had no clip; also of logs with sums and counts."""
    means = line.get(key)
    if isinstance(means, Sequence):
        return [_number(mean) for mean in means]
    sums, counts = line.get("level_loss_sum"), line.get("level_count")
    if key == "level_loss" and isinstance(sums, Sequence) and isinstance(counts, Sequence):
        return [one / count if count else None for one, count in zip(sums, counts, strict=False)]
    return []


def read_log(folder: str | Path) -> TrainingLog:
    """Read the log of the training that works in `folder`; it may be running.

    A training that was killed and went on has some steps twice: the later line counts. A line that is not whole (the
    last one, while it is being written) is left out.

    Raises:
        DataError: the folder holds no log, or it cannot be read.
    """
    path = Path(folder) / LOG_FILE
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        what = "holds no training" if path.parent.is_dir() else "does not exist"
        raise DataError(f"{folder} {what}; expected a folder in which a training has written {LOG_FILE}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error
    lines: dict[int, dict[str, Any]] = {}
    events = []
    for entry in map(_entry, text.splitlines()):
        if entry is None:
            continue
        if "event" in entry or not isinstance(entry.get("step"), int):
            events.append(entry)
            continue
        for step in [step for step in lines if step >= entry["step"]]:  # trained again from an earlier state
            del lines[step]
        lines[entry["step"]] = entry
    return TrainingLog(path.parent.absolute().name, tuple(lines.values()), tuple(events))


def _entry(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
