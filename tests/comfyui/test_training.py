"""Trainings in a real ComfyUI: the whole way from a folder, cancelled and gone on with, a picture while they run."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path

import pytest
import sora_dit

TWINS = Path(sora_dit.__file__).parent / "workflows" / "api"
SMALL = {
    "SoraDiTClipDataset": {"size": 64, "frames": 9, "shortest": 9},
    "SoraDiTSkyDataset": {"count": 12, "width": 64, "height": 64, "frames": 9},
    "SoraDiTNewModel": {"width": 32, "depth": 1, "heads": 2},
    "SoraDiTTrainModel": {"steps": 8, "batch": 2, "sample_every": 4},
    "SoraDiTTrainLora": {"steps": 8, "batch": 2, "sample_every": 4},
    "SoraDiTTrainAutoencoder": {"steps": 8, "batch": 2, "sample_every": 4},
    "SoraDiTTimestepConditioning": {"steps": 3},
    "SoraDiTEmptyLatent": {"width": 64, "height": 64, "frames": 9},
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(comfy, sky_clips) -> Path:
    """input/my_clips with five rendered skies and captions, as the templates ask for."""
    return sky_clips(comfy.base / "input" / "my_clips", 5)


def small(name: str, **changes: dict) -> dict:
    """A template in API format, so small that it takes seconds. changes: node type -> inputs."""
    prompt = copy.deepcopy(json.loads((TWINS / f"{name}.json").read_text()))
    for node in prompt.values():
        for values in (SMALL.get(node["class_type"], {}), changes.get(node["class_type"], {})):
            node["inputs"] |= {key: value for key, value in values.items() if key in node["inputs"]}
    return prompt


def log_of(comfy, run: str) -> list[dict]:
    """Lines of a run's log."""
    (path,) = (comfy.base / "output").glob(f"*/{run}/log.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["train_from_folder", "train_lora", "train_starter"])
def test_a_template_trains_and_what_it_made_is_used(comfy, clips, name):
    prompt = small(name)
    entry = comfy.run(prompt)
    files = [one["filename"] for one in comfy.files(entry)]
    assert any(one.endswith(".mp4") for one in files) and sum(one.endswith(".png") for one in files) >= 1
    started = time.monotonic()
    for node in prompt.values():  # what is finished is not trained anew
        if node["class_type"] == "SoraDiTSaveVideo":
            node["inputs"]["filename_prefix"] = "once_more"
    comfy.run(prompt)
    assert time.monotonic() - started < 20


def test_the_saved_model_is_a_model_like_any_other(comfy, clips):
    comfy.run(small("train_from_folder"))
    comfy.kinds = comfy.call("/object_info")
    name = next(one["inputs"]["name"] for one in small("train_from_folder").values() if "Save" in one["class_type"])
    assert f"{name}.safetensors" in str(comfy.kinds["SoraDiTLoadModel"]["input"]["required"]["model"])
    graph = comfy.graph()
    at = graph.start(f"{name}.safetensors")
    comfy.run(graph.show(at, graph.sample(at)))


def test_cancel_keeps_the_state_and_the_next_run_goes_on(comfy, clips):
    training = {"steps": 100_000, "run": "cancelled", "sample_every": 0}
    prompt_id = comfy.queue(small("train_from_folder", SoraDiTTrainModel=training))
    end = time.monotonic() + 120
    while time.monotonic() < end and not list((comfy.base / "output").glob("*/cancelled/log.jsonl")):
        time.sleep(0.3)
    time.sleep(3)
    asked = time.monotonic()
    comfy.call("/interrupt", {})
    entry = comfy.wait(prompt_id, 30)
    assert time.monotonic() - asked < 10
    kinds = [kind for kind, _ in entry["status"]["messages"]]
    assert "execution_interrupted" in kinds and "execution_error" not in kinds
    reached = log_of(comfy, "cancelled")[-1]["step"]
    training |= {"steps": reached + 200}
    comfy.run(small("train_from_folder", SoraDiTTrainModel=training))
    steps = [line["step"] for line in log_of(comfy, "cancelled") if "loss" in line]
    assert steps == sorted(steps) and steps[-1] == reached + 200


def test_a_missing_folder_is_told_before_anything_runs(comfy):
    refused = comfy.refused(small("train_from_folder", SoraDiTClipDataset={"folder": "nowhere"}))
    told = " ".join(one["details"] for node in refused.values() for one in node["errors"])
    assert "nowhere" in told and str(comfy.base / "input") in told


def test_core_samples_what_was_trained_while_gradients_stay_away(comfy, clips):
    prompt = small("train_from_folder")
    train = next(key for key, node in prompt.items() if node["class_type"] == "SoraDiTTrainModel")
    load = next(key for key, node in prompt.items() if node["class_type"] == "SoraDiTLoadModel")
    prompt["b"] = {"class_type": "SoraDiTToComfyModel", "inputs": {"model": [train, 0]}}
    prompt["p"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": [load, 1], "text": "sea"}}
    latent = next(key for key, node in prompt.items() if node["class_type"] == "SoraDiTEmptyLatent")
    wires = {"model": ["b", 0], "positive": ["p", 0], "negative": ["p", 0], "latent_image": [latent, 0], "seed": 1}
    how = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    prompt["k"] = {"class_type": "KSampler", "inputs": wires | how}
    prompt["d"] = {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0], "vae": [load, 2]}}
    prompt["s"] = {"class_type": "PreviewImage", "inputs": {"images": ["d", 0]}}
    comfy.run(prompt)
