"""--set NODE.INPUT=VALUE and --seed."""

import json
from pathlib import Path

import pytest
import sora_dit
from sora_dit.headless.problems import UsageError, WorkflowError
from sora_dit.headless.registry import load_registry
from sora_dit.headless.settings import apply_settings, set_seed
from sora_dit.headless.workflow import load_workflow

PROMPT = {
    "1": {"class_type": "FakeLoad", "inputs": {"file": "tiny.safetensors"}},
    "2": {"class_type": "FakeText", "inputs": {"text": "old"}, "_meta": {"title": "Prompt"}},
    "3": {"class_type": "FakeText", "inputs": {"text": "old"}, "_meta": {"title": "v1.5 = best. Title"}},
    "4": {"class_type": "FakeLatent", "inputs": {"model": ["1", 0], "width": 64, "seed": 1}},
    "5": {"class_type": "FakeFlag", "inputs": {"value": True}, "_meta": {"title": "Twin"}},
    "6": {"class_type": "FakeFloat", "inputs": {"value": 0.5}, "_meta": {"title": "twin"}},
    "7": {"class_type": "FakeDynamic", "inputs": {"kind": "sized", "kind.size": 2, "things.thing0": 1}},
    "8": {"class_type": "FakeAdd", "inputs": {"a": ["9", 0], "b": 1}},
    "9": {"class_type": "FakeInt", "inputs": {"value": 1}},
    "10": {"class_type": "FakeJoin", "inputs": {"values": 1, "between": "-"}},
}


@pytest.fixture
def apply(registry):
    def apply_(*settings):
        workflow = load_workflow(PROMPT, registry)
        made = apply_settings(workflow, registry, settings[0] if isinstance(settings[0], dict) else settings)
        return workflow.prompt, [(one.node_id, one.input, one.value) for one in made]

    return apply_


GOOD = [
    ("2.text=a red balloon", ("2", "text", "a red balloon")),
    ("Prompt.text= kept  as is ", ("2", "text", " kept  as is ")),
    ("PROMPT.TEXT=x=y=z", ("2", "text", "x=y=z")),
    ("Prompt.text=", ("2", "text", "")),
    ("Prompt.text=17", ("2", "text", "17")),
    ("Prompt.text=🎈 über\nzwei", ("2", "text", "🎈 über\nzwei")),
    ("v1.5 = best. Title.text=x", ("3", "text", "x")),
    ("Empty Latent.width=128", ("4", "width", 128)),
    ("FakeLatent.width=128", ("4", "width", 128)),
    ("4.seed=18446744073709551615", ("4", "seed", 18446744073709551615)),
    ("5.value=no", ("5", "value", False)),
    ("5.value=True", ("5", "value", True)),
    ("6.value=1e-3", ("6", "value", 0.001)),
    ("Load Model.file=large.safetensors", ("1", "file", "large.safetensors")),
    ("7.kind.size=5", ("7", "kind.size", 5)),
    ("Dynamic.kind=plain", ("7", "kind", "plain")),
    ("Add.a=40", ("8", "a", 40)),  # replaces a link
    ("10.values=[1, 2]", ("10", "values", {"__value__": [1, 2]})),
    ("10.values=word", ("10", "values", "word")),
]


@pytest.mark.parametrize(("text", "made"), GOOD, ids=[text for text, _ in GOOD])
def test_setting(apply, text, made):
    prompt, changes = apply(text)
    assert changes == [made]
    assert prompt[made[0]]["inputs"][made[1]] == made[2]


BAD = [
    ("Prompt", "--set 'Prompt': expected NODE.INPUT=VALUE, such as \"Prompt.text=a red balloon\"."),
    ("Prompt=x", "--set 'Prompt=x': expected NODE.INPUT=VALUE with a dot between node and input, such as "
     "\"Prompt.text=...\"."),
    ("Promt.text=x", "there is no node 'Promt'; the nodes are: Load Model (1), Prompt (2), v1.5 = best. Title (3), "
     "Empty Latent (4), Twin (5), twin (6), Dynamic (7), Add (8), FakeInt (9), FakeJoin (10). Did you mean 'Prompt'?"),
    ("Prompt.txt=x", "Prompt (node 2) has no input 'txt'; those that can be set: text. Did you mean 'text'?"),
    ("Twin.value=1", "2 nodes are called 'Twin': use an id, 5 or 6."),
    ("4.width=wide", "got 'wide'; expected a whole number."),
    ("4.width=1.5", "got '1.5'; expected a whole number."),
    ("4.width=", "got an empty text; expected a whole number."),
    ("6.value=a", "got 'a'; expected a number."),
    ("5.value=maybe", "got 'maybe'; expected true or false."),
    ("4.model=x", "model of Empty Latent (node 4) is a link of type FAKE_MODEL, which cannot be given as a value."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), BAD, ids=[text for text, _ in BAD])
def test_bad_setting(apply, text, sentence):
    with pytest.raises(WorkflowError) as caught:
        apply(text)
    assert str(caught.value).endswith(sentence) and str(caught.value).startswith("--set '")


def test_all_bad_settings_at_once(apply):
    with pytest.raises(WorkflowError) as caught:
        apply("Promt.text=x", "2.text=fine", "4.width=wide")
    assert len(caught.value.problems) == 2


def test_python_values_are_taken_as_they_are(apply):
    _, made = apply({"Prompt.text": "x", "4.width": 32, "10.values": [1, 2]})
    assert made == [("2", "text", "x"), ("4", "width", 32), ("10", "values", {"__value__": [1, 2]})]


def test_seed(registry):
    workflow = load_workflow(PROMPT, registry)
    set_seed(workflow, registry, 77)
    assert workflow.prompt["4"]["inputs"]["seed"] == 77
    without = {key: node for key, node in PROMPT.items() if key == "2"}
    with pytest.raises(UsageError, match="--seed: no node of the workflow has a seed to set"):
        set_seed(load_workflow(without, registry), registry, 1)


def test_seeds_of_trainings_are_left_and_named():
    registry = load_registry()
    folder = Path(sora_dit.__file__).parent / "workflows" / "api"
    workflow = load_workflow(folder / "train_from_folder.json", registry)
    before = {key: dict(node["inputs"]) for key, node in workflow.prompt.items()}
    (made,) = set_seed(workflow, registry, 9)
    assert made.input == "seed" and before[made.node_id]["seed"] != 9
    assert any("--seed leaves model_seed of " in note and "training_seed of " in note for note in workflow.notes)


def linked_seeds(**more):
    """Denoise-like nodes 4 and 5 whose seeds come from node 20; `more` are further nodes."""
    latent = {"class_type": "FakeLatent", "inputs": {"model": ["1", 0], "width": 64, "seed": ["20", 0]}}
    return {"1": PROMPT["1"], "4": latent, "5": latent, "20": {"class_type": "FakeInt", "inputs": {"value": 3}}, **more}


def test_seed_from_a_primitive(registry):
    workflow = load_workflow(linked_seeds(), registry)
    made = set_seed(workflow, registry, 77)
    assert [(one.node_id, one.input, one.value) for one in made] == [("20", "value", 77)]
    assert workflow.prompt["20"]["inputs"]["value"] == 77 and workflow.prompt["4"]["inputs"]["seed"] == ["20", 0]


def test_seed_from_a_primitive_that_feeds_more_than_seeds(registry):
    more = {"6": {"class_type": "FakeAdd", "inputs": {"a": ["20", 0], "b": 1}}}
    workflow = load_workflow(linked_seeds(**more), registry)
    set_seed(workflow, registry, 77)
    assert workflow.prompt["20"]["inputs"]["value"] == 3
    assert [workflow.prompt[one]["inputs"]["seed"] for one in "45"] == [77, 77]


def test_a_computed_seed_is_named(registry):
    computed = linked_seeds(**{"20": {"class_type": "FakeAdd", "inputs": {"a": 1, "b": 1}}})
    with pytest.raises(UsageError) as caught:
        set_seed(load_workflow(computed, registry), registry, 1)
    assert str(caught.value) == (
        "--seed: seed of Empty Latent (node 4), seed of Empty Latent (node 5) come from nodes that are no seeds "
        "themselves; --set puts a number in the place of such a link."
    )
    with_one = {**computed, "4": PROMPT["4"]}
    workflow = load_workflow(with_one, registry)
    assert [one.node_id for one in set_seed(workflow, registry, 1)] == ["4"]
    assert workflow.notes == ["--seed leaves seed of Empty Latent (node 5) as it is: it comes from another node."]


def test_a_bare_text_is_one_setting(registry):
    workflow = load_workflow(PROMPT, registry)
    made = apply_settings(workflow, registry, "Prompt.text=x")
    assert [(one.node_id, one.value) for one in made] == [("2", "x")]


EDITOR = {
    "version": 0.4, "last_node_id": 2, "last_link_id": 1, "groups": [], "config": {}, "extra": {},
    "nodes": [
        {"id": 2, "type": "FakeLoad", "order": 0, "mode": 0, "inputs": [], "properties": {},
         "outputs": [{"name": "model", "type": "FAKE_MODEL", "links": [1]},
                     {"name": "clip", "type": "CLIP", "links": []}],
         "widgets_values": ["tiny.safetensors"]},
        {"id": 4, "type": "FakeLatent", "order": 1, "mode": 0, "title": "Size", "properties": {}, "outputs": [],
         "inputs": [{"name": "model", "type": "FAKE_MODEL", "link": 1}], "widgets_values": [64, 64, "fixed"]},
    ],
    "links": [[1, 2, 0, 4, 0, "FAKE_MODEL"]],
}  # fmt: skip


@pytest.mark.parametrize("named", [False, True])
def test_the_editors_copy_is_changed_too(registry, named):
    """A saved video must open in the editor with the values that ran; both values are 64 here, only one changes."""
    editor = json.loads(json.dumps(EDITOR))
    if named:
        editor["nodes"][1]["widgets_values_named"] = {"width": 64, "seed": 64}
    before = json.dumps(editor)
    workflow = load_workflow(editor, registry)
    assert workflow.prompt["4"]["inputs"] == {"model": ["2", 0], "width": 64, "seed": 64}
    apply_settings(workflow, registry, ["Size.seed=7"])
    saved = workflow.extra_pnginfo["workflow"]
    assert saved["nodes"][1]["widgets_values"] == [64, 7, "fixed"]
    assert load_workflow(saved, registry).prompt == workflow.prompt
    assert json.dumps(editor) == before  # the caller's object is left alone
