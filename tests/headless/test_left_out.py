"""Muted and bypassed nodes of an editor's file: what is wrong because of them names them."""

import pytest
from sora_dit.headless.graph import plan
from sora_dit.headless.problems import WorkflowError, errors
from sora_dit.headless.settings import apply_settings
from sora_dit.headless.workflow import load_workflow

MUTED, BYPASSED = 2, 4
GROUP = "aaaaaaaa-0000-4000-8000-000000000001"


def node(node_id, kind, values, inputs, links, **fields):
    slots = [{"name": name, "type": kind_, "link": link} for name, kind_, link in inputs]
    outputs = [{"name": "out", "type": kind_, "links": [link]} for kind_, link in links]
    return {"id": node_id, "type": kind, "mode": 0, "order": node_id, "inputs": slots, "outputs": outputs,
            "widgets_values": values, **fields}  # fmt: skip


def file(**modes):
    """Load (1) -> Size (2) -> Denoise (3) -> Show (4); `n2=MUTED` mutes node 2."""
    nodes = [
        node(1, "FakeLoad", ["tiny.safetensors"], [], [("FAKE_MODEL", 1)]),
        node(2, "FakeLatent", [64, 0, "fixed"], [("model", "FAKE_MODEL", 1)], [("LATENT", 2)], title="Size"),
        node(3, "FakeSteps", [4, 0.0], [("latent", "LATENT", 2)], [("LATENT", 3)]),
        node(4, "FakeShow", [], [("value", "*", 3)], [], title="Show it"),
    ]
    links = [[1, 1, 0, 2, 0, "FAKE_MODEL"], [2, 2, 0, 3, 0, "LATENT"], [3, 3, 0, 4, 0, "LATENT"]]
    return {"version": 0.4, "links": links, "nodes": [{**one, "mode": modes.get(f"n{one['id']}", 0)} for one in nodes]}


@pytest.fixture
def wrong(registry):
    def found(editor):
        workflow = load_workflow(editor, registry)
        checked = plan(workflow.prompt, registry, workflow.packs, workflow.left_out)
        return [str(one) for one in errors(checked.problems)]

    return found


LATENT = "Denoise (node 3), latent: is missing; expected a link from an output of type LATENT."
NO_OUTPUT = "The workflow has no output node that is run, so there is nothing to make: Show it (node 4) is"
CASES = [
    ({"n2": MUTED}, f"{LATENT} Its source Size (node 2) is muted."),
    ({"n2": BYPASSED}, f"{LATENT} Its source Size (node 2) is bypassed."),
    ({"n2": MUTED, "n3": BYPASSED}, "Show it (node 4), value: is missing; expected any value. Its source Size (node 2) "
     "is muted."),
    ({"n4": MUTED}, f"{NO_OUTPUT} muted."),
    ({"n4": BYPASSED}, f"{NO_OUTPUT} bypassed."),
]  # fmt: skip


@pytest.mark.parametrize(("modes", "sentence"), CASES, ids=[str(modes) for modes, _ in CASES])
def test_the_node_that_is_not_run_is_named(wrong, modes, sentence):
    assert wrong(file()) == []
    assert wrong(file(**modes)) == [sentence]


def test_a_muted_subgraph_is_named(wrong):
    editor = file()
    editor["nodes"][1] = node(2, GROUP, [], [("model", "FAKE_MODEL", 1)], [("LATENT", 2)], mode=MUTED)
    border = {"id": GROUP, "name": "Sizes", "nodes": [], "links": [], "inputs": [{"name": "model", "type": "*"}],
              "outputs": [{"name": "out", "type": "LATENT"}]}  # fmt: skip
    editor["definitions"] = {"subgraphs": [border]}
    assert wrong(editor) == [f"{LATENT} Its source Sizes (node 2) is muted."]


@pytest.mark.parametrize("called", ["Size", "2", "2:7"])
def test_set_says_that_a_node_is_not_run(registry, called):
    with pytest.raises(WorkflowError) as caught:
        apply_settings(load_workflow(file(n2=BYPASSED), registry), registry, f"{called}.width=32")
    sentence = "Size (node 2) is bypassed, so it is not run and nothing of it can be set."
    assert str(caught.value) == f"--set '{called}.width=32': {sentence}"
