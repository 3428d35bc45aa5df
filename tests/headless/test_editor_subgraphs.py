"""Subgraphs: flattening, borders, and the values that an instance shows for widgets inside."""

from __future__ import annotations

import json

import pytest
from sora_dit.headless.editor import EditorFormatError, to_api

INNER, OUTER = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"
INFO = {
    "Load": {"input": {"required": {"file": [["a.png"]]}}, "output": ["IMAGE"]},
    "Show": {"input": {"required": {"images": ["IMAGE"]}}, "output": []},
    "Number": {"input": {"required": {"value": ["INT", {}]}}, "output": ["INT"]},
    "Scale": {"input": {"required": {"image": ["IMAGE"], "width": ["INT"], "height": ["INT"]}}, "output": ["IMAGE"]},
}


def node(node_id, kind, values=None, inputs=None, **fields) -> dict:
    """A node as saved; `inputs` maps input names to link ids, "name=" for one that belongs to a widget of that name."""
    slots = []
    for name, link in (inputs or {}).items():
        widget = {"widget": {"name": name[:-1]}} if name.endswith("=") else {}
        slots.append({"name": name.rstrip("="), "type": "*", "link": link, **widget})
    saved = {"id": node_id, "type": kind, "mode": 0, "inputs": slots, "outputs": [{"name": "", "type": "*"}]}
    return {**saved, **({} if values is None else {"widgets_values": values}), **fields}


def definition(key, name, nodes, inputs, links) -> dict:
    """A subgraph definition with one IMAGE output; links are (id, origin, slot, target, slot)."""
    fields = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    borders = [{"name": n, "type": t, "linkIds": [k[0] for k in links if k[1:3] == (-10, i)]} for i, (n, t) in inputs]
    return {
        "id": key,
        "name": name,
        "nodes": nodes,
        "inputs": borders,
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "linkIds": [k[0] for k in links if k[3] == -20]}],
        "links": [{**dict(zip(fields, link, strict=True)), "type": "*"} for link in links],
    }


def scaler(key=INNER, mode=0, square=False) -> dict:
    """A subgraph (image, width) -> Scale(64 x 48) -> IMAGE, node id 3; `square` feeds the width to the height too."""
    widgets = {"image": 1, "width=": 2, **({"height=": 4} if square else {})}
    links = [(1, -10, 0, 3, 0), (2, -10, 1, 3, 1), (3, 3, 0, -20, 0), *([(4, -10, 1, 3, 2)] if square else [])]
    inner = [node(3, "Scale", [64, 48], widgets, mode=mode)]
    return definition(key, "Scaler", inner, enumerate([("image", "IMAGE"), ("width", "INT")]), links)


def around(*instances: dict, definitions=(), links=(), extra=()) -> dict:
    """Load (id 1) -> instances -> Show (id 9); instances take their picture by link 11, 12, ..., Show by 19."""
    chain = [1, *(instance["id"] for instance in instances)]
    wires = [[11 + i, chain[i], 0, chain[i + 1], 0, "IMAGE"] for i in range(len(instances))]
    wires.append([19, chain[-1], 0, 9, 0, "IMAGE"])
    nodes = [node(1, "Load", ["a.png"]), *instances, node(9, "Show", None, {"images": 19}), *extra]
    return {"version": 0.4, "nodes": nodes, "links": [*wires, *links], "definitions": {"subgraphs": list(definitions)}}


def instance(node_id=5, values=None, key=INNER, link=11, inputs=None, **fields) -> dict:
    return node(node_id, key, values, {"image": link, **(inputs or {})}, **fields)


def proxies(*pairs) -> dict:
    return {"properties": {"proxyWidgets": [list(pair) for pair in pairs]}}


def size(workflow: dict, node_id: str = "5:3") -> tuple:
    inputs = to_api(workflow, INFO)[node_id]["inputs"]
    return inputs["width"], inputs["height"]


def test_inner_nodes_get_the_ids_of_their_instances_and_wires_cross_the_border():
    prompt = to_api(around(instance(5, [7]), instance(6, [8], link=12), definitions=[scaler()]), INFO)
    assert set(prompt) == {"1", "5:3", "6:3", "9"}
    assert prompt["5:3"]["inputs"] == {"image": ["1", 0], "width": 7, "height": 48}
    assert prompt["6:3"]["inputs"] == {"image": ["5:3", 0], "width": 8, "height": 48}
    assert prompt["9"]["inputs"] == {"images": ["6:3", 0]}


@pytest.mark.parametrize(
    ("values", "fields", "expected"),
    [
        ([7], {}, (7, 48)),  # by place among the inputs that show a widget
        (None, {}, (64, 48)),
        ([None], {}, (64, 48)),
        ([1], {"widgets_values_named": {"width": 7}}, (7, 48)),
        ([7], proxies(("-1", "width")), (7, 48)),
        ([None, 7], proxies(("3", "height"), ("-1", "width")), (7, 48)),
        ([9, 7], proxies(("3", "height"), ("-1", "width")), (7, 9)),  # a value stored for an inner widget
        (["fixed", 7], proxies(("3", "control_after_generate"), ("-1", "width")), (7, 48)),
        ([7], proxies(("-1", "image"), ("3", "height")), (7, 48)),  # not labelled: by place
        ([7], proxies(("-1", "other")), (7, 48)),
        ([7], {"properties": {"proxyWidgets": json.dumps([["-1", "width"]])}}, (7, 48)),
    ],
)
def test_values_of_an_instance(values, fields, expected):
    workflow = around(instance(5, values, **fields), definitions=[scaler()])
    assert size(workflow) == expected
    assert set(to_api(workflow, INFO)["5:3"]["inputs"]) == {"image", "width", "height"}


def test_one_input_may_feed_two_widgets():
    assert size(around(instance(5, [7]), definitions=[scaler(square=True)])) == (7, 7)
    # Without a value of its own the instance shows the first of them, and that goes to both.
    assert size(around(instance(5), definitions=[scaler(square=True)])) == (64, 64)


def two_sizes(names=("width", "height")) -> dict:
    """A subgraph (image, width, height); the two borders may have other names."""
    links = [(1, -10, 0, 3, 0), (2, -10, 1, 3, 1), (3, 3, 0, -20, 0), (4, -10, 2, 3, 2)]
    inner = [node(3, "Scale", [64, 48], {"image": 1, "width=": 2, "height=": 4})]
    borders = enumerate([("image", "IMAGE"), *((name, "INT") for name in names)])
    return definition(INNER, "Sizes", inner, borders, links)


def test_a_place_labelled_for_another_input_is_not_read_for_this_one():
    workflow = around(instance(5, [9], **proxies(("-1", "height"))), definitions=[two_sizes()])
    assert size(workflow) == (64, 9)


def test_inputs_of_the_same_name_are_told_apart_by_their_order():
    numbers = [node(8, "Number", [5]), node(7, "Number", [6])]
    twice = instance()
    twice["inputs"] += [{"name": "n", "link": 20}, {"name": "n", "link": 21}]
    links = [[20, 8, 0, 5, 1, "INT"], [21, 7, 0, 5, 2, "INT"]]
    workflow = around(twice, definitions=[two_sizes(("n", "n"))], links=links, extra=numbers)
    assert size(workflow) == (["8", 0], ["7", 0])


@pytest.mark.parametrize(("mode", "expected"), [(0, ["8", 0]), (2, 64), (4, 64)])
def test_a_linked_input_hides_the_instances_value(mode, expected):
    number = node(8, "Number", [5], mode=mode)
    linked = instance(5, [7], inputs={"width=": 20})
    workflow = around(linked, definitions=[scaler()], links=[[20, 8, 0, 5, 1, "INT"]], extra=[number])
    assert size(workflow) == (expected, 48)


def test_a_primitive_writes_into_an_instance_and_inside_one():
    primitive = node(8, "PrimitiveNode", [5, "fixed"])
    linked = instance(5, [7], inputs={"width=": 20})
    workflow = around(linked, definitions=[scaler()], links=[[20, 8, 0, 5, 1, "INT"]], extra=[primitive])
    assert size(workflow) == (5, 48)
    inside = scaler()
    inside["nodes"].append(primitive)
    inside["nodes"][0]["inputs"].append({"name": "height", "type": "INT", "link": 30, "widget": {"name": "height"}})
    inside["links"].append({"id": 30, "origin_id": 8, "origin_slot": 0, "target_id": 3, "target_slot": 2})
    assert size(around(instance(5, [7]), definitions=[inside])) == (7, 5)


@pytest.mark.parametrize(("mode", "expected"), [(2, {}), (4, {"images": ["1", 0]})])
def test_nothing_inside_a_muted_or_bypassed_instance_is_run(mode, expected):
    prompt = to_api(around(instance(5, [7], mode=mode), definitions=[scaler()]), INFO)
    assert set(prompt) == {"1", "9"} and prompt["9"]["inputs"] == expected


@pytest.mark.parametrize(("mode", "expected"), [(2, {}), (4, {"images": ["1", 0]})])
def test_modes_inside(mode, expected):
    prompt = to_api(around(instance(5, [7]), definitions=[scaler(mode=mode)]), INFO)
    assert set(prompt) == {"1", "9"} and prompt["9"]["inputs"] == expected


def test_a_wire_straight_through():
    wire = definition(INNER, "Wire", [], enumerate([("image", "IMAGE")]), [(1, -10, 0, -20, 0)])
    assert to_api(around(instance(), definitions=[wire]), INFO)["9"]["inputs"] == {"images": ["1", 0]}


def test_reroutes_at_the_border():
    inner = [
        node(2, "Reroute", None, {"": 1}),
        node(3, "Scale", [64, 48], {"image": 2}),
        node(4, "Reroute", None, {"": 3}),
    ]
    links = [(1, -10, 0, 2, 0), (2, 2, 0, 3, 0), (3, 3, 0, 4, 0), (4, 4, 0, -20, 0)]
    prompt = to_api(
        around(instance(), definitions=[definition(INNER, "R", inner, enumerate([("image", "IMAGE")]), links)]), INFO
    )
    assert prompt["5:3"]["inputs"]["image"] == ["1", 0] and prompt["9"]["inputs"] == {"images": ["5:3", 0]}


def nested(width_from_outside=True, mode=0) -> list[dict]:
    """(image, w) -> instance 4 of the scaler (which stores width 55) -> IMAGE; and the scaler's own definition."""
    inner = node(4, INNER, [55], {"image": 1, **({"width=": 2} if width_from_outside else {})}, mode=mode)
    links = [(1, -10, 0, 4, 0), (3, 4, 0, -20, 0), *([(2, -10, 1, 4, 1)] if width_from_outside else [])]
    inputs = [("image", "IMAGE"), *([("w", "INT")] if width_from_outside else [])]
    return [definition(OUTER, "Outer", [inner], enumerate(inputs), links), scaler()]


@pytest.mark.parametrize(("values", "expected"), [([7], 7), (None, 55)])
def test_values_reach_widgets_through_two_borders(values, expected):
    prompt = to_api(around(instance(5, values, OUTER), definitions=nested()), INFO)
    assert set(prompt) == {"1", "5:4:3", "9"} and prompt["9"]["inputs"] == {"images": ["5:4:3", 0]}
    assert prompt["5:4:3"]["inputs"] == {"image": ["1", 0], "width": expected, "height": 48}


def test_a_nested_instance_has_values_and_a_mode_of_its_own():
    assert size(around(instance(5, None, OUTER), definitions=nested(False)), "5:4:3") == (55, 48)
    prompt = to_api(around(instance(5, None, OUTER), definitions=nested(False, mode=4)), INFO)
    assert set(prompt) == {"1", "9"} and prompt["9"]["inputs"] == {"images": ["1", 0]}


def test_definitions_inside_definitions_are_found():
    outer, inner = nested()
    outer["definitions"] = {"subgraphs": [inner]}
    assert size(around(instance(5, [7], OUTER), definitions=[outer]), "5:4:3") == (7, 48)


def test_a_definition_that_contains_itself_is_refused():
    outer, inner = nested()
    inner["nodes"].append(node(8, OUTER, title="Again"))
    with pytest.raises(EditorFormatError, match=r"'Outer' contains itself, through 'Again' \(id 8\)"):
        to_api(around(instance(5, [7], OUTER), definitions=[outer, inner]), INFO)


def test_many_levels_and_many_copies_are_refused_instead_of_eating_the_machine():
    def level(i, copies):
        inner = [node(k, f"level {i + 1}") for k in range(copies)]
        return {"id": f"level {i}", "name": f"level {i}", "nodes": inner, "links": [], "inputs": [], "outputs": []}

    def workflow(levels, copies):
        last = {"id": f"level {levels}", "nodes": [node(1, "Number", [1])], "links": []}
        definitions = {"subgraphs": [*(level(i, copies) for i in range(levels)), last]}
        return {"nodes": [node(1, "level 0")], "links": [], "definitions": definitions}

    assert len(to_api(workflow(5, 2), INFO)) == 2**5
    with pytest.raises(EditorFormatError, match="nested more than 64 deep"):
        to_api(workflow(500, 1), INFO)
    with pytest.raises(EditorFormatError, match="expand to more than 100000 nodes"):
        to_api(workflow(9, 10), INFO)
