"""A LoRA from real clips: twenty clips cut from one short film, `workflows/train_lora.json`, and before beside after.

    python benchmarks/lora_example.py FILM --work DIR --kept 10 --output docs/lora.png

The film is NASA's, 13 seconds of the James Webb telescope's mirror under inspection (three scenes, slowed down to half
their speed here so that each is long enough); another film needs its own SCENES. --kept puts clips that the
starter makes of prompts it knows beside them, so that it stays what it was there (the prior preservation of DreamBooth,
arXiv:2208.12242). Stopped with Ctrl-C, the same command goes on. The sheet shows two of the clips, then for each prompt
the starter without and with the LoRA, from the same seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from contact_sheet import contact_sheet, save_sheet
from generation import ClipSize, Sampling, generate
from sora_dit.dit_core.checkpoint import Bundle, load_bundle
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.lora import apply_lora, load_lora
from sora_dit.dit_core.media import read_video, write_video
from sora_dit.dit_core.skies import caption, sample_balanced
from sora_dit.headless import run_workflow
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "models" / "starter" / "sora-dit-starter.safetensors"
FRAMES, FPS = 25, 12
# from second, to second, clips, caption
SCENES = (
    (0.0, 4.8, 7, "a zq mirror far away in a dark hall, a man on a red lift on the left"),
    (6.3, 8.2, 5, "a zq mirror close by, golden hexagons, a man in white in front of it"),
    (9.0, 12.9, 8, "a zq mirror in a dark hall, golden tiles on the right, a man on a red lift"),
)
PROMPTS = (
    "a zq mirror close by, golden hexagons, a man in white in front of it",
    "a zq mirror in a dark hall, golden tiles on the right, a man on a red lift",
    "scattered clouds drifting to the right over the sea at sunset",
)


def cut(film: Path, folder: Path) -> list[tuple[Tensor, str]]:
    """Write the clips and their captions; returns clips [F, H, W, 3] and captions. A clip is a square of the picture,
    left, middle and right in turn."""
    whole = read_video(film)
    frames, rate = torch.as_tensor(whole.frames), float(whole.fps)
    folder.mkdir(parents=True, exist_ok=True)
    side, clips = min(frames.shape[1:3]), []
    for begin, end, count, words in SCENES:
        first, last = round(begin * rate), min(round(end * rate), len(frames)) - FRAMES
        if last < first:
            raise SoraDiTError(f"{film}: no {FRAMES} frames between second {begin} and {end}; expected another film.")
        for index in range(count):
            start = first + round((last - first) * index / max(count - 1, 1))
            left = round((frames.shape[2] - side) * (0.35, 0.5, 0.65)[index % 3])
            clip = frames[start : start + FRAMES, :side, left : left + side]
            name = folder / f"clip_{len(clips):02d}"
            write_video(name.with_suffix(".mp4"), [clip], FPS)
            name.with_suffix(".txt").write_text(words + "\n", encoding="utf-8")
            clips.append((clip, words))
    return clips


def keep(bundle: Bundle, folder: Path, count: int) -> None:
    """Write `count` clips that the model makes of sky prompts, with those prompts; what is there is not made again."""
    for index in range(count):
        name = folder / f"kept_{index:02d}"
        if name.with_suffix(".txt").exists():
            continue
        prompt = caption(sample_balanced(9, index), seed=index)
        (clip,) = generate(bundle, [prompt], index, ClipSize.of(bundle), Sampling())
        write_video(name.with_suffix(".mp4"), [clip], FPS)
        name.with_suffix(".txt").write_text(prompt + "\n", encoding="utf-8")


def train(work: Path, **settings: int | float | str) -> Path:
    """Run the workflow on the clips in `work`/input/my_clips; returns the LoRA's file."""
    settings |= {"sample_every": settings["steps"], "sample_prompts": PROMPTS[0]}
    settings = {f"Train LoRA.{name}": value for name, value in settings.items()} | {"Prompt.text": PROMPTS[0]}
    (work / "models").mkdir(exist_ok=True)
    run_workflow(
        ROOT / "workflows" / "train_lora.json",
        set=settings, input=work / "input", output=work / "output", models=work / "models",
    )  # fmt: skip
    (found,) = (work / "models").rglob("my_lora.safetensors")
    return found


def small(clip: Tensor, side: int) -> Tensor:
    """[F, H, W, 3] in 0..255 or 0..1 -> [F, side, side, 3] in 0..1."""
    clip = clip.float() / (1 if clip.is_floating_point() else 255)
    resized = torch.nn.functional.interpolate(clip.permute(0, 3, 1, 2), (side, side), mode="area")
    return resized.permute(0, 2, 3, 1)


def main(argv: list[str] | None = None) -> int:
    """Cut, train, generate twice, draw. Returns 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for clips, state and results")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.0, help="0 = the node's own")
    parser.add_argument("--targets", default="attention and feed-forward", help="as the node has them")
    parser.add_argument("--kept", type=int, default=0, help="clips of the starter's own to train on as well")
    parser.add_argument("--output", type=Path, default=Path("lora.png"))
    args = parser.parse_args(argv)
    try:
        folder, bundle, seeds = args.work / "input" / "my_clips", load_bundle(STARTER), 5
        clips = cut(args.film, folder)
        keep(bundle, folder, args.kept)
        started = time.monotonic()
        lora = train(
            args.work,
            steps=args.steps, batch=args.batch, rank=args.rank, learning_rate=args.lr, targets=args.targets,
        )  # fmt: skip
        minutes = (time.monotonic() - started) / 60
        print(f"{len(clips)} clips and {args.kept} kept, {args.steps} steps of {args.batch}: {minutes:.1f} minutes")
        size, sampling = ClipSize.of(bundle), Sampling()
        before = generate(bundle, PROMPTS, seeds, size, sampling)
        apply_lora(bundle.transformer, load_lora(lora))
        after = generate(bundle, PROMPTS, seeds, size, sampling)
    except SoraDiTError as error:
        print(error, file=sys.stderr)
        return 1
    rows = [(small(clips[i][0], size.height), f"one of the clips: {clips[i][1]}") for i in (9, 15)]
    for index, prompt in enumerate(PROMPTS):
        rows += [(before[index], f"before: {prompt}"), (after[index], f"after: {prompt}")]
    save_sheet(contact_sheet(torch.stack([clip for clip, _ in rows]), [text for _, text in rows]), args.output)
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
