"""The pictures of the help pages, made from the starter model and the rendered skies.

    python benchmarks/help_pictures.py                       all of them, into web/docs/pictures
    python benchmarks/help_pictures.py --only Denoise Encode --model MODEL.safetensors --output FOLDER

Run it again after the starter was trained anew: what it makes, encodes and decodes is what that file does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import help_drawings_latent
import help_drawings_media
import help_drawings_training
from drawing import save_small
from help_studio import Studio

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "models" / "starter" / "sora-dit-starter.safetensors"
FOLDER = ROOT / "web" / "docs" / "pictures"
DRAWINGS = {**help_drawings_latent.DRAWINGS, **help_drawings_media.DRAWINGS, **help_drawings_training.DRAWINGS}
"""Node id without its prefix -> what draws its picture."""


def main(argv: list[str] | None = None) -> int:
    """Write the files asked for and say how large each is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=STARTER, help="bundle (default: the starter)")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder (default: web/docs/pictures)")
    parser.add_argument("--only", nargs="+", metavar="NODE", help="node ids without SoraDiT (default: all)")
    options = parser.parse_args(argv)
    if unknown := set(options.only or ()) - set(DRAWINGS):
        parser.error(f"there is no picture for {', '.join(sorted(unknown))}; there are {', '.join(DRAWINGS)}")
    studio = Studio(options.model)
    for name in options.only or DRAWINGS:
        size = save_small(DRAWINGS[name](studio).image, options.output / f"{name}.webp")
        print(f"{name:24} {size / 1000:5.1f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
