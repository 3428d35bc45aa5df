"""From the editor's format to the API format.

Out of scope, as they are effects of the moment of queueing and not of the file: `%date:...%` and `%Node.widget%` in
file names, random seeds (`control_after_generate` acts after a run, so the saved value is the one that ran), and
drawings such as groups and reroute points. Random choices in prompts: see `resolve_dynamic_prompts`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .definitions import Definitions
from .document import MODE_NEVER, Node, called, read_document
from .errors import EditorFormatError
from .graph import MOST_DEPTH, PRIMITIVE, LiveNode, Scope, Workspace, proxy_widgets
from .left_out import BYPASSED, MUTED, PRIMITIVE_VALUE, SUBGRAPH, LeftOut
from .resolve import Constant, Cut, Source, resolve

# Nested instances multiply: a small file can ask for more nodes than a machine can hold.
MOST_NODES = 100_000

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_GROUP_NODE = re.compile(r"workflow[>/].+")


@dataclass(frozen=True)
class UnknownNode:
    """A node whose type is not in `/object_info`, with the pack it says it comes from (both may be None)."""

    id: str
    type: str
    title: str
    pack: str | None
    version: str | None

    def sentence(self) -> str:
        """For the user: which node, which pack."""
        pack = f"; the file says it comes from the node pack '{self.pack}'" if self.pack else ""
        if self.pack == "comfy-core":
            pack = "; it is a node of ComfyUI itself"
        version = f" (version {self.version})" if self.pack and self.version else ""
        return f"The type '{self.type}' of the node '{self.title}' (id {self.id}) is not known here{pack}{version}."


@dataclass(frozen=True)
class Conversion:
    """The API prompt, remarks for the user (full sentences), the nodes that are not known and those left out."""

    prompt: dict[str, Any]
    notes: tuple[str, ...] = ()
    unknown_nodes: tuple[UnknownNode, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass
class _Findings:
    notes: list[str] = field(default_factory=list)
    unknown: list[UnknownNode] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    cuts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # by the id of the node that makes them


def to_api(workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> dict[str, Any]:
    """The API prompt of a workflow that the editor saved; see `convert`."""
    return convert(workflow, object_info).prompt


def convert(workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> Conversion:
    """Convert a workflow that the editor saved to the API format.

    `object_info` is ComfyUI's `/object_info` (node type -> definition). Neither argument is changed, and the prompt
    shares nothing with them. Nodes without a definition are converted as far as the file itself allows and listed in
    `unknown_nodes`. Raises EditorFormatError, naming the node, for a file that is damaged or cannot be expanded.
    """
    if not isinstance(object_info, Mapping):
        raise EditorFormatError("The node definitions must be ComfyUI's /object_info: an object by node type.")
    space = Workspace(read_document(workflow), Definitions(object_info))
    findings = _Findings()
    placed: dict[str, tuple[Scope, Node]] = {}
    for scope, node in _placed_nodes(space, Scope(space.document.root), findings):
        node_id = scope.id_of(node)
        if node_id in placed:
            raise EditorFormatError(f"Two nodes end up with the same id {node_id}; the second is {called(node)}.")
        placed[node_id] = scope, node
        if len(placed) > MOST_NODES:
            raise EditorFormatError(f"The subgraphs of this workflow expand to more than {MOST_NODES} nodes.")
    prompt = {node_id: _emit(space, scope, node, findings) for node_id, (scope, node) in placed.items()}
    left_out = (replace(one, cuts=tuple(findings.cuts.get(one.id, ()))) for one in findings.left_out)
    return Conversion(prompt, tuple(findings.notes), tuple(findings.unknown), tuple(left_out))


def _placed_nodes(
    space: Workspace, scope: Scope, findings: _Findings, outer: tuple[str, ...] = ()
) -> Iterator[tuple[Scope, Node]]:
    """All nodes that are run, in execution order as far as the file has it, subgraph instances expanded."""
    for node in sorted(scope.graph.nodes.values(), key=lambda n: n.order):
        findings.left_out += _left_out(space, scope, node)
        if not node.active or space.editor_only(node):
            continue
        definition = space.subgraph(node)
        if definition is None:
            if space.definitions.get(space.type_of(node)) is None:
                _refuse_missing_parts(node)
            yield scope, node
        elif definition.key in outer:
            raise EditorFormatError(f"The subgraph '{definition.name}' contains itself, through {called(node)}.")
        elif len(outer) >= MOST_DEPTH:
            raise EditorFormatError(f"Subgraphs are nested more than {MOST_DEPTH} deep at {called(node)}.")
        else:
            yield from _placed_nodes(space, scope.inside(node, definition), findings, (*outer, definition.key))


def _left_out(space: Workspace, scope: Scope, node: Node) -> Iterator[LeftOut]:
    """The node itself, if the prompt does not get it although a user may speak of it."""
    subgraph, definition = space.subgraph(node), space.definitions.get(space.type_of(node))
    if node.type == PRIMITIVE:
        state = PRIMITIVE_VALUE
    elif space.editor_only(node):
        return
    elif not node.active:
        state = MUTED if node.mode == MODE_NEVER else BYPASSED
    elif subgraph is not None:
        state = SUBGRAPH
    else:
        return
    kind = subgraph.name if subgraph is not None else definition.display_name if definition is not None else node.type
    shows = tuple(one for one in proxy_widgets(node) if one[0] != "-1") if state == SUBGRAPH else ()
    yield LeftOut(scope.id_of(node), space.type_of(node), node.title or kind, state, shows)


def _refuse_missing_parts(node: Node) -> None:
    if _UUID.fullmatch(node.type):
        raise EditorFormatError(
            f"The node {called(node)} is an instance of the subgraph {node.type}, whose definition is not in the file."
        )
    if _GROUP_NODE.fullmatch(node.type):
        raise EditorFormatError(
            f"The node {called(node)} is a group node of the old kind ('{node.type}'). Open the workflow in the "
            "ComfyUI editor, convert the group node to nodes or to a subgraph, and save it again."
        )


def _emit(space: Workspace, scope: Scope, node: Node, findings: _Findings) -> dict[str, Any]:
    """One entry of the prompt: all widget values, then links over them."""
    live = space.live(scope.graph, node)
    inputs = {name: _wrapped(value, live, name) for name, value in space.values(scope, live).items()}
    for slot in live.inputs:
        source = resolve(space, scope, node, slot) if slot.link is not None else None
        if isinstance(source, Source):
            inputs[slot.name] = [source.node_id, source.slot]
        elif isinstance(source, Constant):
            inputs[slot.name] = _wrapped(source.value, live, slot.name)
        elif isinstance(source, Cut):
            findings.cuts.setdefault(source.node_id, []).append((scope.id_of(node), slot.name))
    title = node.title or (live.definition.display_name if live.definition else node.type)
    _remark(scope, live, title, findings)
    return {"inputs": inputs, "class_type": space.type_of(node), "_meta": {"title": title}}


def _wrapped(value: Any, live: LiveNode, name: str) -> Any:
    """A constant as the API format takes it: a bare list would be read as a link."""
    spec = live.widgets.specs.get(name)
    if spec is not None and spec.widget_type == "CURVE" and value is not None:
        return {"__type__": "CURVE", "__value__": copy.deepcopy(value)}
    return {"__value__": copy.deepcopy(value)} if isinstance(value, list) else copy.deepcopy(value)


def _remark(scope: Scope, live: LiveNode, title: str, findings: _Findings) -> None:
    node_id, node = scope.id_of(live.node), live.node
    label = f"The node '{title}' (id {node_id})"
    if live.definition is None:
        pack = node.properties.get("cnr_id") or node.properties.get("aux_id")
        version = node.properties.get("ver")
        found = UnknownNode(node_id, node.type, title, str(pack) if pack else None, str(version) if version else None)
        findings.unknown.append(found)
        if live.widgets.unread:
            findings.notes.append(
                f"{label} is of an unknown type and saves its {live.widgets.unread} widget values by position: "
                "without its definition they cannot be named and are left out."
            )
    if live.widgets.defaulted:
        names = ", ".join(f"'{name}'" for name in live.widgets.defaulted)
        findings.notes.append(f"{label} has no saved value for {names}: the defaults are used.")
    if live.removed:
        names = ", ".join(f"'{name}'" for name in live.removed)
        findings.notes.append(f"{label} has no inputs {names} as it is set now: their links are left out.")
