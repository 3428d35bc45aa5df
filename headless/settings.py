"""`--set NODE.INPUT=VALUE`: finding the node by id or title, and reading the value by the input's declared type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .api_dynamic import BoundInput, DynamicInput, unfold
from .graph import title_of
from .problems import Problem, UsageError, WorkflowError, did_you_mean, errors, listed, shown
from .registry import Registry
from .saved_copy import change_editor_copy
from .values import is_link, takes_constant
from .workflow import Workflow

SEEDS = ("seed", "noise_seed")  # names that ComfyUI's editor, too, takes for seeds
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


class _Wrong(Exception):
    """One setting cannot be made; the text says why."""


@dataclass(frozen=True)
class Setting:
    """One input given a new value."""

    node_id: str
    input: str
    value: Any


def apply_settings(
    workflow: Workflow, registry: Registry, settings: Iterable[str] | Mapping[str, Any]
) -> list[Setting]:
    """Change `workflow.prompt` in place; texts are "NODE.INPUT=VALUE", a mapping has "NODE.INPUT": value.

    A link on an input that could hold a value is replaced. The editor's copy of the workflow, which goes into the
    saved file, is changed alike. One text is one setting.

    Raises:
        WorkflowError: lists every setting that names no node or input, or whose value does not fit.
    """
    made: list[Setting] = []
    problems: list[Problem] = []
    settings = [settings] if isinstance(settings, str) else settings
    for one in settings.items() if isinstance(settings, Mapping) else settings:
        try:
            setting = (
                _from_text(one, workflow, registry) if isinstance(one, str) else _from_pair(one, workflow, registry)
            )
        except _Wrong as wrong:
            name = one if isinstance(one, str) else one[0]
            problems.append(Problem(None, None, None, f"--set {shown(name, 80)}: {wrong}"))
        else:
            made.append(setting)
    if errors(problems):
        raise WorkflowError(problems)
    _make(workflow, registry, made)
    return made


def set_seed(workflow: Workflow, registry: Registry, seed: int) -> list[Setting]:
    """Give every seed the value `seed`: the input itself, or the primitive node that feeds it and only seeds.

    Raises:
        UsageError: there is none, or all come from other nodes.
    """
    made: dict[tuple[str, str], Setting] = {}
    linked: list[tuple[str, str]] = []
    for node_id, name in _seeds(workflow, registry):
        place = _seed_place(workflow, registry, node_id, name)
        if place is None:
            linked.append((node_id, name))
        else:
            made[place] = Setting(*place, seed)
    set_nodes = {node_id for node_id, _ in made}
    linked = [(one, name) for one, name in linked if workflow.prompt[one]["inputs"][name][0] not in set_nodes]
    left = [f"{name} of {_names(node_id, workflow, registry)[1]} (node {node_id})" for node_id, name in linked]
    if not made and left:
        raise UsageError(
            f"--seed: {listed(left)} come from nodes that are no seeds themselves; "
            "--set puts a number in the place of such a link."
        )
    if not made:
        raise UsageError("--seed: no node of the workflow has a seed to set.")
    workflow.notes += [f"--seed leaves {one} as it is: it comes from another node." for one in left]
    _make(workflow, registry, list(made.values()))
    return list(made.values())


def _seeds(workflow: Workflow, registry: Registry) -> list[tuple[str, str]]:
    """(node id, input) of every seed, linked or not."""
    return [
        (node_id, name)
        for node_id, node in workflow.prompt.items()
        for name in SEEDS
        if name in _inputs(node, registry)
    ]


def _seed_place(workflow: Workflow, registry: Registry, node_id: str, name: str) -> tuple[str, str] | None:
    """(node id, input) that decides on a seed; None if it is neither a value nor comes from a primitive node."""
    link = workflow.prompt[node_id]["inputs"].get(name)
    if not is_link(link):
        return node_id, name
    source = workflow.prompt.get(link[0])
    inputs = _inputs(source, registry)
    if (
        list(inputs) != ["value"]
        or inputs["value"].input.get_io_type() != "INT"
        or is_link(source["inputs"].get("value"))
    ):
        return None
    return (link[0], "value") if _feeds_seeds_only(workflow, link[0]) else (node_id, name)


def _feeds_seeds_only(workflow: Workflow, source: str) -> bool:
    users = (
        name
        for node in workflow.prompt.values()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
        for name, value in node["inputs"].items()
        if is_link(value) and value[0] == source
    )
    return all(name in SEEDS for name in users)


def _make(workflow: Workflow, registry: Registry, made: list[Setting]) -> None:
    change_editor_copy(workflow, registry, made)
    for one in made:
        workflow.prompt[one.node_id].setdefault("inputs", {})[one.input] = one.value


def _from_text(text: str, workflow: Workflow, registry: Registry) -> Setting:
    """The first `=` whose left side names an input counts, so both titles and values may hold `=`."""
    if "=" not in text:
        raise _Wrong('expected NODE.INPUT=VALUE, such as "Prompt.text=a red balloon".')
    first: _Wrong | None = None
    for position in (index for index, letter in enumerate(text) if letter == "="):
        try:
            node_id, name, bound = _find(text[:position].strip(), workflow, registry)
        except _Wrong as wrong:
            first = first or wrong
        else:
            return Setting(node_id, name, _parse(bound, text[position + 1 :]))
    raise first or _Wrong("names no input.")


def _from_pair(pair: tuple[str, Any], workflow: Workflow, registry: Registry) -> Setting:
    node_id, name, _ = _find(str(pair[0]), workflow, registry)
    value = pair[1]
    return Setting(node_id, name, {"__value__": value} if isinstance(value, list) else value)


def _find(target: str, workflow: Workflow, registry: Registry) -> tuple[str, str, BoundInput]:
    """(node id, input name, declaration) for "NODE.INPUT"; the longest NODE that fits counts."""
    if "." not in target:
        raise _Wrong('expected NODE.INPUT=VALUE with a dot between node and input, such as "Prompt.text=...".')
    dots = [index for index, letter in enumerate(target) if letter == "."]
    for dot in reversed(dots):
        node_ids = _nodes_called(target[:dot], workflow, registry)
        if len(node_ids) > 1:
            raise _Wrong(f"{len(node_ids)} nodes are called '{target[:dot]}': use an id, {' or '.join(node_ids)}.")
        if node_ids:
            return _input_of(node_ids[0], target[dot + 1 :], workflow, registry)
    wanted = target[: dots[-1]]
    titles = [title for node_id in workflow.prompt for title in _names(node_id, workflow, registry)[:2]]
    raise _Wrong(f"there is no node '{wanted}'; the nodes are: {_node_list(workflow, registry)}."
                 f"{did_you_mean(wanted, titles)}")  # fmt: skip


def _names(node_id: str, workflow: Workflow, registry: Registry) -> list[str]:
    """The names of a node in order of rank: id, title, display name, class."""
    node = workflow.prompt[node_id]
    class_type = node.get("class_type") if isinstance(node, dict) else None
    schema = registry.schema(class_type) if class_type in registry else None
    names = [node_id, title_of(node_id, node, schema)]
    names += [schema.display_name] if schema is not None and schema.display_name else []
    return names + ([class_type] if isinstance(class_type, str) else [])


def _nodes_called(name: str, workflow: Workflow, registry: Registry) -> list[str]:
    """Ids of the nodes with this id; if none, with this title; if none, of this display name or class."""
    if name in workflow.prompt:
        return [name]
    wanted = name.strip().casefold()
    names = {node_id: _names(node_id, workflow, registry) for node_id in workflow.prompt}
    titled = [node_id for node_id, known in names.items() if known[1].casefold() == wanted]
    return titled or [node_id for node_id, known in names.items() if wanted in [one.casefold() for one in known[2:]]]


def _node_list(workflow: Workflow, registry: Registry) -> str:
    return listed(f"{_names(node_id, workflow, registry)[1]} ({node_id})" for node_id in workflow.prompt)


def _inputs(node: Any, registry: Registry) -> dict[str, BoundInput]:
    """Inputs of a node of the prompt by dotted name; empty if its class is unknown."""
    if not isinstance(node, dict) or node.get("class_type") not in registry:
        return {}
    schema = registry.schema(node["class_type"])
    live = node.setdefault("inputs", {})
    return {one.name: one for one in unfold(schema.inputs, live)} if isinstance(live, dict) else {}


def _input_of(node_id: str, name: str, workflow: Workflow, registry: Registry) -> tuple[str, str, BoundInput]:
    node = workflow.prompt[node_id]
    title = f"{_names(node_id, workflow, registry)[1]} (node {node_id})"
    inputs = _inputs(node, registry)
    if not inputs:
        raise _Wrong(f"{title} is of an unknown type, or has no inputs.")
    settable = {one: bound for one, bound in inputs.items() if takes_constant(bound.input)}
    by_lower = {one.lower(): one for one in inputs}
    by_lower |= {
        str(bound.input.display_name).lower(): one for one, bound in inputs.items() if bound.input.display_name
    }
    found = name if name in inputs else by_lower.get(name.strip().lower())
    if found is None:
        raise _Wrong(f"{title} has no input '{name}'; those that can be set: {listed(settable)}."
                     f"{did_you_mean(name, settable)}")  # fmt: skip
    if found not in settable:
        kind = inputs[found].input.get_io_type()
        raise _Wrong(f"{found} of {title} is a link of type {kind}, which cannot be given as a value.")
    return node_id, found, inputs[found]


def _parse(bound: BoundInput, text: str) -> Any:
    """The value that `text` means for this input; texts are taken as they are."""
    declared = bound.input
    kind = declared.get_io_type()
    if kind == "STRING" or isinstance(declared, DynamicInput):
        return text
    if kind == "INT":
        return _number(text, int, "a whole number")
    if kind == "FLOAT":
        return _number(text, float, "a number")
    if kind == "BOOLEAN":
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise _Wrong(f"got {shown(text)}; expected true or false.")
        return word in _TRUE
    if kind == "COMBO":
        choices = declared.as_dict().get("options") or []
        return next((one for one in choices if str(one) == text), text)
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return {"__value__": value} if isinstance(value, list) else value


def _number(text: str, kind: Callable[[str], Any], expected: str) -> Any:
    try:
        return kind(text.strip())
    except ValueError:
        raise _Wrong(f"got {shown(text)}; expected {expected}.") from None
