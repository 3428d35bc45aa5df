"""Command lines, workflow files that are no workflows, and conversions."""

from __future__ import annotations

import json

import pytest

USAGE = [
    # what is typed, exit code, words of the message
    ("", 2, ["the following arguments are required: COMMAND"]),
    ("rum flow.json", 2, ["invalid choice: 'rum'", "run"]),
    ("run", 2, ["the following arguments are required: FILE"]),
    ("run flow.json more.json", 2, ["unrecognized arguments: more.json"]),
    ("run flow.json --sett Size.width=64", 2, ["unrecognized arguments: --sett"]),
    ("run flow.json --set", 2, ["argument --set: expected one argument"]),
    ("run flow.json --seed 1e3", 2, ["--seed", "got '1e3'", "expected a whole number"]),
    ("run flow.json --seed -1", 2, ["Denoise (node 6), seed: got -1; expected 0 to 18446744073709551615."]),
    ("run flow.json --device gpu", 2, ["device is 'gpu'", "auto, cpu, cuda, cuda:1 or mps"]),
    ("run flow.json --device cuda:x", 2, ["device is 'cuda:x'", "cuda:1"]),
    ("run flow.json --device cuda:4096", 1, ["Load model (node 1): The device is 'cuda:4096'"]),
    ("run flow.json --dtype fp8", 2, ["dtype is 'fp8'", "auto, float32, bfloat16, float16"]),
    ("run flow.json --models nowhere", 2, ["The models folder nowhere does not exist."]),
    ("run flow.json --models flow.json", 2, ["The models folder flow.json is a file; expected a folder."]),
    ("nodes SoraDiTDenoize", 2, ["no node 'SoraDiTDenoize'", "Did you mean 'SoraDiTDenoise'?"]),
    ("run nowhere.json", 2, ["nowhere.json does not exist; expected a workflow file (.json)."]),
    ("run flwo.json", 2, ["flwo.json does not exist", "Did you mean flow.json?"]),
    ("check models", 2, ["models is a folder; expected a workflow file (.json)."]),
    ("convert nowhere.json", 2, ["nowhere.json does not exist"]),
    ("convert flow.json -o no/such/folder.json", 2, ["no/such/folder.json cannot be written: the folder does not"]),
    ("convert flow.json -o models", 2, ["models cannot be written: it is a folder"]),
    ("convert flow.json --object-info nowhere.json", 2, ["nowhere.json does not exist", "/object_info"]),
    ("convert flow.json --object-info flow.json", 2, ["flow.json is not ComfyUI's /object_info"]),
]


@pytest.mark.parametrize(("typed", "code", "words"), USAGE, ids=[typed or "nothing" for typed, *_ in USAGE])
def test_usage(desk, typed, code, words):
    desk.does(*typed.split(), code=code, words=words)


def text_of(graph):
    return json.dumps(graph, ensure_ascii=False)


FILES = [
    # what it is, content or a function of the good workflow's text, exit code, words
    ("empty", "", 2, ["flow.json is empty; expected a workflow in JSON."]),
    ("white space", " \n\t", 2, ["flow.json is empty"]),
    ("prose", "a red balloon over the sea", 2, ["flow.json is not valid JSON", "line 1, column 1"]),
    ("a web page", "<!DOCTYPE html><html></html>", 2, ["flow.json is not valid JSON"]),
    ("Python", lambda good: good.replace('"', "'"), 2, ["not valid JSON", "double quotes", "line 1, column 2"]),
    ("cut short", lambda good: good[:400], 2, ["flow.json is not valid JSON", "line 1"]),
    ("a comma too many", '{"1": {"class_type": "A",}}', 2, ["flow.json is not valid JSON", "line 1, column 2"]),
    ("two workflows", lambda good: good + good, 2, ["flow.json is not valid JSON: Extra data"]),
    ("a list", "[1, 2]", 2, ["flow.json holds a list; expected a workflow: an object of nodes."]),
    ("a number", "17", 2, ["flow.json holds 17; expected a workflow"]),
    ("null", "null", 2, ["flow.json holds null; expected a workflow"]),
    ("no nodes", "{}", 2, ["flow.json holds no nodes."]),
    ("other JSON", '{"name": "x", "scripts": {"1": 2}}', 2, ["flow.json is JSON but no workflow", "class_type"]),
    ("a picture", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", 2, ["flow.json is not a text file", "a workflow in JSON"]),
    ("a film", b"\x00\x00\x00\x20ftypisom" + bytes(40), 2, ["flow.json is not a text file", "a workflow in JSON"]),
    ("an archive", b"PK\x03\x04" + bytes(40), 2, ["flow.json is not a text file (it holds zero bytes)"]),
    ("Latin-1", lambda good: good.replace("balloon", "été").encode("latin-1"), 2, ["not a text file", "not UTF-8"]),
    ("UTF-16 as PowerShell writes it", lambda good: good.encode("utf-16"), 0, []),
    ("UTF-8 with a mark", lambda good: good.encode("utf-8-sig"), 0, []),
    ("a number of 5000 digits", f'{{"1": {{"class_type": "A", "inputs": {{"a": {"9" * 5000}}}}}}}', 2, ["of digits"]),
    ("nested without end", '{"1": ' * 100_000, 2, ["flow.json is nested too deeply to be a workflow."]),
    ("the body of a request", lambda good: f'{{"prompt": {good}, "client_id": "x"}}', 0, []),
]


@pytest.mark.parametrize(("content", "code", "words"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_workflow_file(desk, content, code, words):
    good = (desk.folder / "flow.json").read_text(encoding="utf-8")
    desk.write("flow.json", content(good) if callable(content) else content)
    desk.does("run", "flow.json", code=code, words=words)
    if code == 2:
        desk.does("convert", "flow.json", code=2)


def with_node(kind, **fields):
    """A change of the editor's file: fields of the node of this type; `...` removes one."""

    def change(graph):
        node = next(one for one in graph["nodes"] if one["type"] == kind)
        for name, value in fields.items():
            if value is ...:
                del node[name]
            else:
                node[name] = value

    return change


def with_top(**fields):
    """A change of the editor's file as a whole."""
    return lambda graph: graph.update(fields)


def with_link(index, place, value):
    """A change of one number of a link."""

    def change(graph):
        graph["links"][index][place] = value

    return change


EDITOR = [
    # what was done to the file that the editor saved, exit code of run, words, exit code of convert
    ("nothing", with_top(), 0, [], 0),
    ("nodes is a number", with_top(nodes=5), 2, ["flow.json cannot be converted", "'nodes' of the workflow"], 2),
    ("nodes is null", with_top(nodes=None), 2, ["flow.json cannot be converted", "not nothing"], 2),
    ("a node is a number", lambda graph: graph["nodes"].append(5), 2, ["Node number", "must be an object"], 2),
    ("no nodes", with_top(nodes=[], links=[]), 2, ["The workflow has no output node"], 0),
    ("two nodes of one id", lambda graph: graph["nodes"].append(graph["nodes"][1]), 2, ["same id"], 2),
    ("all links lost", with_top(links=[]), 2, ["cannot be converted", "refers to the link", "not in the file"], 2),
    ("a link from nowhere", with_link(0, 1, 77), 2, ["linked to the node with id 77, which is not in the file"], 2),
    ("a link from no output", with_link(0, 2, 9), 2, ["is linked to output 9 of Load model (node", "0 (model)"], 0),
    ("a link from output 999...", with_link(0, 2, "9" * 5000), 2, ["A link of the workflow has the wrong shape"], 2),
    ("a link from output 0x", with_link(0, 2, 10**400), 2, ["A link of the workflow has the wrong shape"], 2),
    ("a link of the wrong type", with_link(0, 2, 2), 2, ["is linked to output 2 (vae) of Load model", "CLIP"], 0),
    ("a foreign node", with_node("SoraDiTDenoise", type="KSampler"), 2, ["no node type 'KSampler' here"], 0),
    ("a node of another pack", with_node("SoraDiTDenoise", type="Zzz", properties={"cnr_id": "zzz"}), 2,
     ["no node type 'Zzz' here", "node pack 'zzz', which does not run headless"], 0),
    ("a word for a number", with_node("SoraDiTEmptyLatent", widgets_values=[32, "tall", 5, 1]), 2,
     ["height: got 'tall'; expected a whole number."], 0),
    ("values are a text", with_node("SoraDiTEmptyLatent", widgets_values="32"), 2, ["'widgets_values' of the node"], 2),
    ("values are lost", with_node("SoraDiTSaveVideo", widgets_values=[]), 0, ["has no saved value for"], 0),
    ("the model is muted", with_node("SoraDiTLoadModel", mode=2), 2, ["clip: is missing", "model: is missing"], 0),
    ("the output is muted", with_node("SoraDiTSaveVideo", mode=2), 2, ["The workflow has no output node"], 0),
    ("the output is muted, 2.0", with_node("SoraDiTSaveVideo", mode=2.0), 2, ["The workflow has no output node"], 0),
    ("the output is bypassed, 4.0", with_node("SoraDiTSaveVideo", mode=4.0), 2, ["has no output node"], 0),
    ("a mode that is a text", with_node("SoraDiTSaveVideo", mode="2"), 2, ["'mode' of the node", "not '2'"], 2),
    ("a mode that is null", with_node("SoraDiTSaveVideo", mode=None), 0, [], 0),
    ("no file is chosen", with_node("SoraDiTLoadModel", widgets_values=[None, "auto", "auto"]), 2,
     ["Load model (node 2), model: got nothing (null); expected "], 0),
    ("a lost subgraph", with_node("SoraDiTDenoise", type="0a0a0a0a-1111-2222-3333-444444444444"), 2,
     ["instance of the subgraph", "definition is not in the file"], 2),
    ("an old group node", with_node("SoraDiTDenoise", type="workflow>Mine"), 2, ["group node of the old kind"], 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code", "words", "convert"), [row[1:] for row in EDITOR], ids=[r[0] for r in EDITOR]
)
def test_editor_file(desk, editor_graph, change, code, words, convert):
    graph = json.loads(json.dumps(editor_graph))
    change(graph)
    desk.write("flow.json", graph)
    desk.does("run", "flow.json", code=code, words=words, lines=6)
    desk.does("convert", "flow.json", code=convert)
