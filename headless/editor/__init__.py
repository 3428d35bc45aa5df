"""Reads workflows as the ComfyUI editor saves them and turns them into the API format.

Plain dictionaries in, plain dictionaries out; nothing is imported beyond the standard library and nothing is changed
in place. `to_api` gives the prompt, `convert` also says what had to be assumed and which nodes are unknown.
"""

from __future__ import annotations

from .convert import Conversion, UnknownNode, convert, to_api
from .document import is_editor_format
from .dynamic_prompts import dynamic_texts, resolve_dynamic_prompts, resolve_dynamic_text
from .errors import EditorFormatError
from .left_out import LeftOut

__all__ = [
    "Conversion",
    "EditorFormatError",
    "LeftOut",
    "UnknownNode",
    "convert",
    "dynamic_texts",
    "is_editor_format",
    "resolve_dynamic_prompts",
    "resolve_dynamic_text",
    "to_api",
]
