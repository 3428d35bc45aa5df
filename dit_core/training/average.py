"""The mean of a model and of what further training made of it (WiSE-FT, arXiv:2109.01903).

python -m sora_dit.dit_core.training.average BEFORE AFTER --share 0.75 --output FILE

What was trained on one thing above all gets better at it and worse at others; between the two lie models that keep most
of both, as long as they were not trained far apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..checkpoint import Bundle, Header, load_bundle, save_bundle
from ..errors import CheckpointError, ConfigError, SoraDiTError

DIFFER = ("skip_std", "training")  # settings that may differ: measured on the clips, and what they were


def average_bundles(
    before: str | Path, after: str | Path, output: str | Path, share: float = 0.5, dtype: torch.dtype = torch.float16
) -> Header:
    """Write a bundle whose transformer is (1 - share) * before + share * after; all else is that of `after`.

    Args:
        share: of `after`, 0 to 1.
        output: `.safetensors`; it appears whole or not at all. dtype: storage type.

    Returns: the header of the file written; the provenance says what was averaged.
    Raises:
        ConfigError: a share that is none.
        CheckpointError: a file that cannot be read or written, without a transformer, or two of different shapes.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"The share of {after} is {share:g}; expected a number from 0 to 1.")
    old, new = load_bundle(before), load_bundle(after)
    for path, bundle in ((before, old), (after, new)):
        if bundle.transformer is None:
            raise CheckpointError(f"{path} holds no transformer; expected a model.")
    _require_alike(before, old, after, new)
    theirs, ours = old.transformer.state_dict(), new.transformer.state_dict()
    mixed = {name: torch.lerp(theirs[name].float(), ours[name].float(), share) for name in ours}
    components = {"transformer": (new.transformer.config.to_dict(), mixed)}
    if new.text_encoder is not None:
        components["text_encoder"] = (new.text_encoder.config_dict(), new.text_encoder.state_dict())
    if new.autoencoder is not None:
        components["autoencoder"] = (new.autoencoder.config.to_dict(), new.autoencoder.state_dict())
    told = {"with": Path(before).name, "sha256": old.header.sha256, "share_of_this": share}
    made = new.header.provenance
    made = made | {"transformer": made.get("transformer", {}) | {"averaged": told}}
    return save_bundle(output, components, made, dtype)


def _require_alike(before: str | Path, old: Bundle, after: str | Path, new: Bundle) -> None:
    one, other = (bundle.transformer.config.to_dict() for bundle in (old, new))
    differ = [name for name in one if name not in DIFFER and one[name] != other[name]]
    if differ:
        said = ", ".join(f"{name} {one[name]} and {other[name]}" for name in differ)
        raise CheckpointError(f"{before} and {after} are models of different kinds: {said}. Expected one trained on.")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when it is written, 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of AFTER, 0 to 1")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        header = average_bundles(args.before, args.after, args.output, args.share)
    except SoraDiTError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.output}: {header.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
