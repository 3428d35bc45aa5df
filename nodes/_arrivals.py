"""Values that come over links: checked when they have come, by the rules for typed ones.

ComfyUI asks for a node's ranges and its `validate_inputs` once, before the run, when linked values are not known.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from numbers import Real
from typing import Any

from ..dit_core.errors import SoraDiTError
from ._checks import described, digits
from .host import io


def checked(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The same node class; its `execute` now refuses what its schema or its `validate_inputs` would have refused.

    `checks_arrivals` tells the check of a whole workflow that a constant behind a link will meet this.
    """
    execute = node.execute.__func__
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def run(cls: type, /, *args: Any, **inputs: Any) -> Any:
        given = signature.bind(cls, *args, **inputs).arguments | inputs  # what went into **rest has its own name
        _require_good(cls, given)
        return execute(cls, *args, **inputs)

    node.execute, node.checks_arrivals = classmethod(run), True
    return node


def _require_good(node: type[io.ComfyNode], given: Mapping[str, Any]) -> None:
    """Raise `SoraDiTError` that says what is wrong with each of the values, if anything is."""
    has_check = node.validate_inputs.__func__ is not io.ComfyNode.validate_inputs.__func__
    taken = inspect.signature(node.validate_inputs).parameters if has_check else ()
    there = [one for one in node.define_schema().inputs if given.get(one.id) is not None]
    problems = [problem for one in there if (problem := _problem(one, given[one.id], one.id in taken))]
    if has_check and not problems:
        answer = node.validate_inputs(**{name: given[name] for name in taken if name in given})
        problems = [] if answer is True else answer.splitlines()
    if problems:
        raise SoraDiTError(" ".join(problems))


def _problem(declared: Any, value: Any, only_kind: bool) -> str | None:
    """What is wrong with a value for that input: a sentence for numbers and choices, None for all else.

    only_kind: its range and its choices are left to `validate_inputs`.
    """
    kind, options, expected = declared.get_io_type(), declared.as_dict(), ""
    if kind in ("INT", "FLOAT"):
        low, high = options["min"], options["max"]
        if not isinstance(value, Real) or (kind == "INT" and value != value // 1):
            expected = "a whole number" if kind == "INT" else "a number"
        elif not (only_kind or low <= value <= high):  # what is no number (NaN) is in no range
            expected = f"{digits(low)} to {digits(high)}"
    elif kind == "COMBO" and not only_kind and value not in options["options"]:
        expected = f"one of: {', '.join(map(str, options['options']))}"
    if not expected:
        return None
    got = repr(value) if isinstance(value, str) else digits(value) if isinstance(value, Real) else described(value)
    return f"{declared.id} is {got}; expected {expected}."
