"""Model files: missing, misnamed, damaged, foreign, incomplete, or made by code that knows more than this."""

from __future__ import annotations

import json
import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

LOOKED = "Looked in: models, "  # and the other folders


def parts_of(data: bytes) -> tuple[int, dict, bytes]:
    """(where the data begins, the header, the data) of a safetensors file."""
    start = 8 + struct.unpack("<Q", data[:8])[0]
    return start, json.loads(data[8:start]), data[start:]


def with_header(change):
    """The good file with its header changed in place by `change`."""

    def damage(good: bytes) -> bytes:
        _, header, data = parts_of(good)
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    return damage


def metadata(**fields):
    return with_header(lambda header: header["__metadata__"].update(fields))


def first_tensor(**fields):
    return with_header(lambda header: next(header[name] for name in header if name != "__metadata__").update(fields))


def flipped(place):
    """The good file with one bit turned; `place` counts from the start of the data; "brace" is the header's last."""

    def damage(good: bytes) -> bytes:
        damaged, data = bytearray(good), parts_of(good)[0]
        damaged[good.rindex(b"}", 0, data) if place == "brace" else data + place] ^= 4
        return bytes(damaged)

    return damage


AGAIN = "Copy or download it again."
DAMAGED = [
    # what was done to the file, its bytes or a function of the good file's, exit code, words
    ("empty", b"", 2, ["bad.safetensors is empty (0 bytes)", AGAIN]),
    ("cut in its first number", lambda good: good[:5], 2, ["is not a .safetensors file"]),
    ("cut in its header", lambda good: good[:900], 2, ["is cut short: its header alone takes", AGAIN]),
    ("cut in its data", lambda good: good[: len(good) // 2], 2, ["is cut short: its tensors take", AGAIN]),
    ("one byte short", lambda good: good[:-1], 2, ["is cut short", AGAIN]),
    ("two bytes too many", lambda good: good + b"xx", 2, ["is damaged", "bytes follow the header"]),
    ("a bit of its length", lambda good: bytes([good[0] ^ 8]) + good[1:], 2, ["is damaged"]),
    ("a bit of its header's form", flipped("brace"), 2, ["is damaged: its header is not valid JSON"]),
    (
        "a bit of its header's text",
        lambda good: good.replace(b"at random", b"at sandom"),
        1,
        ["Load model (node 1)", "is damaged", "checksum", AGAIN],
    ),
    ("a bit of its data", flipped(600), 1, ["Load model (node 1)", "is damaged", "checksum", AGAIN]),
    ("zeros", bytes(5000), 2, ["nothing but zero bytes", "failed copy"]),
    ("a download that failed", b"<!DOCTYPE html><html>404", 2, ["a web page, probably a failed download"]),
    ("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\n", 2, ["Git LFS pointer", "git lfs pull"]),
    ("a GGUF file", b"GGUF\x03\0\0\0" + bytes(90), 2, ["it looks like a GGUF file"]),
    ("prose", b"the weights are elsewhere", 2, ["it looks like a text file beginning 'the weights are elsewhere'"]),
    ("a pickle by another name", pickle.dumps({"a": 1}), 2, ["is a pickle file", "convert it once", "torch.load"]),
    ("a newer format", metadata(format_version="9"), 2, ["format version '9'; this code reads version 1"]),
    ("an unknown type of number", first_tensor(dtype="F4"), 2, ["has type 'F4'; this code reads F64"]),
    ("a shape that does not fit", first_tensor(shape=[3, 3]), 2, ["is damaged: tensor", "needs", "bytes"]),
    ("no configuration", metadata(components="{"), 2, ["components in its metadata is not valid JSON"]),
    ("a part unknown", metadata(components='{"upscaler": {}}'), 2, ["unknown components upscaler; expected some of"]),
]


@pytest.mark.parametrize(("content", "code", "words"), [row[1:] for row in DAMAGED], ids=[row[0] for row in DAMAGED])
def test_damaged(desk, content, code, words):
    good = (desk.shared / "tiny.safetensors").read_bytes()
    desk.write("models/bad.safetensors", content(good) if callable(content) else content)
    words = ["Load model (node 1)", "models/bad.safetensors", *words]
    desk.does("run", "flow.json", "--set", "Load model.model=bad.safetensors", code=code, words=words)


CONVERT = ["pickle file, which can run any program", "convert it once", "weights_only=True", "'old.safetensors'"]
NAMES = [
    # the name that is set, exit code, words
    ("", 2, ["Load model (node 1), model: There is no model file", LOOKED]),
    ("tinny.safetensors", 2, ['no model file "tinny.safetensors". Did you mean "tiny.safetensors"?', LOOKED]),
    ("tiny", 2, ['There is no model file "tiny".', LOOKED]),
    ("folder.safetensors", 2, ['There is no model file "folder.safetensors".', LOOKED]),
    ("dangling.safetensors", 2, ['There is no model file "dangling.safetensors".', LOOKED]),
    ("old.pt", 2, CONVERT),
    ("old.pth", 2, CONVERT),
    ("old.ckpt", 2, CONVERT),
    ("old.bin", 2, CONVERT),
    ("../flow.json", 2, ['"../flow.json" leads out of the model folders', LOOKED]),
    ("../../../../../../../../etc/passwd", 2, ["leads out of the model folders"]),
    ("/no/such/model.safetensors", 2, ['There is no model file "/no/such/model.safetensors".']),
    ("x" * 400 + ".safetensors", 2, ['"xxxx', '..." (412 letters)', LOOKED]),
    ("\ud800.safetensors", 2, ["There is no model file", LOOKED]),
    ("deeper/../good.safetensors", 0, []),
]


@pytest.mark.parametrize(("name", "code", "words"), NAMES, ids=[f"{name!a:.40}" for name, *_ in NAMES])
def test_name(desk, name, code, words):
    for ending in ("pt", "pth", "ckpt", "bin"):
        torch.save({"weight": torch.zeros(2)}, desk.models / f"old.{ending}")
    (desk.models / "folder.safetensors").mkdir()
    (desk.models / "deeper").mkdir()
    os.symlink("gone", desk.models / "dangling.safetensors")
    desk.write("models/good.safetensors", (desk.shared / "tiny.safetensors").read_bytes())
    desk.does("run", "flow.json", "--set", f"Load model.model={name}", code=code, words=words)


def foreign(desk, _, *names):
    save_file({name: torch.zeros(2) for name in names}, desk.models / "other.safetensors")


def bundle(desk, make_bundle, **what):
    make_bundle(desk.models / "other.safetensors", **what)


def configured(component, **fields):
    """A file that is whole, checksum and all, but made with another configuration."""

    def make(desk, _):
        from sora_dit.dit_core.checkpoint import load_bundle, save_bundle

        found = load_bundle(desk.shared / "tiny.safetensors")
        parts = {}
        for name, config in found.header.components.items():
            model = getattr(found, name)
            state = (model.module if name == "text_encoder" else model).state_dict()
            parts[name] = (config | (fields if name == component else {}), state)
        save_bundle(desk.models / "other.safetensors", parts, {})

    return make


OTHERS = [
    # what file it is, who makes it, the input it is set for, exit code, words
    ("Stable Diffusion", lambda *desk: foreign(*desk, "model.diffusion_model.a"), "model", 2,
     ["other.safetensors is not a Sora DiT checkpoint", "It looks like a Stable Diffusion checkpoint"]),
    ("a LoRA", lambda *desk: foreign(*desk, "a.lora_up.weight"), "model", 2, ["It looks like a LoRA"]),
    ("something", lambda *desk: foreign(*desk, "abc"), "model", 2, ["no kind of model this code knows", "abc"]),
    ("without a VAE", lambda *desk: bundle(*desk, parts="te"), "model", 1,
     ['Load model (node 1): The file "other.safetensors" holds no VAE', "the input vae"]),
    ("without a text encoder", lambda *desk: bundle(*desk, parts="ta"), "model", 1,
     ['Load model (node 1): The file "other.safetensors" holds no text encoder', "the input text_encoder"]),
    ("only a VAE", lambda *desk: bundle(*desk, parts="a"), "model", 2,
     ['Load model (node 1), model: The file "other.safetensors" holds no video model', "it holds: VAE"]),
    ("no VAE as a VAE", lambda *desk: bundle(*desk, parts="t"), "vae", 2,
     ['Load model (node 1), vae: The file "other.safetensors" holds no VAE', "it holds: video model"]),
    ("another model's VAE", lambda *desk: bundle(*desk, channels=8), "vae", 1,
     ["Decode (node 7): The latent has 4 channels, but this VAE works with 8"]),
    ("another model's text encoder", lambda *desk: bundle(*desk, text_width=48), "text_encoder", 1,
     ["Timesteps (node 5): positive comes from a text encoder of width 48", "one of width 32"]),
    ("an objective to come", configured("transformer", objective="x0"), "model", 1,
     ["Load model (node 1)", "transformer", "objective is 'x0'; expected one of flow, epsilon, v."]),
    ("a key to come", configured("transformer", memory_tokens=4), "model", 1, ["unknown key memory_tokens"]),
    ("a width that heads do not divide", configured("transformer", width=25), "model", 1, ["width 25 over 2 heads"]),
    ("more blocks than weights", configured("transformer", depth=3), "model", 1,
     ["do not fit its configuration", "missing (transformer.blocks.2", "[2, 6, 24], expected [3, 6, 24]"]),
    ("a text encoder to come", configured("text_encoder", family="gpt"), "model", 1,
     ["family is 'gpt'; expected one of t5, umt5, clip_text_model."]),
    ("no channels", configured("autoencoder", latent_channels=0), "model", 1, ["latent_channels = 0"]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "widget", "code", "words"), [row[1:] for row in OTHERS], ids=[r[0] for r in OTHERS])
def test_other_file(desk, make_bundle, make, widget, code, words):
    make(desk, make_bundle)
    desk.does("run", "flow.json", "--set", f"Load model.{widget}=other.safetensors", code=code, words=words)


def test_three_lost_files_are_three_lines(desk):
    settings = [f"Load model.{one}=lost.safetensors" for one in ("model", "text_encoder", "vae")]
    words = [f"Load model (node 1), {one}: There is no" for one in ("model", "text_encoder", "vae")]
    desk.does("run", "flow.json", *(part for one in settings for part in ("--set", one)), code=2, words=words, lines=3)


def test_nan_in_a_configuration_is_refused(desk):
    good = (desk.shared / "tiny.safetensors").read_bytes()
    components = json.loads(parts_of(good)[1]["__metadata__"]["components"])
    components["transformer"]["rope_theta"] = float("nan")
    desk.write("models/nan.safetensors", metadata(components=json.dumps(components))(good))
    words = ["models/nan.safetensors is damaged: components in its metadata is not valid JSON (NaN is no number)."]
    desk.does("run", "flow.json", "--set", "Load model.model=nan.safetensors", code=2, words=words)


def test_weights_that_give_no_numbers(desk):
    """A model that was trained into the ground: the sentence comes instead of a black clip."""
    from sora_dit.dit_core.checkpoint import load_bundle, save_bundle

    found = load_bundle(desk.shared / "tiny.safetensors")
    state = {name: tensor * 1e30 for name, tensor in found.transformer.state_dict().items()}
    rest = {name: (found.header.components[name], getattr(found, name)) for name in ("text_encoder", "autoencoder")}
    parts = {"transformer": (found.header.components["transformer"], state)}
    parts |= {name: (config, getattr(model, "module", model).state_dict()) for name, (config, model) in rest.items()}
    save_bundle(desk.models / "burnt.safetensors", parts, {}, dtype=torch.float32)
    words = ["Denoise (node 6)", "not finite (NaN)", "lower guidance scale"]
    desk.does("run", "flow.json", "--set", "Load model.model=burnt.safetensors", code=1, words=words)
