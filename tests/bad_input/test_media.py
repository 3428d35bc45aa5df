"""Videos that are read: missing, damaged, of another kind, of odd sizes, too short, too long."""

from __future__ import annotations

import os
import random
import wave

import pytest
import torch
from PIL import Image
from sora_dit.dit_core.media import read_video, write_video

CHANGE = {
    "1": {"class_type": "SoraDiTLoadModel", "_meta": {"title": "Load model"},
          "inputs": {"model": "tiny.safetensors", "device": "auto", "dtype": "auto"}},
    "2": {"class_type": "SoraDiTLoadVideo", "_meta": {"title": "Load video"},
          "inputs": {"video": "clip.mp4", "start_frame": 0, "max_frames": 0, "every_nth": 1, "force_fps": 0.0}},
    "3": {"class_type": "SoraDiTEncode", "_meta": {"title": "Encode"},
          "inputs": {"vae": ["1", 2], "images": ["2", 0], "fit": "error"}},
    "4": {"class_type": "SoraDiTDecode", "_meta": {"title": "Decode"},
          "inputs": {"vae": ["1", 2], "latent": ["3", 0], "chunk_frames": 0}},
    "5": {"class_type": "SoraDiTAssembleVideo", "_meta": {"title": "Assemble"},
          "inputs": {"images": ["4", 0], "fps": ["2", 2], "audio": ["2", 1]}},
    "6": {"class_type": "SoraDiTSaveVideo", "_meta": {"title": "Save"},
          "inputs": {"video": ["5", 0], "filename_prefix": "again", "container": "mp4", "codec": "auto",
                     "quality": "high"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder of films, good and bad."""
    folder = tmp_path_factory.mktemp("films")
    torch.manual_seed(0)
    for name, size in {"clip.mp4": (5, 32, 32), "six.mp4": (6, 32, 32), "one.mp4": (1, 32, 32), "odd.webp": (5, 33, 35),
                       "dot.gif": (1, 1, 1), "long.mp4": (21, 32, 32), "many.gif": (5, 16, 16)}.items():  # fmt: skip
        write_video(folder / name, torch.rand(*size, 3), 8)
    for name, content in {"empty.mp4": b"", "text.mp4": b"not a film at all " * 40, "noise.mp4": bytes(range(256)) * 9,
                          "header.gif": b"GIF89a\x10"}.items():  # fmt: skip
        (folder / name).write_bytes(content)
    for name, kept in (("clip.mp4", 0.6), ("many.gif", 0.5), ("odd.webp", 0.5)):
        data = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(data[: int(len(data) * kept)])
    data, dice = bytearray((folder / "long.mp4").read_bytes()), random.Random(4)
    data[len(data) // 2 : len(data) // 2 + 3000] = dice.randbytes(3000)
    (folder / "scratched.mp4").write_bytes(data)
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    (folder / "sound.mp4").write_bytes((folder / "sound.wav").read_bytes())
    Image.new("RGB", (16, 16)).save(folder / "picture.png")
    (folder / "picture.mp4").write_bytes((folder / "picture.png").read_bytes())
    (folder / "folder.mp4").mkdir()
    os.symlink("gone.mp4", folder / "dangling.mp4")
    return folder


NOT_A_FILM = "cannot be read as a video: it is damaged, or not a video file."
FILES = [
    # the file that is chosen, exit code, words
    ("clip.mp4", 0, []),
    ("", 2, ["Load video (node 2), video: No file is chosen"]),
    ("gone.mp4", 2, ['video: There is no file "gone.mp4" in the input folder']),
    ("clp.mp4", 2, ['There is no file "clp.mp4" in the input folder', 'Did you mean "clip.mp4"?']),
    ("clip.mp4 [output]", 2, ['There is no file "clip.mp4" in the output folder out, which does not exist.']),
    ("../flow.json", 2, ['"../flow.json" leads out of the input folder']),
    ("/no/such/film.mp4", 2, ['There is no file "/no/such/film.mp4".']),
    ("folder.mp4", 2, ['There is no file "folder.mp4"']),
    ("dangling.mp4", 2, ['There is no file "dangling.mp4"']),
    ("x" * 400 + ".mp4", 2, ['There is no file "xxxx', '..." (404 letters) in the input folder']),
    ("empty.mp4", 1, ["Load video (node 2)", "empty.mp4 is empty (0 bytes); expected a video file."]),
    ("text.mp4", 1, ["Load video (node 2)", "text.mp4", NOT_A_FILM]),
    ("noise.mp4", 1, ["noise.mp4", NOT_A_FILM]),
    ("cut_clip.mp4", 1, ["cut_clip.mp4", NOT_A_FILM]),
    ("cut_many.gif", 1, ["cut_many.gif", NOT_A_FILM]),
    ("cut_odd.webp", 1, ["cut_odd.webp", "cannot be read as a video"]),
    ("header.gif", 1, ["header.gif", NOT_A_FILM]),
    ("scratched.mp4", 0, ["note: Load video (node 2): The file", "frames"]),
    ("sound.wav", 1, ["sound.wav has sound but no picture; expected a video file."]),
    ("sound.mp4", 1, ["sound.mp4 has sound but no picture; expected a video file."]),
    ("picture.png", 1, ["picture.png is a picture (png), not a video; expected a video file."]),
    ("picture.mp4", 1, ["picture.mp4 is a picture (png), not a video"]),
    ("one.mp4", 0, []),
    ("six.mp4", 1, ["Encode (node 3): frames is 6", "5 and 9"]),
    ("odd.webp", 1, ["Encode (node 3): width is 35 pixels", "32 and 40", "height is 33 pixels"]),
    ("dot.gif", 1, ["Encode (node 3): width is 1 pixel,", "height is 1 pixel,"]),
]


@pytest.mark.parametrize(("name", "code", "words"), FILES, ids=[f"{name:.30}" for name, *_ in FILES])
def test_file(desk, films, name, code, words):
    desk.write("flow.json", CHANGE)
    fit = ["--set", "Encode.fit=trim"] if name == "scratched.mp4" else []
    arguments = ["--input", films, "--set", f"Load video.video={name}", *fit]
    desk.does("run", "flow.json", *arguments, code=code, words=words)


PARTS = [
    # the settings of Load video (a clip of 5 frames, 8 a second), exit code, words
    (["start_frame=5"], 1, ["Load video (node 2)", "5 frames; the first frame wanted is 5", "a first frame below 5"]),
    (["start_frame=99"], 1, ["has 5 frames; the first frame wanted is 99", "a first frame below 5"]),
    (["start_frame=1", "force_fps=1"], 1, ["has 1 frame; the first frame wanted is 1", "a first frame below 1"]),
    (["start_frame=-1"], 2, ["Load video (node 2), start_frame: got -1; expected 0 to 1000000."]),
    (["max_frames=-1"], 2, ["max_frames: got -1; expected 0 to 100000."]),
    (["max_frames=3"], 1, ["Encode (node 3): frames is 3", "1 and 5"]),
    (["every_nth=0"], 2, ["every_nth: got 0; expected 1 to 100."]),
    (["every_nth=50"], 0, []),
    (["force_fps=-1"], 2, ["force_fps: got -1; expected 0 (as the file has it), or 0.01 to 1000 frames per second."]),
    (["force_fps=0.0001"], 2, ["force_fps: got 0.0001; expected 0 (as the file has it), or 0.01 to 1000"]),
    (["force_fps=nan"], 2, ["force_fps: got nan; expected a finite number."]),
    (["force_fps=1000", "max_frames=9"], 0, []),
]


@pytest.mark.parametrize(("settings", "code", "words"), PARTS, ids=[" ".join(row[0]) for row in PARTS])
def test_part(desk, films, settings, code, words):
    desk.write("flow.json", CHANGE)
    arguments = [part for one in settings for part in ("--set", f"Load video.{one}")]
    desk.does("run", "flow.json", "--input", films, *arguments, code=code, words=words)


def test_no_input_folder(desk):
    desk.write("flow.json", CHANGE)
    words = ['There is no file "clip.mp4" in the input folder nowhere, which does not exist.']
    desk.does("run", "flow.json", "--input", "nowhere", code=2, words=words)


def test_more_frames_than_memory(desk, films, monkeypatch):
    """Without the sentence the system would end the program without a word."""
    monkeypatch.setattr("sora_dit.dit_core.media.read.machine_memory", lambda: 200_000)
    desk.write("flow.json", CHANGE)
    words = ["Load video (node 2)", "long.mp4 is too long to be read at once", "its first 14 frames of 32 x 32"]
    desk.does("run", "flow.json", "--input", films, "--set", "Load video.video=long.mp4", code=1, words=words)


ODD = [
    # a clip of no size that a codec likes, the kind of file, the size that is saved, words
    ("odd.webp", "mp4", (34, 36), ["note: Save (node 6): The size 35x33 is odd", "repeated to 36x34"]),
    ("odd.webp", "webm", (34, 36), ["The size 35x33 is odd"]),
    ("odd.webp", "gif", (33, 35), []),
    ("dot.gif", "mp4", (2, 2), ["The size 1x1 is odd", "one flat colour"]),
    ("dot.gif", "webm", (2, 2), ["The size 1x1 is odd"]),
    ("dot.gif", "webp", (1, 1), []),
    ("one.mp4", "mp4", (32, 32), []),
    ("one.mp4", "gif", (32, 32), []),
]


@pytest.mark.parametrize(("name", "container", "size", "words"), ODD, ids=[f"{row[0]} {row[1]}" for row in ODD])
def test_odd_size(desk, films, name, container, size, words):
    graph = {node_id: node for node_id, node in CHANGE.items() if node_id in "256"}
    desk.write("flow.json", graph | {"5": {**CHANGE["5"], "inputs": {"images": ["2", 0], "fps": ["2", 2]}}})
    settings = ["--set", f"Load video.video={name}", "--set", f"Save.container={container}"]
    outcome = desk.does("run", "flow.json", "--input", films, *settings, code=0, words=words)
    assert tuple(read_video(outcome.saved[0]).frames.shape[1:3]) == size
