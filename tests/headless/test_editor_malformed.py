"""Damaged files: each gives one sentence that names the node (title and id) and the fault, never a traceback."""

# ruff: noqa: E501 (a table of exact sentences)
from __future__ import annotations

import copy
import random

import pytest
from sora_dit.headless.editor import EditorFormatError, convert, is_editor_format, to_api

SUB = "aaaaaaaa-0000-4000-8000-000000000001"
INFO = {
    "Load": {"input": {"required": {"file": [["a.png"]]}}, "output": ["IMAGE"]},
    "Scale": {"input": {"required": {"image": ["IMAGE"], "width": ["INT"]}}, "output": ["IMAGE"]},
    "Show": {"input": {"required": {"images": ["IMAGE"]}}, "output": []},
}
GOOD = {
    "version": 0.4,
    "nodes": [
        {"id": 1, "type": "Load", "mode": 0, "outputs": [{"name": "IMAGE", "type": "IMAGE"}], "widgets_values": ["a.png"]},
        {"id": 2, "type": "Scale", "title": "Half", "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
         "outputs": [{"name": "IMAGE", "type": "IMAGE"}], "widgets_values": [64]},
        {"id": 5, "type": SUB, "title": "Sub", "inputs": [{"name": "in", "type": "IMAGE", "link": 2}],
         "outputs": [{"name": "out", "type": "IMAGE"}], "properties": {"proxyWidgets": [["3", "width"]]},
         "widgets_values": [None]},
        {"id": 9, "type": "Show", "title": "End", "inputs": [{"name": "images", "type": "IMAGE", "link": 3}]},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 5, 0, "IMAGE"], [3, 5, 0, 9, 0, "IMAGE"]],
    "definitions": {"subgraphs": [{
        "id": SUB, "name": "Inside",
        "nodes": [{"id": 3, "type": "Scale", "inputs": [{"name": "image", "link": 1}], "widgets_values": [32]}],
        "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 3, "target_slot": 0},
                  {"id": 2, "origin_id": 3, "origin_slot": 0, "target_id": -20, "target_slot": 0}],
        "inputs": [{"name": "in", "type": "IMAGE", "linkIds": [1]}],
        "outputs": [{"name": "out", "type": "IMAGE", "linkIds": [2]}],
    }]},
}  # fmt: skip


def changed(path: str, value) -> dict:
    """GOOD with the value at a path such as "nodes.1.id" replaced, or removed when `value` is Ellipsis."""
    data = copy.deepcopy(GOOD)
    *way, last = path.split(".")
    here = data
    for step in way:
        here = here[int(step) if isinstance(here, list) else step]
    key = int(last) if isinstance(here, list) else last
    if value is ...:
        del here[key]
    else:
        here[key] = value
    return data


def test_the_base_is_good():
    assert set(to_api(GOOD, INFO)) == {"1", "2", "5:3", "9"}


MALFORMED = [
    ("nodes", {}, "'nodes' of the workflow must be a list of nodes, not an object."),
    ("nodes", None, "'nodes' of the workflow must be a list of nodes, not nothing."),
    ("nodes.1", "text", "Node number 2 of the workflow must be an object, not a text."),
    ("nodes.1.id", ..., "The node 'Half' of the workflow has no usable 'id' (it is None)."),
    ("nodes.1.id", True, "The node 'Half' of the workflow has no usable 'id' (it is True)."),
    ("nodes.0.id", [], "The node of type 'Load' of the workflow has no usable 'id' (it is [])."),
    ("nodes.1.type", ..., "The node 'Half' (id 2) of the workflow has no 'type'."),
    ("nodes.0.type", 7, "The node of type '7' (id 1) of the workflow has no 'type'."),
    ("nodes.1.id", 1, "Two nodes of the workflow have the same id 1: 'Load' (id 1) and 'Half' (id 1)."),
    ("nodes.1.id", "1", "Two nodes of the workflow have the same id 1: 'Load' (id 1) and 'Half' (id 1)."),
    ("nodes.1.id", -10, "The node 'Half' (id -10) has an id that is reserved for the border of a subgraph."),
    ("nodes.1.id", "5:3", "Two nodes end up with the same id 5:3; the second is 'Scale' (id 3)."),
    ("nodes.1.widgets_values", "64", "'widgets_values' of the node 'Half' (id 2) must be a list or an object, not a text."),
    ("nodes.1.widgets_values_named", [64], "'widgets_values_named' of the node 'Half' (id 2) must be an object, not a list."),
    ("nodes.1.mode", "2", "'mode' of the node 'Half' (id 2) must be a whole number, not '2'."),
    ("nodes.1.mode", True, "'mode' of the node 'Half' (id 2) must be a whole number, not True."),
    ("nodes.1.mode", 2.5, "'mode' of the node 'Half' (id 2) must be a whole number, not 2.5."),
    ("nodes.1.mode", float("nan"), "'mode' of the node 'Half' (id 2) must be a whole number, not nan."),
    ("nodes.1.mode", [4], "'mode' of the node 'Half' (id 2) must be a whole number, not [4]."),
    ("nodes.1.inputs", {"image": 1}, "'inputs' of the node 'Half' (id 2) must be a list, not an object."),
    ("nodes.1.outputs", 1, "'outputs' of the node 'Half' (id 2) must be a list, not a number."),
    ("nodes.1.inputs.0", "image", "An entry in 'inputs' of the node 'Half' (id 2) must be an object, not a text."),
    ("nodes.1.inputs.0.link", [1], "The input 'image' of the node 'Half' (id 2) has the unusable link id [1]."),
    ("nodes.1.inputs.0.link", 77, "The input 'image' of the node 'Half' (id 2) refers to the link 77, which is not in the file."),
    ("nodes.2.properties.proxyWidgets", [7], "'proxyWidgets' of the subgraph node 'Sub' (id 5) must be a list of [node id, widget name] pairs."),
    ("links", {}, "'links' of the workflow must be a list, not an object."),
    ("links", ..., "The input 'image' of the node 'Half' (id 2) refers to the link 1, which is not in the file."),
    ("links.0", [1, 1, 0], "A link of the workflow has the wrong shape: [id, from node, output, to node, input, type] or an object with id, origin_id, origin_slot, target_id and target_slot was expected, not [1, 1, 0]."),
    ("links.0", [1, 1, -1, 2, 0, "IMAGE"], "not [1, 1, -1, 2, 0, 'IMAGE']."),
    ("links.0", {"id": 1}, "not {'id': 1}."),
    ("links.0", "1>2", "not '1>2'."),
    ("links.0", [1, 44, 0, 2, 0, "IMAGE"], "The input 'image' of the node 'Half' (id 2) is linked to the node with id 44, which is not in the file."),
    ("links.0", [1, -10, 0, 2, 0, "IMAGE"], "The input 'image' of the node 'Half' (id 2) is linked to the node with id -10, which is not in the file."),
    ("links.2", [3, 5, 4, 9, 0, "IMAGE"], "A link starts at output number 4 of the subgraph node 'Sub' (id 5), whose definition 'Inside' has only 1 outputs."),
    ("definitions", ..., f"The node 'Sub' (id 5) is an instance of the subgraph {SUB}, whose definition is not in the file."),
    ("definitions.subgraphs", {}, "'definitions.subgraphs' of the workflow must be a list, not an object."),
    ("definitions.subgraphs.0", 1, "A subgraph definition of the workflow must be an object, not a number."),
    ("definitions.subgraphs.0.id", 5, "A subgraph definition has no text 'id' (its id is 5)."),
    ("definitions.subgraphs", GOOD["definitions"]["subgraphs"] * 2, f"Two subgraph definitions have the same id '{SUB}'."),
    ("definitions.subgraphs.0.nodes", ..., "'nodes' of the subgraph 'Inside' must be a list of nodes, not nothing."),
    ("definitions.subgraphs.0.inputs", [1], "'inputs' and 'outputs' of the subgraph 'Inside' must be lists of objects."),
    ("definitions.subgraphs.0.inputs", [], "The input 'image' of the node 'Scale' (id 3) is linked to input number 0 of the subgraph 'Inside', which has only 0 inputs."),
    ("definitions.subgraphs.0.nodes", [], "The output 'out' of the subgraph 'Inside' is linked to the node with id 3, which the definition does not have."),
    ("definitions.subgraphs.0.nodes.0.type", SUB, "The subgraph 'Inside' contains itself, through"),
    ("nodes.1.type", "workflow>My group", "The node 'Half' (id 2) is a group node of the old kind ('workflow>My group'). Open the workflow in the ComfyUI editor, convert the group node to nodes or to a subgraph, and save it again."),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "sentence"), MALFORMED, ids=[f"{i}-{m[0]}" for i, m in enumerate(MALFORMED)])
def test_malformed(path, value, sentence):
    with pytest.raises(EditorFormatError) as caught:
        to_api(changed(path, value), INFO)
    message = str(caught.value)
    assert message.endswith(sentence) if not sentence.endswith("through") else message.startswith(sentence)


def test_what_is_not_run_is_not_followed():
    for mode in (2, 4):
        data = changed("nodes.1.inputs.0.link", 77)
        data["nodes"][1]["mode"] = mode
        data["nodes"][2]["mode"] = data["nodes"][3]["mode"] = 2
        assert set(to_api(data, INFO)) == {"1"}
    stale = changed("links.2", [3, 5, 0, 9, 0, "IMAGE"])
    stale["links"] += [None, [8, 400, 0, 500, 0, "*"]]  # holes and left-overs that no input refers to
    assert set(to_api(stale, INFO)) == {"1", "2", "5:3", "9"}


def test_a_loop_of_reroutes_is_named():
    nodes = [{"id": i, "type": "Reroute", "inputs": [{"name": "", "link": i}], "outputs": [{}]} for i in (1, 2)] + [
        {"id": 9, "type": "Show", "title": "End", "inputs": [{"name": "images", "link": 3}]}
    ]
    data = {"nodes": nodes, "links": [[1, 2, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"], [3, 1, 0, 9, 0, "*"]]}
    with pytest.raises(EditorFormatError, match=r"'images' of the node 'End' \(id 9\) .* form a loop"):
        to_api(data, INFO)


@pytest.mark.parametrize("data", [None, [], "text", 3, {}, {"1": {"class_type": "Load", "inputs": {}}}])
def test_other_json_is_not_an_editor_file(data):
    assert not is_editor_format(data)
    with pytest.raises(EditorFormatError, match="not a workflow as the ComfyUI editor saves it"):
        to_api(data, INFO)


def test_editor_files_are_recognised_even_when_damaged():
    assert is_editor_format(GOOD)
    assert is_editor_format({"nodes": None})
    assert is_editor_format({"last_node_id": 3, "links": []})
    assert not is_editor_format({"nodes": {"class_type": "Load", "inputs": {}}})  # an API node with the id "nodes"


def test_definitions_must_be_definitions():
    with pytest.raises(EditorFormatError, match="/object_info"):
        to_api(GOOD, ["Load"])
    for strange in (None, 5, {"input": 3}, {"input": {"required": {"image": None, "width": [], "x": [["a"], 4]}}}):
        convert(GOOD, {**INFO, "Scale": strange})  # what cannot be understood is treated as unknown, never a crash


def _places(data, path=()):
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def test_any_single_damage_gives_a_prompt_or_a_sentence():
    """Every place of the file, replaced by every kind of JSON value or removed."""
    values = [..., None, True, -1, 0, 3, 1.5, "", "x", "3", [], {}, [1], {"name": 3}, [[1]], {"id": 1}]
    shuffled = random.Random(1)
    for path in _places(GOOD):
        for value in values:
            data = changed(".".join(map(str, path)), copy.deepcopy(value))
            shuffled.shuffle(data["nodes"]) if isinstance(data.get("nodes"), list) else None
            try:
                convert(data, INFO)
            except EditorFormatError as error:
                assert str(error)[0].isupper() or str(error)[0] == "'"
                assert str(error).endswith((".", ")"))
