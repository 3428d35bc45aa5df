"""Values: what is set on the command line, what stands in the file, and prompts."""

from __future__ import annotations

import pytest

NAN, INFINITE = float("nan"), float("inf")

SETTINGS = [
    # after --set, exit code, words
    ("Size.width=0", 2, ["Size (node 4): width is 0 pixels", "multiple of 8", "8 and 16"]),
    ("Size.width=1", 2, ["width is 1 pixel,", "8 and 16"]),
    ("Size.height=7", 2, ["height is 7 pixels", "multiple of 8", "8 and 16"]),
    ("Size.width=100", 2, ["width is 100 pixels", "96 and 104"]),
    ("Size.width=127", 2, ["width is 127 pixels", "120 and 128"]),
    ("Size.width=-64", 2, ["width is -64 pixels", "8 and 16"]),
    ("Size.width=100000", 2, ["width is 100000 pixels; the largest is 4096."]),
    (f"Size.width={10**40}", 2, ["width is 100000000000... (41 digits) pixels; the largest is 4096."]),
    ("Size.width=wide", 2, ["'Size.width=wide'", "got 'wide'; expected a whole number."]),
    ("Size.width=", 2, ["got an empty text; expected a whole number."]),
    ("Size.width=32.5", 2, ["got '32.5'; expected a whole number."]),
    ("Size.width=NaN", 2, ["got 'NaN'; expected a whole number."]),
    ("Size.width=true", 2, ["got 'true'; expected a whole number."]),
    ("Size.frames=0", 2, ["frames is 0", "one more than a multiple of 4 (1, 5, 9, 13, ...)", "1 and 5"]),
    ("Size.frames=1", 0, []),
    ("Size.frames=2", 2, ["frames is 2", "1 and 5"]),
    ("Size.frames=16", 2, ["frames is 16", "13 and 17"]),
    ("Size.frames=40001", 2, ["frames is 40001; the most is 4001."]),
    ("Size.batch_size=0", 2, ["Size (node 4): batch_size is 0; expected 1 to 64."]),
    ("Size.batch_size=65", 2, ["batch_size is 65; expected 1 to 64."]),
    ("Size.batch_size=2", 0, []),
    ("Assemble video.fps=0", 2, ["Assemble video (node 8), fps: got 0; expected 0.01 to 1000."]),
    ("Assemble video.fps=-8", 2, ["fps: got -8; expected 0.01 to 1000."]),
    ("Assemble video.fps=NaN", 2, ["fps: got nan; expected a finite number."]),
    ("Assemble video.fps=8,5", 2, ["got '8,5'; expected a number."]),
    ("Assemble video.fps=0.01", 0, []),
    ("Assemble video.fps=1000", 0, []),
    ("Timesteps.steps=0", 2, ["Timesteps (node 5), steps: got 0; expected 1 to 1000."]),
    ("Timesteps.steps=1", 0, []),
    ("Timesteps.steps=1001", 2, ["steps: got 1001; expected 1 to 1000."]),
    ("Timesteps.shift=-1", 2, ["Timesteps (node 5), shift: got -1; expected 0 to 100."]),
    ("Timesteps.denoise=0", 2, ["denoise: got 0; expected 0.01 to 1."]),
    ("Timesteps.denoise=inf", 2, ["denoise: got inf; expected a finite number."]),
    ("Timesteps.schedule=karras", 1, ["Timesteps (node 5): The schedule 'karras'", "auto, uniform, cosine, beta"]),
    ("Denoise.cfg=NaN", 2, ["Denoise (node 6), cfg: got nan; expected a finite number."]),
    ("Denoise.cfg=-1", 2, ["cfg: got -1; expected 0 to 30."]),
    ("Denoise.cfg=30", 0, []),
    ("Denoise.seed=-1", 2, ["seed: got -1; expected 0 to 18446744073709551615."]),
    ("Denoise.seed=18446744073709551615", 0, []),
    ("Denoise.seed=18446744073709551616", 2, ["seed: got 18446744073709551616; expected 0 to"]),
    ("Decode.chunk_frames=-4", 2, ["Decode (node 7), chunk_frames: got -4; expected 0 to 4096."]),
    ("Save video.container=avi", 2, ["Save video (node 9), container: got 'avi'; expected one of mp4, mov, webm"]),
    ("Save video.codec=vp9", 2, ["Save video (node 9), codec: MP4 cannot hold VP9", "h264, hevc, av1"]),
    ("Save video.codec=divx", 2, ["codec: The codec is 'divx'; expected auto or one of h264"]),
    ("Save video.quality=ultra", 2, ["quality: got 'ultra'; expected one of: low, medium, high, best."]),
    ("Load model.device=tpu", 2, ["Load model (node 1), device: got 'tpu'; expected one of: auto, cpu, cuda, mps."]),
    ("Load model.dtype=fp8", 2, ["Load model (node 1), dtype: got 'fp8'; expected one of: auto, float32"]),
    # settings that name nothing
    ("Promt.text=x", 2, ["there is no node 'Promt'", "Prompt (2)", "Did you mean 'Prompt'?"]),
    ("Prompt.txt=x", 2, ["Prompt (node 2) has no input 'txt'", "Did you mean 'text'?"]),
    ("99.text=x", 2, ["there is no node '99'", "Size (4)"]),
    ("SoraDiTTextEncode.text=x", 2, ["2 nodes are called 'SoraDiTTextEncode': use an id, 2 or 3."]),
    ("Prompt.clip=x", 2, ["clip of Prompt (node 2) is a link of type CLIP, which cannot be given as a value."]),
    ("Prompt.text", 2, ['expected NODE.INPUT=VALUE, such as "Prompt.text=a red balloon".']),
    ("Prompt=x", 2, ["expected NODE.INPUT=VALUE with a dot"]),
    ("=x", 2, ["expected NODE.INPUT=VALUE"]),
    ("", 2, ["--set an empty text: expected NODE.INPUT=VALUE"]),
    ("prompt.TEXT=the sea", 0, []),
]


@pytest.mark.parametrize(("setting", "code", "words"), SETTINGS, ids=[setting or "nothing" for setting, *_ in SETTINGS])
def test_setting(desk, setting, code, words):
    desk.does("run", "flow.json", "--set", setting, code=code, words=words)


def test_all_wrong_settings_are_told_at_once(desk):
    settings = ["--set", "Promt.text=x", "--set", "Size.widht=8", "--set", "Size.width=wide"]
    desk.does("run", "flow.json", *settings, code=2, words=("'Promt'", "'widht'", "'wide'"), lines=3)


def test_more_than_the_memory_is_refused_before_the_weights_load(desk):
    settings = ["Size.width=4096", "Size.height=4096", "Size.frames=4001", "Size.batch_size=64"]
    words = ("Size (node 4): 64 clips of 4001 frames of 4096 x 4096 pixels take 51552 GB", "this machine has")
    desk.does("run", "flow.json", *(part for one in settings for part in ("--set", one)), code=2, words=words)


IN_THE_FILE = [
    # place, value, exit code, words
    ("4.inputs.width", NAN, 2, ["Size (node 4), width: got nan; expected a whole number."]),
    ("4.inputs.width", INFINITE, 2, ["Size (node 4), width: got inf; expected a whole number."]),
    ("4.inputs.width", True, 2, ["width: got true; a whole number is expected, 1 is used."]),
    ("4.inputs.width", None, 2, ["width: got nothing (null); expected a whole number."]),
    ("4.inputs.width", "", 2, ["width: got an empty text; expected a whole number."]),
    ("4.inputs.width", "32px", 2, ["width: got '32px'; expected a whole number."]),
    ("4.inputs.width", {"px": 32}, 2, ["width: got {'px': 32}; expected a whole number."]),
    ("4.inputs.width", [32], 2, ["width: got [32]; expected a value or a link"]),
    ("4.inputs.width", 10**400, 2, ["width is 100000000000... (401 digits) pixels; the largest is 4096."]),
    ("4.inputs.width", "32", 0, []),
    ("4.inputs.width", 32.9, 0, ["width: got 32.9; a whole number is expected, 32 is used."]),
    ("8.inputs.fps", NAN, 2, ["Assemble video (node 8), fps: got nan; expected a finite number."]),
    ("8.inputs.fps", 10**400, 2, ["Assemble video (node 8), fps: got 1000", "expected a number."]),
    ("8.inputs.fps", False, 2, ["fps: got false; expected 0.01 to 1000."]),
    ("2.inputs.text", None, 2, ["Prompt (node 2), text: got nothing (null); expected a text."]),
    ("2.inputs.text", ["a", "b"], 2, ["Prompt (node 2), text: got ['a', 'b']; expected a value or a link"]),
    ("2.inputs.text", {"a": 1}, 0, ["""text: got {'a': 1}; a text is expected, '{'a': 1}' is used."""]),
    ("2.inputs.text", 5, 0, []),
    ("9.inputs.container", None, 2, ["Save video (node 9), container: got nothing (null); expected one of: mp4, mov"]),
    ("9.inputs.container", {"a": 1}, 2, ["Save video (node 9), container: got {'a': 1}; expected one of: mp4, mov"]),
    ("9.inputs.container", {"__value__": ["mp4"]}, 2, ["container: got ['mp4']; expected one of: mp4, mov"]),
    ("9.inputs.codec", None, 2, ["Save video (node 9), codec: got nothing (null); expected one of: auto, h264"]),
    ("9.inputs.codec", {"__value__": ["h264"]}, 2, ["codec: got ['h264']; expected one of: auto, h264"]),
    ("1.inputs.model", None, 2, ["Load model (node 1), model: got nothing (null); expected "]),
    ("1.inputs.model", 5, 2, ["Load model (node 1), model: got 5; expected "]),
    ("1.inputs.model", True, 2, ["Load model (node 1), model: got true; expected "]),
    ("1.inputs.vae", {}, 2, ["Load model (node 1), vae: got {}; expected "]),
    ("1.inputs.text_encoder", {"__value__": ["a"]}, 2, ["Load model (node 1), text_encoder: got ['a']; expected "]),
    ("1.inputs.vae", None, 0, []),
]


@pytest.mark.parametrize(
    ("place", "value", "code", "words"), IN_THE_FILE, ids=[f"{p} {v!r:.20}" for p, v, *_ in IN_THE_FILE]
)
def test_value_in_the_file(desk, changed_graph, place, value, code, words):
    desk.write("flow.json", changed_graph({place: value}))
    desk.does("run", "flow.json", code=code, words=words)


TOO_LONG = "note: Prompt (node 2): The prompt is longer than the 63 bytes"
PROMPTS = [
    # what it is, the prompt, words
    ("empty", "", []),
    ("10,000 letters", "a calm sea " * 909 + "a", [TOO_LONG]),
    ("a million letters", "a" * 1_000_000, [TOO_LONG]),
    ("emoji", "🎈 over the 🌊", []),
    ("emoji that are cut in two", "🎈" * 40, [TOO_LONG]),
    ("another alphabet", "夕日の海に浮かぶ赤い気球", []),
    ("half an emoji", "a \ud83c balloon", []),
    ("a zero byte", "a\0balloon", []),
    ("line breaks only", "\n\r\n\t", []),
    ("letters of no width", "\u200b\u202e\ufeff", []),
    ("control tokens", "</s><pad><extra_id_0>", []),
    ("braces that never close", "{red|blue", []),
    ("weights of other models", "a (red:1.4) balloon", ["note: Prompt (node 2): This model reads (red:1.4) letter by"]),
    ("a time of day", "clouds (over the sea) at 10:30", []),
    ("format marks", "%s %d {0} {} ${HOME} `id`", []),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "words"), [row[1:] for row in PROMPTS], ids=[row[0] for row in PROMPTS])
def test_prompt(desk, changed_graph, prompt, words):
    desk.write("flow.json", changed_graph({"2.inputs.text": prompt}))
    outcome = desk.does("run", "flow.json", code=0, words=words)
    assert outcome.err.count("note: Prompt") == len(words)
    desk.does("run", "flow.json", "--set", f"Negative prompt.text={prompt}", code=0)


def test_quiet_still_tells_what_was_done_otherwise(desk, changed_graph):
    desk.write("flow.json", changed_graph({"2.inputs.text": "a (red:1.4) balloon"}))
    words = ["note: Prompt (node 2): This model reads (red:1.4)"]
    outcome = desk.does("run", "flow.json", "--quiet", code=0, words=words)
    assert len(outcome.err.splitlines()) == 1
