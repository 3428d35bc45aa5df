"""Checking one node of a prompt: its constants, its links, and what its own `validate_inputs` says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..dit_core.errors import SoraDiTError
from .api_dynamic import nest
from .api_node import ExecutionBlocker, overrides
from .awaiting import run_coroutine
from .calls import clone_for
from .problems import WARNING, Problem, did_you_mean, errors, listed, nearest, shown
from .values import BadValue, OddValue, check_choice, check_range, convert, is_link, takes_constant, types_match, unwrap

if TYPE_CHECKING:
    from .graph import PlannedNode

SELF_CHECKED_TYPES = "input_types"  # a parameter of this name in validate_inputs turns the link type check off


def check_inputs(node: PlannedNode, prompt: Mapping[str, Any], nodes: Mapping[str, PlannedNode]) -> list[Problem]:
    """Problems of the node's inputs; fills `node.constants` with the converted values."""
    given = prompt[node.node_id].get("inputs") or {}
    problems = list(_unknown_inputs(node, given))
    for name, bound in node.bound.items():
        if name not in given:
            if not bound.input.optional:
                problems.append(_problem(node, name, _missing(node, name, given)))
            continue
        value = given[name]
        try:
            if isinstance(value, list):
                _check_link(node, name, value, prompt, nodes)
                _check_behind_link(node, name, prompt, nodes)
                if bound.input.rawLink:
                    node.constants[name] = value
            else:
                _check_constant(node, name, value)
        except BadValue as bad:
            problems.append(_problem(node, name, str(bad)))
        except OddValue as odd:
            node.constants[name] = odd.value
            problems.append(_problem(node, name, str(odd), WARNING))
    return problems


def _problem(node: PlannedNode, name: str | None, message: str, severity: str = "error") -> Problem:
    return Problem(node.node_id, node.title, name, message, severity)


def _unknown_inputs(node: PlannedNode, given: Mapping[str, Any]) -> Iterator[Problem]:
    """Names that the node does not have: a constant is dropped, a link would make the node fail."""
    known = set(node.bound) | {one.name for one in node.schema.hidden}
    takes_all = any(
        one.kind is inspect.Parameter.VAR_KEYWORD for one in inspect.signature(node.cls.execute).parameters.values()
    )
    for name, value in given.items():
        if name in known or (takes_all and is_link(value)):
            continue
        free = [one for one in node.bound if one not in given]
        hint = did_you_mean(name, free) or did_you_mean(name, node.bound)
        if is_link(value):
            inputs = listed(node.bound) or "none"
            yield _problem(node, name, f"the node has no input of this name to link; its inputs are: {inputs}.{hint}")
        else:
            yield _problem(node, name, f"the node has no input of this name; the value is ignored.{hint}", WARNING)


def _missing(node: PlannedNode, name: str, given: Mapping[str, Any]) -> str:
    declared = node.bound[name].input
    kind = _kind(declared.get_io_type())
    choices = declared.as_dict().get("options") if declared.get_io_type() == "COMBO" else None
    if choices:
        kind = f"one of: {listed(choices)}"
    expected = f"expected {kind}" if takes_constant(declared) else f"expected a link from an output of type {kind}"
    near = nearest(name, [one for one in given if one not in node.bound])
    hint = f" The file has '{near}'; did you mean that?" if near else ""
    return f"is missing; {expected}.{hint}"


def _kind(io_type: str) -> str:
    words = {"INT": "a whole number", "FLOAT": "a number", "STRING": "a text", "BOOLEAN": "true or false"}
    words |= {"COMBO": "one of its choices", "COMFY_DYNAMICCOMBO_V3": "one of its choices", "*": "any value"}
    return words.get(io_type, io_type.replace(",", " or "))


def _check_constant(node: PlannedNode, name: str, value: Any) -> None:
    declared = node.bound[name].input
    given = value = unwrap(value)
    if not takes_constant(declared):
        if value is None and declared.optional:
            return
        raise BadValue(f"got {shown(value)}; expected a link from an output of type {_kind(declared.get_io_type())}.")
    check_choice(declared, value)
    odd = None
    try:
        value = convert(declared, value)
    except OddValue as error:
        odd, value = error, error.value
    node.constants[name] = value
    if name not in _self_checked(node):
        check_range(declared, value, declared.as_dict(), None if odd is None else given)
    if odd is not None:
        raise odd


def _check_link(
    node: PlannedNode, name: str, value: list[Any], prompt: Mapping[str, Any], nodes: Mapping[str, PlannedNode]
) -> None:
    if not is_link(value):
        hint = ' (a list as a value is written {"__value__": [...]})' if len(value) != 2 else ""
        raise BadValue(f'got {shown(value)}; expected a value or a link ["node id", output number]{hint}.')
    source_id, slot = value[0], int(value[1])
    if source_id not in prompt:
        raise BadValue(f"is linked to node {source_id}, which does not exist.")
    source = nodes.get(source_id)
    if source is None:
        return  # its class is unknown, which is reported there
    outputs = source.schema.outputs
    if not 0 <= slot < len(outputs) or slot != value[1]:
        names = listed(f"{index} ({one.display_name or one.io_type})" for index, one in enumerate(outputs))
        has = f"has only the outputs {names}" if outputs else "has no outputs"
        raise BadValue(f"is linked to output {shown(value[1])} of {source.name}, which {has}.")
    given, wanted = outputs[slot].get_io_type(), node.bound[name].input.get_io_type()
    if SELF_CHECKED_TYPES not in _self_checked(node) and not types_match(given, wanted):
        raise BadValue(
            f"is linked to output {slot} ({outputs[slot].display_name or given}) of {source.name}, "
            f"which is {_kind(given)}; expected {_kind(wanted)}."
        )


def _check_behind_link(
    node: PlannedNode, name: str, prompt: Mapping[str, Any], nodes: Mapping[str, PlannedNode]
) -> None:
    """Check the constant behind a link, where there is one, as if it were typed here.

    ComfyUI lets a linked value out of its range pass; only nodes that will refuse it in the run do so here.
    """
    source, passed_on = _source_of(node, name, nodes)
    if source is None:
        return
    if passed_on not in source.constants:  # its own turn may be yet to come
        with suppress(BadValue, OddValue, KeyError):
            _check_constant(source, passed_on, (prompt[source.node_id].get("inputs") or {})[passed_on])
    if passed_on not in source.constants or not getattr(node.cls, "checks_arrivals", False):
        return
    declared = node.bound[name].input
    try:
        if name not in _self_checked(node):
            check_range(declared, source.constants[passed_on], declared.as_dict())
    except BadValue as bad:
        raise BadValue(f"{bad} It comes from {source.name}.") from None


def _source_of(node: PlannedNode, name: str, nodes: Mapping[str, PlannedNode]) -> tuple[PlannedNode | None, str]:
    """(node that passes on a constant to the linked input `name`, its input that holds it), else (None, "")."""
    source = nodes.get(node.links[name].source) if name in node.links else None
    passed_on = getattr(source.cls, "passes_on", None) if source is not None else None
    if passed_on is None or passed_on in source.links:
        return None, ""
    return source, passed_on


def _behind_links(node: PlannedNode, nodes: Mapping[str, PlannedNode]) -> dict[str, Any]:
    """{linked input: the constant behind it, None where it is known only in the run}."""
    sources = {name: _source_of(node, name, nodes) for name in node.links}
    return {name: source and source.constants.get(passed_on) for name, (source, passed_on) in sources.items()}


class _Everything(frozenset):
    """The names that a function with **kwargs takes."""

    def __contains__(self, name: object) -> bool:
        return name != SELF_CHECKED_TYPES


def _self_checked(node: PlannedNode) -> frozenset[str]:
    """Inputs that the node's own `validate_inputs` takes; the built-in range check leaves them alone."""
    if not overrides(node.cls, "validate_inputs"):
        return frozenset()
    parameters = inspect.signature(node.cls.validate_inputs).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return _Everything()
    return frozenset(one.name for one in parameters)


def _linked_types(node: PlannedNode, nodes: Mapping[str, PlannedNode]) -> dict[str, str]:
    """{input: type of the output it is linked to}, as far as that is known."""
    types = {}
    for name, link in node.links.items():
        outputs = nodes[link.source].schema.outputs if link.source in nodes else ()
        if link.slot < len(outputs):
            types[name] = outputs[link.slot].get_io_type()
    return types


def run_validation(node: PlannedNode, nodes: Mapping[str, PlannedNode], found: list[Problem]) -> list[Problem]:
    """What the node's `validate_inputs` has to say; it sees constants, and None for what only the run will know.

    It is not asked if one of the inputs it takes is among the problems `found` already.
    """
    taken = _self_checked(node)
    if not overrides(node.cls, "validate_inputs") or not (taken or isinstance(taken, _Everything)):
        return []
    if any(one.input in taken for one in errors(found)):
        return []
    known = {**_behind_links(node, nodes), **node.constants}
    values = {name: value for name, value in known.items() if name in taken and name in node.bound}
    arguments = nest(values, node.bound.values())
    if SELF_CHECKED_TYPES in taken:
        arguments[SELF_CHECKED_TYPES] = _linked_types(node, nodes)
    try:
        answer = clone_for(node, {}).validate_inputs(**arguments)
        if inspect.isawaitable(answer):
            answer = run_coroutine(answer)
    except SoraDiTError as error:
        answer = str(error)
    except Exception as error:  # the node's own check is broken; say so instead of a traceback
        answer = f"its check of the inputs failed with {type(error).__name__}: {error}."
    if answer is True or isinstance(answer, ExecutionBlocker):
        return []
    lines = answer.splitlines() if isinstance(answer, str) and answer.strip() else ["the node refuses its inputs."]
    return [_from_validation(node, line, next(iter(values)) if len(values) == 1 else None) for line in lines]


def _from_validation(node: PlannedNode, line: str, only: str | None) -> Problem:
    """A line of what `validate_inputs` said; our nodes begin it with an input's name. only: the one input it took."""
    name, colon, rest = line.partition(": ")
    return _problem(node, name, rest) if colon and name in node.bound else _problem(node, only, line)
