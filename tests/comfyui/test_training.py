"""Training inside a real ComfyUI: Cancel is a save, the next queue goes on, and what is finished is not done again."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import time
from pathlib import Path

import pytest
import sora_dit
from sora_dit.dit_core.watch import read_log, read_samples

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


# --- In the editor -----------------------------------------------------------------------------------------------

no_browser = pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed")


@pytest.fixture(scope="module")
def ed(comfy):
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    browser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(browser)
    with browser.editor(comfy.url) as page:
        yield page


@no_browser
@pytest.mark.parametrize("name", ["train_from_folder", "train_lora", "train_starter"])
def test_the_editor_makes_of_a_template_what_our_converter_makes(ed, name):
    ed.load(json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))
    assert ed.missing() == [] and ed.errors == []
    made = ed.page.evaluate("async () => (await app.graphToPrompt()).output")
    ours = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
    assert {key: (node["class_type"], node["inputs"]) for key, node in made.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in ours.items()
    }


@no_browser
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
