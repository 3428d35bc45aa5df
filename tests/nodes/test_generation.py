"""From a file to a clip: load, encode text, plan, denoise, decode."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from sora_dit.dit_core.errors import Cancelled, ShapeError, SoraDiTError


def test_a_file_gives_three_parts(parts):
    model, clip, vae = parts
    assert model.config.in_channels == vae.latent_channels == 4
    assert (model.spatial_factor, model.temporal_factor) == (8, 4)
    assert model.empty_prompt[0][0].shape == (1, 1, 32)
    assert not any(p.is_inference() for p in model.module.parameters())


def test_weights_are_loaded_once_and_again_when_the_file_changes(run, parts, make_model):
    assert run("LoadModel", model="tiny.safetensors")[0].module is parts[0].module
    path = make_model("own.safetensors")
    before = run("LoadModel", model="own.safetensors")[0]
    make_model("own.safetensors", seed=1)
    assert path.exists() and run("LoadModel", model="own.safetensors")[0].sha256 != before.sha256


def test_fingerprint_follows_the_file(station, session, tmp_path, make_model):
    make_model("own.safetensors")
    look = station["LoadModel"].fingerprint_inputs
    before = look(model="own.safetensors", device="auto", dtype="auto")
    assert before == look(model="own.safetensors", device="auto", dtype="auto")
    make_model("own.safetensors", channels=8)
    assert before != look(model="own.safetensors", device="auto", dtype="auto")


def test_parts_from_other_files(run, make_model):
    make_model("own.safetensors", seed=3, parts="ea")
    model, clip, vae = run("LoadModel", model="tiny.safetensors", text_encoder="own.safetensors", vae="own.safetensors")
    assert (model.name, clip.name, vae.name) == ("tiny.safetensors", "own.safetensors", "own.safetensors")


def test_a_published_text_encoder(run, make_model, tmp_path, session):
    from transformers import T5Config, T5EncoderModel

    make_model("own.safetensors", text_width=32, parts="ta")
    folder = tmp_path / "text_encoders" / "little"
    settings = {"vocab_size": 259, "d_model": 32, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(**settings)).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer", "model_max_length": 40}')
    name = "little/model.safetensors"
    model, clip, vae = run("LoadModel", model="own.safetensors", text_encoder=name)
    assert clip.encode("ab").shape == (1, 3, 32) and model.empty_prompt is not None and vae is not None
    assert len(session.full_manifest()["weights"][name]) == 64
    assert run("LoadModel", model="own.safetensors")[1] is None


def test_a_large_file_is_read_once_and_not_kept(run, make_model, monkeypatch):
    from sora_dit.nodes import _models

    make_model("own.safetensors", seed=21)
    opened, real = [], _models._open_bundle
    monkeypatch.setattr(_models, "_LARGEST_KEPT", 0)
    monkeypatch.setattr(_models, "_open_bundle", lambda path, *how: opened.append(path.name) or real(path, *how))
    for _ in range(2):
        run("LoadModel", model="own.safetensors")
    assert opened == ["own.safetensors"] * 2


@pytest.mark.parametrize(
    "chosen, words",
    [
        ({"model": "tyni.safetensors"}, 'There is no model file "tyni.safetensors". Did you mean "tiny.safetensors"?'),
        ({"model": "../tiny.safetensors"}, "Looked in:"),
        ({"model": "old.ckpt"}, "pickle file"),
        ({"model": "parts.safetensors"}, 'The file "parts.safetensors" holds no video model (transformer)'),
        ({"model": "tiny.safetensors", "vae": "only.safetensors"}, "holds no VAE (autoencoder)"),
        ({"model": "cut.safetensors"}, "cut short"),
        ({"model": "text.safetensors"}, "is not a .safetensors file"),
    ],
)
def test_unusable_files_are_named_before_the_run(station, session, make_model, tmp_path, chosen, words):
    make_model("parts.safetensors", parts="ea")
    whole = make_model("only.safetensors", parts="t").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.safetensors").write_text("hello, not a model")
    assert words in station["LoadModel"].validate_inputs(**chosen)
    with pytest.raises(SoraDiTError, match=words.split("(")[0].rstrip().replace("?", r"\?")):
        station["LoadModel"].execute(device="cpu", dtype="auto", **chosen)


def test_the_starter_is_always_listed_first(station, session):
    options = station["LoadModel"].INPUT_TYPES()["required"]["model"][1]["options"]
    assert options[:2] == ["sora-dit-starter.safetensors", "tiny.safetensors"]


def test_a_prompt_is_encoded_as_comfyui_lays_it_out(run, parts):
    (embeddings, extra), *more = run("TextEncode", clip=parts[1], text="two words")[0]
    assert not more and embeddings.shape == (1, 10, 32) and embeddings.dtype == torch.float32
    assert extra["pooled_output"].shape == (1, 32) and extra["attention_mask"].shape == (1, 10)


def test_a_long_prompt_is_cut_with_a_note(run, parts, session):
    run("TextEncode", clip=parts[1], text="short")
    assert session.notes == []
    run("TextEncode", clip=parts[1], text="long " * 50)
    assert "longer than the 63 bytes" in session.notes[0].text


def test_clip_has_comfyuis_methods(parts):
    clip = parts[1]
    tokens = clip.tokenize("ab")
    cond, pooled = clip.encode_from_tokens(tokens, return_pooled=True)
    whole = clip.encode_from_tokens(tokens, return_dict=True)
    assert torch.equal(cond, whole["cond"]) and torch.equal(pooled, whole["pooled_output"])
    assert torch.equal(clip.clone().encode("ab"), cond)
    with pytest.raises(SoraDiTError, match="another text encoder"):
        clip.encode_from_tokens({"l": []})


def test_text_encode_takes_any_clip_object(run):
    class Other:
        def tokenize(self, text):
            return {"l": text}

        def encode_from_tokens_scheduled(self, tokens):
            return [[tokens["l"], {}]]

    assert run("TextEncode", clip=Other(), text="hello")[0] == [["hello", {}]]
    with pytest.raises(SoraDiTError, match="no tokenize.*CLIP output"):
        run("TextEncode", clip=object(), text="hello")
    with pytest.raises(SoraDiTError, match="clip is nothing; expected the CLIP output"):
        run("TextEncode", clip=None, text="hello")


def test_the_same_seed_gives_the_same_clip(generate, empty):
    one, two, other = (generate(empty, seed=seed)["samples"] for seed in (7, 7, 8))
    assert one.shape == (1, 4, 3, 3, 4) and torch.equal(one, two)
    assert (one - other).abs().mean() > 0.1


def test_prompt_and_guidance_count(generate, empty):
    def clip(**changes):
        return generate(empty, seed=1, **changes)["samples"]

    base = clip(cfg=4.0)
    assert not torch.equal(base, clip(cfg=4.0, text="a blue plane"))
    assert not torch.equal(base, clip(cfg=2.0))
    # Without a negative prompt the empty prompt takes its place.
    assert torch.allclose(base, clip(cfg=4.0, negative=""), atol=1e-5)
    assert not torch.equal(base, clip(cfg=4.0, negative="rain"))


def test_a_batch_holds_different_clips(run, parts, generate):
    latent = run("EmptyLatent", model=parts[0], width=16, height=16, frames=5, batch_size=3)[0]
    samples = generate(latent)["samples"]
    assert samples.shape == (3, 4, 2, 2, 2) and not torch.equal(samples[0], samples[1])
    assert run("Decode", vae=parts[2], latent={"samples": samples})[0].shape == (15, 16, 16, 3)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc", "ddim", "ddpm"])
def test_every_sampler_runs(generate, empty, sampler):
    assert generate(empty, sampler=sampler, steps=4)["samples"].isfinite().all()


def test_other_keys_of_the_latent_pass_through(generate, empty):
    latent = empty | {"batch_index": [0], "someone_elses": "thing"}
    out = generate(latent)
    assert out["someone_elses"] == "thing" and out["batch_index"] == [0]
    assert not empty["samples"].any(), "the input was changed in place"


def test_kept_frames_come_out_as_they_went_in(generate, empty):
    torch.manual_seed(3)
    latent = {"samples": torch.randn(empty["samples"].shape), "noise_mask": torch.ones(1, 1, 3, 3, 4)}
    latent["noise_mask"][:, :, 0] = 0
    out = generate(latent, seed=2)["samples"]
    assert torch.equal(out[:, :, 0], latent["samples"][:, :, 0])
    assert (out[:, :, 1:] - latent["samples"][:, :, 1:]).abs().mean() > 0.1
    free = generate({"samples": latent["samples"]}, seed=2)["samples"]
    assert not torch.allclose(out[:, :, 2], free[:, :, 2], atol=1e-3), "the kept frame had no influence"


def test_kept_regions_come_out_as_they_went_in(generate, empty):
    latent = {"samples": torch.ones_like(empty["samples"]), "noise_mask": torch.ones(1, 1, 3, 3, 4)}
    latent["noise_mask"][..., :2] = 0
    out = generate(latent)["samples"]
    assert torch.equal(out[..., :2], latent["samples"][..., :2]) and not torch.equal(out, latent["samples"])


def test_little_denoise_stays_near_the_clip(generate, empty):
    latent = {"samples": torch.ones_like(empty["samples"]) * 2}
    far, near = ((generate(latent, denoise=part, steps=4, cfg=1.0)["samples"] - 2).abs().mean() for part in (1.0, 0.05))
    assert near < 0.5 * far


def test_sigmas_from_elsewhere_replace_the_schedule(run, parts, generate, empty):
    positive = run("TextEncode", clip=parts[1], text="sea")[0]
    own = run("TimestepConditioning", model=parts[0], positive=positive, steps=2)[1]
    # The model's own shift of 2 moves the middle of the schedule from 1/2 to 2/3.
    assert own.tolist() == pytest.approx([1.0, 2 / 3, 0.0])
    given = torch.tensor([1.0, 0.5, 0.25, 0.0])
    conditioning, sigmas = run("TimestepConditioning", model=parts[0], positive=positive, sigmas=given)
    assert torch.equal(sigmas, given) and torch.equal(conditioning.sigmas, given)


def test_a_clip_picked_out_of_a_batch_is_made_again_by_its_number(run, parts, generate):
    pair = run("EmptyLatent", model=parts[0], width=32, height=32, frames=9, batch_size=2)[0]
    whole = generate(pair, seed=5)["samples"]
    second = {"samples": pair["samples"][1:], "batch_index": [1]}  # what LatentFromBatch of ComfyUI gives
    torch.testing.assert_close(generate(second, seed=5)["samples"], whole[1:], atol=1e-5, rtol=1e-5)
    alike = generate(pair | {"batch_index": [1, 1]}, seed=5, sampler="ddpm")["samples"]
    torch.testing.assert_close(alike[0], alike[1], atol=1e-5, rtol=1e-5)
    with pytest.raises(ShapeError, match="batch_index: got 1 numbers; expected 2"):
        generate(pair | {"batch_index": [1]})


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("sampler", ["euler", "ddpm"])
def test_a_schedule_may_be_split_over_two_denoise_nodes(run, parts, generate, empty, sampler, masked):
    model, clip, _ = parts
    prompt = run("TextEncode", clip=clip, text="a red balloon")[0]
    sigmas = run("TimestepConditioning", model=model, positive=prompt, steps=6)[1]
    start = empty
    if masked:
        mask = torch.linspace(0, 1, empty["samples"].shape[-1]).expand(1, 1, *empty["samples"].shape[2:])
        start = {"samples": torch.randn(empty["samples"].shape), "noise_mask": mask}
    whole = generate(start, sigmas=sigmas, seed=3, sampler=sampler)
    first = generate(start, sigmas=sigmas[:4], seed=3, sampler=sampler)
    second = generate(first, sigmas=sigmas[3:], seed=3, sampler=sampler)
    torch.testing.assert_close(second["samples"], whole["samples"], atol=1e-4, rtol=1e-4)
    assert set(second) == set(whole) and set(first) != set(whole)
    with pytest.raises(SoraDiTError, match=r"latent still has noise: its schedule ended at level .*Split Sigmas"):
        generate(first, sigmas=sigmas[2:], seed=3)


def test_shift_of_its_own(run, parts):
    positive = run("TextEncode", clip=parts[1], text="sea")[0]
    sigmas = run("TimestepConditioning", model=parts[0], positive=positive, steps=2, shift=1.0)[1]
    assert sigmas.tolist() == pytest.approx([1.0, 0.5, 0.0])


def test_what_made_the_clip_is_recorded(generate, empty, session):
    generate(empty, seed=11, cfg=3.0)
    facts = session.full_manifest()
    assert facts["seed"] == 11 and facts["cfg"] == 3.0 and len(facts["sigmas"]) == 4
    assert facts["seconds_per_step"] > 0 and facts["device"] == "cpu" and facts["dtype"] == "float32"
    assert len(facts["weights"]["tiny.safetensors"]) == 64


def test_cancel_stops_within_a_step(generate, empty, session, monkeypatch):
    seen = []

    def step(index, total, preview=None):
        seen.append((index, total))
        if index == 2:
            session.cancel.set()

    monkeypatch.setattr(session, "step", step)
    with pytest.raises(Cancelled):
        generate(empty, steps=5)
    assert seen == [(1, 5), (2, 5)]


def test_text_of_another_encoder_is_named_in_words(run, parts, make_model, say):
    make_model("wide.safetensors", text_width=48)
    wide = run("LoadModel", model="wide.safetensors")[1]
    conditioning = run("TextEncode", clip=wide, text="sea")[0]
    text = say("TimestepConditioning", model=parts[0], positive=conditioning)
    assert "positive comes from a text encoder of width 48" in text and "width 32" in text
    mine = run("TextEncode", clip=parts[1], text="sea")[0]
    text = say("TimestepConditioning", model=parts[0], positive=mine, negative=conditioning)
    assert text.startswith("negative comes from a text encoder of width 48")


def test_conditioning_that_cannot_be_used(run, parts, say):
    def said(conditioning):
        return say("TimestepConditioning", model=parts[0], positive=conditioning)

    good = run("TextEncode", clip=parts[1], text="sea")[0]
    assert "positive is a list" in said([])
    assert "a prompt for a part of the picture" in said([[good[0][0], good[0][1] | {"area": (8, 8, 0, 0)}]])
    assert "a ControlNet" in said(good + [[good[0][0], good[0][1] | {"control": object()}]])
    assert "expected the CONDITIONING" in said(7)
    assert "no pooled text vector" in said([[good[0][0], {"pooled_output": None}]])


def test_combined_prompts_count_each_by_its_strength(run, parts, empty):
    first, second = (run("TextEncode", clip=parts[1], text=text)[0] for text in ("a red balloon", "night"))

    def clip(positive):
        plan = run("TimestepConditioning", model=parts[0], positive=positive, steps=3)[0]
        return run("Denoise", model=parts[0], conditioning=plan, latent=empty, seed=3)[0]["samples"]

    weak = [[second[0][0], second[0][1] | {"strength": 0.0}]]
    assert torch.allclose(clip(first + weak), clip(first), atol=1e-5)
    assert torch.allclose(clip(first + second), clip(second + first), atol=1e-5)
    assert not torch.allclose(clip(first + second), clip(first), atol=1e-3)


def test_what_only_comfyui_can_do_is_said_outside_of_it(parts, say):
    assert "inside ComfyUI only" in say("ToComfyModel", model=parts[0])


def test_model_and_conditioning_must_belong_together(run, parts, empty, make_model, say):
    make_model("own.safetensors", seed=5)
    other = run("LoadModel", model="own.safetensors")[0]
    positive = run("TextEncode", clip=parts[1], text="sea")[0]
    plan = run("TimestepConditioning", model=parts[0], positive=positive)[0]
    assert "another model" in say("Denoise", model=other, conditioning=plan, latent=empty)


def test_a_latent_of_another_model_is_named_in_words(run, parts, generate, say):
    with pytest.raises(ShapeError, match="The latent has 16 channels, but this model works with 4"):
        generate({"samples": torch.zeros(1, 16, 3, 2, 2)})
    assert "works with 4" in say("Decode", vae=parts[2], latent={"samples": torch.zeros(1, 16, 3, 2, 2)})
    assert "Expected a LATENT" in say("Decode", vae=parts[2], latent={"waveform": 1})


def test_an_image_latent_counts_as_one_frame(generate):
    assert generate({"samples": torch.zeros(1, 4, 2, 2)})["samples"].shape == (1, 4, 1, 2, 2)


def test_nan_is_told_not_shown_as_black(run, parts, say, make_model):
    samples = torch.zeros(1, 4, 2, 2, 2)
    samples[0, 0, 0, 0, 0] = float("nan")
    assert say("Decode", vae=parts[2], latent={"samples": samples}).startswith("The latent is damaged")
    make_model("broken.safetensors", seed=9)
    model, clip, _ = run("LoadModel", model="broken.safetensors")
    torch.nn.init.constant_(model.module.patch_in.weight, float("nan"))
    plan = run("TimestepConditioning", model=model, positive=run("TextEncode", clip=clip)[0], steps=1)[0]
    latent = run("EmptyLatent", model=model, width=16, height=16, frames=1)[0]
    assert "not finite" in say("Denoise", model=model, conditioning=plan, latent=latent)


class Lazy:
    def decode(self, samples):
        return samples


def test_broken_vae_objects(run, empty, say):
    assert "vae is nothing" in say("Decode", vae=None, latent=empty)
    assert "it has no decode" in say("Decode", vae=object(), latent=empty)
    assert "expected pictures" in say("Decode", vae=Lazy(), latent=empty)


def test_what_was_worked_out_holds_for_the_same_weights_loaded_again(run, parts, empty, say):
    """ComfyUI may let go of a model when memory is short, and keep what hangs on it."""
    positive = run("TextEncode", clip=parts[1], text="sea")[0]
    plan = run("TimestepConditioning", model=parts[0], positive=positive, steps=2)[0]
    again = replace(parts[0], module=copy.deepcopy(parts[0].module))
    made = [run("Denoise", model=model, conditioning=plan, latent=empty)[0]["samples"] for model in (parts[0], again)]
    assert torch.equal(*made)
    assert "another model" in say("Denoise", model=replace(again, sha256="0" * 64), conditioning=plan, latent=empty)


def test_encoding_can_be_cancelled(run, parts, session):
    session.cancel.set()
    with pytest.raises(Cancelled):
        run("Encode", vae=parts[2], images=torch.rand(9, 32, 32, 3))
