"""The doctor's contact sheet: clips as the training would see them, one row a bucket."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import DataError
from .training_clips import TrainingClips, captions_of, clip_of

if TYPE_CHECKING:
    from PIL.Image import Image


_GAP, _LABEL, _LINE = 8, 150, 14  # pixels: between clips, width of a row's title, height of a line of text
_PAPER, _INK, _FAINT = (250, 250, 248), (20, 20, 20), (110, 110, 110)


def contact_sheet(clips: TrainingClips, clips_in_row: int, height: int) -> Image:
    """See `Report.contact_sheet`."""
    from PIL import Image

    groups = clips.by_bucket()
    if not groups:
        survey = getattr(clips, "survey", None)
        place = "The data set" if survey is None else survey.folder
        raise DataError(f"{place} gives no clips, so there is nothing to show; see the report's text.")
    rows = []
    for bucket, members in groups.items():
        count = min(clips_in_row, len(members))
        chosen = [members[k * len(members) // count] for k in range(count)]
        cells = [_cell(clips, index, height) for index in chosen]
        title = f"{bucket.width} x {bucket.height}\n{bucket.frames} frames\n" + _clips(len(members))
        rows.append(_row(title, cells, height))
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows) + _GAP), _PAPER)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _cell(clips: TrainingClips, index: int, height: int) -> Image:
    """First, middle and last frame of a clip side by side, its name and caption below."""
    from PIL import Image, ImageDraw

    video = clip_of(clips, index)
    frames = [_picture(video[:, k], height) for k in sorted({0, video.shape[1] // 2, video.shape[1] - 1})]
    width = sum(frame.width for frame in frames) + len(frames) - 1
    cell = Image.new("RGB", (width, height + 2 * _LINE), _PAPER)
    left = 0
    for frame in frames:
        cell.paste(frame, (left, 0))
        left += frame.width + 1
    draw = ImageDraw.Draw(cell)
    _write(draw, clips.name(index), height, width, _INK)
    _write(draw, captions_of(clips, index)[0] or "(no caption)", height + _LINE, width, _FAINT)
    return cell


def _picture(frame: Tensor, height: int) -> Image:
    """`[3, H, W]` in -1..1, at the sheet's height; enlarged with its pixels seen, since those are what is learned."""
    from PIL import Image

    array = ((frame + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array)
    way = Image.Resampling.NEAREST if picture.height < height else Image.Resampling.LANCZOS
    return picture.resize((max(1, round(picture.width * height / picture.height)), height), way)


def _write(draw, text: str, top: int, width: int, ink: tuple[int, int, int]) -> None:
    """One line, shortened to fit."""
    text = " ".join(text.split())
    try:
        letters = range(1, min(len(text), width) + 1)  # hardly one is narrower than a pixel
        fits = bisect_right(letters, width, key=lambda count: draw.textlength(text[:count]))
        if fits < len(text):
            text = text[: max(0, fits - 3)].rstrip() + "..."
        draw.text((0, top + 1), text, fill=ink)
    except UnicodeEncodeError:  # Pillow without FreeType has letters of Latin-1 only
        _write(draw, text.encode("ascii", "replace").decode(), top, width, ink)


def _row(title: str, cells: list[Image], height: int) -> Image:
    from PIL import Image, ImageDraw

    width = _LABEL + sum(cell.width + _GAP for cell in cells)
    row = Image.new("RGB", (width, height + 2 * _LINE + _GAP), _PAPER)
    ImageDraw.Draw(row).multiline_text((_GAP, _GAP), title, fill=_INK, spacing=4)
    left = _LABEL
    for cell in cells:
        row.paste(cell, (left, _GAP))
        left += cell.width + _GAP
    return row
