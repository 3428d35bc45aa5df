"""What several tests of the training begin from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sora_dit.dit_core.training.starter.recipe import TEXT

sys.path.insert(0, str(Path(__file__).parent))  # for what these tests share (toys.py, autoencoders.py)


@pytest.fixture(scope="session")
def small_text() -> dict:
    """The starter's text encoder, as small as it goes: 16 numbers a byte."""
    small = {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return TEXT | {"config": small | {"dropout_rate": 0.0}}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of several threads may differ in their last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
