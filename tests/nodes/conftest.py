"""A tiny model with random weights, and a headless session around it: every node runs in milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sora_dit import nodes
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import save_bundle
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT
from sora_dit.headless.session import Session, use

TEXT_WIDTH, CHANNELS = 32, 4
TINY = "tiny.safetensors"


def make_bundle(
    path: Path, seed: int = 0, text_width: int = TEXT_WIDTH, channels: int = CHANNELS, parts: str = "tea"
) -> Path:
    """Write a random model; `parts` says which of t(ransformer), e(ncoder), a(utoencoder) it holds."""
    torch.manual_seed(seed)
    statistics = {"latent_mean": (0.1,) * channels, "latent_std": (1.5,) * channels}
    transformer = VideoDiT(
        TransformerConfig(
            width=24, depth=2, heads=2, ff_width=32, in_channels=channels, text_width=text_width,
            training={"shift": 2.0}, **statistics,
        )
    )  # fmt: skip
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    autoencoder = CausalVideoAutoencoder(
        AutoencoderConfig(
            latent_channels=channels, encoder_channels=(4, 4, 4), decoder_channels=(4, 4, 4), encoder_blocks=0,
            decoder_blocks=0, **statistics,
        )
    )  # fmt: skip
    encoder = TextEncoder.from_config(
        {
            "family": "t5", "tokenizer": "byt5", "max_length": 64,
            "config": {"vocab_size": 259, "d_model": text_width, "d_kv": 8, "d_ff": 16, "num_layers": 1,
                       "num_heads": 2},
        }
    )  # fmt: skip
    components = {
        "t": ("transformer", transformer.config.to_dict(), transformer),
        "e": ("text_encoder", encoder.config_dict(), encoder.module),
        "a": ("autoencoder", autoencoder.config.to_dict(), autoencoder),
    }
    chosen = {name: (config, module.state_dict()) for name, config, module in (components[part] for part in parts)}
    save_bundle(path, chosen, {"made": "at random, for tests"})
    return path


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory) -> Path:
    """A models folder with the tiny model in it."""
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder / TINY)
    return folder


@pytest.fixture
def session(models_folder, tmp_path):
    """A headless session with empty input and output folders."""
    torch.set_num_threads(1)
    (tmp_path / "input").mkdir()
    with use(
        Session(output_dir=tmp_path / "output", input_dir=tmp_path / "input", models_dirs=[models_folder], device="cpu")
    ) as one:
        yield one


@pytest.fixture(scope="session")
def station():
    """Node class by its id without the prefix."""
    return {cls.GET_SCHEMA().node_id.removeprefix("SoraDiT"): cls for cls in nodes.node_classes()}


@pytest.fixture
def run(station, session):
    """`run("Decode", vae=..., latent=...)`: the outputs as a tuple; widgets not given have their defaults."""

    def call(name: str, /, **inputs):
        cls = station[name]
        defaults = {
            one.id: one.default for one in cls.GET_SCHEMA().inputs if hasattr(one, "default") and not one.optional
        }
        return cls.execute(**(defaults | inputs)).args

    return call


@pytest.fixture
def go(run):
    """As `run`, but as ComfyUI calls nodes: without gradients."""

    def call(name, /, **inputs):
        with torch.inference_mode():
            return run(name, **inputs)

    return call


@pytest.fixture
def parts(run):
    """(model, clip, vae) of the tiny model."""
    return run("LoadModel", model=TINY)


@pytest.fixture
def generate(run, parts):
    """`generate(latent, **changes)`: the whole way to a denoised LATENT."""
    model, clip, _ = parts

    def call(latent, text="a red balloon", negative=None, steps=3, denoise=1.0, sigmas=None, **sampling):
        prompts = {"positive": run("TextEncode", clip=clip, text=text)[0]}
        if negative is not None:
            prompts["negative"] = run("TextEncode", clip=clip, text=negative)[0]
        if sigmas is not None:
            prompts["sigmas"] = sigmas
        plan = run("TimestepConditioning", model=model, steps=steps, denoise=denoise, **prompts)[0]
        return run("Denoise", model=model, conditioning=plan, latent=latent, **sampling)[0]

    return call


@pytest.fixture
def empty(run, parts):
    """An empty latent of 9 frames, 32 x 24."""
    return run("EmptyLatent", model=parts[0], width=32, height=24, frames=9)[0]


@pytest.fixture
def make_model(session, tmp_path):
    """`make_model("own.safetensors", ...)` writes a random model where the session looks; see `make_bundle`."""
    session.models_dirs.append(tmp_path)
    return lambda name, **what: make_bundle(tmp_path / name, **what)


@pytest.fixture
def say(run):
    """`say("Decode", vae=None, ...)`: the sentence of the error that this must raise."""

    def call(name: str, /, **inputs) -> str:
        with pytest.raises(SoraDiTError) as caught:
            run(name, **inputs)
        return str(caught.value)

    return call


@pytest.fixture
def few_held_out_clips(monkeypatch):
    """Measured in batches of two, 64 clips take longer than all steps of a test."""
    monkeypatch.setattr("sora_dit.dit_core.training.transformer.HELD_OUT_CLIPS", 4)


@pytest.fixture
def latents(go, parts):
    """Cached latents of 12 skies of 16 x 16, 5 frames."""
    clips = go("SkyDataset", count=12, width=16, height=16, frames=5)[0]
    return go("CacheLatents", clips=clips, vae=parts[2], clip=parts[1], name="skies")[0]


@pytest.fixture
def train(go, parts, latents):
    """`train(steps=4, ...)`: what Train Model gives; options as a dict."""

    def call(steps=4, options=None, model=None, **more):
        chosen = {"log_every": 1, "held_out_every": 2} | (options or {})
        wanted = {"model": model or parts[0], "clip": parts[1], "latents": latents, "run": "a", "batch": 2} | more
        return go("TrainModel", steps=steps, options=go("TrainingOptions", **chosen)[0], **wanted)

    return call


@pytest.fixture
def folder(session):
    """Of the run "a"."""
    return session.output_dir / "sora_dit_training" / "a"


@pytest.fixture
def own_models(session, tmp_path):
    """A models folder that may be written to, before the shared one."""
    place = tmp_path / "models"
    place.mkdir()
    session.models_dirs.insert(0, place)
    return place
