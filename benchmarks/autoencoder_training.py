"""The autoencoder's ways of training side by side: same first weights, same clips, same number of steps.

    python benchmarks/autoencoder_training.py                              two minutes on a core: does it run
    python benchmarks/autoencoder_training.py --steps 3000 --size 64 --frames 17 --widths 64 96 128    what it is worth
    python benchmarks/autoencoder_training.py --autoencoder FILE --steps 500      decoder of a trained linear codec

Each row is one training more than the row above: fixed weights, the learned likelihood, the texture term, and the
discriminator, which joins after half of the steps. Measured on held-out clips. Of the columns after SSIM 1 is best: the
energy of detail in three bands and of motion, reconstructed over original, then the jump at the borders of latent cells
in space (seams) and in time (flicker). Leaks are the causality check's, and 0.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import describe, table
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import load_bundle
from sora_dit.dit_core.measures import check_causality
from sora_dit.dit_core.training.adversary import AdversarialSettings
from sora_dit.dit_core.training.autoencoder import (
    AutoencoderTraining,
    held_out_quality,
    new_autoencoder,
    train_autoencoder,
    with_changes,
)
from sora_dit.dit_core.training.likelihood import LikelihoodSettings
from sora_dit.dit_core.training.loop import LoopSettings
from sora_dit.dit_core.training.sky_data import SkySource
from sora_dit.dit_core.training.starter.recipe import AUTOENCODER, AUTOENCODER_SOURCE, HELD_OUT_SOURCE


def variants(args: argparse.Namespace) -> dict[str, AutoencoderTraining]:
    """The rows of the table, each with all that the one above has."""
    fixed = AutoencoderTraining(sizes=(args.size,), lr=args.lr, ema=args.ema)
    likelihood = replace(fixed, likelihood=LikelihoodSettings("both"))
    perceptual = replace(likelihood, perceptual=args.perceptual_weight)
    start = args.steps // 2
    game = AdversarialSettings(start=start, warmup=max(1, args.steps // 10), weight=args.adversarial_weight)
    return {
        "fixed weights": fixed,
        "likelihood": likelihood,
        "likelihood, texture": perceptual,
        f"likelihood, texture, adversarial from step {start}": replace(perceptual, adversarial=game),
    }


def first_model(args: argparse.Namespace, source: SkySource, device: torch.device) -> CausalVideoAutoencoder:
    """What all trainings start from: the codec of `--autoencoder`, or a linear one fitted here, and a fresh decoder."""
    changes = {"linear": "encoder", "lookahead": 0}
    if args.autoencoder:
        return with_changes(load_bundle(args.autoencoder).autoencoder, changes, seed=1).to(device)
    changes |= {"decoder_channels": args.widths, "decoder_blocks": 1, "latent_channels": args.latent_channels}
    config = AutoencoderConfig.from_dict(AUTOENCODER.to_dict() | changes)
    return new_autoencoder(config, source, AutoencoderTraining(), device)


def sized(source: SkySource, args: argparse.Namespace) -> SkySource:
    """Clips of the size asked for."""
    return replace(source, height=args.size, width=args.size, frames=args.frames)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--clips", type=int, default=16, help="held-out clips to measure on")
    parser.add_argument("--widths", type=int, nargs=3, default=[16, 24, 32], help="of the decoder")
    parser.add_argument("--latent-channels", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.9)
    parser.add_argument("--perceptual-weight", type=float, default=0.05)
    parser.add_argument("--adversarial-weight", type=float, default=0.5)
    parser.add_argument("--autoencoder", type=Path, help="bundle with a linear codec to start from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    source, held_out = sized(AUTOENCODER_SOURCE, args), sized(HELD_OUT_SOURCE, args)
    first = first_model(args, source, device)
    columns = ["training", *held_out_quality(first, held_out, device, 1).to_dict(), "leak", "s/step"]
    rows = [["before"] + list(held_out_quality(first, held_out, device, args.clips).to_dict().values()) + ["", ""]]
    loop = LoopSettings(steps=args.steps, batch=args.batch, warmup=min(20, args.steps), decay=0.4)
    for name, training in variants(args).items():
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            model = train_autoencoder(copy.deepcopy(first), source, Path(folder), loop, training, device)[0]
        pace = (time.perf_counter() - started) / args.steps
        quality = held_out_quality(model, held_out, device, args.clips).to_dict()
        causality = check_causality(model, held_out.clips(0, 1, device))
        rows.append([name, *quality.values(), max(causality.encoder_leak, causality.decoder_leak), pace])
    print(table(columns, rows))
    print(f"{args.steps} steps of {args.batch} clips, {args.frames} frames of {args.size} x {args.size}; {describe()}")


if __name__ == "__main__":
    main()
