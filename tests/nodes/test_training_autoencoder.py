"""Train Autoencoder and New Model: what is fitted, what learns, how it stops and goes on."""

from __future__ import annotations

import math
import signal

import pytest
import torch
from sora_dit.dit_core.checkpoint import load_bundle
from sora_dit.dit_core.data.held_out import held_out_clips
from sora_dit.dit_core.errors import Cancelled, SoraDiTError
from sora_dit.dit_core.lock import folder_lock
from sora_dit.dit_core.training.feed import ClipFeed
from sora_dit.dit_core.watch import read_log, read_samples
from sora_dit.nodes import _training_autoencoder, host
from sora_dit.nodes.train_autoencoder import SoraDiTTrainAutoencoder as TRAIN_AUTOENCODER


def test_a_linear_autoencoder_is_fitted_at_once_and_opened_the_second_time(go, session, parts):
    clips = go("SkyDataset", count=24, width=16, height=16, frames=5)[0]
    what = {"clips": clips, "channels": 8, "run": "ae", "steps": 5}
    vae, run = go("TrainAutoencoder", kind="linear", **what)
    made = (session.output_dir / "sora_dit_training" / "ae" / "autoencoder.safetensors").stat().st_mtime_ns
    again = go("TrainAutoencoder", kind="linear", **what)[0]
    assert (session.output_dir / "sora_dit_training" / "ae" / "autoencoder.safetensors").stat().st_mtime_ns == made
    picture = torch.rand(5, 16, 16, 3)
    assert run == "ae" and torch.allclose(vae.encode(picture), again.encode(picture), atol=1e-6)
    assert vae.first_stage_model.statistics is not None
    latents = go("CacheLatents", clips=clips, vae=vae, clip=parts[1], name="ae")[0]
    model = go("NewModel", vae=vae, clip=parts[1], latents=latents, width=24, depth=1, heads=2)[0]
    config = model.config
    assert config.in_channels == 8 and len(config.skip_std) == 8 and config.latent_mean is not None
    assert {k: config.training[k] for k in ("height", "width", "frames", "fps")} == {
        "height": 16, "width": 16, "frames": 5, "fps": 12.0}  # fmt: skip
    assert go("NewModel", vae=vae, clip=parts[1], latents=latents, width=24, depth=1, heads=2)[0].sha256 == model.sha256


def test_what_took_no_steps_has_no_curves_and_says_so(go):
    clips = go("SkyDataset", count=24, width=16, height=16, frames=5)[0]
    go("TrainAutoencoder", clips=clips, channels=8, run="ae", kind="linear")
    curves, samples, words = go("TrainingView", run="ae")
    assert "linear" in words and curves.shape == samples.shape and curves.shape[-1] == 3


def test_cancel_while_a_codec_is_fitted_leaves_nothing(go, session, monkeypatch):
    """Reading a long film for it may take minutes."""
    clips, seen = go("SkyDataset", count=64, width=16, height=16, frames=5)[0], []
    real = host.status

    def status(cls, text):
        seen.append(text)
        if text == "fitting, batch 3":
            session.cancel.set()
        real(cls, text)

    monkeypatch.setattr(host, "status", status)
    with pytest.raises(Cancelled):
        go("TrainAutoencoder", clips=clips, channels=8, run="ae", steps=5, kind="linear")
    assert seen[-1] == "fitting, batch 3"
    session.cancel.clear()
    assert not list((session.output_dir / "sora_dit_training" / "ae").rglob("*.safetensors"))


def test_a_broken_clip_is_not_the_one_that_is_shown(go):
    from sora_dit.dit_core.data import TrainingClips
    from sora_dit.dit_core.errors import MediaError
    from sora_dit.nodes._training_autoencoder import Mirror

    clips = go("SkyDataset", count=6, width=16, height=16, frames=5)[0]

    class Broken(TrainingClips):
        def __len__(self):
            return len(clips)

        def bucket(self, index):
            return clips.bucket(index)

        def captions(self, index):
            return ("",)

        def fingerprint(self):
            return clips.fingerprint()

        def clip(self, index):
            if index in (0, 1):
                raise MediaError("broken")
            return clips.clip(index)

    class Codec:
        def encode(self, video):
            return type("Posterior", (), {"mean": video})

        def decode(self, latent):
            return latent

    samples = Mirror(Codec(), Broken(), torch.device("cpu"))(1)
    assert [sample.prompt.split(",")[0] for sample in samples] == ["clip 2", "clip 3"]


def test_a_linear_autoencoder_that_models_may_need_is_not_replaced(go, say, session):
    clips, others = (go("SkyDataset", count=count, width=16, height=16, frames=5)[0] for count in (24, 25))
    what = {"channels": 8, "run": "ae", "steps": 5, "kind": "linear"}
    go("TrainAutoencoder", clips=clips, **what)
    made = (session.output_dir / "sora_dit_training" / "ae" / "autoencoder.safetensors").read_bytes()
    said = say("TrainAutoencoder", clips=others, **what)
    assert "was made from other clips or with another kind, channels or training seed" in said
    assert "Give run another name" in said
    for changed in ({"channels": 4}, {"training_seed": 2}):
        assert "was made from other clips" in say("TrainAutoencoder", clips=clips, **what | changed)
    assert (session.output_dir / "sora_dit_training" / "ae" / "autoencoder.safetensors").read_bytes() == made


def test_what_a_linear_autoencoder_does_not_use_may_be_changed(go, session, monkeypatch):
    clips = go("SkyDataset", count=24, width=16, height=16, frames=5)[0]
    what = {"clips": clips, "channels": 8, "run": "ae", "kind": "linear"}
    go("TrainAutoencoder", steps=5, **what)
    file = session.output_dir / "sora_dit_training" / "ae" / "autoencoder.safetensors"
    made = file.read_bytes()
    unused = {"steps": 7, "batch": 3, "learning_rate": 0.1, "beta": 2.0, "perceptual": 0.0, "adversarial_start": 5,
              "reconstruction": "fixed weights"}  # fmt: skip
    for name, value in unused.items():
        go("TrainAutoencoder", **{"steps": 5} | what | {name: value})
    assert file.read_bytes() == made
    # older versions summed all settings: with the same ones their files are still recognised
    settings = {one.id: one.default for one in TRAIN_AUTOENCODER.GET_SCHEMA().inputs if hasattr(one, "default")}
    training = _training_autoencoder._training_of(settings)
    asked = _training_autoencoder._asked(clips, None, training, settings | what)
    bundle = load_bundle(file).autoencoder
    _training_autoencoder._keep(file, bundle, asked, {})
    made = file.read_bytes()
    go("TrainAutoencoder", **what)
    assert file.read_bytes() == made


def test_two_linear_runs_of_one_name_do_not_write_over_each_other(go, session):
    clips = go("SkyDataset", count=24, width=16, height=16, frames=5)[0]
    what = {"clips": clips, "channels": 8, "run": "ae", "kind": "linear"}
    folder = session.output_dir / "sora_dit_training" / "ae"
    with folder_lock(folder, "a training"), pytest.raises(SoraDiTError, match="in use by a training.*another name for"):
        go("TrainAutoencoder", **what)
    assert not list(folder.glob("*.safetensors"))
    go("TrainAutoencoder", **what)
    with folder_lock(folder, "a training"):  # what is there already is only read
        go("TrainAutoencoder", **what)


def test_clips_that_are_held_out_are_measured_and_never_trained_on(go, session, monkeypatch):
    clips, trained = go("SkyDataset", count=12, width=16, height=16, frames=5)[0], set()
    real = ClipFeed.batch

    def batch(self, number, device):
        got = real(self, number, device)
        trained.update(self.clips.name(index) for index in self._held)
        return got

    monkeypatch.setattr(ClipFeed, "batch", batch)
    what = {"clips": clips, "batch": 4, "channels": 4, "perceptual": 0.0, "kind": "linear encoder"}
    go("TrainAutoencoder", run="part", steps=4, held_out=0.25, **what)
    log = read_log(session.output_dir / "sora_dit_training" / "part")
    steps, psnr = log.series("held_out_psnr")
    assert steps == [1, 2, 3, 4] and all(map(math.isfinite, psnr))
    assert any(note.text == "9 clips train, 3 held out." for note in session.notes)
    held_out = {f"sky {index}" for index in held_out_clips({index: str(index) for index in range(12)}, 0.25)}
    assert len(held_out) == 3 and trained and not trained & held_out
    go("TrainAutoencoder", run="whole", steps=2, held_out=0.0, **what)
    assert read_log(session.output_dir / "sora_dit_training" / "whole").series("held_out_psnr") == ([], [])
    with pytest.raises(SoraDiTError, match="was 9 of 12 clips .* and is not set"):  # other clips: another training
        go("TrainAutoencoder", run="part", steps=5, held_out=0.0, **what)


def test_what_an_older_version_finished_in_steps_is_opened(go, session):
    clips = go("SkyDataset", count=6, width=16, height=16, frames=5)[0]
    what = {"clips": clips, "run": "ae", "steps": 2, "batch": 2, "channels": 4, "kind": "linear encoder"}
    go("TrainAutoencoder", **what)
    file = session.output_dir / "sora_dit_training" / "ae" / "autoencoder.safetensors"
    settings = {one.id: one.default for one in TRAIN_AUTOENCODER.GET_SCHEMA().inputs if hasattr(one, "default")} | what
    training = _training_autoencoder._training_of(settings)
    older = _training_autoencoder._asked(clips, None, training, settings)
    _training_autoencoder._keep(file, load_bundle(file).autoencoder, older, {})
    made = file.read_bytes()
    go("TrainAutoencoder", **what)
    assert file.read_bytes() == made


@pytest.mark.parametrize("begun_with_a_vae", [False, True])
def test_a_decoder_that_goes_on_is_not_fitted_again(go, session, monkeypatch, begun_with_a_vae):
    clips = go("SkyDataset", count=6, width=16, height=16, frames=5)[0]
    what = {"clips": clips, "run": "sharper", "batch": 2, "channels": 4, "perceptual": 0.0, "kind": "linear encoder"}
    if begun_with_a_vae:
        what["vae"] = go("TrainAutoencoder", clips=clips, channels=4, run="linear", kind="linear")[0]
    begun = go("TrainAutoencoder", steps=1, **what)[0].first_stage_model
    fits, fit = [], host.status
    monkeypatch.setattr(host, "status", lambda cls, text: fits.append(text) or fit(cls, text))
    gone_on = go("TrainAutoencoder", steps=2, **what)[0].first_stage_model
    assert [text for text in fits if text.startswith("fitting")] == []
    assert torch.equal(begun.linear.down.weight, gone_on.linear.down.weight)
    whole = go("TrainAutoencoder", steps=2, **what | {"run": "whole"})[0].first_stage_model
    assert all(map(torch.equal, whole.state_dict().values(), gone_on.state_dict().values()))


def test_who_stops_an_autoencoder_does_not_wait_for_what_is_thrown_away(go, session, monkeypatch):
    clips, rendered = go("SkyDataset", count=6, width=16, height=16, frames=5)[0], []
    clip = type(clips).clip

    def step(self, step, total, preview=None):
        signal.raise_signal(signal.SIGINT)  # Ctrl-C in a terminal
        monkeypatch.setattr(type(clips), "clip", lambda self, index: rendered.append(index) or clip(self, index))

    monkeypatch.setattr(type(session), "step", step)
    with pytest.raises(Cancelled, match="stopped at step 1"):
        go("TrainAutoencoder", clips=clips, channels=4, run="ae", steps=5, batch=2, perceptual=0, kind="linear encoder")
    assert rendered == []


def test_a_linear_autoencoder_keeps_what_it_can_when_it_gets_a_decoder(go):
    """One that looks ahead has a linear decoder of another shape, which has to be fitted anew."""
    clips = go("SkyDataset", count=24, width=32, height=32, frames=5)[0]
    linear = go("TrainAutoencoder", clips=clips, channels=8, run="ae", steps=5, kind="linear")[0]
    better = go("TrainAutoencoder", clips=clips, run="sharper", steps=1, batch=1, perceptual=0.0, vae=linear)[0]
    video = torch.stack([clips.clip(index) for index in range(4)])
    codecs = linear.first_stage_model, better.first_stage_model
    assert codecs[0].config.lookahead == 1 and codecs[1].decoder is not None
    errors = [(codec.decode(codec.encode(video).mean) - video).square().mean() for codec in codecs]
    assert errors[1] < 1.5 * errors[0]


def test_a_decoder_learns_goes_on_and_shows_what_comes_back(go, parts, session):
    clips = go("SkyDataset", count=6, width=16, height=16, frames=5)[0]
    before = {n: t.clone() for n, t in parts[2].first_stage_model.state_dict().items()}
    what = {"clips": clips, "run": "sharper", "batch": 2, "perceptual": 0.0, "vae": parts[2]}
    vae = go("TrainAutoencoder", steps=2, **what)[0]
    assert all(map(torch.equal, before.values(), parts[2].first_stage_model.state_dict().values()))
    after = vae.first_stage_model.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder"}, "the latents of a VAE that is in use stay"
    folder = session.output_dir / "sora_dit_training" / "sharper"
    assert read_samples(folder)[-1].frames.shape == (5, 32, 16, 3)  # above the clip, below what comes back
    go("TrainAutoencoder", steps=4, **what)
    assert read_log(folder).step == 4
