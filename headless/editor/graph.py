"""The saved graph as the editor sees it once loaded: live inputs, subgraph instances, promoted widget values.

`Workspace` answers questions about one node of one graph; `Scope` says in which (nested) subgraph instance a graph is
being looked at. Nothing here changes the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .definitions import (
    AUTOGROW,
    DYNAMIC_COMBO,
    Definitions,
    InputSpec,
    NodeDefinition,
    chosen_inputs,
    grown_inputs,
)
from .document import BORDER_INPUT, Document, Graph, Node, Slot, called
from .errors import EditorFormatError
from .widgets import WidgetValues, known_by_file, widget_values

PRIMITIVE = "PrimitiveNode"
# Node types that live in the editor only and are never run: the editor's own, and those of popular packs, which count
# only where `/object_info` does not have a node of that name. Set and get nodes carry a value by name, without a wire.
SET_TYPES = frozenset({"SetNode", "easy setNode"})
GET_TYPES = frozenset({"GetNode", "easy getNode"})
PASSING_TYPES = frozenset({"Reroute", "Reroute (rgthree)"}) | SET_TYPES
_OWN_TYPES = frozenset({PRIMITIVE, "Reroute", "Note", "MarkdownNote"})
_PACK_TYPES = PASSING_TYPES | GET_TYPES | frozenset(
    f"{name} (rgthree)"
    for name in (
        "Fast Muter", "Fast Bypasser", "Fast Groups Muter", "Fast Groups Bypasser", "Fast Actions Button",
        "Mute / Bypass Relay", "Mute / Bypass Repeater", "Random Unmuter", "Node Collector", "Label", "Bookmark",
    )
)  # fmt: skip

# Definitions inside definitions: far more than anyone draws, and a bound for every walk through them.
MOST_DEPTH = 64


@dataclass(frozen=True)
class Scope:
    """A graph in its place: the workflow itself, or a definition inside one instance of it."""

    graph: Graph
    path: tuple[str, ...] = ()
    instance: Node | None = None
    parent: Scope | None = None

    def id_of(self, node: Node) -> str:
        """The node's id in the API format: `outer:inner` inside subgraphs."""
        return ":".join((*self.path, node.id))

    def inside(self, instance: Node, definition: Graph) -> Scope:
        """The scope of a subgraph instance that stands in this graph."""
        return Scope(definition, (*self.path, instance.id), instance, self)


@dataclass
class LiveNode:
    """A node with what its definition adds: all inputs in the editor's order, output types, widget values."""

    node: Node
    definition: NodeDefinition | None
    inputs: list[Slot]
    outputs: list[str]
    widgets: WidgetValues = field(default_factory=WidgetValues)
    removed: list[str] = field(default_factory=list)


class Workspace:
    """Looks nodes of a document up in the node definitions; every answer is worked out once."""

    def __init__(self, document: Document, definitions: Definitions):
        self.document = document
        self.definitions = definitions
        self._live: dict[tuple[str, str], LiveNode] = {}
        self._promoted_inputs: dict[str, list[bool]] = {}
        self._primitive_values: dict[str, dict[tuple[str, str], Any]] = {}

    def type_of(self, node: Node) -> str:
        """The node's type, by its present name."""
        return self.definitions.current_type(node.type)

    def editor_only(self, node: Node) -> bool:
        """Whether the node exists in the editor only (reroutes, primitives, notes, set and get nodes, ...)."""
        return node.type in _OWN_TYPES or (node.type in _PACK_TYPES and self.definitions.get(node.type) is None)

    def subgraph(self, node: Node) -> Graph | None:
        """The definition of which `node` is an instance, or None for an ordinary node."""
        return self.document.definitions.get(node.type)

    def live(self, graph: Graph, node: Node) -> LiveNode:
        """The node as loaded."""
        key = (graph.key, node.id)
        if key not in self._live:
            definition = self.definitions.get(self.type_of(node))
            subgraph = self.subgraph(node)
            if subgraph is not None:
                self._live[key] = _live_instance(node, subgraph)
            elif definition is not None and not self.editor_only(node):
                self._live[key] = _live_known(node, definition)
            else:
                values = WidgetValues() if self.editor_only(node) else known_by_file(node)
                self._live[key] = LiveNode(node, None, list(node.inputs), [s.type for s in node.outputs], values)
        return self._live[key]

    def values(self, scope: Scope, live: LiveNode) -> dict[str, Any]:
        """The node's own widget values in this place: the saved ones, and over them what primitives write and what
        the subgraph instance around it holds."""
        values, here = dict(live.widgets.values), live.node.id
        for (node_id, name), value in self.primitive_values(scope.graph).items():
            if node_id == here:
                values[name] = value
        for (node_id, name), value in self._instance_overrides(scope).items():
            if node_id == here and name in live.widgets.values:  # it also lists seed controls and previews
                values[name] = value
        return values

    def primitive_values(self, graph: Graph) -> dict[tuple[str, str], Any]:
        """Values that primitives write into widgets they are linked to directly, by (node id, widget name)."""
        if graph.key not in self._primitive_values:
            self._primitive_values[graph.key] = dict(self._read_primitives(graph))
        return self._primitive_values[graph.key]

    def _read_primitives(self, graph: Graph) -> Iterable[tuple[tuple[str, str], Any]]:
        for node in graph.nodes.values():
            instance = self.subgraph(node) is not None
            for slot in self.live(graph, node).inputs if node.inputs else ():
                link = graph.links.get(slot.link or "")
                source = graph.nodes.get(link.origin) if link else None
                widget = slot.name if instance else slot.widget
                if widget is None or source is None or source.type != PRIMITIVE:
                    continue
                if source.by_name is not None and "value" in source.by_name:
                    yield (node.id, widget), source.by_name["value"]
                elif isinstance(source.values, list) and source.values:
                    yield (node.id, widget), source.values[0]

    def promoted_inputs(self, definition: Graph, visiting: tuple[str, ...] = ()) -> list[bool]:
        """For each input of a subgraph definition: whether it shows a widget of a node inside."""
        if definition.key not in self._promoted_inputs:
            if definition.key in visiting or len(visiting) > MOST_DEPTH:
                return [False] * len(definition.inputs)  # a loop of definitions is reported when it is expanded
            trail = (*visiting, definition.key)
            self._promoted_inputs[definition.key] = [
                any(self._feeds_widget(definition, link_id, trail) for link_id in self._inner_links(definition, index))
                for index in range(len(definition.inputs))
            ]
        return self._promoted_inputs[definition.key]

    def _inner_links(self, definition: Graph, index: int) -> list[str]:
        saved = [link for link in definition.inputs[index].links if link in definition.links]
        found = [
            link.id for link in definition.links.values() if link.origin == BORDER_INPUT and link.origin_slot == index
        ]
        return saved + [link for link in found if link not in saved]

    def _feeds_widget(self, definition: Graph, link_id: str, trail: tuple[str, ...]) -> bool:
        node, index, slot = self._target(definition, link_id)
        if node is None or slot is None:
            return False
        inner = self.subgraph(node)
        return self.promoted_inputs(inner, trail)[index] if inner is not None else slot.widget is not None

    def _target(self, graph: Graph, link_id: str) -> tuple[Node | None, int, Slot | None]:
        """The node, input index and input at the end of a link; found by the link's id, not by its slot number."""
        node = graph.nodes.get(graph.links[link_id].target)
        for index, slot in enumerate(self.live(graph, node).inputs if node else ()):
            if slot.link == link_id:
                return node, index, slot
        return None, 0, None

    def promoted_value(self, scope: Scope, index: int) -> tuple[bool, Any]:
        """(True, value) when the instance of `scope` shows a widget for input number `index` of its definition.

        The value is the one stored on the instance, else that of the first widget inside which the input feeds.
        """
        instance, definition = scope.instance, scope.graph
        if instance is None or not self.promoted_inputs(definition)[index]:
            return False, None
        stored = self._stored_value(instance, definition, index)
        if stored is not None:
            return True, stored
        for link_id in self._inner_links(definition, index):
            node, target, slot = self._target(definition, link_id)
            inner = self.subgraph(node) if node is not None else None
            if node is None or slot is None:
                continue
            if inner is not None and self.promoted_inputs(inner)[target]:
                return self.promoted_value(scope.inside(node, inner), target)
            values = self.live(definition, node).widgets.values
            if inner is None and slot.widget in values:
                return True, values[slot.widget]
        return False, None

    def _stored_value(self, instance: Node, definition: Graph, index: int) -> Any:
        """An instance's own value for a promoted input, or None. `proxyWidgets` (if any) labels the list."""
        name = definition.inputs[index].name
        if instance.by_name is not None:
            return instance.by_name.get(name)
        values = instance.values or []
        proxies = proxy_widgets(instance)
        for proxy, value in zip(proxies, values, strict=False):
            if proxy == ("-1", name):
                return value
        if ("-1", name) in proxies:
            return None
        promoted = self.promoted_inputs(definition)
        position = sum(promoted[:index])
        if position >= len(values):
            return None
        shown = {("-1", border.name) for border, widget in zip(definition.inputs, promoted, strict=True) if widget}
        # A place in the list that is labelled with another input's name holds that input's value.
        return None if position < len(proxies) and proxies[position] in shown else values[position]

    def _instance_overrides(self, scope: Scope) -> dict[tuple[str, str], Any]:
        """Values that an instance stores for inner widgets it shows without a subgraph input for them."""
        instance = scope.instance
        if instance is None or instance.by_name is not None or not isinstance(instance.values, list):
            return {}
        pairs = zip(proxy_widgets(instance), instance.values, strict=False)
        return {(proxy[0], proxy[1]): value for proxy, value in pairs if proxy[0] != "-1" and value is not None}


def proxy_widgets(instance: Node) -> list[tuple[str, str]]:
    """`properties.proxyWidgets`: (inner node id or "-1", widget name) for each widget that the instance shows."""
    raw = instance.properties.get("proxyWidgets")
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError:
            raw = None
    if raw is None:
        return []
    if not isinstance(raw, list) or not all(isinstance(e, (list, tuple)) and len(e) >= 2 for e in raw):
        raise EditorFormatError(
            f"'proxyWidgets' of the subgraph node {called(instance)} must be a list of [node id, widget name] pairs."
        )
    return [(str(entry[0]), str(entry[1])) for entry in raw]


def _live_instance(node: Node, definition: Graph) -> LiveNode:
    """Inputs of an instance are those of its definition, in that order; links are found by name."""
    remaining = list(node.inputs)
    inputs = []
    for border in definition.inputs:
        saved = next((slot for slot in remaining if slot.name == border.name), None)
        if saved is not None:
            remaining.remove(saved)
        inputs.append(Slot(border.name, border.type, saved.link if saved else None, saved.widget if saved else None))
    return LiveNode(node, None, inputs, [border.type for border in definition.outputs])


def _live_known(node: Node, definition: NodeDefinition) -> LiveNode:
    """Sockets first, then widgets, each in declared order; then inputs that only the file has."""
    widgets = widget_values(node, definition)
    saved = {slot.name: slot for slot in node.inputs}
    for slot in node.inputs:  # of two entries with one name the connected one counts
        if slot.link is not None:
            saved[slot.name] = slot

    sockets: list[Slot] = []
    widget_slots: list[Slot] = []
    _collect(definition.inputs, widgets, saved, sockets, widget_slots)
    live = LiveNode(node, definition, sockets + widget_slots, _output_types(node, definition), widgets)
    known = {slot.name for slot in live.inputs}
    combos = tuple(f"{s.name}." for s in widgets.specs.values() if s.widget_type == DYNAMIC_COMBO)
    for slot in node.inputs:
        if slot.name in known:
            continue
        # The editor drops inputs whose widget no longer exists, and those of options that are not chosen.
        if (slot.widget is not None and slot.widget not in widgets.values) or slot.name.startswith(combos):
            live.removed += [slot.name] if slot.link is not None else []
        else:
            live.inputs.append(slot)
    return live


def _collect(
    specs: Iterable[InputSpec],
    widgets: WidgetValues,
    saved: dict[str, Slot],
    sockets: list[Slot],
    widget_slots: list[Slot],
) -> None:
    for spec in specs:
        if spec.type == AUTOGROW:
            _collect(grown_inputs(spec, saved), widgets, saved, sockets, sockets)
        elif not spec.is_widget:
            sockets.append(_live_slot(spec, saved, None))
        else:
            if not spec.options.get("socketless"):
                widget_slots.append(_live_slot(spec, saved, spec.name))
            if spec.widget_type == DYNAMIC_COMBO:
                nested = chosen_inputs(spec, widgets.values.get(spec.name))
                _collect(nested, widgets, saved, widget_slots, widget_slots)


def _live_slot(spec: InputSpec, saved: dict[str, Slot], widget: str | None) -> Slot:
    slot = saved.get(spec.name)
    # The type of a matched input follows its connection; the file has what it was when saved.
    kind = slot.type if slot is not None and spec.options.get("matched") else spec.type
    return Slot(spec.name, kind, slot.link if slot else None, widget)


def _output_types(node: Node, definition: NodeDefinition) -> list[str]:
    saved = [slot.type for slot in node.outputs]
    types = []
    for index, kind in enumerate(definition.outputs):
        matched = kind.startswith("COMFY_")
        types.append((saved[index] if index < len(saved) else "*") if matched else kind)
    return types + saved[len(types) :]
