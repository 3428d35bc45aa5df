"""One balloon was asked for: does one come, or none, or several? A model in two minds draws what it might have drawn.

    python benchmarks/count_balloons.py                              the starter, 32 prompts: six minutes on two cores
    python benchmarks/count_balloons.py --guidance 1 1.5 2.5         at several guidance scales, the same noise
    python benchmarks/count_balloons.py --model snapshot.safetensors --sheet sheet.png

The probe of `evaluate_starter.py` knows only skies with one thing in the air and so cannot tell. A small network learns
to count here, from rendered skies with 0 to 3 balloons (the same sky drawn with each of them, and what each one changes
added up), half of them through the autoencoder. Its ceiling is beside the result, on held-out skies with one balloon.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from asked import draw_asked
from contact_sheet import contact_sheet, save_sheet
from evaluate_starter import STARTER
from generation import ClipSize, Sampling, generate
from machine import describe, table
from reconstruction import encode_decode
from sora_dit.dit_core.autoencoder import CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import load_bundle
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.skies import SkyScene, render, sample_scene
from sora_dit.dit_core.skies.scene import COLORS, place_object
from torch import Tensor, nn

MOST = 3  # balloons; more are taken for so many
FPS, FRAMES, LOOK = 12.0, 17, 12  # of the clips it learns from; at second 1 an object is where its scene says
APART = 0.8  # of a balloon's width and height: nearer ones would be one blot


def balloons(scene: SkyScene, count: int, rng: random.Random) -> list[SkyScene]:
    """`count` scenes, each the given one with a balloon at another place, all of one colour."""
    color, placed = rng.choice(COLORS), []
    while len(placed) < count:
        heading = rng.choice(("left", "right"))
        where = place_object("balloon", 1 if heading == "right" else -1, scene.horizon, rng.random)
        new = replace(scene, object="balloon", object_color=color, object_direction=heading, **where)
        if all(_apart(new, old) for old in placed):
            placed.append(new)
    return placed


def _apart(a: SkyScene, b: SkyScene) -> bool:
    size = APART * (a.object_size + b.object_size) / 2
    return abs(a.object_x - b.object_x) > size or abs(a.object_y - b.object_y) > 1.5 * size


def skies(counts: Sequence[int], seed: int, split: str, side: int) -> Tensor:
    """Clips with that many balloons -> [N, FRAMES, side, side, 3] in 0..1. All but the first may be half transparent,
    as what a model could not decide on is."""
    clips = []
    for index, count in enumerate(counts):
        rng = random.Random(f"balloons/{seed}/{index}")
        empty = replace(sample_scene(seed, index, split), object="none", object_color="none", object_direction="none")
        drawn = render([empty, *balloons(empty, count, rng)], FRAMES, side, side, FPS)
        clip = drawn[0].clone()
        for k, other in enumerate(drawn[1:]):
            clip += (1.0 if k == 0 else rng.uniform(0.55, 1.0)) * (other - drawn[0])
        clips.append(clip.clamp_(0, 1))
    return torch.stack(clips)


class Counter(nn.Module):
    """Pictures [B, 3, H, W] in 0..1 -> logits of 0 to MOST balloons [B, MOST + 1]."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 1, 2), (1, 2, 2), (2, 4, 2), (4, 4, 1), (4, 4, 1)):
            before = before if before == 3 else before * channels
            layers += [nn.Conv2d(before, after * channels, 3, stride, 1, bias=False), nn.BatchNorm2d(after * channels)]
            layers += [nn.ReLU()]
        self.see = nn.Sequential(*layers, nn.Conv2d(4 * channels, channels, 1), nn.ReLU())
        self.say = nn.Sequential(nn.Linear(2 * channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, MOST + 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """How many, as logits."""
        cells = self.see((pictures - 0.5).contiguous(memory_format=torch.channels_last))
        return self.say(torch.cat([cells.sum((2, 3)) / 16, cells.amax((2, 3))], 1))


def lessons(autoencoder: CausalVideoAutoencoder, clips: int, seed: int, side: int) -> tuple[Tensor, Tensor]:
    """What to learn from: pictures uint8 [N, 3, side, side], counts [N]; each second batch through the autoencoder."""
    pictures, counts = [], []
    for start in range(0, clips, 16):
        number = [(start + i) % (MOST + 1) for i in range(min(16, clips - start))]
        seen = skies(number, seed + start, "train", side)
        if (start // 16) % 2:
            seen = encode_decode(autoencoder, seen, torch.rand(len(seen)) * 0.3)
        pictures.append(_still(seen, LOOK).mul(255).round().to(torch.uint8))
        counts += number
    return torch.cat(pictures), torch.tensor(counts)


def learn(pictures: Tensor, counts: Tensor, steps: int, seed: int, batch: int = 64) -> Counter:
    """A counter taught with AdamW in one cycle; half of the pictures mirrored, brightness and grain varied."""
    torch.manual_seed(seed)
    counter = Counter().to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(counter.parameters(), lr=2e-3, weight_decay=0.05)
    for step in range(steps):
        share = step / steps
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, share / 0.1) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
        index = torch.randint(len(counts), (batch,))
        seen = pictures[index].float() / 255
        seen = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, seen.flip(-1), seen)
        seen = seen * (1 + 0.15 * (torch.rand(batch, 1, 1, 1) - 0.5)) + 0.03 * torch.randn_like(seen) * torch.rand(1)
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(counter(seen.clamp(0, 1)), counts[index]).backward()
        optimiser.step()
    return counter.eval()


@torch.inference_mode()
def count(counter: Counter, clips: Tensor, fps: float) -> list[int]:
    """How many balloons each of the clips [N, F, H, W, 3] has after a second (or at its end, if that is sooner)."""
    at = min(round(LOOK / FPS * fps), clips.shape[1] - 1)
    return counter(_still(clips, at)).argmax(1).tolist()


def _still(clips: Tensor, at: int) -> Tensor:
    return clips[:, at].permute(0, 3, 1, 2).float()


def shares(counts: Sequence[int]) -> list[str]:
    """Cells: the share without one, with one, with several."""
    kinds = [sum(test(n) for n in counts) for test in (lambda n: n == 0, lambda n: n == 1, lambda n: n > 1)]
    return [f"{kind / len(counts):.2f}" for kind in kinds]


def measure(args: argparse.Namespace, report: Callable[[str], None]) -> list[list[str]]:
    """The rows of the table."""
    bundle = load_bundle(args.model)
    size = ClipSize.of(bundle)
    report(f"learning to count from {args.clips} clips")
    counter = learn(*lessons(bundle.autoencoder, args.clips, args.seed, size.height), args.steps, args.seed)
    ones = skies([1] * args.rendered, args.seed + 1, "heldout", size.height)
    twos = skies([2] * args.rendered, args.seed + 2, "heldout", size.height)
    rows = []
    for name, clips in (("rendered, one balloon", ones), ("rendered, two balloons", twos)):
        rows.append([name, *shares(count(counter, clips, FPS))])
        coded = torch.cat([encode_decode(bundle.autoencoder, part) for part in clips.split(16)])
        rows.append([f"{name}, encoded, decoded", *shares(count(counter, coded, FPS))])
    prompts = [a.prompt for a in draw_asked(2 * args.prompts, args.seed) if a.balloon]
    shown = []
    for guidance in args.guidance:
        report(f"generating {len(prompts)} clips at guidance {guidance:g}")
        sampling = Sampling(guidance=guidance, guidance_until=args.guidance_until)
        clips = generate(bundle, prompts, args.seed, size, sampling, report=report)
        counts = count(counter, clips, size.fps)
        rows.append([f"generated, guidance {guidance:g}", *shares(counts)])
        shown += [(clip, f"{guidance:g} · {n} · {p}") for clip, n, p in zip(clips, counts, prompts, strict=True)]
    if args.sheet:
        clips, captions = zip(*shown, strict=True)
        save_sheet(contact_sheet(torch.stack(clips), captions), args.sheet)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=STARTER)
    parser.add_argument("--guidance", type=float, nargs="+", default=[Sampling.guidance])
    parser.add_argument("--guidance-until", type=float, default=Sampling.guidance_until)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--clips", type=int, default=2400, help="to learn to count from")
    parser.add_argument("--steps", type=int, default=1200, help="of learning to count")
    parser.add_argument("--rendered", type=int, default=96, help="clips for each ceiling")
    parser.add_argument("--seed", type=int, default=4100)
    parser.add_argument("--sheet", type=Path, help="also write the clips as one picture, with their counts")
    args = parser.parse_args(argv)
    try:
        rows = measure(args, lambda line: print(line, file=sys.stderr, flush=True))
    except SoraDiTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(["clips", "no balloon", "one", "several"], rows))
    print(f"\n{args.prompts} prompts; {describe()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
