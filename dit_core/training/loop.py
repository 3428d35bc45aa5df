"""The loop that every training shares: step, clip, update, average, log, save; stops cleanly and can go on."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import SoraDiTError
from .optim import learning_rate, set_learning_rate
from .state import TrainingState

StepFunction = Callable[[int], tuple[Tensor, dict[str, Tensor]]]


class TrainingDiverged(SoraDiTError):
    """The loss is not a number any more; the last good state is kept."""


@dataclass(frozen=True)
class LoopSettings:
    """How long to train and how the learning rate moves.

    With `steps` = 0 the number of steps is worked out from `minutes` and the measured speed, once, and then kept in
    the state, so that a resumed run follows the same schedule.
    """

    steps: int = 0
    minutes: float = 0.0  # stop (resumably) after this long in this process; 0 = no limit
    batch: int = 32
    warmup: int = 200
    decay: float = 0.3  # last share of the steps, over which the rate falls
    clip: float = 1.0  # gradient norm is clipped here
    save_every: float = 120.0  # seconds between saves
    log_every: int = 50


@contextmanager
def stop_on_signal():
    """Yields a function that says whether SIGINT or SIGTERM came; the step under way is finished first."""
    stopped = []
    handlers = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, lambda *_: stopped.append(True))
    except ValueError:  # not the main thread: whoever started us has to stop us
        pass
    try:
        yield lambda: bool(stopped)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run_loop(
    state: TrainingState,
    step_function: StepFunction,
    settings: LoopSettings,
    report: Callable[[dict], None] | None = None,
) -> bool:
    """Train until the planned steps are done (returns True) or time or a signal stops it (False); saves either way.

    `step_function(step)` returns the loss and tensors to log. Raises `TrainingDiverged` when the loss stops being a
    finite number; the state on disk is then the last one saved.
    """
    log = _Log(state.path.parent / "log.jsonl", settings.log_every, report)
    parameters = [p for module in state.modules.values() for p in module.parameters() if p.requires_grad]
    position = state.position
    started = last_saved = time.monotonic()
    seconds_before = position["seconds"]
    first = position["step"]
    with stop_on_signal() as stopped:
        while True:
            elapsed = time.monotonic() - started
            total = position.get("total") or settings.steps or _plan(position, settings, first, elapsed)
            if total and position["step"] >= total:
                break
            if stopped() or (settings.minutes and elapsed > settings.minutes * 60):
                break
            factor = learning_rate(position["step"], total or 10**9, settings.warmup, settings.decay)
            norm, values = _update(state, step_function, factor, parameters, settings.clip)
            position["step"] += 1
            position["samples"] += settings.batch
            position["seconds"] = seconds_before + time.monotonic() - started
            log.add(position, factor, norm, values)
            if time.monotonic() - last_saved > settings.save_every:
                log.flush(position, factor)
                state.save()
                last_saved = time.monotonic()
    log.flush(position, learning_rate(position["step"], total or 10**9, settings.warmup, settings.decay))
    state.save()
    return bool(total) and position["step"] >= total


def _plan(position: dict, settings: LoopSettings, first: int, elapsed: float) -> int:
    """Steps that fit into `minutes`, judged after the first hundred (the very first compile and are left out)."""
    done = position["step"] - first
    if done == 20:
        position["plan_from"] = elapsed
    if done < 120 or not settings.minutes or "plan_from" not in position:
        return 0
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    pace = (elapsed - position.pop("plan_from")) / (done - 20)
    position["total"] = position["step"] + int(0.985 * (settings.minutes * 60 - elapsed) / pace)
    return position["total"]


def _update(
    state: TrainingState, step_function: StepFunction, factor: float, parameters: list[Tensor], clip: float
) -> tuple[Tensor, dict]:
    set_learning_rate(state.all_optimisers(), factor)
    loss, values = step_function(state.position["step"])
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
    for optimiser in state.optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    for average in state.averages.values():
        average.update(state.position["step"])
    return norm, {"loss": loss.detach(), **values}


class _Log:
    """Means over `every` steps, kept on the device until written, so that logging does not stall a GPU."""

    def __init__(self, path: Path, every: int, report: Callable[[dict], None] | None) -> None:
        self.path, self.every, self.report = path, every, report
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}  # one for each name: a value may be there from some step on
        self.count = 0
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, position: dict, factor: float, norm: Tensor, values: dict[str, Tensor]) -> None:
        for name, value in {"gradient_norm": norm, **values}.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1
        self.count += 1
        if self.count >= self.every:
            self.flush(position, factor)

    def flush(self, position: dict, factor: float) -> None:
        if not self.count:
            return
        line: dict = {
            "step": position["step"],
            "samples": position["samples"],
            "total": position.get("total"),
            "seconds": round(position["seconds"], 1),
            "rate": round(factor, 4),
        }
        for name, value in self.sums.items():
            mean = (value / self.counts[name]).tolist()
            line[name] = [round(m, 5) for m in mean] if isinstance(mean, list) else round(mean, 5)
        self.sums, self.counts, self.count = {}, {}, 0
        position["loss"] = line["loss"]
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        if self.report:
            self.report(line)
        if not math.isfinite(line["loss"]):
            raise TrainingDiverged(
                f"Training diverged before step {position['step']}: the loss is {line['loss']}; the "
                f"last good state is in {self.path.parent}. Try a lower learning rate."
            )
