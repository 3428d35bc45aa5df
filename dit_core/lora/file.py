"""A LoRA's file: one `.safetensors` that ComfyUI's own LoRA loader takes as well."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint.atomic import reason, whole_file
from ..checkpoint.hashing import ContentHash, canonical_order
from ..checkpoint.save import json_text, storage_types, write_tensors
from ..checkpoint.tensors import as_bytes, read_tensors
from ..errors import CheckpointError
from .header import LORA_FORMAT, LORA_FORMAT_VERSION, PREFIX, LayerNames, LoraHeader, read_lora_header
from .layers import LoraLayers


@dataclass(frozen=True)
class LayerChange:
    """The change alpha / rank * B A of one matrix [out, in]: A [rank, in], B [out, rank], both as stored."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix it changes, (out, in)."""
        return self.up.shape[0], self.down.shape[1]

    def product(self, strength: float, device: torch.device | str) -> Tensor:
        """strength * alpha / rank * B A, float32 [out, in] on `device`."""
        factor = strength * self.alpha / len(self.down)
        return factor * (self.up.to(device, torch.float32) @ self.down.to(device, torch.float32))


@dataclass(frozen=True)
class Lora:
    """An opened LoRA file: layer as the file calls it -> its change, and what the file says about itself."""

    layers: dict[str, LayerChange]
    header: LoraHeader


def save_lora(
    path: str | Path,
    layers: LoraLayers,
    provenance: dict[str, Any],
    base_sha256: str = "",
    base_model: str = "",
    dtype: torch.dtype = torch.float32,
) -> LoraHeader:
    """Write trained low-rank weights into one file; it appears whole or not at all.

    Args:
        path: ends in `.safetensors`; an older file there is replaced at the very end.
        provenance: JSON values on how they were made.
        base_sha256, base_model: content checksum and name of the model they were trained on (`Header.sha256`).
        dtype: storage type.

    Returns: the header of the file written.
    Raises:
        CheckpointError: a weight that is not finite, values that are not JSON, or the file cannot be written.
    """
    path, config = Path(path), layers.config
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} cannot be written: a LoRA's name ends in .safetensors.")
    tensors = {PREFIX + name: tensor.detach() for name, tensor in layers.state_dict().items()}
    tensors |= {f"{PREFIX}{name}.alpha": torch.tensor(float(config.alpha)) for name, _ in layers.items()}
    metadata = {
        "format": LORA_FORMAT,
        "format_version": LORA_FORMAT_VERSION,
        "rank": str(config.rank),
        "alpha": f"{config.alpha:g}",
        "targets": json.dumps(config.targets),
        "base_sha256": base_sha256,
        "base_model": base_model.encode("utf-8", "backslashreplace").decode(),  # a file's name may be no Unicode
        "provenance": json_text(path, "provenance", provenance),
    }
    try:
        with whole_file(path) as temporary:
            write_tensors(temporary, tensors, storage_types(path, tensors, dtype, [f"{PREFIX}*.alpha"]), metadata)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {reason(error)}.") from error
    return read_lora_header(path)


def load_lora(path: str | Path) -> Lora:
    """Open a LoRA file, ours or another whose matrices are named as is usual (see `header`), on the CPU.

    Raises:
        CheckpointError: as `read_lora_header`; or a file of ours whose content does not have the checksum it records;
            or a value that is not a finite number.
    """
    header = read_lora_header(path)
    raw = header.raw
    tensors, digest = {}, ContentHash(raw.metadata, raw.tensors)
    try:
        with open(raw.path, "rb") as file:
            for name, tensor in read_tensors(file, raw, canonical_order(raw.tensors)):
                digest.update(as_bytes(tensor))
                tensors[name] = tensor
    except OSError as error:
        raise CheckpointError(f"{raw.path} cannot be read: {reason(error)}.") from error
    if header.sha256 and digest.hexdigest() != header.sha256:
        raise CheckpointError(
            f"{raw.path} is damaged: the checksum of its content is {digest.hexdigest()[:12]}…, the file records "
            f"{header.sha256[:12]}…. Copy or download it again."
        )
    for name, tensor in tensors.items():
        if not tensor.float().isfinite().all():
            raise CheckpointError(f"{raw.path} cannot be used: {name} holds NaN or infinite values.")
    return Lora({layer: _change(names, tensors) for layer, names in header.layers.items()}, header)


def _change(names: LayerNames, tensors: dict[str, Tensor]) -> LayerChange:
    down, up = tensors[names.down], tensors[names.up]
    # Without alpha the change is B A itself, as everybody takes it.
    alpha = float(len(down)) if names.alpha is None else float(tensors[names.alpha].float())
    return LayerChange(down, up, alpha)
