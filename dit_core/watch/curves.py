"""The curves of a training as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.atomic import reason, whole_file
from ..errors import MediaError
from .canvas import BLUE, GREEN, INK, ORANGE, PAPER, PURPLE, RED, SOFT, Canvas, Colour
from .log import TrainingLog
from .panel import Curve, Panel, draw_panel
from .strip import Sample, draw_strip
from .words import summary

if TYPE_CHECKING:
    from PIL.Image import Image

_GAP, _HEAD = 12, 54
# From little noise to much: cold to warm, all of them readable on white.
_LEVELS: tuple[Colour, ...] = (
    (46, 64, 160), (38, 110, 178), (28, 140, 160), (36, 146, 92), (130, 150, 30), (206, 142, 20), (217, 98, 30),
    (190, 42, 56),
)  # fmt: skip


def draw_curves(log: TrainingLog, width: int = 960, running: bool = False) -> Image:
    """Draw the loss (trained on and held out), the loss by noise level, the gradient norm, the learning rate and the
    speed over the steps.

    Axes are logarithmic where that shows more. Autoencoder trainings show their PSNR instead of noise levels.

    Args:
        width: of the picture in pixels; it is about as high. At least 480.
        running: say how long the training will still take.
    """
    width = max(width, 480)
    tall, low = round(width * 0.29), round(width * 0.2)
    canvas = Canvas(width, _HEAD + 2 * (tall + _GAP) + low + _GAP)
    canvas.text((_GAP + 4, 10), log.name, 17, INK)
    canvas.text((_GAP + 4, 33), summary(log, running), 12, SOFT)
    last = max(log.step, 1)
    top = _HEAD
    for panel in (_loss(log), _second(log)):
        draw_panel(canvas, (_GAP, top, width - _GAP, top + tall), panel, last)
        top += tall + _GAP
    panels = _small(log)
    each = (width - _GAP) / len(panels)
    for number, panel in enumerate(panels):
        left = round(_GAP + number * each)
        draw_panel(canvas, (left, top, round(left + each) - _GAP, top + low), panel, last)
    _mark_divergence(canvas, log)
    return canvas.finish()


def draw_glance(log: TrainingLog, samples: Sequence[Sample] = (), width: int = 512) -> Image:
    """A small picture for beside the work: the loss, and the newest samples (or what else changes) below it."""
    from PIL import Image

    high = round(width * 0.4)
    canvas = Canvas(width, 2 * (high + 6) + 24 if not samples else high + 30)
    canvas.text((8, 5), summary(log, True), 11, INK)
    panels = [_loss(log)] if samples else [_loss(log), _second(log)]
    for number, panel in enumerate(panels):
        top = 24 + number * (high + 6)
        draw_panel(canvas, (4, top, width - 4, top + high), panel, max(log.step, 1))
    picture = canvas.finish()
    if not samples:
        return picture
    count = len({sample.number for sample in samples})
    strip = draw_strip(samples, frames=max(1, 4 // count), height=96, rows=1, titles=False)
    strip.thumbnail((width, 4 * width))
    both = Image.new("RGB", (width, picture.height + strip.height), PAPER)
    both.paste(picture, (0, 0))
    both.paste(strip, ((width - strip.width) // 2, picture.height))
    return both


def save_picture(picture: Image, path: str | Path) -> Path:
    """Write a picture, whole or not at all; the ending of `path` says in which format. Raises `MediaError`."""
    from PIL import Image

    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise MediaError(f'{path} cannot be written: its name ends in "{path.suffix}"; expected .png, .jpg or .webp.')
    try:
        with whole_file(path) as temporary:
            picture.save(temporary, kind)
    except OSError as error:
        raise MediaError(f"{path} cannot be written: {reason(error)}.") from error
    return path


def _loss(log: TrainingLog) -> Panel:
    held = log.series("held_out")
    return Panel(
        "Loss",
        (
            Curve("trained on", *log.series("loss"), BLUE, smooth=True),
            Curve("held out", *held, ORANGE, dots=True, width=2.2),
        ),
    )


def _second(log: TrainingLog) -> Panel:
    """Loss by noise level, because the mean hides everything; of an autoencoder its PSNR."""
    levels = log.levels()
    if not levels and log.series("psnr")[1]:
        curves = (
            Curve("trained on", *log.series("psnr"), GREEN, smooth=True),
            Curve("held out", *log.series("held_out_psnr"), ORANGE, dots=True, width=2.2),
        )
        return Panel("PSNR of the reconstruction", curves, False, None, "dB")
    count, held = max(len(levels), 1), log.levels("held_out_level_loss")
    colours = [_LEVELS[k * 7 // max(count - 1, 1)] for k in range(count)]
    trained_on = [
        Curve(f"{k / count:.2g}-{(k + 1) / count:.2g}", *levels[k], colours[k], True) for k in range(len(levels))
    ]
    held_out = [
        Curve("", *series, colour, dots=True, width=1.0) for series, colour in zip(held, colours, strict=False)
    ]
    title = "Loss by noise level" + (" (dots: held out)" if any(curve.values for curve in held_out) else "")
    return Panel(title, (*trained_on, *held_out))


def _small(log: TrainingLog) -> list[Panel]:
    return [
        Panel("Gradient norm", (Curve("", *log.series("gradient_norm"), PURPLE, smooth=True),)),
        Panel("Learning rate (1 = full)", (Curve("", *log.series("rate"), GREEN),), False, 0.0),
        Panel("Samples per second", (Curve("", *log.samples_per_second(), BLUE, smooth=True),), False, 0.0),
    ]


def _mark_divergence(canvas: Canvas, log: TrainingLog) -> None:
    found = [event for event in log.events if event.get("event") == "diverged"]
    if found:
        words = f"diverged at step {found[-1].get('step')}"
        canvas.text((canvas.width - _GAP - 4, 12), words, 13, RED, "ra")
