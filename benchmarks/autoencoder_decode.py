"""Decoding a clip: our convolutional autoencoder beside an AutoencoderKLWan of about equal size, and the starter's.

python benchmarks/autoencoder_decode.py [--size 128] [--frames 17]
"""

from __future__ import annotations

import argparse

import torch
from machine import describe, peak_memory, side_by_side, table
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.training.starter.recipe import AUTOENCODER


def wan_of_equal_size(target: int):
    """The AutoencoderKLWan whose decoder has the number of weights nearest to `target`."""
    from diffusers import AutoencoderKLWan

    candidates = [AutoencoderKLWan(base_dim=dim, dim_mult=[1, 2, 4, 4], num_res_blocks=1) for dim in (8, 16, 24, 32)]
    return min(candidates, key=lambda model: abs(weights(model.decoder) - target)).eval()


def weights(module: torch.nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())


@torch.inference_mode()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ours = CausalVideoAutoencoder(AutoencoderConfig()).eval()
    starter = CausalVideoAutoencoder(AUTOENCODER).eval()
    theirs = wan_of_equal_size(weights(ours.decoder))
    shape = ((args.frames - 1) // 4 + 1, args.size // 8, args.size // 8)
    latent, starter_latent = torch.randn(1, 16, *shape), torch.randn(1, AUTOENCODER.latent_channels, *shape)
    runs = {
        "AutoencoderKLWan": lambda: theirs.decode(latent).sample,
        "ours, whole clip": lambda: ours.decode(latent),
        "ours, one latent frame at a time": lambda: ours.decode(latent, 1),
        "starter (linear), whole clip": lambda: starter.decode(starter_latent),
    }
    decoders = (theirs.decoder, ours.decoder, ours.decoder, starter.linear.up)
    sizes = {name: weights(decoder) / 1e6 for name, decoder in zip(runs, decoders, strict=True)}
    seconds = side_by_side(runs, args.rounds)
    rows = [
        [name, sizes[name], seconds[name], seconds[name] / seconds["AutoencoderKLWan"], peak_memory(runs[name])]
        for name in runs
    ]
    title = f"decode {args.frames} frames of {args.size}x{args.size}"
    print(table([title, "M weights", "seconds", ": Wan", "peak MiB"], rows))
    print(describe())


if __name__ == "__main__":
    main()
