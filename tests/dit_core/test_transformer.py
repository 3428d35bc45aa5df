"""Behaviour of the transformer over its configurations."""

import dataclasses
import itertools
import math
import re

import pytest
import torch
from sora_dit.dit_core.errors import ConfigError, ShapeError
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT, layers
from sora_dit.dit_core.transformer.embed import binary_encoding, sinusoidal_encoding
from sora_dit.dit_core.transformer.patch import grid_of, pad_to_patches, patchify, unpatchify
from sora_dit.dit_core.transformer.rope import axis_widths, rotary_table, rotate

TINY = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=10, patch=(1, 2, 2))


def make(**changes) -> VideoDiT:
    torch.manual_seed(0)
    model = VideoDiT(dataclasses.replace(TINY, **changes)).eval()
    with torch.no_grad():
        for p in model.parameters():  # zero-initialised layers would make every comparison true
            p.normal_(std=0.2)
    return model


def run(model: VideoDiT, x, t, tokens=5):
    torch.manual_seed(5)
    width = model.config.text_width
    return model(
        x,
        t,
        torch.randn(len(x), tokens, width),
        torch.ones(len(x), tokens, dtype=torch.bool),
        torch.randn(len(x), width),
    )


@pytest.mark.parametrize(
    "modulation,text,encoding",
    list(itertools.product(("per_block", "shared"), ("pooled", "cross", "both"), ("sinusoidal", "binary"))),
)
def test_every_combination_runs_trains_and_uses_its_inputs(modulation, text, encoding):
    model = make(modulation=modulation, text=text, timestep_encoding=encoding)
    x, t = torch.randn(2, 4, 3, 4, 6), torch.tensor([100.0, 900.0])
    context, pooled = torch.randn(2, 5, 10), torch.randn(2, 10)
    out = model(x, t, context, None, pooled)
    assert out.shape == x.shape
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with torch.no_grad():
        assert (model(x, t, -context, None, pooled) - out).abs().max() > 1e-4 or text == "pooled"
        assert (model(x, t, context, None, -pooled) - out).abs().max() > 1e-4 or text == "cross"
        assert (model(x, t.flip(0), context, None, pooled) - out).abs().max() > 1e-4


@pytest.mark.parametrize(
    "change",
    [
        dict(feed_forward="swiglu"),
        dict(feed_forward="relu"),
        dict(qk_norm="none"),
        dict(qk_norm="width"),
        dict(cross_norm=False),
        dict(text_projection=False),
        dict(out_channels=8),
        dict(patch=(2, 1, 1)),
        dict(patch=(1, 1, 1)),
    ],
)
def test_options_change_the_function_and_keep_the_shape(change):
    x, t = torch.randn(1, 4, 4, 4, 4), torch.tensor([500.0])
    model = make(**change)
    out = run(model, x, t)
    assert out.shape == (1, change.get("out_channels", 4), 4, 4, 4)
    assert torch.isfinite(out).all()


def test_feed_forward_kinds_by_formula():
    x = torch.randn(3, 24)
    for kind in ("gelu", "relu", "swiglu"):
        ff = make(feed_forward=kind).blocks[0].feed_forward
        inner = x @ ff.inner.weight.T + ff.inner.bias
        if kind == "relu":
            inner = inner.clamp(min=0)
        elif kind == "gelu":
            inner = 0.5 * inner * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
        else:
            gate, value = inner[:, :32], inner[:, 32:]
            inner = gate / (1 + torch.exp(-gate)) * value
        torch.testing.assert_close(ff(x), inner @ ff.outer.weight.T + ff.outer.bias, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 2, 2), (1, 1, 1), (2, 3, 1)])
def test_patches_keep_every_number_and_sizes_that_do_not_divide_are_cropped_back(patch):
    x = torch.arange(2 * 3 * 5 * 7 * 9.0).view(2, 3, 5, 7, 9)
    padded = pad_to_patches(x, patch)
    grid = grid_of(x.shape[-3:], patch)
    tokens = patchify(padded, patch)
    assert tokens.shape == (2, grid[0], grid[1] * grid[2], 3 * patch[0] * patch[1] * patch[2])
    channels_last = tokens.unflatten(-1, (3, -1)).transpose(-1, -2).flatten(-2)
    back = unpatchify(channels_last, patch, grid)
    assert torch.equal(back[:, :, :5, :7, :9], x)


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 7, 9), (2, 4, 3)])
def test_odd_sizes_come_back_in_their_size(size):
    x = torch.randn(1, 4, *size)
    assert run(make(patch=(2, 2, 2)), x, torch.tensor([10.0])).shape == x.shape


def test_same_timestep_for_each_frame_equals_one_for_the_clip():
    model, x = make(), torch.randn(2, 4, 3, 4, 4)
    one = run(model, x, torch.tensor([250.0, 750.0]))
    each = run(model, x, torch.tensor([[250.0] * 3, [750.0] * 3]))
    torch.testing.assert_close(one, each, atol=1e-5, rtol=1e-5)


def test_a_temporal_patch_is_as_noisy_as_its_noisiest_frame():
    model = make(patch=(2, 1, 1))
    t = torch.tensor([[0.0, 0.0, 0.0, 7.0, 9.0]])
    assert model.frame_timesteps(t, 5).tolist() == [[0.0, 7.0, 9.0]]


def test_padding_is_invisible():
    model = make()
    x, t = torch.randn(1, 4, 2, 4, 4), torch.tensor([300.0])
    context, pooled = torch.randn(1, 5, 10), torch.randn(1, 10)
    short = model(x, t, context, torch.ones(1, 5, dtype=torch.bool), pooled)
    padded = torch.cat([context, torch.full((1, 4, 10), 99.0)], 1)
    mask = torch.tensor([[True] * 5 + [False] * 4])
    torch.testing.assert_close(model(x, t, padded, mask, pooled), short, atol=1e-5, rtol=1e-5)


def test_split_form_equals_forward():
    model = make(modulation="per_block")
    x, context, pooled = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 5, 10), torch.randn(2, 10)
    t = torch.tensor([[0.0, 400.0, 400.0], [0.0, 600.0, 600.0]])
    modulation = model.modulate(torch.tensor([0.0, 400.0, 0.0, 600.0]), pooled.repeat_interleave(2, 0))
    rows = torch.tensor([[0, 1, 1], [2, 3, 3]])
    got = model.denoise(x, modulation.select(rows), model.prepare_text(context))
    torch.testing.assert_close(got, model(x, t, context, None, pooled), atol=1e-5, rtol=1e-5)


def test_new_model_predicts_zero_and_blocks_start_as_the_identity_of_adaln_zero():
    model = VideoDiT(dataclasses.replace(TINY, modulation="per_block"))
    x = torch.randn(1, 4, 2, 4, 4)
    assert run(model, x, torch.tensor([5.0])).abs().max() == 0
    m = model.modulate(torch.tensor([5.0]), torch.randn(1, 10))
    assert m.blocks.abs().max() == 0


def test_gradient_checkpointing_gives_the_same_gradients():
    grads = []
    for checkpointing in (False, True):
        model = make()
        model.gradient_checkpointing = checkpointing
        run(model, torch.ones(1, 4, 2, 4, 4), torch.tensor([5.0])).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_while_training_in_bfloat16_is_the_same_attention(monkeypatch, masked):
    generator = torch.Generator().manual_seed(3)
    parts = [torch.randn(2, n, 3, 8, generator=generator).bfloat16().requires_grad_() for n in (20, 12, 12)]
    mask = torch.arange(12)[None] < torch.tensor([[12], [7]]) if masked else None

    def passed() -> list[torch.Tensor]:
        out = layers.attend(*parts, mask)
        return [out.detach(), *torch.autograd.grad(out.float().square().sum(), parts)]

    plain = passed()
    monkeypatch.setattr(layers, "plain_attention", None)  # whoever calls it now fails
    with torch.no_grad():
        assert torch.isfinite(layers.attend(*parts, mask)).all()
    monkeypatch.setattr(layers, "_LARGEST_PLAIN", 2 * 3 * 20 * 12 - 1)
    for got, fused in zip(plain, passed(), strict=True):
        torch.testing.assert_close(got, fused, atol=0.05, rtol=0.05)
    doubles = [part.detach().double().requires_grad_() for part in parts]
    scores = torch.einsum("blhd,bmhd->bhlm", doubles[0], doubles[1]) / 8**0.5
    if masked:
        scores[1, :, :, 7:] = -torch.inf
    out = torch.einsum("bhlm,bmhd->blhd", scores.softmax(-1), doubles[2]).flatten(2)
    exact = [out.detach(), *torch.autograd.grad(out.square().sum(), doubles)]
    for got, want in zip(plain, exact, strict=True):
        assert (got.double() - want).norm() < 0.02 * want.norm()


def test_rotation_depends_on_distance_only_and_both_code_paths_agree():
    table = rotary_table((3, 4, 5), 24, 100.0)
    assert sum(axis_widths(24)) == 24 and table.shape == (60, 12, 2)
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 24).expand(1, 60, 1, 24), torch.randn(1, 1, 1, 24).expand(1, 60, 1, 24)
    scores = (rotate(q, table)[0, :, 0] @ rotate(k, table)[0, :, 0].T).view(3, 4, 5, 3, 4, 5)
    torch.testing.assert_close(scores[0, 0, 0, 1, 2, 3], scores[1, 1, 1, 2, 3, 4])
    assert not torch.isclose(scores[0, 0, 0, 1, 2, 3], scores[0, 0, 0, 1, 2, 2])
    x = torch.randn(2, 60, 3, 24)
    torch.testing.assert_close(rotate(x.double(), table).float(), rotate(x, table), atol=1e-5, rtol=1e-5)


def test_binary_encoding_is_the_fixed_point_number():
    code = binary_encoding(torch.tensor([0.0, 1.0, 999.5, 3.015625]))
    numbers = ((code + 1) / 2 @ (2.0 ** torch.arange(15, -1, -1))) / 64
    assert numbers.tolist() == [0.0, 1.0, 999.5, 3.015625]
    assert set(code.flatten().tolist()) == {-1.0, 1.0}


def test_sinusoidal_encoding_equals_diffusers():
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    t = torch.tensor([0.0, 1.5, 999.0])
    expected = embeddings.get_timestep_embedding(t, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(sinusoidal_encoding(t, 256), expected, atol=1e-6, rtol=0)


def test_config_survives_json_and_refuses_what_it_does_not_know():
    import json

    config = dataclasses.replace(TINY, latent_mean=(0.0,) * 4, latent_std=(1.0,) * 4, training={"shift": 3.0})
    assert TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    good = TINY.to_dict()
    for change, words in [
        ({"modulation": "film"}, "modulation is 'film'"),
        ({"heads": 5}, "width 24 over 5 heads"),
        ({"surprise": 1}, "unknown key surprise"),
        ({"patch": (0, 1, 1)}, "patch is (0, 1, 1)"),
        ({"depth": 0}, "depth is 0"),
        ({"latent_mean": (1.0,)}, "latent_mean has 1 values"),
    ]:
        with pytest.raises(ConfigError, match=__import__("re").escape(words)):
            TransformerConfig.from_dict(good | change)
    with pytest.raises(ConfigError, match="width missing"):
        TransformerConfig.from_dict({k: v for k, v in good.items() if k != "width"})


def test_wrong_shapes_are_named():
    model, x = make(), torch.randn(1, 4, 2, 4, 4)
    t, context, pooled = torch.tensor([5.0]), torch.randn(1, 5, 10), torch.randn(1, 10)
    for args, words in [
        ((x[:, :3], t, context, None, pooled), "expects [batch, 4, frames"),
        ((x, t, torch.randn(1, 5, 11), None, pooled), "text embeddings of size 10"),
        ((x, t, None, None, pooled), "got nothing"),
        ((x, t, context, None, None), "a vector of size 10"),
        ((x, torch.zeros(1, 3), context, None, pooled), "each of the 2 latent frames"),
    ]:
        with pytest.raises(ShapeError, match=__import__("re").escape(words)):
            model(*args)


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"out_channels": 2}, "out_channels is 2; expected a whole number of at least 4"),
        ({"timestep_width": 1}, "timestep_width is 1; expected a whole number of at least 2"),
        ({"timestep_scale": 0}, "timestep_scale is 0; expected a number above 0"),
        ({"rope_theta": -5.0}, "rope_theta is -5.0; expected a number above 0"),
        ({"norm_eps": "1e-6"}, "norm_eps is '1e-6'; expected a number above 0"),
        ({"cross_norm": "no"}, "cross_norm is 'no'; expected true or false"),
        ({"training": None}, "training is None; expected names and values"),
        ({"training": {"shift": "4"}}, "shift in training is '4'; expected a number above 0"),
        ({"latent_mean": (0.0,) * 4}, "there is latent_mean without latent_std"),
        ({"latent_mean": (0.0,) * 4, "latent_std": (0.0,) * 4}, "latent_std has 0; expected numbers above 0"),
        ({"skip_std": (1.0, 1.0, math.inf, 1.0)}, "skip_std has inf; expected numbers above 0"),
    ],
)
def test_values_that_would_be_guessed_at_are_refused(changes, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        make(**changes)
