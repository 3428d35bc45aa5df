"""The pack's icon and banner for the registry: a rendered sky that comes out of noise.

python benchmarks/emblem.py          writes docs/icon.png (400 x 400) and docs/banner.png (1260 x 540, 21:9)
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from drawing import font, to_image
from help_studio import scene_like
from PIL import Image, ImageDraw
from sora_dit.dit_core.diffusion.noise import cpu_noise
from sora_dit.dit_core.skies import render
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[1] / "docs"
WHITE, SHADE = (255, 252, 245), (40, 22, 60)


def sky(width: int, height: int, cells: int, **places: float) -> Tensor:
    """A sunset over the sea [H, W, 3] in 0..1; from the left, `cells` cells across, it is still noise."""
    scene = scene_like(time="sunset", cover="scattered", ground="sea", object="balloon", object_color="red")
    picture = render([replace(scene, **places)], 1, height, width)[0, 0]
    side = width // cells
    rows = -(-height // side)
    noise = cpu_noise(7, (1, 3, rows, cells)).mul(0.27).add(0.5).clamp(0, 1)
    noise = torch.nn.functional.interpolate(noise, scale_factor=side, mode="nearest")[0].permute(1, 2, 0)
    # Each cell has its own share of noise, falling from left to right: the look of a latent half way through.
    share = 1.15 - 2.1 * torch.arange(cells) / cells + 0.22 * cpu_noise(8, (rows, cells))
    share = share.clamp(0, 1).repeat_interleave(side, 0).repeat_interleave(side, 1)[..., None]
    picture[:, : cells * side] = torch.lerp(picture[:, : cells * side], noise[:height], share[:height])
    return picture


def write(image: Image.Image, path: Path, words: list[tuple[tuple[int, int], str, int]]) -> None:
    """Put `words` (place, text, size) on the picture and save it in 256 colours, which a sky does not miss."""
    draw = ImageDraw.Draw(image)
    for (x, y), text, points in words:
        draw.text((x + 2, y + 3), text, SHADE, font(points), anchor="rm")
        draw.text((x, y), text, WHITE, font(points), anchor="rm")
    path.parent.mkdir(exist_ok=True)
    image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"{path.name:12} {path.stat().st_size / 1000:5.1f} kB")


def main() -> int:
    """Write both files."""
    icon = to_image(sky(400, 400, 10, object_x=0.66, object_y=0.4, object_size=0.34, light_x=0.86))
    write(icon, FOLDER / "icon.png", [])
    banner = to_image(sky(1260, 540, 28, object_x=0.42, object_y=0.38, object_size=0.3, light_x=0.62))
    words = [((1210, 190), "Sora DiT", 110), ((1208, 280), "a video diffusion transformer", 40)]
    write(banner, FOLDER / "banner.png", words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
