"""The templates in a real editor: opened, run, played, and brought back from the files that were made.

Needs playwright in this Python, and a Chromium that CHROMIUM names.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sora_dit

WORKFLOWS = Path(sora_dit.__file__).parent / "workflows"
TEMPLATES = ("text_to_video", "encode_decode", "video_to_video")


def workflow(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


def a_clip(comfy, ed) -> None:
    """The clip that the other templates take up."""
    if not (comfy.base / "output" / "sky_00001_.mp4").exists():
        ed.load(workflow("text_to_video"))
        assert ed.run()["status"]["status_str"] == "success"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens_runs_plays_and_comes_back(comfy, ed, name, tmp_path):
    a_clip(comfy, ed)
    ed.load(workflow(name))
    types = ed.node_types()
    assert ed.missing() == [] and "missing" not in ed.said().lower()
    entry = ed.run()
    assert entry["status"]["status_str"] == "success", entry
    assert ed.page.evaluate(ed.kit.OUTSIDE) == []  # previews and videos shown
    (file,) = [one for one in comfy.files(entry) if one["type"] == "output"]
    videos = ed.page.evaluate(ed.kit.PLAYING)
    assert len(videos) == types.count("SoraDiTSaveVideo") + types.count("SoraDiTLoadVideo") and min(videos) > 1
    ed.clear()
    ed.drop(file["filename"], comfy.fetch(file))
    assert ed.node_types() == types
    assert ed.errors == []


OWN_PLACE = """() => {  // a film dropped on the canvas, then on something of the page that takes files itself
    const place = document.createElement('div'), opened = [], taken = [], real = app.handleFile
    place.addEventListener('drop', event => { event.preventDefault(); taken.push(event.dataTransfer.files[0].name) })
    document.body.append(place)
    app.handleFile = async file => { opened.push(file.name) }
    for (const target of [place, app.canvas.canvas]) {
        const carried = new DataTransfer()
        carried.items.add(new File(['only pictures'], 'film.mkv', {type: 'video/x-matroska'}))
        target.dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true}))
    }
    return new Promise(r => setTimeout(() => { app.handleFile = real; place.remove(); r({opened, taken}) }, 500))
}"""


def test_a_film_that_is_dropped_on_another_place_is_left_to_it(ed):
    assert ed.page.evaluate(OWN_PLACE) == {"opened": ["film.mkv"], "taken": ["film.mkv"]}


@pytest.mark.parametrize(
    "node, options, ending",
    [
        ("SoraDiTSaveVideo", {"container": "webm"}, "webm"),
        ("SoraDiTSaveVideo", {"container": "mkv"}, "mkv"),
        ("SaveWEBM", {}, "webm"),
        ("SaveAnimatedWEBP", {}, "webp"),
        ("SaveAnimatedPNG", {}, "png"),
        ("SaveImage", {}, "png"),
        ("SaveVideo", {}, "mp4"),
        ("SaveLatent", {}, "latent"),
    ],
)
def test_files_of_every_kind_bring_their_workflow_back(comfy, ed, node, options, ending):
    graph = comfy.graph()
    at = graph.start(frames=5)
    samples = graph.sample(at)
    pictures = graph("SoraDiTDecode", vae=at["vae"], latent=samples)
    if node == "SaveLatent":
        graph(node, samples=samples, filename_prefix="dropped")
    elif node in ("SaveVideo", "SoraDiTSaveVideo"):
        graph(node, video=graph("SoraDiTAssembleVideo", images=pictures, fps=8.0), filename_prefix="dropped", **options)
    else:
        graph(node, images=pictures, filename_prefix="dropped", **options)
    ed.clear()
    ed.page.evaluate("prompt => app.loadApiJson(prompt, 'made')", graph.prompt)
    ed.page.wait_for_timeout(500)
    types = ed.node_types()
    entry = ed.run()
    assert entry["status"]["status_str"] == "success", entry
    file = [one for one in comfy.files(entry) if one["type"] == "output"][0]
    assert file["filename"].endswith(ending)
    ed.clear()
    ed.drop(file["filename"], comfy.fetch(file))
    assert ed.node_types() == types and node in types


def test_preview_while_it_denoises_then_cancel_then_again(comfy, ed):
    ed.load(workflow("text_to_video"))
    ed.set(steps=400)
    before = set(comfy.call("/history"))
    ed.queue()
    shown = "() => app.graph._nodes.filter(n => n.type == 'SoraDiTDenoise' && n.imgs?.length).length"
    ed.page.wait_for_function(shown, timeout=30_000)
    assert ed.page.evaluate("() => app.graph._nodes.find(n => n.type == 'SoraDiTDenoise').progress") > 0
    ed.cancel()
    (stopped,) = [entry for key, entry in comfy.call("/history").items() if key not in before]
    assert any(kind == "execution_interrupted" for kind, _ in stopped["status"]["messages"])
    ed.set(steps=3)
    assert ed.run()["status"]["status_str"] == "success"


def test_a_training_shows_curves_is_cancelled_and_goes_on(comfy, ed, sky_clips):
    sky_clips(comfy.base / "input" / "my_clips", 5)
    train = {"steps": 100_000, "batch": 2, "sample_every": 0, "run": "in_the_editor"}
    ed.load(workflow("train_from_folder"))
    ed.set_of(
        {
            "SoraDiTClipDataset": {"size": 64, "frames": 9, "shortest": 9},
            "SoraDiTNewModel": {"width": 32, "depth": 1, "heads": 2},
            "SoraDiTEmptyLatent": {"width": 64, "height": 64, "frames": 9},
            "SoraDiTTrainModel": train,
        }
    )
    before = set(comfy.call("/history"))
    assert not ed.queue()
    shown = "() => app.graph._nodes.some(n => n.type == 'SoraDiTTrainModel' && n.imgs?.length && n.progress > 0)"
    ed.page.wait_for_function(shown, timeout=120_000)
    ed.cancel()
    ed.page.wait_for_timeout(2000)
    (stopped,) = [entry for key, entry in comfy.call("/history").items() if key not in before]
    assert any(kind == "execution_interrupted" for kind, _ in stopped["status"]["messages"])
    (log,) = (comfy.base / "output").glob("*/in_the_editor/log.jsonl")
    reached = json.loads(log.read_text().splitlines()[-1])["step"]
    ed.set_of({"SoraDiTTrainModel": {"steps": reached + 50}})
    assert ed.run()["status"]["status_str"] == "success"
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == reached + 50
    assert ed.page.evaluate(ed.kit.OUTSIDE) == []
    assert ed.page.evaluate("() => app.graph._nodes.find(n => n.type == 'SoraDiTTrainingView').imgs?.length")


@pytest.mark.parametrize(
    "widgets, sentence",
    [
        ({"width": 130}, "width is 130 pixels, but must be a multiple of 8; the nearest are 128 and 136"),
        ({"model": "gone.safetensors"}, "Looked in"),
        ({"model": "another_family.safetensors"}, "It looks like a Stable Diffusion checkpoint"),
        ({"filename_prefix": "../../out"}, "output folder"),
    ],
)
def test_a_mistake_is_told_in_our_words(ed, widgets, sentence):
    ed.load(workflow("text_to_video"))
    ed.set(**widgets)
    assert ed.queue()
    ed.page.wait_for_timeout(1000)
    said = ed.said()
    assert sentence in said and "Traceback" not in said
    ed.page.keyboard.press("Escape")


def test_an_error_while_it_runs_is_told_in_our_words(comfy, ed):
    graph = comfy.graph()
    at, other = graph.start(), graph.start("wide.safetensors")
    graph.show(at, graph.sample(at, positive=other["positive"]))
    ed.clear()
    ed.page.evaluate("prompt => app.loadApiJson(prompt, 'made')", graph.prompt)
    assert ed.run()["status"]["status_str"] == "error"
    said = ed.said()
    # newer editors add a log with a stack to every error; what we say stands above it
    assert "comes from a text encoder of width 40" in said.split("Stack Trace")[0].split("Traceback")[0]
    ed.page.keyboard.press("Escape")
