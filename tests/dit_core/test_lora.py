"""LoRA layers: what they compute and learn, which layers a target means, and that they come off exactly."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from sora_dit.dit_core.errors import ConfigError, SoraDiTError
from sora_dit.dit_core.lora import LoraConfig, add_lora
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CONFIG = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, patch=(1, 2, 2))


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


def by_hand(base: VideoDiT, layers, strength: float) -> dict:
    """State dict with W + strength * alpha / rank * B A."""
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    for name, layer in layers.items():
        a, b, c = layer.lora_A.weight, layer.lora_B.weight, layers.config
        state[f"{name}.weight"] += (strength * c.alpha / c.rank * (b @ a)).detach()
    return state


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- Trainable layers ---------------------------------------------------------------------------------------------


def test_at_the_start_the_model_computes_what_it_did_and_looks_as_it_did():
    base = model()
    before, names, out = type(base), list(base.state_dict()), base(*inputs())
    state = torch.get_rng_state()
    layers = add_lora(base, LoraConfig(4, 8.0, ("all",)))
    assert torch.equal(torch.get_rng_state(), state), "the start of A took torch's own random numbers"
    assert torch.equal(base(*inputs()), out)
    assert type(base) is before and list(base.state_dict()) == names
    assert all(float(layer.lora_A.weight.detach().abs().max()) > 0 for _, layer in layers.items())
    assert not any(p.requires_grad for p in base.parameters()) and all(p.requires_grad for p in layers.parameters())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_it_computes_and_differentiates_as_the_merged_matrices_do(checkpointing):
    base, merged = model(), model()
    layers = add_lora(base, LoraConfig(3, 6.0, ("all",)))
    fill(layers)
    merged.load_state_dict(by_hand(base, layers, 1.0))
    torch.testing.assert_close(base(*inputs()), merged(*inputs()), atol=1e-5, rtol=1e-5)
    base.gradient_checkpointing = checkpointing
    base.train()
    base(*inputs()).square().sum().backward()
    merged(*inputs()).square().sum().backward()
    full = dict(merged.named_parameters())
    assert all(p.grad is None for p in base.parameters())
    for name, layer in layers.items():  # dL/dB = s dL/dW A^T, dL/dA = s B^T dL/dW with s = alpha / rank = 2
        grad, a, b = full[f"{name}.weight"].grad, layer.lora_A.weight, layer.lora_B.weight
        torch.testing.assert_close(b.grad, 2 * grad @ a.detach().T, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(a.grad, 2 * b.detach().T @ grad, atol=1e-3, rtol=1e-3)


def test_what_is_prepared_once_carries_the_change_too():
    base = model()
    x, t, context, _, pooled = inputs()
    layers = add_lora(base, LoraConfig(3, 3.0, ("text_attention", "modulation")))
    plain_text, plain_modulation = base.prepare_text(context), base.modulate(t, pooled)
    fill(layers)
    assert not torch.equal(base.prepare_text(context).pairs[1][0], plain_text.pairs[1][0])
    assert not torch.equal(base.modulate(t, pooled).blocks, plain_modulation.blocks)
    parts = base.denoise(x, base.modulate(t, pooled).unflatten((2, 1)), base.prepare_text(context))
    assert torch.equal(parts, base(*inputs()))


def test_removed_it_leaves_nothing_behind():
    base = model()
    base.patch_in.requires_grad_(False)  # as it was before
    before, out = {n: t.clone() for n, t in base.state_dict().items()}, base(*inputs())
    layers = add_lora(base, LoraConfig(3, 6.0, ("all",)))
    fill(layers)
    assert not torch.equal(base(*inputs()), out)
    layers.remove()
    layers.remove()
    assert torch.equal(base(*inputs()), out) and same(base.state_dict(), before)
    assert {n for n, p in base.named_parameters() if not p.requires_grad} == {"patch_in.weight", "patch_in.bias"}
    assert not any(module._forward_hooks for module in base.modules())


def test_a_second_set_is_refused_until_the_first_is_removed():
    base = model()
    first = add_lora(base, LoraConfig(2, 2.0, ("attention",)))
    with pytest.raises(SoraDiTError, match="already has LoRA layers"):
        add_lora(base, LoraConfig())
    first.remove()
    assert len(add_lora(base, LoraConfig(2, 2.0, ("attention",)))) == 4


def test_dropout_acts_in_training_only():
    base = model()
    layers = add_lora(base, LoraConfig(3, 6.0, ("all",), dropout=0.5))
    fill(layers)
    layers.train()
    assert not torch.equal(base(*inputs()), base(*inputs()))
    layers.eval()
    assert torch.equal(base(*inputs()), base(*inputs()))


def test_sixteen_bit_models_get_full_precision_layers():
    base = model().bfloat16()
    layers = add_lora(base, LoraConfig(3, 6.0, ("feed_forward",)))
    fill(layers)
    assert all(p.dtype == torch.float32 for p in layers.parameters())
    x = torch.randn(1, 24).bfloat16()
    linear = base.blocks[0].feed_forward.inner
    change = dict(layers.items())["blocks.0.feed_forward.inner"]
    wanted = F.linear(x, linear.weight, linear.bias) + change(x).bfloat16()
    assert linear(x).dtype == torch.bfloat16 and torch.equal(linear(x), wanted)


TARGETS = {
    "attention": {"attention.qkv", "attention.out"},
    "text_attention": {"text_attention.q", "text_attention.kv", "text_attention.out"},
    "feed_forward": {"feed_forward.inner", "feed_forward.outer"},
}


@pytest.mark.parametrize("group", TARGETS)
def test_a_group_means_its_layers_in_every_block(group):
    names = [name for name, _ in add_lora(model(), LoraConfig(2, 2.0, (group,))).items()]
    assert set(names) == {f"blocks.{i}.{end}" for i in (0, 1) for end in TARGETS[group]}


def test_groups_and_patterns_add_up_and_all_is_all():
    def names(*targets):
        return [name for name, _ in add_lora(model(), LoraConfig(2, 2.0, targets)).items()]

    assert names("*.qkv", "modulation", "blocks.0.attention.*") == [
        "blocks.0.attention.qkv", "blocks.0.attention.out", "blocks.1.attention.qkv", "modulation"
    ]  # fmt: skip
    assert set(names("all")) == {n for n, m in model().named_modules() if isinstance(m, torch.nn.Linear)}
    assert LoraConfig(2, 2.0, "attention, *.qkv").targets == ("attention", "*.qkv")


def test_wrong_settings_are_said():
    with pytest.raises(ConfigError, match=r'"blocks.0" matches no layer.*text_attention.*blocks\.\*\.attention\.qkv'):
        add_lora(model(), LoraConfig(2, 2.0, ("attention", "blocks.0")))
    with pytest.raises(ConfigError, match='"text_attention" matches no layer'):
        add_lora(model(text="pooled"), LoraConfig(2, 2.0, ("text_attention",)))
    nan = float("nan")
    for name, wrong in (("rank", 0), ("rank", 2.0), ("alpha", 0.0), ("alpha", nan), ("dropout", 1.0), ("targets", ())):
        with pytest.raises(ConfigError, match=f"LoRA {name}: "):
            LoraConfig(**{name: wrong})
