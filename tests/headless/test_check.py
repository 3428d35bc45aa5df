"""Every mistake in a workflow is one plain sentence, all of them at once, and only where an output needs it."""

import json

import pytest
from sora_dit.headless.graph import check, plan
from sora_dit.headless.problems import Problem, WorkflowError, nearest, shown
from sora_dit.headless.registry import Registry
from sora_dit.headless.values import types_match
from sora_dit.headless.workflow import load_workflow

GOOD = {
    "1": {"class_type": "FakeLoad", "inputs": {"file": "tiny.safetensors"}},
    "4": {"class_type": "FakeLatent", "inputs": {"model": ["1", 0], "width": 64}},
    "5": {"class_type": "FakeSteps", "inputs": {"latent": ["4", 0], "steps": 4, "delay": 0}},
    "6": {"class_type": "FakeShow", "inputs": {"value": ["5", 0]}},
}


def changed(**nodes):
    """GOOD with `n4={"width": 100}` put into the inputs of node 4 (None removes one), or a node replaced."""
    graph = json.loads(json.dumps(GOOD))
    for name, change in nodes.items():
        node = graph.setdefault(name[1:], {"class_type": change.get("class_type"), "inputs": {}})
        if "class_type" in change or "inputs" in change:
            node.update(change)
        else:
            node["inputs"].update(change)
            node["inputs"] = {key: value for key, value in node["inputs"].items() if value != "REMOVE"}
    return graph


SHOW = {"class_type": "FakeShow", "inputs": {"value": ["9", 0]}}


def beside(class_type, inputs):
    """GOOD with a second output fed by one more node 9."""
    return {**GOOD, "9": {"class_type": class_type, "inputs": inputs}, "10": SHOW}


ERRORS = [
    # own validation, ranges, conversions
    (changed(n4={"width": 100}), "Empty Latent (node 4), width: got 100; expected a multiple of 8, such as 96."),
    (changed(n5={"steps": 0}), "Denoise (node 5), steps: got 0; expected 1 to 1000."),
    (changed(n5={"steps": 1001}), "Denoise (node 5), steps: got 1001; expected 1 to 1000."),
    (changed(n5={"steps": "many"}), "Denoise (node 5), steps: got 'many'; expected a whole number."),
    (changed(n5={"steps": None}), "Denoise (node 5), steps: got nothing (null); expected a whole number."),
    (changed(n5={"steps": ""}), "Denoise (node 5), steps: got an empty text; expected a whole number."),
    (changed(n5={"steps": float("inf")}), "Denoise (node 5), steps: got inf; expected a whole number."),
    (changed(n5={"delay": "fast"}), "Denoise (node 5), delay: got 'fast'; expected a number."),
    (changed(n5={"delay": float("nan")}), "Denoise (node 5), delay: got nan; expected a finite number."),
    (beside("FakeFloat", {"value": 1.5}), "FakeFloat (node 9), value: got 1.5; expected 0 to 1."),
    (beside("FakeText", {"text": None}), "Prompt (node 9), text: got nothing (null); expected a text."),
    # lists of choices
    (
        changed(n1={"file": "tinny.safetensors"}),
        "Load Model (node 1), file: got 'tinny.safetensors'; expected one of: tiny.safetensors, large.safetensors. "
        "Did you mean 'tiny.safetensors'?",
    ),
    (
        changed(n1={"file": 3}),
        "Load Model (node 1), file: got 3; expected one of: tiny.safetensors, large.safetensors.",
    ),
    # missing inputs
    (changed(n4={"width": "REMOVE"}), "Empty Latent (node 4), width: is missing; expected a whole number."),
    (
        changed(n4={"model": "REMOVE"}),
        "Empty Latent (node 4), model: is missing; expected a link from an output of type FAKE_MODEL.",
    ),
    (
        changed(n4={"width": "REMOVE", "widht": 64}),
        "Empty Latent (node 4), width: is missing; expected a whole number. The file has 'widht'; did you mean that?",
    ),
    # links
    (changed(n5={"latent": ["44", 0]}), "Denoise (node 5), latent: is linked to node 44, which does not exist."),
    (
        changed(n5={"latent": ["1", 7]}),
        "Denoise (node 5), latent: is linked to output 7 of Load Model (node 1), which has only the outputs "
        "0 (model), 1 (clip).",
    ),
    (
        changed(n5={"latent": ["1", -1]}),
        "Denoise (node 5), latent: is linked to output -1 of Load Model (node 1), which has only the outputs "
        "0 (model), 1 (clip).",
    ),
    (
        changed(n5={"latent": ["9", 0]}, n9={"class_type": "FakeShow", "inputs": {"value": 1}}),
        "Denoise (node 5), latent: is linked to output 0 of Show (node 9), which has no outputs.",
    ),
    (
        changed(n5={"latent": ["1", 1]}),
        "Denoise (node 5), latent: is linked to output 1 (clip) of Load Model (node 1), which is CLIP; "
        "expected LATENT.",
    ),
    (
        beside("FakeInt", {"value": ["11", 0]}) | {"11": {"class_type": "FakeFloat", "inputs": {"value": 0.5}}},
        "FakeInt (node 9), value: is linked to output 0 (FLOAT) of FakeFloat (node 11), which is a number; expected a "
        "whole number.",
    ),
    (
        changed(n5={"latent": [4, 0]}),
        'Denoise (node 5), latent: got [4, 0]; expected a value or a link ["node id", output number].',
    ),
    (
        changed(n5={"latent": ["4"]}),
        "Denoise (node 5), latent: got ['4']; expected a value or a link [\"node id\", output number] (a list as "
        'a value is written {"__value__": [...]}).',
    ),
    (changed(n5={"latent": 5}), "Denoise (node 5), latent: got 5; expected a link from an output of type LATENT."),
    (
        beside("FakeUnion", {"value": ["11", 0]}) | {"11": {"class_type": "FakeText", "inputs": {"text": "x"}}},
        "Union (node 9), value: is linked to output 0 (STRING) of Prompt (node 11), which is a text; "
        "expected INT or FLOAT.",
    ),
    (
        changed(n5={"latnt": ["4", 0]}),
        "Denoise (node 5), latnt: the node has no input of this name to link; its inputs are: latent, steps, delay. "
        "Did you mean 'latent'?",
    ),
    # dynamic inputs
    (
        beside("FakeDynamic", {"kind": "sised", "things.thing0": 1}),
        "Dynamic (node 9), kind: got 'sised'; expected one of: plain, sized. Did you mean 'sized'?",
    ),
    (
        beside("FakeDynamic", {"kind": "sized", "kind.size": 12, "things.thing0": 1}),
        "Dynamic (node 9), kind.size: got 12; expected 1 to 9.",
    ),
    (
        beside("FakeDynamic", {"kind": "sized", "things.thing0": 1}),
        "Dynamic (node 9), kind.size: is missing; expected a whole number.",
    ),
    # nodes
    (
        changed(n5={"class_type": "FakeStepz"}),
        "FakeStepz (node 5): there is no node type 'FakeStepz' here. Did you mean 'FakeSteps'?",
    ),
    (
        changed(n5={"class_type": "Empty Latents"}),
        "Empty Latents (node 5): there is no node type 'Empty Latents' here. Did you mean 'FakeLatent'?",
    ),
    (
        changed(n5={"class_type": "zzz", "_meta": {"title": "Mine", "cnr_id": "other-pack"}}),
        "Mine (node 5): there is no node type 'zzz' here. The file says that it comes from the node pack 'other-pack', "
        "which does not run headless.",
    ),
    (
        {**GOOD, "9": {"inputs": {}}},
        "Node (node 9): class_type is missing; expected the name of a node type.",
    ),
    (
        {**GOOD, "9": {"class_type": 5, "_meta": {"title": "Nine"}}},
        "Nine (node 9): class_type is 5; expected the name of a node type.",
    ),
    ({**GOOD, "9": [1, 2]}, "Node (node 9): got [1, 2]; expected an object with class_type."),
    (
        {**GOOD, "9": {"class_type": "FakeInt", "inputs": [1]}},
        "FakeInt (node 9): inputs is [1]; expected an object.",
    ),
    # the graph as a whole
    (
        {"1": GOOD["1"]},
        "The workflow has no output node, so there is nothing to make; expected a node that saves or shows something "
        "(such as Save Video).",
    ),
    (
        changed(n5={"latent": ["5", 0]}),
        "Denoise (node 5): the links form a circle: Denoise (node 5) -> Denoise (node 5); expected links without a way "
        "back.",
    ),
    (
        {
            "1": {"class_type": "FakeAdd", "inputs": {"a": ["2", 0], "b": 1}},
            "2": {"class_type": "FakeAdd", "inputs": {"a": ["3", 0], "b": 1}},
            "3": {"class_type": "FakeAdd", "inputs": {"a": ["1", 0], "b": 1}},
            "4": {"class_type": "FakeShow", "inputs": {"value": ["1", 0]}},
        },
        "Add (node 1): the links form a circle: Add (node 1) -> Add (node 3) -> Add (node 2) -> Add (node 1); expected "
        "links without a way back.",
    ),
]


@pytest.mark.parametrize(("graph", "sentence"), ERRORS, ids=[text[:60] for _, text in ERRORS])
def test_sentence(graph, sentence, registry):
    packs = {key: node["_meta"]["cnr_id"] for key, node in graph.items()
             if isinstance(node, dict) and "cnr_id" in node.get("_meta", {})}  # fmt: skip
    problems = [str(one) for one in check(graph, registry, packs) if one.severity == "error"]
    assert problems == [sentence]


def test_a_circle_is_named_in_the_direction_of_the_data(registry):
    graph = {
        "a": {"class_type": "FakeAdd", "inputs": {"a": ["b", 0], "b": 1}},  # b -> a
        "b": {"class_type": "FakeAdd", "inputs": {"a": ["a", 0], "b": 1}},  # a -> b
        "show": {"class_type": "FakeShow", "inputs": {"value": ["a", 0]}},
    }
    (problem,) = check(graph, registry)
    assert "Add (node a) -> Add (node b) -> Add (node a)" in str(problem)


def test_good_prompt_has_no_problems(registry):
    checked = plan(GOOD, registry)
    assert checked.problems == [] and checked.outputs == ["6"] and checked.needed == set(GOOD)


def test_all_errors_come_at_once(registry):
    graph = changed(n1={"file": "x"}, n4={"width": 5, "model": ["77", 0]}, n5={"steps": 0, "delay": "x"})
    texts = [str(one) for one in check(graph, registry)]
    assert len(texts) == 5
    assert "Not needed by any output" in texts[4]  # the wrong link cut it off


WARNINGS = [
    (
        changed(n4={"widht": 64}),
        "Empty Latent (node 4), widht: the node has no input of this name; the value is ignored. Did you mean 'width'?",
    ),
    (changed(n5={"steps": 3.7}), "Denoise (node 5), steps: got 3.7; a whole number is expected, 3 is used."),
    (
        beside("FakeFlag", {"value": "false"}),
        "FakeFlag (node 9), value: got the text 'false', which counts as true; write false without quotes.",
    ),
    (
        {**GOOD, "9": {"class_type": "FakeInt", "inputs": {"value": 1000}}},
        "FakeInt (node 9), value: got 1000; expected 0 to 100. (Not needed by any output, so not run.)",
    ),
]


@pytest.mark.parametrize(("graph", "sentence"), WARNINGS, ids=[text[:60] for _, text in WARNINGS])
def test_warning(graph, sentence, registry):
    problems = check(graph, registry)
    assert [(one.severity, str(one)) for one in problems] == [("warning", sentence)]


def test_constants_are_converted_as_comfyui_does(registry):
    graph = beside("FakeText", {"text": 12}) | changed(n5={"steps": "7", "delay": "0.5"})
    checked = plan(graph, registry)
    assert checked.problems == []
    assert checked.nodes["5"].constants == {"steps": 7, "delay": 0.5}
    assert checked.nodes["9"].constants == {"text": "12"}


def test_a_wrapped_list_is_a_constant(registry):
    checked = plan(beside("FakeUnion", {"value": {"__value__": [1, 2]}}), registry)
    assert checked.problems == [] and checked.nodes["9"].constants == {"value": [1, 2]}


def test_an_input_that_the_node_checks_itself_has_no_range_check(registry):
    assert check(changed(n4={"width": 1024}), registry) == []  # max is 512, but validate_inputs takes width


def test_linked_inputs_are_none_for_validation(registry):
    graph = changed(n4={"width": ["9", 0]}, n9={"class_type": "FakeInt", "inputs": {"value": 50}})
    assert check(graph, registry) == []


def test_asynchronous_validation_and_broken_validation(fakes):
    async def refuse(cls, value):
        return f"{value} is not blue."

    def broken(cls, value):
        raise KeyError("oops")

    def types(cls, input_types):
        return f"given {input_types}"

    io = fakes.io
    graph = {"1": {"class_type": "FakeInt", "inputs": {"value": 1}}}
    expected = []
    for name, check_it, text in (
        ("A", refuse, "A (node A), value: 4 is not blue."),
        ("B", broken, "B (node B), value: its check of the inputs failed with KeyError: 'oops'."),
        ("C", types, "C (node C): given {'linked': 'INT'}"),
    ):
        node = fakes.make(name, [io.Int.Input("value"), io.Latent.Input("linked", optional=True)], [], None,
                          more={"validate_inputs": check_it}, is_output_node=True)  # fmt: skip
        fakes_registry = Registry.of([*fakes.NODES, node])
        graph[name] = {"class_type": name, "inputs": {"value": 4} | ({"linked": ["1", 0]} if name == "C" else {})}
        problems = check({key: graph[key] for key in ("1", name)}, fakes_registry)
        expected.append((problems[0].input, str(problems[0]), text))
    assert [(found, text) for _, found, text in expected] == [(text, text) for _, _, text in expected]


def test_unloadable_nodes_are_named_with_their_reason(fakes):
    registry = Registry.of(fakes.NODES, {"save_video": "ImportError: no av"})
    (problem,) = check(changed(n6={"class_type": "SaveTheVideoNow"}), registry)
    assert str(problem).endswith("Some nodes could not be loaded: save_video: ImportError: no av")


def test_an_unknown_node_in_a_branch_that_leads_nowhere_stops_nothing(registry):
    """ComfyUI, which may have it, never comes to it. One that nothing takes from may be a forgotten output."""
    aside = {"a": {"class_type": "ImageInvert"}, "b": {"class_type": "FakeSteps", "inputs": {"latent": ["a", 0]}}}
    severities = {one.node_id: one.severity for one in check(GOOD | aside, registry)}
    assert severities["a"] == "warning"
    assert [one.severity for one in check(GOOD | {"a": aside["a"]}, registry)] == ["error"]


def test_many_unknown_nodes_do_not_make_every_schema_again(fakes, registry, monkeypatch):
    calls = []
    schema = Registry.schema
    monkeypatch.setattr(Registry, "schema", lambda self, kind: calls.append(kind) or schema(self, kind))
    unknown = {f"u{number}": {"class_type": f"Unknown{number}", "inputs": {}} for number in range(20)}
    problems = check(GOOD | unknown, registry)
    assert len(problems) == 20 and all("there is no node type 'Unknown" in str(one) for one in problems)
    assert calls and all(calls.count(one) <= 2 for one in calls)  # one for the names, one for the node itself


def test_a_broken_schema_does_not_take_the_others_with_it(fakes):
    class Broken(fakes.io.ComfyNode):
        @classmethod
        def define_schema(cls):
            raise ValueError("no schema")

        @classmethod
        def execute(cls):
            return None

    registry = Registry.of([Broken, *fakes.NODES])
    assert "FakeInt" in registry and registry.failures == {"Broken": "ValueError: no schema"}


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [("INT", "INT", True), ("INT", "FLOAT", False), ("*", "INT", True), ("INT", "*", True), ("INT,FLOAT", "INT", True),
     ("A, B", "B,C", True), ("A,B", "C,D", False), ("COMFY_MATCHTYPE_V3", "INT", True), ("INT", "A,*", True)],
)  # fmt: skip
def test_types(given, wanted, fits):
    assert types_match(given, wanted) is fits


def test_words():
    assert nearest("WIDTH", ["width", "height"]) == "width"
    assert nearest("latent", ["SoraDiTEmptyLatent", "SoraDiTDecode"]) == "SoraDiTEmptyLatent"
    assert nearest("qqq", ["width"]) is None
    assert shown("a" * 200).endswith("…") and len(shown("a" * 200)) == 60
    assert shown(True) == "true" and shown("") == "an empty text"


# --- files ---

FILES = [
    ("", "is empty; expected a workflow in JSON."),
    ("  \n", "is empty; expected a workflow in JSON."),
    ("{not json", "is not valid JSON: Expecting property name enclosed in double quotes at line 1, column 2."),
    ('{"1": {"class_type": "A"}', "is not valid JSON: Expecting ',' delimiter at line 1, column 26."),
    ("[]", "holds a list; expected a workflow: an object of nodes."),
    ('"text"', "holds a text; expected a workflow: an object of nodes."),
    ("null", "holds null; expected a workflow: an object of nodes."),
    ("17", "holds 17; expected a workflow: an object of nodes."),
    ("{}", "holds no nodes."),
    ('{"a": 1}', "is JSON but no workflow: no entry has a class_type (API format), and there is no list of nodes with "
     "links (editor format)."),
    (b"\xff\xfe\x00\x01\x02", "is not a text file (its bytes are not UTF-16); expected a workflow in JSON."),
    (b"\x89PNG\r\n\x1a\n\x00\x00", "is not a text file (byte 1 is not UTF-8); expected a workflow in JSON."),
    (b"{\x00}", "is not a text file (it holds zero bytes); expected a workflow in JSON."),
    ("[" * 200_000, "is nested too deeply to be a workflow."),
]  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), FILES, ids=[repr(one)[:20] for one, _ in FILES])
def test_file(content, sentence, tmp_path, registry):
    path = tmp_path / "flow.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(WorkflowError) as caught:
        load_workflow(path, registry)
    assert str(caught.value) == f"{path} {sentence}"


def test_missing_file_and_folder(tmp_path, registry):
    (tmp_path / "text_to_video.json").write_text("{}")
    with pytest.raises(
        WorkflowError, match=r"text_to_vidio\.json does not exist; .* Did you mean .*text_to_video\.json\?"
    ):
        load_workflow(tmp_path / "text_to_vidio.json", registry)
    with pytest.raises(WorkflowError, match="is a folder; expected a workflow file"):
        load_workflow(tmp_path, registry)


def test_byte_order_mark_is_no_problem(tmp_path, registry):
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert check(load_workflow(path, registry).prompt, registry) == []


def test_body_of_a_prompt_request(registry):
    body = {"prompt": GOOD, "client_id": "x", "extra_data": {"extra_pnginfo": {"workflow": {"nodes": []}}}}
    workflow = load_workflow(body, registry)
    assert workflow.prompt == GOOD and workflow.extra_pnginfo == {"workflow": {"nodes": []}}


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ([1], "The workflow, extra_data: got [1]; expected an object, as in a /prompt request."),
        ("x", "The workflow, extra_data: got 'x'; expected an object, as in a /prompt request."),
        (
            {"extra_pnginfo": [1]},
            "The workflow, extra_pnginfo: got [1]; expected an object, as in a /prompt request.",
        ),
    ],
)
def test_body_of_a_prompt_request_with_a_wrong_extra_data(registry, extra, sentence):
    with pytest.raises(WorkflowError) as caught:
        load_workflow({"prompt": GOOD, "extra_data": extra}, registry)
    assert str(caught.value) == sentence
    for nothing in ({}, {"extra_data": None}, {"extra_data": {}}, {"extra_data": {"extra_pnginfo": None}}):
        assert load_workflow({"prompt": GOOD, **nothing}, registry).extra_pnginfo is None


def test_the_callers_object_is_not_changed(registry):
    before = json.dumps(GOOD)
    workflow = load_workflow(GOOD, registry)
    workflow.prompt["4"]["inputs"]["width"] = 1
    assert json.dumps(GOOD) == before


def test_a_title_cannot_turn_the_sentence_around():
    turning = "\u202etxt\u2066a\u2069\u202c"
    text = str(Problem("1", turning, "text", "got\u2028a line\u2029break\nor\x1b[2J more."))
    assert text == " txt a   (node 1), text: got a line break or [2J more."
    assert shown("👩\u200d🚀 שלום") == "'👩\u200d🚀 שלום'"  # joins letters, turns nothing
