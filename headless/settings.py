"""`--set NODE.INPUT=VALUE`: reading the value by the input's declared type, and giving it. `--seed` as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .api_dynamic import BoundInput, DynamicInput
from .problems import Problem, UsageError, WorkflowError, errors, listed, shown
from .registry import Registry
from .saved_copy import change_editor_copy
from .targets import NoTarget, find_targets, inputs_of, names_of
from .values import is_link
from .workflow import Workflow

SEEDS = ("seed", "noise_seed")  # names that ComfyUI's editor, too, takes for seeds
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


class _Wrong(Exception):
    """A value does not fit the input; the text says why."""


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
    for name, *value in _split(settings):
        try:
            if value:
                made += _from_pair(name, value[0], workflow, registry)
            else:
                made += _from_text(name, workflow, registry)
        except (NoTarget, _Wrong) as wrong:
            problems.append(Problem(None, None, None, f"--set {shown(name, 80)}: {wrong}"))
    if errors(problems):
        raise WorkflowError(problems)
    _make(workflow, registry, made)
    return made


def _split(settings: Any) -> list[tuple[Any, ...]]:
    """(text,) or (name, value) for each setting."""
    if isinstance(settings, Mapping):
        return list(settings.items())
    if isinstance(settings, str) or not isinstance(settings, Iterable):
        return [(settings,)]
    return [tuple(one) if isinstance(one, (tuple, list)) and len(one) == 2 else (one,) for one in settings]


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
    left = [f"{name} of {names_of(node_id, workflow, registry)[1]} (node {node_id})" for node_id, name in linked]
    if not made and left:
        raise UsageError(
            f"--seed: {listed(left)} come from nodes that are no seeds themselves; "
            "--set puts a number in the place of such a link."
        )
    if not made:
        raise UsageError("--seed: no node of the workflow has a seed to set.")
    workflow.notes += [f"--seed leaves {one} as it is: it comes from another node." for one in left]
    if others := _seeds_of_trainings(workflow, registry):
        workflow.notes.append(f"--seed leaves {listed(others)} as it is; --set can change it.")
    _make(workflow, registry, list(made.values()))
    return list(made.values())


def _seeds(workflow: Workflow, registry: Registry) -> list[tuple[str, str]]:
    """(node id, input) of every seed, linked or not."""
    return [
        (node_id, name)
        for node_id, node in workflow.prompt.items()
        for name in SEEDS
        if name in inputs_of(node, registry)
    ]


def _seeds_of_trainings(workflow: Workflow, registry: Registry) -> list[str]:
    """The other seeds: of a training, of new weights, of a data set. With another one of these it is another training.

    Each as "training_seed of Train (node 7)".
    """
    return [
        f"{name} of {names_of(node_id, workflow, registry)[1]} (node {node_id})"
        for node_id, node in workflow.prompt.items()
        for name in inputs_of(node, registry)
        if name.endswith("_seed") and name not in SEEDS
    ]


def _seed_place(workflow: Workflow, registry: Registry, node_id: str, name: str) -> tuple[str, str] | None:
    """(node id, input) that decides on a seed; None if it is neither a value nor comes from a primitive node."""
    link = workflow.prompt[node_id]["inputs"].get(name)
    if not is_link(link):
        return node_id, name
    source = workflow.prompt.get(link[0])
    inputs = inputs_of(source, registry)
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


def _from_text(text: Any, workflow: Workflow, registry: Registry) -> list[Setting]:
    """The first `=` whose left side names an input counts, so both titles and values may hold `=`."""
    if not isinstance(text, str) or "=" not in text:
        raise NoTarget('expected NODE.INPUT=VALUE, such as "Prompt.text=a red balloon".')
    first: NoTarget | None = None
    for position in (index for index, letter in enumerate(text) if letter == "="):
        try:
            targets = find_targets(text[:position].strip(), workflow, registry)
        except NoTarget as wrong:
            first = first or wrong
        else:
            return [Setting(one.node_id, one.input, _parse(one.bound, text[position + 1 :])) for one in targets]
    raise first or NoTarget("names no input.")


def _from_pair(name: Any, value: Any, workflow: Workflow, registry: Registry) -> list[Setting]:
    value = {"__value__": value} if isinstance(value, list) else value
    return [Setting(one.node_id, one.input, value) for one in find_targets(str(name), workflow, registry)]


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
