"""From a training's state to a bundle that can be used, finished or not; the training may be running.

python -m sora_dit.dit_core.training.export --state DIR --autoencoder FILE --output FILE
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..autoencoder import CausalVideoAutoencoder
from ..checkpoint import Header, load_bundle, read_header, save_bundle
from ..errors import CheckpointError, SoraDiTError
from ..latents.identity import summary
from ..text import TextEncoder
from ..transformer import TransformerConfig, VideoDiT
from .state import state_path

LATENTS_DIFFER = 0.02  # in standard deviations: more is another autoencoder, not another set of clips


def export_bundle(
    state_folder: str | Path,
    autoencoder: str | Path | CausalVideoAutoencoder,
    output: str | Path,
    dtype: torch.dtype = torch.float16,
    earlier: Sequence[str | Path] = (),
) -> Header:
    """Put the averaged weights of a transformer's training and an autoencoder into one bundle.

    The state file is read once; a training that saves meanwhile puts a new file in its place and is not disturbed.

    Args:
        state_folder: where the training keeps `state.safetensors`.
        autoencoder: the one that made the latents of the training, or a bundle with it.
        output: the bundle to write, `.safetensors`; it appears whole or not at all.
        dtype: storage type.
        earlier: bundles that this training began from; how they were made goes into the provenance.

    Returns: the header of the file written. Its provenance holds the autoencoder's, the training's settings and its
        position (step, samples, seconds, loss), and the date.
    Raises:
        CheckpointError: the state is not there, cannot be read or is of another kind of training, or the autoencoder is
            not the one that made the latents.
    """
    path = state_path(state_folder)
    settings, position, weights = _read_averages(path)
    config = TransformerConfig.from_dict(settings.pop("config"))
    text = TextEncoder.from_config(settings.pop("text"))
    transformer = VideoDiT(config)
    _fill(transformer, weights["transformer"], f"{path}, transformer")
    _fill(text.module, weights["text_encoder"], f"{path}, text encoder")
    codec, provenance = _opened(autoencoder)
    check_latents(config, codec.config, "What was given" if codec is autoencoder else autoencoder)
    total = position.pop("planned", 0) or position.get("total")
    if "data" in settings:
        settings["data"] = summary(settings["data"])
    provenance["transformer"] = {
        "made": time.strftime("%Y-%m-%d"),
        **settings,
        **position,
        "finished": position.get("step", 0) >= total if total else None,  # None: it does not say how long it was to be
        "weights": "moving average",
    }
    before = [read_header(bundle).provenance for bundle in earlier]
    for made in before:
        provenance |= {part: how for part, how in made.items() if part == "text_encoder"}
    provenance["transformer"]["before"] = [made["transformer"] for made in before if "transformer" in made]
    components = {
        "transformer": (config.to_dict(), transformer.state_dict()),
        "text_encoder": (text.config_dict(), text.state_dict()),
        "autoencoder": (codec.config.to_dict(), codec.state_dict()),
    }
    return save_bundle(output, components, provenance, dtype)


def _opened(autoencoder: str | Path | CausalVideoAutoencoder) -> tuple[CausalVideoAutoencoder, dict[str, Any]]:
    """The autoencoder and how it was made, as far as that is known."""
    if isinstance(autoencoder, CausalVideoAutoencoder):
        return autoencoder, {}
    source = load_bundle(autoencoder)
    if source.autoencoder is None:
        raise CheckpointError(f"{autoencoder} holds no autoencoder; expected the one that made the latents.")
    made = source.header.provenance
    return source.autoencoder, {name: how for name, how in made.items() if name == "autoencoder"}


def _read_averages(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Settings, position and the weights of both parts, averaged; optimisers are left in the file."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected the state of a training, which is saved as it goes.")
    weights: dict[str, dict[str, Tensor]] = {"transformer": {}, "text_encoder": {}}
    try:
        with safe_open(path, "pt") as file:
            metadata, keys = file.metadata() or {}, list(file.keys())
            for component, found in weights.items():
                prefix = f"average.{component}."
                if component == "text_encoder" and not any(key.startswith(prefix) for key in keys):
                    prefix = f"module.{component}."  # it did not learn
                found |= {key[len(prefix) :]: file.get_tensor(key) for key in keys if key.startswith(prefix)}
        settings, position = json.loads(metadata["settings"]), json.loads(metadata["position"])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as the state of a training ({error}).") from error
    if not weights["transformer"] or "config" not in settings or "text" not in settings:
        raise CheckpointError(f"{path} is not the state of a transformer's training; expected one with its settings.")
    return settings, position, weights


def _fill(module: nn.Module, values: dict[str, Tensor], where: str) -> None:
    parameters = dict(module.named_parameters())
    twins = set(module.state_dict()) - set(parameters)  # other names of tied weights
    values = {name: value for name, value in values.items() if name not in twins}
    missing, unexpected = sorted(set(parameters) - set(values)), sorted(set(values) - set(parameters))
    wrong = sorted(n for n in set(parameters) & set(values) if parameters[n].shape != values[n].shape)
    if missing or unexpected or wrong:
        found = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
        listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in found.items() if names)
        raise CheckpointError(f"{where}: the averaged weights do not fit the settings beside them ({listed}).")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def check_latents(transformer: TransformerConfig, autoencoder, path: str | Path) -> None:
    """An autoencoder with other latents would decode noise; its statistics give it away."""
    trained = (transformer.latent_mean, transformer.latent_std)
    given = (autoencoder.latent_mean, autoencoder.latent_std)
    if transformer.in_channels != autoencoder.latent_channels:
        raise CheckpointError(
            f"{path} has {autoencoder.latent_channels} latent channels; the transformer was trained with "
            f"{transformer.in_channels}."
        )
    if trained[0] is None or given[0] is None:
        return
    mean_off = max(abs(a - b) / s for a, b, s in zip(trained[0], given[0], trained[1], strict=True))
    std_off = max(abs(a / b - 1) for a, b in zip(trained[1], given[1], strict=True))
    if max(mean_off, std_off) > LATENTS_DIFFER:
        raise CheckpointError(
            f"{path} is not the autoencoder that the transformer was trained with: means of its latents differ by up "
            f"to {mean_off:.3f} standard deviations, standard deviations by up to {100 * std_off:.1f} %."
        )


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder with the state of the transformer's training")
    parser.add_argument("--autoencoder", type=Path, required=True, help="bundle with the autoencoder of its latents")
    parser.add_argument("--output", type=Path, required=True, help="bundle to write, .safetensors")
    parser.add_argument("--earlier", type=Path, nargs="*", default=[], help="bundles this training began from")
    args = parser.parse_args(argv)
    try:
        header = export_bundle(args.state, args.autoencoder, args.output, earlier=args.earlier)
    except SoraDiTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    made = header.provenance["transformer"]
    print(f"{args.output}: step {made.get('step')}, {made.get('samples')} samples, loss {made.get('loss')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
