"""Lines of a training's log: what a save in the middle of a step does to them."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.training import log as logs
from sora_dit.dit_core.training.log import LogWriter


@pytest.fixture
def clock(monkeypatch):
    """Seconds, set by hand."""
    now = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    return now


def test_a_line_that_a_save_writes_counts_the_time_of_its_own_steps(tmp_path, clock):
    lines = []
    log = LogWriter(tmp_path / "log.jsonl", 4, lines.append)
    position = {"step": 0, "samples": 0, "seconds": 0.0}

    def step(seconds: float = 2.0) -> None:
        clock[0] += seconds
        log.add({"loss": torch.tensor(1.0)}, samples=8)
        position["step"] += 1

    log.begin()
    step()
    log.flush_most(position, 1.0)  # one of four: it waits
    assert lines == []
    step()
    clock[0] += 1.0  # half of the next step is done when the state is saved
    log.flush_most(position, 1.0)
    with log.paused():
        clock[0] += 30.0
    step(1.0)
    with log.paused():  # samples
        clock[0] += 50.0
    step()
    log.flush(position, 1.0)
    assert [line["step"] for line in lines] == [2, 4]
    assert [line["samples_per_second"] for line in lines] == [4.0, 4.0]
