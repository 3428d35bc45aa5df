"""`sora-dit curves`: a training's folder becomes a picture and a line of words."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from sora_dit.headless.cli import main


@pytest.fixture
def folder(tmp_path):
    lines = [
        {"step": step, "samples": step, "total": 40, "seconds": step / 2, "rate": 1.0, "loss": 1 / step}
        for step in (10, 20)
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_it_draws_and_says_where_the_training_is(folder, capsys):
    assert main(["curves", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("step 20 of 40, loss 0.05, 2 samples/s") and "left" not in said
    with Image.open(folder / "curves.png") as picture:
        assert picture.width == 960
    assert main(["curves", str(folder), "-o", str(folder / "other.webp"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["outputs"] == [str(folder / "other.webp")] and answer["last"]["step"] == 20


def test_what_is_wrong_is_said(folder, capsys, tmp_path):
    assert main(["curves", str(folder / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["curves", str(folder), "--samples", str(folder / "strip.png")]) == 2
    assert "holds no samples" in capsys.readouterr().err
    assert not list(folder.glob("*.png")), "nothing is drawn by half"
    assert main(["curves", str(folder), "-o", str(folder / "curves.txt")]) == 2
    assert "expected .png" in capsys.readouterr().err
