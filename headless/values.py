"""Checking the values of inputs: conversion, range and list, by ComfyUI's rules for constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .api_dynamic import DynamicCombo, MatchType
from .api_types import Input, MultiType, WidgetInput
from .problems import did_you_mean, listed, shown

ANY = "*"
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


class BadValue(Exception):
    """The constant cannot be used; the text says what was got and what was expected."""


class OddValue(Exception):
    """The constant is used, but hardly as it was meant; `value` is what it becomes."""

    def __init__(self, message: str, value: Any):
        super().__init__(message)
        self.value = value


def is_link(value: Any) -> bool:
    """Whether a value of the prompt is a link [node id, output number]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
        and not isinstance(value[1], bool)
        and (isinstance(value[1], int) or math.isfinite(value[1]))
    )


def unwrap(value: Any) -> Any:
    """A list that is a constant travels as {"__value__": [...]}."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def types_match(given: str, wanted: str) -> bool:
    """ComfyUI's rule: equal, "*" on either side, a matched type, or a common one of two comma-separated sets."""
    if given == wanted or MatchType.io_type in (given, wanted):
        return True
    givens, wanteds = ({one.strip() for one in kind.split(",")} for kind in (given, wanted))
    return ANY in givens or ANY in wanteds or bool(givens & wanteds)


def takes_constant(declared: Input) -> bool:
    """Whether an input can hold a value at all, or only a link."""
    if isinstance(declared, (WidgetInput, DynamicCombo.Input)):
        return True
    if isinstance(declared, MultiType.Input) and declared.widget is not None:
        return True
    kinds = set(declared.get_io_type().split(","))
    return bool(kinds & (WIDGET_TYPES | {ANY}))


def convert(declared: Input, value: Any) -> Any:
    """The constant as the node will receive it.

    Raises:
        BadValue: it cannot be converted to the declared type.
        OddValue: it can, but loses its sense on the way (the text "false" is true, 3.7 becomes 3, true becomes 1).
    """
    kind = declared.get_io_type()
    if kind == "INT":
        return _whole_number(value)
    if kind == "FLOAT":
        return _number(value)
    if kind == "STRING":
        return value if isinstance(value, str) else _text(value)
    if kind == "BOOLEAN":
        return _boolean(value)
    return value


def _whole_number(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadValue(f"got {shown(value)}; expected a whole number.") from None
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise OddValue(f"got {shown(value)}; a whole number is expected, {number} is used.", number)
    return number


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadValue(f"got {shown(value)}; expected a number.") from None
    if not math.isfinite(number):
        raise BadValue(f"got {shown(value)}; expected a finite number.")
    if isinstance(value, bool):
        raise OddValue(f"got {shown(value)}; a number is expected, {shown(number)} is used.", number)
    return number


def _text(value: Any) -> str:
    if value is None:
        raise BadValue("got nothing (null); expected a text.")
    if isinstance(value, (bool, dict, list)):
        raise OddValue(f"got {shown(value)}; a text is expected, {shown(str(value))} is used.", str(value))
    return str(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("false", "no", "off", "0"):
        raise OddValue(f"got the text {shown(value)}, which counts as true; write false without quotes.", True)
    return bool(value)


def check_choice(declared: Input, value: Any) -> None:
    """Raise `BadValue` if the constant of a list of texts is none, whatever the node's own check would say of it.

    To a node's `validate_inputs`, None means "linked", and it takes for granted that a file or a choice is a text.
    None is left to an optional input: there it means "not given".
    """
    if declared.get_io_type() != "COMBO" or (value is None and declared.optional):
        return
    choices = declared.as_dict().get("options") or []
    if not isinstance(value, str) and value not in choices and all(isinstance(one, str) for one in choices):
        raise BadValue(not_in_list(value, choices))


def check_range(declared: Input, value: Any, options: Mapping[str, Any], given: Any = None) -> None:
    """Raise `BadValue` if a number is outside min..max or a choice is not in its list. given: what the file has."""
    low, high = options.get("min"), options.get("max")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if (low is not None and value < low) or (high is not None and value > high):
            got = shown(value if given is None else given)
            raise BadValue(f"got {got}; expected {_range(low, high)}.")
    if declared.get_io_type() == "COMBO" and "options" in options:
        choices = options["options"]
        if value not in choices:
            raise BadValue(not_in_list(value, choices))
    if isinstance(declared, DynamicCombo.Input):
        keys = [choice.key for choice in declared.choices]
        if value not in keys:
            raise BadValue(not_in_list(value, keys))


def not_in_list(value: Any, choices: list[Any]) -> str:
    """The sentence for a value that is none of `choices`."""
    if not choices:
        return f"got {shown(value)}; there is nothing to choose from (no such file was found)."
    expected = f"one of: {listed(choices)}" if len(choices) > 1 else f"{shown(choices[0])}, the only choice"
    return f"got {shown(value)}; expected {expected}.{did_you_mean(str(value), map(str, choices))}"


def _range(low: Any, high: Any) -> str:
    if low is None:
        return f"at most {shown(high)}"
    if high is None:
        return f"at least {shown(low)}"
    return f"{shown(low)} to {shown(high)}"
