"""Workflows in API format with a mistake in the graph: node types, titles, inputs, links, circles, missing outputs."""

from __future__ import annotations

import pytest

NAN, INFINITE = float("nan"), float("inf")
ENCODE = {"class_type": "SoraDiTEncode", "_meta": {"title": "Encode"},
          "inputs": {"vae": ["1", 2], "images": ["7", 0], "fit": "error"}}  # fmt: skip
LEFT_OVER = {"class_type": "SoraDiTEmptyLatent", "inputs": {"width": 7}, "_meta": {"title": "Left over"}}

GRAPHS = [
    # what is wrong, the changed places (`...` removes), exit code, words
    ("typo in a type", {"6.class_type": "SoraDiTDenoize"}, 2,
     ["Denoise (node 6)", "no node type 'SoraDiTDenoize'", "Did you mean 'SoraDiTDenoise'?"]),
    ("another program's node", {"6.class_type": "KSampler"}, 2, ["no node type 'KSampler'", "sora-dit nodes"]),
    ("no type", {"6.class_type": ...}, 2, ["Denoise (node 6): class_type is missing; expected the name of a node"]),
    ("type is a number", {"6.class_type": 5}, 2, ["class_type is 5; expected the name of a node type"]),
    ("type is a list", {"6.class_type": ["x"]}, 2, ["class_type is ['x']; expected the name of a node type"]),
    ("type is an object", {"6.class_type": {}}, 2, ["class_type is {}; expected the name of a node type"]),
    ("a node is null", {"6": None}, 2, ["(node 6): got nothing (null); expected an object with class_type."]),
    ("inputs is a list", {"6.inputs": [1]}, 2, ["Denoise (node 6): inputs is [1]; expected an object."]),
    ("inputs are gone", {"6.inputs": ...}, 2, ["Denoise (node 6), sampler: is missing; expected one of: euler, heun"]),
    ("typo in an input", {"4.inputs.width": ..., "4.inputs.widht": 32}, 2,
     ["Size (node 4), width: is missing; expected a whole number.", "The file has 'widht'; did you mean that?"]),
    ("an input too many", {"4.inputs.depth": 3}, 0, ["Size (node 4), depth: the node has no input of this name"]),
    ("a value is missing", {"6.inputs.seed": ...}, 2, ["Denoise (node 6), seed: is missing; expected a whole number."]),
    ("a link is missing", {"6.inputs.latent": ...}, 2,
     ["Denoise (node 6), latent: is missing; expected a link from an output of type LATENT."]),
    ("a link to nowhere", {"6.inputs.latent": ["44", 0]}, 2,
     ["Denoise (node 6), latent: is linked to node 44, which does not exist."]),
    ("a link to no output", {"6.inputs.latent": ["1", 9]}, 2,
     ["Denoise (node 6), latent: is linked to output 9 of Load model (node 1)", "0 (model), 1 (clip), 2 (vae)"]),
    ("output -1", {"6.inputs.latent": ["4", -1]}, 2, ["is linked to output -1 of Size (node 4)", "0 (latent)"]),
    ("output 0.5", {"6.inputs.latent": ["4", 0.5]}, 2, ["is linked to output 0.5 of Size (node 4)"]),
    ("output NaN", {"6.inputs.latent": ["4", NAN]}, 2, ["Denoise (node 6), latent: got ['4', nan]", "a link"]),
    ("output infinity", {"6.inputs.latent": ["4", INFINITE]}, 2, ["latent: got ['4', inf]", "output number"]),
    ("output of 401 digits", {"6.inputs.latent": ["4", 10**400]}, 2, ["is linked to output 1000000", "0 (latent)"]),
    ("output as a text", {"6.inputs.latent": ["4", "0"]}, 2, ["got ['4', '0']", '["node id", output number]']),
    ("node id as a number", {"6.inputs.latent": [4, 0]}, 2, ["got [4, 0]", '["node id", output number]']),
    ("half a link", {"6.inputs.latent": ["4"]}, 2, ["Denoise (node 6), latent: got ['4']"]),
    ("a text for a latent", {"6.inputs.latent": "none"}, 2, ["latent: got 'none'; expected a link", "type LATENT"]),
    ("a model for a latent", {"6.inputs.latent": ["1", 0]}, 2, ["output 0 (model)", "is SORA_DIT; expected LATENT."]),
    ("a model for a width", {"4.inputs.width": ["1", 0]}, 2, ["Size (node 4), width", "expected a whole number."]),
    ("pictures for a video", {"9.inputs.video": ["7", 0]}, 2, ["Save video (node 9), video", "IMAGE; expected VIDEO."]),
    ("a link into no input", {"6.inputs.mask": ["4", 0]}, 2, ["Denoise (node 6), mask", "its inputs are: model"]),
    ("a node feeds itself", {"6.inputs.latent": ["6", 0]}, 2,
     ["the links form a circle: Denoise (node 6) -> Denoise (node 6)"]),
    ("a circle of three", {"6.inputs.latent": ["10", 0], "10": ENCODE}, 2,
     ["Denoise (node 6) -> Decode (node 7) -> Encode (node 10) -> Denoise (node 6)", "without a way back"]),
    ("no output node", {"9": ...}, 2, ["no output node, so there is nothing to make", "such as Save Video"]),
    ("a broken node that nobody needs", {"10": LEFT_OVER}, 0, ["Left over (node 10)", "Not needed by any output"]),
    ("a second output that is broken", {"10": {"class_type": "SoraDiTSaveVideo", "inputs": {}}}, 2,
     ["Save Video (Sora DiT) (node 10), video: is missing", "container: is missing; expected one of: mp4, mov"]),
    ("an unknown choice", {"6.inputs.sampler": "eular"}, 2,
     ["Denoise (node 6), sampler: got 'eular'; expected one of: euler, heun", "Did you mean 'euler'?"]),
    ("a number for a choice", {"6.inputs.sampler": 3}, 2, ["sampler: got 3; expected one of: euler"]),
    ("null for a choice", {"6.inputs.sampler": None}, 2, ["sampler: got nothing (null); expected one of: euler"]),
    ("a title of two lines", {"6._meta.title": "De\nnoise\x1b[1m", "6.inputs.seed": -1}, 2, ["De noise [1m (node 6)"]),
    ("a title without end", {"6._meta.title": "D" * 5000, "6.inputs.seed": -1}, 2, ["D… (node 6), seed: got -1"]),
    ("a type that moves the cursor", {"6.class_type": "\x1b[2J\r\nx"}, 2, ["no node type ' [2J  x' here"]),
    ("a title that is no text", {"6._meta.title": 5, "6.inputs.seed": -1}, 2, ["Denoise (Sora DiT) (node 6), seed"]),
    ("everything at once", {"4.inputs.width": 100, "6.inputs.seed": -1, "8.inputs.fps": "fast"}, 2,
     ["Size (node 4): width is 100", "Denoise (node 6), seed: got -1", "Assemble video (node 8), fps: got 'fast'"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "words"), [row[1:] for row in GRAPHS], ids=[row[0] for row in GRAPHS])
def test_graph(desk, changed_graph, changes, code, words):
    desk.write("flow.json", changed_graph(changes))
    desk.does("run", "flow.json", code=code, words=words, lines=6)


@pytest.mark.parametrize("kind", [["x"], {}, None, 5], ids=repr)
@pytest.mark.parametrize("option", [("--set", "Prompt.text=the sea"), ("--set", "6.cfg=3"), ("--seed", "3")], ids=repr)
def test_a_type_that_is_no_text_beside_a_setting(desk, changed_graph, kind, option):
    desk.write("flow.json", changed_graph({"6.class_type": kind}))
    desk.does("run", "flow.json", *option, code=2, words=(), lines=1)
