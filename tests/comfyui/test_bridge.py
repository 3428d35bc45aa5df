"""Our models in core nodes and core's values in ours, in a real ComfyUI.

Runs when COMFYUI_PATH says where one is (and COMFY_PYTHON, if its environment is not this one); skips otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sora_dit
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import save_bundle
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

COMFYUI = os.environ.get("COMFYUI_PATH")
PYTHON = os.environ.get("COMFY_PYTHON", sys.executable)
pytestmark = pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH is not set")
CHANNELS = 6


def make_model(path: Path, text_width: int = 24, **changes) -> None:
    """A small random model of one objective."""
    torch.manual_seed(3)
    statistics = {"latent_mean": (0.1,) * CHANNELS, "latent_std": (1.5,) * CHANNELS}
    text = TextEncoder.from_config(
        {"family": "t5", "tokenizer": "byt5", "max_length": 64,
         "config": {"vocab_size": 259, "d_model": text_width, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}}
    )  # fmt: skip
    transformer = VideoDiT(
        TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=CHANNELS, text_width=text_width,
                          patch=(1, 2, 2), training={"num_train_timesteps": 1000}, **statistics, **changes)
    )  # fmt: skip
    for p in transformer.parameters():
        torch.nn.init.normal_(p, std=0.1)
    rgb = tuple((0.1 * k, 0.2, -0.1) for k in range(CHANNELS + 1))
    autoencoder = CausalVideoAutoencoder(
        AutoencoderConfig(latent_channels=CHANNELS, encoder_channels=(4, 4, 4), decoder_channels=(4, 4, 4),
                          encoder_blocks=0, decoder_blocks=0, latent_rgb=rgb, **statistics)
    )  # fmt: skip
    parts = {
        "transformer": (transformer.config.to_dict(), transformer.state_dict()),
        "text_encoder": (text.config_dict(), text.module.state_dict()),
        "autoencoder": (autoencoder.config.to_dict(), autoencoder.state_dict()),
    }
    save_bundle(path, parts, {"made": "at random, for tests"}, dtype=torch.float32)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What the driver saw."""
    base = tmp_path_factory.mktemp("comfyui")
    models = base / "models" / "sora_dit"
    models.mkdir(parents=True)
    make_model(models / "flow.safetensors", skip_std=(1.0,) * CHANNELS)
    make_model(models / "epsilon.safetensors", objective="epsilon")
    make_model(models / "v.safetensors", objective="v")
    make_model(models / "wide.safetensors", text_width=40)
    command = [PYTHON, str(Path(__file__).with_name("driver.py")), COMFYUI, str(Path(sora_dit.__file__).parent), base]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    line = next((one for one in done.stdout.splitlines() if one.startswith("RESULT ")), None)
    assert line, done.stdout[-1000:] + done.stderr[-3000:]
    return json.loads(line[7:])


@pytest.fixture
def of(found, request):
    """Results of the check that a test is named after."""
    result = found[request.node.name.removeprefix("test_")]
    assert "error" not in result, result["error"]
    return result


def test_ksampler_equals_denoise(of):
    assert of["flow"]["far"] <= 1e-4 and of["flow"]["size"] > 0.5
    # noise levels reach 157 here: relative to that
    assert all(of[kind]["far"] <= 1e-4 * max(1, of[kind]["size"]) for kind in ("epsilon", "v"))


def test_video_to_video_and_masks(of):
    assert of["half"] <= 1e-4
    assert of["frames"]["far"] <= 1e-4 and of["frames"]["kept"] <= 1e-5
    assert of["region"]["far"] <= 1e-4 and of["region"]["kept"] <= 1e-5


def test_other_samplers_run(of):
    assert of["finite"] and of["skipping changes it"] > 0


def test_loras(of):
    assert of["changes"] > 1e-2 and of["as by hand"] < 1e-4
    assert of["comes off"] < 1e-5 and of["ours after"] < 1e-4


def test_own_lora_equals_cores(of):
    assert of["changes"] > 1e-2 and max(of["own"], of["sampled"]) <= 1e-4
    assert of["copied"] == 4 and of["listed"]
    assert of["base"] < 1e-5 and max(of["core again"], of["own again"]) <= 1e-4


def test_offload(of):
    assert of["layers"] > 10 and of["far"] < 1e-4
    assert of["memory"] == 2 * (3 * 2 * 3) * 8 * 24 * 4  # two prompts, 18 tokens, eight vectors each, float32
    assert all(kind != "NoneType" for kind in of["patchers"])


def test_release(of):
    assert of["alive"] == 0


def test_vae(of):
    assert of["shape"] == [9, 32, 48, 3]
    assert max(of["decode"], of["tiled"], of["encode"]) < 1e-5


def test_core_vae_in_our_nodes(of):
    assert of["latent"] == of["empty"] == [1, 4, 5, 4, 6]
    assert of["frames"] == [5, 32, 48, 3] and of["far"] < 1e-5


def test_wires(of):
    assert of["combined"] <= 1e-4 and of["zeroed"] <= 1e-4 and of["batch"][0] == 2


def test_previews(of):
    assert len(of["own"]) == 6 and len(of["core"]) == 6


def test_wrong_things_are_said(of):
    assert "text encoder of width 40" in of["encoder"] and "width 24" in of["encoder"]
    assert "16 channels" in of["vae"] and "6" in of["vae"]
