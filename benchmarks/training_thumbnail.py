"""The thumbnail of a training: its loss, and below it what the model makes of the prompts now. See thumbnails.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drawing import COLOURS, INK, LINE, PAPER, SOFT, Sheet
from PIL import Image
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.media import write_video
from sora_dit.dit_core.skies import caption, render, sample_scene
from sora_dit.dit_core.watch import Sample, TrainingLog, read_log, read_samples
from sora_dit.dit_core.watch.axes import label, scale_for
from sora_dit.dit_core.watch.panel import running_mean
from sora_dit.headless import run_workflow

_SIZE = {"Size.width": 64, "Size.height": 64, "Size.frames": 9, "Timesteps.steps": 8}
_CLIPS = {"Clips.size": 64, "Clips.frames": 9, "Clips.shortest": 9}
_DAY = "scattered clouds over hills by day\na city at dawn, overcast"
_BALLOON = "a red hot-air balloon over the sea at sunset\na blue hot-air balloon over hills by day"
_NEW = {"New model.width": 128, "New model.depth": 3, "New model.heads": 4}
SMALL = {
    "train_from_folder": {**_CLIPS, **_NEW, **_SIZE, "Train.batch": 8, "Train.sample_prompts": _DAY},
    "train_lora": {**_CLIPS, **_SIZE, "Train LoRA.batch": 4, "Train LoRA.sample_prompts": _BALLOON},
    "train_starter": {
        **_NEW, **_SIZE, "Train.batch": 8, "Skies.count": 200, "Skies.width": 64, "Skies.height": 64, "Skies.frames": 9,
    },
}  # fmt: skip
"""Workflow -> settings with which it shows what it is within minutes of one core."""


def trained(workflow: Path, steps: int, settings: dict[str, str], output: Path) -> Path:
    """Run a training workflow, small, on rendered clips; returns the folder of its run."""
    node = "Train LoRA" if workflow.stem == "train_lora" else "Train"
    short = {f"{node}.steps": steps, f"{node}.sample_every": steps}
    folders = {name: output / name for name in ("input", "models")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    _clips(folders["input"] / "my_clips")
    run_workflow(workflow, set={**SMALL[workflow.stem], **short, **settings}, output=output, **folders)
    found = [path.parent for path in output.glob("sora_dit_training/*/log.jsonl") if read_samples(path.parent)]
    if not found:
        raise SoraDiTError(f"{workflow.name} made no samples, so there is nothing to show.")
    return max(found, key=lambda folder: (folder / "log.jsonl").stat().st_mtime)


def _clips(folder: Path, count: int = 40) -> None:
    folder.mkdir()
    scenes = [sample_scene(5, index) for index in range(count)]
    for number, (scene, clip) in enumerate(zip(scenes, render(scenes, 9, 64, 64, 12.0), strict=True)):
        write_video(folder / f"sky{number}.mp4", [clip], 12, quality="best")
        (folder / f"sky{number}.txt").write_text(caption(scene, 0), encoding="utf-8")


def draw_training(run: Path, side: int) -> Image.Image:
    """A square: the curves of the loss above, a row of frames below for each of the first two prompts."""
    log, samples = read_log(run), read_samples(run)
    if not samples or not log.series("loss")[1]:
        raise SoraDiTError(f"{run} has no curve or no samples yet; expected the folder of a training that made some.")
    newest = [one for one in samples if one.step == max(sample.step for sample in samples)][:2]
    sheet, cell = Sheet(side, side, PAPER), (side - 3 * 4) // 4
    top = side - len(newest) * (cell + 4) + 4
    _curves(sheet, log, (64, 44, side - 14, top - 40))
    for row, sample in enumerate(newest):
        _row(sheet, sample, top + row * (cell + 4), cell)
    return sheet.image


def _curves(sheet: Sheet, log: TrainingLog, area: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = area
    trained_on, held_out = log.series("loss"), log.series("held_out")
    smooth = running_mean(trained_on[1], 0.1)
    rows, last = scale_for([*smooth, *held_out[1]]), max(log.step, 1)

    def points(steps: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
        pairs = zip(steps, values, strict=True)
        return [(left + s / last * (right - left), bottom - rows.at(v) * (bottom - top)) for s, v in pairs]

    for value in rows.ticks(4):
        y = bottom - rows.at(value) * (bottom - top)
        sheet.draw.line((left, y, right, y), fill=LINE, width=2)
        sheet.text((left - 8, y), label(value), 20, SOFT, "rm")
    sheet.draw.line((left, bottom, right, bottom), fill=SOFT, width=3)
    sheet.text((left, bottom + 8), "0", 20, SOFT, "ma")
    sheet.text((right, bottom + 8), f"step {last}", 20, SOFT, "ra")
    sheet.text((10, 8), "loss", 24, INK)
    x = right
    for (name, colour), line in zip(
        (("held out", COLOURS[1]), ("trained on", COLOURS[0])),
        (points(*held_out), points(trained_on[0], smooth)),
        strict=True,
    ):
        if not line:
            continue
        if len(line) > 1:
            sheet.draw.line(line, fill=colour, width=5, joint="curve")
        for x0, y0 in line if len(line) < 12 else (line[0], line[-1]):
            sheet.draw.ellipse((x0 - 5, y0 - 5, x0 + 5, y0 + 5), fill=colour)
        sheet.text((x, 10), name, 22, colour, "ra")
        x -= sheet.draw.textlength(name, font_size=22) + 24


def _row(sheet: Sheet, sample: Sample, top: int, cell: int) -> None:
    for place in range(4):
        picture = Image.fromarray(sample.frames[round(place * (len(sample.frames) - 1) / 3)])
        side = min(picture.size)
        at = ((picture.width - side) // 2, (picture.height - side) // 2)
        picture = picture.crop((*at, at[0] + side, at[1] + side)).resize((cell, cell), Image.Resampling.BICUBIC)
        sheet.image.paste(picture, (place * (cell + 4), top))
