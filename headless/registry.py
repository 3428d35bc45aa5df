"""Which node classes the headless runtime knows: ours, and stand-ins for core nodes. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .api_node import ComfyNode, Schema
from .object_info import object_info


@dataclass
class Registry:
    """Node classes by id (`class_type` in a workflow).

    failures: {module or node: why it could not be loaded}; named when a workflow asks for a node that is missing.
    """

    classes: dict[str, type[ComfyNode]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, classes: Iterable[type[ComfyNode]], failures: Mapping[str, str] | None = None) -> Registry:
        """From classes; one whose schema is broken goes to `failures` instead of stopping the others."""
        registry = cls(failures=dict(failures or {}))
        for one in classes:
            registry.add(one)
        return registry

    def add(self, node_class: type[ComfyNode]) -> None:
        """Register one class under its schema's id; an id that is taken stays with the first, as in ComfyUI."""
        try:
            node_id = node_class.GET_SCHEMA().node_id
        except Exception as error:  # a broken node must not take the others with it
            self.failures[node_class.__name__] = f"{type(error).__name__}: {error}"
            return
        self.classes.setdefault(node_id, node_class)

    def __contains__(self, class_type: object) -> bool:
        return isinstance(class_type, str) and class_type in self.classes  # a file may have anything there

    def __getitem__(self, class_type: str) -> type[ComfyNode]:
        return self.classes[class_type]

    def schema(self, class_type: str) -> Schema:
        """A fresh schema: file lists in it follow the current session."""
        return self.classes[class_type].GET_SCHEMA()

    def object_info(self) -> dict[str, dict[str, Any]]:
        """ComfyUI's /object_info for all classes."""
        return object_info(self.classes.values())


def load_registry() -> Registry:
    """All nodes that can run headless: ours, then stand-ins for core nodes; an id that is ours stays ours."""
    from .. import nodes
    from .core_nodes import CORE_NODES

    registry = Registry.of(nodes.node_classes(), nodes.failures)
    for one in CORE_NODES:
        registry.add(one)
    return registry
