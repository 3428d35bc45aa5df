"""The number type that a training began with is the one it goes on with, whatever `auto` would mean today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..device import has_bfloat16, training_dtype
from .state import saved_position


def settled(precision: str, folder: str | Path, device: torch.device) -> str:
    """`precision` without its "auto": what the state in `folder` was begun in, else what suits the device now.

    What suits a CPU is found out by timing, so two processes might not agree, and a training that goes on would not be
    the one that was stopped. A state from another kind of device, or that cannot be had here, is no rule.
    """
    if precision != "auto":
        return precision
    kept = saved_position(folder).get("precision") or {}
    if kept.get("device") == device.type and (kept.get("type") != "bfloat16" or has_bfloat16(device)):
        return kept["type"]
    return str(training_dtype(precision, device)).removeprefix("torch.")


def remembered(precision: str, device: torch.device) -> dict[str, Any]:
    """What a position says of it, for `settled`."""
    return {"precision": {"device": device.type, "type": precision}}
