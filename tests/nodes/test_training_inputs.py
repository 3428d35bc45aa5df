"""Inputs of the training nodes: what is told before anything starts, and choices that are those of the trainer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from sora_dit.dit_core.diffusion import OBJECTIVES
from sora_dit.dit_core.training.lora import LoraTraining
from sora_dit.dit_core.training.optim import OPTIMISERS, SCHEDULES
from sora_dit.dit_core.training.transformer import TransformerTraining
from sora_dit.nodes import _training


def test_numbers_are_checked_before_anything_starts(station):
    check = station["TrainModel"].validate_inputs
    assert check(run="a", sample_prompts="a\nb") is True
    assert "sample_prompts has 5 lines" in check(run="a", sample_prompts="\n".join("abcde"))
    assert "run: " in check(run="a/b") and "run: " in check(run="")
    assert "248 and 256" in station["NewModel"].validate_inputs(width=250, heads=4)
    assert station["NewModel"].validate_inputs(width=256, heads=4) is True
    assert station["NewModel"].validate_inputs(width=8190, heads=128).endswith("The nearest widths for 128 heads are "
                                                                               "7936 and 8192.")  # fmt: skip
    assert station["NewModel"].validate_inputs(width=8191, heads=3).endswith("The nearest width is 8190.")
    for width, heads in ((24, 16), (50, 2), (25, 1), (24, 5)):
        said = station["NewModel"].validate_inputs(width=width, heads=heads)
        if said is True:
            assert width % (2 * heads) == 0 and width >= 6 * heads
            continue
        nearest = [int(one) for one in said.split(" are ")[1].rstrip(".").split(" and ")]
        assert all(station["NewModel"].validate_inputs(width=one, heads=heads) is True for one in nearest), said


@pytest.mark.parametrize(
    "numbers, said",
    [
        ({"heads": 0}, "heads: got 0; expected 1 to 128."),
        ({"heads": -1}, "heads: got -1; expected 1 to 128."),
        ({"width": 0}, "width: got 0; expected 24 to 8192."),
        ({"width": 10**400}, "width: got 100000000000... (401 digits); expected 24 to 8192."),
        ({"width": 10**400, "heads": 10**9}, "expected 24 to 8192.\nheads: got 1000000000; expected 1 to 128."),
    ],
)
def test_widths_and_heads_that_no_model_can_have(station, numbers, said):
    assert station["NewModel"].validate_inputs(**({"width": 256, "heads": 4} | numbers)).endswith(said)


def model_types() -> dict[str, str]:
    """What ComfyUI calls our objectives, read without ComfyUI."""
    source = Path(_training.__file__).with_name("in_comfyui").joinpath("model.py").read_text(encoding="utf-8")
    (found,) = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MODEL_TYPES"
    ]
    return ast.literal_eval(found)


def test_what_can_be_chosen_is_what_there_is(station):
    """The schemas are made without torch, so they cannot ask the tables."""

    def choices(node, name):
        kind, options = station[node].INPUT_TYPES()["required"][name]
        return options.get("options", kind)

    assert choices("TrainModel", "optimiser") == list(OPTIMISERS) == list(_training.RATES)
    assert choices("NewModel", "objective") == list(OBJECTIVES) == list(model_types())
    assert choices("TrainingOptions", "schedule") == list(SCHEDULES)
    kept = f"0 takes {TransformerTraining.ema:g} for a model and {LoraTraining.ema:g} for a LoRA"
    assert kept in next(one.tooltip for one in station["TrainingOptions"].GET_SCHEMA().inputs if one.id == "ema")
