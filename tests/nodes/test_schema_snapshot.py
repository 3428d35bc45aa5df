"""Saved workflows must load for ever: no change of a schema may break one that exists.

Additions are allowed and recorded with

    SORA_DIT_UPDATE=1 pytest tests/nodes/test_schema_snapshot.py

which refuses to record a change that breaks saved workflows; a change that is meant to (before anyone has the node)
is recorded with SORA_DIT_UPDATE=break.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
from sora_dit.headless.object_info import object_info
from sora_dit.headless.session import Session, use
from sora_dit.nodes import node_classes

HERE = Path(__file__).parent
SNAPSHOT = HERE / "schema_snapshot.json"

_spec = importlib.util.spec_from_file_location("sora_dit_schema_changes", HERE / "schema_changes.py")
schema_changes = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = schema_changes  # dataclasses look their module up
_spec.loader.exec_module(schema_changes)


@pytest.fixture(scope="module")
def now(tmp_path_factory) -> dict:
    """The schemas of today, without the lists of files that happen to be on this machine."""
    bare, full = tmp_path_factory.mktemp("bare"), tmp_path_factory.mktemp("full")
    for suffix in ("safetensors", "mp4", "png", "wav"):
        (full / f"probe.{suffix}").touch()
    (full / "probe").mkdir()
    (full / "probe" / "probe.png").touch()
    (full / "loras").mkdir()
    (full / "loras" / "probe.safetensors").touch()
    seen = []
    for folder in (bare, full):
        with use(Session(output_dir=folder, input_dir=folder, models_dirs=[folder])):
            seen.append(json.loads(json.dumps(object_info(node_classes()))))
    return schema_changes.picture_of(*seen)


def recorded() -> dict:
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_no_saved_workflow_breaks(now):
    old = recorded() if SNAPSHOT.exists() else {}
    found = schema_changes.changes(old, now)
    breaking = [str(one) for one in found if one.breaks]
    wish = os.environ.get("SORA_DIT_UPDATE")
    if wish == "break" or (wish and not breaking):
        SNAPSHOT.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    assert not breaking, "saved workflows would break:\n" + "\n".join(breaking)


def test_additions_are_recorded(now):
    new = [str(one) for one in schema_changes.changes(recorded(), now)]
    command = "SORA_DIT_UPDATE=1 pytest tests/nodes/test_schema_snapshot.py"
    assert not new, f"this is allowed and must be recorded ({command}):\n" + "\n".join(new)


# --- The rule itself --------------------------------------------------------------------------------------------


def edited(change) -> list:
    """What is said when `change` is done to a copy of the snapshot."""
    old = recorded()
    new = copy.deepcopy(old)
    change(new)
    return schema_changes.changes(old, new)


def input_of(nodes: dict, node: str, name: str) -> dict:
    return next(one for one in nodes[node]["inputs"] if one["name"] == name)


OPTIONAL = {"name": "extra", "type": "FLOAT", "optional": True, "default": 0.0}


def rename_node(nodes):
    nodes["SoraDiTSample"] = nodes.pop("SoraDiTDenoise")


def swap_inputs(nodes):
    inputs = nodes["SoraDiTDenoise"]["inputs"]
    inputs[3], inputs[4] = inputs[4], inputs[3]


def swap_outputs(nodes):
    nodes["SoraDiTLoadModel"]["outputs"].reverse()


def drop_choice(nodes):
    input_of(nodes, "SoraDiTDenoise", "sampler")["options"].remove("unipc")


BREAKING = {
    "name it by its id": rename_node,
    "values by position": swap_inputs,
    "the number and the type": swap_outputs,
    "lost the choices ['unipc']": drop_choice,
    "'fit' is gone": lambda nodes: nodes["SoraDiTEncode"]["inputs"].pop(),
    "is required": lambda nodes: nodes["SoraDiTEncode"]["inputs"].append(OPTIONAL | {"optional": False}),
    "upload button": lambda nodes: nodes["SoraDiTLoadVideo"]["inputs"].append(OPTIONAL),
    "saved links and values": lambda nodes: input_of(nodes, "SoraDiTDenoise", "cfg").update(type="STRING"),
    "was a value and is not": lambda nodes: input_of(nodes, "SoraDiTDenoise", "cfg").update(forceInput=True),
    "Add it at the end": lambda nodes: nodes["SoraDiTLoadModel"]["inputs"].insert(4, OPTIONAL),
    "the max of 'steps'": lambda nodes: input_of(nodes, "SoraDiTTimestepConditioning", "steps").update(max=100),
    "another result": lambda nodes: input_of(nodes, "SoraDiTLoadModel", "vae").update(default="other"),
    "control after generate": lambda nodes: input_of(nodes, "SoraDiTDenoise", "seed").pop("control_after_generate"),
    "rounded to others": lambda nodes: input_of(nodes, "SoraDiTDenoise", "cfg").update(round=1.0),
    "whether it is an output node": lambda nodes: nodes["SoraDiTSaveVideo"].update(output_node=False),
}


@pytest.mark.parametrize("why", BREAKING)
def test_what_breaks_saved_workflows_is_refused_with_the_reason(why):
    found = edited(BREAKING[why])
    assert any(one.breaks and why in str(one) for one in found), [str(one) for one in found]


HARMLESS = {
    "a new node": lambda nodes: nodes.update(SoraDiTNew={"inputs": [], "outputs": [], "output_node": False}),
    "a new optional input 'extra'": lambda nodes: nodes["SoraDiTDenoise"]["inputs"].append(OPTIONAL),
    "new outputs at the end": lambda nodes: nodes["SoraDiTDenoise"]["outputs"].append("IMAGE"),
    "the new choices ['dpm3']": lambda nodes: input_of(nodes, "SoraDiTDenoise", "sampler")["options"].append("dpm3"),
    "the max of 'steps'": lambda nodes: input_of(nodes, "SoraDiTTimestepConditioning", "steps").update(max=5000),
    "the default of 'steps'": lambda nodes: input_of(nodes, "SoraDiTTimestepConditioning", "steps").update(default=20),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_only_added_is_allowed(what):
    found = edited(HARMLESS[what])
    assert [one.breaks for one in found] == [False] and what in str(found[0])
