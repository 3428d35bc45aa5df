"""ComfyUI's /object_info (V1 layout) for node classes, as far as a client or a workflow converter reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .api_dynamic import MatchType
from .api_node import ComfyNode


def node_info(cls: type[ComfyNode]) -> dict[str, Any]:
    """One node's entry: inputs with options and order, outputs, names, texts and flags."""
    schema = cls.GET_SCHEMA()
    inputs = schema.input_dict()
    match = [one.template.template_id if isinstance(one, MatchType.Output) else None for one in schema.outputs]
    return {
        "input": inputs,
        "input_order": {group: list(names) for group, names in inputs.items()},
        "output": [one.io_type for one in schema.outputs],
        "output_is_list": [one.is_output_list for one in schema.outputs],
        "output_name": [one.display_name or one.io_type for one in schema.outputs],
        "output_tooltips": [one.tooltip or None for one in schema.outputs],
        "output_matchtypes": match if any(match) else None,
        "name": schema.node_id,
        "display_name": schema.display_name,
        "description": schema.description,
        "python_module": cls.RELATIVE_PYTHON_MODULE or "nodes",
        "category": schema.category,
        "output_node": schema.is_output_node,
        "deprecated": schema.is_deprecated,
        "experimental": schema.is_experimental,
        "api_node": schema.is_api_node,
    }


def object_info(classes: Iterable[type[ComfyNode]]) -> dict[str, dict[str, Any]]:
    """{node id: entry} for all classes, in their order. JSON-able: tuples become lists."""
    return {info["name"]: info for info in map(node_info, classes)}
