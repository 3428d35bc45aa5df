"""What a training's data are, so that going on with other data is noticed, and said in words."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from ..errors import DataError

_NAMED = 3  # files named in a sentence


def digest(value: Any) -> str:
    """SHA-256 of anything JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a set of clips.

    Attributes:
        kind: "clips of a folder" or "synthetic skies".
        rules: everything that was asked for, name -> value as text.
        files: name -> sums of its "content", its "captions" and the "pieces" it is cut into.
    """

    kind: str
    rules: dict[str, str]
    files: dict[str, dict[str, str]]

    def __post_init__(self) -> None:
        """Raises `DataError` for anything that is not text: sums of it would not be the same everywhere."""
        if not isinstance(self.kind, str):
            raise DataError(f"A fingerprint of training data has kind = {self.kind!r}; expected a text.")
        files = {f"files[{name!r}]": sums for name, sums in self.files.items()}
        for what, values in {"rules": self.rules, **files}.items():
            for key, value in values.items():
                if not (isinstance(key, str) and isinstance(value, str)):
                    raise DataError(
                        f"A fingerprint of training data has {what}[{key!r}] = {value!r}; expected texts only, so "
                        f"str({value!r})."
                    )

    @property
    def sha256(self) -> str:
        """One sum over all of it."""
        return digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "rules": self.rules, "files": self.files}

    @classmethod
    def from_dict(cls, value: Any) -> Fingerprint:
        """Read back `to_dict`. Raises `DataError` for anything else."""
        if not isinstance(value, dict) or not {"kind", "rules", "files"} <= set(value):
            got = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
            raise DataError(f"The fingerprint of the training data is {got}; expected kind, rules and files.")
        return cls(value["kind"], dict(value["rules"]), {name: dict(sums) for name, sums in value["files"].items()})

    def differences(self, now: Fingerprint) -> list[str]:
        """What is other `now` than it was here, as sentences; [] for the same data."""
        if self.kind != now.kind:
            return [f"The data were {self.kind} and are {now.kind}."]
        found = [
            f"{name} was {self.rules.get(name, 'not set')} and is {now.rules.get(name, 'not set')}."
            for name in sorted(self.rules.keys() | now.rules.keys())
            if self.rules.get(name) != now.rules.get(name)
        ]
        both = sorted(self.files.keys() & now.files.keys())
        changed = {
            what: [name for name in both if self.files[name].get(what) != now.files[name].get(what)]
            for what in ("content", "captions", "pieces")
        }
        # Another content or other rules cut a file into other pieces as well: that is said already.
        pieces = [] if found else [name for name in changed["pieces"] if name not in changed["content"]]
        found += _sentence(sorted(self.files.keys() - now.files.keys()), "is gone", "are gone")
        found += _sentence(sorted(now.files.keys() - self.files.keys()), "is new", "are new")
        found += _sentence(changed["content"], "has another content", "have another content")
        found += _sentence(changed["captions"], "has other captions", "have other captions")
        found += _sentence(pieces, "is cut into other pieces", "are cut into other pieces")
        return found


def _sentence(names: list[str], one: str, many: str) -> list[str]:
    if not names:
        return []
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return [f"1 file {one}: {listed}." if len(names) == 1 else f"{len(names)} files {many}: {listed}."]
