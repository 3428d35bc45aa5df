"""The headless stand-ins for core's nodes beside the real ones: one prompt, both ways, the same files."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import sora_dit
import torch
from PIL import Image
from safetensors.torch import load_file
from sora_dit.dit_core.media import read_video
from sora_dit.headless import run_workflow

FACTS = Path(sora_dit.__file__).parent / "tests" / "headless" / "core_nodes_0_8_0.json"


@pytest.fixture(scope="module")
def given(comfy) -> dict[str, str]:
    """Files in the server's input folder: a picture, a picture with a mask, a clip, a sound, a latent."""
    folder, chance = comfy.base / "input", np.random.default_rng(0)
    rows = np.linspace(0, 255, 40, dtype=np.uint8)[:, None, None]
    picture = np.broadcast_to(rows, (40, 56, 3)).copy()
    picture[..., 1] = chance.integers(0, 255, (40, 56))
    Image.fromarray(picture).save(folder / "picture.png")
    alpha = np.full((40, 56, 1), 255, np.uint8)
    alpha[:10] = 0
    Image.fromarray(np.concatenate([picture, alpha], -1)).save(folder / "masked.png")
    with wave.open(str(folder / "tone.wav"), "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(16000)
        sound.writeframes((np.sin(np.arange(16000) / 8) * 9000).astype("<i2").tobytes())
    graph = comfy.graph()
    at = graph.start()
    samples = graph.sample(at)
    graph("SaveLatent", samples=samples, filename_prefix="given")
    images = graph("VAEDecode", vae=at["vae"], samples=samples)
    graph("SaveVideo", video=graph("CreateVideo", images=images, fps=8.0), filename_prefix="given")
    files = [one["filename"] for one in comfy.files(comfy.run(graph.prompt))]
    for name in files:
        shutil.copy(comfy.base / "output" / name, folder / name)
    names = {"latent": [one for one in files if "latent" in one][0], "clip": [one for one in files if "mp4" in one][0]}
    comfy.kinds = comfy.call("/object_info")
    return names | {"picture": "picture.png", "masked": "masked.png", "sound": "tone.wav"}


def pictures(g, f):
    picture, mask = g("LoadImage", image=f["masked"])
    for method in ("nearest-exact", "bilinear", "area", "bicubic", "lanczos"):
        for crop in ("disabled", "center"):
            scaled = g("ImageScale", image=picture, upscale_method=method, width=64, height=32, crop=crop)
            g("SaveImage", images=scaled, filename_prefix=f"scale_{method}_{crop}")
    by = g("ImageScaleBy", image=picture, upscale_method="area", scale_by=0.5)
    both = g("ImageBatch", image1=picture, image2=by)
    one = g("ImageFromBatch", image=both, batch_index=1, length=1)
    g("SaveImage", images=g("RepeatImageBatch", image=one, amount=2), filename_prefix="batch")
    width = g("PrimitiveInt", value=24)
    g("SaveImage", images=g("EmptyImage", width=width, height=16, color=0x336699), filename_prefix="empty")


def coded(g, f):
    at = g.start()
    picture = g("LoadImage", image=f["picture"])[0]
    latent = g("VAEEncode", vae=at["vae"], pixels=picture)
    g("SaveLatent", samples=latent, filename_prefix="encoded")
    g("SaveImage", images=g("VAEDecode", vae=at["vae"], samples=latent), filename_prefix="decoded")
    loaded = g("LoadLatent", latent=f["latent"])
    two = g("LatentBatch", samples1=loaded, samples2=g("RepeatLatentBatch", samples=loaded, amount=2))
    g("SaveLatent", samples=two, filename_prefix="two")
    tiled = g("VAEDecodeTiled", vae=at["vae"], samples=loaded, temporal_size=8, temporal_overlap=4)
    g("SaveImage", images=tiled, filename_prefix="tiled")


def made(g, f):
    at = g.start()
    text = g("PrimitiveStringMultiline", value="a red balloon")
    positive = g("CLIPTextEncode", clip=at["clip"], text=text)
    both = g("ConditioningCombine", conditioning_1=positive, conditioning_2=at["negative"])
    zero = g("ConditioningZeroOut", conditioning=positive)
    plan, sigmas = g("SoraDiTTimestepConditioning", model=at["model"], positive=both, negative=zero, steps=5)
    high = g("SplitSigmas", sigmas=sigmas, step=3)[0]
    half = g("SoraDiTTimestepConditioning", model=at["model"], positive=both, negative=zero, sigmas=high)[0]
    cfg = g("PrimitiveFloat", value=3.0)
    for name, one in (("whole", plan), ("half", half)):
        wires = {"model": at["model"], "conditioning": one, "latent": at["latent"], "cfg": cfg}
        g("SaveLatent", samples=g("SoraDiTDenoise", **wires, seed=3), filename_prefix=name)


def films(g, f):
    images, _, fps = g("GetVideoComponents", video=g("LoadVideo", file=f["clip"]))
    g("SaveImage", images=images, filename_prefix="core_frames")
    g("SaveVideo", video=g("CreateVideo", images=images, fps=fps), filename_prefix="film")
    tone = g("LoadAudio", audio=f["sound"])
    g("SaveVideo", video=g("CreateVideo", images=images, fps=fps, audio=tone), filename_prefix="sounding")
    ours = g("SoraDiTLoadVideo", video=f["clip"])[0]
    g("SaveWEBM", images=ours, filename_prefix="web", fps=8.0)
    g("SaveAnimatedWEBP", images=ours, filename_prefix="moving", fps=8.0)
    g("SaveAnimatedPNG", images=ours, filename_prefix="animated", fps=8.0)
    g("SaveImage", images=ours, filename_prefix="frames")


def far(a: Path, b: Path) -> float:
    """How far the contents of two files are apart, in colours of 0..1 or in values of a latent."""
    if a.suffix == ".latent":
        one, other = load_file(a)["latent_tensor"], load_file(b)["latent_tensor"]
    elif a.suffix in (".mp4", ".webm"):
        one, other = read_video(a).frames.float() / 255, read_video(b).frames.float() / 255
        assert (read_video(a).audio is None) == (read_video(b).audio is None)
    else:
        one, other = (torch.tensor(np.array(frames(path))).float() / 255 for path in (a, b))
    assert one.shape == other.shape, (a.name, one.shape, other.shape)
    return (one.float() - other.float()).abs().max().item()


def frames(path: Path) -> list:
    with Image.open(path) as picture:
        count = getattr(picture, "n_frames", 1)
        return [np.array((picture.seek(k), picture.convert("RGB"))[1]) for k in range(count)]


@pytest.mark.parametrize("build", [pictures, coded, made, films])
def test_the_same_files_both_ways(comfy, given, tmp_path, build):
    graph = comfy.graph()
    build(graph, given)
    for node in graph.prompt.values():
        if "filename_prefix" in node["inputs"]:
            node["inputs"]["filename_prefix"] = f"{build.__name__}/{node['inputs']['filename_prefix']}"
    comfy.run(graph.prompt)
    run_workflow(
        json.loads(json.dumps(graph.prompt)), output=tmp_path, input=comfy.base / "input",
        models=comfy.base / "models" / "sora_dit", device="cpu",
    )  # fmt: skip
    there = {path.name: path for path in (comfy.base / "output" / build.__name__).iterdir()}
    here = {path.name: path for path in (tmp_path / build.__name__).iterdir()}
    assert sorted(there) == sorted(here) and there
    apart = {name: far(there[name], here[name]) for name in there}
    limits = {".latent": 1e-4, ".webm": 8.5 / 255}
    assert {name: far for name, far in apart.items() if far > limits.get(Path(name).suffix, 2.5 / 255)} == {}


def test_core_still_declares_them_as_the_facts_say(comfy):
    facts = json.loads(FACTS.read_text())
    facts.pop("_source")
    changed = {}
    for name, fact in facts.items():
        entry = comfy.kinds[name]
        names = [key for group in ("required", "optional") for key in entry["input_order"].get(group, [])]
        outputs = [list(one) for one in zip(entry["output"], entry["output_name"], strict=True)]
        if names != [one[0] for one in fact["inputs"]] or outputs != fact["outputs"]:
            changed[name] = (names, outputs)
    assert changed == {}
