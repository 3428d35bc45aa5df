"""Training inside a real ComfyUI: Cancel is a save, the next queue goes on, and what is finished is not done again."""

from __future__ import annotations

import copy
import json
import os
import time
from pathlib import Path

import pytest
import sora_dit
import torch
from sora_dit.dit_core.media import read_video, write_video
from sora_dit.dit_core.skies import caption, render, sample_scene
from sora_dit.dit_core.watch import read_log, read_samples
from sora_dit.headless import run_workflow

WORKFLOWS = Path(sora_dit.__file__).parent / "workflows"
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


@pytest.fixture
def my_clips(comfy) -> None:
    """A folder of six clips in the server's input folder."""
    folder = comfy.base / "input" / "my_clips"
    folder.mkdir(exist_ok=True)
    for index in range(6):
        scene = sample_scene(5, index)
        write_video(folder / f"{index}.mp4", [render([scene], 13, 64, 64, 12.0)[0]], 12)
        (folder / f"{index}.txt").write_text(caption(scene, seed=index), encoding="utf-8")


@pytest.fixture
def one_thread():
    """As the server: with another number of threads sums come in another order, and a training drifts apart."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["train_from_folder", "train_lora", "train_starter"])
def test_server_and_headless_train_to_the_same_clip(comfy, my_clips, one_thread, tmp_path, name):
    small = {"width": 64, "height": 64, "frames": 13}
    changes = {
        "Skies": small | {"count": 8}, "Clips": {"size": 64, "frames": 13, "shortest": 9},
        "Autoencoder": {"channels": 6, "run": "ae_same"}, "New model": {"width": 24, "depth": 1, "heads": 2},
        "Train": {"steps": 3, "batch": 2, "run": f"same_{name}"}, "Size": small, "Timesteps": {"steps": 4},
        "Train LoRA": {"steps": 3, "batch": 2, "run": f"same_{name}"},
        "Save video": {"filename_prefix": f"same_{name}"}, "Latents": {"name": f"same_{name}"},
    }  # fmt: skip
    what = json.loads((TWIN.parent / f"{name}.json").read_text(encoding="utf-8"))
    for node in what.values():
        node["inputs"].update(changes.get(node["_meta"]["title"], {}))
    (file,) = [one for one in comfy.files(comfy.run(what)) if one["filename"].endswith(".mp4")]
    there = comfy.base / "output" / file["subfolder"] / file["filename"]
    made = run_workflow(what, output=tmp_path / "out", input=comfy.base / "input", models=tmp_path, device="cpu")
    (here,) = [path for path in made.outputs if path.suffix == ".mp4"]
    a, b = read_video(there).frames, read_video(here).frames
    assert a.shape == b.shape and len(a) == 13
    assert abs(a.float() - b.float()).max() * (255 if a.is_floating_point() else 1) <= 2


# --- In the editor -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["train_from_folder", "train_lora", "train_starter"])
def test_the_editor_makes_of_a_template_what_our_converter_makes(ed, name):
    ed.load(json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))
    assert ed.missing() == [] and ed.errors == []
    made = ed.page.evaluate("async () => (await app.graphToPrompt()).output")
    ours = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
    assert {key: (node["class_type"], node["inputs"]) for key, node in made.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in ours.items()
    }


def test_the_node_shows_curves_while_it_trains(comfy, ed):
    ed.load(json.loads((WORKFLOWS / "train_starter.json").read_text(encoding="utf-8")))
    for node in CHANGES.values():
        ed.set(**{name: value for name, value in node.items() if name not in ("run", "steps", "width", "height")})
    ed.page.evaluate(
        """() => { for (const node of app.graph._nodes) for (const widget of node.widgets ?? []) {
            const values = {Skies: {width: 32, height: 32}, "New model": {width: 24}, Size: {width: 32, height: 32},
                Timesteps: {steps: 2}, Train: {run: "seen", steps: 100000}, Autoencoder: {run: "ae2"}}[node.title] ?? {}
            if (widget.name in values) widget.value = values[widget.name] } }"""
    )
    assert ed.queue() in (None, {})
    shown = """() => { const node = app.graph._nodes.find(one => one.title == "Train")
        return node.imgs?.length ? [node.imgs[0].naturalWidth, node.imgs[0].naturalHeight] : null }"""
    end, seen = time.monotonic() + 120, None
    while seen is None and time.monotonic() < end:
        ed.page.wait_for_timeout(500)
        seen = ed.page.evaluate(shown)
    if folder := os.environ.get("SORA_DIT_SCREENSHOTS"):
        ed.page.wait_for_timeout(20_000)
        ed.picture(Path(folder) / "training.png")
    ed.cancel()
    assert seen is not None and seen[0] > 300, "no picture on the node"
