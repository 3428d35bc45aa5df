"""The stage `autoencoder`: a codec fitted, refitted, or its decoder trained."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import asdict, replace

import torch
from torch import Tensor

from ...autoencoder import AutoencoderConfig, CausalVideoAutoencoder, Joins
from ...checkpoint import load_bundle, save_bundle
from ...errors import ConfigError
from ..as_generated import AsGenerated, error_deviation
from ..autoencoder import (
    held_out_quality,
    new_autoencoder,
    train_autoencoder,
    will_load,
    with_changes,
    with_statistics,
)
from ..export import check_latents
from ..options import autoencoder_training, loop_settings
from ..sky_data import SkySource
from .provenance import TOLD, made_by, part_of, print_line
from .recipe import AUTOENCODER, AUTOENCODER_SOURCE, HELD_OUT_SOURCE

MEASURED_EVERY = 200  # steps; on held-out skies, for the curves


def run_autoencoder(args: argparse.Namespace, device: torch.device) -> None:
    """Train the autoencoder and write it as a bundle of its own."""
    loop = replace(loop_settings(args, batch=8, log_every=20), held_out_every=MEASURED_EVERY)
    training = autoencoder_training(args)
    source = replace(AUTOENCODER_SOURCE, height=args.size, width=args.size, frames=args.frames, fps=args.fps)
    before, told, folder = {}, {}, args.state / "autoencoder"
    if args.as_generated and not (args.autoencoder and args.refit):
        raise ConfigError("--as-generated: for fitting a linear decoder anew; expected --autoencoder and --refit too.")
    if args.autoencoder:
        bundle = load_bundle(args.autoencoder)
        before = bundle.header.provenance.get("autoencoder", {})
        old, clips, joins = part_of(bundle, "autoencoder", "--autoencoder", args.autoencoder).to(device), None, None
        if args.refit:
            clips, told["decoder_fitted_on_clips"] = refit_clips(source, args.refit, device), args.refit
        if args.as_generated:
            joins, told["joins"] = joins_of(args, old, source, device)
        model = with_changes(old, args.autoencoder_config, args.seed, clips, joins)
    else:
        config = AutoencoderConfig.from_dict(AUTOENCODER.to_dict() | args.autoencoder_config)
        model = new_autoencoder(config, source, training, device, fit=not will_load(config, folder))
    held_out = replace(HELD_OUT_SOURCE, height=args.size, width=args.size, frames=args.frames, fps=args.fps)
    model, position, done = train_autoencoder(model, source, folder, loop, training, device, TOLD, held_out)
    quality = held_out_quality(model, held_out, device).to_dict()
    provenance = {
        "autoencoder": made_by(device)
        | {
            "source": source.settings(),
            "training": asdict(training),
            "batch": loop.batch,
            **position,
            "finished": done,
            "held_out": quality,
            **told,
            **({"before": before} if before else {}),
        }
    }
    print_line({"held_out": quality, "done": done, **position})
    result = args.state / "autoencoder.safetensors"
    if not done and args.autoencoder and result.exists() and args.autoencoder.samefile(result):
        return  # what it began from is better than something half trained, and is needed to go on
    if not done:
        model = with_statistics(model, source, device)
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


def joins_of(
    args: argparse.Namespace, model: CausalVideoAutoencoder, source: SkySource, device: torch.device, clips: int = 32
) -> tuple[Joins, dict]:
    """What the transformer of `--as-generated` errs by, for `LinearCodec.fit_decoder`; and how that was found.

    Raises `ConfigError` where the transformer does not go with the autoencoder.
    """
    space, time = args.joins
    if not (0 <= space < math.inf and 0 <= time < math.inf):
        raise ConfigError(f"--joins: got {space:g} {time:g}; expected two numbers of at least 0.")
    bundle = load_bundle(args.as_generated)
    if bundle.transformer is None or bundle.text_encoder is None:
        raise ConfigError(f"--as-generated: {args.as_generated} has no transformer with a text encoder; expected both.")
    check_latents(bundle.transformer.config, model.config, args.autoencoder)
    spoil = AsGenerated(bundle.transformer.to(device), bundle.text_encoder.to(device))
    batches = (source.clips(start, 8, device) for start in range(0, clips, 8))
    deviation = error_deviation(model, spoil, batches, args.seed)
    return Joins(deviation, space, time), {"space": space, "time": time, "clips": clips} | spoil.identity()
