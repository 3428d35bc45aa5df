"""Links and widget values: what the editor would run, for one small rule at a time.

The expectations are the editor's own (`graphToPrompt` of frontends 1.35.9 and 1.58.1 in a browser), see
`test_editor_templates.py` for the check over real files.
"""

from __future__ import annotations

import copy

import pytest
from sora_dit.headless.editor import convert, to_api

SEED = {"default": 0, "min": 0, "max": 99, "control_after_generate": True}


def _info(required: dict, output: list, optional: dict | None = None, title: str = "") -> dict:
    inputs = {"required": required, "optional": optional or {}}
    return {"input": inputs, "output": output, "display_name": title}


INFO = {
    "Load": _info({"file": [["a.png"], {"image_upload": True}]}, ["IMAGE", "MASK"], title="Load Image"),
    "Scale": _info(
        {"image": ["IMAGE"], "method": [["area", "cubic"]], "width": ["INT", {"default": 512}], "height": ["INT", {}]},
        ["IMAGE"],
    ),
    "Show": _info({"images": ["IMAGE"]}, []),
    "Any": _info({"source": ["*"]}, []),
    "Number": _info({"value": ["INT", {"default": 3}]}, ["INT"]),
    "Text": _info({"text": ["STRING", {"multiline": True, "dynamicPrompts": True}], "clip": ["CLIP"]}, ["COND"]),
    "Models": _info({"name": [["m"]]}, ["MODEL", "CLIP"]),
    "Lora": _info({"model": ["MODEL"], "clip": ["CLIP"], "strength": ["FLOAT", {"default": 1}]}, ["MODEL", "CLIP"]),
    "Sampler": _info(
        {"seed": ["INT", SEED], "steps": ["INT", {"default": 20}], "name": ["COMBO", {"options": ["euler", "heun"]}]},
        ["LATENT"],
        {"denoise": ["FLOAT", {"default": 1.0}]},
    ),
    "Resize": _info(
        {
            "input": ["COMFY_MATCHTYPE_V3", {"template": {"template_id": "t", "allowed_types": "IMAGE,MASK"}}],
            "kind": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "options": [
                        {"key": "by", "inputs": {"required": {"factor": ["FLOAT", {"default": 1.0}]}}},
                        {"key": "to", "inputs": {"required": {"width": ["INT", {}], "height": ["INT", {}]}}},
                        {"key": "match", "inputs": {"required": {"other": ["IMAGE,MASK", {}]}}},
                    ]
                },
            ],
            "method": ["COMBO", {"options": ["area"]}],
        },
        ["COMFY_MATCHTYPE_V3"],
    ),
    "Batch": _info(
        {
            "images": [
                "COMFY_AUTOGROW_V3",
                {"template": {"input": {"required": {"image": ["IMAGE"]}}, "prefix": "image"}},
            ]
        },
        ["IMAGE"],
    ),
}


def node(node_id, kind, values=None, inputs=(), outputs=1, **fields) -> dict:
    """A node as saved; `inputs` are names, "name=widget" for one that belongs to a widget."""
    slots = []
    for entry in inputs:
        name, _, widget = entry.partition("=")
        slots.append({"name": name, "type": "*", "link": None, **({"widget": {"name": widget}} if widget else {})})
    saved = {"id": node_id, "type": kind, "inputs": slots, "outputs": [{"name": "", "type": "*"}] * outputs}
    return {**saved, "mode": 0, **({} if values is None else {"widgets_values": values}), **fields}


def flow(nodes: list[dict], *wires: str, **fields) -> dict:
    """A saved workflow; a wire is "from.slot > to.input"."""
    nodes = copy.deepcopy(nodes)
    links = []
    for number, wire in enumerate(wires, start=1):
        start, end = wire.split(" > ")
        (origin, slot), (target, name) = start.split("."), end.split(".", 1)
        entry = next(n for n in nodes if str(n["id"]) == target)
        for index, given in enumerate(entry["inputs"]):
            if given["name"] == name:
                given["link"] = number
                links.append([number, int(origin), int(slot), int(target), index, "*"])
    assert len(links) == len(wires), "a wire goes to no input"
    return {"nodes": nodes, "links": links, "groups": [{"title": "a group"}], "version": 0.4, **fields}


LOAD, SHOW = node(1, "Load", ["a.png", "image"]), node(9, "Show", inputs=["images"])


def scale(node_id=2, mode=0, *widgets: str) -> dict:
    return node(node_id, "Scale", ["area", 64, 48], ["image", *(f"{w}={w}" for w in widgets)], mode=mode)


def inputs_of(workflow: dict, node_id: str, info: dict = INFO) -> dict:
    return to_api(workflow, info)[node_id]["inputs"]


# ------------------------------------------------------------------------------------------------ widget values


def test_plain_workflow_in_full():
    workflow = flow([LOAD, scale(), {**SHOW, "title": "The end"}], "1.0 > 2.image", "2.0 > 9.images")
    before = copy.deepcopy(workflow)
    assert to_api(workflow, INFO) == {
        "1": {"inputs": {"file": "a.png"}, "class_type": "Load", "_meta": {"title": "Load Image"}},
        "2": {
            "inputs": {"method": "area", "width": 64, "height": 48, "image": ["1", 0]},
            "class_type": "Scale",
            "_meta": {"title": "Scale"},
        },
        "9": {"inputs": {"images": ["2", 0]}, "class_type": "Show", "_meta": {"title": "The end"}},
    }
    assert workflow == before, "the input was changed in place"


@pytest.mark.parametrize(
    "values",
    [
        [7, "randomize", 30, "heun", 0.5],
        [7, True, 30, "heun", 0.5],  # controls of 2023
        [7, None, 30, "heun", 0.5],
        [7, 30, "heun", 0.5],  # saved before the input had a control
        [7, "fixed", 30, "heun", 0.5, "of an extension", {"more": 1}],
        {"steps": 30, "seed": 7, "denoise": 0.5, "name": "heun"},
    ],
)
def test_seed_control_holds_a_slot_and_extra_slots_are_ignored(values):
    expected = {"seed": 7, "steps": 30, "name": "heun", "denoise": 0.5}
    assert inputs_of(flow([node(1, "Sampler", values)]), "1") == expected


def test_a_widget_called_seed_has_a_control_unless_it_says_no():
    for options, values in (({}, [7, "fixed", 2]), ({"control_after_generate": False}, [7, 2])):
        info = {"N": _info({"seed": ["INT", options], "n": ["INT", {}]}, [])}
        assert inputs_of(flow([node(1, "N", values)]), "1", info) == {"seed": 7, "n": 2}


def test_a_controlled_combo_has_two_more_slots():
    info = {"N": _info({"c": [["a", "b"], {"control_after_generate": True}], "n": ["INT", {}]}, [])}
    assert inputs_of(flow([node(1, "N", ["b", "increment", "", 5])]), "1", info) == {"c": "b", "n": 5}


def test_values_by_name_are_preferred():
    named = {"seed": 1, "control_after_generate": "fixed", "steps": 2, "name": "heun", "denoise": 0.25}
    sampler = node(1, "Sampler", [9, "fixed", 9, "euler", 0.9], widgets_values_named=named)
    assert inputs_of(flow([sampler]), "1") == {"seed": 1, "steps": 2, "name": "heun", "denoise": 0.25}


@pytest.mark.parametrize("values", [[7, "fixed", 30], None])
def test_missing_values_are_the_declared_defaults_and_are_reported(values):
    result = convert(flow([node(1, "Sampler", values)]), INFO)
    assert result.prompt["1"]["inputs"]["name"] == "euler" and result.prompt["1"]["inputs"]["denoise"] == 1.0
    assert len(result.notes) == 1 and "'Sampler' (id 1)" in result.notes[0] and "'denoise'" in result.notes[0]


def test_input_order_decides_over_declaration_order():
    info = {"N": {**_info({"b": ["INT", {}], "a": ["INT", {}]}, []), "input_order": {"required": ["a", "b"]}}}
    assert inputs_of(flow([node(1, "N", [1, 2])]), "1", info) == {"a": 1, "b": 2}


def test_forced_sockets_have_no_slot_but_old_files_kept_one():
    info = {"N": _info({"s": ["STRING", {"forceInput": True}], "n": ["INT", {}], "m": ["INT", {}]}, [])}
    assert inputs_of(flow([node(1, "N", [1, 2])]), "1", info) == {"n": 1, "m": 2}
    assert inputs_of(flow([node(1, "N", ["old", 1, 2])]), "1", info) == {"n": 1, "m": 2}


def test_a_linked_widget_keeps_its_slot():
    workflow = flow([LOAD, node(3, "Number", [5]), scale(2, 0, "width")], "1.0 > 2.image", "3.0 > 2.width")
    assert inputs_of(workflow, "2") == {"method": "area", "width": ["3", 0], "height": 48, "image": ["1", 0]}


def test_lists_are_wrapped_and_not_shared():
    workflow = flow([node(1, "Number", [[1, 0]])])
    value = inputs_of(workflow, "1")["value"]
    assert value == {"__value__": [1, 0]} and value["__value__"] is not workflow["nodes"][0]["widgets_values"][0]


def test_a_curve_is_marked_as_one():
    info = {"N": _info({"c": ["CURVE", {}]}, [])}
    curve = inputs_of(flow([node(1, "N", [[[0, 0], [1, 1]]])]), "1", info)["c"]
    assert curve == {"__type__": "CURVE", "__value__": [[0, 0], [1, 1]]}


def test_a_remote_list_has_a_switch_and_a_button_behind_it():
    info = {"N": _info({"c": ["COMBO", {"remote": {"refresh_button": True}}], "b": ["BOOLEAN"], "n": ["INT"]}, [])}
    for values in (["x", False, "refresh", True, 5], ["x", "refresh", True, 5]):  # older editors have no switch
        assert inputs_of(flow([node(1, "N", values)]), "1", info) == {"c": "x", "b": True, "n": 5}


def test_a_type_may_name_its_widget():
    info = {"N": _info({"n": ["INT,FLOAT", {"widgetType": "FLOAT"}], "m": ["INT,FLOAT"], "k": ["INT"]}, [])}
    assert inputs_of(flow([node(1, "N", [0.5, 2])]), "1", info) == {"n": 0.5, "k": 2}


def test_media_choices_become_paths():
    info = {"Out": _info({"image": ["COMBO", {"image_upload": True, "image_folder": "output", "remote": {}}]}, [])}
    saved = [["a.png", False, "image"], ["b.png [output]"], [{"filename": "c.png", "subfolder": "s", "type": "temp"}]]
    workflow = flow([node(i, "Out", values) for i, values in enumerate(saved)])
    images = [to_api(workflow, info)[str(i)]["inputs"]["image"] for i in range(3)]
    assert images == ["a.png [output]", "b.png [output]", "s/c.png [temp]"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["by", 0.5, "area"], {"kind": "by", "kind.factor": 0.5, "method": "area"}),
        (["to", 64, 48, "area"], {"kind": "to", "kind.width": 64, "kind.height": 48, "method": "area"}),
        (["match", "area"], {"kind": "match", "method": "area", "kind.other": ["1", 0]}),
    ],
)
def test_a_dynamic_combo_brings_the_widgets_and_sockets_of_its_option(values, expected):
    resize = node(2, "Resize", values, ["input", "kind.other"])
    workflow = flow([LOAD, resize], "1.0 > 2.input", "1.0 > 2.kind.other")
    # The link into another option's input is dropped: the node would fail with it.
    assert inputs_of(workflow, "2") == {**expected, "input": ["1", 0]}


def test_a_growing_input_takes_as_many_links_as_there_are():
    batch = node(2, "Batch", None, [f"images.image{i}" for i in range(3)])
    workflow = flow([LOAD, batch], "1.0 > 2.images.image0", "1.0 > 2.images.image1")
    assert inputs_of(workflow, "2") == {"images.image0": ["1", 0], "images.image1": ["1", 0]}


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ({"prefix": "n", "min": 2}, ["g.n0", "g.n1", "g.n2"]),
        ({"names": ["a", "b", "c"], "min": 2}, ["g.a", "g.b", "g.c"]),
    ],
)
def test_growing_widgets_hold_slots_and_further_rows_come_last(template, names):
    template = {"input": {"required": {"v": ["INT", {}]}}, **template}
    info = {**INFO, "N": _info({"g": ["COMFY_AUTOGROW_V3", {"template": template}], "x": ["FLOAT"]}, [])}
    workflow = flow([node(3, "Number", [5]), node(1, "N", [10, 11, 0.5, 12], [f"{names[2]}={names[2]}"])])
    assert inputs_of(workflow, "1", info) == {names[0]: 10, names[1]: 11, "x": 0.5, names[2]: 12}
    assert inputs_of(flow([node(1, "N", [10, 11, 0.5])]), "1", info) == {names[0]: 10, names[1]: 11, "x": 0.5}


def test_renamed_types_get_their_present_name():
    info = {"ControlNetLoader": _info({"name": [["m"]]}, [])}
    prompt = to_api(flow([node(1, "T2IAdapterLoader", ["m"])]), info)
    assert prompt["1"]["class_type"] == "ControlNetLoader" and prompt["1"]["inputs"] == {"name": "m"}
    assert to_api(flow([node(1, "T2IAdapterLoader", ["m"])]), {})["1"]["class_type"] == "T2IAdapterLoader"


def test_the_prompt_is_in_execution_order_where_the_file_has_it():
    nodes = [node(3, "Any", order=2), node(1, "Number", [1], order=0), node(7, "Number", [1])]
    assert list(to_api(flow(nodes), INFO)) == ["1", "3", "7"]


# ------------------------------------------------------------------------------------------------ modes and links


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0, ["2", 0]), (4, ["1", 0]), (4.0, ["1", 0]), (2, None), (2.0, None), (1, ["2", 0]), (None, ["2", 0])],
)
def test_muted_nodes_cut_and_bypassed_nodes_pass_on(mode, expected):
    workflow = flow([LOAD, scale(2, mode), SHOW], "1.0 > 2.image", "2.0 > 9.images")
    prompt = to_api(workflow, INFO)
    assert prompt["9"]["inputs"].get("images") == expected
    assert ("2" in prompt) == (mode in (0, 1, None))


@pytest.mark.parametrize("mode", [2, 4])
def test_a_widget_whose_source_is_cut_keeps_its_own_value(mode):
    workflow = flow([LOAD, node(3, "Number", [5], mode=mode), scale(2, 0, "width")], "1.0 > 2.image", "3.0 > 2.width")
    assert inputs_of(workflow, "2")["width"] == 64


def test_bypass_prefers_the_same_place_then_the_first_input_that_fits():
    models, lora = node(1, "Models", ["m"]), node(2, "Lora", [1.0], ["model", "clip"], 2, mode=4)
    workflow = flow(
        [models, lora, node(3, "Text", ["x"], ["clip"]), node(4, "Any", None, ["source"])],
        "1.0 > 2.model", "1.1 > 2.clip", "2.1 > 3.clip", "2.1 > 4.source",
    )  # fmt: skip
    assert inputs_of(workflow, "3")["clip"] == ["1", 1]
    assert inputs_of(workflow, "4")["source"] == ["1", 1]  # any type: the place alone counts
    swapped = {**INFO, "Lora": _info({"clip": ["CLIP"], "model": ["MODEL"]}, ["MODEL", "CLIP"])}
    assert inputs_of(workflow, "3", swapped)["clip"] == ["1", 1]


def test_bypass_finds_nothing_when_no_type_fits():
    text = node(2, "Text", ["x"], ["clip"], mode=4)
    workflow = flow([node(1, "Models", ["m"], outputs=2), text, SHOW], "1.1 > 2.clip", "2.0 > 9.images")
    assert to_api(workflow, INFO)["9"]["inputs"] == {}


def test_bypass_takes_its_own_place_for_any_type_and_the_exact_type_before_one_that_fits():
    text = node(2, "Text", ["x"], ["clip"], mode=4)
    reroute = node(5, "Reroute", None, [""])
    reroute["inputs"][0]["type"] = "COND"  # what the reroute says does not matter, only what is behind it
    anything = node(4, "Any", None, ["source"])
    workflow = flow([node(1, "Models", ["m"]), text, reroute, anything], "1.1 > 2.clip", "2.0 > 5.", "5.0 > 4.source")
    assert inputs_of(workflow, "4")["source"] == ["1", 1]

    info = {**INFO, "Mix": _info({"a": ["*"], "b": ["IMAGE"], "c": ["IMAGE"]}, ["X", "Y", "IMAGE", "IMAGE"])}
    wires = ("1.0 > 2.a", "3.0 > 2.b", "6.0 > 2.c")
    nodes = [*(node(i, "Load", ["a.png"]) for i in (1, 3, 6)), node(2, "Mix", None, "abc", mode=4), SHOW]
    assert inputs_of(flow(nodes, *wires, "2.2 > 9.images"), "9", info)["images"] == ["6", 0]  # its own place
    assert inputs_of(flow(nodes, *wires, "2.3 > 9.images"), "9", info)["images"] == ["3", 0]  # no such place


def test_lists_of_choices_are_one_type_when_bypassing():
    theirs = node(2, "Theirs", None, ["c"], mode=4)
    theirs["inputs"][0]["type"], theirs["outputs"] = ["area", "cubic"], [{"name": "", "type": "COMBO"}]
    target = node(4, "Scale", ["area", 1, 1], ["image", "method=method"])
    wires = ("1.0 > 2.c", "2.0 > 4.method", "2.0 > 4.image")
    inputs = inputs_of(flow([node(1, "Number", [1]), theirs, target], *wires), "4")
    assert inputs["method"] == ["1", 0] and "image" not in inputs


def test_reroutes_pass_on_also_in_chains_and_through_bypassed_nodes():
    reroutes = [node(i, "Reroute", None, [""]) for i in (5, 6)]
    chain = ("1.0 > 5.", "5.0 > 2.image", "2.0 > 6.", "6.0 > 9.images")
    prompt = to_api(flow([LOAD, scale(2, 4), SHOW, *reroutes], *chain), INFO)
    assert prompt["9"]["inputs"] == {"images": ["1", 0]} and set(prompt) == {"1", "9"}
    assert to_api(flow([SHOW, reroutes[0]], "5.0 > 9.images"), INFO)["9"]["inputs"] == {}


@pytest.mark.parametrize("mode", [0, 2, 4])
def test_a_primitive_writes_its_value_into_every_widget_it_is_linked_to(mode):
    primitive = node(3, "PrimitiveNode", [320, "fixed"], mode=mode)
    wires = ("1.0 > 2.image", "3.0 > 2.width", "3.0 > 2.height")
    workflow = flow([LOAD, primitive, scale(2, 0, "width", "height")], *wires)
    assert inputs_of(workflow, "2") == {"method": "area", "width": 320, "height": 320, "image": ["1", 0]}


def test_a_primitive_behind_a_reroute_does_not_arrive():
    nodes = [LOAD, node(3, "PrimitiveNode", [320, "fixed"]), node(5, "Reroute", None, [""]), scale(2, 0, "width")]
    workflow = flow(nodes, "1.0 > 2.image", "3.0 > 5.", "5.0 > 2.width")
    assert inputs_of(workflow, "2")["width"] == 64


def test_notes_vanish():
    notes = [node(3, "Note", ["text"]), node(4, "MarkdownNote", ["# text"])]
    assert set(to_api(flow([LOAD, *notes]), INFO)) == {"1"}


def test_set_and_get_nodes_carry_a_value_by_name():
    nodes = [LOAD, node(3, "SetNode", ["picture"], ["IMAGE"]), node(4, "GetNode", ["picture"]), SHOW]
    prompt = to_api(flow(nodes, "1.0 > 3.IMAGE", "4.0 > 9.images"), INFO)
    assert prompt["9"]["inputs"] == {"images": ["1", 0]} and set(prompt) == {"1", "9"}


def test_links_are_read_by_name_whatever_the_slot_says():
    workflow = flow([LOAD, node(3, "Number", [5]), scale(2, 0, "width")], "1.0 > 2.image", "3.0 > 2.width")
    for link in workflow["links"]:
        link[4] = 17
    assert inputs_of(workflow, "2")["width"] == ["3", 0]


def test_of_two_inputs_with_one_name_the_connected_one_counts():
    workflow = flow([LOAD, scale()], "1.0 > 2.image")
    inputs = workflow["nodes"][1]["inputs"]
    inputs.append({**inputs[0], "link": None})
    assert inputs_of(workflow, "2")["image"] == ["1", 0]


def test_inputs_of_widgets_that_no_longer_exist_are_dropped():
    workflow = flow([LOAD, scale(2, 0, "depth")], "1.0 > 2.image", "1.0 > 2.depth")
    result = convert(workflow, INFO)
    assert "depth" not in result.prompt["2"]["inputs"] and "'depth'" in result.notes[0]


def test_version_1_is_the_same():
    old = flow([LOAD, scale(), SHOW], "1.0 > 2.image", "2.0 > 9.images")
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    new = {**old, "version": 1, "state": {}, "links": [dict(zip(keys, link, strict=True)) for link in old["links"]]}
    assert to_api(new, INFO) == to_api(old, INFO)


# ------------------------------------------------------------------------------------------------ unknown nodes


def test_unknown_nodes_keep_links_and_named_values_and_tell_their_pack():
    named = {"strength": 0.5, "seed": 3, "control_after_generate": "fixed", "upload": "image", "pane": {"x": 1}}
    unknown = node(
        2, "Theirs", [0.5, 3, "fixed"], ["image"], widgets_values_named=named,
        properties={"cnr_id": "their-pack", "ver": "1.2.0"},
    )  # fmt: skip
    result = convert(flow([LOAD, unknown, SHOW], "1.0 > 2.image", "2.0 > 9.images"), INFO)
    assert result.prompt["2"]["inputs"] == {"strength": 0.5, "seed": 3, "image": ["1", 0]}
    assert result.prompt["9"]["inputs"] == {"images": ["2", 0]}
    (found,) = result.unknown_nodes
    assert (found.id, found.type, found.pack, found.version) == ("2", "Theirs", "their-pack", "1.2.0")
    assert "'Theirs'" in found.sentence() and "their-pack" in found.sentence()


def test_unknown_nodes_by_position_are_named_only_when_the_file_lists_all_widgets():
    listed = node(2, "Theirs", [0.5, 3, "fixed"], ["a=a", "seed=seed"])
    listed["inputs"][1]["type"] = "INT"
    assert inputs_of(flow([listed]), "2") == {"a": 0.5, "seed": 3}
    result = convert(flow([node(2, "Theirs", [0.5, 3, "fixed"], ["a=a"])]), INFO)
    assert result.prompt["2"]["inputs"] == {} and "3 widget values" in result.notes[0]
