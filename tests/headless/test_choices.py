"""A choice or a file that is null, a number or an object is refused before the run, whatever the node checks itself."""

import pytest
from sora_dit.headless.problems import WorkflowError

VIDEO = {"start_frame": 0, "max_frames": 0, "every_nth": 1, "force_fps": 0.0}
PICTURES = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 5}}
CHOICES = [
    # node, the input, its other inputs
    ("LoadImage", "image", {}),
    ("LoadImageMask", "image", {"channel": "red"}),
    ("LoadVideo", "file", {}),
    ("LoadAudio", "audio", {}),
    ("LoadLatent", "latent", {}),
    ("SoraDiTLoadVideo", "video", VIDEO),
    ("SoraDiTLoadLora", "lora", {"model": ["none", 0], "strength": 1.0}),
    ("SaveWEBM", "codec", {"images": ["pictures", 0], "filename_prefix": "a", "fps": 5, "crf": 30}),
]
VALUES = [
    (None, "got nothing (null); "),
    (5, "got 5; "),
    (True, "got true; "),
    ({"a": 1}, "got {'a': 1}; "),
    ({"__value__": ["a"]}, "got ['a']; "),
]


@pytest.mark.parametrize(("node", "name", "others"), CHOICES, ids=[node for node, *_ in CHOICES])
@pytest.mark.parametrize(("value", "words"), VALUES, ids=[repr(value) for value, _ in VALUES])
def test_a_choice_that_is_no_text(core, node, name, others, value, words):
    prompt = {
        "pictures": PICTURES,
        "it": {"class_type": node, "inputs": {**others, name: value}},
        "none": {"class_type": "PrimitiveInt", "inputs": {"value": 1}},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["it", 0]}},
    }
    with pytest.raises(WorkflowError) as caught:
        core.run(prompt)
    told = [str(one) for one in caught.value.problems if one.input == name and one.node_id == "it"]
    assert len(told) == 1 and f"(node it), {name}: {words}" in told[0], str(caught.value)
    assert told[0].split("; ")[1].startswith(("expected ", "there is nothing to choose from")) and core.files() == []


def test_an_optional_choice_may_be_null(fakes):
    from sora_dit.headless.graph import check
    from sora_dit.headless.registry import Registry

    def ours(cls, kind=None):
        return True

    inputs = [fakes.io.Combo.Input("kind", options=["a", "b"], optional=True)]
    node = fakes.make("Optional", inputs, [], None, more={"validate_inputs": ours}, is_output_node=True)
    registry = Registry.of([node])
    assert check({"1": {"class_type": "Optional", "inputs": {"kind": None}}}, registry) == []
    (problem,) = check({"1": {"class_type": "Optional", "inputs": {"kind": 5}}}, registry)
    assert problem.message == "got 5; expected one of: a, b."


def test_a_choice_may_be_a_number_where_the_list_holds_numbers(fakes):
    from sora_dit.headless.graph import check
    from sora_dit.headless.registry import Registry

    inputs = [fakes.io.Combo.Input("size", options=[16, 32])]
    registry = Registry.of([fakes.make("Sizes", inputs, [], None, is_output_node=True)])
    assert check({"1": {"class_type": "Sizes", "inputs": {"size": 16}}}, registry) == []
    assert len(check({"1": {"class_type": "Sizes", "inputs": {"size": 17}}}, registry)) == 1
