"""Where the value of a connected input comes from: through reroutes, bypassed nodes and subgraph borders.

The rules are the editor's (`ExecutableNodeDTO` of its frontend), written as one walk: each step follows one link
backwards and lands on an output, which either is the answer or leads on to another input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .document import BORDER_INPUT, BORDER_OUTPUT, MODE_BYPASS, MODE_NEVER, Graph, Link, Node, Slot, called
from .errors import EditorFormatError
from .graph import GET_TYPES, PASSING_TYPES, SET_TYPES, Scope, Workspace


@dataclass(frozen=True)
class Source:
    """An output of a node that is run."""

    node_id: str
    slot: int


@dataclass(frozen=True)
class Constant:
    """A value that a subgraph instance holds for an input."""

    value: Any


@dataclass(frozen=True)
class Cut:
    """Nothing reaches an input, because of a muted node or a bypassed one that has nothing to pass on."""

    node_id: str


@dataclass(frozen=True)
class _Input:
    """A connected input. `wanted` is the type asked for downstream, when it goes through unchanged (reroutes)."""

    scope: Scope
    node: Node
    slot: Slot
    wanted: str | None = None


@dataclass(frozen=True)
class _Output:
    scope: Scope
    node: Node
    slot: int
    wanted: str


def resolve(space: Workspace, scope: Scope, node: Node, slot: Slot) -> Source | Constant | Cut | None:
    """The source of one input, or `Cut` or None if nothing reaches it.

    A `Source` is always a node that is run: muted, bypassed and editor-only nodes never end the walk.
    Raises EditorFormatError for a link that does not exist, a link to a missing node or output, or a loop.
    """
    here: _Input | _Output | Source | Constant | None = _Input(scope, node, slot)
    seen = set()
    silent: _Output | None = None
    while isinstance(here, (_Input, _Output)):
        mark = (here.scope.path, here.node.id, here.slot, type(here))
        if mark in seen:
            raise EditorFormatError(
                f"The input '{slot.name}' of the node {called(node)} cannot be followed to a source: "
                f"the links through {called(here.node)} form a loop."
            )
        seen.add(mark)
        if isinstance(here, _Output) and not here.node.active:
            silent = here
        here = _follow_link(space, here) if isinstance(here, _Input) else _through_node(space, here)
    return Cut(silent.scope.id_of(silent.node)) if here is None and silent is not None else here


def _follow_link(space: Workspace, here: _Input) -> _Input | _Output | Constant | None:
    """From an input along its link to the output at the other end."""
    if here.slot.link is None:
        return None
    graph, label = here.scope.graph, f"The input '{here.slot.name}' of the node {called(here.node)}"
    link = graph.links.get(here.slot.link)
    if link is None:
        raise EditorFormatError(f"{label} refers to the link {here.slot.link}, which is not in the file.")
    if link.origin == BORDER_INPUT and here.scope.instance is not None:
        return _out_of_subgraph(space, here.scope, link.origin_slot, label)
    origin = graph.nodes.get(link.origin)
    if origin is None:
        raise EditorFormatError(f"{label} is linked to the node with id {link.origin}, which is not in the file.")
    return _Output(here.scope, origin, link.origin_slot, here.wanted or here.slot.type)


def _out_of_subgraph(space: Workspace, scope: Scope, index: int, label: str) -> _Input | Constant | None:
    """From a border input of a definition to the same input of the instance."""
    assert scope.instance is not None and scope.parent is not None
    inputs = space.live(scope.parent.graph, scope.instance).inputs
    if index >= len(inputs):
        raise EditorFormatError(
            f"{label} is linked to input number {index} of the subgraph '{scope.graph.name}', "
            f"which has only {len(inputs)} inputs."
        )
    written = space.primitive_values(scope.parent.graph)
    if (scope.instance.id, inputs[index].name) in written:
        return Constant(written[scope.instance.id, inputs[index].name])
    if inputs[index].link is not None:
        return _Input(scope.parent, scope.instance, inputs[index])
    held, value = space.promoted_value(scope, index)
    return Constant(value) if held else None


def _through_node(space: Workspace, here: _Output) -> _Input | _Output | Source | None:
    """From an output of a node: the answer itself, or the input that the node passes on."""
    node, scope = here.node, here.scope
    if node.mode == MODE_NEVER:
        return None
    if node.mode == MODE_BYPASS:
        passed = _bypass_input(space, here)
        return None if passed is None else _Input(scope, node, passed)
    definition = space.subgraph(node)
    if definition is not None:
        return _into_subgraph(space, here, definition)
    if not space.editor_only(node):
        return Source(scope.id_of(node), here.slot)
    if node.type in GET_TYPES:
        return _named_setter(here)
    # A primitive has no source: its value is in the widget already, when it is linked directly.
    passes = node.type in PASSING_TYPES and node.inputs
    return _Input(scope, node, node.inputs[0], here.wanted) if passes else None


def _into_subgraph(space: Workspace, here: _Output, definition: Graph) -> _Input | _Output | None:
    """From an output of a subgraph instance to the node inside that makes it."""
    if here.slot >= len(definition.outputs):
        raise EditorFormatError(
            f"A link starts at output number {here.slot} of the subgraph node {called(here.node)}, "
            f"whose definition '{definition.name}' has only {len(definition.outputs)} outputs."
        )
    link = _border_link(definition, here.slot)
    if link is None:
        return None
    if link.origin == BORDER_INPUT:  # a wire straight through the subgraph
        inputs = space.live(here.scope.graph, here.node).inputs
        return _Input(here.scope, here.node, inputs[link.origin_slot]) if link.origin_slot < len(inputs) else None
    origin = definition.nodes.get(link.origin)
    if origin is None:
        raise EditorFormatError(
            f"The output '{definition.outputs[here.slot].name}' of the subgraph '{definition.name}' is linked to the "
            f"node with id {link.origin}, which the definition does not have."
        )
    return _Output(here.scope.inside(here.node, definition), origin, link.origin_slot, here.wanted)


def _border_link(definition: Graph, index: int) -> Link | None:
    for link_id in definition.outputs[index].links:
        if link_id in definition.links:
            return definition.links[link_id]
    ends = (e for e in definition.links.values() if e.target == BORDER_OUTPUT and e.target_slot == index)
    return next(ends, None)


def _named_setter(here: _Output) -> _Output | None:
    """The setter node with the same name as a getter, in this graph or one around it."""
    name = _first_value(here.node)
    scope: Scope | None = here.scope
    while scope is not None and name is not None:
        for node in scope.graph.nodes.values():
            if node.type in SET_TYPES and _first_value(node) == name:
                return _Output(scope, node, 0, here.wanted)
        scope = scope.parent
    return None


def _first_value(node: Node) -> Any:
    return node.values[0] if isinstance(node.values, list) and node.values else None


def _bypass_input(space: Workspace, here: _Output) -> Slot | None:
    """The input that a bypassed node passes on in place of one of its outputs.

    For a target of any type the input at the output's own position (else the first); otherwise the input at that
    position if its type fits both ends, then the first of exactly the wanted type, then the first that fits both.
    """
    live = space.live(here.scope.graph, here.node)
    inputs, index, wanted = live.inputs, here.slot, here.wanted
    if not inputs:
        return None
    if wanted == "*":
        return inputs[index] if index < len(inputs) else inputs[0]
    made = live.outputs[index] if index < len(live.outputs) else "*"

    def fits(slot: Slot) -> bool:
        return types_fit(slot.type, made) and types_fit(slot.type, wanted)

    if index < len(inputs) and fits(inputs[index]):
        return inputs[index]
    return next((s for s in inputs if s.type == wanted), None) or next((s for s in inputs if fits(s)), None)


def types_fit(one: str, other: str) -> bool:
    """Whether the editor lets two slot types connect: equal but for case, any, or a common one of several."""
    if "*" in (one, other) or one == other:
        return True
    left, right = set(one.lower().split(",")), set(other.lower().split(","))
    return bool(left & right) or "*" in left or "*" in right
