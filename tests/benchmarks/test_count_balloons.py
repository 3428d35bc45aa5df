"""Counting balloons: skies with as many as asked for, and a counter that can learn to tell them apart."""

import random
import sys
from pathlib import Path

import pytest
import torch
from sora_dit.dit_core.skies import sample_scene

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import count_balloons as counting  # noqa: E402


def blots(mask) -> int:
    """How many patches of set cells there are, touching ones taken as one."""
    cells, number = {tuple(cell) for cell in mask.nonzero().tolist()}, 0
    while cells:
        number, edge = number + 1, [cells.pop()]
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & cells
            cells -= near
            edge += near
    return number


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_sky_has_as_many_balloons_as_asked_for(number):
    several = counting.skies([number] * 3, 8, "train", 64)
    none = counting.skies([0] * 3, 8, "train", 64)
    assert several.shape == (3, counting.FRAMES, 64, 64, 3)
    for with_balloons, without in zip(several, none, strict=True):
        changed = (with_balloons - without)[counting.LOOK].abs().amax(-1) > 0.02
        assert (blots(changed) == 0) == (number == 0)
        assert blots(changed) <= 2 * number, "an envelope and at most a basket for each"
    areas = [(counting.skies([n] * 3, 8, "train", 64) - none).abs().sum() for n in range(number + 1)]
    assert all(less < more for less, more in zip(areas, areas[1:], strict=False))


def test_balloons_of_a_sky_are_apart_and_alike():
    for seed in range(20):
        placed = counting.balloons(sample_scene(1, seed), 3, random.Random(seed))
        assert len({scene.object_color for scene in placed}) == 1
        assert len({scene.variation for scene in placed}) == 1, "the same sky"
        for i, a in enumerate(placed):
            for b in placed[i + 1 :]:
                assert abs(a.object_x - b.object_x) > 0.13 or abs(a.object_y - b.object_y) > 0.2


def test_a_counter_learns_to_count():
    """Discs on grey: what it has to tell apart without the renderer's clouds."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    generator = torch.Generator().manual_seed(3)
    pictures, counts = torch.full((256, 3, 32, 32), 128, dtype=torch.uint8), torch.arange(256) % 4
    for picture, number in zip(pictures, counts.tolist(), strict=True):
        for k in range(number):
            cy = 5 + 22 * torch.rand(1, generator=generator)
            picture[0][(x - 6 - 9.5 * k) ** 2 + (y - cy) ** 2 < 12] = 250
    counter = counting.learn(pictures[:192], counts[:192], 80, seed=0)
    clips = pictures[192:].permute(0, 2, 3, 1)[:, None].float() / 255
    found = torch.tensor(counting.count(counter, clips, 12.0))
    assert (found == counts[192:]).float().mean() > 0.9


def test_shares_count_none_one_and_several():
    assert counting.shares([0, 1, 1, 2, 3, 1, 1, 1]) == ["0.12", "0.62", "0.25"]


def test_the_whole_command_on_a_tiny_model(bundle_path, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    words = ["--model", str(bundle_path), "--clips", "32", "--steps", "4", "--rendered", "2", "--prompts", "2"]
    assert counting.main([*words, "--guidance", "1", "2", "--sheet", str(sheet)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "rendered, one balloon", "rendered, one balloon, encoded, decoded",
        "rendered, two balloons", "rendered, two balloons, encoded, decoded",
        "generated, guidance 1", "generated, guidance 2",
    ]  # fmt: skip
    assert sheet.exists()


def test_a_file_that_is_no_model_is_named(tmp_path, capsys):
    path = tmp_path / "no.safetensors"
    path.write_bytes(b"nothing")
    assert counting.main(["--model", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
