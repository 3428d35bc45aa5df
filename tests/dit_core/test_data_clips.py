"""Clips for training: the right frames, at the right size, and a fingerprint that notices other data."""

from __future__ import annotations

import itertools
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sora_dit.dit_core.data import Bucket, BucketRules, ClipSet, Fingerprint, SkyClips, bucket_counts, survey
from sora_dit.dit_core.data.fit import covering, middle
from sora_dit.dit_core.errors import DataError, MediaError
from sora_dit.dit_core.media import film as media_film
from sora_dit.dit_core.media import write_video
from sora_dit.dit_core.skies import EDITION
from sora_dit.dit_core.training.sky_data import SkySource

CLIPS = Path(os.environ.get("SORA_DIT_CLIPS", "/nowhere"))
RULES = BucketRules(pixels=32 * 32, min_frames=5, max_frames=9, spatial_factor=8)


def numbered(path, count, fps=8, height=32, width=32, **options):
    """A film whose frame k has brightness (k mod 64) / 64."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = (torch.arange(count) % 64) / 64
    write_video(path, (levels[:, None, None, None].expand(-1, height, width, 3)), fps, quality="best", **options)


def numbers(clip):
    """Frame numbers mod 64 of a clip `[3, F, H, W]`."""
    return ((clip.mean((0, 2, 3)) + 1) * 32).round().int().tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("films")
    numbered(root / "a.mp4", 20)
    (root / "a.txt").write_text("one\ntwo")
    numbered(root / "b" / "fast.mkv", 30, fps=24, height=24, width=48)
    numbered(root / "c.gif", 12, fps=10)
    (root / "d").mkdir()
    for k in range(6):
        Image.new("RGB", (24, 48), (k * 4,) * 3).save(root / "d" / f"{k:04d}.png")
    return root


@pytest.fixture(scope="module")
def found(folder):
    return survey(folder)


def test_every_window_gives_its_frames(found):
    clips = ClipSet(found, RULES, split_cuts=False)
    expected = [
        ("a.mp4", Bucket(9, 32, 32), range(9)), ("a.mp4", Bucket(9, 32, 32), range(9, 18)),
        ("b/fast.mkv", Bucket(9, 24, 40), range(9)), ("b/fast.mkv", Bucket(9, 24, 40), range(9, 18)),
        ("b/fast.mkv", Bucket(9, 24, 40), range(18, 27)), ("c.gif", Bucket(9, 32, 32), range(9)),
        ("d", Bucket(5, 40, 24), range(5)),
    ]  # fmt: skip
    assert len(clips) == len(expected)
    for index, (name, bucket, frames) in enumerate(expected):
        assert clips.bucket(index) == bucket and clips.windows[index].frames == tuple(frames)
        assert clips.name(index) == f"{name}, frames {frames[0]} to {frames[-1]}"
        video = clips.clip(index)
        assert video.shape == (3, bucket.frames, bucket.height, bucket.width) and video.dtype == torch.float32
        if name != "d":
            assert numbers(video) == list(frames)
    assert clips.captions(0) == ("one", "two") and clips.captions(2) == ("b",) and clips.captions(5) == ("",)
    assert clips.by_bucket()[Bucket(9, 32, 32)] == [0, 1, 5] and bucket_counts(clips)[Bucket(5, 40, 24)] == 1
    assert (clips.clip(6)[0, :, 0, 0] * 127.5 + 127.5).round().tolist() == [0, 4, 8, 12, 16]


@pytest.mark.parametrize(
    ("fps", "first"),
    [
        (8, {"a.mp4": range(9), "b/fast.mkv": range(0, 27, 3), "c.gif": [0, 1, 2, 4, 5, 6, 7, 9, 10]}),
        (16, {"a.mp4": [0, 0, 1, 1, 2, 2, 3, 3, 4]}),
        (Fraction(24000, 1001), {"b/fast.mkv": range(9)}),
    ],
)
def test_all_clips_come_at_the_rate_asked_for(found, fps, first):
    rules = BucketRules(pixels=32 * 32, min_frames=5, max_frames=9, spatial_factor=8, fps=fps)
    clips = ClipSet(found, rules, split_cuts=False)
    seen = {}
    for index, window in enumerate(clips.windows):
        seen.setdefault(found.clips[window.file].file.name, numbers(clips.clip(index)))
    for name, expected in first.items():
        assert seen[name] == list(expected)


def test_cuts_split_and_short_stretches_are_told(tmp_path):
    generator = torch.Generator().manual_seed(3)
    scenes = [
        torch.rand(8, 8, 3, generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1) for _ in range(3)
    ]
    frames = torch.stack([scenes[0]] * 10 + [scenes[1]] * 4 + [scenes[2]] * 6)
    write_video(tmp_path / "scenes.mp4", frames, 8)
    clips = ClipSet.from_folder(tmp_path, RULES)
    assert [window.frames for window in clips.windows] == [tuple(range(9)), tuple(range(14, 19))]
    assert [problem.sentence.partition(", ")[2] for problem in clips.too_short] == [
        "frames 10 to 13 between scene cuts, has 4 frames; expected at least 5."
    ]
    for index, scene in ((0, scenes[0]), (1, scenes[2])):
        assert (
            clips.clip(index) * 0.5 + 0.5 - scene.permute(2, 0, 1)[:, None]
        ).abs().mean() < 0.08  # another scene: 0.3


def test_sets_without_a_long_enough_clip_are_refused(folder):
    with pytest.raises(DataError) as error:
        ClipSet.from_folder(folder, BucketRules(pixels=32 * 32, min_frames=41, max_frames=81, spatial_factor=8, fps=8))
    assert "expected at least 41 frames at 8 frames per second" in str(error.value)
    assert "a.mp4 has 20 frames at 8 frames per second" in str(error.value)


@pytest.fixture(scope="module")
def long_film(tmp_path_factory):
    root = tmp_path_factory.mktemp("long")
    for name in ("film.mp4", "film.webm", "film.mkv"):
        numbered(root / name, 320, fps=25, height=16, width=16)
    return survey(root)


@pytest.mark.parametrize("number", range(3))
def test_reading_from_the_middle_gives_the_same_frames(long_film, number, monkeypatch):
    name = long_film.clips[number].file.name
    clips = ClipSet(long_film, BucketRules(256, 9, 9, 8), split_cuts=False)
    mine = [index for index, window in enumerate(clips.windows) if window.file == number]
    decoded = []
    original = media_film.Film._decode

    def counting(self, start):
        for frame in original(self, start):
            decoded.append(frame[1])
            yield frame

    monkeypatch.setattr(media_film.Film, "_decode", counting)
    for index in (mine[0], mine[8], mine[-1], mine[3]):
        decoded.clear()
        frames = clips.windows[index].frames
        assert numbers(clips.clip(index)) == [k % 64 for k in frames], name
        assert len(decoded) == (9 if frames[0] > 50 else frames[-1] + 1)  # from 2 s on, nothing before is handed over


def test_a_file_that_cannot_be_read_from_the_middle_is_read_from_the_beginning(long_film, monkeypatch):
    original, tried = media_film._from_key_frame, []

    def failing(container, stream, start):
        tried.append(start)
        yield from itertools.islice(original(container, stream, start), 4)
        raise media_film._BadSeek

    monkeypatch.setattr(media_film, "_from_key_frame", failing)
    clips = ClipSet(long_film, BucketRules(256, 9, 9, 8), split_cuts=False)
    for index in range(20, 30):
        assert numbers(clips.clip(index)) == [k % 64 for k in clips.windows[index].frames]
    assert len(tried) == 10


@pytest.mark.skipif(not (CLIPS / "cockatoo.mp4").is_file(), reason="set SORA_DIT_CLIPS to the folder of real clips")
def test_a_real_film_whose_key_frames_do_not_stand_alone(tmp_path):
    (tmp_path / "film.mp4").symlink_to(CLIPS / "cockatoo.mp4")
    found = survey(tmp_path)
    clips = ClipSet(found, BucketRules(64 * 64, 5, 5, 16, fps=20))
    for index in range(25, len(clips), 15):  # a seek there gives a green picture
        window = clips.windows[index]
        light = (clips.clip(index).mean((2, 3)) / 2 + 0.5).T @ torch.tensor([0.299, 0.587, 0.114])
        whole = found.clips[window.file].analysis.brightness[list(window.frames)]
        assert np.abs(light.numpy() - whole).max() < 0.08  # all but the crop


def test_resizing_covers_centres_and_is_antialiased(tmp_path):
    assert covering(720, 1280, 64, 128) == (72, 128) and covering(100, 50, 64, 128) == (256, 128)
    assert covering(7, 5, 7, 5) == (7, 5)
    picture = np.zeros((6, 10, 3), np.uint8)
    picture[2:4, 4:6] = 255
    assert middle(picture, 2, 2).tolist() == torch.ones(3, 2, 2).tolist()
    assert float(middle(np.full((2, 2, 3), 65535, np.uint16), 2, 2).max()) == 1
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    for k in range(5):
        Image.fromarray(checkers.astype(np.uint8)).save(tmp_path / f"{k}.png")
    clip = ClipSet.from_folder(tmp_path, BucketRules(256, 5, 5, 16)).clip(0)
    assert clip.shape == (3, 5, 16, 16) and clip[..., 2:-2, 2:-2].abs().max() < 0.02  # grey, not moire


def test_a_file_changed_since_the_survey_is_named(tmp_path):
    numbered(tmp_path / "a.mp4", 20)
    clips = ClipSet.from_folder(tmp_path, RULES, split_cuts=False)
    numbered(tmp_path / "a.mp4", 12)
    with pytest.raises(MediaError, match=r"a\.mp4 has no frame 12; expected 20 frames.*changed"):
        clips.clip(1)


def make(root, count=12, **rules):
    return ClipSet.from_folder(root, BucketRules(**{**RULES.__dict__, **rules})).fingerprint()


def test_the_fingerprint_tells_what_differs(tmp_path):
    root = tmp_path / "here"
    for name in ("a", "b", "c"):
        numbered(root / f"{name}.mp4", 12)
    (root / "a.txt").write_text("a wave")
    first = make(root)
    assert make(root).sha256 == first.sha256 and first.differences(make(root)) == []
    assert Fingerprint.from_dict(json.loads(json.dumps(first.to_dict()))) == first
    assert first.differences(make(root, fps=4)) == ["fps was None and is 4."]
    os.rename(root, tmp_path / "there")
    assert make(tmp_path / "there").sha256 == first.sha256  # the folder's place does not count

    root = tmp_path / "there"
    (root / "a.txt").write_text("a storm")
    (root / "b.mp4").unlink()
    numbered(root / "c.mp4", 13)
    for k in range(4):
        numbered(root / f"new{k}.mp4", 9)
    now = make(root)
    assert now.sha256 != first.sha256 and first.differences(now) == [
        "1 file is gone: b.mp4.",
        "4 files are new: new0.mp4, new1.mp4, new2.mp4 and 1 more.",
        "1 file has another content: c.mp4.",
        "1 file has other captions: a.mp4.",
    ]
    skies = SkyClips(SkySource(1), 2).fingerprint()
    assert skies.rules["edition"] == str(EDITION), "skies drawn otherwise are other data"
    assert first.differences(skies) == ["The data were clips of a folder and are synthetic skies."]
    with pytest.raises(DataError, match="expected kind, rules and files"):
        Fingerprint.from_dict({"kind": 1})


def test_skies_have_the_same_interface():
    source = SkySource(seed=3, frames=5, height=16, width=32)
    skies = SkyClips(source, 3, wordings=2)
    assert (
        len(skies) == 3 and skies.bucket(2) == Bucket(5, 16, 32) and skies.by_bucket() == {skies.bucket(0): [0, 1, 2]}
    )
    assert torch.equal(skies.clip(1), source.clips(1, 1, "cpu")[0]) and skies.clip(1).shape == (3, 5, 16, 32)
    assert skies.captions(2) == tuple(source.captions(2, 2)) and len(skies.captions(2)) == 2
    with pytest.raises(IndexError):
        skies.clip(3)
    with pytest.raises(DataError, match="Got 0 clips"):
        SkyClips(source, 0)
    other = SkyClips(SkySource(seed=4, frames=5, height=16, width=32), 3, wordings=2)
    assert skies.fingerprint().differences(other.fingerprint()) == ["seed was 3 and is 4."]
