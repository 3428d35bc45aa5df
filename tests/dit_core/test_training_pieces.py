"""What a step of training is made of, piece by piece, against torch's own or a formula worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from sora_dit.dit_core.latents.protocol import Batch
from sora_dit.dit_core.training import loop as loops
from sora_dit.dit_core.training.feed import feed_of
from sora_dit.dit_core.training.optim import MovingAverage, Muon
from sora_dit.dit_core.training.seeding import generator_of_step
from sora_dit.dit_core.training.sky_data import SkySource
from sora_dit.dit_core.training.transformer import HELD_OUT_CLIPS, TransformerTraining, drop_captions, held_out_loss
from torch import nn

from .test_training import models
from .toys import Toy


def test_muon_steps_as_the_one_of_torch():
    """Which orthogonalises in bfloat16: so its steps are known to a few hundredths."""
    torch.manual_seed(0)
    start, gradients = torch.randn(24, 40), torch.randn(4, 24, 40)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    setting = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    for optimiser, weight in (
        (Muon([ours], **setting), ours),
        (torch.optim.Muon([theirs], **setting, nesterov=True, adjust_lr_fn="match_rms_adamw"), theirs),
    ):
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimiser.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved and moved > 0.5


def test_the_average_forgets_its_start_at_first_and_then_is_slow():
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average, expected = MovingAverage(layer, 0.5), 0.0
    for step, (value, decay) in enumerate([(4.0, 1 / 10), (1.0, 2 / 11), (3.0, 3 / 12), (2.0, 4 / 13)]):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update(step)
        expected = decay * expected + (1 - decay) * value
        assert average.values["weight"].item() == pytest.approx(expected)
    average.update(1000)  # min(0.5, 1001 / 1010)
    assert average.values["weight"].item() == pytest.approx(0.5 * expected + 0.5 * 2.0)


def test_captions_are_dropped_in_their_share_and_as_a_whole():
    end, rows = torch.tensor([1]), 4000
    tokens = torch.arange(2, 7).repeat(rows, 1)
    generator = torch.Generator().manual_seed(3)
    kept = drop_captions(tokens, 0.25, end, generator)
    empty = (kept == torch.tensor([1, 0, 0, 0, 0])).all(1)
    assert ((kept == tokens).all(1) | empty).all(), "each caption is whole or empty"
    assert empty.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(drop_captions(tokens, 0.0, end, generator), tokens)
    assert drop_captions(tokens, 1.0, end, generator).tolist() == [[1]] * rows, "and no work is left for padding"


class Told:
    """Latents that write down how often, and from which random numbers, they are drawn."""

    def __init__(self) -> None:
        self.draws = []

    def __len__(self) -> int:
        return 8

    def draw(self, batch: int, generator: torch.Generator) -> Batch:
        self.draws.append((batch, generator.initial_seed()))
        return Batch(torch.randn(batch, 4, 2, 4, 4, generator=generator), torch.ones(batch, 3, dtype=torch.long))


@pytest.mark.parametrize("batch", [5, 48, 100])
def test_held_out_clips_are_drawn_often_enough_and_as_no_step_draws(batch):
    model, text = models()
    told, training = Told(), TransformerTraining(seed=7)
    measure = held_out_loss(model, text, told, batch, training, torch.device("cpu"))
    with torch.no_grad():
        first, second = measure(), measure()
    assert first == second and len(first["held_out_level_loss"]) == 8
    count = len(told.draws) // 2
    assert HELD_OUT_CLIPS <= count * batch < HELD_OUT_CLIPS + batch and told.draws[:count] == told.draws[count:]
    drawn = {seed for _, seed in told.draws}
    assert len(drawn) == count
    assert not drawn & {generator_of_step(7, step).initial_seed() for step in range(100_000)}


def test_a_training_of_minutes_plans_what_fits_and_ends_with_its_schedule(tmp_path, monkeypatch):
    """A step takes a second here, the first twenty ten times as long, as where something is compiled."""
    toy, now = Toy(tmp_path), [0.0]
    monkeypatch.setattr(loops.time, "monotonic", lambda: now[0])
    real = toy.step

    def step(number):
        now[0] += 10.0 if number < 20 else 1.0
        return real(number)

    toy.step = step
    assert toy.run(0, minutes=10.0, schedule="wsd", decay=0.2)
    # 200 s for the first 20, 100 s for the next 100; of the 300 s that are left 98.5 % at one second each
    assert toy.state.position["total"] == 120 + int(0.985 * 300) == toy.state.position["step"]
    assert now[0] <= 600


def test_a_training_that_runs_out_of_minutes_goes_on_where_it_was(tmp_path, monkeypatch):
    toy, now = Toy(tmp_path), [0.0]
    monkeypatch.setattr(loops.time, "monotonic", lambda: now[0])
    real = toy.step

    def step(number):
        now[0] += 1.0
        return real(number)

    toy.step = step
    assert not toy.run(500, minutes=0.5)
    assert toy.state.position["step"] == 31  # the one that ends after half a minute
    again = Toy(tmp_path)
    assert not again.run(40, minutes=0.0, callbacks=stop_after(35)) and again.state.position["step"] == 35


def stop_after(step: int) -> loops.Callbacks:
    seen = []
    return loops.Callbacks(step=lambda now, total: seen.append(now), stop=lambda: seen[-1] >= step)


def test_skies_of_several_sizes_come_in_turn_and_a_step_costs_about_the_same():
    source = replace(SkySource(seed=3), frames=1)
    feed = feed_of(source, 8, (16, 32, 64))
    shapes = [tuple(feed.batch(number, torch.device("cpu")).shape) for number in range(4)]
    assert shapes == [(8, 3, 1, 16, 16), (2, 3, 1, 32, 32), (1, 3, 1, 64, 64), (8, 3, 1, 16, 16)]
    first = [feed.batch(number, torch.device("cpu"))[0] for number in (0, 3)]
    assert not torch.equal(*first), "no clip comes twice"
    expected = replace(source, height=16, width=16).clips(24, 8, "cpu")
    assert torch.equal(feed.batch(3, torch.device("cpu")), expected)
    some = list(feed_of(source, 4, (16,)).some(10, torch.device("cpu")))
    assert [len(batch) for batch in some] == [4, 4, 4]
    assert math.prod(some[0].shape[-2:]) == 128 * 128
