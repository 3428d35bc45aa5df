"""What can be wrong with a workflow, said in one plain sentence each, and the helpers that word it."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..dit_core.errors import SoraDiTError

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a workflow.

    node_id, title: the node, None when it is about the file as a whole. input: the input's name, or None.
    message: what was got and what was expected. severity: "error" stops the run, "warning" does not.
    """

    node_id: str | None
    title: str | None
    input: str | None
    message: str
    severity: str = ERROR

    def __str__(self) -> str:
        if self.node_id is None:
            return one_line(self.message)
        place = f"{self.title} (node {self.node_id})"
        return one_line(f"{place}, {self.input}: {self.message}" if self.input else f"{place}: {self.message}")

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: the fields, and the whole sentence as `text`."""
        return {**asdict(self), "text": str(self)}


class UsageError(SoraDiTError):
    """The command or call asks for something that cannot be done (exit code 2)."""


class WorkflowError(UsageError):
    """A workflow that cannot run; `problems` lists every reason."""

    def __init__(self, problems: Iterable[Problem] | str):
        if isinstance(problems, str):
            problems = [Problem(None, None, None, problems)]
        self.problems = list(problems)
        super().__init__("\n".join(str(one) for one in self.problems if one.severity == ERROR))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Only those that stop a run."""
    return [one for one in problems if one.severity == ERROR]


_BREAKS = {"Cc", "Zl", "Zp"}  # categories of control characters and line breaks
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # change the direction of what follows


def one_line(text: str) -> str:
    """`text` without line breaks, control characters and turns of direction: a file must not rearrange the terminal."""

    def rearranges(letter: str) -> bool:
        return unicodedata.category(letter) in _BREAKS or unicodedata.bidirectional(letter) in _TURNS

    return "".join(" " if rearranges(letter) else letter for letter in text)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, or None."""
    known = list(known)
    by_lower = {one.lower(): one for one in reversed(known)}
    match = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    if match:
        return by_lower[match[0]]
    inside = [one for lower, one in by_lower.items() if len(name) > 3 and str(name).lower() in lower]
    return min(inside, key=len) if inside else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest name, to put behind another one; empty if nothing is near."""
    match = nearest(name, known)
    return f" Did you mean '{match}'?" if match is not None else ""


def shown(value: Any, limit: int = 60) -> str:
    """A value as it appears in a sentence: as in JSON, cut when long."""
    if value is None:
        text = "nothing (null)"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = f"'{value}'" if value else "an empty text"
    elif isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        text = str(int(value))  # as a person writes it: 8, not 8.0
    else:
        text = repr(value)
    text = one_line(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def listed(names: Iterable[Any], limit: int = 12) -> str:
    """Names joined by commas; the rest of a long list is counted."""
    names = [str(one) for one in names]
    if len(names) > limit:
        return ", ".join(names[:limit]) + f" and {len(names) - limit} more"
    return ", ".join(names)
