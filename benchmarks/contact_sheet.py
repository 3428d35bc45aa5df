"""Pictures to judge by: a row for each prompt, six frames across the clip; moving pictures on request.

    python benchmarks/contact_sheet.py --output sheet.png                               16 prompts, the starter
    python benchmarks/contact_sheet.py --prompt "a storm over the sea" --output sheet.png --animation sheet.webp
    python benchmarks/contact_sheet.py --rendered 6 --output rendered.png               what the training looks like
    python benchmarks/contact_sheet.py --mixed 6 --output mixed.png                     each scene rendered, generated
    python benchmarks/contact_sheet.py --blind 8 --output blind.png                     the same, shuffled, unlabelled

Numbers say how often; only looking says how good.
"""

from __future__ import annotations

import argparse
import random
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from asked import draw_asked
from generation import ClipSize, Sampling, generate
from PIL import Image, ImageDraw, ImageFont
from reconstruction import encode_decode
from sora_dit.dit_core.checkpoint import load_bundle
from sora_dit.dit_core.device import resolve_device
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.skies import caption, render, sample_scene
from torch import Tensor

STARTER = Path(__file__).resolve().parents[1] / "models" / "starter" / "sora-dit-starter.safetensors"
PROMPTS = (
    "a red hot-air balloon rising over the sea at sunset",
    "a pale moon over a city skyline at night, scattered clouds drifting slowly to the left",
    "Broken clouds racing to the right over rolling hills by day, the sun on the left.",
    "a flock of birds crossing the sky over the sea at dawn",
    "an overcast sky over the city, in the rain, at dusk",
    "A plane with a contrail flying left in a clear daytime sky, nothing but sky",
    "a yellow balloon floating over the hills in the first light of dawn",
    "lots of broken clouds over open water during a fiery sunset, the sun in the middle",
    "a clear night sky over the hills, the moon on the right",
    "puffy clouds drifting leftwards over the sea in broad daylight",
    "a blue hot-air balloon over a city at midday, some scattered clouds",
    "thick overcast clouds rushing from left to right above the ocean by day",
    "purple twilight, a few puffy clouds above layered hills",
    "a green balloon at night, the moon shining on the left, clouds drifting to the right",
    "birds flying to the right over the roofs of a city at sundown",
    "just the open sky at daybreak, thin wisps creeping to the left",
)
"""Varied and natural, as a user would write them."""

INK, PAPER = (30, 30, 36), (250, 250, 248)


def pictures(clip: Tensor, columns: int) -> list[Image.Image]:
    """`columns` frames of [F, H, W, 3] in 0..1, first and last included, as images."""
    index = torch.linspace(0, len(clip) - 1, columns).round().long()
    return [Image.fromarray(frame) for frame in (clip[index] * 255).round().to(torch.uint8).numpy()]


def contact_sheet(clips: Tensor, captions: Sequence[str], columns: int = 6, scale: int = 2) -> Image.Image:
    """One row for each clip, its caption above it.

    clips: [N, F, H, W, 3] in 0..1; scale: whole number by which pixels are enlarged, without smoothing.
    """
    height, width = (side * scale for side in clips.shape[2:4])
    gap, line = 4, 22
    sheet = Image.new("RGB", (columns * (width + gap) + gap, len(clips) * (height + line + gap) + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (clip, text) in enumerate(zip(clips, captions, strict=True)):
        top = gap + row * (height + line + gap)
        font = fitting_font(draw, text, sheet.width - 3 * gap)
        draw.text((gap + 2, top + 3), text, INK, font)
        for column, picture in enumerate(pictures(clip, columns)):
            place = (gap + column * (width + gap), top + line)
            sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), place)
    return sheet


def fitting_font(draw: ImageDraw.ImageDraw, text: str, width: int, most: int = 15) -> ImageFont.ImageFont:
    """The largest size, `most` points or less, at which the text fits into `width` pixels (8 if none does)."""
    for points in range(most, 7, -1):
        try:
            font = ImageFont.load_default(points)
        except (TypeError, OSError):  # Pillow before 10.1, or built without FreeType: one size only
            return ImageFont.load_default()
        if draw.textlength(text, font) <= width:
            break
    return font


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a PNG; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def animation(
    clips: Tensor, captions: Sequence[str], fps: float, path: Path, columns: int = 4, scale: int = 2
) -> None:
    """All clips side by side with their captions below, moving for ever, as .webp or .gif.

    clips: [N, F, H, W, 3] in 0..1; pixels are enlarged smoothly, as a video player does.
    """
    n, frames, height, width, _ = clips.shape
    gap, words = 6, 62
    width, height = width * scale, height * scale
    places = [(gap + i % columns * (width + gap), gap + i // columns * (height + words + gap)) for i in range(n)]
    paper = Image.new("RGB", (columns * (width + gap) + gap, -(-n // columns) * (height + words + gap) + gap), PAPER)
    draw = ImageDraw.Draw(paper)
    for (left, top), text in zip(places, captions, strict=True):
        lines = textwrap.wrap(text, max(8, width // 6), max_lines=4, placeholder=" ...")
        font = fitting_font(draw, max(lines, key=draw.textlength), width, most=12)
        draw.multiline_text((left, top + height + 2), "\n".join(lines), INK, font, spacing=2)
    moving = []
    for f in range(frames):
        sheet = paper.copy()
        for i in range(n):
            picture = pictures(clips[i, f : f + 1], 1)[0]
            sheet.paste(picture.resize((width, height), Image.Resampling.BICUBIC), places[i])
        moving.append(sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 75, "method": 4} if path.suffix == ".webp" else {}
    moving[0].save(path, save_all=True, append_images=moving[1:], duration=round(1000 / fps), loop=0, **options)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, default=STARTER, help="bundle (default: the starter)")
    add("--prompt", action="append", help="a prompt; may be given several times (default: 16 of ours)")
    add("--prompts-file", type=Path, help="a text file with one prompt a line")
    add("--rendered", type=int, default=0, metavar="N", help="instead: N rendered scenes of the training")
    add("--mixed", type=int, default=0, metavar="N", help="instead: N held-out scenes, each rendered, through the "
        "autoencoder, and generated from its caption")  # fmt: skip
    add("--output", type=Path, required=True, help="PNG file")
    add("--blind", type=int, default=0,
        help="so many scenes rendered and generated, shuffled and unlabelled; which is which goes into a .txt beside")
    add("--animation", type=Path, help="also write all clips moving, .webp or .gif")
    add("--columns", type=int, default=6, help="frames shown of each clip")
    add("--scale", type=int, default=2, help="enlargement of the pixels")
    add("--seed", type=int, default=1)
    add("--batch", type=int, default=4, help="clips denoised at once")
    add("--steps", type=int, default=Sampling.steps)
    add("--guidance", type=float, default=Sampling.guidance)
    add("--guidance-until", type=float, default=Sampling.guidance_until)
    add("--sampler", default=Sampling.sampler)
    add("--shift", type=float, default=0.0, help="0 = the model's own")
    add("--size", type=int, default=0, help="0 = what the model was trained on")
    add("--frames", type=int, default=0, help="0 = what the model was trained on")
    add("--device", default="cpu")
    return parser.parse_args(argv)


def make_clips(args: argparse.Namespace) -> tuple[Tensor, list[str], float]:
    """Clips [N, F, H, W, 3], captions, frames a second, as the command line asks."""
    bundle = load_bundle(args.model, resolve_device(args.device))
    if bundle.transformer is None or bundle.text_encoder is None or bundle.autoencoder is None:
        raise SoraDiTError(
            f"{args.model} is not a complete bundle; expected transformer, text encoder and autoencoder."
        )
    size = ClipSize.of(bundle, args.size, args.frames)
    if args.rendered:
        scenes = [sample_scene(args.seed, index) for index in range(args.rendered)]
        clips = render(scenes, size.frames, size.height, size.width, size.fps)
        return clips, [caption(scene, seed=index) for index, scene in enumerate(scenes)], size.fps
    sampling = Sampling(
        args.steps, args.guidance, args.sampler, shift=args.shift, guidance_until=args.guidance_until
    )
    prompts = list(args.prompt or ())
    if args.prompts_file:
        prompts += [line.strip() for line in args.prompts_file.read_text(encoding="utf-8").splitlines() if line.strip()]
    count = args.blind or args.mixed
    asked = draw_asked(count, args.seed) if count else []
    prompts = [a.prompt for a in asked] or prompts or list(PROMPTS)
    clips = generate(bundle, prompts, args.seed, size, sampling, args.batch, lambda line: print(line, file=sys.stderr))
    if not asked:
        return clips, prompts, size.fps
    rendered = render([a.scene for a in asked], size.frames, size.height, size.width, size.fps).contiguous()
    kinds = (("rendered", rendered), ("coded", encode_decode(bundle.autoencoder, rendered)), ("generated", clips))
    if args.blind:
        kinds = (kinds[0], kinds[2])
    mixed = torch.stack([kind for _, kind in kinds], 1).flatten(0, 1)
    captions = [f"{name}: {prompt}" for prompt in prompts for name, _ in kinds]
    if args.blind:
        order = list(range(len(captions)))
        random.Random(args.seed).shuffle(order)
        key = "".join(f"{row + 1}. {captions[i]}\n" for row, i in enumerate(order))
        args.output.with_suffix(".txt").write_text(key, encoding="utf-8")
        mixed, captions = mixed[order], [f"{row + 1}." for row in range(len(order))]
    return mixed, captions, size.fps


def main(argv: list[str] | None = None) -> int:
    """Write the files asked for. Returns 0, or 1 with a sentence on standard error."""
    args = parse(argv)
    try:
        clips, captions, fps = make_clips(args)
    except SoraDiTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    save_sheet(contact_sheet(clips, captions, args.columns, args.scale), args.output)
    if args.animation:
        animation(clips, captions, fps, args.animation, scale=args.scale)
    return 0


if __name__ == "__main__":
    sys.exit(main())
