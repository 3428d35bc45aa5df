"""Training inside a real ComfyUI: Cancel is a save, the next queue goes on, and what is finished is not done again."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path

import pytest
import sora_dit
from sora_dit.dit_core.watch import read_log, read_samples

TWIN = Path(sora_dit.__file__).parent / "workflows" / "api" / "train_starter.json"
CHANGES = {
    "Skies": {"count": 8, "width": 32, "height": 32, "frames": 5},
    "Autoencoder": {"channels": 6, "run": "ae"},
    "New model": {"width": 24, "depth": 1, "heads": 2},
    "Train": {"batch": 2, "sample_every": 4, "run": "in_comfyui"},
    "Size": {"width": 32, "height": 32, "frames": 5},
    "Timesteps": {"steps": 2},
}


def prompt(**train) -> dict:
    """The whole recipe, very small."""
    found = copy.deepcopy(json.loads(TWIN.read_text(encoding="utf-8")))
    for node in found.values():
        node["inputs"].update(CHANGES.get(node["_meta"]["title"], {}))
        if node["_meta"]["title"] == "Train":
            node["inputs"].update(train)
    return found


@pytest.fixture
def run_folder(comfy) -> Path:
    return comfy.base / "output" / "sora_dit_training" / "in_comfyui"


def steps_done(folder: Path) -> int:
    return read_log(folder).step if (folder / "log.jsonl").exists() else 0


def test_cancel_saves_and_the_next_queue_goes_on(comfy, run_folder):
    prompt_id = comfy.queue(prompt(steps=100_000))
    waited = time.monotonic()
    while steps_done(run_folder) < 5:
        assert time.monotonic() - waited < 120
        time.sleep(0.2)
    comfy.call("/interrupt", {})
    entry = comfy.wait(prompt_id, 30)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"])
    done = steps_done(run_folder)
    assert done >= 5 and (run_folder / "state.safetensors").exists() and (run_folder / "curves.png").exists()

    entry = comfy.run(prompt(steps=done + 3))
    assert steps_done(run_folder) == done + 3
    assert read_samples(run_folder)[-1].step == done + 3
    assert [one for one in comfy.files(entry) if one["filename"].endswith(".mp4")]
    state = (run_folder / "state.safetensors").stat().st_mtime_ns
    comfy.run(prompt(steps=done + 3, training_seed=1, sample_every=5))  # not cached, but finished
    assert (run_folder / "state.safetensors").stat().st_mtime_ns == state


def test_our_sentences_are_shown(comfy):
    answer = comfy.call("/prompt", {"prompt": prompt(sample_prompts="a\nb\nc\nd\ne")})
    comfy.wait(answer["prompt_id"])  # the doctor does not need that node, so it runs
    assert "sample_prompts has 5 lines; expected at most 4" in json.dumps(answer["node_errors"])
