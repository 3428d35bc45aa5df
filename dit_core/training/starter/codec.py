"""The stage `autoencoder`: a codec fitted, refitted, or its decoder trained."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

import torch

from ...autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from ...checkpoint import load_bundle, save_bundle
from ...errors import ConfigError
from ..as_generated import AsGenerated
from ..autoencoder import held_out_quality, new_autoencoder, train_autoencoder, with_changes
from ..loop import LoopSettings
from ..options import autoencoder_training
from ..sky_data import SkySource
from .provenance import TOLD, made_by, print_line
from .recipe import AUTOENCODER, AUTOENCODER_SOURCE, HELD_OUT_SOURCE


def run_autoencoder(args: argparse.Namespace, device: torch.device) -> None:
    """Train the autoencoder and write it as a bundle of its own."""
    loop = LoopSettings(
        steps=args.steps, minutes=args.minutes, batch=args.batch or 8, warmup=50, decay=args.decay, log_every=20
    )
    training = autoencoder_training(args)
    source = replace(AUTOENCODER_SOURCE, height=args.size, width=args.size, frames=args.frames, fps=args.fps)
    before: dict = {}
    if args.autoencoder:
        bundle = load_bundle(args.autoencoder)
        before = bundle.header.provenance.get("autoencoder", {})
        model = with_changes(bundle.autoencoder, args.autoencoder_config, args.seed).to(device)
        if args.refit:
            refit_decoder(model, source, args.refit, device)
    else:
        config = AutoencoderConfig.from_dict(AUTOENCODER.to_dict() | args.autoencoder_config)
        model = new_autoencoder(config, source, training, device)
    spoil = None
    if args.as_generated:
        maker = load_bundle(args.as_generated)
        spoil = AsGenerated(maker.transformer.to(device), maker.text_encoder.to(device))
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
    save_bundle(
        args.state / "autoencoder.safetensors",
        {"autoencoder": (model.config.to_dict(), model.state_dict())},
        provenance,
        dtype=torch.float32,
    )


def refit_decoder(
    model: CausalVideoAutoencoder, source: SkySource, clips: int, device: torch.device, batch: int = 8
) -> None:
    """Fit a linear codec's decoder anew, to `clips` clips of the source, every fourth batch of them at 64 x 64.

    Raises `ConfigError` for an autoencoder without a linear codec.
    """
    if model.linear is None:
        raise ConfigError("--refit: this autoencoder has no linear codec; expected one with linear other than none.")
    small = replace(source, height=64, width=64)
    batches = range(0, clips, batch)
    # a stronger ridge than for a narrow decoder: less noise in what neighbours far away add
    model.linear.fit_decoder(
        ((source if (start // batch) % 4 else small).clips(start, batch, device) for start in batches), ridge=1e-3
    )
