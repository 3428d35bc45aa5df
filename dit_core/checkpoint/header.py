"""Reading the header of a `.safetensors` file: what it holds and says, without reading a single weight.

Layout (https://github.com/huggingface/safetensors#format): 8 bytes little-endian length N, N bytes of JSON
`{"__metadata__": {str: str}, name: {"dtype", "shape", "data_offsets": [begin, end]}}`, then the data without holes.
Every field is checked, because a damaged file must be found here and not as a crash in a kernel.
"""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .atomic import reason
from .foreign import describe_bytes, describe_tensors, refuse_by_suffix

FORMAT, FORMAT_VERSION = "sora_dit", "1"
COMPONENTS = ("transformer", "text_encoder", "autoencoder")
MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit

ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: safetensors dtype name, shape, first and last + 1 byte counted from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class RawHeader:
    """Header of any safetensors file: its tensors in file order, its metadata, and where the data starts (bytes)."""

    path: Path
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


@dataclass(frozen=True)
class Header:
    """What a bundle says about itself.

    Attributes:
        components: component name -> its configuration dictionary.
        provenance: how the weights were made, as the writer recorded it.
        tensors: full name (`transformer.…`) -> `TensorInfo`.
        sha256: the checksum recorded in the file (`load_bundle` verifies it).
    """

    components: dict[str, dict[str, Any]]
    provenance: dict[str, Any]
    tensors: dict[str, TensorInfo]
    sha256: str
    raw: RawHeader = field(repr=False)


def read_header(path: str | Path) -> Header:
    """Read what a bundle says about itself, without loading weights.

    Raises:
        CheckpointError: no such file, not a safetensors file, damaged, or not one of ours (the message says what it
            looks like).
    """
    raw = read_safetensors_header(path)
    meta = raw.metadata
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"{raw.path} is not a Sora DiT checkpoint: its metadata has no format={FORMAT!r}. "
            f"It looks like {describe_tensors(raw.tensors)}."
        )
    if meta.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{raw.path} is a Sora DiT checkpoint of format version {meta.get('format_version')!r}; this code reads "
            f"version {FORMAT_VERSION}. A newer version of the pack is needed to read it."
        )
    components = _json_object(raw, "components")
    provenance = _json_object(raw, "provenance")
    if unknown := sorted(set(components) - set(COMPONENTS)):
        raise CheckpointError(
            f"{raw.path} holds unknown components {', '.join(unknown)}; expected some of {', '.join(COMPONENTS)}."
        )
    if bad := sorted(name for name, config in components.items() if not isinstance(config, dict)):
        raise CheckpointError(f"{raw.path} is damaged: the configuration of {', '.join(bad)} is not a dictionary.")
    sha256 = meta.get("content_sha256", "")
    if len(sha256) != 64:
        raise CheckpointError(f"{raw.path} is damaged: its metadata has no content_sha256 of 64 characters.")
    return Header(components, provenance, raw.tensors, sha256, raw)


def read_safetensors_header(path: str | Path) -> RawHeader:
    """Read and check the header of any safetensors file, ours or not.

    Raises:
        CheckpointError: the file cannot be read, is a pickle, is not safetensors, or is damaged or cut short.
    """
    path = Path(path)
    refuse_by_suffix(path)
    if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        raise CheckpointError(f"{path} is a folder; expected one .safetensors file.")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(4096)
            length = _header_length(path, size, start)
            file.seek(8)
            text = file.read(length)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; expected a .safetensors file.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}.") from error
    return _parse(path, text, size)


def _header_length(path: Path, size: int, start: bytes) -> int:
    if size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes); expected a .safetensors file. Copy or download it again.")
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
    if len(start) >= 9 and start[8:9] == b"{" and 2 <= length <= MAX_HEADER_BYTES:
        if length > size - 8:
            raise CheckpointError(
                f"{path} is cut short: its header alone takes {length + 8} bytes, but the file has {size}. "
                "Copy or download it again."
            )
        return length
    raise CheckpointError(f"{path} is not a .safetensors file: it looks like {describe_bytes(path, start)}.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _parse(path: Path, text: bytes, size: int) -> RawHeader:
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is not valid JSON ({error}).") from error
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path} is damaged: its metadata is not a table of texts.")
    tensors = {name: _tensor_info(path, name, entry) for name, entry in table.items()}
    _check_cover(path, tensors, size - 8 - len(text))
    return RawHeader(path, tensors, metadata, 8 + len(text))


def _tensor_info(path: Path, name: str, entry: Any) -> TensorInfo:
    """Check one entry by itself: known type, whole sizes, and as many bytes as its shape needs."""

    def whole_numbers(value: Any) -> bool:
        return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{path} is damaged: the header's entry of {name} is not dtype, shape, data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise CheckpointError(
            f"{path}: tensor {name} has type {dtype!r}; this code reads {', '.join(ITEM_BYTES)}. "
            "The file is damaged or of another kind."
        )
    if not whole_numbers(shape) or not whole_numbers(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{path} is damaged: tensor {name} has shape {shape!r} and data_offsets {offsets!r}.")
    begin, end = offsets
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if end - begin != needed:
        raise CheckpointError(
            f"{path} is damaged: tensor {name} ({dtype} {shape}) needs {needed} bytes, its header gives {end - begin}."
        )
    return TensorInfo(dtype, tuple(shape), begin, end)


def _check_cover(path: Path, tensors: dict[str, TensorInfo], available: int) -> None:
    """The tensors must follow each other without holes or overlap and fill the file exactly."""
    position = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != position:
            raise CheckpointError(
                f"{path} is damaged: tensor {name} starts at byte {info.begin} of the data, expected {position}."
            )
        position = info.end
    if position > available:
        raise CheckpointError(
            f"{path} is cut short: its tensors take {position} bytes, the file has {available}. "
            "Copy or download it again."
        )
    if position < available:
        raise CheckpointError(
            f"{path} is damaged: its tensors take {position} bytes, but {available} bytes follow the header."
        )


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _json_object(raw: RawHeader, key: str) -> dict[str, Any]:
    # A model built with NaN works out nothing but NaN; what is only a record of a training may well hold one.
    refuse = {"parse_constant": _no_number} if key == "components" else {}
    try:
        value = json.loads(raw.metadata[key], **refuse)
    except KeyError:
        raise CheckpointError(f"{raw.path} is damaged: its metadata has no {key}.") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{raw.path} is damaged: {key} in its metadata is not valid JSON ({error}).") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{raw.path} is damaged: {key} in its metadata is not a dictionary.")
    return value
