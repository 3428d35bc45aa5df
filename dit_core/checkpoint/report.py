"""What came of putting a file's tensors into a module: always made, shown on request, raised when something is off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError

_SHOWN = 8  # names per list in an error message; `str(report)` shows all


@dataclass(frozen=True)
class LoadReport:
    """Outcome of a load, by full tensor name (`transformer.…`).

    Attributes:
        matched: put into a module.
        missing: the configuration asks for it, the file does not have it.
        unexpected: the file has it, the configuration does not ask for it.
        wrong_shape: (name, shape in the file, shape the configuration asks for).
    """

    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every tensor of the file and of the modules found its counterpart."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def __add__(self, other: LoadReport) -> LoadReport:
        return LoadReport(
            self.matched + other.matched,
            self.missing + other.missing,
            self.unexpected + other.unexpected,
            self.wrong_shape + other.wrong_shape,
        )

    def component(self, name: str) -> LoadReport:
        """The part of the report on the tensors called `name.…`."""

        def of(names: Iterable[str]) -> tuple[str, ...]:
            return tuple(item for item in names if item.startswith(name + "."))

        shapes = tuple(item for item in self.wrong_shape if item[0].startswith(name + "."))
        return LoadReport(of(self.matched), of(self.missing), of(self.unexpected), shapes)

    def __str__(self) -> str:
        """Every name that is not a match, and the count of those that are, one line each."""
        lines = [
            f"matched {len(self.matched)}, missing {len(self.missing)}, unexpected {len(self.unexpected)}, "
            f"wrong shape {len(self.wrong_shape)}"
        ]
        lines += [f"  missing: {name}" for name in self.missing]
        lines += [f"  unexpected: {name}" for name in self.unexpected]
        lines += [f"  wrong shape: {_shape_words(item)}" for item in self.wrong_shape]
        return "\n".join(lines)

    def require(self, path: str | Path) -> None:
        """Raise `CheckpointError` with the names, unless the load is complete."""
        if self.ok:
            return
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({_shortened(self.missing)})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected ({_shortened(self.unexpected)})")
        if self.wrong_shape:
            parts.append(f"{len(self.wrong_shape)} of wrong shape ({_shortened(map(_shape_words, self.wrong_shape))})")
        raise CheckpointError(f"The tensors in {path} do not fit its configuration: {'; '.join(parts)}.")


def _shape_words(item: tuple[str, tuple[int, ...], tuple[int, ...]]) -> str:
    name, got, expected = item
    return f"{name} is {list(got)}, expected {list(expected)}"


def _shortened(names: Iterable[str]) -> str:
    names = list(names)
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
