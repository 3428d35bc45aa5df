"""LoRA files and merging: what is written and read, what the weights become, and what is said when it does not fit."""

import dataclasses
import gc
import json
import subprocess
import sys
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file
from sora_dit.dit_core.checkpoint import save_bundle
from sora_dit.dit_core.errors import CheckpointError, ShapeError, SoraDiTError
from sora_dit.dit_core.lora import (
    LoraConfig,
    add_lora,
    apply_lora,
    load_lora,
    merged_weights,
    read_lora_header,
    save_lora,
    with_lora,
)
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CONFIG = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, patch=(1, 2, 2))
QKV = "blocks.0.attention.qkv"


def model(seed: int = 0, **changes) -> VideoDiT:
    torch.manual_seed(seed)
    made = VideoDiT(dataclasses.replace(CONFIG, **changes))
    for parameter in made.parameters():  # gates that start at zero would hide most of the change
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def inputs(seed: int = 1) -> tuple:
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 4, 3, 4, 4, generator=g), torch.rand(2, generator=g) * 1000,
            torch.randn(2, 5, 16, generator=g), None, torch.randn(2, 16, generator=g))  # fmt: skip


def fill(layers, seed: int = 2) -> None:
    """Random values for A and B: a LoRA that has learned something."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * 0.2)


def written(path, base: VideoDiT, seed: int = 2, targets=("all",), rank: int = 3, alpha: float = 6.0, **more):
    layers = add_lora(base, LoraConfig(rank, alpha, targets))
    fill(layers, seed)
    layers.remove()
    save_lora(path, layers, {"made": "by a test"}, **more)
    return layers


def by_hand(base: VideoDiT, layers, strength: float) -> dict:
    """State dict with W + strength * alpha / rank * B A."""
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    for name, layer in layers.items():
        a, b, c = layer.lora_A.weight, layer.lora_B.weight, layers.config
        state[f"{name}.weight"] += (strength * c.alpha / c.rank * (b @ a)).detach()
    return state


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- The file -----------------------------------------------------------------------------------------------------


def test_a_file_says_everything_about_itself_and_comes_back(tmp_path):
    path = tmp_path / "a.safetensors"
    layers = written(path, model(), targets=("attention", "*.inner"), base_sha256="ab" * 32, base_model="tiny")
    tensors = load_file(path)
    assert tensors[f"diffusion_model.{QKV}.lora_A.weight"].shape == (3, 24)
    assert tensors[f"diffusion_model.{QKV}.lora_B.weight"].shape == (72, 3)
    assert tensors[f"diffusion_model.{QKV}.alpha"].item() == 6.0
    assert len(tensors) == 3 * len(layers)
    header = read_lora_header(path)
    assert header.rank == 3 and header.base_sha256 == "ab" * 32 and header.base_model == "tiny"
    assert header.targets == ("attention", "*.inner") and header.provenance == {"made": "by a test"}
    lora = load_lora(path)
    assert set(lora.layers) == {name for name, _ in layers.items()}
    for name, layer in layers.items():
        change = lora.layers[name]
        assert torch.equal(change.down, layer.lora_A.weight) and torch.equal(change.up, layer.lora_B.weight)


def test_headers_are_read_without_torch(tmp_path):
    written(tmp_path / "a.safetensors", model())
    code = (
        "import sys; from sora_dit.dit_core.lora import read_lora_header; "
        f"print(read_lora_header({str(tmp_path / 'a.safetensors')!r}).rank, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3 False"


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    from sora_dit.dit_core.lora import file

    path = tmp_path / "a.safetensors"
    layers = written(path, model())
    old = path.read_bytes()

    def full_disk(temporary, *_):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file, "write_tensors", full_disk)
        with pytest.raises(CheckpointError, match="disk is full"):
            save_lora(path, layers, {})
    with torch.no_grad():
        next(layers.parameters()).fill_(float("nan"))
    with pytest.raises(CheckpointError, match="NaN"):
        save_lora(path, layers, {})
    with pytest.raises(CheckpointError, match="ends in .safetensors"):
        save_lora(tmp_path / "a.pt", layers, {})
    assert path.read_bytes() == old and [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


def test_damaged_and_foreign_files_are_refused_in_words(tmp_path):
    path = tmp_path / "a.safetensors"
    written(path, model())
    data = bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum of its content"):
        load_lora(path)
    path.write_bytes(data[:-9])
    with pytest.raises(CheckpointError, match="cut short"):
        read_lora_header(path)
    base = model()
    save_bundle(path, {"transformer": (base.config.to_dict(), base.state_dict())}, {})
    with pytest.raises(CheckpointError, match="whole Sora DiT model, not a LoRA"):
        read_lora_header(path)
    a, b = torch.zeros(2, 24), torch.zeros(72, 2)
    cases = {
        "not a LoRA": {"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)},
        "is a DoRA": {"diffusion_model.x.lora_A.weight": a, "diffusion_model.x.dora_scale": b},
        "one of the two matrices is missing for y": {
            "x.lora_A.weight": a, "x.lora_B.weight": b, "y.lora_A.weight": a + 1
        },
        r"layer x: the two matrices are \[2, 24\] and \[72, 3\]": {
            "x.lora_A.weight": a, "x.lora_B.weight": torch.zeros(72, 3)
        },
        "no single number": {"x.lora_A.weight": a, "x.lora_B.weight": b, "x.alpha": torch.ones(2)},
    }  # fmt: skip
    for words, tensors in cases.items():
        save_file(tensors, path)
        with pytest.raises(CheckpointError, match=words):
            read_lora_header(path)
    save_file({"x.lora_A.weight": a, "x.lora_B.weight": b / 0}, path)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_lora(path)
    save_file({"x.lora_A.weight": a, "x.lora_B.weight": b}, path, {"format": "sora_dit_lora", "format_version": "2"})
    with pytest.raises(CheckpointError, match="format version '2'"):
        read_lora_header(path)


# --- Merging ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1.0, -0.7, 0.25])
def test_merged_weights_are_those_by_hand(tmp_path, strength):
    base = model()
    layers = written(tmp_path / "a.safetensors", base)
    lora = load_lora(tmp_path / "a.safetensors")
    wanted = by_hand(base, layers, strength)
    other, report = with_lora(base, lora, strength)
    assert len(report.matched) == len(layers) and report.remark() is None
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], atol=1e-6, rtol=1e-6)
    base.load_state_dict(wanted)
    torch.testing.assert_close(other(*inputs()), base(*inputs()), atol=1e-5, rtol=1e-5)


def test_a_second_model_shares_what_is_the_same_and_leaves_the_first_alone(tmp_path):
    base = model()
    before = {n: t.clone() for n, t in base.state_dict().items()}
    written(tmp_path / "a.safetensors", base, targets=("*.qkv",))
    other, report = with_lora(base, load_lora(tmp_path / "a.safetensors"), 1.0)
    changed = {f"{name}.weight" for name in report.matched}
    assert changed == {"blocks.0.attention.qkv.weight", "blocks.1.attention.qkv.weight"}
    for (name, p), q in zip(base.named_parameters(), other.parameters(), strict=True):
        assert p is not q and (p.data_ptr() == q.data_ptr()) == (name not in changed), name
    other.double()  # as a move to another device: parameters of its own
    assert same(base.state_dict(), before)
    watched = weakref.ref(other)
    del other
    gc.collect()
    assert watched() is None


def test_several_stack_in_order_and_come_off_exactly(tmp_path):
    base = model()
    before, out = {n: t.clone() for n, t in base.state_dict().items()}, base(*inputs())
    first = written(tmp_path / "a.safetensors", base)
    second = written(tmp_path / "b.safetensors", base, seed=9, targets=("attention",), rank=2, alpha=1.0)
    loras = [load_lora(tmp_path / f"{name}.safetensors") for name in "ab"]
    a = apply_lora(base, loras[0], 1.0)
    torch.testing.assert_close(base.state_dict(), by_hand(_with(before), first, 1.0))
    b = apply_lora(base, loras[1], -2.0)
    both = by_hand(_with(by_hand(_with(before), first, 1.0)), second, -2.0)
    torch.testing.assert_close(base.state_dict(), both)
    copy = with_lora(with_lora(_with(before), loras[0], 1.0)[0], loras[1], -2.0)[0]
    assert same(copy.state_dict(), base.state_dict())
    with pytest.raises(SoraDiTError, match="remove that one first"):
        a.remove()
    b.remove()
    b.remove()
    a.remove()
    assert same(base.state_dict(), before) and torch.equal(base(*inputs()), out)


def _with(state: dict) -> VideoDiT:
    made = model()
    made.load_state_dict(state)
    return made


def test_sixteen_bit_weights_are_rounded_once(tmp_path):
    base = model().bfloat16()
    layers = written(tmp_path / "a.safetensors", base, targets=("feed_forward",))
    merged, _ = merged_weights(base, load_lora(tmp_path / "a.safetensors"), 0.5)
    for name, layer in layers.items():
        weight = base.get_submodule(name).weight.float()
        wanted = weight + 0.5 * 2.0 * (layer.lora_B.weight @ layer.lora_A.weight)
        assert merged[name].dtype == torch.bfloat16
        torch.testing.assert_close(merged[name], wanted.bfloat16())


@pytest.mark.parametrize("names", ["diffusion_model.{}.lora_{}.weight", "transformer.{}.lora_{}.weight",
                                   "{}.lora_{}.weight", "lora_unet_{}.lora_{}.weight"])  # fmt: skip
def test_names_of_others_are_read_and_without_alpha_the_change_is_the_product(tmp_path, names):
    base, path = model(), tmp_path / "a.safetensors"
    a, b = torch.randn(3, 24), torch.randn(72, 3)
    kohya = names.startswith("lora_unet")
    layer, ends = (QKV.replace(".", "_"), ("down", "up")) if kohya else (QKV, ("A", "B"))
    save_file({names.format(layer, ends[0]): a, names.format(layer, ends[1]): b}, path)
    merged, report = merged_weights(base, load_lora(path), 1.0)
    assert report.matched == (QKV,)
    torch.testing.assert_close(merged[QKV], base.get_submodule(QKV).weight + b @ a)
    alpha = f"{names.format(layer, '').split('.lora_')[0]}.alpha"
    save_file({names.format(layer, ends[0]): a, names.format(layer, ends[1]): b, alpha: torch.tensor(1.5)}, path)
    merged, _ = merged_weights(base, load_lora(path), 1.0)
    torch.testing.assert_close(merged[QKV], base.get_submodule(QKV).weight + 0.5 * b @ a)


def test_a_kohya_name_that_could_mean_two_layers_is_refused(tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a_b = torch.nn.Linear(4, 4)
            self.a = torch.nn.Module()
            self.a.b = torch.nn.Linear(4, 4)

    path = tmp_path / "a.safetensors"
    a, b = torch.zeros(1, 4), torch.zeros(4, 1)
    save_file({"lora_unet_a_b.lora_down.weight": a, "lora_unet_a_b.lora_up.weight": b}, path)
    with pytest.raises(CheckpointError, match="could mean a_b or a.b"):
        merged_weights(Twice(), load_lora(path), 1.0)
    other = {"diffusion_model.qkv.lora_A.weight": a + 1, "diffusion_model.qkv.lora_B.weight": b + 1}
    save_file({"lora_unet_qkv.lora_down.weight": a, "lora_unet_qkv.lora_up.weight": b} | other, path)
    with pytest.raises(CheckpointError, match="the layer qkv twice"):
        merged_weights(torch.nn.ModuleDict({"qkv": torch.nn.Linear(4, 4)}), load_lora(path), 1.0)


def test_a_lora_of_another_model_is_refused_with_its_name(tmp_path):
    path, base = tmp_path / "a.safetensors", model()
    save_file({"double_blocks.0.qkv.lora_A.weight": torch.zeros(2, 9), "double_blocks.0.qkv.lora_B.weight":
               torch.zeros(9, 2)}, path, {"ss_base_model_version": "flux1"})  # fmt: skip
    with pytest.raises(CheckpointError, match=r'none of its 1 layers.*"flux1".*double_blocks\.\*\.qkv.*attention\.qkv'):
        apply_lora(base, load_lora(path))
    written(path, model(width=36, heads=2), base_model="wider", base_sha256="cd" * 32)
    before = {n: t.clone() for n, t in base.state_dict().items()}
    words = r'layer patch_in: .*\[36, 16\].*model\'s is \[24, 16\].*"wider", checksum cdcdcdcdcdcd'
    with pytest.raises(ShapeError, match=words):
        apply_lora(base, load_lora(path))
    assert same(base.state_dict(), before)


def test_layers_that_the_model_lacks_are_left_out_with_a_remark(tmp_path):
    path = tmp_path / "a.safetensors"
    written(path, model(depth=3), targets=("feed_forward",), base_model="deeper")
    other, report = with_lora(model(), load_lora(path), 1.0)
    assert report.unmatched == ("blocks.2.feed_forward.inner", "blocks.2.feed_forward.outer")
    assert "Of the 6 layers of this LoRA, 2 are not in this model" in report.remark()
    assert '"deeper"' in report.remark() and isinstance(other, VideoDiT)


def test_metadata_is_text_that_others_can_read(tmp_path):
    written(tmp_path / "a.safetensors", model(), targets=("attention",))
    meta = read_lora_header(tmp_path / "a.safetensors").raw.metadata
    assert meta["format"] == "sora_dit_lora" and (meta["rank"], meta["alpha"]) == ("3", "6")
    assert json.loads(meta["targets"]) == ["attention"] and len(meta["content_sha256"]) == 64


def test_the_base_models_name_may_be_no_unicode(tmp_path):
    written(tmp_path / "a.safetensors", model(), base_model="mod\udce9.safetensors")
    assert read_lora_header(tmp_path / "a.safetensors").base_model == r"mod\udce9.safetensors"


def test_a_layer_may_have_a_name_that_holds_another_kinds(tmp_path):
    names = {"diffusion_model.soft_gate.lora_A.weight": torch.zeros(2, 4),
             "diffusion_model.soft_gate.lora_B.weight": torch.zeros(4, 2)}  # fmt: skip
    save_file(names, tmp_path / "soft.safetensors")
    assert list(read_lora_header(tmp_path / "soft.safetensors").layers) == ["soft_gate"]
    save_file({"diffusion_model.gate.oft_blocks": torch.zeros(2)}, tmp_path / "oft.safetensors")
    with pytest.raises(CheckpointError, match="is an OFT"):
        read_lora_header(tmp_path / "oft.safetensors")


def test_a_layer_that_is_there_twice_is_refused(tmp_path):
    twice = {}
    for layer in (f"diffusion_model.{QKV}", f"transformer.{QKV}"):
        twice |= {f"{layer}.lora_A.weight": torch.zeros(2, 24), f"{layer}.lora_B.weight": torch.zeros(72, 2)}
    save_file(twice, tmp_path / "twice.safetensors")
    with pytest.raises(CheckpointError, match="ambiguous: .* are for one and the same layer"):
        load_lora(tmp_path / "twice.safetensors")


def test_it_comes_out_of_a_model_that_changed_its_type_meanwhile(tmp_path):
    base = model()
    written(tmp_path / "a.safetensors", base)
    before = base.state_dict()[f"{QKV}.weight"].clone()
    applied = apply_lora(base, load_lora(tmp_path / "a.safetensors"))
    base.half()
    applied.remove()
    assert torch.equal(base.state_dict()[f"{QKV}.weight"], before.half())
