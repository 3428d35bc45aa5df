"""Video files: what is saved, where, with which texts in it, and reading it back."""

from __future__ import annotations

import errno
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from sora_dit.dit_core.media import read_metadata, read_video
from sora_dit.nodes import _files, _manifest, host


def clip(frames=9, height=32, width=48):
    x = torch.linspace(0, 1, width).expand(frames, height, width)
    t = torch.linspace(0, 1, frames)[:, None, None].expand_as(x)
    return torch.stack([x, t, 1 - x], -1)


@pytest.fixture
def save(run, session):
    """`save(images, prefix, container=...)`: the path of the file written."""

    def call(images=None, prefix="clip", fps=8.0, audio=None, **how) -> Path:
        video = run("AssembleVideo", images=clip() if images is None else images, fps=fps, audio=audio)[0]
        before = set(session.output_dir.rglob("*")) if session.output_dir.exists() else set()
        run("SaveVideo", video=video, filename_prefix=prefix, **how)
        (made,) = [path for path in set(session.output_dir.rglob("*")) - before if path.is_file()]
        return made

    return call


@pytest.mark.parametrize(
    "container, codec",
    [("mp4", "auto"), ("mov", "auto"), ("webm", "vp9"), ("mkv", "ffv1"), ("gif", "auto"), ("webp", "auto")],
)
def test_a_video_comes_back(save, run, container, codec):
    path = save(container=container, codec=codec)
    images, audio, fps, frames = run("LoadVideo", video=str(path))
    assert path.name == f"clip_00001_.{container}" and audio is None
    assert images.shape == (9, 32, 48, 3) and frames == 9 and fps == pytest.approx(8.0, abs=0.1)
    assert (images - clip()).abs().mean() < (0.1 if container == "gif" else 0.02)


def test_mp4_plays_everywhere(save):
    import av

    with av.open(str(save())) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 8)


def test_sound_is_saved_and_read(save, run):
    wave = torch.sin(torch.arange(9000) / 10).expand(1, 2, -1) * 0.5
    path = save(audio={"waveform": wave, "sample_rate": 8000})
    audio = run("LoadVideo", video=str(path))[1]
    assert audio["waveform"].shape[1] == 2 and audio["waveform"].abs().max() > 0.2
    assert audio["waveform"].shape[2] / audio["sample_rate"] == pytest.approx(9 / 8, abs=0.15)


def test_sound_is_left_out_of_a_gif_with_a_note(save, session):
    save(audio={"waveform": torch.zeros(1, 1, 100), "sample_rate": 8000}, container="gif")
    assert any("sound was left out" in note.text for note in session.notes)


def test_odd_sizes_are_saved_with_a_note(save, session):
    path = save(clip(3, 31, 33))
    assert read_video(path).frames.shape == (3, 32, 34, 3)
    assert any("odd" in note.text for note in session.notes)


def test_names_count_on(save, session):
    assert [save(clip(1)).name for _ in range(2)] == ["clip_00001_.mp4", "clip_00002_.mp4"]
    assert save(clip(1), container="webm").name == "clip_00003_.webm"
    assert save(clip(1), prefix="clip_other").name == "clip_other_00001_.mp4"
    assert save(clip(1)).name == "clip_00004_.mp4"


@pytest.mark.parametrize("container", ["mp4", "gif"])
@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_another_run_takes_meanwhile_is_left_to_it(run, station, session, monkeypatch, container, links):
    from sora_dit.dit_core.checkpoint import atomic

    def unknown(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:  # a file system without hard links
        monkeypatch.setattr(atomic.os, "link", unknown)
    sync = atomic.os.fsync

    def meanwhile(handle):
        for number in (1, 2):
            (session.output_dir / f"clip_0000{number}_.{container}").write_bytes(b"theirs")
        sync(handle)

    monkeypatch.setattr(atomic.os, "fsync", meanwhile)
    video = run("AssembleVideo", images=clip(), fps=8.0)[0]
    shown = station["SaveVideo"].execute(video, "clip", container, "auto", "high").ui
    assert [one["filename"] for one in shown.as_dict()["images"]] == [f"clip_00003_.{container}"]
    theirs = {path.name: path.read_bytes() == b"theirs" for path in session.output_dir.iterdir()}
    assert theirs == {f"clip_0000{number}_.{container}": number < 3 for number in (1, 2, 3)}


def test_folders_and_places_in_names(save, session):
    path = save(clip(1), prefix="sky/%width%x%height%")
    assert path.relative_to(session.output_dir).as_posix() == "sky/48x32_00001_.mp4"


@pytest.mark.parametrize(
    "prefix, words",
    [
        ("../up", "leads out of the output folder"),
        ("a/../../up", "leads out of the output folder"),
        ("/etc/up", "leads out of the output folder"),
        ("C:\\up", "leads out of the output folder"),
        ("..\\up", "leads out of the output folder"),
        ("", "expected a name"),
        ("sky/", "expected a name"),
        ("..", "expected a name"),
        ("a\nb", "line break"),
        ("x" * 300, "too long"),
    ],
)
def test_names_that_are_refused(station, say, run, session, prefix, words):
    assert words in station["SaveVideo"].validate_inputs(filename_prefix=prefix)
    video = run("AssembleVideo", images=clip(1))[0]
    assert words in say("SaveVideo", video=video, filename_prefix=prefix)
    assert not list(session.output_dir.parent.glob("*up*"))


@pytest.mark.parametrize(
    "container, codec, words",
    [("webm", "h264", "WebM cannot hold H.264"), ("avi", "auto", "expected one of mp4"), ("mp4", "xvid", "xvid")],
)
def test_codecs_are_checked_before_anything_is_rendered(station, container, codec, words):
    assert words in station["SaveVideo"].validate_inputs(container=container, codec=codec)


def test_all_mistakes_are_told_at_once(station):
    text = station["SaveVideo"].validate_inputs(filename_prefix="..", container="webm", codec="h264")
    assert "expected a name" in text and "WebM cannot hold" in text
    assert station["SaveVideo"].validate_inputs(filename_prefix="clip", container="mp4", codec="auto") is True


def test_an_unusable_output_folder_is_named(say, run, session, tmp_path):
    (tmp_path / "file").write_text("")
    session.output_dir = tmp_path / "file"
    video = run("AssembleVideo", images=clip(1))[0]
    assert "The output folder" in say("SaveVideo", video=video)


def test_a_failed_save_leaves_nothing(say, run, session):
    images = clip()
    images[5] = float("nan")
    assert "Frame 5" in say("SaveVideo", video=run("AssembleVideo", images=images)[0])
    assert list(session.output_dir.iterdir()) == []


def test_save_needs_a_video(say):
    assert "video is nothing" in say("SaveVideo", video=None)


def test_the_file_says_how_it_was_made(save, session, generate, empty, monkeypatch, station):
    generate(empty, seed=41)
    hidden = type("Hidden", (), {"prompt": {"1": {"class_type": "X"}}, "extra_pnginfo": {"workflow": {"nodes": []}}})
    monkeypatch.setattr(station["SaveVideo"], "hidden", hidden)
    texts = read_metadata(save())
    assert json.loads(texts["prompt"]) == {"1": {"class_type": "X"}}
    assert json.loads(texts["workflow"]) == {"nodes": []}
    manifest = json.loads(texts["sora_dit"])
    assert manifest["seed"] == 41 and "torch" in manifest["packages"]


def test_load_reads_a_part(save, run):
    path = save(clip(20, 16, 16), prefix="long", container="mkv", codec="ffv1")
    whole = run("LoadVideo", video=str(path))[0]
    images, _, fps, frames = run("LoadVideo", video=str(path), start_frame=3, max_frames=5, every_nth=2)
    assert frames == 5 and fps == 4.0 and torch.equal(images, whole[3:13:2])
    images, _, fps, _ = run("LoadVideo", video=str(path), force_fps=4.0)
    assert fps == 4.0 and len(images) == 10


def test_load_finds_files_in_input_and_output(save, run, station, session):
    path = save(clip(1))
    assert run("LoadVideo", video=f"{path.name} [output]")[3] == 1
    words = station["LoadVideo"].validate_inputs(video=path.name)
    assert f'For the one in the output folder, write "{path.name} [output]".' in words
    (session.input_dir / "mine.mp4").write_bytes(path.read_bytes())
    (session.input_dir / "notes.txt").write_text("no video")
    assert station["LoadVideo"].INPUT_TYPES()["required"]["video"][1]["options"] == ["mine.mp4"]
    assert run("LoadVideo", video="mine.mp4")[3] == 1
    before = station["LoadVideo"].fingerprint_inputs(video="mine.mp4")
    (session.input_dir / "mine.mp4").write_bytes(save().read_bytes())
    assert station["LoadVideo"].fingerprint_inputs(video="mine.mp4") != before


@pytest.mark.parametrize(
    "name, words",
    [
        ("mime.mp4", 'no file "mime.mp4" in the input folder'),
        ("../secret.mp4", "leads out of the input folder"),
        ("", "No file is chosen"),
        ("gone.mp4 [output]", "in the output folder"),
    ],
)
def test_files_that_cannot_be_loaded(station, session, name, words):
    assert words in station["LoadVideo"].validate_inputs(video=name)


def test_a_file_that_is_no_video(say, session):
    (session.input_dir / "text.mp4").write_text("this is not a video")
    assert "text.mp4" in say("LoadVideo", video="text.mp4")


def test_start_behind_the_end(save, say):
    assert "none is left" in say("LoadVideo", video=str(save(clip(3))), start_frame=5)


def test_frame_rate_survives_exactly(save, run):
    path = save(fps=29.97)
    assert read_video(path).fps == Fraction(30000, 1001)
    fps = run("LoadVideo", video=str(path))[2]
    assert run("AssembleVideo", images=clip(), fps=fps)[0].get_frame_rate() == Fraction(30000, 1001)


def test_models_in_folders_named_as_in_comfyui(tmp_path):
    for place in ("vae", "sora_dit/mine", "other"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.safetensors").write_bytes(b"")
    roots = _files.roots_in([tmp_path], _files.KINDS["vae"])
    assert roots == [tmp_path / "sora_dit", tmp_path / "vae", tmp_path]
    assert _files.find_model("mine/a.safetensors", roots) == tmp_path / "sora_dit/mine/a.safetensors"
    assert _files.find_model("a.safetensors", roots) == tmp_path / "vae/a.safetensors"
    assert "other/a.safetensors" in _files.list_models(roots)


def test_links_between_model_folders_may_form_loops(tmp_path):
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    for place in (models / "deep", elsewhere):
        place.mkdir(parents=True)
        (place / "a.safetensors").write_bytes(b"")
    for name, target in {"x": models, "y": models, "deep/z": models / "deep", "there": elsewhere}.items():
        (models / name).symlink_to(target, target_is_directory=True)
    (elsewhere / "back").symlink_to(models, target_is_directory=True)
    assert _files.list_models([models]) == ["deep/a.safetensors", "there/a.safetensors"]


def test_facts_are_found_by_what_led_to_a_result():
    prompt = {
        "1": {"class_type": "Load", "inputs": {"model": "m"}},
        "2": {"class_type": "Denoise", "inputs": {"model": ["1", 0], "seed": 5}},
        "3": {"class_type": "Save", "inputs": {"video": ["2", 0]}},
        "9": {"class_type": "Denoise", "inputs": {"model": ["1", 0], "seed": 6}},
    }
    _manifest.remember(prompt, "2", {"seed": 5})
    _manifest.remember(prompt, "9", {"seed": 6})
    assert _manifest.collect(prompt, "3")["nodes"] == {"2": {"seed": 5}}
    renamed = {"11": prompt["1"], "22": {**prompt["2"], "inputs": {"model": ["11", 0], "seed": 5}}}
    renamed["33"] = {"class_type": "Save", "inputs": {"video": ["22", 0]}}
    assert _manifest.collect(renamed, "33")["nodes"] == {"22": {"seed": 5}}
    renamed["22"]["inputs"]["seed"] = 6
    assert _manifest.collect(renamed, "33")["nodes"] == {"22": {"seed": 6}}
    assert _manifest.collect(None, None)["nodes"] == {}


def test_options_that_this_version_does_not_know_are_left_out():
    def old(id, tooltip=None):
        return id, tooltip

    assert host.given(old, "x", tooltip="t", advanced=True) == ("x", "t")
    assert host.schema(node_id="X", search_aliases=["y"]).node_id == "X"
