"""Station 1: a model file becomes a model, a text encoder and a video autoencoder."""

from __future__ import annotations

from functools import partial

from ..dit_core.errors import SoraDiTError
from . import _checks, _files, _models, host
from .host import io

FROM_MODEL_FILE = "from the model file"


class SoraDiTLoadModel(io.ComfyNode):
    """File -> SORA_DIT, CLIP, VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTLoadModel",
            display_name="Load Model (Sora DiT)",
            category="Sora DiT/load",
            description="Opens a model file and gives its three parts: the video model that turns noise into a clip, "
            "the text encoder that reads prompts, and the VAE that turns latents into pictures and back.",
            search_aliases=["checkpoint loader", "load model", "starter"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=host.model_files("model"),
                    default=_files.STARTER,
                    tooltip="The model file (.safetensors). The starter comes with the pack and makes small sky clips "
                    "in seconds, also without a graphics card. Your own files go into the models folder sora_dit.",
                ),
                host.given(
                    io.Combo.Input,
                    "device",
                    options=["auto", "cpu", "cuda", "mps"],
                    default="auto",
                    advanced=True,
                    tooltip="Where to compute. auto takes the graphics card if there is one. cpu always works and is "
                    "slower; cuda is an NVIDIA or AMD card, mps an Apple one.",
                ),
                host.given(
                    io.Combo.Input,
                    "dtype",
                    options=["auto", "float32", "bfloat16", "float16"],
                    default="auto",
                    advanced=True,
                    tooltip="Precision of the numbers. auto is right: exact float32 on a CPU, a 16-bit type on a "
                    "graphics card. float32 needs twice the memory; choose it if a result comes out black.",
                ),
                host.given(
                    io.Combo.Input,
                    "text_encoder",
                    display_name="text encoder",
                    options=[FROM_MODEL_FILE, *host.model_files("text_encoder")],
                    default=FROM_MODEL_FILE,
                    optional=True,
                    advanced=True,
                    tooltip="Where the text encoder comes from. Normally the model file holds its own; another one "
                    "must be the one that the model was trained with. Published T5, UMT5 and CLIP encoders work too: "
                    "put their whole folder (weights, config.json, tokenizer) into the models folder text_encoders.",
                ),
                host.given(
                    io.Combo.Input,
                    "vae",
                    options=[FROM_MODEL_FILE, *host.model_files("vae")],
                    default=FROM_MODEL_FILE,
                    optional=True,
                    advanced=True,
                    tooltip="Where the VAE comes from. Normally the model file holds its own; another one must be the "
                    "one that the model was trained with.",
                ),
            ],
            outputs=[
                host.SoraDit.Output(
                    "model",
                    display_name="model",
                    tooltip="The video model, for conditioning, latent and denoise nodes.",
                ),
                io.Clip.Output(
                    "clip", display_name="clip", tooltip="The text encoder. Connect it to a text encode node."
                ),
                io.Vae.Output(
                    "vae", display_name="vae", tooltip="The video autoencoder. Connect it to a decode or encode node."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, model=None, text_encoder=FROM_MODEL_FILE, vae=FROM_MODEL_FILE) -> bool | str:
        if model == FROM_MODEL_FILE:
            return _checks.verdict(model=lambda: _files_chosen(model, text_encoder, vae))
        chosen = _files_chosen(model, text_encoder, vae)
        return _checks.verdict(**{kind: partial(_check_file, name, kind) for kind, name in chosen.items()})

    @classmethod
    def fingerprint_inputs(cls, model, text_encoder=FROM_MODEL_FILE, vae=FROM_MODEL_FILE, **_) -> list:
        chosen = _files_chosen(model, text_encoder, vae)
        return [_files.fingerprint(host.model_path(name, kind)) for kind, name in chosen.items()]

    @classmethod
    def execute(cls, model, device, dtype, text_encoder=FROM_MODEL_FILE, vae=FROM_MODEL_FILE) -> io.NodeOutput:
        names = _files_chosen(model, text_encoder, vae)
        paths = {kind: host.model_path(name, kind) for kind, name in names.items()}
        parts = _models.load(names, paths, _places(device, dtype))
        _refuse_missing(parts, host.linked_outputs(cls), names["model"])
        host.record(cls, **parts.facts)
        return io.NodeOutput(parts.model, parts.clip, parts.vae)


def _files_chosen(model: str | None, text_encoder: str | None, vae: str | None) -> dict[str, str]:
    """Kind of part -> file name, for the files that are chosen apart from the model file itself."""
    chosen = {"model": model, "text_encoder": text_encoder, "vae": vae}
    if model == FROM_MODEL_FILE:  # the others can be in it, but not it itself
        raise SoraDiTError(f'model is "{model}"; expected the name of a model file.')
    return {kind: name for kind, name in chosen.items() if name not in (None, FROM_MODEL_FILE)}


def _places(device: str, dtype: str) -> _models.Places:
    place = host.device(device)
    return _models.Places(
        device=place,
        dtype=host.dtype(dtype, place),
        output=host.result_device(),
        storage=host.storage_device(place),
        manage=host.manager(place),
        keep=not host.in_comfyui,
    )


def _refuse_missing(parts: _models.Parts, linked: set[int], name: str) -> None:
    """Raise `SoraDiTError` if a node waits for a part that is not there: it would fail only when its turn comes."""
    for slot, part, words, widget in ((1, parts.clip, "text encoder", "text_encoder"), (2, parts.vae, "VAE", "vae")):
        if part is None and slot in linked:
            raise SoraDiTError(
                f'The file "{name}" holds no {words}, but a node is connected to that output. Choose a file that '
                f"has one for the input {widget}, or another model."
            )


def _check_file(name: str, kind: str) -> None:
    _models.check_file(host.model_path(name, kind), kind, name)


NODES = (SoraDiTLoadModel,)
