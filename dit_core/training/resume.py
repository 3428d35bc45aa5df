"""What differs between the training that saved a state and the one that wants to go on from it, in sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..errors import DataError
from ..latents.identity import differences as data_differences

_LONG = 60  # characters of a value that a sentence still shows
_RATES = {"training.lr", "reading.lr"}  # the learning rate in the settings of a training, by kind
_KINDS = {
    "denoising": "of a whole transformer",
    "LoRA": "of a LoRA",
    "autoencoder": "of an autoencoder",
    "reading": "of a text encoder",
}


class Difference(str):
    """A sentence that knows the two values."""

    then: Any
    now: Any


def differences(saved: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Difference]:
    """Dotted name of each setting that differs -> a sentence; {} = the same training.

    defaults: values of settings, and within those that are dicts of their keys, that `saved` may lack.
    """
    now, defaults = (json.loads(json.dumps(x)) for x in (now, defaults))
    if "kind" in saved and "kind" in now and saved["kind"] != now["kind"]:  # then everything else differs too
        then, here = (_KINDS.get(one["kind"], repr(one["kind"])) for one in (saved, now))
        return {"kind": _difference(saved["kind"], now["kind"], f"It is the training {then}, this is one {here}.")}
    saved = _completed(saved, defaults | {"kind": now.get("kind")})
    found: dict[str, Difference] = {}
    for name in sorted(saved.keys() | now.keys()):
        before, after = saved.get(name), now.get(name)
        if before == after or name == "data" and before is None:  # such a state did not know its data yet
            continue
        if name == "data" and isinstance(before, dict) and isinstance(after, dict):
            found[name] = _difference(before, after, _data_sentence(before, after))
            continue
        for key, a, b in _leaves(name, before, after):
            found[key] = _difference(a, b, _sentence(key, a, b))
    return found


def told(differ: dict[str, Difference], most: int = 6) -> str:
    """The sentences, joined; of more than `most` the first ones, and how many more there are."""
    shown = list(differ.values())[:most]
    rest = len(differ) - len(shown)
    return " ".join([*shown, *([f"{rest} more differ."] if rest else [])])


def accepts(differ: dict[str, Difference]) -> bool:
    """Whether all that differs is a lower learning rate: what a training that diverged may go on with."""
    if len(differ) != 1 or not differ.keys() <= _RATES:
        return False
    (only,) = differ.values()
    return isinstance(only.then, float) and only.now < only.then


def _completed(saved: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    out = dict(saved)
    for name, value in defaults.items():
        if name not in out:
            out[name] = value
        elif isinstance(out[name], dict) and isinstance(value, dict):
            out[name] = _completed(out[name], value)
    return out


def _leaves(name: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        yield name, before, after
        return
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield from _leaves(f"{name}.{key}", before.get(key), after.get(key))


def _sentence(name: str, before: Any, after: Any) -> str:
    if name == "clips":  # the data set has a setting of that name, too
        return f"The number of clips trained on was {before} and is {after}."
    a, b = repr(before), repr(after)
    if max(len(a), len(b)) > _LONG:
        return f"{name} is another one."
    return f"{name} was {a} and is {b}."


def _data_sentence(before: dict, after: dict) -> str:
    try:
        found = data_differences(before, after)
    except DataError:
        found = []
    return " ".join(found) or "The data are other ones."


def _difference(then: Any, now: Any, sentence: str) -> Difference:
    made = Difference(sentence)
    made.then, made.now = then, now
    return made
