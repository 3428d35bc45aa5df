"""Whole workflows of our nodes with core's nodes around them, on the tiny model; and what is refused before a run."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sora_dit.dit_core.media import read_video
from sora_dit.headless import cli
from sora_dit.headless.problems import WorkflowError
from sora_dit.headless.registry import load_registry
from sora_dit.headless.run_errors import RunError
from sora_dit.headless.workflow import load_workflow

HERE = Path(__file__).parent
MODEL = {"class_type": "SoraDiTLoadModel", "inputs": {"model": "tiny.safetensors", "device": "auto", "dtype": "auto"}}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder with the tiny model of the node tests."""
    spec = importlib.util.spec_from_file_location("sora_dit_test_bundle", HERE.parent / "nodes" / "conftest.py")
    bundle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bundle)
    folder = tmp_path_factory.mktemp("models")
    bundle.make_bundle(folder / "tiny.safetensors")
    return folder


def keep(*links):
    return {"class_type": "Keep", "inputs": {slot: list(link) for slot, link in zip("abcd", links, strict=False)}}


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def text_to_video(**changes):
    """Prompts, decoding and saving by core's nodes, the model by ours."""
    return {
        "model": MODEL,
        "text": node("PrimitiveStringMultiline", value="a red balloon"),
        "width": node("PrimitiveInt", value=32),
        "prompt": node("CLIPTextEncode", text=["text", 0], clip=["model", 1]),
        "none": node("ConditioningZeroOut", conditioning=["prompt", 0]),
        "size": node("SoraDiTEmptyLatent", model=["model", 0], width=["width", 0], height=24, frames=9, batch_size=1),
        "steps": node("SoraDiTTimestepConditioning", model=["model", 0], positive=["prompt", 0], negative=["none", 0],
                      steps=2, schedule="auto", shift=0.0, denoise=1.0),
        "denoise": node("SoraDiTDenoise", model=["model", 0], conditioning=["steps", 0], latent=["size", 0], seed=1,
                        cfg=4.0, sampler="euler"),
        "decode": node("VAEDecode", samples=["denoise", 0], vae=["model", 2]),
        "scale": node("ImageScale", image=["decode", 0], upscale_method="lanczos", width=64, height=0, crop="disabled"),
        "video": node("CreateVideo", images=["scale", 0], fps=8.0),
        "save": node("SaveVideo", video=["video", 0], filename_prefix="video/ComfyUI", format="auto", codec="auto"),
    } | changes  # fmt: skip


BEHIND_LINKS = [
    ({"width": node("PrimitiveInt", value=100)}, "width is 100 pixels, but must be a multiple of 8"),
    ({"count": node("PrimitiveInt", value=0)}, r"steps: got 0; expected 1 to 1000. It comes from Int \(node count\)"),
    ({"name": node("PrimitiveString", value="../x")}, 'filename_prefix: .*"../x" leads out of the output folder'),
]


@pytest.mark.parametrize("changes, sentence", BEHIND_LINKS)
@pytest.mark.parametrize("is_last", [True, False])
def test_a_constant_behind_a_link_is_checked_before_the_run(core, models, changes, sentence, is_last):
    constants = {"count": node("PrimitiveInt", value=2), "name": node("PrimitiveString", value="a")}
    prompt = text_to_video()
    prompt["steps"]["inputs"]["steps"] = ["count", 0]
    prompt["save"]["inputs"]["filename_prefix"] = ["name", 0]
    prompt |= constants | changes
    order = sorted(prompt, key=lambda one: (one in (*constants, "width")) == is_last)
    with pytest.raises(WorkflowError, match=sentence):
        core.run({one: prompt[one] for one in order}, models=[models])


def test_a_model_for_core_samplers_is_refused_before_the_run(core, models):
    native = node("SoraDiTToComfyModel", model=["model", 0])
    more = {"native": native, "shown": node("PreviewAny", source=["native", 0])}
    with pytest.raises(WorkflowError, match=r"\(node native\), model: Core samplers run inside ComfyUI only"):
        core.run(text_to_video(**more), models=models)


def test_a_core_node_takes_a_linked_value_beyond_its_range(core):
    """As in ComfyUI, which looks at typed values only."""
    prompt = {"speed": node("PrimitiveFloat", value=240.0), "frames": node("EmptyImage", width=8, height=8, color=0,
              batch_size=2), "video": node("CreateVideo", images=["frames", 0], fps=["speed", 0]),
              "rate": node("GetVideoComponents", video=["video", 0]), "keep": keep(["rate", 2])}  # fmt: skip
    core.run(prompt)
    assert core.kept["a"] == 240.0


def test_text_to_video_with_core_around(core, models):
    parts = {"ours": node("SoraDiTDecode", vae=["model", 2], latent=["denoise", 0], chunk_frames=0),
             "keep": keep(["decode", 0], ["ours", 0], ["none", 0], ["prompt", 0])}  # fmt: skip
    (path,) = core.run(text_to_video(**parts), models=models).outputs
    assert path == core.output / "video" / "ComfyUI_00001_.mp4"
    clip = read_video(path)
    assert clip.frames.shape == (9, 48, 64, 3) and clip.fps == 8
    assert json.loads(clip.metadata["prompt"])["text"]["inputs"]["value"] == "a red balloon"
    assert json.loads(clip.metadata["sora_dit"])["nodes"]["denoise"]["seed"] == 1
    assert core.kept["a"].shape == (9, 24, 32, 3) and torch.equal(core.kept["a"], core.kept["b"])
    assert core.kept["c"][0][0].abs().sum() == 0 < core.kept["d"][0][0].abs().sum()


def test_vae_there_and_back_through_files(core, models):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(core.input / "a.png")
    prompt = {
        "model": MODEL,
        "load": node("LoadImage", image="a.png"),
        "scale": node("ImageScale", image=["load", 0], upscale_method="bicubic", width=32, height=24, crop="center"),
        "still": node("RepeatImageBatch", image=["scale", 0], amount=5),
        "encode": node("VAEEncode", pixels=["still", 0], vae=["model", 2]),
        "ours": node("SoraDiTEncode", vae=["model", 2], images=["still", 0], fit="error"),
        "save": node("SaveLatent", samples=["encode", 0], filename_prefix="latents/l"),
        "twice": node("RepeatLatentBatch", samples=["encode", 0], amount=2),
        "decode": node("VAEDecode", samples=["twice", 0], vae=["model", 2]),
        "tiled": node("VAEDecodeTiled", samples=["twice", 0], vae=["model", 2], tile_size=64, overlap=64,
                      temporal_size=8, temporal_overlap=8),
        "images": node("SaveImage", images=["decode", 0], filename_prefix="frames/f"),
        "keep": keep(["encode", 0], ["ours", 0], ["decode", 0], ["tiled", 0]),
    }  # fmt: skip
    result = core.run(prompt, models=models)
    latent, ours, decoded, tiled = (core.kept[slot] for slot in "abcd")
    assert latent["samples"].shape == (1, 4, 2, 3, 4) and torch.equal(latent["samples"], ours["samples"])
    assert decoded.shape == (10, 24, 32, 3)  # two clips of five frames, one after the other
    assert torch.equal(decoded[:5], decoded[5:]) and torch.allclose(decoded, tiled, atol=1e-5)
    assert [path.name for path in result.outputs] == ["l_00001_.latent", *(f"f_{n:05}_.png" for n in range(1, 11))]
    again = {
        "model": MODEL,
        "read": node("LoadImage", image="a.png"),
        "scale": node("ImageScale", image=["read", 0], upscale_method="bicubic", width=32, height=24, crop="center"),
        "still": node("RepeatImageBatch", image=["scale", 0], amount=5),
        "tiles": node("VAEEncodeTiled", pixels=["still", 0], vae=["model", 2], tile_size=64, overlap=64,
                      temporal_size=8, temporal_overlap=8),
        "load": node("LoadLatent", latent="latents/l_00001_.latent [output]"),
        "decode": node("VAEDecode", samples=["load", 0], vae=["model", 2]),
        "keep": keep(["decode", 0], ["tiles", 0]),
    }  # fmt: skip
    core.run(again, models=models)
    assert torch.allclose(core.kept["a"], decoded[:5], atol=1e-5)
    assert torch.allclose(core.kept["b"]["samples"], latent["samples"], atol=1e-4)


def test_what_does_not_fit_the_vae_is_a_sentence(core, models):
    prompt = {
        "model": MODEL,
        "image": node("EmptyImage", width=33, height=24, batch_size=4, color=0),
        "encode": node("VAEEncode", pixels=["image", 0], vae=["model", 2]),
        "save": node("SaveLatent", samples=["encode", 0], filename_prefix="l"),
    }
    with pytest.raises(RunError, match=r"VAE Encode \(node encode\): width is 33 pixels, .* 32 and 40. frames is 4"):
        core.run(prompt, models=models)
    core.give(samples={"samples": torch.zeros(1, 7, 1, 2, 2)}, vae=None)
    decode = {"model": MODEL, "x": node("Give", name="samples"), "keep": keep(["d", 0]),
              "d": node("VAEDecode", samples=["x", 0], vae=["model", 2])}  # fmt: skip
    with pytest.raises(RunError, match="The latent has 7 channels, but this VAE works with 4"):
        core.run(decode, models=models)
    decode["model"] = node("Give", name="vae")
    decode["d"]["inputs"]["vae"] = ["model", 0]
    with pytest.raises(RunError, match="vae is nothing; expected the VAE output"):
        core.run(decode, models=models)


def test_a_long_prompt_is_remarked(core, models):
    flow = text_to_video(text=node("PrimitiveString", value="sky " * 30))
    result = core.run(flow, models=models)
    assert any(one.node_id == "prompt" and "rest of it is ignored" in one.text for one in result.notes)


# --- the editor's files ---


def editor(*nodes, links=()):
    return {"version": 0.4, "nodes": list(nodes), "links": [list(one) for one in links], "groups": [], "extra": {}}


def box(number, kind, widgets, inputs=(), outputs=(), **more):
    """A node as the editor saves it; inputs: (name, type, link); outputs: (type, links)."""
    return {
        "id": number, "type": kind, "order": number, "mode": 0, "pos": [0, 0], "size": [200, 100], "flags": {},
        "properties": {"Node name for S&R": kind, "cnr_id": "comfy-core", "ver": "0.8.0"}, "widgets_values": widgets,
        "inputs": [{"name": name, "type": type_, "link": link} for name, type_, link in inputs],
        "outputs": [{"name": type_, "type": type_, "links": links} for type_, links in outputs], **more,
    }  # fmt: skip


def test_an_editor_file_of_core_nodes_runs_from_the_command_line(core, monkeypatch, capsys):
    """Widget slots that the editor adds (upload button, control after generate) must not shift the values."""
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(core.input / "a.png")
    flow = editor(
        box(1, "LoadImage", ["a.png", "image"], outputs=[("IMAGE", [1]), ("MASK", None)]),
        box(2, "PrimitiveInt", [3, "randomize"], outputs=[("INT", [2])]),
        box(3, "RepeatImageBatch", [1], [("image", "IMAGE", 1), ("amount", "INT", 2)], [("IMAGE", [3])]),
        box(4, "SaveAnimatedWEBP", ["sky/f", 8, False, 60, "slowest"], [("images", "IMAGE", 3)], title="Save it"),
        links=[(1, 1, 0, 3, 0, "IMAGE"), (2, 2, 0, 3, 1, "INT"), (3, 3, 0, 4, 0, "IMAGE")],
    )
    file = core.input.parent / "flow.json"
    file.write_text(json.dumps(flow))
    monkeypatch.chdir(core.input.parent)
    assert cli.main(["check", "flow.json"]) == 0
    assert cli.main(["run", "flow.json", "--set", "Save it.fps=10", "--quiet"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"saved {Path('output/sky/f_00001_.webp')}"
    with Image.open(core.output / "sky" / "f_00001_.webp") as saved:
        exif = saved.getexif()
        ran = json.loads(exif[0x0110].removeprefix("prompt:"))
    assert ran["4"]["inputs"] == {
        "images": ["3", 0], "filename_prefix": "sky/f", "fps": 10, "lossless": False, "quality": 60,
        "method": "slowest",
    }  # fmt: skip
    assert ran["3"]["inputs"] == {"image": ["1", 0], "amount": ["2", 0]} and ran["2"]["inputs"] == {"value": 3}


CORE_REFUSED = (
    "Sampler (node 7): there is no node type 'KSampler' here. It is a node of ComfyUI itself (comfy-core 0.8.0), but "
    "not one of those that also run headless; `sora-dit nodes` lists them."
)
REFUSED = [
    ({"cnr_id": "comfy-core", "ver": "0.8.0"}, "KSampler", CORE_REFUSED),
    ({"cnr_id": "comfy-core"}, "KSampler", CORE_REFUSED.replace(" 0.8.0", "")),
    ({"cnr_id": "comfyui-videohelpersuite", "ver": "1.7.9"}, "VHS_VideoCombine",
     "Sampler (node 7): there is no node type 'VHS_VideoCombine' here. The file says that it comes from the node pack "
     "'comfyui-videohelpersuite' (version 1.7.9), which does not run headless."),
    ({"aux_id": "someone/a-pack", "ver": "0123456789abcdef0123456789abcdef01234567"}, "VHS_X",
     "Sampler (node 7): there is no node type 'VHS_X' here. The file says that it comes from the node pack "
     "'someone/a-pack' (version 0123456789abcdef0123456789abcdef01234567), which does not run headless."),
    ({}, "SaveImages", "Sampler (node 7): there is no node type 'SaveImages' here. Did you mean 'SaveImage'?"),
    ({}, "Zzzzz", "Sampler (node 7): there is no node type 'Zzzzz' here. `sora-dit nodes` lists those there are."),
    ({"cnr_id": "sora-dit", "ver": "9.0.0"}, "SoraDiTDenoize",
     "Sampler (node 7): there is no node type 'SoraDiTDenoize' here. Did you mean 'SoraDiTDenoise'?"),
]  # fmt: skip


@pytest.mark.parametrize(("properties", "kind", "sentence"), REFUSED, ids=[one[1] for one in REFUSED])
def test_other_nodes_are_refused_before_the_run(core, properties, kind, sentence):
    flow = editor(
        box(1, "EmptyImage", [8, 8, 1, 0], outputs=[("IMAGE", [1, 2])]),
        box(2, "SaveImage", ["f"], [("images", "IMAGE", 1)]),
        box(7, kind, [], [("x", "IMAGE", 2)], title="Sampler", properties=properties),
        links=[(1, 1, 0, 2, 0, "IMAGE"), (2, 1, 0, 7, 0, "IMAGE")],
    )
    with pytest.raises(WorkflowError) as caught:
        core.run(flow)
    assert str(caught.value) == sentence and not core.output.exists()


def test_convert_says_so_too(core, capsys):
    file = core.input / "flow.json"
    file.write_text(json.dumps(editor(box(7, "KSampler", [], title="Sampler"))))
    cli.main(["convert", str(file)])
    assert (
        "'Sampler' (id 7) is not known here; it is a node of ComfyUI itself (version 0.8.0)." in capsys.readouterr().err
    )


def test_api_files_may_name_the_pack_too(core):
    flow = {"7": {"class_type": "Zzz", "inputs": {}, "_meta": {"title": "Mine", "aux_id": "me/pack", "ver": "2"}}}
    with pytest.raises(WorkflowError, match=r"Mine \(node 7\): .* 'Zzz' .* node pack 'me/pack' \(version 2\)"):
        core.run(flow)


def test_a_pack_of_a_node_inside_a_subgraph_is_not_that_of_another_with_its_number():
    flow = editor(box(1, "EmptyImage", [8, 8, 1, 0], properties={}))
    flow["definitions"] = {"subgraphs": [{"id": "x", "nodes": [box(1, "Foreign", [], properties={"cnr_id": "other"})]}]}
    assert load_workflow(flow, load_registry()).packs == {"Foreign": "other"}
