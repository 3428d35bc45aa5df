"""Changing a value in the editor's copy of a workflow, so that a saved video opens in ComfyUI with what really ran."""

from __future__ import annotations

import copy
from typing import Any

from .registry import Registry
from .workflow import Workflow


def change_editor_copy(workflow: Workflow, registry: Registry, node_id: str, name: str, value: Any) -> bool:
    """Write `value` into the widget `name` of `workflow.editor`; call it before the prompt itself is changed.

    Where a widget lies in the positional `widgets_values` is found by trying: the place whose change shows up in the
    converted prompt is the right one. False if it was not found (nodes in subgraphs, linked inputs).
    """
    if workflow.editor is None or isinstance(value, dict):
        return False
    before = workflow.prompt[node_id].get("inputs", {}).get(name)
    nodes = workflow.editor.get("nodes")
    for index, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if isinstance(node, dict) and str(node.get("id")) == node_id:
            changed = _changed(workflow.editor, index, name, value, before, registry)
            if changed is not None:
                workflow.editor = changed
                workflow.extra_pnginfo = {**(workflow.extra_pnginfo or {}), "workflow": changed}
                return True
    return False


def _changed(
    editor: dict[str, Any], index: int, name: str, value: Any, before: Any, registry: Registry
) -> dict[str, Any] | None:
    """A copy of the editor file with the value in every place where node number `index` keeps it, or None."""
    result = copy.deepcopy(editor)
    node = result["nodes"][index]
    found = False
    for values in (node.get("widgets_values_named"), node.get("widgets_values")):
        if isinstance(values, dict) and name in values:
            values[name] = value
            found = True
    positions = node.get("widgets_values")
    if isinstance(positions, list) and value != before:
        place = _place(editor, index, name, value, registry)
        if place is not None:
            positions[place] = value
            found = True
    return result if found else None


def _place(editor: dict[str, Any], index: int, name: str, value: Any, registry: Registry) -> int | None:
    """The position of the widget in `widgets_values`."""
    from .editor import to_api

    info = registry.object_info()
    node_id = str(editor["nodes"][index]["id"])
    for place in range(len(editor["nodes"][index]["widgets_values"])):
        trial = copy.deepcopy(editor)
        trial["nodes"][index].pop("widgets_values_named", None)  # it would win over the positions
        trial["nodes"][index]["widgets_values"][place] = value
        try:
            inputs = to_api(trial, info).get(node_id, {}).get("inputs", {})
        except Exception:  # a value in a wrong place may break the conversion; then it is not the place
            continue
        if name in inputs and inputs[name] == value:
            return place
    return None
