"""The training workflows run as they are, only smaller, and a second time without training anything anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sora_dit
import torch
from sora_dit.dit_core.checkpoint import read_header
from sora_dit.dit_core.lora import read_lora_header
from sora_dit.dit_core.media import read_video, write_video
from sora_dit.dit_core.watch import read_log, read_samples
from sora_dit.headless import Runner, run_workflow

FOLDER = Path(sora_dit.__file__).parent / "workflows"
REAL_CLIPS = Path(sora_dit.__file__).resolve().parent.parent / "shared" / "clips"
TINY = {"size": 32, "frames": 9, "shortest": 9, "multiple": 16}
SIZE = {"Size.width": 32, "Size.height": 32, "Size.frames": 9, "Timesteps.steps": 2}
SHORT = {"steps": 4, "batch": 2, "sample_every": 2}


@pytest.fixture
def models(tmp_path, models_folder):
    """A models folder of our own, with the tiny model in it."""
    torch.set_num_threads(1)
    place = tmp_path / "models"
    place.mkdir()
    (place / "tiny.safetensors").write_bytes((models_folder / "tiny.safetensors").read_bytes())
    return place


@pytest.fixture
def flow(tmp_path, models):
    """`flow("train_lora", {...})`: run it in one output folder."""

    def call(name, settings):
        return run_workflow(
            FOLDER / f"{name}.json", set=settings, output=tmp_path / "output", input=tmp_path / "input",
            models=models, device="cpu",
        )  # fmt: skip

    return call


@pytest.fixture
def clips(tmp_path):
    """input/my_clips with three moving clips of 32 x 32 and captions."""
    place = tmp_path / "input" / "my_clips"
    place.mkdir(parents=True)
    for number in range(3):
        picture = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(number))
        frames = torch.stack([picture.roll(k, 1) for k in range(20)])
        write_video(place / f"clip{number}.mp4", [frames], 12, quality="best")
        (place / f"clip{number}.txt").write_text(f"a zq pattern, number {number}", encoding="utf-8")
    return place


def prefixed(node: str, values: dict) -> dict:
    return {f"{node}.{name}": value for name, value in values.items()}


def of_state(folder: Path) -> tuple[int, str]:
    """What changes when a training does anything."""
    return (folder / "state.safetensors").stat().st_mtime_ns, (folder / "log.jsonl").read_text()


@pytest.mark.parametrize("name", ["train_from_folder", "train_lora", "train_starter"])
def test_curves_are_of_the_run_before_them_also_when_that_is_muted(name):
    kinds = {}
    for node in json.loads((FOLDER / f"{name}.json").read_text())["nodes"]:
        kinds.setdefault(node["type"], []).append(node)
    (train,) = kinds.get("SoraDiTTrainModel", []) + kinds.get("SoraDiTTrainLora", [])
    (view,) = kinds["SoraDiTTrainingView"]
    assert view["widgets_values"][0] == train["widgets_values"][0]


def test_from_a_folder_of_clips_to_a_model_and_a_video(flow, clips, tmp_path, models):
    (clips / "broken.mp4").write_bytes(b"no video")
    settings = {
        "Load model.model": "tiny.safetensors", **prefixed("Clips", TINY), **SIZE, **prefixed("Train", SHORT),
        "Train.sample_prompts": "a zq pattern", **prefixed("New model", {"width": 24, "depth": 1, "heads": 2}),
        "Save model.name": "mine",
    }  # fmt: skip
    result = flow("train_from_folder", settings)
    video = result.outputs[-1]
    assert video.name == "my_model_00001_.mp4" and read_video(video).frames.shape == (9, 32, 32, 3)
    assert any("1 file cannot be read" in str(note) for note in result.notes)
    run = tmp_path / "output" / "sora_dit_training" / "my_model"
    assert read_log(run).step == 4 and [one.step for one in read_samples(run)] == [2, 4]
    assert models / "sora_dit" / "mine.safetensors" in result.outputs
    made = read_header(models / "sora_dit" / "mine.safetensors")
    assert set(made.components) == {"transformer", "text_encoder", "autoencoder"}
    assert made.components["transformer"]["width"] == 24 and made.provenance["transformer"]["step"] == 4
    shown = [text for one in result.ui.values() for text in one.get("text", ())]
    assert any("broken.mp4" in text for text in shown) and any(text.startswith("step 4 of 4") for text in shown)

    before, first = of_state(run), read_video(video).frames
    again = flow("train_from_folder", settings)
    assert of_state(run) == before
    assert (read_video(again.outputs[-1]).frames == first).all()  # the same model makes the same clip
    other = {"Train.learning_rate": 0.001, "Train.optimiser": "adamw", "Train.training_seed": 5}
    with pytest.raises(Exception, match="belongs to another training") as caught:
        flow("train_from_folder", settings | other)
    said = str(caught.value)
    assert "learning_rate (0: the usual one of the optimiser) was 0.003 and is 0.001." in said
    assert " optimiser was 'muon' and is 'adamw'." in said and "training_seed was 1 and is 5." in said


def test_what_was_trained_into_an_output_folder_is_found_in_it(tmp_path, models):
    place = tmp_path / "out" / "models" / "sora_dit"
    place.mkdir(parents=True)
    (models / "tiny.safetensors").rename(place / "tiny.safetensors")
    settings = {"Load model.model": "tiny.safetensors", **SIZE}
    result = run_workflow(FOLDER / "text_to_video.json", set=settings, output=tmp_path / "out", device="cpu")
    assert [path.suffix for path in result.outputs] == [".mp4"]


def test_a_lora_from_a_few_clips(flow, clips, tmp_path, models):
    if REAL_CLIPS.is_dir():  # the real thing where it is there: two seconds of it
        for path in clips.iterdir():
            path.unlink()
        real = read_video(REAL_CLIPS / "cockatoo.mp4", max_frames=40)
        write_video(clips / "cockatoo.mp4", [torch.as_tensor(real.frames)[:, ::4, ::4].contiguous()], real.fps)
        (clips / "cockatoo.txt").write_text("a zq cockatoo", encoding="utf-8")
    settings = {
        "Load model.model": "tiny.safetensors", **prefixed("Clips", TINY), **SIZE, **prefixed("Train LoRA", SHORT),
        "Train LoRA.rank": 2, "Prompt.text": "a zq pattern",
    }  # fmt: skip
    video = flow("train_lora", settings).outputs[-1]
    assert read_video(video).frames.shape == (9, 32, 32, 3)
    header = read_lora_header(models / "loras" / "my_lora.safetensors")
    assert header.rank == 2 and header.provenance["step"] == 4 and header.base_model == "tiny.safetensors"
    run = tmp_path / "output" / "sora_dit_training" / "my_lora"
    before = of_state(run)
    flow("train_lora", settings | {"Denoise.seed": 2})
    assert of_state(run) == before

    graph = json.loads((FOLDER / "api" / "train_lora.json").read_text())
    (train,) = (node for node in graph.values() if node["class_type"] == "SoraDiTTrainLora")
    inputs = {"model": train["inputs"]["model"], "lora": "my_lora.safetensors", "strength": 1.0}
    graph["first"] = {"class_type": "SoraDiTLoadLora", "inputs": inputs}
    train["inputs"] |= {"model": ["first", 0], "run": "second"}
    (tmp_path / "second.json").write_text(json.dumps(graph))
    run_workflow(
        tmp_path / "second.json", set=settings, output=tmp_path / "output", input=tmp_path / "input", models=models,
        device="cpu",
    )  # fmt: skip
    second = read_lora_header(models / "loras" / "second.safetensors")
    assert second.base_sha256 != header.base_sha256, "beside the plain model it is half of what was trained"


def test_a_model_that_need_not_be_saved_again_is_still_named(tmp_path, models):
    runner = Runner()
    load = {"model": "tiny.safetensors", "device": "cpu", "dtype": "auto"}
    save = {"name": "mine", "dtype": "float16", "overwrite": True, "model": ["1", 0]}
    graph = {
        "1": {"class_type": "SoraDiTLoadModel", "inputs": load},
        "2": {"class_type": "SoraDiTSaveModel", "inputs": save},
    }
    first, second = (run_workflow(graph, output=tmp_path, models=models, runner=runner) for _ in range(2))
    assert first.outputs == second.outputs == [models / "sora_dit" / "mine.safetensors"] and second.cached


def test_the_whole_recipe_of_a_starter(flow, tmp_path, models):
    settings = {
        "Text encoder.model": "tiny.safetensors", "Skies.count": 12, "Skies.width": 16, "Skies.height": 16,
        "Skies.frames": 5, "Autoencoder.channels": 6, **prefixed("Train", SHORT), "Train.sample_prompts": "",
        **prefixed("New model", {"width": 24, "depth": 1, "heads": 2}), **SIZE,
    }  # fmt: skip
    result = flow("train_starter", settings)
    assert result.outputs[-1].name == "my_starter_00001_.mp4"
    made = read_header(models / "sora_dit" / "my_starter.safetensors")
    assert made.components["transformer"]["in_channels"] == made.components["autoencoder"]["latent_channels"] == 6
    runs = tmp_path / "output" / "sora_dit_training"
    autoencoder = runs / "starter_autoencoder" / "autoencoder.safetensors"
    before = (of_state(runs / "starter"), autoencoder.stat().st_mtime_ns)
    flow("train_starter", settings)
    assert (of_state(runs / "starter"), autoencoder.stat().st_mtime_ns) == before


@pytest.mark.parametrize("name", ["train_from_folder", "train_lora"])
def test_without_clips_the_folder_is_named(flow, name, tmp_path):
    (tmp_path / "input" / "my_clip").mkdir(parents=True)
    with pytest.raises(Exception, match='There is no folder "my_clips".*Did you mean "my_clip"?'):
        flow(name, {})
