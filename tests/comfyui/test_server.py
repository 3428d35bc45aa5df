"""The templates through the HTTP interface of a real ComfyUI: same frames as headless, cancel, what files carry."""

from __future__ import annotations

import copy
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import sora_dit
from sora_dit.dit_core.media import read_video
from sora_dit.headless import run_workflow

TWINS = Path(sora_dit.__file__).parent / "workflows" / "api"
TEMPLATES = ("text_to_video", "encode_decode", "video_to_video")


def prompt(name: str = "text_to_video", **inputs: Any) -> dict[str, Any]:
    """A template in API format; `inputs` replace those of that name wherever it occurs."""
    found = copy.deepcopy(json.loads((TWINS / f"{name}.json").read_text()))
    for node in found.values():
        for key, value in inputs.items():
            if key in node["inputs"]:
                node["inputs"][key] = value
    return found


def saved(comfy, entry: dict[str, Any]) -> Path:
    """The one file that was saved."""
    (file,) = [one for one in comfy.files(entry) if one["type"] == "output"]
    return comfy.base / "output" / file["subfolder"] / file["filename"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_server_and_headless_make_the_same_frames(comfy, tmp_path, name):
    clip = comfy.base / "output" / "sky_00001_.mp4"
    if name != "text_to_video" and not clip.exists():  # what the other templates take up
        comfy.run(prompt(seed=7, filename_prefix="sky"))
    what = prompt(name, seed=7, filename_prefix=f"same_{name}")
    there = saved(comfy, comfy.run(what))
    (tmp_path / "out").mkdir()
    if name != "text_to_video":
        shutil.copy(clip, tmp_path / "out")
    (tmp_path / "twin.json").write_text(json.dumps(what))
    here = run_workflow(tmp_path / "twin.json", output=tmp_path / "out").outputs[0]
    a, b = read_video(there).frames, read_video(here).frames
    assert a.shape == b.shape and len(a) >= 17
    assert abs(a.float() - b.float()).max() * (255 if a.is_floating_point() else 1) <= 2


def test_the_same_prompt_twice_is_not_computed_twice(comfy):
    what = prompt(seed=11, steps=3, filename_prefix="twice")
    comfy.run(what)
    entry = comfy.run(what)
    cached = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
    assert len(cached) == len(what)


def test_cancel_stops_within_a_step_and_the_next_run_works(comfy):
    prompt_id = comfy.queue(prompt(steps=1000, seed=int(time.time())))
    time.sleep(3)
    asked = time.monotonic()
    comfy.call("/interrupt", {})
    entry = comfy.wait(prompt_id, 20)
    assert time.monotonic() - asked < 5
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"])
    comfy.run(prompt(steps=2, seed=int(time.time())))


def test_cancel_while_core_samples_and_while_a_clip_is_decoded(comfy):
    graph = comfy.graph()
    at = graph.start("sora-dit-starter.safetensors", 33)
    prompt_id = comfy.queue(graph.show(at, graph.sample(at, steps=1000, seed=int(time.time()))))
    time.sleep(3)
    comfy.call("/interrupt", {})
    entry = comfy.wait(prompt_id, 20)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"])


def test_weights_are_given_back_when_asked(comfy):
    comfy.run(prompt(steps=1, seed=int(time.time())))
    comfy.call("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1)
    comfy.run(prompt(steps=1, seed=1 + int(time.time())))


def test_files_carry_prompt_and_workflow(comfy):
    what = prompt(seed=12, steps=2, filename_prefix="tagged")
    body = {"prompt": what, "extra_data": {"extra_pnginfo": {"workflow": {"nodes": [], "mark": 7}}}}
    path = saved(comfy, comfy.wait(comfy.call("/prompt", body)["prompt_id"]))
    import av

    with av.open(str(path)) as file:
        told = dict(file.metadata)
    assert json.loads(told["workflow"])["mark"] == 7 and "weights" in told["sora_dit"]
    inside = json.loads(told["prompt"])
    assert {key: node["inputs"] for key, node in inside.items()} == {key: node["inputs"] for key, node in what.items()}
    assert not [one for one in told.values() if str(comfy.base) in one or str(TWINS.parent.parent) in one]
