"""Samples of the same prompts while a training goes on: kept as files, shown beside each other."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..checkpoint.atomic import reason, whole_file
from ..errors import MediaError
from .canvas import INK, PAPER, SOFT, Canvas

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLES = "samples"
_GAP, _TITLE, _HEAD = 8, 64, 22  # pixels: between clips, width of a row's title, height of the prompts above
_FILE = re.compile(r"^(\d{8})_(\d+)\.png$")
_SHOWN = 10  # rows; more are thinned out, first and last stay
_FRAMES, _HEIGHT = 4, 96  # of a clip in a strip: how many, and how high in pixels


@dataclass(frozen=True)
class Sample:
    """A clip that a model made at some step of its training.

    Attributes:
        number: of the prompt among those that are sampled.
        frames: `[F, H, W, 3]` uint8.
    """

    step: int
    number: int
    prompt: str
    frames: np.ndarray


def save_sample(folder: str | Path, sample: Sample) -> Path:
    """Keep a sample below the folder of its training: a PNG with all frames side by side. Raises `MediaError`."""
    from PIL import Image, PngImagePlugin

    path = Path(folder) / SAMPLES / f"{sample.step:08}_{sample.number}.png"
    about = PngImagePlugin.PngInfo()
    about.add_itxt("sora_dit_sample", json.dumps({"prompt": sample.prompt, "frames": len(sample.frames)}))
    count, height, width, _ = sample.frames.shape
    row = np.ascontiguousarray(sample.frames.transpose(1, 0, 2, 3)).reshape(height, count * width, 3)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            Image.fromarray(row).save(temporary, "PNG", pnginfo=about)
    except OSError as error:
        raise MediaError(f"{path} cannot be written: {reason(error)}.") from error
    return path


def read_samples(folder: str | Path) -> list[Sample]:
    """The samples that a training kept, in the order of steps and prompts; a file that cannot be read is left out."""
    place = Path(folder) / SAMPLES
    found = []
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if match := _FILE.match(path.name):
            sample = _read(path, int(match[1]), int(match[2]))
            found += [sample] if sample is not None else []
    return found


def forget_samples(folder: str | Path, step: int) -> None:
    """Remove the samples that a training kept beyond `step`: it goes on from there, and will not have been that far."""
    place = Path(folder) / SAMPLES
    for path in list(place.iterdir()) if place.is_dir() else ():
        if (match := _FILE.match(path.name)) and int(match[1]) > step:
            with suppress(OSError):
                path.unlink()


def _read(path: Path, step: int, number: int) -> Sample | None:
    from PIL import Image

    try:  # a very long clip makes a larger picture than Pillow opens unasked
        with Image.open(path) as picture:
            about = json.loads(picture.text["sora_dit_sample"])
            row = np.asarray(picture.convert("RGB"))
            count = int(about["frames"])
            frames = row.reshape(row.shape[0], count, -1, 3).transpose(1, 0, 2, 3)
            return Sample(step, number, str(about["prompt"]), frames)
    except (OSError, KeyError, ValueError, AttributeError, SyntaxError, Image.DecompressionBombError):
        return None


def reduced(sample: Sample) -> Sample:
    """What a strip shows of it, which is all that has to stay in memory while a training goes on."""
    from PIL import Image

    chosen = [np.ascontiguousarray(sample.frames[index]) for index in _chosen(len(sample.frames), _FRAMES)]
    height, width = chosen[0].shape[:2]
    if height > _HEIGHT:
        size = (max(1, round(width * _HEIGHT / height)), _HEIGHT)
        chosen = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in chosen]
    return replace(sample, frames=np.stack(chosen))


def draw_strip(
    samples: Sequence[Sample], frames: int = _FRAMES, height: int = _HEIGHT, rows: int = _SHOWN, titles: bool = True
) -> Image:
    """Lay samples out: a row for each step, from the first to the newest; a clip for each prompt.

    Where prompts were changed on the way, the new ones stand above the first row that was made with them.

    Args:
        frames: shown of each clip, spread over it.
        height: of a frame in pixels; smaller frames are enlarged.
        rows: at most so many steps, spread over all; 1 = the newest.
        titles: steps and prompts in words.
    """
    steps = _spread(sorted({sample.step for sample in samples}), rows)
    numbers = sorted({sample.number for sample in samples})
    at = {(sample.step, sample.number): sample for sample in samples}
    if not steps:
        return placard("no samples yet", height)
    cells = {key: _cell(at[key].frames, frames, height) for key in at if key[0] in steps}
    widths = [max((cells[key].width for key in cells if key[1] == number), default=height) for number in numbers]
    left = _TITLE if titles else _GAP
    heads = _prompts_told([{n: at[step, n].prompt for n in numbers if (step, n) in at} for step in steps])
    tops = _tops([bool(head) and titles for head in heads], height)
    canvas = Canvas(left + sum(widths) + _GAP * len(widths), tops[-1] + height + _GAP, PAPER)
    places = {number: left + sum(widths[:k]) + _GAP * k for k, number in enumerate(numbers)}
    if titles:
        for step, top, head in zip(steps, tops, heads, strict=True):
            for number, prompt in head.items():
                words = _shortened(canvas, prompt or "(no words)", widths[numbers.index(number)])
                canvas.text((places[number], top - _HEAD + 4), words, 11, INK)
            canvas.text((_GAP, top + height / 2), "step", 10, SOFT, "ls")
            canvas.text((_GAP, top + height / 2 + 14), str(step), 12, INK, "ls")
    picture = canvas.finish()  # frames are put in afterwards: they are not to be blurred
    for (step, number), cell in cells.items():
        picture.paste(cell, (places[number], tops[steps.index(step)]))
    return picture


def _prompts_told(rows: list[dict[int, str]]) -> list[dict[int, str]]:
    """Of each row (number -> prompt) the prompts that do not stand above it already."""
    known: dict[int, str] = {}
    told = []
    for row in rows:
        told.append({number: prompt for number, prompt in row.items() if known.get(number) != prompt})
        known |= row
    return told


def _tops(headed: list[bool], height: int) -> list[int]:
    """Where each row begins, with room for prompts above those that are `headed`."""
    tops, at = [], _GAP
    for above, head in enumerate(headed):
        at += (_HEAD if above else _HEAD - _GAP) if head else 0
        tops.append(at)
        at += height + _GAP
    return tops


def placard(words: str, height: int = 96) -> Image:
    """A picture of a few words, where there is nothing to show."""
    canvas = Canvas(360, height)
    canvas.text((180, height / 2), words, 13, SOFT, "mm")
    return canvas.finish()


def _spread(steps: list[int], most: int) -> list[int]:
    """At most `most` of the steps, evenly spread, the last one always, the first one if there is room."""
    if len(steps) <= most or most < 1:
        return steps
    if most == 1:
        return steps[-1:]
    return [steps[round(k * (len(steps) - 1) / (most - 1))] for k in range(most)]


def _chosen(length: int, frames: int) -> list[int]:
    """At most so many frames of a clip, spread over it."""
    count = min(frames, length)
    return [round(k * (length - 1) / max(count - 1, 1)) for k in range(count)]


def _cell(video: np.ndarray, frames: int, height: int) -> Image:
    """Some frames of a clip beside each other."""
    from PIL import Image

    chosen = _chosen(len(video), frames)
    count = len(chosen)
    width = max(1, round(video.shape[2] * height / video.shape[1]))
    how = Image.Resampling.NEAREST if height % video.shape[1] == 0 else Image.Resampling.BICUBIC
    cell = Image.new("RGB", (count * width + count - 1, height), PAPER)
    for place, index in enumerate(chosen):
        picture = Image.fromarray(np.ascontiguousarray(video[index]))
        cell.paste(picture.resize((width, height), how), (place * (width + 1), 0))
    return cell


def _shortened(canvas: Canvas, text: str, width: float) -> str:
    text = " ".join(text.split())
    if canvas.text_width(text, 11) <= width:
        return text
    while text and canvas.text_width(text + "...", 11) > width:
        text = text[:-1]
    return text.rstrip() + "..."
