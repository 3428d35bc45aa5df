"""Checkpoints: one `.safetensors` file that holds a model's parts, their configuration and how they were made.

`save_bundle` writes one, `read_header` reads what it says about itself, `load_bundle` builds the models.
Reading headers and checksums does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .hashing import file_sha256
from .header import COMPONENTS, FORMAT, FORMAT_VERSION, Header, TensorInfo, read_header, read_safetensors_header
from .report import LoadReport

if TYPE_CHECKING:
    from .load import Bundle, load_bundle
    from .save import save_bundle

__all__ = [
    "COMPONENTS", "FORMAT", "FORMAT_VERSION", "Bundle", "Header", "LoadReport", "TensorInfo",
    "file_sha256", "load_bundle", "read_header", "read_safetensors_header", "save_bundle",
]  # fmt: skip


def __getattr__(name: str):
    """Import what needs torch on first use."""
    if name in ("Bundle", "load_bundle"):
        from . import load as module
    elif name == "save_bundle":
        from . import save as module
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
