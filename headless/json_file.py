"""Reading a JSON file that a person names: each way in which it can be none is a sentence."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ..dit_core.checkpoint.atomic import reason
from .problems import WorkflowError, listed, nearest, shown

LARGEST_FILE = 64 * 1024 * 1024  # bytes; real workflows are below 2 MB, so this can only be another kind of file

_Repeated = tuple[dict[str, Any], list[str]]  # an object in which a name came twice, and all its names as they came


def read_json(path: str | Path, what: str = "a workflow") -> Any:
    """The content of a JSON file. what: what it should be, for sentences.

    Raises:
        WorkflowError: the file is missing, unreadable, empty, not text or not JSON, or two of its nodes (API format)
            have the same id; says which, and where.
    """
    path = Path(path)
    if "\0" in str(path):
        raise WorkflowError(f"{shown(str(path))} is no file name; expected {what} file (.json).")
    if os.path.isdir(path):
        raise WorkflowError(f"{path} is a folder; expected {what} file (.json).")
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= LARGEST_FILE else b""
    except FileNotFoundError:
        raise WorkflowError(f"{path} does not exist; expected {what} file (.json).{_similar(path)}") from None
    except OSError as error:
        raise WorkflowError(f"{shown(str(path), 120)} cannot be read: {reason(error)}.") from None
    if size > LARGEST_FILE:
        raise WorkflowError(f"{path} has {size // 2**20} MiB; {what} file is much smaller.")
    if not data.strip():
        raise WorkflowError(f"{path} is empty; expected {what} in JSON.")
    text = _decoded(path, data, what)
    repeated: list[_Repeated] = []

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            repeated.append((made, [name for name, _ in pairs]))
        return made

    try:
        value = json.loads(text, object_pairs_hook=read_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise WorkflowError(f"{path} is not valid JSON: {error.msg.removesuffix(' at')} at {place}.") from None
    except ValueError:
        raise WorkflowError(f"{path} holds a number of thousands of digits, which cannot be meant.") from None
    except RecursionError:
        raise WorkflowError(f"{path} is nested too deeply to be {what}.") from None
    _refuse_repeated(path, value, repeated)
    return value


def prompt_of(data: dict[str, Any]) -> dict[str, Any]:
    """The workflow itself: of the body of a /prompt request what stands under "prompt", else `data` as it is."""
    prompt = data.get("prompt")
    return prompt if isinstance(prompt, dict) and "class_type" not in prompt else data


def _refuse_repeated(path: Path, data: Any, repeated: list[_Repeated]) -> None:
    """Raise if two nodes (API format) have the same id: reading loses the first. Other objects may repeat names."""
    prompt = prompt_of(data) if isinstance(data, dict) else None
    for found, names in repeated:
        if found is prompt and any(isinstance(node, dict) and "class_type" in node for node in found.values()):
            doubled = listed(shown(name) for name, times in Counter(names).items() if times > 1)
            raise WorkflowError(f"{path} holds more than one node with the id {doubled}; expected each id once.")


def _decoded(path: Path, data: bytes, what: str) -> str:
    """The text in UTF-8, or in UTF-16 with its mark, as Windows PowerShell's `>` writes it."""
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        why = "its bytes are not UTF-16" if wide else f"byte {error.start + 1} is not UTF-8"
        raise WorkflowError(f"{path} is not a text file ({why}); expected {what} in JSON.") from None
    if "\0" in text:
        raise WorkflowError(f"{path} is not a text file (it holds zero bytes); expected {what} in JSON.")
    return text


def _similar(path: Path) -> str:
    """A hint at a file of nearly that name in the same folder, or nothing."""
    try:
        names = [one.name for one in path.parent.iterdir() if one.suffix == ".json"]
    except OSError:
        return ""
    match = nearest(path.name, names)
    return f" Did you mean {path.parent / match}?" if match else ""
