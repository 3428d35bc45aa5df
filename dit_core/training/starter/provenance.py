"""What a stage tells while it runs, and what its result says about how it was made."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from ...checkpoint import Bundle
from ...errors import ConfigError
from ..callbacks import Callbacks


def commit() -> str:
    """The commit of the code that trains, for the provenance."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def print_line(line: dict) -> None:
    """One JSON object a line on standard output."""
    print(json.dumps(line), flush=True)


TOLD = Callbacks(report=print_line)


def made_by(device: torch.device) -> dict[str, str]:
    """Date, code and machine, for the provenance."""
    return {"made": time.strftime("%Y-%m-%d"), "commit": commit(), "device": device_name(device)}


def device_name(device: torch.device) -> str:
    """What the training ran on, for the provenance."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def part_of(bundle: Bundle, part: str, option: str, path: Path) -> Any:
    """A part of the bundle that `option` names. Raises `ConfigError` where there is none."""
    found = getattr(bundle, part)
    if found is None:
        raise ConfigError(f"{option}: {path} has no {part.replace('_', ' ')}; expected a bundle with one.")
    return found
