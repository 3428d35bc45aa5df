"""Load LoRA: what it makes of a model, what it leaves alone, and what it says."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from safetensors.torch import save_file
from sora_dit.dit_core.lora import LoraConfig, add_lora, save_lora

LAYER = "blocks.0.feed_forward.inner"


@pytest.fixture
def loras(session, tmp_path):
    """The folder `loras` of one of the session's models folders."""
    folder = tmp_path / "models" / "loras"
    folder.mkdir(parents=True)
    session.models_dirs.append(folder.parent)
    return folder


@pytest.fixture
def make_lora(loras, parts):
    """`make_lora("a.safetensors", targets=("attention",))` writes a random LoRA of the tiny model."""

    def call(name, targets=("all",), seed=1, **more):
        layers = add_lora(parts[0].module, LoraConfig(2, 4.0, targets))
        layers.remove()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in layers.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        save_lora(loras / name, layers, {}, **more)
        return layers

    return call


@pytest.fixture
def clip_of(run, parts, empty):
    """`clip_of(model)`: the latent that this model makes."""

    def call(model):
        text = run("TextEncode", clip=parts[1], text="a red balloon")[0]
        plan = run("TimestepConditioning", model=model, positive=text, steps=3)[0]
        return run("Denoise", model=model, conditioning=plan, latent=empty, seed=5)[0]["samples"]

    return call


def test_the_model_changes_by_the_product_and_the_old_one_does_not(run, parts, make_lora, clip_of):
    model = parts[0]
    layers = make_lora("a.safetensors", targets=("feed_forward", "text_attention"))
    before, clip = {n: t.clone() for n, t in model.module.state_dict().items()}, clip_of(model)
    changed = run("LoadLora", model=model, lora="a.safetensors", strength=0.5)[0]
    assert not torch.allclose(clip_of(changed), clip, atol=1e-2)
    wanted = dict(before)
    for name, layer in layers.items():  # strength * alpha / rank = 0.5 * 4 / 2
        wanted[f"{name}.weight"] = before[f"{name}.weight"] + layer.lora_B.weight @ layer.lora_A.weight
    torch.testing.assert_close(changed.module.state_dict(), wanted, atol=1e-6, rtol=1e-6)
    assert all(torch.equal(t, before[n]) for n, t in model.module.state_dict().items())
    assert torch.equal(clip_of(model), clip)


def test_only_the_changed_layers_take_memory_and_they_are_given_back(run, parts, make_lora):
    model = parts[0]
    make_lora("a.safetensors", targets=(LAYER,))
    changed = run("LoadLora", model=model, lora="a.safetensors")[0]
    pairs = zip(model.module.named_parameters(), changed.module.parameters(), strict=True)
    assert [name for (name, p), q in pairs if p.data_ptr() != q.data_ptr()] == [f"{LAYER}.weight"]
    assert not any(p.is_inference() for p in changed.module.parameters())
    watched = weakref.ref(changed.module)
    del changed
    gc.collect()
    assert watched() is None and model.module is not None


def test_strength_zero_is_the_same_model(run, parts, make_lora):
    make_lora("a.safetensors")
    assert run("LoadLora", model=parts[0], lora="a.safetensors", strength=0.0)[0] is parts[0]


def test_two_in_a_row_add_up(run, parts, make_lora):
    first, second = make_lora("a.safetensors"), make_lora("b.safetensors", targets=("*.inner",), seed=2)
    model = run("LoadLora", model=parts[0], lora="a.safetensors")[0]
    model = run("LoadLora", model=model, lora="b.safetensors", strength=-1.0)[0]
    a, b = (dict(one.items())[LAYER] for one in (first, second))
    product = a.lora_B.weight @ a.lora_A.weight - b.lora_B.weight @ b.lora_A.weight
    wanted = parts[0].module.get_submodule(LAYER).weight + 2 * product
    torch.testing.assert_close(model.module.get_submodule(LAYER).weight, wanted, atol=1e-5, rtol=1e-5)


def test_the_handle_says_what_it_is_and_the_rest_stays(run, parts, make_lora, session):
    model = parts[0]
    make_lora("a.safetensors")
    half, whole = (run("LoadLora", model=model, lora="a.safetensors", strength=s)[0] for s in (0.5, 1.0))
    assert half.name == "tiny.safetensors + a.safetensors x 0.5"
    assert len({model.sha256, half.sha256, whole.sha256}) == 3 and half.base_sha256 == model.sha256
    for name in ("device", "dtype", "spatial_factor", "temporal_factor", "empty_prompt", "latent_rgb"):
        assert getattr(half, name) is getattr(model, name), name
    facts = str(session.full_manifest())
    assert "a.safetensors" in facts and "lora_sha256" in facts and "'strength': 1.0" in facts


def test_a_plan_made_without_the_lora_is_refused(run, say, parts, make_lora, empty):
    make_lora("a.safetensors")
    text = run("TextEncode", clip=parts[1], text="sea")[0]
    plan = run("TimestepConditioning", model=parts[0], positive=text, steps=2)[0]
    changed = run("LoadLora", model=parts[0], lora="a.safetensors")[0]
    assert "worked out for another model" in say("Denoise", model=changed, conditioning=plan, latent=empty)


def test_files_come_from_the_loras_folder_only(station, loras, make_lora):
    make_lora("a.safetensors")
    (loras / "sub").mkdir()
    make_lora("sub/b.safetensors")
    (loras / "c.pt").write_bytes(b"x")
    options = station["LoadLora"].INPUT_TYPES()["required"]["lora"][1]["options"]
    assert options == ["a.safetensors", "sub/b.safetensors"]  # neither tiny.safetensors nor the starter


def test_what_is_wrong_is_said_before_the_run(station, loras, make_lora, models_folder):
    check = station["LoadLora"].validate_inputs
    make_lora("balloons.safetensors")
    assert check(lora="balloons.safetensors") is True and check(lora=None) is True
    words = check(lora="baloons.safetensors")
    assert words.startswith('lora: There is no LoRA file "baloons.safetensors". Did you mean "balloons.safetensors"?')
    assert str(loras) in words
    assert "no LoRA file" in check(lora="") and 'no LoRA file "5"' in check(lora=5)
    assert "starter" not in check(lora="sora-dit-startr.safetensors")
    (loras / "model.safetensors").write_bytes((models_folder / "tiny.safetensors").read_bytes())
    assert "is a whole Sora DiT model, not a LoRA; open it with Load Model" in check(lora="model.safetensors")
    (loras / "cut.safetensors").write_bytes((loras / "balloons.safetensors").read_bytes()[:-9])
    assert "cut short" in check(lora="cut.safetensors")
    assert "pickle" in check(lora="x.ckpt") and "leads out of the model folders" in check(lora="../../x.safetensors")


def test_a_lora_for_another_model_is_refused_with_names(say, parts, loras):
    save_file({"diffusion_model.double.q.lora_A.weight": torch.zeros(1, 4), "diffusion_model.double.q.lora_B.weight":
               torch.ones(4, 1)}, loras / "a.safetensors")  # fmt: skip
    words = say("LoadLora", model=parts[0], lora="a.safetensors")
    assert "none of its 1 layers is in this model" in words and "blocks.*.attention.qkv" in words
    save_file({f"diffusion_model.{LAYER}.lora_A.weight": torch.zeros(1, 4), f"diffusion_model.{LAYER}.lora_B.weight":
               torch.ones(4, 1)}, loras / "a.safetensors")  # fmt: skip
    words = say("LoadLora", model=parts[0], lora="a.safetensors")
    assert f"layer {LAYER}: the LoRA is for a matrix [4, 4]" in words and "the model's is [32, 24]" in words


def test_without_a_models_folder_nothing_leads_out_of_one(station, session):
    session.models_dirs = []
    words = station["LoadLora"].validate_inputs(lora="x.safetensors")
    assert 'There is no LoRA file "x.safetensors", and no folder of models to look in.' in words


def test_remarks_name_what_did_not_match_and_another_base(run, session, parts, make_lora, loras):
    from safetensors.torch import load_file

    make_lora("a.safetensors", base_sha256="ab" * 32, base_model="other.safetensors")
    extra = {f"lora_te_x.lora_{end}.weight": torch.ones(1, 1) for end in ("A", "B")}
    save_file(load_file(loras / "a.safetensors") | extra, loras / "b.safetensors")
    make_lora("own.safetensors", base_sha256=parts[0].sha256)
    for name, words in (
        ("own", []),
        ("a", ['trained on another model ("other.safetensors", checksum abababababab)']),
        ("b", ["1 are not in this model and were left out (lora_te_x)"]),
    ):
        session.notes.clear()
        run("LoadLora", model=parts[0], lora=f"{name}.safetensors")
        assert len(session.notes) == len(words) and all(one in str(session.notes) for one in words), session.notes
