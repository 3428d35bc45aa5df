"""The log of a training: one JSON object a line, means over the steps since the line before."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint.atomic import reason, whole_file
from ..errors import CheckpointError

LOG = "log.jsonl"
LEVEL_SUMS, LEVEL_COUNTS = "level_loss_sum", "level_count"  # what a step function tells; the log tells means


class LogWriter:
    """Sums are kept on the device until a line is written, so that logging does not stall a graphics card."""

    def __init__(
        self,
        path: Path,
        every: int,
        report: Callable[[dict], object],
        total: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.path, self.every, self.report, self.total = path, every, report, total
        self.device = torch.device(device)
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}  # one for each name: a value may be there from some step on
        self.count, self.samples = 0, 0
        self._since, self._paused = time.monotonic(), 0.0
        self._until = self._since  # end of the last step

    def rewind(self, step: int) -> None:
        """Drop lines of steps that the state on disk does not know: they will be done again. And a torn last line.

        Raises `CheckpointError` when it cannot be read or written; it is what it was then.
        """
        if not self.path.exists():
            return
        try:
            data = self.path.read_bytes()
            lines = data.decode("utf-8", "replace").splitlines()  # what a power cut leaves need not be text
            kept = [line for line in lines if 0 <= _step_of(line) <= step]
            if kept != lines or not data.endswith(b"\n"):
                with whole_file(self.path) as temporary:
                    temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot be brought to step {step}, from where the training goes on: {reason(error)}."
            ) from error

    def begin(self) -> None:
        """Time counts from here."""
        self._since, self._paused = time.monotonic(), 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens meanwhile (sampling, saving) is no training: it does not count in `samples_per_second`."""
        wait_for(self.device)
        started = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - started

    def add(self, values: dict[str, Tensor], samples: int) -> bool:
        """Values of one step. Returns whether a line is due."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1
        self.count += 1
        self.samples += samples
        self._until = time.monotonic() - self._paused
        return self.count >= self.every

    def flush_most(self, position: dict, factor: float) -> None:
        """Write a line at a save, so that a kill after it takes no line along; but not of a few steps only, which would
        be drawn like any other: their values wait for the next line."""
        if 2 * self.count >= self.every:
            self.flush(position, factor)

    def flush(self, position: dict, factor: float, more: dict | None = None) -> None:
        """Write a line, if there was a step since the last or there is `more` to say."""
        if not self.count and not more:
            return
        line: dict = {
            "step": position["step"],
            "samples": position["samples"],
            "total": self.total or position.get("total"),
            "seconds": round(position["seconds"], 1),
            "rate": round(factor, 4),
        }
        begun = self._begun()
        if self.count:
            line |= self._means()
            wait_for(self.device)
            seconds = time.monotonic() - self._paused - self._since - begun
            line["samples_per_second"] = round(self.samples / seconds, 4) if seconds > 0 else None
            position["loss"] = line["loss"]
        line["memory_bytes"] = peak_memory(self.device)
        self.sums, self.counts, self.count, self.samples = {}, {}, 0, 0
        self.begin()
        self._since -= begun
        with self.paused():
            self.write(line | (more or {}))

    def _begun(self) -> float:
        """Seconds of the step under way: they belong to the next line. (A card's step is not done at its `add`.)"""
        return time.monotonic() - self._paused - self._until if self.device.type == "cpu" and self.count else 0.0

    def write(self, line: dict) -> None:
        """Append a line to the file, then report it. Raises `CheckpointError` when it cannot be written."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be written: {reason(error)}.") from error
        self.report(line)

    def _means(self) -> dict:
        sums = dict(self.sums)
        levels = sums.pop(LEVEL_SUMS, None)
        counts = sums.pop(LEVEL_COUNTS, None)
        line = {name: _rounded((value / self.counts[name]).tolist()) for name, value in sums.items()}
        if levels is not None:
            line["level_loss"] = mean_by_level(levels, counts)
        return line


def mean_by_level(sums: Tensor, counts: Tensor) -> list[float | None]:
    """Mean loss of each noise level bin; None where there was no clip."""
    return [_rounded(s / n) if n else None for s, n in zip(sums.tolist(), counts.tolist(), strict=True)]


def _rounded(value: float | list[float]) -> float | list | None:
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 5) if math.isfinite(value) else None  # JSON has no NaN


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1


def wait_for(device: torch.device) -> None:
    """Until a graphics card has done what it was given: what follows is timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int | None:
    """Bytes at most so far: on the graphics card if it is one, else of this process; None if nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
