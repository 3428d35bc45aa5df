"""Wan 2.1 / 2.2 text-to-video transformers (arXiv:2503.20314), in the authors' layout and in that of diffusers.

Architecture: shared modulation, text attention with a projected text, q/k norm over all heads, 3-D rotary positions.
"""

from __future__ import annotations

from ..transformer import TransformerConfig
from .keymap import KeyMap, Rule


def wan_config(
    width: int,
    depth: int,
    heads: int,
    ff_width: int,
    in_channels: int = 16,
    out_channels: int | None = None,
    text_width: int = 4096,
) -> TransformerConfig:
    """The configuration that makes our transformer a Wan of these sizes (1.3B: 1536, 30, 12, 8960)."""
    return TransformerConfig(
        width=width,
        depth=depth,
        heads=heads,
        ff_width=ff_width,
        in_channels=in_channels,
        out_channels=out_channels,
        patch=(1, 2, 2),
        text="cross",
        text_width=text_width,
        text_projection=True,
        modulation="shared",
        qk_norm="width",
        cross_norm=True,
        rope_theta=10000.0,
        objective="flow",
    )


def _linear(ours: str, *theirs: str, weight_shape: tuple[int, ...] | None = None) -> list[Rule]:
    return [
        Rule(f"{ours}.weight", tuple(f"{n}.weight" for n in theirs), weight_shape),
        Rule(f"{ours}.bias", tuple(f"{n}.bias" for n in theirs)),
    ]


def _attention(ours: str, theirs: str, out: str, names: tuple[str, ...], fused: str) -> list[Rule]:
    split = {"qkv": (("qkv", names),), "kv": (("q", names[:1]), ("kv", names[1:]))}[fused]
    rules = [r for target, sources in split for r in _linear(f"{ours}.{target}", *(f"{theirs}.{n}" for n in sources))]
    rules += _linear(f"{ours}.out", f"{theirs}.{out}")
    return rules + [Rule(f"{ours}.norm_{n}.norm.weight", (f"{theirs}.norm_{n}.weight",)) for n in "qk"]


def wan_key_map(config: TransformerConfig, layout: str = "original") -> KeyMap:
    """The rules for a checkpoint in the `original` layout or that of `diffusers`."""
    kernel = (config.width, config.in_channels, *config.patch)
    d = config.width
    if layout == "diffusers":
        e = "condition_embedder."
        names = ("to_q", "to_k", "to_v")
        rules = [
            *_linear("patch_in", "patch_embedding", weight_shape=kernel),
            *_linear("timestep.mlp.inner", f"{e}time_embedder.linear_1"),
            *_linear("timestep.mlp.outer", f"{e}time_embedder.linear_2"),
            *_linear("modulation", f"{e}time_proj"),
            *_linear("text_in.inner", f"{e}text_embedder.linear_1"),
            *_linear("text_in.outer", f"{e}text_embedder.linear_2"),
            *_attention("blocks.{i}.attention", "blocks.{i}.attn1", "to_out.0", names, "qkv"),
            *_attention("blocks.{i}.text_attention", "blocks.{i}.attn2", "to_out.0", names, "kv"),
            *_linear("blocks.{i}.text_norm", "blocks.{i}.norm2"),
            *_linear("blocks.{i}.feed_forward.inner", "blocks.{i}.ffn.net.0.proj"),
            *_linear("blocks.{i}.feed_forward.outer", "blocks.{i}.ffn.net.2"),
            Rule("block_table", ("blocks.{i}.scale_shift_table",), (1, 6, d)),
            Rule("final_table", ("scale_shift_table",), (1, 2, d)),
            *_linear("final.projection", "proj_out"),
        ]
    else:
        names = ("q", "k", "v")
        rules = [
            *_linear("patch_in", "patch_embedding", weight_shape=kernel),
            *_linear("timestep.mlp.inner", "time_embedding.0"),
            *_linear("timestep.mlp.outer", "time_embedding.2"),
            *_linear("modulation", "time_projection.1"),
            *_linear("text_in.inner", "text_embedding.0"),
            *_linear("text_in.outer", "text_embedding.2"),
            *_attention("blocks.{i}.attention", "blocks.{i}.self_attn", "o", names, "qkv"),
            *_attention("blocks.{i}.text_attention", "blocks.{i}.cross_attn", "o", names, "kv"),
            *_linear("blocks.{i}.text_norm", "blocks.{i}.norm3"),
            *_linear("blocks.{i}.feed_forward.inner", "blocks.{i}.ffn.0"),
            *_linear("blocks.{i}.feed_forward.outer", "blocks.{i}.ffn.2"),
            Rule("block_table", ("blocks.{i}.modulation",), (1, 6, d)),
            Rule("final_table", ("head.modulation",), (1, 2, d)),
            *_linear("final.projection", "head.head"),
        ]
    return KeyMap(f"wan ({layout})", config.depth, tuple(rules))
