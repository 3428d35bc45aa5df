"""The adversarial half of the autoencoder's training: hinge, lambda, late start, and that it can be gone on with."""

import argparse
import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.errors import CheckpointError, ConfigError, ShapeError
from sora_dit.dit_core.training import autoencoder as stage
from sora_dit.dit_core.training.adversary import AdversarialSettings, Adversary, adaptive_weight
from sora_dit.dit_core.training.autoencoder import AutoencoderTraining, train_autoencoder
from sora_dit.dit_core.training.discriminator import (
    LeCam,
    PatchDiscriminator,
    generator_loss,
    hinge_loss,
    r1_penalty,
)
from sora_dit.dit_core.training.likelihood import LikelihoodSettings
from sora_dit.dit_core.training.loop import LoopSettings, TrainingDiverged
from sora_dit.dit_core.training.options import add_autoencoder_options, autoencoder_training
from sora_dit.dit_core.training.sky_data import SkySource

CPU = torch.device("cpu")
SOURCE = SkySource(seed=1, frames=3, height=16, width=16)
CONFIG = AutoencoderConfig(
    latent_channels=4, patch=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=0, decoder_blocks=0,
    temporal_downsample=(True,), spatial_downsample=(True,), linear="encoder",
)  # fmt: skip
GAME = AdversarialSettings(start=20, warmup=4, channels=2, r1=0.1, r1_every=3, lecam=0.1)
ALL = AutoencoderTraining(sizes=(16, 24), likelihood=LikelihoodSettings("both"), perceptual=0.1, adversarial=GAME)


@pytest.fixture(autouse=True, scope="module")
def few_clips_to_measure():
    """What a training ends with is not tried here: latent statistics of 256 clips would take most of the time."""
    patch = pytest.MonkeyPatch()
    patch.setattr(stage, "with_statistics", lambda model, source, device: model)
    yield
    patch.undo()


def fresh(linear="encoder"):
    """Not fitted to clips, as a real training starts: that takes longer than all of these."""
    torch.manual_seed(1)
    return CausalVideoAutoencoder(dataclasses.replace(CONFIG, linear=linear))


def train(folder, steps, training=ALL, linear="encoder"):
    loop = LoopSettings(steps=steps, batch=2, warmup=2, decay=0.0, log_every=1)
    return train_autoencoder(fresh(linear), SOURCE, folder, loop, training, CPU)[0]


def state(folder):
    return load_file(folder / "state.safetensors")


def differing(a, b):
    assert set(a) == set(b)
    return [key for key in a if not torch.equal(a[key], b[key])]


# -- the pieces by hand ----------------------------------------------------------------------------------------------


def test_hinge_by_hand():
    real, fake = torch.tensor([2.0, 0.5, -1.0, 1.0]), torch.tensor([-2.0, 0.0, 0.5, -1.0])
    # real: 0, 0.5, 2, 0 -> 0.625; fake: 0, 1, 1.5, 0 -> 0.625
    assert hinge_loss(real, fake).item() == pytest.approx(0.625)
    assert generator_loss(fake).item() == pytest.approx(0.625)


def test_lambda_by_hand():
    last = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    reconstruction = (last * torch.tensor([[3.0, 0.0], [0.0, 4.0]])).sum()  # gradient's norm 5
    adversarial = (0.5 * last[0, 0]) ** 2  # gradient 2 * 0.25 * 1 = 0.5
    weight = adaptive_weight(reconstruction, adversarial, last)
    assert weight.item() == pytest.approx(10, rel=1e-5) and not weight.requires_grad and last.grad is None
    assert adaptive_weight(reconstruction, 0 * last.sum(), last).item() == 1e4


def test_the_challenge_pulls_at_the_last_layer_as_hard_as_the_reconstruction_times_its_weight():
    adversary = Adversary(dataclasses.replace(GAME, start=0, warmup=2, weight=0.8), 0, CPU)
    last = torch.nn.Conv3d(3, 3, 1)
    fake = last(torch.rand(1, 3, 3, 16, 16))
    reconstruction = fake.square().mean()
    for step, strength in ((0, 0.4), (1, 0.8), (9, 0.8)):
        challenge, _ = adversary.challenge(step, fake, reconstruction, last.weight)
        norms = [torch.autograd.grad(x, last.weight, retain_graph=True)[0].norm() for x in (challenge, reconstruction)]
        assert (norms[0] / norms[1]).item() == pytest.approx(strength, rel=1e-3)
    challenge.backward()
    assert all(p.grad is None for p in adversary.module.parameters())


def test_r1_by_hand():
    real = torch.zeros(2, 3, 1, 2, 2, requires_grad=True)
    slope = torch.tensor([1.0, 2.0, 2.0]).view(1, 3, 1, 1, 1)
    scores = (slope * real).sum(1, keepdim=True)  # of 4 patches a clip: the mean's gradient is the slope / 4
    assert r1_penalty(scores, real).item() == pytest.approx(0.5 * 4 * 9 / 16)


def test_lecam_by_hand_and_its_averages_are_kept():
    lecam = LeCam(decay=0.5)
    # averages: real 0 -> 1, fake 0 -> -2; then (2 - -2)^2 and (-4 - 1)^2
    assert lecam(torch.tensor([2.0]), torch.tensor([-4.0])).item() == pytest.approx(16 + 25)
    assert {name: value.item() for name, value in lecam.state_dict().items()} == {"real": 1, "fake": -2}


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_a_discriminator_judges_patches_in_space_and_time(norm):
    torch.manual_seed(0)
    network = PatchDiscriminator(4, norm)
    assert network(torch.rand(2, 3, 17, 64, 48)).shape == (2, 1, 5, 8, 6)
    assert network(torch.rand(1, 3, 1, 16, 16)).shape == (1, 1, 1, 2, 2)
    video = torch.rand(1, 3, 17, 96, 96, requires_grad=True)
    network(video)[0, 0, 2, 6, 6].backward()
    seen = [video.grad.abs().sum(dim=tuple(d for d in range(5) if d != axis)).nonzero() for axis in (2, 3, 4)]
    assert [int(s.max() - s.min()) + 1 for s in seen] == [17, 38, 38]


def test_a_discriminator_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="norm = 'batch'; allowed is none, spectral"):
        PatchDiscriminator(4, "batch")
    with pytest.raises(ShapeError, match="4 x 16 pixels.*at least 8"):
        PatchDiscriminator(2)(torch.rand(1, 3, 3, 4, 16))
    with pytest.raises(ConfigError, match="start = -1"):
        AdversarialSettings(start=-1)
    with pytest.raises(ConfigError, match="weight = nan"):
        AdversarialSettings(weight=float("nan"))


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_a_discriminator_learns_to_tell_blurred_from_sharp(norm):
    adversary = Adversary(AdversarialSettings(start=0, channels=8, norm=norm, lr=2e-3), 0, CPU)

    def pair(start):
        sharp = dataclasses.replace(SOURCE, height=24, width=24).clips(start, 8, CPU)
        return sharp, F.avg_pool3d(F.pad(sharp, (1, 1, 1, 1, 0, 0), mode="replicate"), (1, 3, 3), 1)

    first = adversary.teach(0, *pair(0))
    for step in range(1, 60):
        adversary.teach(step, *pair(8 * (step % 8)))
    with torch.no_grad():  # clips it has not seen
        scores = [adversary.module["discriminator"](clips).flatten(1).mean(1) for clips in pair(1000)]
    assert (scores[0] > scores[1]).float().mean() >= 7 / 8
    assert hinge_loss(*scores) < 0.9 * first["discriminator"]


def test_an_adversary_does_not_touch_other_draws():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = Adversary(GAME, 3, CPU), Adversary(GAME, 3, CPU)
    assert torch.equal(torch.rand(3), expected)
    pairs = zip(one.module.parameters(), two.module.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)


# -- in the loop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "spectral"])
@pytest.mark.parametrize("stops", [(20,), (15, 30)])
def test_forty_steps_equal_parts_bit_for_bit_across_the_start_of_the_discriminator(tmp_path, stops, norm):
    training = dataclasses.replace(ALL, adversarial=dataclasses.replace(GAME, norm=norm))
    train(tmp_path / "whole", 40, training)
    for stop in (*stops, 40):
        train(tmp_path / "parts", stop, training)
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert not differing(whole, parts)
    for kept in ("rival.adversary.discriminator.", "rival.adversary.lecam.real", "optimiser.adversary.0.",
                 "module.likelihood.log_width.laplace", "average.autoencoder."):  # fmt: skip
        assert any(key.startswith(kept) for key in whole), kept


def test_before_its_start_the_adversary_changes_nothing_and_after_it_does(tmp_path):
    game = dataclasses.replace(GAME, start=5)
    with_game, without = (dataclasses.replace(ALL, adversarial=value) for value in (game, None))
    for steps, same in ((5, True), (7, False)):
        a, b = tmp_path / f"a{steps}", tmp_path / f"b{steps}"
        train(a, steps, with_game)
        train(b, steps, without)
        shared = {key: value for key, value in state(a).items() if "adversary" not in key}
        different = differing(shared, state(b))
        assert not different if same else any(key.startswith("module.autoencoder.decoder") for key in different)
        untaught = Adversary(game, ALL.seed, CPU).module.state_dict()
        still = [torch.equal(state(a)[f"rival.adversary.{key}"], value) for key, value in untaught.items()]
        assert all(still) if same else not any(still)
        assert same != any(key.startswith("optimiser.adversary") for key in state(a))
    lines = [json.loads(line) for line in (tmp_path / "a7" / "log.jsonl").read_text().splitlines()]
    assert ["lambda" in line for line in lines] == [False] * 5 + [True] * 2
    assert all(line["nll"] < line["loss"] + 10 and line["width"] > 0 for line in lines)


def test_the_discriminator_is_not_trained_by_the_decoders_loss(tmp_path):
    """With a learning rate of zero of its own it stays as it was, whatever the loop steps."""
    game = dataclasses.replace(GAME, start=0, lr=0.0, lecam=0.0)
    train(tmp_path, 3, dataclasses.replace(ALL, adversarial=game))
    untaught = Adversary(game, ALL.seed, CPU).module.state_dict()
    assert all(torch.equal(state(tmp_path)[f"rival.adversary.{key}"], value) for key, value in untaught.items())


@pytest.mark.parametrize("linear,moving", [("none", {"decoder"}), ("both", {"decoder"}), ("encoder", {"decoder"})])
def test_a_frozen_encoder_stays_as_it_is_in_the_adversarial_training(tmp_path, linear, moving):
    training = dataclasses.replace(ALL, freeze_encoder=True, adversarial=dataclasses.replace(GAME, start=1))
    before = fresh(linear)
    after = train(tmp_path, 4, training, linear)
    pairs = zip(before.named_parameters(), after.parameters(), strict=True)
    assert {name.split(".")[0] for (name, p), q in pairs if not torch.equal(p, q)} == moving


def test_everything_moves_when_nothing_is_frozen(tmp_path):
    training = dataclasses.replace(ALL, adversarial=dataclasses.replace(GAME, start=1))
    before = fresh("both")
    after = train(tmp_path, 4, training, "both")
    still = [name for (name, p), q in zip(before.named_parameters(), after.parameters(), strict=True)
             if torch.equal(p, q)]  # fmt: skip
    assert not still


def test_the_learned_width_follows_the_error_of_a_training(tmp_path):
    training = AutoencoderTraining(sizes=(16,), likelihood=LikelihoodSettings("laplace", lr=0.05))
    train(tmp_path, 60, training)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()][-30:]
    error = sum(line["absolute"] for line in lines) / len(lines)
    assert lines[-1]["width"] == pytest.approx(error, rel=0.25)


def test_a_codec_without_a_decoder_cannot_play(tmp_path):
    with pytest.raises(ConfigError, match='linear = "encoder"'):
        train(tmp_path, 2, linear="alone")


def test_a_state_from_before_these_options_goes_on_and_another_option_is_refused(tmp_path):
    """A running training saved settings that do not name what came later."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    plain = AutoencoderTraining(sizes=(16,))
    train(tmp_path / "old", 2, plain)
    path = tmp_path / "old" / "state.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    settings = json.loads(metadata["settings"])
    for name in ("freeze_encoder", "likelihood", "perceptual", "adversarial"):
        del settings["training"][name]
    del settings["config"]["lookahead"]
    save_file(load_file(path), path, metadata | {"settings": json.dumps(settings)})
    train(tmp_path / "old", 4, plain)
    train(tmp_path / "new", 4, plain)
    assert not differing(state(tmp_path / "old"), state(tmp_path / "new"))
    with pytest.raises(CheckpointError, match="perceptual was 0.0 and is 0.1.*another folder"):
        train(tmp_path / "old", 6, dataclasses.replace(plain, perceptual=0.1))


def test_the_command_line_asks_for_all_of_it_and_for_none_by_default():
    parser = argparse.ArgumentParser()
    parser.add_argument("--optimiser", default="muon")
    parser.add_argument("--lr", type=float, default=0.0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    add_autoencoder_options(parser)
    assert autoencoder_training(parser.parse_args(["--sizes", "64", "64", "64", "96"])) == AutoencoderTraining()
    line = "--likelihood laplace --beta 0.5 --perceptual-weight 0.1 --freeze-encoder --adversarial-start 7 --r1 2"
    line += " --squared 4 --edges 2 --seed 5 --size 96"
    asked = autoencoder_training(parser.parse_args([*line.split(), "--adversarial-weight", "0.3"]))
    assert asked == AutoencoderTraining(
        freeze_encoder=True,
        likelihood=LikelihoodSettings("laplace", 0.5),
        sizes=(96,),
        seed=5,
        squared=4.0,
        edges=2.0,
        perceptual=0.1,
        adversarial=AdversarialSettings(start=7, weight=0.3, r1=2.0),
    )
    with pytest.raises(ConfigError, match="perceptual = -1.0"):
        autoencoder_training(parser.parse_args(["--perceptual-weight", "-1"]))
    with pytest.raises(ConfigError, match="edges = -2.0"):
        autoencoder_training(parser.parse_args(["--edges", "-2"]))


@pytest.mark.parametrize("likelihood", [LikelihoodSettings(), None])
def test_a_likelihood_just_above_zero_may_rise_by_half_a_nat(tmp_path, monkeypatch, likelihood):
    """The unit of a likelihood is a nat; a mean of squares that rises twelvefold has exploded."""

    def step(self, number):
        return 0 * self.model.decoder.body[-1].weight.sum() + (0.05 if number < 80 else 0.6), {}

    monkeypatch.setattr(stage.AutoencoderStep, "__call__", step)
    training = AutoencoderTraining(sizes=(16,), likelihood=likelihood)
    if likelihood:
        train(tmp_path, 120, training)
    else:
        with pytest.raises(TrainingDiverged, match="diverged at step 96"):
            train(tmp_path, 120, training)
