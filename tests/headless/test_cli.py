"""The command line: exit codes, what goes where, and Ctrl-C."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from flows import EDITOR, GOOD
from sora_dit.dit_core.errors import Cancelled
from sora_dit.headless import cli, run_workflow
from sora_dit.headless.problems import UsageError, WorkflowError
from sora_dit.headless.run_errors import RunError

HERE = Path(__file__).parent


def test_run_saves_and_says_where(main, flow, tmp_path):
    code, out, err = main("run", flow(), "--output", "out", "--set", "Prompt.text=a balloon")
    assert code == 0
    assert out.splitlines() == ["Show: a balloon", f"saved {Path('out/clip.txt')}"]
    assert (tmp_path / "out/clip.txt").read_text() == "a balloon"
    assert "[1/3] Prompt" in err and "done in" in err


def test_quiet_and_json(main, flow):
    code, out, err = main("run", flow(), "--quiet", "--json", "--seed", 1)
    assert code == 2 and json.loads(out)["problems"][0]["text"].startswith("--seed")  # there is none here
    code, out, err = main("run", flow(), "--quiet", "--json", "--output", "o")
    result = json.loads(out)
    assert code == 0 and err == ""
    assert result["status"] == "done" and result["outputs"] == [str(Path("o/clip.txt"))]
    assert result["ui"]["3"]["text"] == ["hello"] and set(result["seconds"]) == {"1", "2", "3"}
    assert result["manifest"]["nodes"]["1"]["class_type"] == "FakeText"


def test_invalid_workflow_is_2_and_lists_everything(main, flow, tmp_path):
    graph = {
        "4": {"class_type": "FakeSteps", "inputs": {"steps": 0, "delay": "x"}},
        "5": {"class_type": "FakeShow", "inputs": {"value": ["4", 0]}},
    }
    code, out, err = main("run", flow(graph), "--output", "out")
    assert code == 2 and out == ""
    assert err.splitlines() == [
        "error: Denoise (node 4), latent: is missing; expected a link from an output of type LATENT.",
        "error: Denoise (node 4), steps: got 0; expected 1 to 1000.",
        "error: Denoise (node 4), delay: got 'x'; expected a number.",
    ]
    assert not (tmp_path / "out").exists()
    code, out, _ = main("run", flow(graph), "--json")
    assert code == 2 and len(json.loads(out)["problems"]) == 3


def test_failing_node_is_1_and_leaves_no_empty_folder(main, flow, tmp_path):
    graph = {
        "1": {"class_type": "FakeFail", "inputs": {"kind": "other"}},
        "2": {"class_type": "FakeSave", "inputs": {"value": ["1", 0], "prefix": "x"}},
    }
    code, out, err = main("run", flow(graph), "--output", "new/folder")
    assert code == 1 and out == ""
    assert err.splitlines()[-1] == (
        "error: Breaks (node 1): it failed with KeyError: 'lost'. Run again with --verbose to see where."
    )
    assert not (tmp_path / "new").exists()
    code, _, err = main("run", flow(graph), "--verbose")
    assert code == 1 and "Traceback" in err and "KeyError: 'lost'" in err
    code, out, _ = main("run", flow(graph), "--json", "--quiet")
    assert code == 1 and json.loads(out)["status"] == "failed"


HALF = {
    **GOOD,
    "4": {"class_type": "FakeFail", "inputs": {"kind": "ours"}},
    "5": {"class_type": "FakeShow", "inputs": {"value": ["4", 0]}},
}


def test_what_was_saved_before_a_failure_is_named(main, flow, registry, tmp_path):
    code, out, err = main("run", flow(HALF), "--output", "o")
    assert code == 1 and out == f"saved {Path('o/clip.txt')}\n" and "error: Breaks (node 4)" in err
    code, out, _ = main("run", flow(HALF), "--output", "o", "--json", "--quiet")
    assert code == 1 and json.loads(out)["outputs"] == [str(Path("o/clip.txt"))]
    with pytest.raises(RunError) as caught:
        run_workflow(HALF, output=tmp_path / "p", registry=registry)
    assert caught.value.saved == [tmp_path / "p/clip.txt"]


NOTHING_LEFT = "stopped; nothing unfinished was left behind."


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (KeyboardInterrupt, NOTHING_LEFT),
        (Cancelled, NOTHING_LEFT),
        (Cancelled("Stopped at step 7."), "Stopped at step 7."),
    ],
)
def test_what_was_saved_before_a_stop_is_named(main, flow, monkeypatch, stop, said):
    from sora_dit.headless import execute

    gather = execute._Run._gather

    def stopped(self, node):
        if node.class_type == "FakeFail":
            raise stop
        return gather(self, node)

    monkeypatch.setattr(execute._Run, "_gather", stopped)
    code, out, err = main("run", flow(HALF), "--output", "o")
    assert code == 130 and out == f"saved {Path('o/clip.txt')}\n"
    assert err.splitlines()[-1] == said


USAGE = [
    ([], "the following arguments are required: COMMAND"),
    (["fly"], "invalid choice: 'fly'"),
    (["run"], "the following arguments are required: FILE"),
    (["run", "x.json", "--sett", "a=b"], "unrecognized arguments: --sett"),
    (["check", "x.json", "--outp", "a"], "unrecognized arguments: --outp"),
    (["nodes", "--verb"], "unrecognized arguments: --verb"),
    (["convert", "x.json", "--object", "a"], "unrecognized arguments: --object"),
    (["curves", "x", "--sampl", "a"], "unrecognized arguments: --sampl"),
    (["run", "nowhere.json"], "error: nowhere.json does not exist; expected a workflow file (.json)."),
    (["run", "."], "error: . is a folder; expected a workflow file (.json)."),
    (["run", "flow.json", "--seed", "x"], "argument --seed: got 'x'; expected a whole number"),
    (["run", "flow.json", "--models", "nowhere"], "error: The models folder nowhere does not exist."),
    (["run", "flow.json", "--output", "file"], "error: The output folder file is a file; expected a folder."),
    (["check", "flow.json", "--output", "file"], "error: The output folder file is a file; expected a folder."),
    (["run", "flow.json", "--output", "file/sub"], "error: The output folder"),
    (["run", "flow.json", "--device", "gpu"], "The device is 'gpu'; expected auto, cpu, cuda, cuda:1 or mps."),
    (["run", "flow.json", "--dtype", "fp8"], "The dtype is 'fp8'; expected one of: auto, float32, bfloat16, float16."),
    (["run", "flow.json", "--set", "x"], "expected NODE.INPUT=VALUE"),
    (["check", "flow.json", "--set", "Promt.text=x"], "Did you mean 'Prompt'?"),
    (["check", "empty.json"], "error: empty.json is empty; expected a workflow in JSON."),
    (["convert", "empty.json"], "error: empty.json is empty; expected a workflow in JSON."),
    (["convert", "list.json"], "error: list.json holds no object; expected a workflow as the editor saves it."),
    (["convert", "other.json"], "error: other.json is JSON but no workflow; expected what the editor saves."),
    (
        ["convert", "flow.json", "--object-info", "list.json"],
        "list.json holds no object; expected ComfyUI's /object_info.",
    ),
    (["convert", "flow.json", "-o", "no/such/out.json"], "cannot be written: the folder does not exist."),
    (["nodes", "FakeIntt"], "error: There is no node 'FakeIntt'. Did you mean 'FakeInt'?"),
]


@pytest.mark.parametrize(("arguments", "text"), USAGE, ids=[" ".join(one) or "nothing" for one, _ in USAGE])
def test_bad_usage_is_2(main, flow, tmp_path, arguments, text):
    flow()
    for name, content in (("file", "x"), ("empty.json", ""), ("list.json", "[1]"), ("other.json", '{"a": 1}')):
        (tmp_path / name).write_text(content)
    before = sorted(tmp_path.iterdir())
    code, out, err = main(*arguments)
    assert code == 2 and text in err and out == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs folder permissions that hold")
def test_unwritable_output_folder(main, flow, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    code, _, err = main("run", flow(), "--output", "locked")
    assert code == 2 and "The output folder 'locked' cannot be written to: permission is denied." in err


def test_check(main, flow):
    assert main("check", flow())[:2] == (0, "ok: 3 nodes to run, 2 outputs\n")
    code, out, _ = main("check", flow(), "--json")
    assert code == 0 and json.loads(out) == {"status": "ok", "problems": []}
    graph = {**GOOD, "9": {"class_type": "FakeInt", "inputs": {"value": -1}}}
    code, out, err = main("check", flow(graph))
    assert code == 0 and err.startswith("warning: FakeInt (node 9), value: got -1; expected 0 to 100.")


def test_nodes(main):
    code, out, _ = main("nodes")
    assert code == 0 and "FakeLatent" in out and "Empty Latent" in out
    code, out, _ = main("nodes", "--json")
    assert json.loads(out)["FakeAdd"]["input_order"]["required"] == ["a", "b"]
    code, out, _ = main("nodes", "empty latent")
    assert code == 0 and "width: INT (16 to 512)" in out and "-> latent: LATENT" in out


def test_version(main):
    code, out, _ = main("--version")
    assert code == 0 and out.startswith("sora-dit 0.")


def test_editor_files_run_and_convert(main, flow, tmp_path):
    path = flow(EDITOR)
    code, out, _ = main("run", path, "--set", "Prompt.text=bye")
    assert (code, out) == (0, "Show: bye\n")
    code, out, _ = main("convert", path)
    assert code == 0
    assert json.loads(out)["2"] == {"class_type": "FakeShow", "inputs": {"value": ["1", 0]}, "_meta": {"title": "Show"}}
    code, out, _ = main("convert", path, "-o", tmp_path / "api.json")
    assert (code, out) == (0, "") and json.loads((tmp_path / "api.json").read_text())["1"]["inputs"] == {
        "text": "hello"
    }
    assert main("run", tmp_path / "api.json")[:2] == (0, "Show: hello\n")
    code, _, err = main("convert", tmp_path / "api.json")
    assert code == 0 and "is in API format already" in err


def test_convert_with_the_object_info_of_another_machine(main, flow, tmp_path):
    editor = json.loads(json.dumps(EDITOR).replace("FakeText", "ForeignText"))
    info = {"ForeignText": {"input": {"required": {"words": ["STRING", {}]}}, "input_order": {"required": ["words"]},
                            "output": ["STRING"], "output_name": ["STRING"], "name": "ForeignText", "display_name": "F",
                            "output_is_list": [False], "output_node": False, "description": ""}}  # fmt: skip
    (tmp_path / "info.json").write_text(json.dumps(info))
    code, out, err = main("convert", flow(editor), "--object-info", tmp_path / "info.json")
    assert code == 0 and json.loads(out)["1"]["inputs"] == {"words": "hello"}
    assert "FakeShow" in err  # which is not in that object_info


def test_a_broken_editor_file_is_a_sentence(main, flow):
    code, _, err = main("run", flow({"nodes": 5, "links": []}))
    assert code == 2 and err.startswith("error: ") and "Traceback" not in err


def test_a_request_body_is_converted_as_it_runs(main, flow):
    for graph in (GOOD, EDITOR):
        path = flow({"prompt": graph, "client_id": "x"})
        assert main("check", path)[0] == 0
        code, out, _ = main("convert", path)
        assert code == 0 and json.loads(out)["1"]["inputs"] == {"text": "hello"}


REFUSED = [
    ("check", "nofile.json"),
    ("convert", "nofile.json"),
    ("convert", "flow.json", "--object-info", "nofile.json"),
    ("convert", "flow.json", "-o", "no/such/out.json"),
    ("nodes", "zzz"),
    ("curves", "nowhere"),
    ("run", "flow.json", "--models", ""),
]


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_a_refusal_as_json_has_one_shape(main, flow, arguments):
    flow()
    code, out, err = main(*arguments)
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    code, out, err = main(*arguments, "--json")
    result = json.loads(out)
    assert (code, result["status"]) == (2, "invalid") and "error" not in err
    assert lines == [f"error: {one['text']}" for one in result["problems"]]


EMPTY = [
    ("run FILE --models ~", "--models"), ("run FILE --models . --models ~", "--models"),
    ("run FILE --output ~", "--output"), ("check FILE --output ~", "--output"),
    ("check FILE --input ~", "--input"), ("check ~", "FILE"),
    ("convert FILE -o ~", "--output"), ("convert FILE --object-info ~", "--object-info"), ("nodes ~", "NODE"),
    ("curves ~", "FOLDER"), ("curves . -o ~", "--output"), ("curves . --samples ~", "--samples"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "name"), EMPTY, ids=[typed for typed, _ in EMPTY])
def test_an_empty_name_is_refused(main, flow, tmp_path, typed, name):
    arguments = [{"FILE": flow(), "~": ""}.get(one, one) for one in typed.split()]
    code, out, err = main(*arguments)
    assert (code, out, err) == (2, "", f"error: {name} is an empty text; expected a name.\n")
    assert [one.name for one in tmp_path.iterdir()] == ["flow.json"]


def test_the_home_folder_is_found_where_the_shell_leaves_it(main, flow, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "home/models").mkdir(parents=True)
    path = flow()
    assert main("run", path, "--output=~/o", "--models", "~/models", "--quiet")[0] == 0
    assert (tmp_path / "home/o/clip.txt").exists() and not (tmp_path / "~").exists()
    assert main("convert", path, "-o", "~/api.json")[0] == 0 and (tmp_path / "home/api.json").exists()


def test_a_node_may_be_called_by_the_name_before_the_pack(main, fakes, monkeypatch):
    monkeypatch.setattr(fakes, "NODES", [*fakes.NODES, fakes.make("FarAway", [], [], None, "Stirring (The Pack)")])
    from sora_dit import nodes

    monkeypatch.setattr(nodes, "node_classes", lambda: fakes.NODES)
    assert "Stirring (The Pack) (FarAway)" in main("nodes", "stirring")[1]
    assert main("nodes", "stirrin")[2] == "error: There is no node 'stirrin'. Did you mean 'FarAway'?\n"


def with_text(text):
    """GOOD with another prompt."""
    return {**GOOD, "1": {**GOOD["1"], "inputs": {"text": text}}}


@pytest.mark.parametrize("name", ["api.json", "n" * 250 + ".json", "🎈" * 60 + ".json"], ids=["short", "long", "wide"])
@pytest.mark.parametrize("text", ["a \ud83c b", "🎈 é"], ids=["half an emoji", "an emoji"])
def test_convert_writes_any_text_under_any_name(main, flow, tmp_path, name, text):
    path = flow(with_text(text))
    assert main("convert", path, "-o", name)[:2] == (0, "")
    assert json.loads((tmp_path / name).read_text(encoding="utf-8"))["1"]["inputs"]["text"] == text
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["flow.json", name])
    assert json.loads(main("convert", path)[1])["1"]["inputs"]["text"] == text


@pytest.mark.parametrize(
    ("name", "words"),
    [("a\0b.json", "'a b.json' is no file name; expected a file to write."),
     ("n" * 256, "… cannot be written: the name is too long."), ("\ud83c.json", "is no file name")],
    ids=["zero byte", "too long", "half an emoji"],
)  # fmt: skip
def test_convert_under_no_name(main, flow, tmp_path, name, words):
    code, out, err = main("convert", flow(), "-o", name)
    assert (code, out) == (2, "") and words in err
    assert [one.name for one in tmp_path.iterdir()] == ["flow.json"]


@pytest.mark.skipif(os.name == "nt", reason="needs a pipe with a name")
def test_convert_writes_into_a_pipe_and_leaves_it_there(main, flow, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main("convert", flow(), "-o", "pipe")[0] == 0
        assert json.loads(os.read(reader, 10_000)) == GOOD and (tmp_path / "pipe").is_fifo()
    finally:
        os.close(reader)


def test_convert_to_an_output_that_has_no_letters_for_it(flow, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert cli.main(["convert", flow(with_text("🎈 é"))]) == 0
    assert json.loads(raw.getvalue())["1"]["inputs"]["text"] == "🎈 é"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_convert_refuses_what_json_cannot_hold(main, flow, tmp_path, number):
    editor = json.loads(json.dumps(EDITOR))
    editor["nodes"][0]["widgets_values"] = [number]
    api = with_text({"deep": [number]})
    for graph, got in ((editor, number), (api, {"deep": [number]})):
        for more in ([], ["-o", "out.json"]):
            code, out, err = main("convert", flow(graph), *more)
            assert (code, out) == (2, "") and f"error: Prompt (node 1), text: got {got}; expected what JSON can" in err
    code, out, err = main("convert", flow({**GOOD, "1": {**GOOD["1"], "extra": number}}))
    assert (code, out) == (2, "") and "flow.json holds a number that is not finite" in err
    assert [one.name for one in tmp_path.iterdir()] == ["flow.json"]


def test_two_nodes_with_one_id_are_refused(main, flow):
    twice = json.dumps(GOOD)[:-1] + ', "3": {"class_type": "FakeShow", "inputs": {"value": ["1", 0]}}}'
    assert len(json.loads(twice)) == len(GOOD)  # the first one is lost without a word
    for text in (twice, f'{{"prompt": {twice}}}'):
        for command in ("run", "check", "convert"):
            code, out, err = main(command, flow(text))
            assert (code, out) == (2, "") and "holds more than one node with the id '3'; expected each id once." in err
    inside = json.dumps(GOOD).replace('"text": "hello"', '"text": "bye", "text": "hello"')
    assert main("check", flow(inside))[0] == 0  # as every reader of JSON takes it
    editor = json.dumps(EDITOR)[:-1] + ', "version": 0.4}'
    assert main("check", flow(editor))[0] == 0


def test_python_runs_the_package(flow):
    command = [sys.executable, "-m", "sora_dit.headless", "convert", flow()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and json.loads(done.stdout) == GOOD, done.stderr


# --- from Python ---


def test_run_workflow(registry, tmp_path):
    result = run_workflow(GOOD, set={"Prompt.text": "hi"}, output=tmp_path / "out", registry=registry)
    assert result.outputs == [tmp_path / "out/clip.txt"] and result.outputs[0].read_text() == "hi"
    assert result.ui["3"]["text"] == ["hi"] and result.cached == [] and set(result.seconds) == {"1", "2", "3"}
    assert result.manifest["set"] == {"1.text": "hi"}
    assert result.prompt["1"]["inputs"]["text"] == "hi" and GOOD["1"]["inputs"]["text"] == "hello"


def test_run_workflow_with_a_runner_reuses_results(registry, fakes, tmp_path):
    from sora_dit.headless import Runner

    runner = Runner()
    first = run_workflow(GOOD, output=tmp_path, registry=registry, runner=runner)
    fakes.CALLS.clear()
    second = run_workflow(GOOD, output=tmp_path, registry=registry, runner=runner)
    assert fakes.CALLS == [] and set(second.cached) == {"2", "3"} and second.outputs == first.outputs


def test_a_file_that_was_deleted_is_saved_again(registry, fakes, tmp_path):
    from sora_dit.headless import Runner

    runner = Runner()
    first = run_workflow(GOOD, output=tmp_path, registry=registry, runner=runner)
    first.outputs[0].unlink()
    fakes.CALLS.clear()
    second = run_workflow(GOOD, output=tmp_path, registry=registry, runner=runner)
    assert [name for name, _ in fakes.CALLS] == ["FakeSave"] and second.outputs == first.outputs
    assert second.outputs[0].read_text() == "hello" and set(second.cached) == {"1", "3"}


def test_run_workflow_raises(registry, tmp_path):
    with pytest.raises(WorkflowError) as caught:
        run_workflow({"1": {"class_type": "FakeShow", "inputs": {}}}, output=tmp_path, registry=registry)
    assert [one.input for one in caught.value.problems] == ["value"]
    with pytest.raises(UsageError, match="models folder"):
        run_workflow(GOOD, models=tmp_path / "none", registry=registry)
    graph = {
        "1": {"class_type": "FakeFail", "inputs": {"kind": "ours"}},
        "2": {"class_type": "FakeShow", "inputs": {"value": ["1", 0]}},
    }
    with pytest.raises(RunError, match="The latent has 3 channels"):
        run_workflow(graph, output=tmp_path, registry=registry)


NO_ARGUMENTS = [
    (dict(path_or_dict=None), "The workflow holds null; expected a workflow: an object of nodes."),
    (dict(path_or_dict=[]), "The workflow holds a list; expected a workflow: an object of nodes."),
    (dict(set=[5]), "--set 5: expected NODE.INPUT=VALUE, such as \"Prompt.text=a red balloon\"."),
    (dict(set=5), "--set 5: expected NODE.INPUT=VALUE, such as \"Prompt.text=a red balloon\"."),
    (dict(device=5), "The device is '5'; expected auto, cpu, cuda, cuda:1 or mps."),
    (dict(output=None), "output: got nothing (null); expected a folder."),
    (dict(models=[None]), "models: got nothing (null); expected a folder."),
    (dict(models=5), "models: got 5; expected a folder."),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), NO_ARGUMENTS, ids=[str(one) for one, _ in NO_ARGUMENTS])
def test_run_workflow_refuses_in_a_sentence(registry, tmp_path, arguments, sentence):
    with pytest.raises(UsageError) as caught:
        run_workflow(**{"path_or_dict": GOOD, "output": tmp_path, "registry": registry, **arguments})
    assert str(caught.value) == sentence


def test_run_workflow_takes_none_for_what_is_not_chosen(registry, tmp_path):
    result = run_workflow(GOOD, output=tmp_path, registry=registry, device=None, dtype=None, models=None, set=None)
    assert result.manifest["device"] == result.manifest["dtype"] == "auto"
    pairs = run_workflow(GOOD, output=tmp_path, registry=registry, set=[("Prompt.text", "hi"), "2.prefix=x"])
    assert pairs.manifest["set"] == {"1.text": "hi", "2.prefix": "x"}


@pytest.mark.skipif(os.name == "nt", reason="makes a link")
def test_an_output_folder_that_is_a_loose_link(main, flow, tmp_path):
    (tmp_path / "out").symlink_to("gone")
    for output in ("out", "out/deeper"):
        code, _, err = main("run", flow(), "--output", output)
        text = "The output folder out is a link to gone, which does not exist; expected a folder."
        assert (code, err.splitlines()[-1]) == (2, f"error: {text}")
