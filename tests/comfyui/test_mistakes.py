"""What a person sees in the editor when something is wrong: our sentence, at the right node, before the work starts
where that is possible."""

from __future__ import annotations

import pytest


def refusal(comfy, prompt: dict) -> str:
    """All details of the errors of a prompt that is not accepted."""
    return "\n".join(one["details"] for node in comfy.refused(prompt).values() for one in node["errors"])


def failure(comfy, prompt: dict) -> dict:
    """What is told about a run that fails."""
    entry = comfy.wait(comfy.queue(prompt))
    assert entry["status"]["status_str"] == "error"
    return comfy.told(entry)


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("another_family.safetensors", "It looks like a Stable Diffusion checkpoint"),
        ("page.safetensors", "it looks like a web page, probably a failed download"),
        ("cut.safetensors", "cut.safetensors"),
        ("autoencoder.safetensors", "holds no video model (transformer)"),
        ("gone.safetensors", "Looked in"),
    ],
)
def test_wrong_model_files(comfy, name, sentence):
    graph = comfy.graph()
    at = graph.start(name)
    told = refusal(comfy, graph.show(at, graph.sample(at)))
    assert sentence in told and "Traceback" not in told
    if name == "gone.safetensors":  # says where: our own folder, core's, and the extra path of the yaml
        assert str(comfy.base / "models" / "sora_dit") in told and str(comfy.base / "elsewhere" / "dits") in told


def test_a_file_from_an_extra_model_path_loads(comfy):
    options = comfy.kinds["SoraDiTLoadModel"]["input"]["required"]["model"]
    assert "far.safetensors" in str(options)
    graph = comfy.graph()
    at = graph.start("far.safetensors")
    comfy.run(graph.show(at, graph.sample(at)))


def test_a_vae_of_its_own_file_serves(comfy):
    graph = comfy.graph()
    at = graph.start()
    at["vae"] = graph("SoraDiTLoadModel", model="flow.safetensors", vae="only_vae.safetensors")[2]
    comfy.run(graph.show(at, graph.sample(at)))


def test_a_text_of_another_encoder(comfy):
    graph = comfy.graph()
    at, other = graph.start(), graph.start("wide.safetensors")
    told = failure(comfy, graph.show(at, graph.sample(at, positive=other["positive"])))
    assert "text encoder of width 40" in told["exception_message"] and "width 24" in told["exception_message"]
    assert told["exception_type"] == "sora_dit.ShapeError"  # not the folder that the pack lies in
    graph = comfy.graph()
    at, other = graph.start(), graph.start("wide.safetensors")
    plan = graph("SoraDiTTimestepConditioning", model=at["model"], positive=other["positive"])[0]
    latent = graph("SoraDiTDenoise", model=at["model"], conditioning=plan, latent=at["latent"], seed=1)
    told = failure(comfy, graph.show(at, latent))
    assert told["node_type"] == "SoraDiTTimestepConditioning" and "width 40" in told["exception_message"]


@pytest.mark.parametrize(
    "node, kinds",
    [
        ("ModelSave", {"model": "native"}),
        ("CLIPSave", {"clip": "clip"}),
        ("VAESave", {"vae": "vae"}),
        ("CheckpointSave", {"model": "native", "clip": "clip", "vae": "vae"}),
    ],
)
def test_cores_save_nodes_are_refused(comfy, node, kinds):
    graph = comfy.graph()
    at = graph.start()
    graph(node, **{wire: at[name] for wire, name in kinds.items()}, filename_prefix="refused/file")
    told = failure(comfy, graph.prompt)
    assert told["node_type"] == node and "Use Save Model (Sora DiT)" in told["exception_message"]
    assert not list((comfy.base / "output" / "refused").glob("*"))


def test_an_earlier_layer_of_the_encoder_is_refused(comfy):
    graph = comfy.graph()
    at = graph.start()
    clip = graph("CLIPSetLastLayer", clip=at["clip"], stop_at_clip_layer=-2)
    told = failure(comfy, graph.show(at, graph.sample(at, positive=graph("CLIPTextEncode", clip=clip, text="sea"))))
    assert told["node_type"] == "CLIPSetLastLayer" and "not with layer -2" in told["exception_message"]


def test_latents_of_another_model(comfy):
    graph = comfy.graph()
    at = graph.start()
    latent = graph("EmptyHunyuanLatentVideo", width=48, height=32, length=9)
    told = failure(comfy, graph.show(at, latent))
    assert "has 16 channels, but this VAE works with 6" in told["exception_message"]


@pytest.mark.parametrize(
    "node, change, wrong, sentence",
    [
        ("SoraDiTEmptyLatent", {"width": 130}, "width", "the nearest are 128 and 136"),
        ("SoraDiTEmptyLatent", {"frames": 16}, "frames", "the nearest are 13 and 17"),
        ("SoraDiTLoadModel", {"model": "gone.safetensors"}, "model", "Looked in"),
        ("SoraDiTSaveVideo", {"filename_prefix": "../../out"}, "filename_prefix", "output folder"),
        ("SoraDiTSaveVideo", {"container": "webm", "codec": "h264"}, "codec", "WebM cannot hold H.264"),
    ],
)
def test_values_that_do_not_fit(comfy, node, change, wrong, sentence):
    graph = comfy.graph()
    at = graph.start()
    pictures = graph("SoraDiTDecode", vae=at["vae"], latent=graph.sample(at))
    graph("SoraDiTSaveVideo", video=graph("SoraDiTAssembleVideo", images=pictures, fps=8.0), filename_prefix="x")
    for one in graph.prompt.values():
        if one["class_type"] == node:
            one["inputs"] |= change
    errors = [one for found in comfy.refused(graph.prompt).values() for one in found["errors"]]
    # ComfyUI repeats the sentence at every input that validate_inputs looks at: it must name the right one itself
    told = {one["extra_info"]["input_name"]: one["details"] for one in errors}
    assert told[wrong].count(sentence) == 1 and all(wrong in one.split(" - ", 1)[1] for one in told.values())
