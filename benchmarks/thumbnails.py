"""The pictures of the template browser, made by running the workflows: `workflows/NAME.jpg`.

    python benchmarks/thumbnails.py                                  all but the trainings
    python benchmarks/thumbnails.py --only text_to_video --set "Prompt.text=a city at night"
    python benchmarks/thumbnails.py --only text_to_video --from CLIP.mp4      from a file that was made before
    python benchmarks/thumbnails.py --only train_from_folder train_lora train_starter --steps 400
    python benchmarks/thumbnails.py --only train_starter --from RUN           from the folder of a training's run

Each shows four frames of what the workflow saves: first, two from the middle, last. Where it changes a clip, two frames
of that clip stand on the left, what became of them on the right. Trainings are run small, on rendered skies; theirs
show the loss, and frames of the newest samples (training_thumbnail.py).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from pathlib import Path

import torch
from drawing import PAPER, Sheet, to_image
from PIL import Image
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.media import read_video
from sora_dit.headless import run_workflow
from training_thumbnail import SMALL, draw_training, trained

FOLDER = Path(__file__).resolve().parents[1] / "workflows"
SIDE, GAP, MOST = 480, 4, 55_000
PICTURES = (".png", ".jpg", ".jpeg")


def thumbnail(path: Path, before: Path | None = None) -> bytes:
    """Four frames of a video (or a picture as it is) as a square JPEG of at most MOST bytes.

    before: the video it was made of; then two frames of each, side by side.
    """
    sheet, cell = Sheet(SIDE, SIDE, PAPER), (SIDE - GAP) // 2
    if path.suffix.lower() in PICTURES:
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
            picture.thumbnail((SIDE, SIDE))
            sheet.image.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    else:
        frames = _spread(path, 4 if before is None else 2)
        if before is not None:
            frames = [frame for pair in zip(_spread(before, 2), frames, strict=True) for frame in pair]
        for place, frame in enumerate(frames):
            side = min(frame.size)
            left, top = (frame.width - side) // 2, (frame.height - side) // 2
            square = frame.crop((left, top, left + side, top + side)).resize((cell, cell), Image.Resampling.BICUBIC)
            sheet.image.paste(square, (place % 2 * (cell + GAP), place // 2 * (cell + GAP)))
        if before is not None:
            for place, words in enumerate(("before", "after")):
                left = place * (cell + GAP)
                sheet.box(left, SIDE - 34, left + 92, SIDE, fill=PAPER, edge=PAPER)
                sheet.text((left + 46, SIDE - 17), words, 22, anchor="mm")
    return as_jpeg(sheet.image)


def as_jpeg(picture: Image.Image) -> bytes:
    """A JPEG of at most MOST bytes, as good as fits."""
    for quality in (90, 80, 70, 60, 45, 30):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() <= MOST:
            break
    return data.getvalue()


def _spread(path: Path, count: int) -> list[Image.Image]:
    """So many frames of a video, from the first to the last."""
    frames = torch.as_tensor(read_video(path).frames)
    return [to_image(frames[i]) for i in torch.linspace(0, len(frames) - 1, count).round().long().tolist()]


def loaded(name: str, output: Path) -> Path | None:
    """The clip that this workflow loads from the output folder, if it does."""
    for node in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["nodes"]:
        values = node.get("widgets_values") or [""]
        if node["type"] == "SoraDiTLoadVideo" and str(values[0]).endswith(" [output]"):
            return output / values[0].removesuffix(" [output]")
    return None


def in_order(names: list[str]) -> list[str]:
    """Those first that need nothing from the output folder; the others use what these save there."""
    return sorted(names, key=lambda name: ("[output]" in (FOLDER / f"{name}.json").read_text(encoding="utf-8"), name))


def fitting(settings: list[str], name: str) -> dict[str, str]:
    """The settings whose node this workflow has, so that one --set can be meant for one of several workflows."""
    nodes = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["nodes"]
    known = {node.get("title") for node in nodes} | {str(node["id"]) for node in nodes}
    pairs = dict(one.split("=", 1) for one in settings)
    return {key: value for key, value in pairs.items() if key.rsplit(".", 1)[0] in known}


def main(argv: list[str] | None = None) -> int:
    """Write the files asked for. Returns 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="workflows (default: all)")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="as in sora-dit run")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="file or run to show instead")
    parser.add_argument("--steps", type=int, default=400, help="of each training (default: 400)")
    options = parser.parse_args(argv)
    everything = in_order([path.stem for path in FOLDER.glob("*.json")])
    names = options.only or [name for name in everything if name not in SMALL]  # trainings take minutes
    if options.source and len(names) != 1:
        parser.error("--from shows one file, so name one workflow with --only")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in [options.only[0]] if options.source else everything:
                if name in SMALL and name in names:
                    _write(name, _of_training(name, options, Path(folder) / name))
                    continue
                if name not in names and (not name.startswith("text_to_video") or set(names) <= set(SMALL)):
                    continue
                settings = fitting(options.set, name)
                saved = options.source or _last(run_workflow(FOLDER / f"{name}.json", set=settings, output=folder))
                if name in names:
                    before = None if options.source else loaded(name, Path(folder))
                    _write(name, thumbnail(saved, before))
    except SoraDiTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _of_training(name: str, options: argparse.Namespace, folder: Path) -> bytes:
    run = options.source
    if run is None:
        folder.mkdir()
        run = trained(FOLDER / f"{name}.json", options.steps, fitting(options.set, name), folder)
    return as_jpeg(draw_training(run, SIDE))


def _write(name: str, data: bytes) -> None:
    (FOLDER / f"{name}.jpg").write_bytes(data)
    print(f"{name:24} {len(data) / 1000:5.1f} kB", flush=True)


def _last(result) -> Path:
    shown = [path for path in result.outputs if path.suffix.lower() in (".mp4", ".webm", ".mkv", ".mov", *PICTURES)]
    if not shown:
        raise SoraDiTError("The workflow saves nothing that can be shown; give a file with --from.")
    return shown[-1]


if __name__ == "__main__":
    sys.exit(main())
