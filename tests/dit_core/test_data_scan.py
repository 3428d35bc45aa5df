"""Finding clips and captions in a folder, and folders with something wrong in them."""

from __future__ import annotations

import errno
import json
import os
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sora_dit.dit_core.data import read_captions, scan, survey
from sora_dit.dit_core.data.source import ClipSource
from sora_dit.dit_core.errors import DataError, MediaError
from sora_dit.dit_core.media import write_video


def film(path, count=9, height=32, width=48, fps=8, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = torch.rand(1, height // 8, width // 8, 3, generator=torch.Generator().manual_seed(seed))
    frames = frames.repeat_interleave(8, 1).repeat_interleave(8, 2) * torch.linspace(0.5, 1, count)[:, None, None, None]
    write_video(path, frames, fps, **options)


def images(folder, count=5, size=(48, 32), name="{:03d}.png", start=1):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        Image.new("RGB", size, (number * 20, 100, 50)).save(folder / name.format(number))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixed")
    film(root / "b.mp4")
    film(root / "a.webm", fps=Fraction(24000, 1001), height=48, width=32)
    film(root / "sub" / "moving.gif", count=6, fps=10)
    film(root / "sub" / "moving.webp", count=6, fps=10)
    images(root / "sub" / "waves")
    images(root / "takes", name="left_{}.png", count=11)
    images(root / "takes", name="right-{:02d}.jpg", count=2)
    images(root / ".hidden")
    Image.new("RGB", (8, 8)).save(root / "sub" / "still.webp")
    Image.new("RGB", (8, 8)).save(root / "b.jpg")  # the preview of a video
    (root / "notes.md").write_text("notes")
    (root / "._b.mp4").write_bytes(b"what macOS leaves behind")
    return root


def test_all_kinds_of_clips_are_found_in_order(mixed):
    found = scan(mixed, image_fps=12)
    facts = [(clip.name, clip.kind, clip.width, clip.height, clip.fps) for clip in found.clips]
    assert facts == [
        ("a.webm", "video", 32, 48, Fraction(24000, 1001)),
        ("b.mp4", "video", 48, 32, 8),
        ("sub/moving.gif", "animation", 48, 32, 10),
        ("sub/moving.webp", "animation", 48, 32, 10),
        ("sub/waves", "images", 48, 32, 12),
        ("takes/left", "images", 48, 32, 12),
        ("takes/right", "images", 48, 32, 12),
    ]
    assert [clip.frames for clip in found.clips if clip.kind != "video"] == [6, 6, 5, 11, 2]
    assert found.clips[1].frames == 9 and found.clips[1].seconds == pytest.approx(9 / 8)
    assert found.clips[0].seconds == pytest.approx(9 * 1.001 / 24, abs=0.05)
    assert found.ignored == ("b.jpg", "notes.md", "sub/still.webp") and found.problems == ()
    assert found.clips[1].size == (mixed / "b.mp4").stat().st_size


def test_images_go_by_number_not_by_letter(mixed):
    left = next(clip for clip in scan(mixed).clips if clip.name == "takes/left")
    assert left.images == tuple(f"left_{k}.png" for k in range(1, 12))
    reds = [int(picture[0, 0, 0]) for _, picture in ClipSource(left).frames()]
    assert reds == [20 * k for k in range(1, 12)]


def test_images_numbered_as_windows_does_are_a_series(tmp_path):
    images(tmp_path / "pets", name="cat ({}).png", count=11)
    images(tmp_path / "pets", name="dog_{:02d}.png", count=2)
    cat, dog = scan(tmp_path).clips
    assert (cat.name, dog.name) == ("pets/cat", "pets/dog")
    assert cat.images == tuple(f"cat ({k}).png" for k in range(1, 12)) and cat.notes == ()


def test_grey_images_of_16_bits_and_turned_photos(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "turned").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned a quarter
    for k in range(2):
        Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep" / f"{k}.png")
        Image.new("RGB", (16, 8)).save(tmp_path / "turned" / f"{k}.jpg", exif=exif)
    deep, turned = scan(tmp_path).clips
    assert next(ClipSource(deep).frames())[1][0, 0].tolist() == [40000 >> 8] * 3
    assert (turned.width, turned.height) == (8, 16) and next(ClipSource(turned).frames())[1].shape == (16, 8, 3)


def test_transparent_pixels_come_out_black_and_half_transparent_ones_darker(tmp_path):
    """Image editors leave any colours behind them, and so does WebP."""
    pixels = np.full((8, 16, 4), (200, 100, 50, 255), np.uint8)
    pixels[:, 8:12, 3], pixels[:, 12:, 3] = 0, 128
    clear = Image.fromarray(pixels)
    palette = clear.convert("RGB").quantize(4)
    (tmp_path / "series").mkdir()
    for k in range(2):
        clear.save(tmp_path / "series" / f"{k}.png")
    options = {"save_all": True, "append_images": [clear.rotate(180)], "duration": 100}
    clear.save(tmp_path / "moving.webp", lossless=True, exact=True, **options)
    other = palette.copy()
    other.putpixel((0, 0), 1)
    hidden = {"transparency": palette.getpixel((3, 3)), "append_images": [other], "disposal": 2}
    palette.save(tmp_path / "moving.gif", **options | hidden)
    gif, webp, series = scan(tmp_path).clips
    for clip in (webp, series):
        _, picture = next(ClipSource(clip).frames())
        assert picture[0, 0].tolist() == [200, 100, 50] and picture[0, 9].tolist() == [0, 0, 0]
        assert picture[0, 13].tolist() == pytest.approx([100, 50, 25], abs=1)
    assert next(ClipSource(gif).frames())[1][3, 3].tolist() == [0, 0, 0]


def test_gaps_in_the_numbers_are_told(tmp_path):
    images(tmp_path / "run", count=2)
    images(tmp_path / "run", count=2, start=7)
    assert "from 002.png to 007.png" in scan(tmp_path).clips[0].notes[0]


def linked(path, target):
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets nobody make links")


def test_series_of_one_name_are_told_apart(tmp_path):
    for name in ("a/000.png", "a/001.png", "a_000.png", "a_001.png", "b_000.png", "b_001.png"):
        (tmp_path / "shots" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "shots" / name)
    assert [clip.name for clip in scan(tmp_path).clips] == ["shots/a", "shots/a_000.png", "shots/b"]


def test_an_image_that_pillow_refuses_stops_nothing(tmp_path):
    film(tmp_path / "good.mp4")
    texts = PngInfo()
    texts.add_text("workflow", "x" * (1 << 21), zip=True)  # Pillow unpacks a megabyte at most
    for number in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"frame_{number}.png", pnginfo=texts)
    found = scan(tmp_path)
    assert [clip.name for clip in found.clips] == ["good.mp4"]
    assert "frame_0.png cannot be read" in found.problems[0].sentence


def test_links_to_folders_elsewhere_are_followed_and_those_that_lead_back_are_named(tmp_path):
    root, outside = tmp_path / "in" / "clips", tmp_path / "elsewhere"
    film(root / "sub" / "a.mp4")
    film(outside / "b.mp4")
    (outside / "captions.csv").write_text("file,caption\nb.mp4,from elsewhere\n")
    linked(outside / "round", outside)  # three that would never end, and two that would give clips twice
    linked(root / "self", root)
    linked(root / "up", tmp_path / "in")
    linked(root / "same", root / "sub")
    linked(root / "far", outside)
    linked(root / "far again", outside)
    found = scan(root)
    assert [clip.name for clip in found.clips] == ["far/b.mp4", "sub/a.mp4"] and found.problems == ()
    assert found.ignored == ("far again/", "far/captions.csv", "far/round/", "same/", "self/", "up/")
    assert read_captions(found).captions["far/b.mp4"].wordings == ("from elsewhere",)


def test_a_folder_that_may_not_be_looked_into_is_said(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4")
    film(tmp_path / "closed" / "b.mp4")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # a chmod holds off nobody who may do everything
    (problem,) = scan(tmp_path).problems
    assert (problem.kind, problem.file) == ("unreadable", "closed")
    assert problem.sentence.startswith(f"{tmp_path / 'closed'} cannot be looked into: ")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    root = tmp_path_factory.mktemp("damaged")
    for k in range(2):
        film(root / f"good{k}.mp4", seed=k)
    film(root / "cut.mkv", count=40, height=64, width=64)
    for name in ("cut.mkv", "headless.mp4"):
        data = (root / (name if name == "cut.mkv" else "good0.mp4")).read_bytes()
        (root / name).write_bytes(data[: len(data) // 2])
    (root / "text.mp4").write_text("This is not a video. " * 50)
    (root / "empty.mov").write_bytes(b"")
    (root / "lone.gif").write_bytes(b"GIF89a nonsense")
    Image.new("RGB", (8, 8)).save(root / "single.gif")
    images(root / "sizes", count=3)
    Image.new("RGB", (32, 48)).save(root / "sizes" / "002.png")
    images(root / "broken", count=3)
    (root / "broken" / "003.png").write_bytes(b"\x89PNG but no more")
    return root


def test_unreadable_files_are_reported_and_skipped(damaged):
    found = scan(damaged)
    reasons = {problem.file: problem.sentence for problem in found.problems}
    assert {clip.name for clip in found.clips} >= {"good0.mp4", "good1.mp4"}
    assert set(reasons) >= {"text.mp4", "empty.mov", "lone.gif", "single.gif", "sizes", "broken"}
    for file, sentence in reasons.items():
        assert file in sentence and sentence.endswith(".") and sentence.count(str(damaged)) >= 1
    assert "damaged, or not a video file" in reasons["text.mp4"] and "0 bytes" in reasons["empty.mov"]
    assert "single picture" in reasons["single.gif"] and "003.png" in reasons["broken"]
    assert "002.png is 32 x 48; expected 48 x 32 as 001.png" in reasons["sizes"]


def test_a_look_through_finds_what_headers_hide(damaged):
    found = survey(damaged)
    assert [clip.file.name for clip in found.clips if "good" not in clip.file.name] in ([], ["cut.mkv"])
    assert {problem.file for problem in found.problems} >= {"headless.mp4", "text.mp4", "sizes", "broken"}


def test_a_truncated_film_whose_header_is_whole_is_left_out(tmp_path):
    film(tmp_path / "whole.mp4")
    film(tmp_path / "half.mp4", count=60, height=64, width=64)  # its index stands in front
    data = (tmp_path / "half.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) * 2 // 3])
    found = survey(tmp_path)
    assert [clip.file.name for clip in found.clips] == ["whole.mp4"]
    assert "half.mp4" in found.problems[0].sentence and "60 frames" in found.problems[0].sentence


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root / "nowhere", "does not exist"),
        (lambda root: root, "is empty"),
        (lambda root: (root / "a.txt").write_text("x") and root, "only other files (a.txt)"),
        (lambda root: (root / "a.txt").write_text("x") and root / "a.txt", "is a file"),
        (lambda root: (root / "a.mp4").write_text("x") and root, "none can be read"),
    ],
)
def test_folders_without_clips_are_refused_in_words(tmp_path, make, words):
    folder = make(tmp_path)
    with pytest.raises(DataError) as error:
        scan(folder)
    assert words in str(error.value) and str(folder) in str(error.value) and "expected" in str(error.value)


def test_progress_may_cancel(mixed):
    seen = []

    def tell(done, total, name):
        seen.append((done, total, name))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(mixed, on_progress=tell)
    assert [(done, total) for done, total, _ in seen] == [(0, 7), (1, 7), (2, 7), (3, 7)]


@pytest.fixture
def captioned(tmp_path):
    for name in ("one.mp4", "two.mp4", "three.mp4", "10_red-balloon_at sea/x.mp4", "deep/01/y.mp4"):
        film(tmp_path / name, count=2)
    images(tmp_path / "waves at night", count=2)
    return tmp_path


def words(folder):
    book = read_captions(scan(folder))
    return book, {name: (caption.wordings, caption.source) for name, caption in book.captions.items()}


def test_captions_come_from_texts_then_tables_then_folders(captioned):
    (captioned / "one.txt").write_text("first\n\n second wording \nfirst\n", encoding="utf-8")
    (captioned / "two.mp4.txt").write_text("\ufeffcafé", encoding="utf-8")
    (captioned / "captions.csv").write_text('file,caption\none.mp4,unused\nthree,"a, b"\nthree.mp4,c\n')
    book, captions = words(captioned)
    assert captions == {
        "one.mp4": (("first", "second wording"), "text"),
        "two.mp4": (("café",), "text"),
        "three.mp4": (("a, b", "c"), "table"),
        "10_red-balloon_at sea/x.mp4": (("red balloon at sea",), "folder"),
        "deep/01/y.mp4": (("deep",), "folder"),
        "waves at night": (("waves at night",), "folder"),
    }
    assert book.problems == () and book.refused == ()
    book.require()


def test_missing_and_empty_captions_are_told_apart(captioned):
    (captioned / "one.txt").write_text(" \n")
    book, _ = words(captioned)
    assert book.captions["one.mp4"].is_empty and not book.captions["two.mp4"].is_empty
    assert book.captions["two.mp4"].source == "none" and book.captions["two.mp4"].wordings == ()


def test_json_lines_and_tables_in_subfolders(captioned):
    rows = [{"file_name": "one.mp4", "text": ["x", "y"]}, {"file_name": "./two.mp4", "text": "z"}]
    lines = "\n".join([*map(json.dumps, rows), "{broken", '{"file_name": "gone.mp4", "text": "?"}', '{"a": 1}'])
    (captioned / "data.jsonl").write_text(lines)
    (captioned / "deep" / "metadata.csv").write_text("path;prompt\n01\\y.mp4;from below\n../three.mp4;from beside\n")
    book, captions = words(captioned)
    assert captions["one.mp4"][0] == ("x", "y") and captions["two.mp4"][0] == ("z",)
    assert captions["deep/01/y.mp4"][0] == ("from below",) and captions["three.mp4"][0] == ("from beside",)
    sentences = " ".join(problem.sentence for problem in book.problems)
    assert "line 3" in sentences and "line 4, names 'gone.mp4'" in sentences and "line 5" in sentences
    assert len(book.problems) == 3 and book.refused == ()


def test_captions_that_are_no_texts_are_named(captioned):
    rows = [{"file": "one.mp4", "caption": {"en": "x"}}, {"file": "two.mp4", "caption": True},
            {"file": "three.mp4", "caption": ["a", ["b"]]}, {"file": "deep/01/y.mp4", "caption": 7}]  # fmt: skip
    (captioned / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    book, captions = words(captioned)
    assert [captions[name][0] for name in ("one.mp4", "two.mp4", "three.mp4")] == [()] * 3
    assert captions["deep/01/y.mp4"] == (("7",), "table")
    assert [problem.kind for problem in book.problems] == ["caption line unreadable"] * 3
    assert 'data.jsonl, line 1, has an object as "caption"; expected a text' in book.problems[0].sentence


def test_names_that_look_the_same_are_the_same(tmp_path):
    for name in ("A.mp4", "a.mp4", "b.mp4", "c.mp4", "e\u0301te\u0301.mp4", "o\u0308.mp4"):
        film(tmp_path / name, count=2)
    (tmp_path / "B.TXT").write_text("as Windows writes it")
    (tmp_path / "c.Txt").write_text("any ending")
    (tmp_path / "\u00f6.txt").write_text("composed")
    (tmp_path / "captions.csv").write_text("file,caption\n\u00e9t\u00e9.mp4,summer\n", encoding="utf-8")
    if not (tmp_path / "a.TXT").exists() and len(list(tmp_path.glob("?.mp4"))) == 4:  # systems that tell them apart
        (tmp_path / "A.txt").write_text("of the other")
    book, captions = words(tmp_path)
    assert captions["b.mp4"][0] == ("as Windows writes it",) and captions["c.mp4"][0] == ("any ending",)
    assert captions.get("a.mp4", ((), "none")) == ((), "none") and book.problems == ()
    assert captions["o\u0308.mp4"][0] == ("composed",) and captions["e\u0301te\u0301.mp4"][0] == ("summer",)


def test_a_caption_with_commas_and_no_quotes_is_whole(captioned):
    lines = ["file, caption,,", "one.mp4,a red balloon, high above the sea", 'two.mp4, "a, b"', "three.mp4,dusk,,", ""]
    (captioned / "captions.csv").write_text("\n".join(lines))
    book, captions = words(captioned)
    assert captions["one.mp4"][0] == ("a red balloon, high above the sea",)
    assert captions["two.mp4"][0] == ("a, b",) and captions["three.mp4"][0] == ("dusk",)
    assert book.problems == () and book.refused == ()


def test_a_line_whose_commas_say_nothing_is_named(captioned):
    (captioned / "captions.csv").write_text("caption,file\na balloon, high above,one.mp4\ncalm,two.mp4\n")
    book, captions = words(captioned)
    assert captions["one.mp4"][0] == () and captions["two.mp4"][0] == ("calm",)
    (problem,) = book.problems
    assert (
        problem.file == "captions.csv" and "captions.csv, line 2, has 3 values; expected at most 2" in problem.sentence
    )


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('one.mp4,first\ntwo.mp4,"never closed\nthree.mp4,third\n', 3),  # to the end of the file
        ('one.mp4,"a red sky\ntwo.mp4,a blue sky\nthree.mp4,"a green sky\n', 2),  # to where the next one opens
        ('one.mp4,first\ntwo.mp4,"open\nthree.mp4,close"\n', 3),  # closed, but a row too late
        ('one.mp4,first\ntwo,"open\nthree,close"\n', 3),
    ],
)
def test_a_quote_that_is_not_closed_takes_in_no_rows(captioned, rows, line):
    (captioned / "captions.csv").write_text("file,caption\n" + rows)
    book, captions = words(captioned)
    (refused,) = book.refused
    assert f"{captioned / 'captions.csv'}, line {line}, opens a quote that runs" in refused.sentence
    assert not any("mp4" in wording for wordings, _ in captions.values() for wording in wordings)


def test_odd_quotes_within_a_line_and_captions_of_several_lines_are_read(captioned):
    rows = 'one.mp4,"Boat" at sea\ntwo.mp4,"first line\nsecond, line"\nthree.mp4,6" of "rain'
    (captioned / "captions.csv").write_text("file,caption\n" + rows)
    book, captions = words(captioned)
    assert captions["one.mp4"][0] == ("Boat at sea",) and captions["two.mp4"][0] == ("first line second, line",)
    assert captions["three.mp4"][0] == ('6" of "rain',) and book.problems == () and book.refused == ()


def test_an_absolute_path_on_another_drive_is_no_clip_of_the_folder(captioned, monkeypatch):
    def relpath(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")  # as Windows does

    monkeypatch.setattr("os.path.relpath", relpath)
    (captioned / "captions.csv").write_text("file,caption\n/films/one.mp4,elsewhere\n")
    (problem,) = words(captioned)[0].problems
    assert "names '/films/one.mp4'; expected one of the clips" in problem.sentence


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("captions.csv", b"clip,title\none.mp4,hello\n", ["clip, title", "file_name", "caption, text, prompt"]),
        ("captions.csv", b"file,title\none.mp4,hello\n", ["file, title", "one for the words"]),
        ("metadata.csv", "file,caption\none.mp4,café\n".encode("latin-1"), ["UTF-8", "0xe9", "line 2"]),
        ("metadata.csv", "file,caption\none.mp4,x\n".encode("utf-16"), ["UTF-16", "expected"]),
        ("captions.csv", b"", ["none", "one for the clip"]),
        ("x.jsonl", b'{"clip": "one.mp4"}\n', ["line 1", "columns clip"]),
        ("x.jsonl", b"not json\n", ["line 1", "no JSON object"]),
        ("one.txt", "café".encode("latin-1"), ["one.txt", "0xe9"]),
    ],
)
def test_caption_files_that_cannot_be_used_are_refused(captioned, name, data, expected):
    (captioned / name).write_bytes(data)
    book, _ = words(captioned)
    with pytest.raises(DataError) as error:
        book.require()
    assert str(captioned / name) in str(error.value)
    for word in expected:
        assert word in str(error.value)


def test_a_file_that_vanishes_after_the_scan_is_named(tmp_path):
    film(tmp_path / "a.mp4")
    clip = scan(tmp_path).clips[0]
    clip.path.unlink()
    with pytest.raises(MediaError, match=r"a\.mp4 does not exist"):
        next(ClipSource(clip).frames())
