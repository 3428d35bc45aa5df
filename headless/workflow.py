"""Reading a workflow file: API format, what the editor saves, or the body of a /prompt request."""

from __future__ import annotations

import os
import random
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .graph import title_of
from .json_file import prompt_of, read_json
from .problems import WorkflowError, shown
from .registry import Registry

if TYPE_CHECKING:
    from .editor import Conversion, LeftOut


@dataclass
class Workflow:
    """A workflow ready to be checked.

    prompt: API format, {node id: {"class_type", "inputs", "_meta"}}. editor: what the editor saved, or None.
    converted: whether the prompt was made from `editor`; in the body of a request both come side by side.
    extra_pnginfo: what goes into the metadata of saved files beside the prompt. packs: {node id or node type: the node
    pack that the file names, with a space and its version where that is known}.
    notes: what had to be assumed while reading. left_out: nodes of `editor` that `prompt` was made without.
    """

    prompt: dict[str, Any]
    editor: dict[str, Any] | None = None
    extra_pnginfo: dict[str, Any] | None = None
    packs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    converted: bool = False
    left_out: tuple[LeftOut, ...] = ()


def load_workflow(source: str | Path | dict[str, Any], registry: Registry) -> Workflow:
    """Read a file, or take an object already read, and bring it into API format.

    Raises:
        WorkflowError: not a workflow, or an editor file that cannot be converted.
    """
    named = isinstance(source, (str, os.PathLike))
    name = str(source) if named else "The workflow"
    data = read_json(source) if named else source
    if not isinstance(data, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(data), shown(data))
        raise WorkflowError(f"{name} holds {kind}; expected a workflow: an object of nodes.")
    if not data:
        raise WorkflowError(f"{name} holds no nodes.")
    extra = None
    if prompt_of(data) is not data:  # the body of a /prompt request
        extra = _extra_of_request(data, name)
        data = prompt_of(data)
    converted = _is_editor_format(data)
    made = _convert(data, registry, name) if converted else None
    prompt = data if made is None else made.prompt
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
        notes=[] if made is None else list(made.notes),
        converted=converted,
        left_out=() if made is None else made.left_out,
    )


def choose_words(
    workflow: Workflow, registry: Registry, seed: int | None = None, given: Container[tuple[str, str]] = ()
) -> list[str]:
    """Make the random choices in prompts and take out their comments, as the editor does when it queues its workflow.

    One `seed` gives one choice; None leaves it to chance. `workflow.editor` keeps the braces. What came in API format
    stays as it is, as in ComfyUI, and so do the inputs that the user has `given`: (node id, input). Gives a sentence
    for each text in which there was a choice.

    Raises:
        WorkflowError: choices inside choices, too deep to be meant.
    """
    from .editor import dynamic_texts, resolve_dynamic_text

    if not workflow.converted:
        return []
    rng, chosen = random.Random(seed), []
    for node_id, name, text in list(dynamic_texts(workflow.prompt, registry.object_info())):
        if (node_id, name) in given:
            continue
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


def _convert(data: dict[str, Any], registry: Registry, name: str) -> Conversion:
    from .editor import EditorFormatError, convert

    try:
        return convert(data, registry.object_info())
    except EditorFormatError as error:
        raise WorkflowError(f"{name} cannot be converted: {error}") from error


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
