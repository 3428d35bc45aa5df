"""A small training for the help pictures: skies, a small new model, some hundred steps. See help_studio.py.

What is drawn here is enlarged by the drawings until its text has their least size, so it is drawn small.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sora_dit import nodes
from sora_dit.dit_core.media import write_video
from sora_dit.dit_core.skies import render
from sora_dit.headless.session import Session, use

PROMPTS = "a calm sea at sunset, scattered clouds\na clear night with many stars over hills"
STEPS = 600


@dataclass(frozen=True)
class Trained:
    """Pictures of a training."""

    curves: Image.Image
    glance: Image.Image
    strip: Image.Image


class Stations:
    """Our nodes in a headless session of their own: `call("TrainModel", steps=20, ...)` -> outputs."""

    def __init__(self, output: Path, models: Path, folder: Path):
        self.session = Session(output_dir=output, input_dir=folder, models_dirs=[models], device="cpu")
        self.classes = {cls.GET_SCHEMA().node_id.removeprefix("SoraDiT"): cls for cls in nodes.node_classes()}

    def call(self, node: str, **inputs: Any) -> tuple:
        """Run a node; widgets that are not given have their defaults."""
        cls = self.classes[node]
        widgets = (one for one in cls.GET_SCHEMA().inputs if hasattr(one, "default") and not one.optional)
        with use(self.session), torch.inference_mode():
            return cls.execute(**({one.id: one.default for one in widgets} | inputs)).args


def train(model: Path, steps: int = STEPS) -> Trained:
    """Train on skies of 64 x 64 for some minutes, with the text encoder and the VAE of the bundle `model`."""
    from sora_dit.dit_core.watch import draw_curves, draw_glance, draw_strip, read_log, read_samples

    with tempfile.TemporaryDirectory() as place:
        output = Path(place)
        station = Stations(output, model.parent, output)
        _, clip, vae = station.call("LoadModel", model=model.name)
        clips = station.call("SkyDataset", count=256, width=64, height=64, frames=9)[0]
        latents = station.call("CacheLatents", clips=clips, vae=vae, clip=clip)[0]
        new = station.call("NewModel", vae=vae, clip=clip, latents=latents, width=128, depth=3)[0]
        options = station.call("TrainingOptions", held_out_every=steps // 12, log_every=max(1, steps // 60))[0]
        station.call(
            "TrainModel", model=new, clip=clip, latents=latents, vae=vae, options=options, steps=steps, batch=8,
            run="my_model", sample_prompts=PROMPTS, sample_every=steps // 4,
        )  # fmt: skip
        run = output / "sora_dit_training" / "my_model"
        log, samples = read_log(run), read_samples(run)
        newest = [one for one in samples if one.step == steps]
        return Trained(draw_curves(log, 560), draw_glance(log, newest, 380), draw_strip(samples, 3, 80, rows=2))


def examine(model: Path) -> tuple[str, Image.Image]:
    """The Dataset Doctor's report on a folder of clips, and its contact sheet."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place)
        station = Stations(output, model.parent, output)
        _folder_of_clips(output / "my_clips")
        found = station.call("ClipDataset", folder="my_clips", size=64, frames=17, widest=1.8)[0]
        report, sheet = station.call("DatasetDoctor", clips=found, clips_in_row=2, frame_height=40)
        return report, Image.fromarray((sheet[0] * 255).round().to(torch.uint8).numpy())


def _folder_of_clips(folder: Path) -> None:
    """Clips with the usual faults: one twice, one without a caption, one with a scene cut, one that is broken."""
    from help_studio import scene_like

    folder.mkdir()
    sunset = scene_like(time="sunset", cover="scattered", ground="sea", object="balloon")
    night = scene_like(time="night", ground="hills")
    day = scene_like(time="day", cover="scattered", ground="hills")
    for name, scenes, size, words in (
        ("balloon", [sunset], (96, 96), "a balloon over the sea at sunset"),
        ("balloon copy", [sunset], (96, 96), "a balloon over the sea at sunset"),
        ("hills", [day, night], (96, 160), "hills by day and by night"),
        ("stars", [night], (96, 160), ""),
    ):
        frames = torch.cat([render([scene], 25, *size, 12)[0] for scene in scenes])
        write_video(folder / f"{name}.mp4", [frames], 12, quality="best")
        if words:
            (folder / f"{name}.txt").write_text(words, encoding="utf-8")
    (folder / "holiday.mp4").write_bytes((folder / "stars.mp4").read_bytes()[:700])
