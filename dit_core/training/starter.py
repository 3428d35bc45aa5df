"""The recipe of the starter model, and the command that trains it:

    python -m sora_dit.dit_core.training.starter autoencoder --state DIR --minutes 120
    python -m sora_dit.dit_core.training.starter text --state DIR --steps 600
    python -m sora_dit.dit_core.training.starter transformer --state DIR --minutes 480

Each may be stopped (Ctrl-C) and called again: it goes on where it was. The result is DIR/starter.safetensors; while the
transformer trains, `python -m sora_dit.dit_core.training.export` makes such a file from its state.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from ..checkpoint import Bundle, load_bundle, save_bundle
from ..errors import ConfigError
from ..text import TextEncoder
from ..transformer import TransformerConfig, VideoDiT
from .autoencoder import held_out_quality, new_autoencoder, train_autoencoder
from .callbacks import Callbacks
from .loop import LoopSettings
from .options import add_autoencoder_options, autoencoder_training
from .reading import ReadingSettings, teach_reading
from .sky_data import LatentCache, SkySource, build_cache
from .transformer import TransformerTraining, train_transformer

# fitted in closed form in a minute; with linear="encoder" convolutions may be trained on top of the same latents
AUTOENCODER = AutoencoderConfig(
    latent_channels=64,
    patch=4,
    encoder_channels=(48, 64, 96),
    decoder_channels=(64, 96, 128),
    spatial_downsample=(True, False),
    linear="alone",
    lookahead=1,
    kl=0.0,
)
TEXT = {
    "family": "t5",
    "tokenizer": "byt5",
    "max_length": 192,
    "config": dict(
        vocab_size=384,
        d_model=192,
        d_kv=32,
        num_heads=6,
        d_ff=384,
        num_layers=3,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=32,
    ),
}
# one token per latent cell: with coarse tokens the picture falls apart at their borders until very late in training
TRANSFORMER = TransformerConfig(
    width=256,
    depth=6,
    heads=4,
    ff_width=1024,
    patch=(1, 1, 1),
    text="both",
    text_width=192,
    text_projection=False,
    modulation="shared",
    qk_norm="head",
    cross_norm=True,
    rope_theta=100.0,
    objective="flow",
)
AUTOENCODER_SOURCE = SkySource(seed=11)
TRANSFORMER_SOURCE = SkySource(seed=22)
HELD_OUT_SOURCE = SkySource(seed=33, split="heldout")


def commit() -> str:
    """The commit of the code that trains, for the provenance."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def print_line(line: dict) -> None:
    """One JSON object a line on standard output."""
    print(json.dumps(line), flush=True)


TOLD = Callbacks(report=print_line)


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
    model, position, done = train_autoencoder(model, source, args.state / "autoencoder", loop, training, device, TOLD)
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


def with_changes(model: CausalVideoAutoencoder, changes: dict, seed: int) -> CausalVideoAutoencoder:
    """The autoencoder under a changed configuration, with all weights that have the same shape in both.

    `{"linear": "encoder"}` gives a linear codec a convolutional decoder, `{"linear_sides": 5}` (with `--refit`) a wider
    linear one: its latents, and what was trained on them, stay as they are.
    """
    if not changes:
        return model
    torch.manual_seed(seed)
    changed = CausalVideoAutoencoder(AutoencoderConfig.from_dict(model.config.to_dict() | changes))
    fresh = changed.state_dict()
    kept = {n: w for n, w in model.state_dict().items() if n in fresh and fresh[n].shape == w.shape}
    changed.load_state_dict(fresh | kept)
    return changed


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


def run_text(args: argparse.Namespace, device: torch.device) -> None:
    """Teach a fresh text encoder to read captions and write it as a bundle of its own."""
    torch.manual_seed(args.seed)
    text = TextEncoder.from_config(TEXT).to(device)
    loop = LoopSettings(
        steps=args.steps, minutes=args.minutes, batch=args.batch or 64, warmup=20, decay=args.decay, log_every=20
    )
    settings = ReadingSettings(optimiser=args.optimiser, lr=args.lr or ReadingSettings.lr, seed=args.seed)
    position, done = teach_reading(text, args.state / "text", loop, settings, device, TOLD)
    made = made_by(device) | {"training": asdict(settings), "batch": loop.batch, **position, "finished": done}
    components = {"text_encoder": (text.config_dict(), text.module.state_dict())}
    save_bundle(args.state / "text_encoder.safetensors", components, {"text_encoder": made}, dtype=torch.float32)


def made_by(device: torch.device) -> dict[str, str]:
    """Date, code and machine, for the provenance."""
    return {"made": time.strftime("%Y-%m-%d"), "commit": commit(), "device": device_name(device)}


def load_autoencoder(args: argparse.Namespace, device: torch.device) -> tuple[CausalVideoAutoencoder, dict]:
    """The trained autoencoder and its provenance."""
    bundle = load_bundle(args.autoencoder or args.state / "autoencoder.safetensors")
    return bundle.autoencoder.to(device).eval(), bundle.header.provenance


def run_transformer(args: argparse.Namespace, device: torch.device) -> None:
    """Encode clips once, train transformer and text encoder on them, write all three as one bundle."""
    autoencoder, provenance = load_autoencoder(args, device)
    source = replace(TRANSFORMER_SOURCE, height=args.size, width=args.size, frames=args.frames, fps=args.fps)
    start = load_bundle(args.start) if args.start else None
    text, made = starting_text(args, start)
    provenance |= {part: how for part, how in made.items() if part == "text_encoder"}
    text.to(device)
    cache = cached_latents(args, source, autoencoder, text, device)
    model = starting_model(args, start, autoencoder.config, source, cache).to(device)
    config = model.config
    loop = LoopSettings(
        steps=args.steps, minutes=args.minutes, batch=args.batch or 24, warmup=args.warmup, decay=args.decay
    )
    training = TransformerTraining(
        optimiser=args.optimiser,
        lr=args.lr or TransformerTraining.lr,
        timestep_mean=args.timestep_mean,
        precision=args.precision,
        compile=args.compile or None,
        seed=args.seed,
        train_text=args.train_text,
    )
    position, done = train_transformer(model, text, cache, args.state / "transformer", loop, training, device, TOLD)
    provenance["transformer"] = made_by(device) | {
        "source": asdict(source),
        "clips": len(cache),
        "training": asdict(training),
        "batch": loop.batch,
        **position,
        "finished": done,
        "started_from": str(args.start or "random weights"),
    }
    components = {
        "transformer": (config.to_dict(), model.state_dict()),
        "text_encoder": (text.config_dict(), text.module.state_dict()),
        "autoencoder": (autoencoder.config.to_dict(), autoencoder.state_dict()),
    }
    save_bundle(args.state / "starter.safetensors", components, provenance, dtype=torch.float16)
    print_line({"written": str(args.state / "starter.safetensors"), "done": done, **position})


def starting_text(args: argparse.Namespace, start: Bundle | None) -> tuple[TextEncoder, dict]:
    """The text encoder: that of `--text`, else of `--start`, else taught here, else new; and how its file was made."""
    if start is not None and not args.text:
        return start.text_encoder, start.header.provenance
    taught = args.text or args.state / "text_encoder.safetensors"
    if not taught.exists():
        torch.manual_seed(args.seed)
        return TextEncoder.from_config(TEXT), {}
    read = load_bundle(taught)
    return read.text_encoder, read.header.provenance


def starting_model(
    args: argparse.Namespace, start: Bundle | None, latents: AutoencoderConfig, source: SkySource, cache: LatentCache
) -> VideoDiT:
    """The transformer of `--start`, or a new one for these latents."""
    base = (start.transformer.config if start is not None else TRANSFORMER).to_dict()
    with_skip = start is None or base["skip_std"] is not None
    size = {"height": args.size, "width": args.size, "frames": args.frames, "fps": source.fps}
    changes = {
        "in_channels": latents.latent_channels,
        "skip_std": cache.deviation() if with_skip else None,
        "latent_mean": latents.latent_mean,
        "latent_std": latents.latent_std,
        "training": size | {"shift": args.shift},
    }
    torch.manual_seed(args.seed)
    model = VideoDiT(TransformerConfig.from_dict(base | changes | args.transformer_config))
    if start is not None:
        model.load_state_dict(grown(start.transformer, model))
    return model


def grown(old: VideoDiT, new: VideoDiT) -> dict[str, torch.Tensor]:
    """Weights of `old` for `new`, which may have more latent channels: those come in as zeros and go out as zeros.

    The components of a linear encoder are nested, so a model of its first channels can go on with more of them.
    Raises `ConfigError` when the two differ in more than that.
    """
    weights, wanted = old.state_dict(), new.state_dict()
    for name, axis in (("patch_in.weight", 1), ("final.projection.weight", 0), ("final.projection.bias", 0)):
        missing = wanted[name].shape[axis] - weights[name].shape[axis]
        if missing > 0 and new.config.patch == (1, 1, 1):
            shape = list(weights[name].shape)
            shape[axis] = missing
            weights[name] = torch.cat([weights[name], weights[name].new_zeros(shape)], axis)
    for name, weight in wanted.items():
        if name not in weights or weights[name].shape != weight.shape:
            got = list(weights[name].shape) if name in weights else "nothing"
            raise ConfigError(f"--start: {name} is {got}; the wanted transformer has {list(weight.shape)}.")
    return weights


def cached_latents(
    args: argparse.Namespace,
    source: SkySource,
    autoencoder: CausalVideoAutoencoder,
    text: TextEncoder,
    device: torch.device,
) -> LatentCache:
    """The latent cache of this state folder; made and kept there if it is not yet."""
    path = args.state / f"latents_{args.size}_{args.frames}_{args.fps:g}_{args.clips}.safetensors"
    if path.exists():
        return LatentCache.load(path, device)
    if device.type == "cuda":
        if autoencoder.encoder is not None:
            autoencoder.encoder.compile()
    cache = build_cache(source, autoencoder, text, args.clips, device, report=print_line)
    if args.keep_cache:
        cache.save(path)
    return cache


def device_name(device: torch.device) -> str:
    """What the training ran on, for the provenance."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("autoencoder", "text", "transformer"))
    parser.add_argument("--state", type=Path, required=True, help="folder that holds the state; not in the checkout")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop, resumably, after this long")
    parser.add_argument("--steps", type=int, default=0, help="0 = as many as fit into --minutes")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--optimiser", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--lr", type=float, default=0.0)
    parser.add_argument("--decay", type=float, default=0.3, help="last share of the steps over which the rate falls")
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--fps", type=float, default=12.0, help="frames a second of the transformer's clips")
    parser.add_argument("--shift", type=float, default=4.0, help="of the schedule that clips are made with, by default")
    parser.add_argument(
        "--timestep-mean",
        type=float,
        default=TransformerTraining.timestep_mean,
        help="more = more of the training at high noise, where a larger clip's layout is decided",
    )
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--compile", action="store_true", help="compile the blocks on a CPU too (needs a C++ compiler)")
    parser.add_argument("--clips", type=int, default=12_000, help="clips in the latent cache")
    parser.add_argument("--train-text", action="store_true", help="let the text encoder learn with the transformer")
    parser.add_argument("--keep-cache", action="store_true")
    parser.add_argument(
        "--autoencoder",
        type=Path,
        help="bundle with an autoencoder: to train the transformer with, or whose decoder to go on training",
    )
    parser.add_argument(
        "--refit", type=int, default=0, metavar="CLIPS", help="fit the linear decoder of --autoencoder anew to so many"
    )
    parser.add_argument("--text", type=Path, help="bundle with a text encoder that can read (made by the stage `text`)")
    parser.add_argument("--start", type=Path, help="bundle whose transformer and text encoder to go on from")
    parser.add_argument("--seed", type=int, default=1)
    for part in ("autoencoder", "transformer"):
        parser.add_argument(f"--{part}-config", type=json.loads, default={}, metavar="JSON",
                            help="changes to the recipe's configuration, such as '{\"width\": 384}'")  # fmt: skip
    add_autoencoder_options(parser)
    args = parser.parse_args(argv)
    if not args.steps and not args.minutes:
        parser.error("give --steps or --minutes")
    args.state.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    {"autoencoder": run_autoencoder, "text": run_text, "transformer": run_transformer}[args.stage](args, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
