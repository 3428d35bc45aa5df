"""The training nodes: what they make, what they leave alone, how they stop and go on, and what they say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from sora_dit.dit_core.errors import Cancelled, SoraDiTError
from sora_dit.dit_core.lock import folder_lock
from sora_dit.dit_core.watch import read_log, read_samples, save_sample
from sora_dit.nodes import host

PROMPTS = "a calm sea\nstars"

pytestmark = pytest.mark.usefixtures("few_held_out_clips")


def weights(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# --- Training ----------------------------------------------------------------------------------------------------


def test_all_weights_of_a_copy_learn_and_nothing_else_changes(train, parts):
    model, clip, vae = parts
    before = [{n: t.clone() for n, t in part.state_dict().items()}
              for part in (model.module, clip.encoder.module, vae.first_stage_model)]  # fmt: skip
    trained, name = train(steps=3, options={"known_frames": 0.0})
    after = [part.state_dict() for part in (model.module, clip.encoder.module, vae.first_stage_model)]
    assert all(same(one, other) for one, other in zip(before, after, strict=True)), "the model that came in stays"
    new = weights(trained)
    assert [name for name, old in before[0].items() if torch.equal(old, new[name])] == []
    assert name == "a" and trained.name == "a, step 3" and trained.sha256 not in ("", model.sha256)
    assert trained.provenance["transformer"]["step"] == 3
    assert not any(p.requires_grad or p.is_inference() for p in trained.module.parameters())


def test_a_finished_training_is_not_done_again_and_more_steps_go_on(train, folder, session):
    first = train(steps=4)[0]
    state, log = (folder / "state.safetensors").stat().st_mtime_ns, (folder / "log.jsonl").read_text()
    assert same(weights(first), weights(train(steps=4)[0]))
    assert (folder / "state.safetensors").stat().st_mtime_ns == state and (folder / "log.jsonl").read_text() == log
    assert train(steps=6)[0].name == "a, step 6" and read_log(folder).step == 6
    said = [note.text.replace(str(folder), "X") for note in session.notes if "training in" in note.text]
    assert said == [
        "The training in X begins: 4 steps.",
        "The training in X is finished: 4 steps.",
        "The training in X goes on from step 4 of 6.",
    ]


def test_where_a_training_stands_is_said_of_its_state_and_not_of_its_log(train, folder, session):
    """As after a kill, or after a person removed the state."""
    train(steps=2)
    ahead = [json.dumps({"step": step, "samples": 2 * step, "seconds": 1.0, "loss": 9.0}) for step in (3, 4)]
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write("\n".join([*ahead, json.dumps({"event": "diverged", "step": 5})]) + "\n")
    train(steps=3)
    log = read_log(folder)
    assert log.series("loss")[0] == [1, 2, 3] and log.events == ()
    (folder / "state.safetensors").unlink()
    train(steps=3)
    said = [note.text.replace(str(folder), "X") for note in session.notes if "training in" in note.text]
    assert said == [
        "The training in X begins: 2 steps.",
        "The training in X goes on from step 2 of 3.",
        "The training in X begins: 3 steps.",
    ]


def test_it_is_said_how_many_clips_are_held_out(train, session):
    train(steps=1, options={"held_out": 0.25})
    train(steps=1, run="all", options={"held_out": 0.0})
    train(steps=1, run="one", options={"held_out": 0.9})
    said = [note.text for note in session.notes if "held out" in note.text]
    assert said == ["9 clips train, 3 held out.", "12 clips train, 0 held out.", "1 clip trains, 11 held out."]


def test_cancel_stops_within_a_step_and_going_on_gives_what_it_would_have_given(train, session, folder, monkeypatch):
    whole = weights(train(steps=6, run="whole")[0])
    report, seen = session.progress.node_progress, []

    def step(self, step, total, preview=None):
        seen.append(step)
        if step == 2:
            session.cancel.set()
        self.check_cancelled()

    monkeypatch.setattr(type(session), "step", step)
    with pytest.raises(Cancelled):
        train(steps=6)
    assert seen[-1] == 2 and read_log(folder).step == 2 and report is not None
    session.cancel.clear()
    assert same(whole, weights(train(steps=6)[0])) and seen == [1, 2, 3, 4, 5, 6]


def test_options_reach_the_training(train, folder):
    train(steps=2, options={"accumulate": 3, "held_out": 0.25, "schedule": "cosine", "log_every": 2})
    line = read_log(folder).lines[-1]
    assert line["samples"] == 2 * 2 * 3 and line["held_out"] > 0 and line["total"] == 2


def test_objectives_of_new_models_are_trained(go, parts, latents, train):
    for objective in ("epsilon", "v"):
        model = go("NewModel", vae=parts[2], clip=parts[1], latents=latents, width=24, depth=1, heads=2,
                   objective=objective)[0]  # fmt: skip
        assert model.config.objective == objective and model.config.skip_std is None
        trained = train(steps=2, model=model, run=objective)[0]
        assert trained.config.objective == objective and not same(weights(model), weights(trained))


# --- What is seen ------------------------------------------------------------------------------------------------


def test_samples_of_the_same_prompts_are_kept_and_drawn(train, parts, folder, go):
    train(steps=4, sample_prompts=PROMPTS, sample_every=2, vae=parts[2])
    samples = read_samples(folder)
    assert [(one.step, one.prompt) for one in samples] == [
        (2, "a calm sea"), (2, "stars"), (4, "a calm sea"), (4, "stars")]  # fmt: skip
    assert samples[0].frames.shape == (5, 16, 16, 3)
    assert (folder / "curves.png").stat().st_size > 1000 and (folder / "samples.png").stat().st_size > 200
    curves, strip, words = go("TrainingView", run="a", width=640)
    assert curves.shape[2:] == (640, 3) and strip.shape[0] == 1 and 0 <= curves.min() < curves.max() <= 1
    assert words.startswith("step 4 of 4, loss ") and "held-out" in words


def test_samples_beyond_the_state_are_of_a_training_that_no_longer_exists(train, parts, folder):
    train(steps=3, sample_prompts="sea", sample_every=1, vae=parts[2])
    save_sample(folder, replace(read_samples(folder)[0], step=9))
    train(steps=4, sample_prompts="sky", sample_every=4, vae=parts[2])
    assert [(one.step, one.prompt) for one in read_samples(folder)] == [(1, "sea"), (2, "sea"), (3, "sea"), (4, "sky")]
    (folder / "state.safetensors").unlink()
    train(steps=2, sample_prompts="sky", sample_every=2, vae=parts[2])
    assert [(one.step, one.prompt) for one in read_samples(folder)] == [(2, "sky")]


def test_the_node_shows_a_picture_and_words_while_it_runs(train, parts, monkeypatch):
    pictures, told = [], []
    monkeypatch.setattr(host, "in_comfyui", True)
    monkeypatch.setattr("sora_dit.nodes._training_watch._PICTURE", 0.0)
    monkeypatch.setattr("sora_dit.nodes._training_watch._SHARE", 1e9)
    monkeypatch.setattr(host.Progress, "show", lambda self, step, preview=None: pictures.append(preview))
    monkeypatch.setattr(host, "status", lambda cls, text: told.append(text))
    train(steps=3, sample_prompts="sea", sample_every=1, vae=parts[2])
    assert len(pictures) == 4 and all(one.dtype == torch.uint8 and one.shape[1:] == (512, 3) for one in pictures)
    assert any(text.startswith("step 1 of 3") for text in told)


def test_what_stays_on_the_node_is_the_end(train, parts, monkeypatch):
    shown, told = [], []
    monkeypatch.setattr(host, "in_comfyui", True)
    monkeypatch.setattr("sora_dit.nodes._training_watch._PICTURE", 1e9)  # none is due while it runs
    monkeypatch.setattr("sora_dit.nodes._training_watch._STATUS", 1e9)
    monkeypatch.setattr(
        "sora_dit.dit_core.watch.draw_glance", lambda log, samples: shown.append((log.step, samples)) or picture
    )
    picture = torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()
    monkeypatch.setattr("sora_dit.nodes._training_data.bytes_of", torch.from_numpy)
    monkeypatch.setattr(host, "status", lambda cls, text: told.append(text))
    train(steps=3, sample_prompts="sea", sample_every=1, vae=parts[2])
    assert [step for step, _ in shown][-1:] == [3] and [one.step for one in shown[-1][1]] == [3]
    assert told[-1].startswith("step 3 of 3")


@pytest.mark.parametrize("kind", [SoraDiTError, RuntimeError, MemoryError])
def test_a_sample_that_cannot_be_made_does_not_end_the_training(train, parts, session, kind):
    class Broken:
        first_stage_model = None

        def decode(self, samples):
            raise kind("The VAE is broken.")

    assert train(steps=2, sample_prompts="sea", sample_every=1, vae=Broken())[0].name == "a, step 2"
    assert [note.text for note in session.notes if "No sample" in note.text] == [
        "No sample at step 1. The VAE is broken."]  # fmt: skip


# --- What does not go together -----------------------------------------------------------------------------------


def test_a_model_may_not_hide_the_starter(station):
    words = station["SaveModel"].validate_inputs(name="sora-dit-starter.safetensors")
    assert '"sora-dit-starter" is the starter that comes with the pack; expected another name.' in words


def test_parts_of_different_models_are_refused_in_words(say, go, parts, latents, make_model, train):
    make_model("eight.safetensors", channels=8)
    model, _, vae = go("LoadModel", model="eight.safetensors")
    words = say("TrainModel", model=model, clip=parts[1], latents=latents)
    assert words.startswith("The latents have 4 channels, but this model works with 8: they were made with the VAE of")
    make_model("wide.safetensors", text_width=64)
    clip = go("LoadModel", model="wide.safetensors")[1]
    assert "text encoder of width 64" in say("TrainModel", model=parts[0], clip=clip, latents=latents)
    words = say("TrainModel", model=parts[0], clip=parts[1], latents=latents, vae=vae)
    assert words.startswith("The VAE is another one than the latents were made with")
    assert "connect Cache Latents" in say("TrainModel", model=parts[0], clip=parts[1], latents=None)
    assert "cannot be trained with" in say("TrainModel", model=parts[0], clip=None, latents=latents)
    assert "connect Load Model or New Model" in say("TrainModel", model=None, clip=parts[1], latents=latents)


def test_tokens_of_a_model_must_fit_the_sizes(say, go, parts):
    clips = go("SkyDataset", count=2, width=24, height=16, frames=5)[0]
    latents = go("CacheLatents", clips=clips, vae=parts[2], clip=parts[1], name="odd")[0]
    words = say("TrainModel", model=parts[0], clip=parts[1], latents=latents)  # its patch is 2 x 2
    assert "clips of 24 x 16 pixels, but this model takes multiples of 16" in words


def test_another_training_under_the_same_name_is_said(train, say, folder):
    train(steps=2)
    with pytest.raises(SoraDiTError) as caught:
        train(steps=4, learning_rate=0.1)
    assert "learning_rate (0: the usual one of the optimiser) was 0.003 and is 0.1." in str(caught.value)
    assert "or another name for run to begin anew" in str(caught.value)
    with pytest.raises(SoraDiTError, match="batch"):
        train(steps=4, batch=3)
    assert read_log(folder).step == 2


def test_two_trainings_in_one_folder_are_refused(train, folder):
    with folder_lock(folder, "a training"), pytest.raises(SoraDiTError, match="is in use by a training"):
        train(steps=2)


def test_an_absurd_learning_rate_stops_and_keeps_the_last_good_state(train, folder):
    with pytest.raises(SoraDiTError, match="diverged at step") as caught:
        train(steps=400, learning_rate=1.0, optimiser="adamw", options={"warmup": 0, "clip_gradient": 1000.0})
    assert "lower" in str(caught.value) and read_log(folder).events[-1]["event"] == "diverged"
    assert (folder / "curves.png").exists()


# --- What was removed is made anew -------------------------------------------------------------------------------


def looked_at(station, node, /, **values):
    """Two fingerprints, one after the other."""
    return [station[node].fingerprint_inputs(**values) for _ in range(2)]


def test_a_cache_that_was_removed_is_not_taken_from_the_memory_of_comfyui(go, station, parts, session):
    once, again = looked_at(station, "CacheLatents", name="skies", wordings=4)
    assert once != again, "nothing is there yet"
    clips = go("SkyDataset", count=4, width=16, height=16, frames=5)[0]
    what = {"clips": clips, "vae": parts[2], "clip": parts[1], "name": "skies"}
    go("CacheLatents", **what)
    made = looked_at(station, "CacheLatents", name="skies", wordings=4)
    go("CacheLatents", **what)
    assert len({*made, *looked_at(station, "CacheLatents", name="skies", wordings=4)}) == 1, "opened, not made again"
    shutil.rmtree(session.output_dir / "sora_dit_latents")
    assert not {once, again, *made} & {*looked_at(station, "CacheLatents", name="skies", wordings=4)}
    assert looked_at(station, "CacheLatents") == [None, None], "a linked name is not known yet"


@pytest.mark.parametrize("node", ["TrainModel", "TrainLora", "TrainAutoencoder"])
def test_a_run_that_was_removed_is_trained_again(go, station, parts, latents, own_models, session, node):
    what = {"model": parts[0], "clip": parts[1], "latents": latents, "batch": 2}
    if node == "TrainAutoencoder":
        what = {"clips": go("SkyDataset", count=24, width=16, height=16, frames=5)[0], "channels": 4}
    before = looked_at(station, node, run="a", steps=2)
    go(node, run="a", steps=2, **what)
    made = looked_at(station, node, run="a", steps=2)
    go(node, run="a", steps=2, **what)
    assert len({*made, *looked_at(station, node, run="a", steps=2)}) == 1, "a third time it is not even called"
    if node == "TrainLora":
        file = host.model_target("a", "lora")
        file.rename(file.with_name("away"))
        assert len({*made, *looked_at(station, node, run="a", steps=2)}) == 3
        file.with_name("away").rename(file)
    shutil.rmtree(session.output_dir / "sora_dit_training" / "a")
    assert not {*before, *made} & {*looked_at(station, node, run="a", steps=2)}
    assert looked_at(station, node) == [None, None]
