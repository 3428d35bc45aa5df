"""What the ComfyUI editor saves, checked and put into one shape.

Both file versions become the same immutable records: 0.4 (links are arrays `[id, from, slot, to, slot, type]`, in
subgraph definitions objects) and 1 (links are objects everywhere). Node and link ids are strings here, whatever the
file has. Facts: ComfyUI's workflow JSON schema (docs.comfy.org, workflow_json) and files saved by frontends 1.35-1.58.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import EditorFormatError

# Node ids that stand for a subgraph's own border inside its definition.
BORDER_INPUT = "-10"
BORDER_OUTPUT = "-20"

MOST_DIGITS = 9  # of the number of an output; Python refuses to read one of thousands of digits

MODE_NEVER = 2
MODE_BYPASS = 4


@dataclass(frozen=True)
class Link:
    """One wire: output `origin_slot` of node `origin` to node `target`."""

    id: str
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class Slot:
    """One input or output of a node. `widget` is the widget's name when the input belongs to one."""

    name: str
    type: str
    link: str | None = None
    widget: str | None = None


@dataclass(frozen=True)
class Node:
    """One node as saved. `values` is a list (by position), a dict (by name) or None; `named` a dict or None."""

    id: str
    type: str
    title: str | None
    mode: int
    order: float
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    values: list[Any] | dict[str, Any] | None
    named: dict[str, Any] | None
    properties: Mapping[str, Any]

    @property
    def by_name(self) -> dict[str, Any] | None:
        """Widget values by name, if the file has them so: what newer editors write beside the list, or in its place."""
        return self.named if self.named is not None else self.values if isinstance(self.values, dict) else None

    @property
    def active(self) -> bool:
        """False for muted and bypassed nodes: they are not run."""
        return self.mode not in (MODE_NEVER, MODE_BYPASS)


@dataclass(frozen=True)
class Border:
    """One input or output of a subgraph definition, with the ids of its links inside, in saved order."""

    name: str
    type: str
    links: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Nodes and links of the workflow itself (`key` "") or of one subgraph definition (`key` its id)."""

    key: str
    name: str
    nodes: Mapping[str, Node]
    links: Mapping[str, Link]
    inputs: tuple[Border, ...] = ()
    outputs: tuple[Border, ...] = ()


@dataclass(frozen=True)
class Document:
    """A whole workflow file."""

    root: Graph
    definitions: Mapping[str, Graph]


def called(node: Node) -> str:
    """How messages name a node: its title (or type) and id."""
    return f"'{node.title or node.type}' (id {node.id})"


def is_editor_format(data: Any) -> bool:
    """Whether `data` is (meant as) a workflow in the editor's format, not one in the API format."""
    if not isinstance(data, Mapping):
        return False
    nodes = data.get("nodes")
    if isinstance(nodes, Mapping) and "class_type" in nodes:
        return False  # API format with a node whose id is "nodes"
    return "nodes" in data or ("links" in data and ("last_node_id" in data or "version" in data))


def read_document(data: Any) -> Document:
    """Check and normalise a saved workflow; the input is only read. Raises EditorFormatError."""
    if not is_editor_format(data):
        raise EditorFormatError(
            "This is not a workflow as the ComfyUI editor saves it: a JSON object with a list 'nodes' was expected"
            + (f", not {_kind(data)}." if not isinstance(data, Mapping) else ".")
        )
    definitions: dict[str, Graph] = {}
    for raw in _raw_definitions(data, "the workflow"):
        key = raw.get("id")
        if not isinstance(key, str) or not key:
            raise EditorFormatError(f"A subgraph definition has no text 'id' (its id is {key!r}).")
        if key in definitions:
            raise EditorFormatError(f"Two subgraph definitions have the same id '{key}'.")
        definitions[key] = _read_graph(raw, key)
    return Document(_read_graph(data, ""), definitions)


def _raw_definitions(raw: Mapping[str, Any], where: str) -> Iterator[Mapping[str, Any]]:
    """Subgraph definitions of the file, also those that sit inside other definitions."""
    definitions = raw.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    if subgraphs is None:
        return
    if not isinstance(subgraphs, list):
        raise EditorFormatError(f"'definitions.subgraphs' of {where} must be a list, not {_kind(subgraphs)}.")
    for entry in subgraphs:
        if not isinstance(entry, Mapping):
            raise EditorFormatError(f"A subgraph definition of {where} must be an object, not {_kind(entry)}.")
        yield entry
        yield from _raw_definitions(entry, f"the subgraph '{entry.get('name', '')}'")


def _read_graph(raw: Mapping[str, Any], key: str) -> Graph:
    name = str(raw.get("name") or key)
    where = f"the subgraph '{name}'" if key else "the workflow"
    raw_nodes = raw.get("nodes")
    if not isinstance(raw_nodes, list):
        raise EditorFormatError(f"'nodes' of {where} must be a list of nodes, not {_kind(raw_nodes)}.")
    nodes: dict[str, Node] = {}
    for position, entry in enumerate(raw_nodes):
        node = _read_node(entry, position, where)
        if node.id in nodes:
            raise EditorFormatError(
                f"Two nodes of {where} have the same id {node.id}: {called(nodes[node.id])} and {called(node)}."
            )
        if node.id in (BORDER_INPUT, BORDER_OUTPUT):
            raise EditorFormatError(f"The node {called(node)} has an id that is reserved for the border of a subgraph.")
        nodes[node.id] = node
    return Graph(
        key,
        name,
        nodes,
        _read_links(raw.get("links"), where),
        _read_borders(raw.get("inputs"), where) if key else (),
        _read_borders(raw.get("outputs"), where) if key else (),
    )


def _read_node(raw: Any, position: int, where: str) -> Node:
    if not isinstance(raw, Mapping):
        raise EditorFormatError(f"Node number {position + 1} of {where} must be an object, not {_kind(raw)}.")
    kind, title = raw.get("type"), raw.get("title")
    hint = f"'{title}'" if title else f"of type '{kind}'" if kind else f"number {position + 1}"
    node_id = _identifier(raw.get("id"))
    if node_id is None:
        raise EditorFormatError(f"The node {hint} of {where} has no usable 'id' (it is {raw.get('id')!r}).")
    if not isinstance(kind, str) or not kind:
        raise EditorFormatError(f"The node {hint} (id {node_id}) of {where} has no 'type'.")
    name = f"'{title or kind}' (id {node_id})"
    values, named = raw.get("widgets_values"), raw.get("widgets_values_named")
    if values is not None and not isinstance(values, (list, Mapping)):
        raise EditorFormatError(
            f"'widgets_values' of the node {name} must be a list or an object, not {_kind(values)}."
        )
    if named is not None and not isinstance(named, Mapping):
        raise EditorFormatError(f"'widgets_values_named' of the node {name} must be an object, not {_kind(named)}.")
    properties = raw.get("properties")
    order = raw.get("order")
    return Node(
        id=node_id,
        type=kind,
        title=title if isinstance(title, str) and title else None,
        mode=_read_mode(raw.get("mode"), name),
        order=order if isinstance(order, (int, float)) else float("inf"),
        inputs=_read_slots(raw.get("inputs"), "inputs", name),
        outputs=_read_slots(raw.get("outputs"), "outputs", name),
        values=dict(values) if isinstance(values, Mapping) else values,
        named=dict(named) if isinstance(named, Mapping) else None,
        properties=properties if isinstance(properties, Mapping) else {},
    )


def _read_mode(raw: Any, name: str) -> int:
    """Whether a node runs, is muted or bypassed; nothing is 0, which runs. In JavaScript, 4.0 is 4."""
    if raw is None:
        return 0
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or raw != raw // 1:
        raise EditorFormatError(f"'mode' of the node {name} must be a whole number, not {_shorten(raw)}.")
    return int(raw)


def _read_slots(raw: Any, field: str, name: str) -> tuple[Slot, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise EditorFormatError(f"'{field}' of the node {name} must be a list, not {_kind(raw)}.")
    slots = []
    for entry in raw:
        if not isinstance(entry, Mapping):
            raise EditorFormatError(f"An entry in '{field}' of the node {name} must be an object, not {_kind(entry)}.")
        link = entry.get("link")
        link_id = _identifier(link)
        if link is not None and link_id is None:
            raise EditorFormatError(
                f"The input '{entry.get('name')}' of the node {name} has the unusable link id {link!r}."
            )
        widget = entry.get("widget")
        widget_name = widget.get("name") if isinstance(widget, Mapping) else None
        slots.append(
            Slot(
                name=str(entry.get("name") or ""),
                type=slot_type(entry.get("type")),
                link=link_id,
                widget=widget_name if isinstance(widget_name, str) else None,
            )
        )
    return tuple(slots)


def _read_borders(raw: Any, where: str) -> tuple[Border, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(entry, Mapping) for entry in raw):
        raise EditorFormatError(f"'inputs' and 'outputs' of {where} must be lists of objects.")
    borders = []
    for entry in raw:
        ids = entry.get("linkIds")
        links = tuple(str(i) for i in ids) if isinstance(ids, list) else ()
        borders.append(Border(str(entry.get("name") or ""), slot_type(entry.get("type")), links))
    return tuple(borders)


def _read_links(raw: Any, where: str) -> dict[str, Link]:
    if raw is None:
        return {}
    if not isinstance(raw, list):
        raise EditorFormatError(f"'links' of {where} must be a list, not {_kind(raw)}.")
    links: dict[str, Link] = {}
    for entry in raw:
        if entry is None:  # some old files keep a hole where a link was removed
            continue
        link = _read_link(entry)
        if link is None:
            raise EditorFormatError(
                f"A link of {where} has the wrong shape: [id, from node, output, to node, input, type] or an object "
                f"with id, origin_id, origin_slot, target_id and target_slot was expected, not {_shorten(entry)}."
            )
        links[link.id] = link
    return links


def _read_link(raw: Any) -> Link | None:
    if isinstance(raw, list):
        fields = raw[:5]
    elif isinstance(raw, Mapping):
        fields = [raw.get(k) for k in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    else:
        return None
    if len(fields) < 5:
        return None
    link_id, origin, target = _identifier(fields[0]), _identifier(fields[1]), _identifier(fields[3])
    origin_slot, target_slot = _index(fields[2]), _index(fields[4])
    if link_id is None or origin is None or target is None or origin_slot is None:
        return None
    # The target's slot is never trusted (connections are read by input name), so a missing one does no harm.
    return Link(link_id, origin, origin_slot, target, target_slot or 0)


def slot_type(raw: Any) -> str:
    """A slot's type as text: any (0, "" or nothing) is "*", a list of choices is "COMBO"."""
    if isinstance(raw, list):
        return "COMBO"
    if raw is None or raw == "" or raw == 0:
        return "*"
    return str(raw)


def _identifier(raw: Any) -> str | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int) or (isinstance(raw, str) and raw):
        return str(raw)
    return str(int(raw)) if isinstance(raw, float) and raw.is_integer() else None


def _index(raw: Any) -> int | None:
    number = _identifier(raw)
    return int(number) if number is not None and number.isdecimal() and len(number) <= MOST_DIGITS else None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
