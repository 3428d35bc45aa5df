"""Reading a workflow file: API format, what the editor saves, or the body of a /prompt request."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dit_core.checkpoint.atomic import reason
from .graph import title_of
from .problems import WorkflowError, shown
from .registry import Registry

LARGEST_FILE = 64 * 1024 * 1024  # bytes; real workflows are below 2 MB, so this can only be another kind of file


@dataclass
class Workflow:
    """A workflow ready to be checked.

    prompt: API format, {node id: {"class_type", "inputs", "_meta"}}. editor: what the editor saved, or None.
    converted: whether the prompt was made from `editor`; in the body of a request both come side by side.
    extra_pnginfo: what goes into the metadata of saved files beside the prompt. packs: {node id or node type: the node
    pack that the file names, with a space and its version where that is known}.
    notes: what had to be assumed while reading.
    """

    prompt: dict[str, Any]
    editor: dict[str, Any] | None = None
    extra_pnginfo: dict[str, Any] | None = None
    packs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    converted: bool = False


def read_json(path: str | Path, what: str = "a workflow") -> Any:
    """The content of a JSON file. what: what it should be, for sentences.

    Raises:
        WorkflowError: the file is missing, unreadable, empty, not text or not JSON; says which, and where.
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
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise WorkflowError(f"{path} is not valid JSON: {error.msg.removesuffix(' at')} at {place}.") from None
    except ValueError:
        raise WorkflowError(f"{path} holds a number of thousands of digits, which cannot be meant.") from None
    except RecursionError:
        raise WorkflowError(f"{path} is nested too deeply to be {what}.") from None


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


def load_workflow(source: str | Path | dict[str, Any], registry: Registry) -> Workflow:
    """Read a file, or take an object already read, and bring it into API format.

    Raises:
        WorkflowError: not a workflow, or an editor file that cannot be converted.
    """
    name = "The workflow" if isinstance(source, dict) else str(source)
    data = source if isinstance(source, dict) else read_json(source)
    if not isinstance(data, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(data), shown(data))
        raise WorkflowError(f"{name} holds {kind}; expected a workflow: an object of nodes.")
    if not data:
        raise WorkflowError(f"{name} holds no nodes.")
    extra = None
    if isinstance(data.get("prompt"), dict) and "class_type" not in data["prompt"]:  # the body of a /prompt request
        extra = _extra_of_request(data, name)
        data = data["prompt"]
    converted = _is_editor_format(data)
    prompt, notes = _convert(data, registry, name) if converted else (data, [])
    if converted:
        extra = {"workflow": data}
    elif not any(isinstance(node, dict) and "class_type" in node for node in prompt.values()):
        raise WorkflowError(
            f"{name} is JSON but no workflow: no entry has a class_type (API format), and there is no list of nodes "
            "with links (editor format)."
        )
    saved = (extra or {}).get("workflow")
    editor = saved if _is_editor_format(saved) else None
    return Workflow(
        prompt={str(node_id): _copied(node) for node_id, node in prompt.items()},
        editor=editor,
        extra_pnginfo=extra,
        packs=_packs(prompt, editor),
        notes=notes,
        converted=converted,
    )


def choose_words(workflow: Workflow, registry: Registry, seed: int | None = None) -> list[str]:
    """Make the random choices in prompts and take out their comments, as the editor does when it queues its workflow.

    One `seed` gives one choice; None leaves it to chance. `workflow.editor` keeps the braces. What came in API format
    stays as it is, as in ComfyUI. Gives a sentence for each text in which there was a choice.

    Raises:
        WorkflowError: choices inside choices, too deep to be meant.
    """
    from .editor import dynamic_texts, resolve_dynamic_text

    if not workflow.converted:
        return []
    rng, chosen = random.Random(seed), []
    for node_id, name, text in list(dynamic_texts(workflow.prompt, registry.object_info())):
        before, node = rng.getstate(), workflow.prompt[node_id]
        place = f"{title_of(node_id, node)} (node {node_id})"
        try:
            resolved = resolve_dynamic_text(text, rng)
        except RecursionError:
            raise WorkflowError(f"{place}, {name}: the braces are nested too deeply to be meant.") from None
        node["inputs"][name] = resolved
        if rng.getstate() != before:
            chosen.append(f"{place}, {name}: the words chosen by chance give {shown(resolved, 400)}.")
    return chosen


def _extra_of_request(body: dict[str, Any], name: str) -> dict[str, Any] | None:
    """`extra_data.extra_pnginfo` of a /prompt request; either may be missing or null."""
    value: Any = body
    for key in ("extra_data", "extra_pnginfo"):
        value = value.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise WorkflowError(f"{name}, {key}: got {shown(value)}; expected an object, as in a /prompt request.")
    return value


def _copied(node: Any) -> Any:
    """A node whose inputs can be changed without changing the caller's object."""
    if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
        return {**node, "inputs": dict(node["inputs"])}
    return node


def _is_editor_format(data: Any) -> bool:
    from .editor import is_editor_format

    return is_editor_format(data)


def _convert(data: dict[str, Any], registry: Registry, name: str) -> tuple[dict[str, Any], list[str]]:
    from .editor import EditorFormatError, convert

    try:
        conversion = convert(data, registry.object_info())
    except EditorFormatError as error:
        raise WorkflowError(f"{name} cannot be converted: {error}") from error
    return conversion.prompt, list(conversion.notes)


def _similar(path: Path) -> str:
    """A hint at a file of nearly that name in the same folder, or nothing."""
    from .problems import nearest

    try:
        names = [one.name for one in path.parent.iterdir() if one.suffix == ".json"]
    except OSError:
        return ""
    match = nearest(path.name, names)
    return f" Did you mean {path.parent / match}?" if match else ""


def _packs(prompt: dict[str, Any], editor: dict[str, Any] | None) -> dict[str, str]:
    """Which pack a node comes from, where the file says so: the editor keeps cnr_id or aux_id in `properties`."""
    packs: dict[str, str] = {}
    for node_id, node in prompt.items():
        if isinstance(node, dict):
            for place in (node.get("_meta"), node.get("properties")):
                _note_pack(packs, str(node_id), place)
    for node in _editor_nodes(editor or {}):
        _note_pack(packs, str(node.get("type")), node.get("properties"))  # inner ids of subgraphs are not unique
    return packs


def _note_pack(packs: dict[str, str], key: str, place: Any) -> None:
    if isinstance(place, dict):
        pack, version = place.get("cnr_id") or place.get("aux_id"), place.get("ver")
        if isinstance(pack, str) and pack.strip():
            words = [pack.strip(), version.strip() if isinstance(version, str) else ""]
            packs.setdefault(key, " ".join(words).strip())


def _editor_nodes(editor: dict[str, Any]) -> list[dict[str, Any]]:
    """Nodes of the graph and of its subgraph definitions."""
    groups = [editor.get("nodes")]
    definitions = editor.get("definitions")
    if isinstance(definitions, dict) and isinstance(definitions.get("subgraphs"), list):
        groups += [one.get("nodes") for one in definitions["subgraphs"] if isinstance(one, dict)]
    return [node for group in groups if isinstance(group, list) for node in group if isinstance(node, dict)]
