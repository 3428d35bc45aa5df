"""The example workflows: readable for a person, complete, and they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sora_dit
from sora_dit.dit_core.media import read_metadata, read_video
from sora_dit.headless import run_workflow
from sora_dit.headless.editor import to_api
from sora_dit.headless.object_info import object_info
from sora_dit.nodes import node_classes

FOLDER = Path(sora_dit.__file__).parent / "workflows"
# Some need what an earlier one saves, so they run in this order in one output folder.
ORDER = ["text_to_video", "video_to_video", "encode_decode"]
TRAININGS = ["train_from_folder", "train_lora", "train_starter"]  # run in test_training_workflows.py
FILES = {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in ORDER + TRAININGS}
INFO = object_info(node_classes())


def boxes(workflow):
    """(title, left, top, right, bottom) of every node, its title bar of 30 included."""
    for node in workflow["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        yield node["title"], x, y - 30, x + width, y + height


@pytest.mark.parametrize("name", FILES)
def test_a_person_can_read_it(name):
    workflow = FILES[name]
    assert workflow["version"] == 0.4
    assert sum(node["type"] == "MarkdownNote" for node in workflow["nodes"]) == 1
    titles = [node["title"] for node in workflow["nodes"]]
    assert len(set(titles)) == len(titles)
    placed = list(boxes(workflow))
    for i, (title, left, top, right, bottom) in enumerate(placed):
        for other, left2, top2, right2, bottom2 in placed[i + 1 :]:
            assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top, f"{title} covers {other}"
    groups = [group["bounding"] for group in workflow["groups"]]
    for i, (x, y, width, height) in enumerate(groups):
        for x2, y2, width2, height2 in groups[i + 1 :]:
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y, "groups overlap"
    for title, left, top, right, bottom in placed[1:]:
        assert any(
            x <= left and y <= top and right <= x + width and bottom <= y + height for x, y, width, height in groups
        ), f"{title} is in no group"
    positions = {node["id"]: node["pos"][0] for node in workflow["nodes"]}
    for _, source, _, target, _, _ in workflow["links"]:
        assert positions[source] <= positions[target], "a link goes from right to left"


@pytest.mark.parametrize("name", FILES)
def test_links_agree_on_both_sides(name):
    nodes = {node["id"]: node for node in FILES[name]["nodes"]}
    for link, source, slot, target, place, kind in FILES[name]["links"]:
        assert link in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][place]["link"] == link
        assert nodes[source]["outputs"][slot]["type"] == kind == INFO[nodes[source]["type"]]["output"][slot]


@pytest.mark.parametrize("name", FILES)
def test_every_value_is_one_that_its_node_knows(name):
    prompt = to_api(FILES[name], INFO)
    assert len(prompt) == len(FILES[name]["nodes"]) - 1
    for node in prompt.values():
        info = INFO[node["class_type"]]["input"]
        declared = info["required"] | info.get("optional", {})
        values = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")
        widgets = {key for key, (kind, _) in declared.items() if kind in values}
        assert widgets <= set(node["inputs"]) <= set(declared)
        for key, value in node["inputs"].items():
            if declared[key][0] == "COMBO" and key not in ("video", "folder"):
                assert value in declared[key][1]["options"]


def test_the_first_example_is_the_one_we_promise():
    prompt = to_api(FILES["text_to_video"], INFO)
    by_title = {node["_meta"]["title"]: node["inputs"] for node in prompt.values()}
    assert {"Prompt", "Negative prompt", "Save video"} <= set(by_title)
    assert {key: by_title["Size"][key] for key in ("width", "height", "frames")} == {
        "width": 96,
        "height": 96,
        "frames": 25,
    }
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert by_title["Assemble video"]["fps"] == 12.0 and f'Prompt.text={by_title["Prompt"]["text"]}"' in readme
    denoise = next(node for node in FILES["text_to_video"]["nodes"] if node["title"] == "Denoise")
    assert denoise["widgets_values"][1] in ("fixed", "randomize")


def test_they_run_one_after_the_other(models_folder, tmp_path):
    saved = {}
    for name in ORDER:
        settings = {"Load model.model": "tiny.safetensors"}
        if name == "text_to_video":
            settings |= {"Size.width": 32, "Size.height": 32, "Timesteps.steps": 2, "Prompt.text": "a red balloon"}
        result = run_workflow(
            FOLDER / f"{name}.json", set=settings, output=tmp_path, models=models_folder, device="cpu"
        )
        (saved[name],) = result.outputs
    assert saved["text_to_video"].name == "sky_00001_.mp4"
    for path in saved.values():
        assert read_video(path).frames.shape == (25, 32, 32, 3)
    texts = read_metadata(saved["text_to_video"])
    assert '"a red balloon"' in texts["prompt"] and json.loads(texts["workflow"])["version"] == 0.4
    facts = json.loads(texts["sora_dit"])
    denoise = next(one for one in facts["nodes"].values() if "seed" in one)
    (seed,) = (node["widgets_values"][0] for node in FILES["text_to_video"]["nodes"] if node["title"] == "Denoise")
    assert denoise["seed"] == seed and denoise["sampler"] == "dpmpp_2m" and denoise["seconds_per_step"] > 0
