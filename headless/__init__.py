"""Run ComfyUI workflow files without ComfyUI.

    from sora_dit.headless import run_workflow
    result = run_workflow("workflows/text_to_video.json", set={"Prompt.text": "a red balloon"}, output="out")

Names are loaded when they are first used, because the nodes import `headless.comfy_api` and must stay light.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "run_workflow": "run",
    "RunResult": "run",
    "Runner": "execute",
    "RunError": "run_errors",
    "WorkflowError": "problems",
    "Problem": "problems",
    "Registry": "registry",
    "load_registry": "registry",
    "check": "graph",
    "Session": "session",
    "NoProgress": "session",
    "object_info": "object_info",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list of names, loaded by __getattr__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
