"""What a training tells while it runs, and how it is asked to stop: plain functions, all of them optional."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _nothing(*_) -> None:
    pass


def _go_on() -> bool:
    return False


@dataclass(frozen=True)
class Callbacks:
    """All but the last are called between two steps, where the state is whole: it is saved when one of them raises.

    Attributes:
        report: gets each line of the log as a dict, after it was written.
        step: gets the number of steps done and the steps planned (None while that is not known yet).
        stop: asked after every step; True = save and return.
        sample: gets the number of steps done; called every `LoopSettings.sample_every` steps and when all are done,
            with the averaged weights in place, in evaluation mode, without gradients. It may draw random numbers.
        begin: gets the step that is gone on from, 0 for a training that begins; called once, with the folder locked.
            The log in it ends there by then, whatever another process had logged before it was killed.
    """

    report: Callable[[dict], object] = _nothing
    step: Callable[[int, int | None], object] = _nothing
    stop: Callable[[], bool] = _go_on
    sample: Callable[[int], object] = _nothing
    begin: Callable[[int], object] = _nothing
