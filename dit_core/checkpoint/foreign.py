"""Recognising files that are not ours, so that a refusal can say what the file is and what to do.

Recognition only ever words an error message; nothing is loaded because of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import CheckpointError

PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")

# First bytes -> what such a file is. Pickles are handled apart: they get the sentence on converting.
_MAGIC = (
    (b"GGUF", "a GGUF file (llama.cpp)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89PNG", "a PNG picture"),
    (b"<!DOCTYPE", "a web page, probably a failed download"),
    (b"<!doctype", "a web page, probably a failed download"),
    (b"<html", "a web page, probably a failed download"),
)

# What the tensors of well-known kinds of file are called: all listed parts must occur somewhere.
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a LoRA", ("lora_",)),
    ("a Wan video transformer (original names)", ("blocks.0.self_attn.q.weight", "time_projection.1.weight")),
    ("a Wan video transformer (diffusers names)", ("blocks.0.attn1.to_q.weight", "condition_embedder.")),
    ("a Wan video autoencoder", ("decoder.middle.0.residual", "encoder.middle.0.residual")),
    ("a Flux transformer", ("double_blocks.0.",)),
    ("an LTX-Video transformer", ("transformer_blocks.0.scale_shift_table", "patchify_proj.")),
    ("a Stable Diffusion checkpoint", ("model.diffusion_model.",)),
    ("a PixArt or diffusers transformer", ("transformer_blocks.0.",)),
    ("a DiT image transformer", ("blocks.0.adaLN_modulation",)),
    ("a T5 or UMT5 text encoder", ("encoder.block.0.layer.0.SelfAttention.q.weight",)),
    ("a CLIP text encoder", ("text_model.encoder.layers.0.",)),
    ("an image autoencoder", ("decoder.conv_in.weight", "encoder.conv_in.weight")),
    ("a language model", ("model.layers.0.self_attn.q_proj.weight",)),
)


def refuse_by_suffix(path: Path) -> None:
    """Raise `CheckpointError`, with how to convert, for a file name that means pickle."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise CheckpointError(pickle_sentence(path))


def pickle_sentence(path: Path) -> str:
    """Why a pickle file is refused and how to convert it."""
    target = path.with_suffix(".safetensors").name
    return (
        f"{path} is a pickle file, which can run any program when it is opened, so it is never loaded here. "
        "If you trust where it comes from, convert it once: "
        f'python -c "import torch, safetensors.torch as s; w = torch.load({path.name!r}, weights_only=True); '
        "w = w.get('state_dict', w); "
        f's.save_file({{k: v.clone().contiguous() for k, v in w.items()}}, {target!r})" '
        "and use the .safetensors file."
    )


def describe_bytes(path: Path, start: bytes) -> str:
    """Say what a file that is not safetensors looks like, from its first bytes.

    Raises:
        CheckpointError: it is a pickle under another name (the message says how to convert).
    """
    is_pickle = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if is_pickle or (start[:4] == b"PK\x03\x04" and b"data.pkl" in start):
        raise CheckpointError(pickle_sentence(path))
    for magic, kind in (*_MAGIC, (b"PK\x03\x04", "a ZIP archive")):
        if start.startswith(magic):
            return kind
    if not any(start):
        return f"nothing but zero bytes ({len(start)} looked at), probably a failed copy"
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not merely a character cut in two at the end
            return f"unknown binary data beginning {start[:8].hex(' ')}"
        text = start[: error.start].decode("utf-8")
    if any(ord(character) < 32 and character not in "\r\n\t\f" for character in text):
        return f"unknown binary data beginning {start[:8].hex(' ')}"
    line = text.strip().splitlines()[0] if text.strip() else ""
    kind = "JSON text" if line[:1] in ("{", "[") else "a text file"
    return f"{kind} beginning {line[:40]!r}"


def describe_tensors(names: Iterable[str]) -> str:
    """Say what a safetensors file that is not ours looks like, from its tensors' names."""
    names = list(names)
    if not names:
        return "a safetensors file without any tensor"
    count = f"{len(names)} tensor" + ("s" if len(names) != 1 else "")
    for kind, parts in _KINDS:
        if all(any(part in name for name in names) for part in parts):
            return f"{kind} ({count}, for instance {names[0]})"
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"no kind of model this code knows ({count}: {shown})"
