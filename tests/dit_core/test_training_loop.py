"""The loop of every training: schedules, accumulation, what is told, divergence, a full disk."""

import json
import math
import random
import re
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from sora_dit.dit_core.errors import CheckpointError, ConfigError
from sora_dit.dit_core.training.autoencoder import AutoencoderTraining
from sora_dit.dit_core.training.callbacks import Callbacks
from sora_dit.dit_core.training.divergence import NAT, Divergence, DivergenceWatch
from sora_dit.dit_core.training.loop import LoopSettings, TrainingDiverged, stop_on_signal
from sora_dit.dit_core.training.optim import learning_rate
from sora_dit.dit_core.training.transformer import TransformerTraining
from toys import NEVER, Toy


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_each_field_of_the_settings_is_checked_by_name():
    bad = dict(steps=-1, minutes=-1.0, batch=0, warmup=-1, decay=1.5, clip=0.0, save_every=-1.0, log_every=0,
               accumulate=0, schedule="stairs", sample_every=-1, held_out_every=2.5)  # fmt: skip
    assert set(bad) == set(LoopSettings.__dataclass_fields__)
    for name, value in bad.items():
        with pytest.raises(ConfigError, match=rf"training loop has {name} = {value!r}; allowed is "):
            LoopSettings(**{name: value})


def test_a_transformers_training_is_checked_by_name_too():
    bad = dict(optimiser="adma", lr=0.0, weight_decay=-1.0, ema=1.5, uniform=-0.1, caption_dropout=2.0, known=1.1,
               timestep_std=0.0)  # fmt: skip
    endless = [(name, value) for name in ("lr", "weight_decay", "timestep_std") for value in (math.inf, math.nan)]
    for name, value in [*bad.items(), *endless, ("timestep_mean", math.nan)]:
        with pytest.raises(ConfigError, match=rf"The training has {name} = {value!r}; allowed is "):
            TransformerTraining(**{name: value})


def test_an_autoencoders_training_is_checked_by_name_too():
    bad = dict(optimiser="lion", lr=-1.0, weight_decay=-1.0, ema=3.0, squared=math.nan, edges=-1.0,
               perceptual=math.inf, kl=-1.0, sizes=())  # fmt: skip
    for name, value in bad.items():
        with pytest.raises(ConfigError, match=rf"The training has {name} = {re.escape(repr(value))}; allowed is "):
            AutoencoderTraining(**{name: value})


def test_what_was_learned_is_kept_when_a_step_fails(tmp_path):
    def out_of_memory(number, loss):
        if number == 5:
            raise MemoryError("no room")
        return loss

    toy = Toy(tmp_path / "a", spoil=out_of_memory)
    with pytest.raises(MemoryError, match="no room"):
        toy.run(8)
    whole = Toy(tmp_path / "b")
    whole.run(5)
    states = [load_file(tmp_path / name / "state.safetensors") for name in "ab"]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    again = Toy(tmp_path / "a")
    again.run(8)
    assert again.state.position["step"] == 8


def test_more_steps_than_a_time_limit_once_planned_are_done(tmp_path):
    toy = Toy(tmp_path)
    toy.run(4)
    toy.state.position["total"] = 4  # as a run of so many minutes leaves it
    toy.state.save()
    more = Toy(tmp_path)
    assert more.run(6) and more.state.position["step"] == 6


def test_schedules():
    cosine = [learning_rate(step, 110, 10, 0.3, schedule="cosine") for step in range(111)]
    assert cosine[0] == pytest.approx(0.1) and cosine[10] == 1.0 and cosine[110] == pytest.approx(0.02)
    assert cosine[60] == pytest.approx(0.51) and cosine[35] == pytest.approx(0.02 + 0.98 * 0.5 * (1 + math.sqrt(0.5)))
    assert [learning_rate(s, 110, 10, 0.3, schedule="constant") for s in (4, 10, 109)] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["wsd", "cosine"])
def test_the_optimiser_has_the_rate_that_the_schedule_says(tmp_path, schedule):
    toy, rates = Toy(tmp_path, lr=0.01), []

    def step(number):
        rates.append(toy.state.optimisers[0].param_groups[0]["lr"])
        return Toy.step(toy, number)

    toy.step = step
    toy.run(20, warmup=5, schedule=schedule, decay=0.5)
    assert rates == pytest.approx([0.01 * learning_rate(k, 20, 5, 0.5, schedule=schedule) for k in range(20)])


def test_a_large_gradient_is_shortened_and_logged_in_its_length(tmp_path):
    toy = Toy(tmp_path, spoil=lambda number, loss: 1e4 * loss)
    toy.state.optimisers[0] = torch.optim.SGD([{"params": list(toy.layer.parameters()), "peak_lr": 0.1}], lr=0.1)
    before = torch.cat([p.detach().flatten().clone() for p in toy.layer.parameters()])
    toy.run(1, clip=0.5)
    after = torch.cat([p.detach().flatten() for p in toy.layer.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.1 * 0.5, rel=1e-3)
    assert lines(tmp_path)[0]["gradient_norm"] > 100


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    toy, alone = Toy(tmp_path / "a", lr=0.1), Toy(tmp_path / "b", lr=0.1)
    toy.run(2, accumulate=3, clip=NEVER)
    for step in range(2):
        sum(alone.step(3 * step + k)[0] for k in range(3)).div(3).backward()
        alone.state.optimisers[0].step()
        alone.state.optimisers[0].zero_grad()
    for p, q in zip(toy.layer.parameters(), alone.layer.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert toy.state.position["samples"] == 2 * 3 * 8
    assert lines(tmp_path / "a")[0]["samples"] == 48


def test_samples_are_made_with_averaged_weights_in_evaluation_mode_and_leave_no_trace(tmp_path):
    seen = []

    def sample(step):
        now = next(toy.layer.parameters()).clone()
        assert not toy.layer.training and not toy.layer[1].training and not torch.is_grad_enabled()
        torch.manual_seed(99)
        seen.append((step, now, next(iter(toy.average.values.values())).clone()))

    toy = Toy(tmp_path / "a")
    toy.run(8, Callbacks(sample=sample), sample_every=3)
    plain = Toy(tmp_path / "b")
    plain.run(8)
    assert [step for step, *_ in seen] == [3, 6, 8]
    states = [load_file(tmp_path / name / "state.safetensors") for name in "ab"]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    assert torch.equal(seen[-1][1], states[1]["average.toy.0.weight"]), (
        "the weights a sample sees are the averaged ones"
    )
    assert torch.equal(seen[-1][2], states[1]["module.toy.0.weight"]), "the live ones wait meanwhile"


def test_the_log_says_held_out_values_and_speed_without_the_pauses(tmp_path):
    def held_out():
        time.sleep(0.2)
        return {"held_out": 0.5, "held_out_level_loss": [None] * 8}

    Toy(tmp_path, levels=True).run(6, held_out=held_out, held_out_every=4, log_every=100)
    first, last = lines(tmp_path)
    assert first["step"] == 4 and first["held_out"] == 0.5 and last["step"] == 6 and "held_out" not in last
    assert first["level_loss"][:5] == [1.0] * 5 and first["level_loss"][5] == pytest.approx(first["loss"], rel=1e-3)
    assert {"samples", "total", "seconds", "rate", "gradient_norm", "memory_bytes"} <= set(first)
    assert first["samples_per_second"] > 8 / 0.1 and "level_count" not in first


def test_a_torn_line_of_the_log_and_lines_ahead_of_the_state_go(tmp_path):
    Toy(tmp_path).run(4, log_every=2)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 6, "loss": 1}\n{"step": 8, "lo')
    Toy(tmp_path).run(10, log_every=2)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6, 8, 10]


def test_what_a_power_cut_leaves_in_the_log_stops_no_training(tmp_path):
    Toy(tmp_path).run(4, log_every=2)
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b'\xff\xfe\x00garbage\n\0\0\0{"step": 3, \xa0')
    assert Toy(tmp_path).run(6, log_every=2)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize("kind", ["nan", "explosion"])
def test_divergence_names_step_and_noise_level_and_keeps_the_last_good_state(tmp_path, kind):
    def spoil(number, loss):
        if number < 200:
            return loss + 1.0
        return loss * math.nan if kind == "nan" else (loss + 1.0) * 100

    toy = Toy(tmp_path, lr=0.01, levels=True)
    toy.run(100)
    good = (tmp_path / "state.safetensors").read_bytes()
    told = []
    broken = Toy(tmp_path, lr=0.01, spoil=spoil, levels=True)
    with pytest.raises(TrainingDiverged) as error:
        broken.run(400, Callbacks(report=told.append))
    step = 201 if kind == "nan" else broken.state.position["step"] + 1
    assert 201 <= step <= 216
    words = str(error.value)
    assert words.startswith(f"Training diverged at step {step}, at noise levels 0.625 to 0.75: the loss ")
    assert "last good state, of step 100, is kept" in words and "lower learning rate" in words
    assert (tmp_path / "state.safetensors").read_bytes() == good
    event = lines(tmp_path)[-1]
    assert event == told[-1] and (event["event"], event["step"], event["noise_level"]) == (
        "diverged",
        step,
        [0.625, 0.75],
    )

    with pytest.raises(CheckpointError, match="training.lr was 0.01 and is 0.02"):
        Toy(tmp_path, lr=0.02).run(120)
    lower = Toy(tmp_path, lr=0.001)
    assert lower.run(120) and lower.state.position["step"] == 120
    with pytest.raises(CheckpointError, match="training.lr was 0.001 and is 0.0001"):  # it did not diverge again
        Toy(tmp_path, lr=0.0001).run(130)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    with pytest.raises(TrainingDiverged, match="No state was saved before"):
        Toy(tmp_path, lr=math.inf).run(1)
    assert not (tmp_path / "state.safetensors").exists()


def follow(losses, least_unit=0.0) -> int | None:
    """The step at which the watch gives up, None if it never does."""
    watch = DivergenceWatch(least_unit)
    try:
        for step, loss in enumerate(losses, 1):
            watch.add(step, torch.tensor(loss), torch.tensor(1.0))
    except Divergence as found:
        return found.step
    return None


def test_the_watch_lets_noise_pass_and_catches_explosions():
    noise = random.Random(5)
    # batches of one clip: the loss of a noisy clip is a hundred times that of a clean one
    assert follow(math.exp(noise.gauss(-3, 1.2)) for _ in range(5000)) is None
    assert follow(1.0 / (1 + step / 20) + noise.random() * 0.1 for step in range(2000)) is None
    # a likelihood crosses zero and stays below it
    assert follow(1.0 - 3 * min(1, step / 500) + noise.gauss(0, 0.05) for step in range(3000)) is None
    assert 1000 < follow([0.3 + noise.random() * 0.1 for _ in range(1000)] + [5.0] * 50) <= 1016
    assert follow(0.2 * 1.01**step for step in range(2000)) is not None
    assert follow([1.0] + [10.0**step for step in range(1, 30)]) == 8, "a rate so absurd that there is no history"
    assert 500 < follow([-2 + noise.gauss(0, 0.1) for _ in range(500)] + [40.0] * 50) <= 516


def noisy(seed, deviation, mean=lambda step: 1.0, steps=1500):
    """Losses of small batches: two thirds are within a factor of e^deviation of the mean."""
    noise = random.Random(seed)
    return (mean(step) * math.exp(noise.gauss(0, deviation)) for step in range(steps))


@pytest.mark.parametrize("seed", range(6))
def test_the_watch_lets_the_noise_of_small_batches_pass(seed):
    assert follow(noisy(seed, 0.8)) is None, "a few clips at random noise levels: a factor of 2 to 3 from step to step"
    assert follow(noisy(seed, 0.6, lambda step: 0.1 + 1 / (1 + step / 30))) is None
    joined = noisy(seed, 0.5, lambda step: 0.2 if step < 700 else 0.5)  # a discriminator pulls at the decoder
    assert follow(joined) is None


def test_an_explosion_in_the_first_steps_is_noticed():
    noise = random.Random(3)
    # as the tiny transformer of test_training_resume.py at the highest learning rate: it never was a hundredfold
    first = [2.48, 2.11, 19.4, 83.3, 26.4, 141.0, 3.2, 27.8, 14.0, 9.5, 4.0, 12.3, 221.0, 25.2, 8.3, 25.2]
    assert follow(first + [10 + 20 * noise.random() for _ in range(48)]) in (16, 24, 32)
    assert follow([1.0, 0.9] + [12.0 + noise.random() for _ in range(62)]) == 16


def test_a_first_step_that_blows_everything_up_is_noticed_though_the_loss_comes_down_again():
    # as the training nodes' test at rate 1, of which one in some runs recovers by itself
    blown = [1.65, 442706.0, 5.07e7, 3.12e7, 3.64e7, 362562.0, 210467.0, 288440.0, 3556.0, 370.0, 1387.0]
    assert follow(blown + [1.0] * 300) == 8
    # one clip a batch: a clean one, then a noisy one, whose loss is some hundred times that
    assert follow([0.002, 0.9, 0.5, 0.8, 0.003, 0.7, 0.4, 0.9] * 60) is None


def test_a_slow_rise_is_noticed():
    assert 600 < follow(2 ** (step / 300) * random.Random(step).uniform(0.7, 1.3) for step in range(6000)) < 1100


def test_a_likelihood_near_zero_may_move_by_a_tenth_of_a_nat():
    noise = random.Random(2)
    around = [noise.gauss(0, 0.03) for _ in range(600)]
    assert follow([*around, *(0.12 + noise.gauss(0, 0.03) for _ in range(300))]) is None
    assert 600 < follow([*around, *[8.0] * 50]) <= 616, "eight nats are an explosion"
    above = [0.05 + 0.01 * noise.random() for _ in range(600)] + [0.6] * 300  # which is not below zero by chance
    assert follow(above, NAT) is None and follow(above) == 616


class Blown(Toy):
    """A loss of about 1 that is 50 from a step on."""

    def __init__(self, folder, since):
        super().__init__(folder, spoil=lambda number, loss: loss * 1e-3 + (1.0 if number < since else 50.0))


def test_no_timed_save_replaces_the_good_state_once_the_loss_jumped(tmp_path):
    with pytest.raises(TrainingDiverged, match="diverged at step 96: .* last good state, of step 79, is kept"):
        Blown(tmp_path, 80).run(200, save_every=0)
    again = Toy(tmp_path)
    again.state.load()
    assert again.state.position["step"] == 79  # whose loss, of step 80, was good


@pytest.mark.parametrize("spoiling", [1, 5, 79])
def test_no_timed_save_keeps_weights_that_the_last_update_spoiled(tmp_path, spoiling):
    """Their own loss is known only in the next step."""

    class Spoiled(Toy):
        def step(self, number):
            if number == spoiling + 1:  # as if the update before had done it
                with torch.no_grad():
                    self.layer[0].weight.mul_(100)
            return super().step(number)

    with pytest.raises(TrainingDiverged, match=f"of step {spoiling}, is kept"):
        Spoiled(tmp_path).run(200, save_every=0)
    again = Toy(tmp_path)
    assert again.state.load() and again.layer[0].weight.abs().max() < 10


def test_a_second_loss_far_above_the_first_is_no_reference_for_itself():
    watch = DivergenceWatch()
    for loss, uneasy in ((1.0, False), (50.0, True)):
        watch.add(1, torch.tensor(loss), torch.tensor(1.0))
        assert watch.uneasy == uneasy


@pytest.mark.parametrize("how", ["stop", "raise"])
def test_who_cancels_because_the_loss_jumped_keeps_the_good_state(tmp_path, how):
    def step(number, total):
        if number == 83 and how == "raise":
            raise KeyboardInterrupt

    good = Blown(tmp_path, 80)
    good.run(76)
    before, told, blown = (tmp_path / "state.safetensors").read_bytes(), [], Blown(tmp_path, 80)
    callbacks = Callbacks(told.append, step, stop=lambda: blown.state.position["step"] == 83)
    if how == "raise":
        with pytest.raises(KeyboardInterrupt):
            blown.run(200, callbacks)
    else:
        assert not blown.run(200, callbacks)
    assert (tmp_path / "state.safetensors").read_bytes() == before and blown.state.position["kept"] == 76
    assert told[-1] == lines(tmp_path)[-1] and (told[-1]["event"], told[-1]["kept"]) == ("kept", 76)
    assert "stopped just after the loss rose" in told[-1]["what"] and "step 76 is kept" in told[-1]["what"]
    again = Blown(tmp_path, 1000)
    assert again.run(90) and [line["step"] for line in lines(tmp_path)] == [50, 76, 90], "and goes on from there"


def test_a_first_stop_just_after_the_loss_jumped_saves_nothing(tmp_path):
    toy = Blown(tmp_path, 20)
    assert not toy.run(200, Callbacks(stop=lambda: toy.state.position["step"] == 22))
    assert not (tmp_path / "state.safetensors").exists() and "begins anew" in lines(tmp_path)[-1]["what"]


def test_a_training_that_blows_up_in_its_last_steps_is_not_done(tmp_path):
    with pytest.raises(TrainingDiverged, match="diverged at step 100: the loss rose to .* at the very end"):
        Blown(tmp_path, 97).run(100)
    assert Blown(tmp_path / "b", 99).run(100), "one high loss is no explosion: it may be a clip"


def test_a_resume_knows_what_loss_was_usual(tmp_path):
    Blown(tmp_path, 1000).run(100)
    with pytest.raises(TrainingDiverged, match="diverged at step 1(12|16|20): the loss rose to .*, and was about 1"):
        Blown(tmp_path, 100).run(400)


def test_the_watch_does_the_same_in_one_go_and_in_parts(tmp_path):
    Toy(tmp_path / "whole").run(150)
    for steps in (3, 77, 150):
        parts = Toy(tmp_path / "parts")
        parts.run(steps)
    whole = Toy(tmp_path / "whole")
    assert whole.state.load() and parts.state.load()
    assert whole.state.watch == parts.state.watch != {}
    assert "watch" not in whole.state.position  # which is what provenances tell
    whole.state.watch = {}  # as a state from before there was one
    whole.state.save()
    assert Toy(tmp_path / "whole").run(160)


def test_a_disk_without_room_is_said_in_a_sentence(tmp_path):
    resource = pytest.importorskip("resource")
    Toy(tmp_path).run(2)
    old = (tmp_path / "state.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old) // 2, limits[1]))  # a real refusal by the system
    try:
        with pytest.raises(
            CheckpointError, match="cannot be saved at step 4: the file would be larger .* is whole; when"
        ):
            Toy(tmp_path).run(4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    new = tmp_path / "new"
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old) // 2, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="There is no state from before; .* again: it begins anew"):
            Toy(new).run(4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "state.safetensors").read_bytes() == old and not list(tmp_path.glob(".*.part"))
    assert Toy(tmp_path).run(4)


def test_who_heeds_signals_outside_is_told_and_a_second_one_does_not_wait_for_the_step():
    told = []
    before = signal.signal(signal.SIGINT, lambda *_: told.append("outside"))
    try:
        with stop_on_signal() as stopped:
            assert not stopped()
            signal.raise_signal(signal.SIGINT)
            assert stopped() and told == ["outside"]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
