"""What a training keeps when something around it fails: number type, averages, marker, log, counts, compiled blocks."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sora_dit.dit_core.autoencoder import AutoencoderConfig
from sora_dit.dit_core.errors import CheckpointError
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training import precision
from sora_dit.dit_core.training.autoencoder import AutoencoderTraining, new_autoencoder, train_autoencoder
from sora_dit.dit_core.training.callbacks import Callbacks
from sora_dit.dit_core.training.compiling import compiled, compiles
from sora_dit.dit_core.training.log import LogWriter
from sora_dit.dit_core.training.loop import LoopSettings, TrainingDiverged
from sora_dit.dit_core.training.optim import MovingAverage
from sora_dit.dit_core.training.reading import ReadingSettings, teach_reading
from sora_dit.dit_core.training.sky_data import LatentCache, SkySource
from sora_dit.dit_core.training.state import saved_position
from sora_dit.dit_core.training.transformer import TransformerTraining, draw_levels, train_transformer
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from toys import Toy

CPU = torch.device("cpu")
CONFIG = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, patch=(1, 1, 1))


def train(folder, steps, **changes):
    torch.manual_seed(0)
    text = TextEncoder.from_config(
        {"family": "t5", "tokenizer": "byt5", "max_length": 48,
         "config": {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}}
    )  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 250, (12, 2, 48), generator=generator).short()
    cache = LatentCache(torch.randn(12, 4, 3, 4, 4, generator=generator).half(), tokens)
    model = VideoDiT(CONFIG)
    loop = LoopSettings(steps=steps, batch=4, warmup=2, log_every=5)
    train_transformer(model, text, cache, folder, loop, TransformerTraining(**changes), CPU)
    return model


# --- Number type ---------------------------------------------------------------------------------------------------


def test_a_training_goes_on_in_the_number_type_that_it_began_in(tmp_path, monkeypatch):
    def auto_is(dtype):
        monkeypatch.setattr(precision, "training_dtype", lambda wanted, device: dtype)
        monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)

    auto_is(torch.bfloat16)
    train(tmp_path / "whole", 6)
    train(tmp_path / "parts", 3)
    auto_is(torch.float32)  # another process, in which the machine was busy while it was timed
    train(tmp_path / "parts", 6)
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert not [name for name in whole if not torch.equal(whole[name], parts[name])]
    assert saved_position(tmp_path / "parts")["precision"] == {"device": "cpu", "type": "bfloat16"}
    train(tmp_path / "other", 6)
    other = load_file(tmp_path / "other" / "state.safetensors")
    assert any(not torch.equal(whole[name], other[name]) for name in whole), "or this test could not fail"


@pytest.mark.parametrize(
    ("kept", "able", "expected"),
    [
        ({"device": "cuda", "type": "bfloat16"}, True, "float32"),  # from another kind of device
        ({"device": "cpu", "type": "bfloat16"}, False, "float32"),  # this CPU would take hundreds of times as long
        ({"device": "cpu", "type": "bfloat16"}, True, "bfloat16"),
        (None, True, "float32"),  # a state from before it was kept
    ],
)
def test_a_kept_number_type_is_no_rule_where_it_cannot_be_had(monkeypatch, kept, able, expected):
    monkeypatch.setattr(precision, "saved_position", lambda folder: {"precision": kept} if kept else {})
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: able)
    monkeypatch.setattr(precision, "training_dtype", lambda wanted, device: torch.float32)
    assert precision.settled("auto", "somewhere", CPU) == expected
    assert precision.settled("bfloat16", "somewhere", CPU) == "bfloat16"


# --- Compiling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("triton", "capability", "hip", "expected"),
    [(True, (9, 0), None, True), (False, (9, 0), None, False), (True, (6, 1), None, False), (True, (9, 0), "6", False)],
)
def test_unasked_only_what_can_be_compiled_is(monkeypatch, triton, capability, hip, expected):
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: triton)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    card = torch.device("cuda", 0)
    assert compiles(card) is expected
    assert compiles(card, True) and not compiles(card, False) and not compiles(CPU)


def test_blocks_are_compiled_while_they_train_and_no_longer(tmp_path, monkeypatch):
    calls = []

    def compile_(self):
        self._compiled_call_impl = lambda *args, **more: calls.append(1) or self._call_impl(*args, **more)

    monkeypatch.setattr(nn.Module, "compile", compile_)
    model = train(tmp_path, 2, compile=True)
    assert calls and all(block._compiled_call_impl is None for block in model.blocks)
    calls.clear()
    with pytest.raises(ValueError, match="stop"), compiled(model.blocks, CPU, True):
        raise ValueError("stop")
    assert all(block._compiled_call_impl is None for block in model.blocks)
    with compiled(model.blocks, CPU):
        assert all(block._compiled_call_impl is None for block in model.blocks), "nobody asked for it on a CPU"


# --- Averages, divergence, log -------------------------------------------------------------------------------------


def test_averages_are_exchanged_without_copies_and_back_to_the_last_bit():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    average = MovingAverage(layer, 0.9)
    with torch.no_grad():
        layer.weight.add_(1)
    now, mean = layer.weight.detach().clone(), average.values["weight"].clone()
    storages = {layer.weight.data_ptr(), average.values["weight"].data_ptr()}
    average.swap()
    assert torch.equal(layer.weight, mean) and torch.equal(average.values["weight"], now)
    assert {layer.weight.data_ptr(), average.values["weight"].data_ptr()} == storages, "no memory that could run out"
    average.swap()
    assert torch.equal(layer.weight, now) and torch.equal(average.values["weight"], mean)


def test_a_second_average_that_fails_leaves_the_weights_of_the_step(tmp_path):
    def full():
        raise torch.OutOfMemoryError("no room")

    toy, whole = Toy(tmp_path / "a"), Toy(tmp_path / "b")
    toy.state.averages["other"] = MovingAverage(toy.layer, 0.5)
    toy.state.averages["other"].swap = full
    with pytest.raises(torch.OutOfMemoryError):
        toy.run(6, Callbacks(sample=lambda step: None), sample_every=3)
    whole.run(3)
    a, b = (load_file(tmp_path / name / "state.safetensors") for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_a_divergence_that_cannot_be_told_still_lets_it_go_on_with_a_lower_rate(tmp_path):
    def report(line: dict) -> None:
        if "event" in line:
            raise OSError(errno.ENOSPC, "full")

    Toy(tmp_path).run(30)
    with pytest.raises(TrainingDiverged, match="goes on from there"):
        Toy(tmp_path, spoil=lambda number, loss: loss * math.nan if number >= 35 else loss).run(
            60, Callbacks(report=report)
        )
    lower = Toy(tmp_path, lr=0.001)
    assert lower.run(60) and lower.state.position["step"] == 60


def test_a_log_that_cannot_be_rewound_is_said_and_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 9}\n', encoding="utf-8")

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CheckpointError, match=r"log\.jsonl cannot be brought to step 5.*the disk is full"):
        LogWriter(path, 1, lambda line: None).rewind(5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.jsonl"]
    assert len(path.read_text().splitlines()) == 2
    monkeypatch.undo()
    LogWriter(path, 1, lambda line: None).rewind(5)
    assert path.read_text() == '{"step": 1}\n'


def test_clips_are_counted_as_they_came(tmp_path):
    source, training = SkySource(seed=1, frames=5, height=16, width=16), AutoencoderTraining(sizes=(16, 32))
    config = AutoencoderConfig(
        latent_channels=4, encoder_channels=(4, 4, 4), decoder_channels=(4, 4, 4), encoder_blocks=0, decoder_blocks=0
    )
    torch.manual_seed(0)
    model = new_autoencoder(config, source, training, CPU)
    loop = LoopSettings(steps=4, batch=4, warmup=0, log_every=1)
    _, position, _ = train_autoencoder(model, source, tmp_path, loop, training, CPU)
    assert position["samples"] == 4 + 1 + 4 + 1  # of the larger size there are a quarter as many
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["samples"] == 10 and "clips" not in last


# --- Reading -------------------------------------------------------------------------------------------------------


def encoder(dropout: float = 0.1) -> TextEncoder:
    torch.manual_seed(0)
    settings = {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return TextEncoder.from_config(
        {"family": "t5", "tokenizer": "byt5", "max_length": 48, "config": settings | {"dropout_rate": dropout}}
    )


def read(folder, steps, text=None, **changes):
    return teach_reading(
        text or encoder(), folder, LoopSettings(steps=steps, batch=4, warmup=1), ReadingSettings(**changes), CPU
    )


def test_an_encoder_with_dropout_goes_on_reading_bit_for_bit(tmp_path):
    read(tmp_path / "whole", 6)
    read(tmp_path / "parts", 3)
    read(tmp_path / "parts", 6)
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert not [name for name in whole if not torch.equal(whole[name], parts[name])]


def test_reading_that_diverged_goes_on_with_a_lower_rate_and_with_no_other_encoder(tmp_path):
    read(tmp_path, 3, anchor=1.0, lr=2e-3)
    other = encoder()
    with torch.no_grad():
        next(other.module.parameters()).add_(1)
    with pytest.raises(CheckpointError, match="anchored_to is another one"):
        read(tmp_path, 4, other, anchor=1.0, lr=2e-3)
    (tmp_path / "diverged.json").write_text('{"step": 4}')
    with pytest.raises(CheckpointError, match=r"reading\.lr was 0\.002 and is 0\.003"):
        read(tmp_path, 4, anchor=1.0, lr=3e-3)
    assert read(tmp_path, 4, anchor=1.0, lr=1e-3)[1]


# --- Apple's GPUs --------------------------------------------------------------------------------------------------


class NoFloat64(TorchDispatchMode):
    """As on a device that has no float64; tensors of the CPU may be of it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float64 and out.device.type == "meta":
            raise TypeError(f"{func}: the device has no float64")
        return out


@pytest.mark.parametrize("encoding", ["sinusoidal", "binary"])
def test_the_model_needs_no_float64_of_its_device(encoding):
    config = replace(CONFIG, timestep_encoding=encoding, frame_position=2, text="both")
    with torch.device("meta"):
        model = VideoDiT(config)
        x, timestep = torch.empty(1, 4, 2, 4, 4), torch.empty(1)
        text, mask, pooled = torch.empty(1, 3, 16), torch.empty(1, 3, dtype=torch.bool), torch.empty(1, 16)
    with NoFloat64():
        assert model(x, timestep, text, mask, pooled).shape == x.shape
        with pytest.raises(TypeError):
            torch.empty(1, device="meta").double()


def test_noise_levels_are_those_of_the_normal_distribution():
    generator = torch.Generator().manual_seed(0)
    level = draw_levels(4000, TransformerTraining(timestep_mean=0.5, timestep_std=0.8, uniform=0.0), generator)
    logit = torch.logit(level.double())
    assert abs(logit.mean() - 0.5) < 0.01 and abs(logit.std() - 0.8) < 0.01
