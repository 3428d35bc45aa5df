"""The stages `text` and `transformer`: an encoder that reads, then the model that denoises."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

import torch

from ...autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from ...checkpoint import Bundle, load_bundle, save_bundle
from ...errors import ConfigError
from ...text import TextEncoder
from ...transformer import TransformerConfig, VideoDiT
from ..compiling import compiled
from ..options import loop_settings
from ..reading import ReadingSettings, teach_reading
from ..sky_data import LatentCache, SkySource, build_cache, sky_identity
from ..transformer import TransformerTraining, train_transformer
from .provenance import TOLD, made_by, part_of, print_line
from .recipe import TEXT, TRANSFORMER, TRANSFORMER_SOURCE


def run_text(args: argparse.Namespace, device: torch.device) -> None:
    """Teach a text encoder, fresh or that of `--start`, to read captions and write it as a bundle of its own."""
    torch.manual_seed(args.seed)
    start = load_bundle(args.start) if args.start else None
    fresh = TextEncoder.from_config(TEXT) if start is None else part_of(start, "text_encoder", "--start", args.start)
    text = fresh.to(device)
    loop = loop_settings(args, batch=64, log_every=20)
    settings = ReadingSettings(
        optimiser=args.optimiser,
        lr=args.lr or ReadingSettings.lr,
        scenes=args.clips_seed,
        anchor=0.0 if start is None else args.anchor,
        precision=args.precision,
        seed=args.seed,
    )
    position, done = teach_reading(text, args.state / "text", loop, settings, device, TOLD)
    made = made_by(device) | {"training": asdict(settings), "batch": loop.batch, **position, "finished": done}
    if start is not None and "text_encoder" in start.header.provenance:
        made["before"] = [start.header.provenance["text_encoder"]]
    components = {"text_encoder": (text.config_dict(), text.module.state_dict())}
    save_bundle(args.state / "text_encoder.safetensors", components, {"text_encoder": made}, dtype=torch.float32)


def load_autoencoder(args: argparse.Namespace, device: torch.device) -> tuple[CausalVideoAutoencoder, dict]:
    """The trained autoencoder and its provenance."""
    path = args.autoencoder or args.state / "autoencoder.safetensors"
    bundle = load_bundle(path)
    return part_of(bundle, "autoencoder", "--autoencoder", path).to(device).eval(), bundle.header.provenance


def run_transformer(args: argparse.Namespace, device: torch.device) -> None:
    """Encode clips once, train transformer and text encoder on them, write all three as one bundle."""
    autoencoder, provenance = load_autoencoder(args, device)
    size = {"height": args.size, "width": args.size, "frames": args.frames, "fps": args.fps}
    source = replace(TRANSFORMER_SOURCE, seed=args.clips_seed, twins=args.twins, flying=tuple(args.flying), **size)
    start = load_bundle(args.start) if args.start else None
    text, made = starting_text(args, start)
    provenance |= {part: how for part, how in made.items() if part == "text_encoder"}
    text.to(device)
    cache = cached_latents(args, source, autoencoder, text, device)
    model = starting_model(args, start, autoencoder.config, source, cache).to(device)
    config = model.config
    loop = loop_settings(args, batch=24)
    training = TransformerTraining(
        optimiser=args.optimiser,
        lr=args.lr or TransformerTraining.lr,
        timestep_mean=args.timestep_mean,
        known=args.known,
        precision=args.precision,
        compile=args.compile or None,
        seed=args.seed,
        train_text=args.train_text,
    )
    position, done = train_transformer(model, text, cache, args.state / "transformer", loop, training, device, TOLD)
    provenance["transformer"] = made_by(device) | {
        "source": source.settings(),
        "clips": len(cache),
        "training": asdict(training),
        "batch": loop.batch,
        **position,
        "finished": done,
        "started_from": args.start.name if args.start else "random weights",
    }
    if start is not None and "transformer" in start.header.provenance:
        provenance["transformer"]["before"] = [start.header.provenance["transformer"]]
    components = {
        "transformer": (config.to_dict(), model.state_dict()),
        "text_encoder": (text.config_dict(), text.module.state_dict()),
        "autoencoder": (autoencoder.config.to_dict(), autoencoder.state_dict()),
    }
    save_bundle(args.state / "starter.safetensors", components, provenance, dtype=torch.float16)
    print_line({"written": str(args.state / "starter.safetensors"), "done": done, **position})


def starting_text(args: argparse.Namespace, start: Bundle | None) -> tuple[TextEncoder, dict]:
    """The text encoder: that of `--text`, else of `--start`, else taught here; and how its file was made.

    With `--train-text` it may be a new one. Raises `ConfigError` when there is none.
    """
    if start is not None and not args.text:
        return part_of(start, "text_encoder", "--start", args.start), start.header.provenance
    taught = args.text or args.state / "text_encoder.safetensors"
    if not args.text and not taught.exists():
        if not args.train_text:
            raise ConfigError(
                f"There is no text encoder {taught}: a new one has not learned to read, and would stay as it is. Run "
                "`starter text` with the same --state first, or give --text, --start or --train-text."
            )
        torch.manual_seed(args.seed)
        return TextEncoder.from_config(TEXT), {}
    read = load_bundle(taught)
    return part_of(read, "text_encoder", "--text", taught), read.header.provenance


def starting_model(
    args: argparse.Namespace, start: Bundle | None, latents: AutoencoderConfig, source: SkySource, cache: LatentCache
) -> VideoDiT:
    """The transformer of `--start`, or a new one for these latents."""
    old = None if start is None else part_of(start, "transformer", "--start", args.start)
    base = (TRANSFORMER if old is None else old.config).to_dict()
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
    if old is not None:
        model.load_state_dict(grown(old, model))
    return model


def grown(old: VideoDiT, new: VideoDiT) -> dict[str, torch.Tensor]:
    """Weights of `old` for `new`, which may have more latent channels, more blocks, or know where its tokens are.

    The components of a linear encoder are nested, so a model of its first channels can go on with more of them: those
    come in as zeros and go out as zeros. Blocks that `old` lacks are as they were made, the identity, spread evenly
    among the others. So the new one computes what the old one did.
    Raises `ConfigError` when the two differ in more than that.
    """
    wanted = new.state_dict()
    weights = _with_more_blocks(old, new, wanted)
    for name, axis in (("patch_in.weight", 1), ("final.projection.weight", 0), ("final.projection.bias", 0)):
        missing = wanted[name].shape[axis] - weights[name].shape[axis]
        if missing > 0 and new.config.patch == (1, 1, 1):
            shape = list(weights[name].shape)
            shape[axis] = missing
            weights[name] = torch.cat([weights[name], weights[name].new_zeros(shape)], axis)
    if new.place is not None and old.place is None:
        weights["place.weight"] = torch.zeros_like(wanted["place.weight"])
    for name, weight in wanted.items():
        if name not in weights or weights[name].shape != weight.shape:
            got = list(weights[name].shape) if name in weights else "nothing"
            raise ConfigError(f"--start: {name} is {got}; the wanted transformer has {list(weight.shape)}.")
    return weights


def _with_more_blocks(old: VideoDiT, new: VideoDiT, fresh: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of `old`, its blocks where they stand among those of `new`; fresh: those of `new` as it was made."""
    weights, had, has = old.state_dict(), old.config.depth, new.config.depth
    alike = all(getattr(old.config, name) == getattr(new.config, name) for name in ("width", "modulation"))
    if has <= had or not alike:
        return weights
    place = [(2 * block + 1) * has // (2 * had) for block in range(had)]
    moved = {name: weight for name, weight in weights.items() if not name.startswith("blocks.")}
    for name, weight in fresh.items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            given = int(number) in place
            moved[name] = weights[f"blocks.{place.index(int(number))}.{rest}"] if given else weight
    if new.config.modulation == "shared":
        moved["block_table"] = fresh["block_table"].index_copy(0, torch.tensor(place), weights["block_table"])
        return moved
    for name in ("modulation.weight", "modulation.bias"):  # six rows of each block, then two of the last layer
        rows, before = fresh[name].unflatten(0, (6 * has + 2, -1)), weights[name].unflatten(0, (6 * had + 2, -1))
        at = [6 * block + k for block in place for k in range(6)] + [6 * has, 6 * has + 1]
        moved[name] = rows.index_copy(0, torch.tensor(at), before).flatten(0, 1)
    return moved


def cached_latents(
    args: argparse.Namespace,
    source: SkySource,
    autoencoder: CausalVideoAutoencoder,
    text: TextEncoder,
    device: torch.device,
) -> LatentCache:
    """The latent cache of this state folder; made, and kept there if that is asked for, if it is not there yet.

    Raises `CheckpointError` for one of other clips, of another autoencoder or tokenizer, and for a damaged one.
    """
    kind = "twins" if source.twins else "latents"
    path = args.state / f"{kind}_{args.size}_{args.frames}_{args.fps:g}_{args.clips}.safetensors"
    if path.exists():
        return LatentCache.load(path, device, sky_identity(source, autoencoder, text, args.clips))
    with compiled([] if autoencoder.encoder is None else [autoencoder.encoder], device):
        cache = build_cache(source, autoencoder, text, args.clips, device, report=print_line)
    if args.keep_cache:
        cache.save(path)
    return cache
