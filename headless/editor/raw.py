"""Changing a file as the editor saves it: where a node lies in it, what holds the value of an input, cutting a wire.

A path is the row of keys and positions from the top of the file to a part of it. Nothing is changed in place: a
changed file shares with the old one all that is equal. The files are taken to be readable (`read_document`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .document import BORDER_INPUT
from .graph import PRIMITIVE

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """A node in its graph: the paths of both, and the subgraph instance around it (None in the workflow itself)."""

    graph: Path
    node: Path
    outer: Place | None = None


def part(tree: Any, path: Path) -> Any:
    """What lies at `path`."""
    for key in path:
        tree = tree[key]
    return tree


def put(tree: Any, path: Path, value: Any) -> Any:
    """The tree with `value` at `path`."""
    if not path:
        return value
    key, *rest = path
    copied = dict(tree) if isinstance(tree, dict) else list(tree)
    copied[key] = put(tree[key], tuple(rest), value) if rest else value
    return copied


def find_node(editor: dict[str, Any], node_id: str) -> Place | None:
    """The node with an id of the API format (`outer:inner` inside subgraphs), or None."""
    definitions = dict(_definitions(editor, ()))
    graph: Path | None = ()
    place = None
    for one in node_id.split(":"):
        path = None if graph is None else _node_in(editor, graph, one)
        if graph is None or path is None:
            return None
        place = Place(graph, path, place)
        graph = definitions.get(part(editor, path).get("type"))
    return place


def wire_to(editor: dict[str, Any], place: Place, name: str) -> list[tuple[Place, str]]:
    """The input `name` and what may hold its value in its stead: instances around it, and a primitive at the end."""
    wire = [(place, name)]
    while (origin := _origin(editor, place, name)) is not None:
        source, slot = origin
        borders = part(editor, place.graph).get("inputs") or []
        if source == BORDER_INPUT and place.outer is not None and isinstance(slot, int) and slot < len(borders):
            place, name = place.outer, str(borders[slot].get("name") or "")
            wire.append((place, name))
            continue
        path = _node_in(editor, place.graph, source)
        if path is not None and part(editor, path).get("type") == PRIMITIVE:
            wire.append((Place(place.graph, path, place.outer), "value"))
        break
    return wire


def input_labels(editor: dict[str, Any], node_id: str) -> dict[str, str]:
    """What a person has called the inputs of a subgraph instance -> their names, which renaming leaves as they are."""
    place = find_node(editor, node_id)
    if place is None:
        return {}
    node = part(editor, place.node)
    definition = dict(_definitions(editor, ())).get(node.get("type"))
    borders = [] if definition is None else part(editor, definition).get("inputs") or []
    return {
        str(one["label"]): str(one.get("name") or "")
        for one in [*borders, *(node.get("inputs") or [])]
        if isinstance(one, dict) and one.get("label")
    }


def holders_of(editor: dict[str, Any], node_id: str, name: str) -> list[tuple[str, str]]:
    """(id, widget) of the instances and the primitive through which the value of an input can be given."""
    place = find_node(editor, node_id)
    return [] if place is None else [(_id_at(editor, one), widget) for one, widget in wire_to(editor, place, name)[1:]]


def _id_at(editor: dict[str, Any], place: Place) -> str:
    """The id of the API format of a node."""
    own = str(part(editor, place.node)["id"])
    return own if place.outer is None else f"{_id_at(editor, place.outer)}:{own}"


def without_link(editor: dict[str, Any], place: Place, name: str) -> dict[str, Any] | None:
    """The file without the wire that ends in the input `name`, or None if there is none."""
    slot = _linked_slot(editor, place, name)
    if slot is None:
        return None
    link = part(editor, slot)["link"]
    editor = put(editor, (*slot, "link"), None)
    graph = part(editor, place.graph)
    links = [one for one in graph.get("links") or [] if one is None or str(_link_fields(one)[0]) != str(link)]
    nodes = [{**node, "outputs": _without(node.get("outputs"), "links", link)} for node in graph["nodes"]]
    changed = {**graph, "links": links, "nodes": nodes}
    if place.graph:
        changed["inputs"] = _without(graph.get("inputs"), "linkIds", link)
    return put(editor, place.graph, changed)


def _without(slots: Any, key: str, link: Any) -> Any:
    """Outputs or border inputs whose lists of links under `key` no longer have `link`."""
    if not isinstance(slots, list):
        return slots
    return [
        {**one, key: [known for known in one[key] if str(known) != str(link)]}
        if isinstance(one.get(key), list)
        else one
        for one in slots
    ]


def _definitions(raw: dict[str, Any], path: Path) -> Iterator[tuple[Any, Path]]:
    """Id and path of every subgraph definition, also of those inside others."""
    definitions = raw.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    for index, one in enumerate(subgraphs or ()):
        here = (*path, "definitions", "subgraphs", index)
        yield one.get("id"), here
        yield from _definitions(one, here)


def _node_in(editor: dict[str, Any], graph: Path, node_id: str) -> Path | None:
    nodes = part(editor, graph)["nodes"]
    return next(((*graph, "nodes", index) for index, one in enumerate(nodes) if str(one.get("id")) == node_id), None)


def _linked_slot(editor: dict[str, Any], place: Place, name: str) -> Path | None:
    """The connected input of this name, or of the widget of this name."""
    for index, slot in enumerate(part(editor, place.node).get("inputs") or ()):
        widget = slot.get("widget")
        names = (slot.get("name"), widget.get("name") if isinstance(widget, dict) else None)
        if name in names and slot.get("link") is not None:
            return (*place.node, "inputs", index)
    return None


def _origin(editor: dict[str, Any], place: Place, name: str) -> tuple[str, Any] | None:
    """Node id and output number at the other end of the wire into an input."""
    slot = _linked_slot(editor, place, name)
    if slot is None:
        return None
    link = str(part(editor, slot)["link"])
    for one in part(editor, place.graph).get("links") or ():
        if one is not None and str(_link_fields(one)[0]) == link:
            return str(_link_fields(one)[1]), _link_fields(one)[2]
    return None


def _link_fields(link: Any) -> list[Any]:
    """Id, origin and output number of a link in either form."""
    return link[:3] if isinstance(link, list) else [link.get(key) for key in ("id", "origin_id", "origin_slot")]
