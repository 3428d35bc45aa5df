"""Help pictures of the nodes between pictures and files. See help_pictures.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from drawing import COLOURS, INK, LINE, SOFT, Sheet
from help_studio import WIDE, Studio, scene_like
from sora_dit.dit_core.media import QUALITIES, read_video, write_video
from sora_dit.dit_core.skies import render


def encode(studio: Studio) -> Sheet:
    """What trim leaves out and what pad adds, for a clip of 10 frames of 100 x 60."""
    scene = scene_like(time="day", cover="scattered", ground="hills", object="balloon")
    frame, sheet = render([scene], 1, 60, 100)[0, 0], Sheet(WIDE, 262)
    cases = (
        ("images", "10 frames of 100 x 60", frame, 10),
        ("trim", "9 frames of 96 x 56", frame, 9),
        ("pad", "13 frames of 104 x 64", torch.cat([frame, frame[-1:].expand(4, -1, -1)]), 13),
    )
    for column, (name, words, picture, count) in enumerate(cases):
        x, y = 14 + column * 250, 56
        sheet.text((x, 8), name, 16)
        sheet.text((x, 30), words, 13, SOFT)
        if name == "pad":
            picture = torch.cat([picture, picture[:, -1:].expand(-1, 4, -1)], 1)
        width, height = sheet.frame((x, y), picture, 2)
        if name == "trim":
            sheet.box(x, y, x + width - 1, y + height - 1, edge=(150, 150, 150))
            _veil(sheet, (x, y, x + width, y + height), (x + 4, y + 4, x + 196, y + 116))
            sheet.box(x + 4, y + 4, x + 195, y + 115, edge=COLOURS[1], width=2)
        if name == "pad":
            sheet.box(x, y, x + 199, y + 119, edge=COLOURS[1], width=1)
        for k in range(max(count, 10)):
            left, kept = x + k * 17, k < count
            given = k < 10
            fill = COLOURS[0] if given and kept else COLOURS[1] if not given else None
            sheet.box(left, 208, left + 13, 228, fill=fill, edge=COLOURS[0] if given else COLOURS[1])
    sheet.text((14, 236), "frames (one box each; orange: the last one repeated, empty: left out)", 13, SOFT)
    return sheet


def _veil(sheet: Sheet, outer: tuple[int, ...], inner: tuple[int, ...]) -> None:
    """Lighten what lies between two boxes."""
    kept = sheet.image.crop(inner)
    area = sheet.image.crop(outer)
    sheet.image.paste(area.point(lambda value: 128 + value // 2), outer[:2])
    sheet.image.paste(kept, inner[:2])


def assemble_video(studio: Studio) -> Sheet:
    """The same 17 frames on the clock at 8 and at 16 frames per second, and a sound that is cut at the end."""
    sheet, second = Sheet(WIDE, 268), 320
    for row, fps in enumerate((8, 16)):
        top, seconds = 12 + row * 92, 17 / fps
        sheet.text((14, top), f"{fps} frames per second: 17 frames are {seconds:.2f} seconds", 14)
        for k in range(17):
            x, step = 14 + k * second / fps, second / fps
            piece = studio.clip[k, :56, : int(step) - 2] if step < 64 else studio.clip[k, :56]
            sheet.frame((int(x), top + 22), piece, 1)
    y = 236
    sheet.text((14, 194), "sound of 2.25 seconds, at 8 frames per second: what is longer is left out", 14)
    end = 14 + second * 17 / 8
    for k in range(0, int(2.25 * second), 3):
        t = torch.tensor(k / second)
        high = float(18 * (0.35 + 0.65 * torch.sin(2.3 * t) ** 2) * torch.sin(61 * t))
        colour = COLOURS[2] if 14 + k < end else LINE
        sheet.draw.line((14 + k, y - high, 14 + k, y + high), fill=colour, width=2)
    sheet.draw.line((end, 212, end, 260), fill=INK, width=2)
    return sheet


def save_video(studio: Studio) -> Sheet:
    """One clip in every quality: a part of a frame, enlarged, and how large the file is."""
    scene = scene_like(time="night", cover="scattered", ground="city", light="right")
    clip, sheet = render([scene], 17, 128, 128)[0], Sheet(WIDE, 246)
    with tempfile.TemporaryDirectory() as folder:
        for column, quality in enumerate(QUALITIES):
            path = Path(folder) / f"{quality}.mp4"
            write_video(path, [clip], 8, quality=quality)
            frame = torch.as_tensor(read_video(path).frames[12])
            x = 12 + column * 186
            sheet.text((x, 8), f"{quality}: {path.stat().st_size / 1000:.0f} kB", 15)
            sheet.frame((x, 34), frame[66:126, 60:120], 3)
    how = "mp4, h264, 17 frames of 128 x 128 without metadata; a part of frame 13, three times enlarged"
    sheet.text((12, 222), how, 13, SOFT)
    return sheet


def load_video(studio: Studio) -> Sheet:
    """Which frames of a file are read."""
    sheet, clip = Sheet(WIDE, 208), render([scene_like(time="dawn", object="plane", ground="city")], 20, 34, 34, 24)[0]
    cases = (
        ("all 0: every frame, at the file's 24 frames per second", range(20)),
        ("first frame 4, every 3rd, at most 5: five frames, at 8 frames per second", range(4, 19, 3)),
    )
    for row, (words, chosen) in enumerate(cases):
        top = 10 + row * 108
        sheet.text((10, top), words, 14)
        for k in range(20):
            x = 10 + k * 37
            frame = clip[k] if k in chosen else clip[k] * 0.25 + 0.72
            sheet.frame((x, top + 26), frame, 1)
            if k in chosen:
                sheet.box(x - 1, top + 25, x + 34, top + 60, edge=COLOURS[1], width=2)
            sheet.text((x + 17, top + 64), str(k), 13, INK if k in chosen else SOFT, "ma")
    return sheet


DRAWINGS = {
    "Encode": encode,
    "AssembleVideo": assemble_video,
    "SaveVideo": save_video,
    "LoadVideo": load_video,
}
