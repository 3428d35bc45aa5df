"""Random choices and comments in prompts, as the editor resolves them when a workflow is queued.

`{day|night|{red|golden} dusk}` becomes one of its options, each equally likely; `// ...` to the end of the line and
`/* ... */` are taken out; `\\{`, `\\|` and `\\}` stand for the characters themselves. The saved file keeps the
template, so this is done only when asked (before a run), with a random source that the caller seeds.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .definitions import Definitions

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n\r]*", re.DOTALL)
_ESCAPED = re.compile(r"\\([{}|])")


def resolve_dynamic_text(text: str, rng: random.Random) -> str:
    """One text with its comments removed and its choices made, from left to right."""
    text = _COMMENT.sub("", text)
    result: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char == "{":
            options, position = _options(text, position + 1)
            result.append(resolve_dynamic_text(options[int(rng.random() * len(options))], rng))
        else:
            length = 2 if char == "\\" else 1
            result.append(text[position : position + length])
            position += length
    return _ESCAPED.sub(r"\1", "".join(result))


def _options(text: str, start: int) -> tuple[list[str], int]:
    """Options of the choice whose content starts at `start`, and the position after its closing brace."""
    options, begin, depth, position = [], start, 0, start
    while position < len(text):
        char = text[position]
        if char == "\\":
            position += 2
            continue
        if char == "{":
            depth += 1
        elif char == "}":
            if depth == 0:
                return [*options, text[begin:position]], position + 1
            depth -= 1
        elif char == "|" and depth == 0:
            options.append(text[begin:position])
            begin = position + 1
        position += 1
    return [*options, text[begin:]], len(text)


def dynamic_texts(prompt: Mapping[str, Any], object_info: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(node id, input, text) of every text in an API prompt whose input is declared with `dynamicPrompts`."""
    definitions = Definitions(object_info)
    for node_id, entry in prompt.items():
        definition = definitions.get(entry.get("class_type"))
        for spec in definition.inputs if definition else ():
            value = entry["inputs"].get(spec.name)
            if isinstance(value, str) and spec.options.get("dynamicPrompts"):
                yield node_id, spec.name, value


def resolve_dynamic_prompts(
    prompt: Mapping[str, Any], object_info: Mapping[str, Any], rng: random.Random
) -> dict[str, Any]:
    """A copy of an API prompt with every text whose input is declared with `dynamicPrompts` resolved.

    Nodes are taken in the prompt's order, so one seed gives one result. Links and other values stay as they are.
    """
    result = copy.deepcopy(dict(prompt))
    for node_id, name, text in dynamic_texts(prompt, object_info):
        result[node_id]["inputs"][name] = resolve_dynamic_text(text, rng)
    return result
