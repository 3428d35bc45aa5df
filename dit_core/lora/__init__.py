"""LoRA (arXiv:2106.09685): a change of a model's matrices W by a product of two thin ones, W + s * a/r * B A.

`add_lora` makes trainable layers, `save_lora` and `load_lora` keep them in a file, `apply_lora` and `with_lora` merge
them into weights. Reading headers does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .config import GROUPS, LoraConfig
from .header import LoraHeader, read_lora_header

if TYPE_CHECKING:
    from .apply import AppliedLora, LoraReport, apply_lora, merged_weights, with_lora
    from .file import Lora, load_lora, save_lora
    from .layers import LoraLayers, add_lora

__all__ = [
    "GROUPS", "AppliedLora", "Lora", "LoraConfig", "LoraHeader", "LoraLayers", "LoraReport", "add_lora", "apply_lora",
    "load_lora", "merged_weights", "read_lora_header", "save_lora", "with_lora",
]  # fmt: skip

_HOME = {
    "apply": ("AppliedLora", "LoraReport", "apply_lora", "merged_weights", "with_lora"),
    "file": ("Lora", "load_lora", "save_lora"),
    "layers": ("LoraLayers", "add_lora"),
}


def __getattr__(name: str):
    """Import what needs torch on first use."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
