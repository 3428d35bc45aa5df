"""A look at a training under way: a complete bundle from its state folder, and a contact sheet of it.

    python benchmarks/snapshot.py --state DIR --autoencoder FILE --output snapshot.safetensors --sheet sheet.png

The training is not disturbed: its state file is replaced as a whole at each save, and is read once here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import contact_sheet
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.training.export import export_bundle


def main(argv: list[str] | None = None) -> int:
    """Write the bundle, and the sheet if asked for. Returns 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder with state.safetensors")
    parser.add_argument("--autoencoder", type=Path, required=True, help="bundle with the autoencoder of the latents")
    parser.add_argument("--output", type=Path, required=True, help="bundle to write")
    parser.add_argument("--sheet", type=Path, help="PNG file; further options are those of contact_sheet.py")
    args, rest = parser.parse_known_args(argv)
    try:
        header = export_bundle(args.state, args.autoencoder, args.output)
    except SoraDiTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    made = header.provenance["transformer"]
    print(f"{args.output}: step {made.get('step')}, {made.get('samples')} samples, loss {made.get('loss')}")
    if args.sheet:
        return contact_sheet.main(["--model", str(args.output), "--output", str(args.sheet), *rest])
    return 0


if __name__ == "__main__":
    sys.exit(main())
