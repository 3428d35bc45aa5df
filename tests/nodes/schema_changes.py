"""What a node looks like to saved workflows, and which changes of it they survive. Plain dictionaries, no pytest.

Editor files hold a node's widget values by position, links by the type and the number of a socket, API files both by
name. So ids, order, types and the meaning of values are frozen once they are published; things may be added at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Kinds of input that the editor draws as a widget: they take a place in the saved list of values.
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "COMFY_DYNAMICCOMBO_V3")
Finding = tuple[str, bool]  # a sentence, and whether saved workflows break
_KEPT = ("default", "min", "max", "step", "round", "multiline", "control_after_generate", "forceInput", "upload")


@dataclass(frozen=True)
class Change:
    """One difference. breaks: a saved workflow may not load or not give what it gave; else it only wants recording."""

    node: str
    sentence: str
    breaks: bool

    def __str__(self) -> str:
        return f"{self.node}: {self.sentence}"


def breaking(sentence: str) -> Finding:
    """A saved workflow may not load, or not give what it gave."""
    return sentence, True


def harmless(sentence: str) -> Finding:
    """Saved workflows do not notice."""
    return sentence, False


def picture_of(info: Mapping[str, Any], with_files: Mapping[str, Any]) -> dict[str, Any]:
    """The lasting part of /object_info; `with_files` is the same seen with more files in the folders.

    Choices that differ between the two are file lists: they belong to a machine, not to the schema.
    """
    return {node: _node(info[node], with_files[node]) for node in info}


def _node(entry: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    inputs = []
    for group in ("required", "optional"):
        for name, (kind, extra) in entry["input"].get(group, {}).items():
            one = {"name": name, "type": kind, "optional": group == "optional"}
            one |= {key: extra[key] for key in _KEPT if extra.get(key) is not None and extra.get(key) is not False}
            if extra.get("default") is False:
                one["default"] = False
            if any(key.endswith("_upload") and value for key, value in extra.items()):
                one["upload"] = True
            if kind == "COMBO":
                choices, more = extra["options"], other["input"][group][name][1]["options"]
                one |= {"options": "files"} if choices != more else {"options": list(choices)}
            inputs.append(one)
    return {"inputs": inputs, "outputs": list(entry["output"]), "output_node": entry["output_node"]}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """All differences between two pictures, nodes in the order of `old`, added ones last."""
    found = []
    for node in old:
        if node not in new:
            text = "the node is gone or has another id; saved workflows name it by its id and would show it in red."
            found.append(Change(node, text, True))
        else:
            found += [Change(node, text, breaks) for text, breaks in _node_changes(old[node], new[node])]
    return found + [Change(node, "a new node.", False) for node in new if node not in old]


def _node_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _gone_or_moved([one["name"] for one in old["inputs"]], [one["name"] for one in new["inputs"]])
    before = {one["name"]: one for one in old["inputs"]}
    for place, one in enumerate(new["inputs"]):
        if one["name"] in before:
            yield from _input_changes(before[one["name"]], one)
        else:
            later = [other["name"] for other in new["inputs"][place + 1 :] if other["name"] in before]
            yield from _added(one, old["inputs"], later)
    count = len(old["outputs"])
    if new["outputs"][:count] != old["outputs"]:
        yield breaking(
            f"the outputs were {old['outputs']} and are {new['outputs']}; links are saved by the number and the type "
            "of the output, so they would lead to another value. Add outputs at the end only."
        )
    elif len(new["outputs"]) > count:
        yield harmless(f"new outputs at the end: {', '.join(new['outputs'][count:])}.")
    if old["output_node"] != new["output_node"]:
        yield breaking("whether it is an output node has changed; workflows that end here would no longer run.")


def _gone_or_moved(old: list[str], new: list[str]) -> Iterator[Finding]:
    for name in old:
        if name not in new:
            yield breaking(
                f"the input '{name}' is gone or has another name; API files and links name it, in editor files "
                "the values behind it would slip into the wrong inputs. Keep it, and say that it does nothing."
            )
    stayed = [name for name in new if name in old]
    if stayed != [name for name in old if name in new]:
        yield breaking(
            f"the inputs are in another order ({', '.join(stayed)}); editor files save values by position, so each "
            "would be read as another input's."
        )


def _added(one: Mapping[str, Any], old: list[Mapping[str, Any]], later: list[str]) -> Iterator[Finding]:
    """An input that was not there before; `later`: the old ones that now come after it."""
    name = one["name"]
    if not one["optional"]:
        yield breaking(
            f"the new input '{name}' is required; saved API files do not give it and would be refused. Declare it "
            "optional, with a default that does what was done before, and give `execute` the same default."
        )
    elif later:
        yield breaking(
            f"the new input '{name}' comes before '{later[0]}'; editor files save values by position, so the "
            "old values would be read as another input's. Add it at the end."
        )
    elif _is_widget(one) and any(known.get("upload") for known in old):
        yield breaking(
            f"the new input '{name}' is a value on a node with an upload button; editor files save the button's own "
            "value last, and it would be read as this input's. Make it a socket (force_input), or a node of its own."
        )
    else:
        yield harmless(f"a new optional input '{name}'.")


def _is_widget(one: Mapping[str, Any]) -> bool:
    return one["type"] in WIDGETS and not one.get("forceInput")


def _input_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Finding]:
    name = old["name"]
    types = set(old["type"].split(",")), set(new["type"].split(","))
    if not types[0] <= types[1]:
        yield breaking(
            f"the input '{name}' was {old['type']} and is {new['type']}; saved links and values would not fit."
        )
    elif types[0] != types[1]:
        yield harmless(f"the input '{name}' takes more types: {new['type']}.")
    if _is_widget(old) != _is_widget(new):
        yield breaking(
            f"the input '{name}' was {'a value' if _is_widget(old) else 'a socket'} and is not; all values behind it "
            "in editor files would move by one place."
        )
    if old["optional"] and not new["optional"]:
        yield breaking(f"the input '{name}' was optional and is required; files that leave it out would be refused.")
    elif old["optional"] != new["optional"]:
        yield breaking(f"the input '{name}' was required and is optional; optional values are saved after the others.")
    if bool(old.get("control_after_generate")) != bool(new.get("control_after_generate")):
        yield breaking(
            f"the input '{name}' gained or lost its control after generate, which takes a place of its own in editor "
            "files: all values behind it would move by one."
        )
    if bool(old.get("upload")) != bool(new.get("upload")):
        yield breaking(f"the input '{name}' gained or lost its upload button, which takes a place in editor files.")
    yield from _values(old, new)


def _values(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Finding]:
    """Defaults, ranges and choices."""
    name = old["name"]
    if old.get("default") != new.get("default"):
        words = f"the default of '{name}' was {old.get('default')!r} and is {new.get('default')!r}"
        if old["optional"]:
            yield breaking(f"{words}; files that leave it out would give another result.")
        else:
            yield harmless(f"{words}.")
    for bound, worse in (("min", lambda a, b: b > a), ("max", lambda a, b: b < a)):
        low, high = old.get(bound), new.get(bound)
        if low == high:
            continue
        tighter = low is None or (high is not None and worse(low, high))
        words = f"the {bound} of '{name}' was {low} and is {high}"
        yield (f"{words}; saved values beyond it would be refused." if tighter else f"{words}."), tighter
    for key in ("step", "round", "multiline"):
        if old.get(key) != new.get(key):
            breaks = key == "round"
            why = "; saved values would be rounded to others." if breaks else "."
            yield f"the {key} of '{name}' was {old.get(key)} and is {new.get(key)}{why}", breaks
    before, after = old.get("options", []), new.get("options", [])
    if "files" in (before, after):
        if before != after:
            yield breaking(
                f"the choices of '{name}' were or became the files of a folder; saved choices may not exist."
            )
        return
    if gone := [choice for choice in before if choice not in after]:
        yield breaking(f"the input '{name}' has lost the choices {gone}; files that chose them would be refused.")
    if more := [choice for choice in after if choice not in before]:
        yield harmless(f"the input '{name}' has the new choices {more}.")
