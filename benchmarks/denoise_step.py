"""One denoising step of our transformer beside diffusers' WanTransformer3DModel, same shape and same weights.

    python benchmarks/denoise_step.py [--tokens 1280 4000] [--width 1536] [--layers 2]

Both get the same noisy latent, text of 512 tokens and one timestep. Ours gets what a sampler gives it: text keys and
values and modulations worked out before the loop. The products a step cannot do without are also timed by themselves:
"share of sgemm" is what a step reaches of the rate at which this machine does just those products.
"""

from __future__ import annotations

import argparse

import torch
from machine import describe, matmul_run, peak_memory, side_by_side, table
from sora_dit.dit_core.families.wan import wan_config, wan_key_map
from sora_dit.dit_core.transformer import VideoDiT

TEXT_TOKENS = 512
GRIDS = {1280: (5, 16, 16), 4000: (10, 20, 20)}  # latent frames, rows and columns of tokens


def build(width: int, layers: int, heads: int, ff_width: int):
    """diffusers' model and ours with its weights."""
    from diffusers import WanTransformer3DModel

    theirs = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=heads, attention_head_dim=width // heads, in_channels=16,
        out_channels=16, text_dim=4096, freq_dim=256, ffn_dim=ff_width, num_layers=layers, cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    ).eval()  # fmt: skip
    config = wan_config(width, layers, heads, ff_width)
    ours = VideoDiT(config).eval()
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    weights, unknown = wan_key_map(config, "diffusers").convert(theirs.state_dict(), shapes)
    assert not unknown, unknown
    ours.load_state_dict(weights)
    return theirs, ours


def products(width: int, ff_width: int, layers: int, tokens: int) -> list[tuple[int, int, int, int]]:
    """(times, rows, inner, columns) of the matrix products of a step, the two of attention included."""
    return [
        (layers, tokens, width, 3 * width),  # q, k, v
        (3 * layers, tokens, width, width),  # both outputs and the text attention's q
        (layers, tokens, width, ff_width),
        (layers, tokens, ff_width, width),
        (2 * layers, tokens, width, tokens),  # q k' and p v, over all heads
        (2 * layers, tokens, width, TEXT_TOKENS),
        (1, tokens, 64, width),
        (1, tokens, width, 64),
    ]


@torch.inference_mode()
def measure(theirs, ours: VideoDiT, tokens: int, ff_width: int, rounds: int) -> list[list[object]]:
    """Table rows for one number of tokens."""
    t, h, w = GRIDS[tokens]
    latent = torch.randn(1, 16, t, 2 * h, 2 * w)
    text, timestep = torch.randn(1, TEXT_TOKENS, 4096), torch.tensor([500.0])
    prepared = ours.prepare_text(text)
    modulation = ours.modulate(timestep).select(torch.zeros(1, 1, dtype=torch.long))
    runs = {
        "diffusers": lambda: theirs(latent, timestep, text, return_dict=False)[0],
        "ours": lambda: ours.denoise(latent, modulation, prepared),
    }
    difference = (runs["diffusers"]() - runs["ours"]()).abs().max().item()
    width, layers = ours.config.width, ours.config.depth
    needed, work = [], 0.0
    for times, rows, inner, columns in products(width, ff_width, layers, tokens):
        run, operations = matmul_run(rows, inner, columns)
        needed += [run] * times
        work += times * operations
    runs["sgemm"] = lambda: [run() for run in needed]
    seconds = side_by_side(runs, rounds)
    rows = []
    for name in ("diffusers", "ours"):
        rows.append([
            f"{tokens} tokens, {name}", seconds[name], seconds[name] / seconds["diffusers"], work / 1e9,
            f"{100 * seconds['sgemm'] / seconds[name]:.0f} %", peak_memory(runs[name]),
        ])  # fmt: skip
    rate = work / seconds["sgemm"] / 1e9
    print(f"{tokens} tokens: largest difference {difference:.1e}; sgemm at these shapes {rate:.0f} GFLOP/s")
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1280, 4000], choices=sorted(GRIDS))
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--ff-width", type=int, default=8960)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    theirs, ours = build(args.width, args.layers, args.heads, args.ff_width)
    square, operations = matmul_run(2048, 2048, 2048)
    print(f"sgemm 2048^3: {operations / side_by_side({'square': square})['square'] / 1e9:.0f} GFLOP/s")
    rows = [row for tokens in args.tokens for row in measure(theirs, ours, tokens, args.ff_width, args.rounds)]
    print(table(["one step", "seconds", ": diffusers", "GFLOP needed", "share of sgemm", "peak MiB"], rows))
    print(describe())


if __name__ == "__main__":
    main()
