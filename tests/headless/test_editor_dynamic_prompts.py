"""Random choices and comments in prompts, made only when asked."""

from __future__ import annotations

import copy
import random

from sora_dit.headless.editor import resolve_dynamic_prompts, resolve_dynamic_text, to_api

TEXT = {"text": ["STRING", {"dynamicPrompts": True}], "file": ["STRING", {}]}
INFO = {"Text": {"input": {"required": TEXT}, "output": []}}


def always(value: float) -> random.Random:
    rng = random.Random()
    rng.random = lambda: value
    return rng


def test_choices_comments_and_escapes():
    first, last = always(0.0), always(0.999)
    text = "{a|b|{c|d} e} sky // the end\nand /* not\nthis */\\{kept\\|as is\\}"
    assert resolve_dynamic_text(text, first) == "a sky \nand {kept|as is}"
    assert resolve_dynamic_text(text, last) == "d e sky \nand {kept|as is}"
    assert resolve_dynamic_text("{a\\|b|c\\}}", first) == "a|b"
    assert resolve_dynamic_text("{a\\|b|c\\}}", last) == "c}"
    assert resolve_dynamic_text("open {a|b", last) == "open b"
    assert resolve_dynamic_text("{|x} {one} }", first) == " one }"
    assert resolve_dynamic_text("", first) == ""


def test_every_option_comes_up():
    assert {resolve_dynamic_text("{x|y|z}", random.Random(seed)) for seed in range(40)} == {"x", "y", "z"}


def test_only_when_asked_and_only_where_declared():
    workflow = {"nodes": [{"id": 1, "type": "Text", "widgets_values": ["{a|b}", "{a|b}.txt"]}], "links": []}
    prompt = to_api(workflow, INFO)
    assert prompt["1"]["inputs"] == {"text": "{a|b}", "file": "{a|b}.txt"}
    before = copy.deepcopy(prompt)
    resolved = resolve_dynamic_prompts(prompt, INFO, always(0.999))
    assert resolved["1"]["inputs"] == {"text": "b", "file": "{a|b}.txt"}
    assert prompt == before, "the prompt was changed in place"
    assert resolve_dynamic_prompts(prompt, INFO, random.Random(3)) == resolve_dynamic_prompts(
        prompt, INFO, random.Random(3)
    )
    assert resolve_dynamic_prompts({"1": {"class_type": "Other", "inputs": {"text": "{a|b}"}}}, INFO, always(0.0)) == {
        "1": {"class_type": "Other", "inputs": {"text": "{a|b}"}}
    }
