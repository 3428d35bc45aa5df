"""Between the LoRA node and `dit_core`: a handle and a file become a second handle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..dit_core.lora import read_lora_header
from .handles import SoraDit


def check_file(path: Path) -> None:
    """Look at the header of a LoRA file; no weights, no torch.

    Raises:
        CheckpointError: it cannot be read, or is no LoRA that can be applied.
    """
    read_lora_header(path)


def with_lora(
    model: SoraDit, path: Path, name: str, strength: float, manager: Callable[[Any], Callable[[str, Any, Any], Any]]
) -> tuple[SoraDit, dict[str, Any], list[str]]:
    """A second model with the LoRA at `path` in it; `model` is not touched, unchanged weights are shared with it.

    manager: device -> manage(kind of part, module, latent colours), as `host.manager`.

    Returns: the handle, facts for the manifest, remarks for the person.
    Raises:
        CheckpointError: the file is damaged, or nothing in it is for this model.
        ShapeError: a layer of the LoRA has another shape than the model's.
    """
    import torch

    from ..dit_core.lora import load_lora
    from ..dit_core.lora import with_lora as merge

    lora = load_lora(path)
    # ComfyUI may have moved the weights, or merged a LoRA of its own loader into them.
    model.weights.rest()
    with torch.inference_mode(False):
        module, report = merge(model.module, lora, strength)
    origin, content = model.base_sha256 or model.sha256, lora.header.sha256 or _checksum(path)
    made = hashlib.sha256(f"{model.sha256} {content} {strength!r}".encode()).hexdigest()
    weights = manager(model.device)("model", module, model.latent_rgb)
    remarks = [report.remark()] if report.unmatched else []
    if lora.header.base_sha256 not in ("", origin, model.sha256):
        remarks.append(f"This LoRA was trained on another model ({report.made_for}); it fits by its shapes.")
    facts = {"lora": name, "lora_sha256": content, "strength": strength, "layers": len(report.matched)}
    changes = {"module": module, "weights": weights, "sha256": made, "base_sha256": origin, "exact": None}
    return replace(model, name=f"{model.name} + {name} x {strength:g}", **changes), facts, remarks


def _checksum(path: Path) -> str:
    from ..dit_core.checkpoint import file_sha256

    return file_sha256(path)
