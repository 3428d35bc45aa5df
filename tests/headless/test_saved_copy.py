"""After --set and --seed the editor's workflow in a saved file gives what ran, or it is left out and that is said."""

import copy
import json

import pytest
from sora_dit.headless.editor import to_api
from sora_dit.headless.problems import WorkflowError
from sora_dit.headless.run import open_job
from sora_dit.headless.session import Session
from sora_dit.headless.settings import apply_settings, set_seed
from sora_dit.headless.workflow import load_workflow

GROUP = "aaaaaaaa-0000-4000-8000-000000000001"


def node(node_id, kind, values=None, inputs=None, links=(), **fields):
    """A saved node; `inputs` maps names to link ids, "name=" for one of a widget. `links` leave its first output."""
    slots = [
        {"name": name.rstrip("="), "type": "*", "link": link}
        | ({"widget": {"name": name[:-1]}} if name.endswith("=") else {})
        for name, link in (inputs or {}).items()
    ]
    saved = {"id": node_id, "type": kind, "mode": 0, "order": node_id, "inputs": slots}
    saved["outputs"] = [{"name": "out", "type": "*", "links": list(links)}]
    return saved | ({} if values is None else {"widgets_values": values}) | fields


def file(*nodes, links=(), **fields):
    return {"version": 0.4, "nodes": list(nodes), "links": [[*one, "*"] for one in links], **fields}


def latent(node_id=4, values=(64, 64, "fixed"), title="Size", **inputs):
    slots = {"model": 1, **{f"{name}=": link for name, link in inputs.items()}}
    return node(node_id, "FakeLatent", list(values), slots, title=title)


LOAD = node(1, "FakeLoad", ["tiny.safetensors"], links=[1])
MODEL = (1, 1, 0, 4, 0)


def text_group():
    """A subgraph with one FakeText inside, whose text is an input of the subgraph."""
    fields = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    links = [dict(zip(fields, one, strict=True)) for one in [(1, -10, 0, 3, 0), (2, 3, 0, -20, 0)]]
    return {
        "id": GROUP, "name": "Words", "links": links, "nodes": [node(3, "FakeText", ["inner"], {"text=": 1}, [2])],
        "inputs": [{"name": "words", "type": "STRING", "linkIds": [1]}],
        "outputs": [{"name": "out", "type": "STRING", "linkIds": [2]}],
    }  # fmt: skip


def group_file(*instances, group=None):
    shows = [node(90 + one["id"], "FakeShow", None, {"value": one["id"]}) for one in instances]
    links = [(one["id"], one["id"], 0, 90 + one["id"], 0) for one in instances]
    return file(*instances, *shows, links=links, definitions={"subgraphs": [group or text_group()]})


def words(node_id=5, values=("outer",), **fields):
    return node(node_id, GROUP, list(values), {"words=": None}, [node_id], **fields)


CASES = {
    "primitive": (
        file(LOAD, latent(seed=2), node(8, "PrimitiveNode", [123, "randomize"], links=[2]),
             links=[MODEL, (2, 8, 0, 4, 2)]),
        "4.seed=5",
    ),
    "primitive by name": (
        file(LOAD, latent(seed=2), node(8, "PrimitiveNode", [1], links=[2], widgets_values_named={"value": 1}),
             links=[MODEL, (2, 8, 0, 4, 2)]),
        "4.seed=5",
    ),
    "primitive of two inputs": (
        file(LOAD, latent(seed=2, width=3), node(8, "PrimitiveNode", [48], links=[2, 3]),
             links=[MODEL, (2, 8, 0, 4, 2), (3, 8, 0, 4, 1)]),
        "4.seed=5",
    ),
    "node that is run": (
        file(LOAD, latent(seed=2), node(8, "FakeInt", [12], links=[2]), links=[MODEL, (2, 8, 0, 4, 2)]),
        "4.seed=5",
    ),
    "reroute": (
        file(LOAD, latent(seed=2), node(8, "FakeInt", [12], links=[3]), node(9, "Reroute", None, {"": 3}, [2]),
             links=[MODEL, (2, 9, 0, 4, 2), (3, 8, 0, 9, 0)]),
        "4.seed=5",
    ),
    "primitive itself": (
        file(LOAD, latent(seed=2, width=3), node(8, "PrimitiveNode", [48], links=[2, 3], title="Number"),
             links=[MODEL, (2, 8, 0, 4, 2), (3, 8, 0, 4, 1)]),
        "Number.value=64",
    ),
    "value that the file lacks": (file(LOAD, latent(values=[64]), links=[MODEL]), "4.seed=5"),
    "instance": (group_file(words()), "5:3.text=SET"),
    "instance itself": (group_file(words(title="My prompt")), "My prompt.words=SET"),
    "one of two instances itself": (group_file(words(5), words(6, ["other"])), "6.words=SET"),
    "instance without a value": (group_file(words(values=[])), "5:3.text=SET"),
    "instance by name": (group_file(words(widgets_values_named={"words": "outer"})), "5:3.text=SET"),
    "one of two instances": (group_file(words(5), words(6, ["other"])), "6:3.text=SET"),
    "value shown by the instance": (
        group_file(
            words(values=["shown"], properties={"proxyWidgets": [["3", "text"]]}),
            group={**text_group(), "inputs": [], "nodes": [node(3, "FakeText", ["inner"], {}, [2])],
                   "links": text_group()["links"][1:]},
        ),
        "5.text=SET",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("editor", "setting"), CASES.values(), ids=CASES)
def test_the_copy_gives_what_ran(registry, editor, setting):
    before = json.dumps(editor)
    workflow = load_workflow(editor, registry)
    apply_settings(workflow, registry, setting)
    saved = workflow.extra_pnginfo["workflow"]
    assert workflow.prompt != load_workflow(editor, registry).prompt
    assert to_api(saved, registry.object_info()) == workflow.prompt
    assert "cannot be written" not in str(workflow.notes) and json.dumps(editor) == before
    fields = ("id", "origin_id")
    for graph in (saved, *saved.get("definitions", {}).get("subgraphs", ())):  # no loose ends for the editor
        there = [tuple(one[:2] if isinstance(one, list) else (one[key] for key in fields)) for one in graph["links"]]
        ends = [(link, one["id"]) for one in graph["nodes"] for slot in one["outputs"] for link in slot["links"]]
        assert sorted(ends) == sorted(pair for pair in there if pair[1] != -10)
        assert {slot["link"] for one in graph["nodes"] for slot in one["inputs"]} <= {
            None,
            *(link for link, _ in there),
        }


def test_of_an_input_set_twice_the_last_value_counts(registry):
    workflow = load_workflow(file(LOAD, latent(), links=[MODEL]), registry)
    apply_settings(workflow, registry, ["Size.width=32", "Size.seed=5", "Size.width=48"])
    assert workflow.notes == [] and saved_node(workflow, 4)["widgets_values"] == [48, 5, "fixed"]
    assert workflow.prompt["4"]["inputs"]["width"] == 48


def test_a_number_that_is_not_finite_is_not_blamed_on_the_copy(registry):
    job = open_job(file(node(3, "FakeFloat", [0.5]), node(4, "FakeShow", None, {"value": 1}), links=[(1, 3, 0, 4, 0)]),
                   Session(), ["3.value=nan"], registry=registry)  # fmt: skip
    assert [str(one) for one in job.plan.problems] == ["FakeFloat (node 3), value: got nan; expected a finite number."]


def saved_node(workflow, node_id):
    return next(one for one in workflow.extra_pnginfo["workflow"]["nodes"] if one["id"] == node_id)


def test_a_primitive_and_an_instance_keep_their_wires(registry):
    workflow = load_workflow(CASES["primitive"][0], registry)
    set_seed(workflow, registry, 5)
    assert saved_node(workflow, 8)["widgets_values"] == [5, "randomize"]
    assert saved_node(workflow, 4)["inputs"][1]["link"] == 2
    workflow = load_workflow(CASES["instance"][0], registry)
    apply_settings(workflow, registry, ["5:3.text=SET"])
    assert saved_node(workflow, 5)["widgets_values"] == ["SET"]


def test_one_primitive_of_two_seeds(registry):
    editor = file(LOAD, latent(4, seed=2), {**latent(5, title="Other", seed=3)},
                  node(8, "PrimitiveNode", [123, "fixed"], links=[2, 3]),
                  links=[MODEL, (2, 8, 0, 4, 2), (3, 8, 0, 5, 2)])  # fmt: skip
    workflow = load_workflow(editor, registry)
    set_seed(workflow, registry, 5)
    assert to_api(workflow.extra_pnginfo["workflow"], registry.object_info()) == workflow.prompt
    assert saved_node(workflow, 8)["widgets_values"] == [5, "fixed"]
    assert saved_node(workflow, 5)["inputs"][1]["link"] == 3


def test_what_a_primitive_and_an_instance_decide_on(registry):
    workflow = load_workflow(CASES["primitive itself"][0], registry)
    made = apply_settings(workflow, registry, ["number.VALUE=64"])
    assert {(one.node_id, one.input, one.value) for one in made} == {("4", "width", 64), ("4", "seed", 64)}
    workflow = load_workflow(CASES["instance itself"][0], registry)
    made = apply_settings(workflow, registry, {"5.words": "SET"})
    assert [(one.node_id, one.input, one.value) for one in made] == [("5:3", "text", "SET")]


def test_a_subgraphs_input_is_found_by_the_name_that_a_person_gave_it(registry):
    editor = json.loads(json.dumps(CASES["instance itself"][0]))
    editor["definitions"]["subgraphs"][0]["inputs"][0]["label"] = "Worte"
    for name in ("5.Worte", "5.words"):
        made = apply_settings(load_workflow(editor, registry), registry, {name: "SET"})
        assert [(one.node_id, one.input, one.value) for one in made] == [("5:3", "text", "SET")]
    with pytest.raises(WorkflowError, match="has no input 'text'; those that can be set: Worte"):
        apply_settings(load_workflow(editor, registry), registry, {"5.text": "SET"})


NOT_THERE = [
    ("instance itself", "5.text=x", "My prompt (node 5) is a subgraph and has no input 'text'; those that can be set: "
     "words. Of the nodes inside, set 5:3.text."),
    ("instance itself", "5.size=x", "has no input 'size'; those that can be set: words."),
    ("primitive itself", "8.seed=5", "Number (node 8) is a primitive node and has no input 'seed'; those that can be "
     "set: value."),
    ("instance itself", "Mein prompt.words=x", "Show (95), My prompt (5). Did you mean 'My prompt'?"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "setting", "sentence"), NOT_THERE, ids=[one for _, one, _ in NOT_THERE])
def test_what_cannot_be_set_says_what_can(registry, case, setting, sentence):
    with pytest.raises(WorkflowError) as caught:
        apply_settings(load_workflow(CASES[case][0], registry), registry, setting)
    assert str(caught.value).endswith(sentence)


EDITOR = file(LOAD, latent(), node(6, "FakeText", ["{a|b}"], title="Prompt"), links=[MODEL])


@pytest.fixture
def request_body(registry):
    def build(workflow=EDITOR, **more):
        prompt = to_api(EDITOR, registry.object_info())
        return {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": workflow, **more}}}

    return build


def test_the_copy_in_a_request_follows(registry, request_body):
    body = request_body(mine=1)
    before = copy.deepcopy(body)
    workflow = load_workflow(body, registry)
    apply_settings(workflow, registry, {"Size.seed": 77, "Prompt.text": "x"})
    assert to_api(workflow.extra_pnginfo["workflow"], registry.object_info()) == workflow.prompt
    assert workflow.extra_pnginfo["mine"] == 1 and body == before


@pytest.mark.parametrize(
    "saved",
    [
        {"nodes": []},
        {"nodes": [7]},
        "no workflow",
        file(LOAD, node(4, "FakeInt", [3])),  # another node of that id
        file(LOAD, node(4, "Unknown", [64, 64])),
    ],
)
def test_a_copy_that_cannot_follow_is_left_out_and_said_once(registry, request_body, saved):
    session = Session()
    job = open_job(request_body(saved, mine=1), session, ["Size.seed=77", "Size.width=32"], registry=registry)
    assert session.extra_pnginfo == {"mine": 1}
    assert [str(one) for one in job.plan.problems if "saved files" in str(one)] == [
        "The new value of seed of Size (node 4) cannot be written into the editor's workflow: saved files get only "
        "the prompt that ran, which ComfyUI opens as well."
    ]


def test_without_settings_the_copy_stays(registry, request_body):
    session = Session()
    open_job(request_body("no workflow"), session, registry=registry)
    assert session.extra_pnginfo == {"workflow": "no workflow"}


def test_a_choice_of_a_dynamic_input_whose_own_inputs_are_not_known(registry):
    editor = file(node(7, "FakeDynamic", ["plain", 1], {}))
    workflow = load_workflow(editor, registry)
    apply_settings(workflow, registry, ["7.kind=sized"])
    assert "workflow" not in workflow.extra_pnginfo and len(workflow.notes) == 1
    workflow = load_workflow(editor, registry)
    apply_settings(workflow, registry, {"7.kind": "plain"})
    assert workflow.extra_pnginfo["workflow"] == editor
