"""The doctor: every fault found where it was put, and nowhere else."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sora_dit.dit_core.data import BucketRules, DoctorRules, examine, survey
from sora_dit.dit_core.data.duplicates import exact_groups, near_groups
from sora_dit.dit_core.data.sheet import _write
from sora_dit.dit_core.errors import DataError
from sora_dit.dit_core.media import read_video, write_video

RULES = BucketRules(pixels=48 * 48, min_frames=9, max_frames=17, spatial_factor=16, fps=8)


def moving(seed, count=18, height=48, width=64, speed=1):
    """`[count, H, W, 3]`: a camera over soft patches of a few colours."""
    noise = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(noise, size=(height * 2, width * 2), mode="bicubic", align_corners=False)
    wide = wide[0].permute(1, 2, 0).clamp(0.1, 1)
    return torch.stack([wide[height // 2 : height // 2 + height, k * speed : k * speed + width] for k in range(count)])


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """A folder with one of every fault, and two clips with none."""
    root = tmp_path_factory.mktemp("sick")
    for k in range(2):
        write_video(root / f"good{k}.mp4", moving(k), 8)
        (root / f"good{k}.txt").write_text(f"caption {k}")
    shutil.copy(root / "good0.mp4", root / "same.mp4")
    small = torch.nn.functional.interpolate(moving(1).permute(0, 3, 1, 2), size=(36, 48), mode="area")
    write_video(root / "near.webm", small.permute(0, 2, 3, 1), 8, quality="low")
    write_video(root / "cut.mp4", torch.cat([moving(20, 12), moving(30, 14)]), 8)
    write_video(root / "short.mp4", moving(4, 6), 8)
    write_video(root / "slow.mp4", moving(5), 5)
    still = moving(6, 1).repeat(18, 1, 1, 1) + torch.randn(18, 48, 64, 3, generator=torch.manual_seed(0)) * 0.01
    write_video(root / "still.mp4", still, 8)
    write_video(root / "black.mp4", moving(7) * 0.03, 8)
    boxed = moving(8)
    boxed[:, :6] = boxed[:, -6:] = 0
    write_video(root / "boxed.mp4", boxed, 8)
    write_video(root / "tiny.mp4", moving(9, height=16, width=24), 8)
    write_video(root / "wide.mp4", moving(10, height=16, width=64), 8)
    (root / "broken.mp4").write_text("no video")
    (root / "still.txt").write_text("")
    (root / "wide.txt").write_text("far too many words")
    (root / "captions.csv").write_text("file,caption\ncut.mp4,two scenes\ngone.mp4,nothing\n")
    return root


@pytest.fixture(scope="module")
def report(sick):
    return examine(sick, RULES, DoctorRules(caption_limit=12))


@pytest.mark.parametrize(
    ("kind", "severity", "files"),
    [
        ("unreadable", "error", ["broken.mp4"]),
        ("too short", "warning", ["short.mp4"]),
        ("duplicates", "warning", ["good0.mp4", "same.mp4"]),
        ("near-duplicates", "warning", ["good1.mp4", "near.webm"]),
        ("empty caption", "warning", ["still.mp4"]),
        ("long caption", "warning", ["wide.mp4"]),
        ("caption rows", "warning", ["captions.csv"]),
        ("repeated frames", "warning", ["slow.mp4"]),
        ("black", "warning", ["black.mp4"]),
        ("still", "warning", ["still.mp4"]),
        ("bars", "warning", ["boxed.mp4"]),
        ("cuts", "note", ["cut.mp4"]),
        ("enlarged", "warning", ["near.webm", "tiny.mp4", "wide.mp4"]),
        ("cropped", "note", ["wide.mp4"]),
    ],
)
def test_each_fault_is_found_in_its_file_only(report, kind, severity, files):
    finding = report.finding(kind)
    assert sorted(finding.files) == files and finding.severity == severity
    assert finding.sentence.endswith(".") and finding.advice.endswith(".")


def test_details_say_what_and_where(report):
    assert report.finding("cuts").details == ("cut.mp4: frame 12 (1.5 s)",)
    assert report.finding("near-duplicates").details == ("good1.mp4 = near.webm",)
    assert report.finding("long caption").details == ("wide.mp4: 18 characters",)
    # 6 lines of 48, seen on previews of 64, less the blurred edge
    assert "11% at the top, 11% at the bottom" in report.finding("bars").details[0]
    assert "5 frames per second: slow.mp4" in report.finding("mixed frame rates").details[0]
    assert (
        "short.mp4 has 6 frames at 8 frames per second; expected at least 9." in report.finding("too short").details[0]
    )
    assert set(report.finding("no caption").files) == {
        "same.mp4", "near.webm", "short.mp4", "slow.mp4", "black.mp4", "boxed.mp4", "tiny.mp4",
    }  # fmt: skip


def test_the_report_in_words_and_as_data(report):
    text, data = report.text(), json.loads(json.dumps(report.to_dict()))
    assert text.index("cannot be read") < text.index("longer than 12 characters") < text.index("scene cut")
    assert "x 1 file cannot be read and is left out." in text and "Fetch or convert" in text
    assert data["ready"] and data["files"] == 12 and data["files_left_out"] == 1
    assert data["clips"] == sum(row["clips"] for row in data["buckets"]) == len(report.clip_set)
    assert [sum(histogram["counts"]) for histogram in data["histograms"]] == [12, 12]
    assert data["histograms"][1]["counts"][0] == 1  # the black one
    assert {finding["severity"] for finding in data["findings"]} == {"error", "warning", "note"}


def test_captions_are_measured_as_the_caller_says(sick):
    found = survey(sick)
    rules = DoctorRules(caption_limit=3, caption_length=lambda text: len(text.split()), caption_unit="tokens")
    assert examine(found, RULES, rules).finding("long caption").details == ("wide.mp4: 4 tokens",)
    rules = DoctorRules(caption_limit=4, caption_length=lambda text: len(text.split()), caption_unit="tokens")
    assert examine(found, RULES, rules).finding("long caption") is None
    whole = examine(found, BucketRules(48 * 48, 9, 17), split_cuts=False)
    assert whole.finding("cuts").severity == whole.finding("mixed frame rates").severity == "warning"


def test_healthy_clips_get_a_clean_bill(tmp_path):
    for k in range(3):
        write_video(tmp_path / f"{k}.mp4", moving(40 + k), 8)
        (tmp_path / f"{k}.txt").write_text(f"words {k}")
    report = examine(tmp_path, RULES, DoctorRules(caption_limit=100))
    assert report.findings == () and "Nothing is wrong" in report.text() and report.is_ready


def test_the_contact_sheet_shows_what_the_training_sees(report):
    sheet = report.contact_sheet(clips_in_row=2, height=40)
    groups = report.clip_set.by_bucket()
    assert sheet.height == len(groups) * (40 + 2 * 14 + 8) + 8
    bucket, members = next(iter(groups.items()))
    frame = report.clip_set.clip(members[0])[:, 0]
    shown = np.asarray(sheet)[8:48, 150 : 150 + round(bucket.width * 40 / bucket.height)].mean((0, 1)) / 127.5 - 1
    assert np.abs(shown - frame.mean((1, 2)).numpy()).max() < 0.05


def test_letters_of_all_kinds_fit_on_the_sheet(tmp_path):
    write_video(tmp_path / "海.mp4", moving(1), 8)
    (tmp_path / "海.txt").write_text("波 " * 100 + "é" * 100)
    assert examine(tmp_path, RULES).contact_sheet().width > 0


def test_a_folder_of_short_clips_is_reported_not_raised(tmp_path):
    write_video(tmp_path / "short.mp4", moving(1, 5), 8)
    report = examine(tmp_path, RULES)
    assert not report.is_ready and report.finding("too short").severity == "error"
    with pytest.raises(DataError, match="no clips"):
        report.contact_sheet()


def test_progress_may_cancel_inside_a_film(tmp_path):
    write_video(tmp_path / "film.mp4", moving(1, 15, 16, 16).repeat(6, 1, 1, 1), 8)
    seen = []

    def tell(done, total, what):
        seen.append(what)
        if "frame 64 of 90" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(tmp_path, RULES, on_progress=tell)
    assert seen[-2:] == ["film.mp4: frame 32 of 90", "film.mp4: frame 64 of 90"]


def encoded(root, name, frames, fps=8, **options):
    write_video(root / name, frames, fps, **options)
    return name


def groups_of(root):
    found = survey(root)
    names = [clip.file.name for clip in found.clips]
    groups = near_groups([clip.analysis for clip in found.clips], DoctorRules.near_bits, DoctorRules.near_colour)
    return [[names[k] for k in group] for group in groups]


def test_copies_are_found_whatever_was_done_to_them(tmp_path):
    frames = moving(1, 24)
    encoded(tmp_path, "a.mp4", frames, quality="best")
    encoded(tmp_path, "b.mp4", frames, quality=40)
    encoded(tmp_path, "c.webm", frames, codec="vp9", quality="low")
    half = torch.nn.functional.interpolate(frames.permute(0, 3, 1, 2), scale_factor=0.5, mode="area")
    encoded(tmp_path, "d.mkv", half.permute(0, 2, 3, 1))
    encoded(tmp_path, "e.mp4", frames[::2], 4)
    encoded(tmp_path, "f.gif", frames)
    (tmp_path / "g").mkdir()
    for k, frame in enumerate(read_video(tmp_path / "b.mp4").frames):
        Image.fromarray((frame * 255).byte().numpy()).save(tmp_path / "g" / f"{k}.jpg", quality=50)
    assert groups_of(tmp_path) == [["a.mp4", "b.mp4", "c.webm", "d.mkv", "e.mp4", "f.gif", "g"]]


def test_other_clips_are_no_copies(tmp_path):
    for k in range(8):
        encoded(tmp_path, f"{k}.mp4", moving(k))
    encoded(tmp_path, "reversed.mp4", moving(0, speed=3).flip(0))
    encoded(tmp_path, "mirrored.mp4", moving(1).flip(2))
    sky = torch.linspace(0.2, 1, 48)[None, :, None, None].expand(18, 48, 64, 3)
    for name, colour in (("blue", (0.3, 0.5, 1.0)), ("red", (1.0, 0.4, 0.3))):  # the same hash, other colours
        encoded(tmp_path, f"{name}.mp4", sky * torch.tensor(colour))
    encoded(tmp_path, "black.mp4", torch.zeros(9, 48, 64, 3))
    encoded(tmp_path, "black2.mp4", torch.zeros(18, 48, 64, 3))
    assert groups_of(tmp_path) == []


def test_a_large_group_is_not_named_in_full(tmp_path):
    encoded(tmp_path, "0.mp4", moving(1, 9))
    for k in range(1, 9):
        shutil.copy(tmp_path / "0.mp4", tmp_path / f"{k}.mp4")
    found = examine(tmp_path, RULES).finding("duplicates")
    assert found.details == ("0.mp4 = 1.mp4 = 2.mp4 = 3.mp4 = 4.mp4 = 5.mp4 and 3 more",) and len(found.files) == 9


def test_exact_groups(tmp_path):
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        encoded(tmp_path, f"{name}.mp4", moving(seed, 9))
    shutil.copy(tmp_path / "a.mp4", tmp_path / "d.mp4")
    analyses = [clip.analysis for clip in survey(tmp_path).clips]
    assert exact_groups(analyses) == [(0, 3)] and near_groups(analyses, 0.1, 10) == []


def test_a_caption_as_long_as_a_page_is_shortened_without_trying_every_length():
    class Draw:
        drawn, asked = "", 0

        def textlength(self, text):
            self.asked += 1
            return 6 * len(text)

        def text(self, place, text, fill):
            self.drawn = text

    draw = Draw()
    _write(draw, "a very long story " * 500, 0, 120, (0, 0, 0))
    assert draw.drawn == "a very long story..." and draw.asked < 20
    _write(draw, "twenty letters fit ..", 0, 126, (0, 0, 0))
    assert draw.drawn == "twenty letters fit .."
