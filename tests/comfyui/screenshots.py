"""Pictures of the templates in the editor, for the documentation; every one is run first.

    COMFYUI_PATH=... COMFY_PYTHON=... CHROMIUM=... python tests/comfyui/screenshots.py [--to docs/editor] [NAME ...]

Starts a ComfyUI of its own with the starter and a folder of rendered clips. Training templates are made small.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

HERE = Path(__file__).resolve().parent
WORKFLOWS = HERE.parents[1] / "workflows"
NAMES = (
    "text_to_video", "preview", "encode_decode", "video_to_video", "train_from_folder", "train_lora", "train_starter",
)  # fmt: skip
LARGEST = 120_000  # bytes
# A training that shows what it is within five minutes of a core: node type -> its inputs
SMALL = {
    "SoraDiTClipDataset": {"size": 64, "frames": 17, "shortest": 9},
    "SoraDiTNewModel": {"width": 128, "depth": 3, "heads": 2},
    "SoraDiTTrainModel": {"steps": 800, "batch": 8, "sample_every": 400, "sample_prompts": "clouds over the sea"},
    "SoraDiTTrainLora": {"steps": 60, "batch": 2, "sample_every": 30},
    "SoraDiTSkyDataset": {"count": 200, "width": 64, "height": 64, "frames": 17},
    "SoraDiTEmptyLatent": {"width": 64, "height": 64, "frames": 17},
}


def module(name: str) -> ModuleType:
    """A file of this folder as a module: it is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def shot(ed: Any, path: Path) -> None:
    """Save what is open as WebP, as well as it fits."""
    picture = path.with_suffix(".png")
    ed.picture(picture)
    for quality in range(88, 20, -8):
        Image.open(picture).save(path, quality=quality, method=6)
        if path.stat().st_size < LARGEST:
            break
    picture.unlink()


def take(ed: Any, name: str, folder: Path) -> None:
    """Open, run and picture the template `name`; "preview" is text_to_video on its way."""
    template = name if name != "preview" else "text_to_video"
    ed.begin_anew()
    ed.load(json.loads((WORKFLOWS / f"{template}.json").read_text()), template)
    ed.alone()
    if template.startswith("train"):
        ed.set_of(SMALL)
    if name == "preview":
        ed.set(steps=60)  # long enough to be caught on its way
        ed.queue()
        ed.page.wait_for_function(
            "() => app.graph._nodes.some(n => n.type == 'SoraDiTDenoise' && n.imgs?.length && n.progress > .4)",
            timeout=120_000,
        )
        shot(ed, folder / f"{name}.webp")
        return ed.cancel()
    entry = ed.run(900)
    if entry["status"]["status_str"] != "success":
        sys.exit(f"{name}: {entry['status']} {entry.get('errors')}")
    ed.page.wait_for_timeout(2500)
    shot(ed, folder / f"{name}.webp")


def main() -> None:
    """All pictures, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--to", type=Path, default=HERE.parents[1] / "docs" / "editor")
    given = parser.parse_args()
    browser, conftest = module("browser"), module("conftest")
    base = Path(tempfile.gettempdir()) / "ComfyUI"  # some nodes show it
    if base.exists():
        sys.exit(f"{base} is there already; it would be used for the pictures. Remove it first.")
    server = conftest.Server(base)
    try:
        conftest.fill_with_skies(server.base / "input" / "my_clips", 24)
        with browser.editor(server.url, size=(1720, 900)) as ed:
            for name in given.names:
                take(ed, name, given.to)
                print(given.to / f"{name}.webp", flush=True)
            if ed.errors:
                sys.exit(f"The page reported: {ed.errors}")
    finally:
        server.stop()
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
