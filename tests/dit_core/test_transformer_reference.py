"""The transformer against independent implementations: diffusers' Wan, and a DiT block written out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from sora_dit.dit_core.families.wan import wan_config, wan_key_map
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT


@pytest.fixture(scope="module")
def wan():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=16,
        out_channels=16,
        text_dim=20,
        freq_dim=256,
        ffn_dim=56,
        num_layers=3,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    ).eval()
    for p in theirs.parameters():  # gains of 1 and tables near 0 would hide mistakes
        torch.nn.init.normal_(p, std=0.2)
    config = wan_config(48, 3, 2, 56, text_width=20)
    ours = VideoDiT(config).eval()
    shapes = {k: v.shape for k, v in ours.state_dict().items()}
    weights, unknown = wan_key_map(config, "diffusers").convert(theirs.state_dict(), shapes)
    assert not unknown
    ours.load_state_dict(weights)
    return theirs, ours, config


def test_equals_diffusers_wan(wan):
    theirs, ours, _ = wan
    x, text = torch.randn(2, 16, 3, 8, 6), torch.randn(2, 7, 20)
    t = torch.tensor([37.0, 911.0])
    with torch.no_grad():
        expected = theirs(x, t, text, return_dict=False)[0]
        got = ours(x, t, text)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


def test_per_frame_timesteps_equal_diffusers_per_token_timesteps(wan):
    theirs, ours, _ = wan
    x, text = torch.randn(1, 16, 3, 4, 4), torch.randn(1, 5, 20)
    t = torch.tensor([[0.0, 500.0, 731.0]])
    with torch.no_grad():
        expected = theirs(x, t.repeat_interleave(4, dim=1), text, return_dict=False)[0]
        got = ours(x, t, text)
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_key_map_round_trip_is_exact(wan, layout):
    _, ours, config = wan
    key_map = wan_key_map(config, layout)
    exported = key_map.export(ours.state_dict())
    back, unknown = key_map.convert(exported, {k: v.shape for k, v in ours.state_dict().items()})
    assert not unknown and set(back) == set(ours.state_dict())
    assert all(torch.equal(back[k], v) for k, v in ours.state_dict().items())
    assert len(exported) == sum(len(theirs) for _, _, theirs in key_map.pairs())


def test_exported_shapes_are_those_of_diffusers(wan):
    theirs, ours, config = wan
    exported = wan_key_map(config, "diffusers").export(ours.state_dict())
    assert {k: v.shape for k, v in exported.items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def _dit_by_hand(model: VideoDiT, x: torch.Tensor, t: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """DiT (arXiv:2212.09748) with pooled text, one clip, in plain loops; rotary angles from the definition."""
    c = model.config
    w = dict(model.named_parameters())
    half = c.timestep_width // 2
    angle = t * torch.exp(-math.log(10000.0) * torch.arange(half) / half)

    def mlp(n, v):
        hidden = F.silu(v @ w[f"{n}.inner.weight"].T + w[f"{n}.inner.bias"])
        return hidden @ w[f"{n}.outer.weight"].T + w[f"{n}.outer.bias"]

    vector = mlp("timestep.mlp", torch.cat([angle.cos(), angle.sin()])) + mlp("pooled", pooled)
    values = (w["modulation.weight"] @ F.silu(vector) + w["modulation.bias"]).view(-1, c.width)
    tokens, places = [], []
    for f in range(x.shape[1]):
        for row in range(0, x.shape[2], 2):
            for col in range(0, x.shape[3], 2):
                tokens.append(x[:, f, row : row + 2, col : col + 2].flatten())
                places.append((f, row // 2, col // 2))
    h = torch.stack(tokens) @ w["patch_in.weight"].T + w["patch_in.bias"]
    norm = lambda v: (v - v.mean(-1, keepdim=True)) / (v.var(-1, unbiased=False, keepdim=True) + c.norm_eps).sqrt()  # noqa: E731
    side = 2 * (c.head_width // 6)
    widths = (c.head_width - 2 * side, side, side)

    def turn(v, place):  # one head of one token
        v, start = v.clone(), 0
        for axis, width in enumerate(widths):
            for pair in range(width // 2):
                a = place[axis] * c.rope_theta ** (-2 * pair / width)
                i = start + 2 * pair
                p, q = v[i].clone(), v[i + 1].clone()
                v[i], v[i + 1] = p * math.cos(a) - q * math.sin(a), p * math.sin(a) + q * math.cos(a)
            start += width
        return v

    for b in range(c.depth):
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = values[6 * b : 6 * b + 6]
        y = norm(h) * (1 + scale_a) + shift_a
        q, k, v = (y @ w[f"blocks.{b}.attention.qkv.weight"].T + w[f"blocks.{b}.attention.qkv.bias"]).chunk(3, -1)
        heads = []
        for head in range(c.heads):
            part = slice(head * c.head_width, (head + 1) * c.head_width)
            qs = torch.stack([turn(r, p) for r, p in zip(q[:, part], places, strict=True)])
            ks = torch.stack([turn(r, p) for r, p in zip(k[:, part], places, strict=True)])
            heads.append((qs @ ks.T / math.sqrt(c.head_width)).softmax(-1) @ v[:, part])
        attended = torch.cat(heads, -1) @ w[f"blocks.{b}.attention.out.weight"].T + w[f"blocks.{b}.attention.out.bias"]
        h = h + gate_a * attended
        y = norm(h) * (1 + scale_f) + shift_f
        inner = y @ w[f"blocks.{b}.feed_forward.inner.weight"].T + w[f"blocks.{b}.feed_forward.inner.bias"]
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        h = h + gate_f * (
            inner @ w[f"blocks.{b}.feed_forward.outer.weight"].T + w[f"blocks.{b}.feed_forward.outer.bias"]
        )
    y = norm(h) * (1 + values[-1]) + values[-2]
    out = y @ w["final.projection.weight"].T + w["final.projection.bias"]
    video = torch.empty(c.predicted_channels, *x.shape[1:])
    for token, (f, row, col) in zip(out, places, strict=True):
        box = token.view(2, 2, -1)
        video[:, f, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2] = box.permute(2, 0, 1)
    return video


def test_per_block_modulation_with_pooled_text_equals_dit_by_hand():
    torch.manual_seed(1)
    config = TransformerConfig(
        width=24,
        depth=2,
        heads=2,
        ff_width=40,
        in_channels=3,
        text="pooled",
        text_width=10,
        modulation="per_block",
        qk_norm="none",
        timestep_width=32,
        rope_theta=50.0,
    )
    model = VideoDiT(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.3)
        x, pooled = torch.randn(3, 2, 4, 6), torch.randn(10)
        expected = _dit_by_hand(model, x, torch.tensor(123.0), pooled)
        got = model(x[None], torch.tensor([123.0]), pooled=pooled[None])[0]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
