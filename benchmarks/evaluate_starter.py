"""How good is a model of skies? Prompts it never saw, probes that know their own ceiling, seams, seconds.

    python benchmarks/evaluate_starter.py                        the starter, 64 prompts: ten minutes on two cores
    python benchmarks/evaluate_starter.py --quick                16 prompts and a roughly trained probe: a look
    python benchmarks/evaluate_starter.py --model snapshot.safetensors --output results.json --sheet sheet.png

The table has five columns of numbers. "rendered": the probe's ceiling, on freshly rendered clips of held-out
combinations. "encoded, decoded": the same clips through the autoencoder; the model cannot be better than this.
"generated": what the model made of the prompts. "chance": generated clips against shuffled prompts. A file that holds
only an autoencoder gets the first two. The probe is trained on first use, a few minutes, and kept in --cache.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from asked import WORDINGS, Asked, draw_asked
from contact_sheet import contact_sheet, save_sheet
from drift import drift_direction
from frechet import frechet
from generation import ClipSize, Sampling, generate, time_clip
from probes import HEADS, ProbeSettings, SkyProbe, get_probe, read_clips
from reconstruction import encode_decode
from scoring import Row, Words, as_json, balloon_absent, balloon_there, chance, markdown, says, share_right
from sora_dit.dit_core.checkpoint import Bundle, load_bundle
from sora_dit.dit_core.device import resolve_device
from sora_dit.dit_core.diffusion.samplers import SAMPLERS
from sora_dit.dit_core.diffusion.schedules import SCHEDULES
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.measures import TokenGrid, coherence, psnr, ssim
from sora_dit.dit_core.skies import render
from sora_dit.dit_core.skies.scene import OBJECTS
from torch import Tensor

STARTER = Path(__file__).resolve().parents[1] / "models" / "starter" / "sora-dit-starter.safetensors"
COMPUTE_LIMIT = 10.0  # seconds for one clip on two cores
LEAST_SIDE, LEAST_FRAMES = 96, 17


def default_cache() -> Path:
    """Where probes are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sora_dit" / "probes"


@dataclass
class Clips:
    """Clips of one kind [N, F, H, W, 3], the words asked of them, and what was seen in them."""

    clips: Tensor
    asked: list[Words]
    seen: list[Words] = field(default_factory=list)

    def look(self, probe: SkyProbe, fps: float) -> Clips:
        """Fill in `seen`; the drift is measured twice, "direction" by the network and "drift" from the pixels."""
        drifts = drift_direction(self.clips)
        self.seen = [words | {"drift": d} for words, d in zip(read_clips(probe, self.clips, fps), drifts, strict=True)]
        self.asked = [w | ({"drift": w["direction"]} if "direction" in w else {}) for w in self.asked]
        return self


def reference_clips(bundle: Bundle, asked: list[Asked], size: ClipSize) -> tuple[Clips, Clips]:
    """Rendered clips of the scenes, and the same through the autoencoder."""
    rendered = render([a.scene for a in asked], size.frames, size.height, size.width, size.fps).contiguous()
    coded = torch.cat([encode_decode(bundle.autoencoder, part) for part in rendered.split(8)])
    words = [a.words for a in asked]
    return Clips(rendered, words), Clips(coded, words)


def word_rows(rendered: Clips, coded: Clips, generated: Clips | None) -> list[Row]:
    """The rows on what prompts ask for. The drift is taken from whichever measure has the higher ceiling."""

    def share(kind: Clips | None, test) -> float | None:
        return None if kind is None else share_right(kind.asked, kind.seen, test)["share"]

    def row(label: str, test, factor: float = 0.0, least: float = 0.0) -> Row:
        values = [share(kind, test) for kind in (rendered, coded, generated)]
        by_chance = None if generated is None else chance(generated.asked, generated.seen, test)
        line = Row(label, *values, by_chance)
        if factor:
            line.required, bound = f"≥ {factor:g} of rendered", factor * values[0]
        elif least:
            line.required, bound = f"≥ {least:g}", least
        if (factor or least) and generated is not None and not math.isnan(values[2]):  # NaN: no prompt asked for it
            line.met = bool(values[2] >= bound)
        return line

    pixels = share(rendered, says("drift")) >= share(rendered, says("direction"))
    chosen, other = ("drift", "direction") if pixels else ("direction", "drift")
    how = {"drift": "by optical flow", "direction": "by the network"}
    return [
        row("time of day", says("time"), factor=0.95),
        row("cloud cover", says("cover"), factor=0.95),
        row("ground", says("ground"), factor=0.95),
        row(f"drift direction ({how[chosen]})", says(chosen), least=0.85),
        row("balloon asked for is there", balloon_there, least=0.80),
        row("no balloon asked for, none there", balloon_absent, least=0.80),
        row("balloon there and of the colour named", says("object_color")),
        row("object: none, balloon, birds, plane", says("object")),
        row("object's direction", says("object_direction")),
        row("place of sun or moon", says("light")),
        row("speed of the clouds", says("speed")),
        row("rain or none", says("rain")),
        row(f"drift direction ({how[other]})", says(other)),
    ]


def coherence_rows(grid: TokenGrid, rendered: Clips, coded: Clips, generated: Clips | None) -> list[Row]:
    """The rows on seams."""
    values = [None if kind is None else coherence(kind.clips, grid) for kind in (rendered, coded, generated)]
    rows = []
    for key, label, most in (
        ("rows", f"gradient at token edges : elsewhere, between rows ({grid.height} px)", 1.15),
        ("columns", f"gradient at token edges : elsewhere, between columns ({grid.width} px)", 1.15),
        ("time", "frame difference at token borders : median", 1.3),
    ):
        got = [None if v is None else v[key] for v in values]
        met = None if got[2] is None else bool(got[2] <= most)
        rows.append(Row(label, *got, required=f"≤ {most:g}", met=met))
    return rows


def codec_rows(rendered: Clips, coded: Clips) -> list[Row]:
    """The rows on the autoencoder."""
    pairs = list(zip(coded.clips.split(16), rendered.clips.split(16), strict=True))
    decibels = torch.cat([psnr(*pair) for pair in pairs]).mean().item()
    likeness = torch.cat([ssim(*pair) for pair in pairs])
    return [
        Row("autoencoder PSNR, dB", coded=decibels, required="≥ 33", met=decibels >= 33.0, digits=1),
        Row("autoencoder SSIM", coded=likeness.mean().item(), digits=3),
    ]


def frechet_row(probe: SkyProbe, fps: float, rendered: Clips, coded: Clips, generated: Clips | None) -> Row:
    """The row on how like rendered clips the whole set is; "rendered" is the floor."""
    got = frechet(probe, fps, rendered.clips, coded.clips, None if generated is None else generated.clips)
    label = f"Fréchet distance on the probe's features ({got.clips} clips each)"
    return Row(label, got.floor, got.coded, got.generated, digits=1)


def clip_rows(size: ClipSize, seconds: dict[str, float] | None) -> list[Row]:
    """The rows on size and time."""
    shown = f"{size.width}x{size.height}, {size.frames} frames"
    large = min(size.height, size.width) >= LEAST_SIDE and size.frames >= LEAST_FRAMES
    if seconds is None:
        return [Row("clip", rendered=shown)]
    label = f"model compute for one clip, s ({torch.get_num_threads()} threads)"
    fast = seconds["total"] <= COMPUTE_LIMIT
    return [
        Row("clip", generated=shown, required=f"≥ {LEAST_SIDE}x{LEAST_SIDE}, {LEAST_FRAMES} frames", met=large),
        Row(label, generated=seconds["total"], required=f"≤ {COMPUTE_LIMIT:g}", met=fast, digits=1),
    ]


def details(asked: list[Asked], generated: Clips | None, seed: int) -> list[dict]:
    """For each prompt its seed, what it asks for and what was seen."""
    if generated is None:
        return []
    return [
        {"prompt": a.prompt, "seed": seed + i, "asked": a.words, "seen": generated.seen[i]}
        for i, a in enumerate(asked[: len(generated.seen)])
    ]


def counts(generated: Clips | None) -> dict[str, dict]:
    """Shares with their counts and 95 % intervals, by attribute."""
    if generated is None:
        return {}
    tests = {name: says(name) for name in (*HEADS, "drift")}
    tests |= {"balloon_there": balloon_there, "balloon_absent": balloon_absent}
    shares = {name: share_right(generated.asked, generated.seen, test) for name, test in tests.items()}
    return {
        name: {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in share.items()}
        for name, share in shares.items()
    }


def evaluate(bundle: Bundle, args: argparse.Namespace, report=lambda line: None) -> tuple[list[Row], dict]:
    """Everything. Returns the rows of the table and a JSON-ready record."""
    started = time.monotonic()
    size = ClipSize.of(bundle, args.size, args.frames)
    until = args.guidance_until
    sampling = Sampling(args.steps, args.guidance, args.sampler, args.schedule, args.shift, guidance_until=until)
    asked = draw_asked(args.prompts, args.seed, wording=args.wording, flying=tuple(args.flying))
    settings = ProbeSettings(rendered=2000, coded=400, steps=600) if args.quick else ProbeSettings()
    probe = get_probe(settings, bundle.autoencoder, args.cache, report)
    report("rendering, encoding and decoding reference clips")
    reference = draw_asked(args.rendered, args.seed + 1, wording="full", flying=tuple(args.flying))
    rendered, coded = (kind.look(probe, size.fps) for kind in reference_clips(bundle, reference, size))
    generated, seconds = None, None
    if bundle.transformer is not None and bundle.text_encoder is not None:
        report(f"generating {len(asked)} clips of {size.width} x {size.height}, {size.frames} frames")
        prompts = [a.prompt for a in asked]
        clips = generate(bundle, prompts, args.seed, size, sampling, args.batch, report)
        generated = Clips(clips, [a.words for a in asked]).look(probe, size.fps)
        seconds = time_clip(bundle, prompts[0], size, sampling)
        if args.sheet:
            save_sheet(contact_sheet(clips[:16], prompts[:16]), args.sheet)
    grid = TokenGrid.of(bundle.autoencoder.config, bundle.transformer and bundle.transformer.config)
    rows = word_rows(rendered, coded, generated) + coherence_rows(grid, rendered, coded, generated)
    rows.append(frechet_row(probe, size.fps, rendered, coded, generated))
    rows += codec_rows(rendered, coded) + clip_rows(size, seconds)
    record = {
        "model": str(args.model),
        "sha256": bundle.header.sha256,
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpu": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "rows": as_json(rows),
        "shares": counts(generated),
        "clip_seconds": seconds,
        "size": asdict(size),
        "sampling": asdict(sampling),
        "probe": asdict(settings),
        "rendered_clips": len(reference),
        "prompts": details(asked, generated, args.seed),
        "provenance": bundle.header.provenance,
        "evaluation_seconds": round(time.monotonic() - started, 1),
    }
    return rows, record


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, default=STARTER, help="bundle to evaluate (default: the starter)")
    add("--prompts", type=int, help="how many prompts (default 64; 16 with --quick)")
    add("--rendered", type=int, help="rendered clips for ceilings and PSNR (default 256; 96 with --quick)")
    add("--wording", choices=WORDINGS, default="both", help="prompts name some attributes, all, or both in turn")
    add("--flying", type=float, nargs=len(OBJECTS), default=(), metavar=tuple(map(str.upper, OBJECTS)),
        help="shares of what the prompts have in the air, such as 0 0 1 1; as drawn, half of them balloons, otherwise")
    add("--quick", action="store_true", help="fewer prompts, and a probe trained in a minute")
    add("--seed", type=int, default=2024, help="of prompts and noise")
    add("--batch", type=int, default=4, help="clips denoised at once")
    add("--steps", type=int, default=Sampling.steps, help="denoising steps")
    add("--guidance", type=float, default=Sampling.guidance, help="guidance scale, 1 = none")
    add("--guidance-until", type=float, default=Sampling.guidance_until, help="level where it ends, 0 = never")
    add("--sampler", choices=tuple(SAMPLERS), default=Sampling.sampler)
    add("--schedule", choices=SCHEDULES, default=Sampling.schedule)
    add("--shift", type=float, default=0.0, help="shift of the schedule; 0 = the model's own")
    add("--size", type=int, default=0, help="height and width; 0 = what the model was trained on")
    add("--frames", type=int, default=0, help="frames; 0 = what the model was trained on")
    add("--device", default="cpu", help="cpu, cuda, auto, ...")
    add("--threads", type=int, default=0, help="CPU threads; 0 = torch's choice")
    add("--cache", type=Path, default=default_cache(), help="folder for trained probes (default: %(default)s)")
    add("--output", type=Path, help="write everything measured to this JSON file")
    add("--sheet", type=Path, help="write a contact sheet of the first 16 generated clips to this PNG file")
    args = parser.parse_args(argv)
    args.prompts = args.prompts or (16 if args.quick else 64)
    args.rendered = args.rendered or (96 if args.quick else 256)
    return args


def main(argv: list[str] | None = None) -> int:
    """Evaluate, print the table, write the files asked for. Returns 0, or 1 with a sentence on standard error."""
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        bundle = load_bundle(args.model, resolve_device(args.device))
        if bundle.autoencoder is None:
            raise SoraDiTError(f"{args.model} holds no autoencoder; expected a complete bundle, or one of those.")
        rows, record = evaluate(bundle, args, lambda line: print(line, file=sys.stderr, flush=True))
    except SoraDiTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(markdown(rows))
    if args.output:
        args.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
