"""Random words and comments in the prompts of an editor file: resolved before a run, as the editor does it."""

import json

import pytest
from sora_dit.headless import run_workflow
from sora_dit.headless.comfy_api import io
from sora_dit.headless.execute import Runner
from sora_dit.headless.problems import UsageError, WorkflowError
from sora_dit.headless.registry import Registry
from sora_dit.headless.run import open_job, run_job
from sora_dit.headless.session import Session

TEXT = "a {red|blue|green|{dark|light} grey} balloon // with luck"
COLOURS = {"red", "blue", "green", "dark grey", "light grey"}


@pytest.fixture
def registry(fakes):
    words = fakes.make(
        "FakeWords",
        [io.String.Input("text", multiline=True, dynamic_prompts=True), io.String.Input("file", default="{x|y}")],
        [io.String.Output()],
        lambda cls, text, file: (f"{text}|{file}",),
    )
    return Registry.of([*fakes.NODES, words])


def editor(text=TEXT, **fields):
    return {
        "version": 0.4,
        "nodes": [
            {"id": 1, "type": "FakeWords", "title": "Prompt", "widgets_values": [text, "{x|y}"], **fields},
            {"id": 2, "type": "FakeShow", "inputs": [{"name": "value", "type": "*", "link": 1}]},
            {"id": 3, "type": "FakeLatent", "widgets_values": [64, 1, "fixed"]},
        ],
        "links": [[1, 1, 0, 2, 0, "STRING"]],
    }


def opened(registry, source, settings=(), seed=None):
    job = open_job(source, Session(), settings, seed, registry)
    return job, job.workflow.prompt["1"]["inputs"]["text"]


def test_words_are_chosen_and_the_workflow_keeps_the_braces(registry):
    source = editor()
    before = json.dumps(source)
    found = set()
    for seed in range(40):
        job, text = opened(registry, source, seed=seed)
        assert text == opened(registry, source, seed=seed)[1]
        assert job.session.prompt["1"]["inputs"] == {"text": text, "file": "{x|y}"}
        assert job.session.extra_pnginfo["workflow"]["nodes"][0]["widgets_values"] == [TEXT, "{x|y}"]
        found.add(text)
    assert found == {f"a {colour} balloon " for colour in COLOURS}
    assert {opened(registry, source)[1] for _ in range(200)} == found  # without a seed: by chance
    assert json.dumps(source) == before


def test_the_words_are_said_once(registry, tmp_path):
    result = run_workflow(editor(), registry=registry, output=tmp_path / "out", seed=3)
    text = result.prompt["1"]["inputs"]["text"]
    assert [str(one) for one in result.notes] == [f"Prompt (node 1), text: the words chosen by chance give '{text}'."]
    assert result.ui["2"]["text"] == [f"{text}|{{x|y}}"]
    job, _ = opened(registry, editor("a red balloon // no choice"))
    result = run_job(job, Runner(keep=False))
    assert result.notes == [] and result.prompt["1"]["inputs"]["text"] == "a red balloon "


@pytest.mark.parametrize("words", ["{night|day}", "sea // night", "http://a.b", "{" * 3000])
def test_a_setting_is_taken_as_it_is(registry, words):
    """The editor would make something else of it when it queues the copy, which therefore is left out."""
    job, text = opened(registry, editor(), [f"Prompt.text={words}"], seed=3)
    assert text == words == job.session.manifest["set"]["1.text"] and job.chosen == []
    assert job.session.extra_pnginfo == {} and "cannot be written" in job.workflow.notes[-1]


def test_a_plain_setting_stays_in_the_copy(registry):
    job, text = opened(registry, editor(), ["Prompt.text=plain"])
    assert text == "plain" and job.session.extra_pnginfo["workflow"]["nodes"][0]["widgets_values"][0] == "plain"


def test_the_api_format_is_left_as_it_is(registry):
    prompt = {
        "1": {"class_type": "FakeWords", "inputs": {"text": TEXT, "file": "f"}},
        "2": {"class_type": "FakeShow", "inputs": {"value": ["1", 0]}},
    }
    body = {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": editor()}}}
    for source in (prompt, body):
        job, text = opened(registry, source)
        assert text == TEXT and job.chosen == []


def test_a_request_with_braces_that_the_editor_would_resolve(registry):
    """The prompt runs with its braces; opened in the editor and queued, the copy would give something else."""
    prompt = {
        "1": {"class_type": "FakeWords", "inputs": {"text": "old", "file": "{x|y}"}},
        "2": {"class_type": "FakeShow", "inputs": {"value": ["1", 0]}},
    }
    body = {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": editor()}}}
    job, _ = opened(registry, body, ["1.text=new"])
    assert job.session.extra_pnginfo["workflow"]["nodes"][0]["widgets_values"][0] == "new"
    job, _ = opened(registry, body, ["1.text={a|b}"])
    assert job.session.extra_pnginfo == {} and "cannot be written" in job.workflow.notes[0]


def test_braces_without_end(registry):
    with pytest.raises(WorkflowError) as caught:
        opened(registry, editor("{" * 3000))
    assert str(caught.value) == "Prompt (node 1), text: the braces are nested too deeply to be meant."


@pytest.mark.parametrize("folder", ["models", "output", "input"])
def test_a_folder_without_a_name(registry, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"^{folder}: got an empty text; expected a folder.$"):
        run_workflow(editor(), registry=registry, **{folder: ""})
