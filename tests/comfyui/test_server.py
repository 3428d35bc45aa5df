"""Our workflows through the HTTP interface of a running ComfyUI; runs when COMFYUI_URL says where, skips otherwise."""

from __future__ import annotations

import copy
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import sora_dit
from sora_dit.dit_core.media import read_video
from sora_dit.headless import run_workflow

URL = os.environ.get("COMFYUI_URL")
pytestmark = pytest.mark.skipif(not URL, reason="COMFYUI_URL is not set")
TWINS = Path(sora_dit.__file__).parent / "workflows" / "api"


def call(path: str, data: Any = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(URL + path, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def queue(prompt: dict[str, Any]) -> str:
    return call("/prompt", {"prompt": prompt})["prompt_id"]


def wait(prompt_id: str, seconds: float = 120.0) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if entry := call(f"/history/{prompt_id}").get(prompt_id):
            return entry
        time.sleep(0.2)
    raise TimeoutError(prompt_id)


def prompt(name: str = "text_to_video", **inputs: Any) -> dict[str, Any]:
    """A template in API format; `inputs` replace those of that name wherever it occurs."""
    found = copy.deepcopy(json.loads((TWINS / f"{name}.json").read_text()))
    for node in found.values():
        for key, value in inputs.items():
            if key in node["inputs"]:
                node["inputs"][key] = value
    return found


def test_server_and_headless_make_the_same_frames(tmp_path):
    what = prompt(seed=7, steps=6, text="stars over the hills", filename_prefix="same")
    entry = wait(queue(what))
    assert entry["status"]["status_str"] == "success", entry["status"]
    files = [one for found in entry["outputs"].values() for one in found.get("images", [])]
    query = urllib.parse.urlencode({key: files[0][key] for key in ("filename", "subfolder", "type")})
    there = tmp_path / "server.mp4"
    with urllib.request.urlopen(f"{URL}/view?{query}", timeout=60) as answer:
        there.write_bytes(answer.read())
    (tmp_path / "twin.json").write_text(json.dumps(what))
    here = run_workflow(tmp_path / "twin.json", output=tmp_path / "out").outputs[0]
    a, b = read_video(there).frames, read_video(here).frames
    assert a.shape == b.shape and len(a) == 17
    assert abs(a.float() - b.float()).max() * (255 if a.is_floating_point() else 1) <= 2


def test_cancel_stops_within_a_step_and_the_next_run_works():
    prompt_id = queue(prompt(steps=1000, seed=int(time.time())))
    time.sleep(3)
    asked = time.monotonic()
    call("/interrupt", {})
    entry = wait(prompt_id, 20)
    assert time.monotonic() - asked < 5
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"])
    assert wait(queue(prompt(steps=2, seed=int(time.time()))))["status"]["status_str"] == "success"


def test_a_mistake_is_told_in_our_words():
    with pytest.raises(urllib.error.HTTPError) as caught:
        queue(prompt(width=130))
    told = json.loads(caught.value.read())
    details = " ".join(one["details"] for node in told["node_errors"].values() for one in node["errors"])
    assert "width is 130 pixels, but must be a multiple of 8; the nearest are 128 and 136" in details


def test_weights_are_given_back_when_asked():
    assert wait(queue(prompt(steps=1, seed=int(time.time()))))["status"]["status_str"] == "success"
    call("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1)
    assert wait(queue(prompt(steps=1, seed=1 + int(time.time()))))["status"]["status_str"] == "success"
