"""Writing a bundle."""

from __future__ import annotations

import fnmatch
import json
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .atomic import reason, whole_file
from .hashing import ContentHash, canonical_order
from .header import COMPONENTS, FORMAT, FORMAT_VERSION, ITEM_BYTES, Header, TensorInfo, read_header
from .tensors import FILE_TYPES, as_bytes

_EMPTY_HASH = "0" * 64


def save_bundle(
    path: str | Path,
    components: Mapping[str, tuple[dict[str, Any], Mapping[str, Tensor]]],
    provenance: dict[str, Any],
    dtype: torch.dtype = torch.float16,
    keep_float32: Iterable[str] = (),
) -> Header:
    """Write models, their configurations and their history into one file; it appears whole or not at all.

    Args:
        path: ends in `.safetensors`; an older file there is replaced at the very end.
        components: "transformer", "text_encoder", "autoencoder" (any of them) -> (configuration, state dict).
        provenance: JSON values on how the weights were made.
        dtype: storage type of floating-point tensors. One with values beyond its range is stored as float32.
        keep_float32: full names or patterns (`transformer.final.*`) of tensors stored as float32 all the same.

    Returns: the header of the file written.
    Raises:
        CheckpointError: nothing to save, an unknown component, a weight that is not finite, a pattern that names
            nothing, values that are not JSON, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} cannot be written: a checkpoint's name ends in .safetensors.")
    tensors = _named_tensors(path, components)
    types = storage_types(path, tensors, dtype, list(keep_float32))
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "components": json_text(path, "components", {n: config for n, (config, _) in components.items()}, False),
        "provenance": json_text(path, "provenance", provenance),
    }
    try:
        with whole_file(path) as temporary:
            write_tensors(temporary, tensors, types, metadata)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {reason(error)}.") from error
    return read_header(path)


def _named_tensors(path: Path, components: Mapping[str, tuple[dict[str, Any], Mapping[str, Tensor]]]):
    """Full name -> tensor, with every tied tensor once."""
    if not components:
        raise CheckpointError(f"{path} cannot be written: there is no component; expected {', '.join(COMPONENTS)}.")
    tensors: dict[str, Tensor] = {}
    for component, (_, state) in components.items():
        if component not in COMPONENTS:
            raise CheckpointError(
                f"{path} cannot be written: component {component!r} is unknown; expected {', '.join(COMPONENTS)}."
            )
        seen = set()
        for name, tensor in state.items():
            # Views of one memory with one shape are one tied weight; the loader knows the ties from the model.
            key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
            if tensor.is_meta or (tensor.numel() and key in seen):
                if tensor.is_meta:
                    raise CheckpointError(f"{path} cannot be written: {component}.{name} has no values (meta device).")
                continue
            seen.add(key)
            tensors[f"{component}.{name}"] = tensor.detach()
    return tensors


def storage_types(
    path: Path, tensors: dict[str, Tensor], dtype: torch.dtype, keep: list[str]
) -> dict[str, torch.dtype]:
    """Name -> type to store it in; see `save_bundle`, whose errors it raises."""
    for pattern in keep:
        if not fnmatch.filter(tensors, pattern):
            raise CheckpointError(f"{path} cannot be written: keep_float32 has {pattern!r}; no tensor is called so.")
    types = {}
    for name, tensor in tensors.items():
        types[name] = tensor.dtype
        if not tensor.is_floating_point():
            continue
        largest = tensor.abs().max().item() if tensor.numel() else 0.0
        if not largest <= torch.finfo(torch.float32).max:  # also true of NaN
            raise CheckpointError(f"{path} cannot be written: {name} holds NaN or infinite values (as float32).")
        kept = largest > torch.finfo(dtype).max or any(fnmatch.fnmatchcase(name, pattern) for pattern in keep)
        types[name] = torch.float32 if kept else dtype
    return types


def json_text(path: Path, what: str, value: Any, allow_nan: bool = True) -> str:
    """`value` as a text for the metadata; file names that are no Unicode come out escaped. Raises `CheckpointError`."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=allow_nan)
        is_unicode = text.encode("utf-8", "ignore").decode("utf-8") == text
        return text if is_unicode else json.dumps(value, allow_nan=allow_nan)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be written: its {what}: not JSON ({error}).") from error


def write_tensors(
    path: Path, tensors: dict[str, Tensor], types: dict[str, torch.dtype], metadata: dict[str, str]
) -> None:
    """Write a safetensors file, flushed to disk, with the checksum of its content as `content_sha256` in its metadata.

    Raises:
        OSError: the file is there already, or cannot be written.
    """
    metadata, infos, position = {**metadata, "content_sha256": _EMPTY_HASH}, {}, 0
    for name, dtype in types.items():
        infos[name] = TensorInfo(FILE_TYPES[dtype], tuple(tensors[name].shape), 0, 0)
    order = canonical_order(infos)
    for name in order:
        end = position + tensors[name].numel() * ITEM_BYTES[infos[name].dtype]
        infos[name] = TensorInfo(infos[name].dtype, infos[name].shape, position, end)
        position = end
    with open(path, "xb") as file:
        file.write(_header_bytes(infos, order, metadata))
        digest = ContentHash(metadata, infos)
        for name in order:
            data = as_bytes(tensors[name].to("cpu", types[name]).contiguous())
            file.write(data)
            digest.update(data)
        # The checksum is known only now; its place in the header has been kept.
        file.seek(0)
        file.write(_header_bytes(infos, order, {**metadata, "content_sha256": digest.hexdigest()}))
        file.flush()
        os.fsync(file.fileno())


def _header_bytes(infos: dict[str, TensorInfo], order: list[str], metadata: dict[str, str]) -> bytes:
    table: dict[str, Any] = {"__metadata__": metadata}
    for name in order:
        info = infos[name]
        table[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [info.begin, info.end]}
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
