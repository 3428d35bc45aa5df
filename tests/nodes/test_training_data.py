"""Data for trainings: folders of clips, skies, the doctor, cached latents."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.data import Bucket, Fingerprint, TrainingClips
from sora_dit.dit_core.errors import Cancelled
from sora_dit.dit_core.media import write_video
from sora_dit.nodes import _training_data


@pytest.fixture
def clips_folder(session):
    """input/mine: three good clips of 16 x 16, 18 frames at 12 a second, two with captions; one that is broken."""
    place = session.input_dir / "mine"
    place.mkdir()
    for number in range(3):
        frames = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(number)).expand(18, -1, -1, -1)
        moving = torch.stack([frame.roll(k, 1) for k, frame in enumerate(frames)])
        write_video(place / f"clip{number}.mp4", [moving], 12, quality="best")
        if number:
            (place / f"clip{number}.txt").write_text(f"noise number {number}")
    (place / "broken.mp4").write_bytes((place / "clip0.mp4").read_bytes()[:200])
    return place


SMALL = {"size": 16, "frames": 9, "shortest": 9, "multiple": 8}


def test_a_folder_becomes_clips_and_the_broken_file_is_told(go, session, clips_folder):
    clips = go("ClipDataset", folder="mine", **SMALL)[0]
    assert len(clips) == 6 and {str(clips.bucket(i)) for i in range(6)} == {"9 frames of 16 x 16"}
    said = " ".join(note.text for note in session.notes)
    assert "3 files, 6 clips: 6 x 9 frames of 16 x 16." in said and "1 file cannot be read and left out" in said
    assert "broken.mp4" in said


def test_files_and_folders_that_are_not_used_are_told(go, session, clips_folder):
    (clips_folder / "notes.md").write_text("x")
    (clips_folder / "single.png").write_bytes(b"")
    clips = go("ClipDataset", folder="mine", **SMALL)[0]
    assert "2 other files or folders are not used: notes.md, single.png." in [note.text for note in session.notes]
    report = go("DatasetDoctor", clips=clips)[0]
    assert "- 2 other files or folders are not used.\n    notes.md\n    single.png\n" in report


def test_a_folder_without_clips_is_said(say, session):
    (session.input_dir / "none").mkdir()
    assert "is empty; expected videos" in say("ClipDataset", folder="none", **SMALL)
    (session.input_dir / "none" / "notes.txt").write_text("x")
    assert "holds no clips, only other files (notes.txt)" in say("ClipDataset", folder="none", **SMALL)


def test_the_doctor_reports_also_what_stops_a_training(go, say, parts, clips_folder):
    clips = go("ClipDataset", folder="mine", **SMALL | {"frames": 49, "shortest": 49})[0]
    report, sheet = go("DatasetDoctor", clips=clips)
    assert "3 files are shorter than the 49 frames" in report and sheet.shape[0] == 1
    words = say("CacheLatents", clips=clips, vae=parts[2], clip=parts[1])
    assert "holds no clip that is long enough: expected at least 49 frames" in words


def test_the_doctor_shows_report_and_sheet_and_measures_captions(station, go, parts, session, clips_folder):
    (clips_folder / "clip1.txt").write_text("x" * 64)  # the tiny encoder reads 63 bytes
    clips = go("ClipDataset", folder="mine", **SMALL)[0]
    with torch.inference_mode():
        out = station["DatasetDoctor"].execute(clips, 4, 32, clip=parts[1])
    report, sheet = out.args
    assert "1 file has a caption longer than 63 bytes" in report and "1 file has no caption" in report
    assert out.ui["text"] == (report,) and "images" in out.ui
    assert sheet.dtype == torch.float32 and sheet.shape[0] == 1 and sheet.shape[3] == 3 and sheet.max() <= 1


def test_skies_are_shown_too(go):
    clips = go("SkyDataset", count=3, width=16, height=16, frames=5)[0]
    report, sheet = go("DatasetDoctor", clips=clips)
    assert report.startswith("3 rendered skies, each 5 frames of 16 x 16.") and sheet.std() > 0.05


def test_a_changed_folder_is_looked_at_again(station, clips_folder):
    look = station["ClipDataset"].fingerprint_inputs
    before = look(folder="mine")
    assert look(folder="mine") == before
    (clips_folder / "clip1.txt").write_text("other words")
    after = look(folder="mine")
    assert after != before
    try:
        (clips_folder / "gone.mp4").symlink_to(clips_folder / "nothing there")
    except OSError:
        pytest.skip("this system lets nobody make links")
    assert look(folder="mine") == look(folder="mine") != after


def test_folders_are_listed_and_only_those_of_the_input_folder(station, session, clips_folder, tmp_path, monkeypatch):
    (session.input_dir / "mine" / "more").mkdir()
    (session.input_dir / ".hidden").mkdir()
    options = station["ClipDataset"].INPUT_TYPES()["required"]["folder"][1]["options"]
    assert options == ["mine", "mine/more"]
    check = station["ClipDataset"].validate_inputs
    assert check(folder="mine") is True and check(folder=str(clips_folder)) is True  # headless: any folder
    assert 'There is no folder "mime"' in check(folder="mime") and 'Did you mean "mine"?' in check(folder="mime")
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path)
    assert f"For the one at {tmp_path / 'beside'}, give that whole path." in check(folder="beside")
    assert "leads out of the input folder" in check(folder="../output")
    assert "is a file; expected a folder" in check(folder="mine/clip0.mp4")
    assert "No folder is chosen" in check(folder="")
    assert "the nearest are 21 and 25" in check(folder="mine", frames=24)
    assert "shortest is 33" in check(folder="mine", frames=25, shortest=33)
    assert "size is 16 pixels" in check(folder="mine", size=16, multiple=32)


@pytest.mark.parametrize(
    ("node", "values", "words"),
    [
        ("ClipDataset", {"size": 4000}, "size: got 4000; expected 16 to 2048."),
        ("ClipDataset", {"multiple": 0}, "multiple: got 0; expected 1 to 128."),
        ("ClipDataset", {"shortest": 0}, "shortest: got 0; expected 1 to 401."),
        ("SkyDataset", {"width": 8}, "width: got 8; expected 16 to 1024."),
        ("SkyDataset", {"frames": 405}, "frames: got 405; expected 1 to 401."),
        ("SkyDataset", {"fps": 500.0}, "fps: got 500; expected 0 to 120."),
        ("LoadModel", {"model": "from the model file"}, 'model: model is "from the model file"; expected the name'),
    ],
)
def test_what_comfyui_does_not_look_at_is_in_its_range(station, node, values, words):
    assert words in station[node].validate_inputs(**values)


def test_a_cache_is_planned_made_once_and_refuses_other_clips(go, say, parts, session, clips_folder):
    clips = go("ClipDataset", folder="mine", **SMALL)[0]
    what = {"vae": parts[2], "clip": parts[1], "name": "mine"}
    latents = go("CacheLatents", clips=clips, **what)[0]
    assert len(latents) == 6 and any("on disk. A training reads the clips" in note.text for note in session.notes)
    place = session.output_dir / "sora_dit_latents" / "mine"
    made = {path.name: path.stat().st_mtime_ns for path in place.glob("*.safetensors")}
    again = go("CacheLatents", clips=clips, **what)[0]
    assert len(again) == 6 and made == {path.name: path.stat().st_mtime_ns for path in place.glob("*.safetensors")}
    (clips_folder / "clip1.txt").write_text("other words")
    other = go("ClipDataset", folder="mine", **SMALL)[0]
    words = say("CacheLatents", clips=other, **what)
    assert "holds other latents than asked for" in words and "clip1.mp4" in words


def test_caching_that_is_stopped_says_that_its_work_is_kept(go, parts, session, clips_folder):
    clips = go("ClipDataset", folder="mine", **SMALL)[0]
    session.cancel.set()
    with pytest.raises(Cancelled, match="what is encoded so far is kept, queue it again to go on"):
        go("CacheLatents", clips=clips, vae=parts[2], clip=parts[1], name="mine")


class Greys(TrainingClips):
    """A data set of one's own, as README's table says: five grey clips."""

    def __len__(self):
        return 5

    def bucket(self, index):
        return Bucket(5, 16, 16 + 16 * (index % 2))

    def captions(self, index):
        return (f"grey number {index}",)

    def clip(self, index):
        bucket = self.bucket(index)
        return torch.full((3, bucket.frames, bucket.height, bucket.width), index / 5)

    def fingerprint(self):
        return Fingerprint("greys", {}, {})


def test_the_doctor_takes_any_data_set_and_says_that_it_knows_nothing_of_it():
    text, sheet = _training_data.examined(Greys(), 2, 32)
    assert text.startswith("5 clips of greys; not examined.") and "grey number 0" in text
    assert sheet.shape[0] == 1 and sheet.shape[3] == 3
