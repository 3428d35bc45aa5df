"""What every node and every input must have, and what may never change."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from sora_dit import nodes
from sora_dit.dit_core.diffusion import SAMPLERS, SCHEDULES
from sora_dit.headless.object_info import object_info
from sora_dit.nodes import _sampling

# Saved workflows hold ids and names and, by position, widget values: append only.
FROZEN = {
    "SoraDiTLoadModel": ("model device dtype text_encoder vae", "SORA_DIT CLIP VAE"),
    "SoraDiTTextEncode": ("clip text", "CONDITIONING"),
    "SoraDiTTimestepConditioning": (
        "model positive steps schedule shift denoise negative sigmas",
        "SORA_CONDITIONING SIGMAS",
    ),
    "SoraDiTEmptyLatent": ("model width height frames batch_size", "LATENT"),
    "SoraDiTDenoise": ("model conditioning latent seed cfg sampler", "LATENT"),
    "SoraDiTDecode": ("vae latent chunk_frames", "IMAGE"),
    "SoraDiTEncode": ("vae images fit", "LATENT"),
    "SoraDiTAssembleVideo": ("images fps audio", "VIDEO"),
    "SoraDiTSaveVideo": ("video filename_prefix container codec quality", ""),
    "SoraDiTToComfyModel": ("model", "MODEL"),
    "SoraDiTLoadLora": ("model lora strength", "SORA_DIT"),
    "SoraDiTLoadVideo": ("video start_frame max_frames every_nth force_fps", "IMAGE AUDIO FLOAT INT"),
    "SoraDiTClipDataset": (
        "folder size frames fps shortest widest split_cuts image_fps multiple",
        "SORA_CLIPS",
    ),
    "SoraDiTSkyDataset": ("count width height frames fps sky_seed part", "SORA_CLIPS"),
    "SoraDiTDatasetDoctor": ("clips clips_in_row frame_height clip", "STRING IMAGE"),
    "SoraDiTTrainAutoencoder": (
        "clips run steps batch learning_rate kind channels reconstruction beta perceptual adversarial "
        "adversarial_start training_seed vae",
        "VAE STRING",
    ),
    "SoraDiTCacheLatents": ("clips vae clip name wordings", "SORA_LATENTS"),
    "SoraDiTNewModel": (
        "vae clip width depth heads patch objective modulation text model_seed latents",
        "SORA_DIT",
    ),
    "SoraDiTTrainingOptions": (
        "schedule warmup decay accumulate clip_gradient weight_decay ema caption_dropout known_frames timesteps "
        "held_out held_out_every precision checkpointing compile save_every log_every",
        "SORA_TRAINING_OPTIONS",
    ),
    "SoraDiTTrainModel": (
        "model clip latents run steps batch learning_rate optimiser sample_prompts sample_every training_seed vae "
        "options",
        "SORA_DIT STRING",
    ),
    "SoraDiTTrainLora": (
        "model clip latents run steps batch learning_rate rank alpha targets sample_prompts sample_every "
        "training_seed vae options",
        "SORA_DIT STRING STRING",
    ),
    "SoraDiTTrainingView": ("run width rows", "IMAGE IMAGE STRING"),
    "SoraDiTSaveModel": ("name dtype overwrite model clip vae", "STRING"),
}
CLASSES = {cls.GET_SCHEMA().node_id: cls for cls in nodes.node_classes()}


def test_every_station_loads():
    assert nodes.failures == {}
    assert list(CLASSES) == list(FROZEN) or set(CLASSES) == set(FROZEN)


@pytest.mark.parametrize("node_id", FROZEN)
def test_ids_and_order_are_as_saved_workflows_know_them(node_id):
    schema = CLASSES[node_id].GET_SCHEMA()
    inputs, outputs = FROZEN[node_id]
    assert [one.id for one in schema.inputs][: len(inputs.split())] == inputs.split()
    assert [one.io_type for one in schema.outputs][: len(outputs.split())] == outputs.split()


@pytest.mark.parametrize("node_id", FROZEN)
def test_everything_is_explained(node_id):
    schema = CLASSES[node_id].GET_SCHEMA()
    assert schema.category.startswith("Sora DiT/") and schema.display_name
    assert schema.description.endswith(".")
    for one in [*schema.inputs, *schema.outputs]:
        assert one.tooltip and one.tooltip.endswith("."), one.id
    for one in schema.inputs:
        for bound in (getattr(one, "min", None), getattr(one, "max", None)):
            if bound is not None:
                assert f"{bound:g}" in one.tooltip or str(bound) in one.tooltip, f"{one.id}: range not told"


@pytest.mark.parametrize("node_id", FROZEN)
def test_execute_takes_what_the_schema_declares(node_id):
    cls = CLASSES[node_id]
    parameters = inspect.signature(cls.execute).parameters
    schema = cls.GET_SCHEMA()
    ids = [one.id for one in schema.inputs]
    gathered = [name for name, one in parameters.items() if one.kind is inspect.Parameter.VAR_KEYWORD]
    if gathered:  # a training's many settings go through together; sockets and what is optional have names
        assert set(parameters) - set(gathered) <= set(ids)
        parameters = {**{one: inspect.Parameter(one, inspect.Parameter.KEYWORD_ONLY) for one in ids}, **parameters}
    else:
        assert list(parameters) == ids
    for one in schema.inputs:
        # ComfyUI fills in no defaults for optional inputs.
        assert (parameters[one.id].default is not inspect.Parameter.empty) == one.optional, one.id
        if one.optional:
            assert parameters[one.id].default == getattr(one, "default", None)


@pytest.mark.parametrize("node_id", FROZEN)
def test_execute_is_short(node_id):
    source = inspect.getsource(CLASSES[node_id].execute)
    assert len(source.splitlines()) <= 14
    assert len(inspect.getsource(CLASSES[node_id].define_schema).splitlines()) <= 90


def test_names_written_out_for_the_schema_are_those_of_the_library():
    assert set(_sampling.SAMPLERS) == set(SAMPLERS)
    assert set(_sampling.SCHEDULES) == set(SCHEDULES)


def test_object_info_is_complete():
    info = object_info(CLASSES.values())
    assert info["SoraDiTDenoise"]["input"]["required"]["seed"][1]["control_after_generate"] is True
    assert info["SoraDiTSaveVideo"]["output_node"] is True
    assert info["SoraDiTLoadModel"]["input"]["required"]["model"][1]["options"][0] == "sora-dit-starter.safetensors"


def test_listing_schemas_imports_nothing_heavy():
    code = (
        "import sys; from sora_dit import nodes; [cls.GET_SCHEMA() for cls in nodes.node_classes()];"
        "print(sorted(set(sys.modules) & {'torch', 'av', 'transformers', 'numpy'}), nodes.failures)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] {}"


def test_one_broken_file_does_not_remove_the_others(monkeypatch):
    monkeypatch.setattr(nodes, "STATIONS", ("decode", "no_such_station", "encode"))
    monkeypatch.setattr(nodes, "failures", {})
    found = nodes._load.__wrapped__()
    assert [cls.__name__ for cls in found] == ["SoraDiTDecode", "SoraDiTEncode"]
    assert "ModuleNotFoundError" in nodes.failures["no_such_station"]
