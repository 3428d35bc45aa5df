"""The scripts that draw the help pages' pictures and the thumbnails; what they drew is tested in tests/nodes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import sora_dit
import torch
from PIL import Image
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.media import write_video
from sora_dit.dit_core.watch import Sample, save_sample
from sora_dit.nodes import node_classes

BENCHMARKS = Path(sora_dit.__file__).parent / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def test_there_is_a_picture_for_every_node():
    import help_pictures

    assert {f"SoraDiT{name}" for name in help_pictures.DRAWINGS} == {cls.GET_SCHEMA().node_id for cls in node_classes()}


def test_pictures_that_need_no_model_can_be_drawn(tmp_path, monkeypatch):
    import help_pictures

    assert help_pictures.main(["--only", "TimestepConditioning", "Encode", "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"TimestepConditioning.webp", "Encode.webp"}
    with pytest.raises(SystemExit):
        help_pictures.main(["--only", "Nothing", "--output", str(tmp_path)])


def test_colours_of_a_latent_show_where_it_differs():
    from drawing import as_colours

    latent = torch.randn(16, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    latent[:, :, :2] += 4.0
    colours = as_colours(latent)
    assert colours.shape == (2, 4, 4, 3) and 0 <= colours.min() and colours.max() <= 1
    upper, lower = colours[:, :2].mean((0, 1, 2)), colours[:, 2:].mean((0, 1, 2))
    assert (upper - lower).abs().max() > 0.2
    assert torch.allclose(as_colours(latent * 3 + 1), colours, atol=1e-3)


def test_a_picture_is_made_as_small_as_asked(tmp_path):
    from drawing import save_small

    noise = Image.merge("RGB", [Image.effect_noise((100, 100), 80) for _ in range(3)])
    whole = save_small(noise, tmp_path / "a.webp", 10**6)
    assert save_small(noise, tmp_path / "a.webp", whole // 2) <= whole // 2
    flat = Image.new("RGB", (100, 100), (10, 200, 30))
    save_small(flat, tmp_path / "b.webp")
    with Image.open(tmp_path / "b.webp") as again:
        assert again.convert("RGB").getpixel((5, 5)) == (10, 200, 30)  # without loss where that fits


def test_a_thumbnail_shows_first_and_last_frame(tmp_path):
    import thumbnails

    frames = torch.zeros(9, 32, 48, 3)
    frames[0, ..., 0] = 1
    frames[-1, ..., 2] = 1
    write_video(tmp_path / "a.mp4", [frames], 8, quality="best")
    data = thumbnails.thumbnail(tmp_path / "a.mp4")
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "JPEG" and picture.size == (thumbnails.SIDE, thumbnails.SIDE)
        assert picture.getpixel((60, 60))[0] > 200 and picture.getpixel((420, 420))[2] > 200


def test_text_too_small_to_read_is_refused():
    from drawing import LEAST, Sheet

    sheet = Sheet(80, 40)
    sheet.text((4, 4), "words", LEAST)
    assert sheet.image.convert("L").getextrema()[0] < 200
    with pytest.raises(ValueError, match="to be read"):
        sheet.text((4, 4), "words", LEAST - 1)


def test_the_clip_of_the_latent_pictures_has_the_size_of_the_nodes_defaults():
    from help_studio import Studio

    assert Studio(Path("no.safetensors")).default_clip.shape == (25, 96, 96, 3)


def test_the_thumbnail_of_a_training_shows_its_loss_and_its_newest_samples(tmp_path):
    import training_thumbnail

    lines = [{"step": step, "samples": 8 * step, "loss": 2 / step, "held_out": 3 / step} for step in range(1, 40)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SoraDiTError, match="no samples yet"):
        training_thumbnail.draw_training(tmp_path, 480)
    for step, colour in ((20, (0, 0, 255)), (39, (255, 0, 0))):
        frames = np.full((5, 16, 24, 3), colour, np.uint8)
        save_sample(tmp_path, Sample(step, 0, "a prompt", frames))
    picture = training_thumbnail.draw_training(tmp_path, 480)
    assert picture.size == (480, 480) and picture.getpixel((180, 440)) == (255, 0, 0)
    seen = {colour for _, colour in picture.crop((0, 0, 480, 350)).getcolors(10**6)}
    assert {training_thumbnail.COLOURS[0], training_thumbnail.COLOURS[1]} <= seen


def test_small_settings_of_the_trainings_fit_their_workflows():
    import thumbnails

    for name, settings in thumbnails.SMALL.items():
        given = [f"{key}={value}" for key, value in settings.items()]
        assert set(thumbnails.fitting(given, name)) == set(settings)


def test_workflows_that_use_what_another_saves_come_later():
    import thumbnails

    names = thumbnails.in_order(["encode_decode", "text_to_video", "video_to_video"])
    assert names[0] == "text_to_video"


def test_a_scene_that_is_held_out_is_refused():
    """Waiting for it would take for ever."""
    from help_studio import scene_like

    with pytest.raises(SoraDiTError, match="held out"):
        scene_like(time="day", cover="broken", ground="hills")
