"""What trainings make is kept: LoRA files, saved models, and whose files are never replaced."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file
from sora_dit.dit_core.lora import read_lora_header
from sora_dit.dit_core.training.state import TrainingState
from sora_dit.nodes import _training, _training_watch, host

pytestmark = pytest.mark.usefixtures("few_held_out_clips")


def weights(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_lora_learns_goes_into_a_file_and_is_what_load_lora_gives(go, parts, latents, own_models, session):
    what = {"model": parts[0], "clip": parts[1], "latents": latents, "run": "zq", "rank": 2, "batch": 2}
    before = weights(parts[0])
    changed, file, run = go("TrainLora", steps=3, targets="all layers", **what)
    assert (file, run) == ("zq.safetensors", "zq") and (own_models / "loras" / file).is_file()
    assert same(before, weights(parts[0])) and not same(before, weights(changed))
    loaded = go("LoadLora", model=parts[0], lora=file, strength=1.0)[0]
    assert same(weights(changed), weights(loaded))
    made = (own_models / "loras" / file).read_bytes()
    go("TrainLora", steps=3, targets="all layers", **what)
    assert (own_models / "loras" / file).read_bytes() == made


def test_a_lora_of_somebody_else_is_not_replaced(go, say, station, parts, latents, own_models):
    go("TrainLora", model=parts[0], clip=parts[1], latents=latents, run="zq", steps=1, batch=1)
    shutil.copy(own_models / "loras" / "zq.safetensors", own_models / "loras" / "other.safetensors")
    words = "already, which another training made. Give run another name"
    assert words in station["TrainLora"].validate_inputs(run="other")
    assert words in say("TrainLora", model=parts[0], clip=parts[1], latents=latents, run="other", steps=1)
    assert station["TrainLora"].validate_inputs(run="zq") is True


def test_a_lora_of_the_same_name_in_another_output_folder_is_not_replaced(go, say, parts, latents, own_models, session):
    def train(teller, steps):
        asked = {"run": "zq", "steps": steps, "batch": 1, "rank": 2}
        return teller("TrainLora", model=parts[0], clip=parts[1], latents=latents, **asked)

    train(go, 1)
    file, mine = own_models / "loras" / "zq.safetensors", session.output_dir
    made = file.read_bytes()
    session.output_dir = mine.with_name("output of somebody else")
    assert "already, which another training made" in train(say, 1) and file.read_bytes() == made
    session.output_dir = mine
    train(go, 2)
    assert file.read_bytes() != made, "the training that made it goes on"


def test_a_lora_and_a_state_from_before_they_had_a_number_go_on(go, parts, latents, own_models, session, monkeypatch):
    asked = {"model": parts[0], "clip": parts[1], "latents": latents, "run": "zq", "batch": 1, "rank": 2}
    save = TrainingState.save

    def without_number(state):
        state.position.pop("run_id", None)
        return save(state)

    with monkeypatch.context() as before:
        before.setattr(TrainingState, "save", without_number)
        go("TrainLora", steps=1, **asked)
    assert "run_id" not in read_lora_header(own_models / "loras" / "zq.safetensors").provenance
    go("TrainLora", steps=2, **asked)
    go("TrainLora", steps=2, **asked)


def test_a_cancel_just_after_the_loss_rose_says_where_it_goes_on():
    assert _training_watch.stopped({"step": 7}) == "The training was stopped at step 7; queue it again to go on."
    again = _training_watch.stopped({"step": 7, "kept": 5})
    assert again.endswith("is not saved; queued again it goes on from step 5.")
    assert _training_watch.stopped({"step": 7, "kept": 0}).endswith("is not saved; queued again it begins anew.")


def test_a_saved_model_comes_back_and_says_how_it_was_made(go, parts, train, own_models, session):
    trained = train(steps=2)[0]
    file = go("SaveModel", name="mine", dtype="float32", model=trained, clip=parts[1], vae=parts[2])[0]
    model, clip, vae = go("LoadModel", model=file)
    assert same(weights(trained), weights(model)) and clip is not None and vae is not None
    from sora_dit.dit_core.checkpoint import read_header

    made = read_header(own_models / "sora_dit" / "mine.safetensors").provenance
    assert made["transformer"]["step"] == 2 and made["transformer"]["started_from"] == "tiny.safetensors"
    assert made["autoencoder"] == {"from": "tiny.safetensors"}


def test_a_trained_model_that_computes_in_16_bits_is_saved_and_trained_on_as_it_was_learned(
    go, parts, train, latents, own_models, session
):
    coarse = go("LoadModel", model="tiny.safetensors", dtype="bfloat16")[0]
    trained = train(steps=2, model=coarse)[0]
    assert trained.dtype == torch.bfloat16 == next(trained.module.parameters()).dtype
    file = go("SaveModel", name="exact", dtype="float32", model=trained, clip=parts[1], vae=parts[2])[0]
    (state,) = session.output_dir.rglob("state.safetensors")
    learned = {
        name.removeprefix("average.transformer."): value
        for name, value in load_file(state).items()
        if name.startswith("average.transformer.")
    }
    saved = go("LoadModel", model=file, dtype="float32")[0].module.state_dict()
    assert saved.keys() == learned.keys() and all(torch.equal(saved[name], learned[name]) for name in learned)
    assert any((value.bfloat16().float() != value).any() for value in learned.values()), "or this could not fail"
    job = _training.Job(None, trained, parts[1], latents, None, None)
    assert all(torch.equal(value, learned[name]) for name, value in job._copies()[0].state_dict().items())


def test_saving_refuses_what_it_must(go, say, station, parts, own_models):
    assert "Nothing is connected" in say("SaveModel", name="x")
    go("SaveModel", name="x", vae=parts[2])
    check = station["SaveModel"].validate_inputs
    assert check(name="x") is True
    for name, words in (
        ("", 'expected a name such as "my_clips"'), ("a/x", "which holds /"), ("../x", "expected a name"),
        ("a:b", "holds :"), ("ä" * 60, "has 120 bytes"), (".x", "expected a name"),
    ):  # fmt: skip
        assert words in check(name=name), name


def test_a_trained_model_is_not_replaced_when_its_training_is_muted_or_bypassed(go, say, parts, train, own_models):
    model, clip, vae = parts
    go("SaveModel", name="mine", model=train(steps=2)[0], clip=clip, vae=vae)
    file = own_models / "sora_dit" / "mine.safetensors"
    made = file.read_bytes()
    fresh = go("NewModel", vae=vae, clip=clip, width=24, depth=1, heads=2)[0]
    assert "no model is connected" in say("SaveModel", name="mine", clip=clip, vae=vae)  # muted
    assert "the model connected was never trained" in say("SaveModel", name="mine", model=fresh, clip=clip, vae=vae)
    assert file.read_bytes() == made
    go("SaveModel", name="mine", model=model, clip=clip, vae=vae)  # a finished one may take its place
    assert file.read_bytes() != made
    assert go("SaveModel", name="new", model=fresh)[0] == "new.safetensors"


def test_a_file_that_is_to_be_kept_gets_a_neighbour(go, station, parts, own_models):
    names = [go("SaveModel", name="mine", overwrite=False, vae=parts[2])[0] for _ in range(3)]
    assert names == ["mine.safetensors", "mine_2.safetensors", "mine_3.safetensors"]
    ask = station["SaveModel"].fingerprint_inputs
    assert ask(name="mine") == ask(name="mine")
    (own_models / "sora_dit" / "mine.safetensors").unlink()
    assert ask(name="mine") != ask(name="mine"), "a file that was removed is written again"
    assert ask(name="mine", overwrite=False) == ask(name="mine", overwrite=False)


def test_new_models_go_into_their_folder_not_into_that_of_others(go, parts, own_models):
    (own_models / "diffusion_models").mkdir()
    assert host.model_target("mine") == own_models / "sora_dit" / "mine.safetensors"
