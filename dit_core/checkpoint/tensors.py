"""Between torch tensors and their bytes in a `.safetensors` file, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import CheckpointError
from .header import RawHeader

TORCH_TYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
FILE_TYPES = {dtype: name for name, dtype in TORCH_TYPES.items()}


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, without a copy."""
    flat = tensor.reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy() if flat.numel() else b"")


def read_tensor(file: BinaryIO, raw: RawHeader, name: str) -> Tensor:
    """Read one tensor in its stored type, on the CPU.

    Raises:
        CheckpointError: the file became shorter since its header was read.
    """
    info = raw.tensors[name]
    data = torch.empty(info.end - info.begin, dtype=torch.uint8)
    file.seek(raw.data_start + info.begin)
    if data.numel() and file.readinto(memoryview(data.numpy())) != data.numel():
        raise CheckpointError(f"{raw.path} is cut short: tensor {name} ends early. Copy or download it again.")
    return data.view(TORCH_TYPES[info.dtype]).reshape(info.shape)


def place(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Move a tensor to `device`, floating-point ones to `dtype`; other types keep theirs."""
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)


def read_tensors(file: BinaryIO, raw: RawHeader, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Read the named tensors one after the other, in their stored types."""
    for name in names:
        yield name, read_tensor(file, raw, name)
