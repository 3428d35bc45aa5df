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
import sys
from pathlib import Path

import torch

from ...autoencoder import Joins
from ...device import resolve_device
from ...errors import SoraDiTError
from ...skies.scene import EQUALLY, OBJECTS
from ..optim import OPTIMISERS
from ..options import add_autoencoder_options
from ..transformer import TransformerTraining
from .codec import run_autoencoder
from .recipe import TRANSFORMER_SOURCE
from .transformer import run_text, run_transformer


def config_changes(text: str) -> dict:
    """The value of --autoencoder-config and --transformer-config."""
    changes = json.loads(text)
    if not isinstance(changes, dict):
        raise ValueError("not an object")
    return changes


def options() -> argparse.ArgumentParser:
    """All options of all stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("autoencoder", "text", "transformer"))
    parser.add_argument("--state", type=Path, required=True, help="folder that holds the state; not in the checkout")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop, resumably, after this long")
    parser.add_argument("--steps", type=int, default=0, help="0 = as many as fit into --minutes")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--optimiser", choices=tuple(OPTIMISERS), default="muon")
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
    parser.add_argument("--known", type=float, default=TransformerTraining.known, help="share with known frames")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--compile", action="store_true", help="compile the blocks on a CPU too (needs a C++ compiler)")
    parser.add_argument("--clips", type=int, default=12_000, help="clips in the latent cache")
    parser.add_argument("--clips-seed", type=int, default=TRANSFORMER_SOURCE.seed, help="which clips, which captions")
    parser.add_argument("--twins", action="store_true", help="of two clips one is the other with a word changed")
    parser.add_argument(
        "--flying", type=float, nargs=len(OBJECTS), default=EQUALLY, metavar=tuple(map(str.upper, OBJECTS)),
        help="shares of what is in the air; equal ones otherwise",
    )  # fmt: skip
    parser.add_argument("--anchor", type=float, default=1.0, help="how firmly `text` with --start stays as it was")
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
    parser.add_argument(
        "--as-generated",
        type=Path,
        metavar="STARTER",
        help="bundle with a transformer: with --refit, hide where its errors would show between boxes",
    )
    parser.add_argument("--joins", type=float, nargs=2, default=[Joins.space, Joins.time], metavar=("SPACE", "TIME"),
                        help="how much such a step counts beside the squared error of a pixel")  # fmt: skip
    parser.add_argument("--text", type=Path, help="bundle with a text encoder that can read (made by the stage `text`)")
    parser.add_argument("--start", type=Path, help="bundle whose parts to go on from")
    parser.add_argument("--seed", type=int, default=1)
    for part in ("autoencoder", "transformer"):
        parser.add_argument(f"--{part}-config", type=config_changes, default={}, metavar="JSON",
                            help="changes to the recipe's configuration, such as '{\"width\": 384}'")  # fmt: skip
    add_autoencoder_options(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns 0, or 1 with a sentence on standard error."""
    parser = options()
    args = parser.parse_args(argv)
    if not args.steps and not args.minutes:
        parser.error("give --steps or --minutes")
    args.state.mkdir(parents=True, exist_ok=True)
    try:
        device = resolve_device(args.device)
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        {"autoencoder": run_autoencoder, "text": run_text, "transformer": run_transformer}[args.stage](args, device)
    except SoraDiTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
