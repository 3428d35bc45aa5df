"""The stage `autoencoder`: a codec fitted, refitted, or its decoder trained."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace

import torch
from torch import Tensor

from ...autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from ...checkpoint import load_bundle, save_bundle
from ...errors import ConfigError
from ..as_generated import AsGenerated
from ..autoencoder import held_out_quality, new_autoencoder, train_autoencoder, with_changes
from ..export import check_latents
from ..options import autoencoder_training, loop_settings
from ..sky_data import SkySource
from .provenance import TOLD, made_by, print_line
from .recipe import AUTOENCODER, AUTOENCODER_SOURCE, HELD_OUT_SOURCE


def run_autoencoder(args: argparse.Namespace, device: torch.device) -> None:
    """Train the autoencoder and write it as a bundle of its own."""
    loop = loop_settings(args, batch=8, log_every=20)
    training = autoencoder_training(args)
    source = replace(AUTOENCODER_SOURCE, height=args.size, width=args.size, frames=args.frames, fps=args.fps)
    before: dict = {}
    if args.autoencoder:
        bundle = load_bundle(args.autoencoder)
        before = bundle.header.provenance.get("autoencoder", {})
        clips = refit_clips(source, args.refit, device) if args.refit else None
        model = with_changes(bundle.autoencoder.to(device), args.autoencoder_config, args.seed, clips)
    else:
        config = AutoencoderConfig.from_dict(AUTOENCODER.to_dict() | args.autoencoder_config)
        model = new_autoencoder(config, source, training, device)
    spoil = maker_of_latents(args, model, device) if args.as_generated else None
    model, position, done = train_autoencoder(
        model, source, args.state / "autoencoder", loop, training, device, TOLD, as_generated=spoil
    )
    held_out = replace(HELD_OUT_SOURCE, height=args.size, width=args.size, frames=args.frames, fps=args.fps)
    quality = held_out_quality(model, held_out, device).to_dict()
    provenance = {
        "autoencoder": made_by(device)
        | {
            "source": asdict(source),
            "training": asdict(training),
            "batch": loop.batch,
            **position,
            "finished": done,
            "held_out": quality,
            **({"as_generated": spoil.identity()} if spoil else {}),
            **({"decoder_fitted_on_clips": args.refit} if args.refit else {}),
            **({"before": before} if before else {}),
        }
    }
    print_line({"held_out": quality, "done": done, **position})
    result = args.state / "autoencoder.safetensors"
    if not done and args.autoencoder and result.exists() and args.autoencoder.samefile(result):
        return  # what it began from is better than something half trained, and is needed to go on
    save_bundle(
        result,
        {"autoencoder": (model.config.to_dict(), model.state_dict())},
        provenance,
        dtype=torch.float32,
    )


def refit_clips(source: SkySource, clips: int, device: torch.device, batch: int = 8) -> Iterator[Tensor]:
    """What a linear decoder is fitted to: clips of the source, every fourth batch of them at 64 x 64."""
    small = replace(source, height=64, width=64)
    for start in range(0, clips, batch):
        yield (source if (start // batch) % 4 else small).clips(start, batch, device)


def maker_of_latents(args: argparse.Namespace, model: CausalVideoAutoencoder, device: torch.device) -> AsGenerated:
    """The transformer of `--as-generated`. Raises `ConfigError` where it does not go with the autoencoder."""
    if model.decoding is None:
        raise ConfigError(
            "--as-generated: this autoencoder is all linear, so there is nothing to train; give it a refiner with "
            "--autoencoder-config '{\"refiner\": 24}'."
        )
    bundle = load_bundle(args.as_generated)
    if bundle.transformer is None or bundle.text_encoder is None:
        raise ConfigError(f"--as-generated: {args.as_generated} has no transformer with a text encoder; expected both.")
    check_latents(bundle.transformer.config, model.config, args.autoencoder or "The new autoencoder")
    return AsGenerated(bundle.transformer.to(device), bundle.text_encoder.to(device))
