"""What "NODE.INPUT" names: an input of the prompt, or those that a subgraph or primitive of the editor's file holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .api_dynamic import BoundInput, unfold
from .graph import left_out_name, title_of
from .problems import did_you_mean, listed
from .registry import Registry
from .values import takes_constant
from .workflow import Workflow

if TYPE_CHECKING:
    from .editor import LeftOut


class NoTarget(Exception):
    """The name names nothing that can be set; the text says why."""


@dataclass(frozen=True)
class Target:
    """One input of the prompt that can hold a value."""

    node_id: str
    input: str
    bound: BoundInput


def find_targets(name: str, workflow: Workflow, registry: Registry) -> list[Target]:
    """The inputs that "NODE.INPUT" means; the longest NODE that fits counts.

    NODE is an id or a title, also of a subgraph or a primitive node, which the prompt does not have.

    Raises:
        NoTarget: there are none.
    """
    if "." not in name:
        raise NoTarget('expected NODE.INPUT=VALUE with a dot between node and input, such as "Prompt.text=...".')
    dots = [index for index, letter in enumerate(name) if letter == "."]
    for dot in reversed(dots):
        node_ids = _nodes_called(name[:dot], workflow, registry)
        if len(node_ids) > 1:
            raise NoTarget(f"{len(node_ids)} nodes are called '{name[:dot]}': use an id, {' or '.join(node_ids)}.")
        if node_ids:
            return _targets(node_ids[0], name[dot + 1 :], workflow, registry)
    wanted = name[: dots[-1]]
    names = names_in(workflow, registry)
    titles = [title for known in names.values() for title in known[:2]] + [one.title for one in workflow.left_out]
    there = {node_id: known[1] for node_id, known in names.items()}
    there |= {one.id: _title(one) for one in workflow.left_out if one.runs}
    nodes = listed(f"{title} ({node_id})" for node_id, title in there.items())
    raise NoTarget(f"there is no node '{wanted}'; the nodes are: {nodes}.{did_you_mean(wanted, titles)}")


def names_of(node_id: str, workflow: Workflow, registry: Registry) -> list[str]:
    """The names of a node in order of rank: id, title, display name, class."""
    node = workflow.prompt[node_id]
    class_type = node.get("class_type") if isinstance(node, dict) else None
    schema = registry.schema(class_type) if class_type in registry else None
    names = [node_id, title_of(node_id, node, schema)]
    names += [schema.display_name] if schema is not None and schema.display_name else []
    return names + ([class_type] if isinstance(class_type, str) else [])


def names_in(workflow: Workflow, registry: Registry) -> dict[str, list[str]]:
    """{node id: its names} of the whole prompt."""
    return {node_id: names_of(node_id, workflow, registry) for node_id in workflow.prompt}


def inputs_of(node: Any, registry: Registry) -> dict[str, BoundInput]:
    """Inputs of a node of the prompt by dotted name; empty if its class is unknown."""
    if not isinstance(node, dict) or node.get("class_type") not in registry:
        return {}
    schema = registry.schema(node["class_type"])
    live = node.setdefault("inputs", {})
    return {one.name: one for one in unfold(schema.inputs, live)} if isinstance(live, dict) else {}


def _title(one: LeftOut) -> str:
    """As `title_of` words those of the prompt."""
    return title_of(one.id, {"_meta": {"title": one.title}})


def _nodes_called(name: str, workflow: Workflow, registry: Registry) -> list[str]:
    """Ids of the nodes with this id; if none, with this title; if none, of this display name or class.

    What is not run is found last, only to say so.
    """
    left_out = workflow.left_out
    if name in workflow.prompt or name in [one.id for one in left_out]:
        return [name]
    wanted = name.strip().casefold()
    names = names_in(workflow, registry)
    ranks = (
        [node_id for node_id, known in names.items() if known[1].casefold() == wanted],
        [one.id for one in left_out if one.runs and _title(one).casefold() == wanted],
        [node_id for node_id, known in names.items() if wanted in [one.casefold() for one in known[2:]]],
        [one.id for one in left_out if not one.runs and _title(one).casefold() == wanted],
        [one.id for one in left_out if not one.runs and name.startswith(f"{one.id}:")],
    )
    return next((rank for rank in ranks if rank), [])


def _targets(node_id: str, name: str, workflow: Workflow, registry: Registry) -> list[Target]:
    """The inputs that the input `name` of a node, in the prompt or left out, decides on."""
    if node_id in workflow.prompt:
        return [_target(node_id, name, workflow, registry)]
    one = next(one for one in workflow.left_out if one.id == node_id)
    place = left_out_name(one)
    if not one.runs:
        raise NoTarget(f"{place} is {one.state}, so it is not run and nothing of it can be set.")
    from .editor.raw import input_labels

    held = _held_by(one, workflow, registry)
    labels = input_labels(workflow.editor, one.id) if workflow.editor else {}
    called = {real: label for label, real in labels.items()}
    wanted = name.strip().casefold()
    names = {wanted, *(real.casefold() for label, real in labels.items() if label.casefold() == wanted)}
    found = [(inner, widget) for shown, inner, widget in held if shown.casefold() in names]
    if found:
        return [_target(inner, widget, workflow, registry) for inner, widget in dict.fromkeys(found)]
    known = listed(dict.fromkeys(called.get(shown, shown) for shown, _, _ in held))
    instead = _inside(node_id, wanted, workflow, registry)
    raise NoTarget(
        f"{place} is {one.state} and has no input '{name}'; "
        + (f"those that can be set: {known}." if known else "it has none that can be set.")
        + (f" Of the nodes inside, set {instead}." if instead else "")
    )


def _held_by(one: LeftOut, workflow: Workflow, registry: Registry) -> list[tuple[str, str, str]]:
    """(name, node id, input) for each input of the prompt that a subgraph shows under a name, or a primitive feeds."""
    from .editor.raw import holders_of

    settable = [
        (node_id, name)
        for node_id, node in workflow.prompt.items()
        for name, bound in inputs_of(node, registry).items()
        if takes_constant(bound.input)
    ]
    shown = {(f"{one.id}:{inner}", widget) for inner, widget in one.shows}
    held = [(name, node_id, name) for node_id, name in settable if (node_id, name) in shown]
    return held + [
        (widget, node_id, name)
        for node_id, name in settable
        for holder, widget in holders_of(workflow.editor, node_id, name)
        if holder == one.id
    ]


def _inside(node_id: str, wanted: str, workflow: Workflow, registry: Registry) -> str:
    """The inputs inside a subgraph that have this name, in words: "3:7.text or 3:8.text"."""
    found = [
        f"{inner}.{name}"
        for inner, node in workflow.prompt.items()
        for name, bound in inputs_of(node, registry).items()
        if inner.startswith(f"{node_id}:") and name.casefold() == wanted and takes_constant(bound.input)
    ]
    return " or ".join(found[:4])


def _target(node_id: str, name: str, workflow: Workflow, registry: Registry) -> Target:
    node = workflow.prompt[node_id]
    title = f"{names_of(node_id, workflow, registry)[1]} (node {node_id})"
    inputs = inputs_of(node, registry)
    if not inputs:
        raise NoTarget(f"{title} is of an unknown type, or has no inputs.")
    settable = {one: bound for one, bound in inputs.items() if takes_constant(bound.input)}
    by_lower = {one.lower(): one for one in inputs}
    by_lower |= {
        str(bound.input.display_name).lower(): one for one, bound in inputs.items() if bound.input.display_name
    }
    found = name if name in inputs else by_lower.get(name.strip().lower())
    if found is None:
        raise NoTarget(f"{title} has no input '{name}'; those that can be set: {listed(settable)}."
                     f"{did_you_mean(name, settable)}")  # fmt: skip
    if found not in settable:
        kind = inputs[found].input.get_io_type()
        raise NoTarget(f"{found} of {title} is a link of type {kind}, which cannot be given as a value.")
    return Target(node_id, found, inputs[found])
