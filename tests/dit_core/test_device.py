"""Device and number type: `auto` on machines with and without a GPU, and choices that cannot be met."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core import device
from sora_dit.dit_core.device import autocast, resolve_device, resolve_dtype, training_dtype
from sora_dit.dit_core.errors import ConfigError


@pytest.fixture
def machine(monkeypatch):
    def pretend(cuda=0, mps=False, capability=(9, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", "13.0" if cuda else None)
        monkeypatch.setattr(torch.version, "hip", None)

    return pretend


def test_auto_takes_the_best_device(machine):
    machine()
    assert resolve_device() == torch.device("cpu")
    machine(mps=True)
    assert resolve_device("auto") == torch.device("mps")
    machine(cuda=2, mps=True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)  # with a number
    assert resolve_device(" CUDA:1 ") == torch.device("cuda", 1)
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device(torch.device("xpu", 0)) == torch.device("xpu", 0)


@pytest.mark.parametrize(
    ("choice", "cuda", "words"),
    [
        ("cuda", 0, ["'cuda'", "installed without it", "auto or cpu"]),
        ("cuda:1", 1, ["'cuda:1'", "has cuda:0."]),
        ("cuda:9", 3, ["'cuda:9'", "cuda:0 to cuda:2"]),
        ("mps", 0, ["'mps'", "no Apple GPU"]),
        ("gpu", 0, ["'gpu'", "auto, cpu, cuda"]),
        ("cuda:x", 1, ["'cuda:x'", "auto, cpu, cuda"]),
        ("cuda:-1", 1, ["'cuda:-1'", "auto, cpu, cuda"]),
        ("cuda:", 1, ["'cuda:'", "auto, cpu, cuda"]),
        ("cpu:3", 0, ["'cpu:3'", "only one"]),
        ("", 0, ["''", "auto, cpu, cuda"]),
    ],
)
def test_devices_that_are_not_there(machine, choice, cuda, words):
    machine(cuda=cuda)
    with pytest.raises(ConfigError) as caught:
        resolve_device(choice)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_auto_type_by_device(machine):
    machine(cuda=1)
    assert resolve_dtype("auto", "cpu") == torch.float32
    assert resolve_dtype("auto", torch.device("cuda")) == torch.bfloat16
    machine(cuda=1, capability=(7, 5))
    assert resolve_dtype("auto", "cuda:0") == torch.float16


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_chosen_type_is_taken(name):
    assert resolve_dtype(name, "cpu") == resolve_dtype(getattr(torch, name), "cuda") == getattr(torch, name)


@pytest.mark.parametrize("choice", ["half", "float64", "", torch.int8])
def test_unknown_types(choice):
    with pytest.raises(ConfigError, match="expected auto, float32, bfloat16, float16"):
        resolve_dtype(choice, "cpu")


@pytest.fixture
def measured(monkeypatch):
    """Makes products of the two types take so long; the measurement is not remembered from test to test."""

    def pretend(**seconds):
        device._bfloat16_was_faster.cache_clear()
        monkeypatch.setattr(device, "_product_seconds", lambda kind: seconds[str(kind).removeprefix("torch.")])

    yield pretend
    device._bfloat16_was_faster.cache_clear()


@pytest.mark.parametrize("has", [{"amx_bf16"}, {"avx512_bf16"}, set()])
@pytest.mark.parametrize("faster", [True, False])
def test_a_training_on_a_cpu_multiplies_in_what_the_cpu_does_fast(monkeypatch, measured, has, faster):
    found = {name: name in has for name in ("amx_bf16", "avx512_bf16", "avx2")}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    measured(float32=2.0, bfloat16=0.5 if faster else 3.6)  # an instruction for it may be the slower one
    assert training_dtype("auto", "cpu") is (torch.bfloat16 if has and faster else torch.float32)
    assert training_dtype("float32", "cpu") is torch.float32
    assert resolve_dtype("auto", "cpu") is torch.float32  # a clip is made in float32 all the same


def test_products_are_timed_once_and_the_best_time_counts(monkeypatch):
    times = iter([9.0, 3.0, 2.0, 9.0, *[9.0] * 6])  # float32 and bfloat16 in turn; a busy moment meets either
    monkeypatch.setattr(device, "_product_seconds", lambda kind: next(times))
    device._bfloat16_was_faster.cache_clear()
    assert device._bfloat16_was_faster() is False
    assert device._bfloat16_was_faster() is False, "nothing is left to be timed"
    device._bfloat16_was_faster.cache_clear()
    times = iter([9.0, 3.0] * 5)
    assert device._bfloat16_was_faster() is True
    device._bfloat16_was_faster.cache_clear()
    monkeypatch.undo()
    assert device._product_seconds(torch.float32) > 0


def test_float32_needs_no_autocast_of_its_device_and_ends_one_around_it():
    with autocast(torch.device("privateuseone")):  # torch.autocast itself refuses DirectML, even switched off
        pass
    one = torch.ones(2, 2)
    with autocast(torch.device("cpu"), torch.bfloat16):
        assert (one @ one).dtype == torch.bfloat16
        with autocast(torch.device("cpu")):
            assert (one @ one).dtype == torch.float32
