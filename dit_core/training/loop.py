"""The loop that every training shares: step, clip, update, average, log, save; stops cleanly and can go on."""

from __future__ import annotations

import math
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from ..errors import ConfigError
from ..lock import folder_lock
from .callbacks import Callbacks
from .divergence import Divergence, DivergenceWatch, TrainingDiverged
from .log import LEVEL_COUNTS, LEVEL_SUMS, LOG, LogWriter, wait_for
from .optim import SCHEDULES, learning_rate, set_learning_rate
from .state import TrainingState

StepFunction = Callable[[int], tuple[Tensor, dict[str, Tensor]]]

__all__ = ["LoopSettings", "StepFunction", "TrainingDiverged", "run_loop", "stop_on_signal"]


@dataclass(frozen=True)
class LoopSettings:
    """How long to train and how the learning rate moves. Raises `ConfigError` naming the field.

    With `steps` = 0 the number of steps is worked out from `minutes` and the measured speed, once, and then kept in
    the state, so that a resumed run follows the same schedule.
    """

    steps: int = 0
    minutes: float = 0.0  # stop (resumably) after this long in this process; 0 = no limit
    batch: int = 32  # clips that pass the model at once
    warmup: int = 200
    decay: float = 0.3  # last share of the steps, over which the rate falls (schedule wsd)
    clip: float = 1.0  # gradient norm is clipped here
    save_every: float = 120.0  # seconds between saves; each waits for the next step, whose loss judges the weights
    log_every: int = 50
    accumulate: int = 1  # batches whose gradients make one step: as one of `batch * accumulate` clips, in less memory
    schedule: str = "wsd"  # wsd (warm-up, stable, decay) | cosine | constant, see `learning_rate`
    sample_every: int = 0  # steps between calls of `Callbacks.sample`; 0 = only at the end
    held_out_every: int = 0  # steps between measurements on held-out data; 0 = never

    def __post_init__(self) -> None:
        least = {"steps": 0, "batch": 1, "warmup": 0, "log_every": 1, "accumulate": 1, "sample_every": 0,
                 "held_out_every": 0}  # fmt: skip
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                self._refuse(name, f"a whole number of at least {low}")
        for name in ("minutes", "save_every"):
            if not getattr(self, name) >= 0:
                self._refuse(name, "a number of at least 0")
        if not 0 <= self.decay <= 1:
            self._refuse("decay", "a number from 0 to 1")
        if not (self.clip > 0 and math.isfinite(self.clip)):
            self._refuse("clip", "a number above 0")
        if self.schedule not in SCHEDULES:
            self._refuse("schedule", ", ".join(SCHEDULES))

    def _refuse(self, name: str, allowed: str) -> None:
        raise ConfigError(f"The training loop has {name} = {getattr(self, name)!r}; allowed is {allowed}.")


@contextmanager
def stop_on_signal():
    """Yields a function that says whether SIGINT or SIGTERM came; the step under way is finished first.

    Whoever heeds these signals outside is told as well; a second one ends the step under way, with `KeyboardInterrupt`.
    """
    stopped = []
    handlers = {}

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(True)
        outside = handlers.get(number)
        if callable(outside) and outside is not signal.default_int_handler:
            outside(number, frame)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, stop)
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
    callbacks: Callbacks | None = None,
    held_out: Callable[[], dict] | None = None,
    least_unit: float = 0.0,
) -> bool:
    """Train until the planned steps are done (returns True) or time, a signal or a callback stops it (False).

    Goes on from the state on disk if there is one, and saves however it ends, but for divergence, for an error in the
    middle of an update or of a discriminator's step, and for a stop just after the loss jumped: the state saved before
    that is worth more. `state.position["kept"]` is its step then, and an event in the log says so. With one thread on a
    CPU the result does not depend on how often it was stopped, bit for bit.

    Args:
        step_function: number of the batch (from 0, `accumulate` of them a step) -> loss and tensors to log. Two that it
            may tell are not logged: `watched` takes the place of the loss in the watch for divergence, `clips`, a whole
            number, is how many there were where that is not `batch`.
        held_out: what to log on held-out data, see `LoopSettings.held_out_every`; called in evaluation mode.
        least_unit: see `DivergenceWatch`; `NAT` where what is watched is a negative log-likelihood.

    Raises:
        TrainingDiverged: at which step and noise level; the state on disk is the last good one.
        CheckpointError: the state on disk belongs to another training, or cannot be read or written.
        FolderInUse: another training is at work in the folder.
    """
    with folder_lock(state.path.parent, "a training"), stop_on_signal() as stopped:
        state.load()
        return _Run(state, step_function, settings, callbacks or Callbacks(), held_out, least_unit).go(stopped)


class _Run:
    """One process's share of a training."""

    def __init__(self, state: TrainingState, step_function, settings, callbacks, held_out, least_unit) -> None:
        self.state, self.step_function, self.settings = state, step_function, settings
        self.callbacks, self.held_out = callbacks, held_out
        self.position = state.position
        if self.position["step"] == 0:  # what is made of it can be told from what another training of that name made
            self.position["run_id"] = uuid.uuid4().hex
        self.position["planned"] = settings.steps
        self.parameters = [p for module in state.modules.values() for p in module.parameters() if p.requires_grad]
        self.device = self.parameters[0].device if self.parameters else torch.device("cpu")
        self.log = LogWriter(
            state.path.parent / LOG, settings.log_every, callbacks.report, settings.steps or None, self.device
        )
        self.log.rewind(self.position["step"])
        self.watch = DivergenceWatch(least_unit)
        if not state.diverged():  # after a divergence the state is good by definition, whatever came before it
            self.watch.restore(state.watch)
        self.first, self.seconds_before = self.position["step"], self.position["seconds"]
        self.started = self.last_saved = time.monotonic()
        self.saved_step, self.whole = self.first, True
        self.save_due, self.factor = False, 1.0

    def go(self, stopped: Callable[[], bool]) -> bool:
        self.callbacks.begin(self.first)
        self.log.begin()
        try:
            while not self._done() and not (stopped() or self._out_of_time()):
                try:
                    self._step()
                    going = self._tell()
                except Divergence:
                    raise
                except BaseException:
                    if self.whole:  # the last step is, whatever became of the next one or a callback had against it
                        self._leave()
                    raise
                if not going:
                    break
            if self.position["step"] > self.first:
                self._leave()
                if self._done():
                    self._sample()
        except Divergence as found:
            raise self._diverged(found) from None
        return self._done()

    # -- when to end ------------------------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _total(self) -> int:
        """Steps planned; 0 = not known yet."""
        return self.settings.steps or self.position.get("total") or self._plan()

    def _done(self) -> bool:
        total = self._total()
        return bool(total) and self.position["step"] >= total

    def _out_of_time(self) -> bool:
        return bool(self.settings.minutes) and self._elapsed() > self.settings.minutes * 60

    def _plan(self) -> int:
        """Steps that fit into `minutes`, judged after the first hundred (the very first compile and are left out)."""
        position, minutes = self.position, self.settings.minutes
        done = position["step"] - self.first
        if done == 20:
            position["plan_from"] = self._elapsed()
        if done < 120 or not minutes or "plan_from" not in position:
            return 0
        wait_for(self.device)
        pace = (self._elapsed() - position.pop("plan_from")) / (done - 20)
        position["total"] = position["step"] + int(0.985 * (minutes * 60 - self._elapsed()) / pace)
        return position["total"]

    # -- one step ---------------------------------------------------------------------------------------------------

    def _factor(self) -> float:
        s = self.settings
        return learning_rate(self.position["step"], self._total() or 10**9, s.warmup, s.decay, schedule=s.schedule)

    def _step(self) -> None:
        state, position, count = self.state, self.position, self.settings.accumulate
        factor = self._factor()
        set_learning_rate(state.all_optimisers(), factor)
        values: dict[str, Tensor] = {}
        samples = 0
        self.whole = not state.rivals  # those step inside the step function
        for k in range(count):
            loss, told = self.step_function(position["step"] * count + k)
            (loss / count if count > 1 else loss).backward()
            samples += told.pop("clips", self.settings.batch)
            for name, value in {"loss": loss.detach(), **told}.items():
                share = value if count == 1 or name in (LEVEL_SUMS, LEVEL_COUNTS) else value / count
                values[name] = values[name] + share if name in values else share
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        watched = values.pop("watched", values["loss"])
        levels = (values[LEVEL_SUMS], values[LEVEL_COUNTS]) if LEVEL_SUMS in values else None
        self._watch(watched, norm, levels)  # before a bad gradient reaches the weights
        self.whole = False
        for optimiser in state.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        for average in state.averages.values():
            average.update(position["step"])
        position["step"] += 1
        position["samples"] += samples
        position["seconds"] = self.seconds_before + self._elapsed()
        self.whole, self.factor = True, factor
        self.line_due = self.log.add({"gradient_norm": norm, **values}, samples)

    def _watch(self, loss: Tensor, norm: Tensor, levels: tuple[Tensor, Tensor] | None) -> None:
        """Judge the step under way; a save that is due is made here, of the weights that it began with.

        Its loss is the first that these weights made: the update that led to them may be the one that spoiled them.
        """
        if self.save_due:
            self.watch.check()
        before = self.watch.to_dict() if self.save_due else None  # after a resume it is told of this step again
        self.watch.add(self.position["step"] + 1, loss, norm, levels)
        if self.save_due:
            self._save_unless_uneasy(before)

    def _tell(self) -> bool:
        """Everything that is not training; returns whether to go on."""
        step, settings = self.position["step"], self.settings
        more = {}
        if self.held_out is not None and settings.held_out_every and step % settings.held_out_every == 0:
            with self.log.paused(), self._evaluating(averaged=False):
                more = self.held_out()
        if self.line_due or more:
            self.watch.check()
            self.log.flush(self.position, self.factor, more)
        self.callbacks.step(step, self._total() or None)
        if settings.sample_every and step % settings.sample_every == 0 and not self._done():
            self._sample()
        if time.monotonic() - self.last_saved > settings.save_every:
            if self.state.rivals:  # the next step changes them before its loss is known
                self._save_unless_uneasy()
            else:
                self.save_due = True
        return not self.callbacks.stop()

    # -- in between -------------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        with self.log.paused(), self._evaluating(averaged=True):
            self.callbacks.sample(self.position["step"])

    @contextmanager
    def _evaluating(self, averaged: bool) -> Iterator[None]:
        """Evaluation mode, no gradients, averaged weights if asked; afterwards all is as it was, to the last bit."""
        modules = [m for module in self.state.all_modules() for m in module.modules()]
        modes = [module.training for module in modules]
        averages, swapped = self.state.averages.values() if averaged else (), []
        try:
            for average in averages:
                average.swap()
                swapped.append(average)
            for module in modules:
                module.training = False
            cards = [self.device] if self.device.type == "cuda" else []
            with torch.no_grad(), torch.random.fork_rng(cards):
                yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for average in swapped:
                average.swap()

    def _leave(self) -> None:
        """Save at the end or at a stop; at a stop just after the loss jumped keep the state before and say so."""
        self.watch.check()
        if self._done():
            self.watch.end(self.position["step"])
        elif self.watch.uneasy and self.position["step"] > self.saved_step:
            self.log.flush(self.position, self.factor)
            self.position["kept"] = self.saved_step
            left = (
                f"the state of step {self.saved_step} is kept"
                if self.state.path.exists()
                else "there is none from before, so that the training begins anew"
            )
            what = f"stopped just after the loss rose: the state of this step may be a bad one and is not saved; {left}"
            self.log.write({"event": "kept", "step": self.position["step"], "kept": self.saved_step, "what": what})
            return
        self._save()

    def _save_unless_uneasy(self, known: dict | None = None) -> None:
        self.watch.check()
        if not self.watch.uneasy:
            self._save(known)

    def _save(self, known: dict | None = None) -> None:
        """known: what the watch is to know after a resume; None = what it knows now."""
        self.save_due = False
        if self.position["step"] == self.saved_step:
            return
        self.watch.check()
        if not bool(torch.stack([p.detach().isfinite().all() for p in self.parameters]).all()):
            raise Divergence(self.position["step"], "weights are not finite any more", math.nan, None)
        if self._done() or known is None:
            self.log.flush(self.position, self.factor)
        else:
            self.log.flush_most(self.position, self.factor)
        self.state.watch = known or self.watch.to_dict()  # an exploded loss must not be what is usual after a resume
        with self.log.paused():
            self.state.save()
        self.last_saved, self.saved_step = time.monotonic(), self.position["step"]

    def _diverged(self, found: Divergence) -> TrainingDiverged:
        self.state.mark_diverged(found.step)  # first: whatever telling comes to, it may go on with a lower rate
        with suppress(Exception):
            self.log.write(found.event())
        kept = (
            f"The last good state, of step {self.saved_step}, is kept: begun again in {self.state.path.parent} with a "
            "lower learning rate, it goes on from there."
            if self.state.path.exists()
            else "No state was saved before. Begin again with a lower learning rate."
        )
        return TrainingDiverged(f"Training diverged at {found.where()}: {found.what}. {kept}")
