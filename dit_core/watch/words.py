"""A training in words: how far, how fast, how well, how long still."""

from __future__ import annotations

from ..memory import gigabytes
from .log import TrainingLog


def summary(log: TrainingLog, remaining: bool = True) -> str:
    """One line, as "step 1200 of 4000, loss 0.214, held-out 0.231, 18 samples/s, 0.9 GB, about 3 min left".

    remaining: say how long it will still take; not for a training that does not run.
    """
    if not log.lines:
        return "no step yet"
    last, total = log.lines[-1], log.total
    parts = [f"step {log.step} of {total}" if total else f"step {log.step}"]
    for key, words in (("loss", "loss"), ("held_out", "held-out"), ("psnr", "PSNR")):
        _, values = log.series(key)
        if values:
            parts.append(f"{words} {values[-1]:.4g}" + (" dB" if key == "psnr" else ""))
    _, speeds = log.samples_per_second()
    if speeds:
        parts.append(f"{speeds[-1]:.3g} samples/s")
    if last.get("memory_bytes"):
        parts.append(gigabytes(int(last["memory_bytes"])))
    pace = log.pace()
    if remaining and total and pace is not None and log.step < total:
        parts.append(f"about {duration(pace * (total - log.step))} left")
    diverged = [event for event in log.events if event.get("event") == "diverged"]
    if diverged and diverged[-1].get("step", 0) >= log.step:
        parts.append(f"diverged at step {diverged[-1].get('step')}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time in words: 8 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 86400:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86400, "d", 3600, "h")


def _two(seconds: int, size: int, unit: str, small: int, part: str) -> str:
    rest = seconds % size // small
    return f"{seconds // size} {unit}" + (f" {rest} {part}" if rest else "")
