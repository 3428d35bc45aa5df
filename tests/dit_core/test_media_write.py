"""Writing videos: colours, rates, sound and texts survive; a file appears whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from sora_dit.dit_core.errors import Cancelled, MediaError
from sora_dit.dit_core.media import CODECS, CONTAINERS, QUALITIES, probe_codec, read_metadata, read_video, write_video

PAIRS = [(name, codec) for name, container in CONTAINERS.items() for codec in container.codecs]
CORNERS = [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
COLOURS = torch.tensor([*CORNERS, [0.9, 0.5, 0.1], [0.2, 0.4, 0.8], [0.5, 0.5, 0.5]])
SKY = torch.linspace(0, 1, 64)[:, None, None] * torch.tensor([0.3, 0.5, 0.9]) + torch.zeros(64, 96, 3)


def moving(frames=9, height=64, width=96):
    """A gradient that drifts by two pixels a frame."""
    x = torch.arange(width + 2 * frames) * 6.28 / 48
    wave = torch.stack([0.5 + 0.4 * torch.sin(x + phase) for phase in (0.0, 1.0, 2.0)], -1)
    return torch.stack([wave[2 * i : 2 * i + width].expand(height, width, 3) for i in range(frames)])


def tone(seconds=1.0, rate=48_000, channels=2):
    wave = 0.5 * torch.sin(torch.arange(int(seconds * rate)) / rate * 440 * 6.283185)
    return {"waveform": wave.expand(1, channels, -1), "sample_rate": rate}


@pytest.mark.parametrize(("extension", "codec"), PAIRS)
def test_flat_colours_come_back(tmp_path, extension, codec):
    frames = COLOURS[:, None, None].expand(-1, 64, 64, 3)
    path = tmp_path / f"colours.{extension}"
    result = write_video(path, frames, 8, codec=codec, quality="best")
    clip = read_video(path)
    assert (result.width, result.height, result.frames) == (64, 64, 9)
    assert clip.frames.shape == frames.shape and clip.frames.dtype == torch.float32 and clip.fps == 8
    assert (clip.frames - frames).abs().max() <= 3 / 255
    assert result.notes == ("All 9 frames are one flat colour (the first is frame 0): the picture may be wrong.",)


@pytest.mark.parametrize(("extension", "codec"), PAIRS)
def test_pictures_and_texts_come_back(tmp_path, extension, codec):
    frames, texts = moving(), {"prompt": '{"1": "a 🎈 über dem Meer"}', "workflow": "w" * 5000}
    path = tmp_path / f"clip.{extension}"
    result = write_video(path, frames, 12.5, codec=codec, metadata=texts)
    clip = read_video(path)
    psnr = -10 * torch.log10((clip.frames - frames).square().mean())
    assert psnr > (33 if extension == "gif" else 38) and result.notes == ()
    assert clip.fps == Fraction(25, 2)
    assert {key: clip.metadata[key] for key in texts} == texts == {key: read_metadata(path)[key] for key in texts}


def test_mp4_plays_anywhere(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, moving(), 24, audio=tone())
    data = path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")  # plays while it downloads
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0].codec_context, container.streams.audio[0].codec_context
        assert (video.name, video.pix_fmt, audio.name) == ("h264", "yuv420p", "aac")
        assert (video.color_primaries, video.color_trc, video.colorspace, video.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize("extension", ["mp4", "webm", "mkv"])
@pytest.mark.parametrize("fps", [8, Fraction(24_000, 1001), 29.97, 60, Fraction(7, 3)])
def test_the_frame_rate_is_exact(tmp_path, extension, fps):
    expected = Fraction(30_000, 1001) if fps == 29.97 else Fraction(fps)
    for count in (1, 9):
        write_video(tmp_path / f"x.{extension}", moving(count), fps)
        clip = read_video(tmp_path / f"x.{extension}")
        assert len(clip.frames) == count
        if count > 1 or extension != "webm" or fps != Fraction(7, 3):  # one time stamp in milliseconds says little
            assert clip.fps == expected


@pytest.mark.parametrize("extension", ["mp4", "webm", "mkv", "mov"])
@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (44_100, 1), (11_111, 2), (96_000, 6)])
def test_sound_comes_back_in_time(tmp_path, extension, rate, channels):
    path = tmp_path / f"sound.{extension}"
    result = write_video(path, moving(8), 8, audio=tone(1.0, rate, channels))
    audio = read_video(path).audio
    wave, got = audio["waveform"], audio["sample_rate"]
    assert wave.shape == (1, channels, got) and result.notes == ()
    expected = tone(1.0, got, channels)["waveform"]
    middle = slice(got // 10, -got // 10)
    if channels == 6:  # the fourth channel of 5.1 holds low notes only
        wave, expected = wave[:, :2], expected[:, :2]
    assert (wave - expected)[..., middle].abs().max() < 0.05


def test_sound_is_cut_with_the_pictures(tmp_path):
    result = write_video(tmp_path / "x.mp4", moving(4), 8, audio=tone(2.0))
    assert result.notes == ("The audio is 2.00 s long and the video 0.50 s: the audio was cut there.",)
    assert read_video(tmp_path / "x.mp4").audio["waveform"].shape[-1] == 24_000


def test_frames_stream_and_groups_may_differ(tmp_path):
    held, frames = [], moving(9)

    def source():
        for part in (frames[:1], frames[1:6], frames[6], frames[7:].numpy()):
            held.append(os.listdir(tmp_path))
            yield part

    result = write_video(tmp_path / "x.mkv", source(), 8, codec="ffv1")
    assert result.frames == 9 and (read_video(tmp_path / "x.mkv").frames - frames).abs().max() < 0.51 / 255
    # Nothing is made before the first frame; then it is being written while frames come, under another name.
    assert held[0] == [] and held[2] == held[3] and held[3][0].endswith(".part")


def test_alpha_grey_whole_numbers_and_values_out_of_range(tmp_path):
    path, rgb = tmp_path / "x.mkv", moving(3)
    result = write_video(path, torch.cat([rgb, torch.zeros(3, 64, 96, 1)], -1), 8, codec="ffv1")
    assert result.notes == ("The frames have an alpha channel; it was dropped.",)
    assert (read_video(path).frames - rgb).abs().max() <= 0.51 / 255
    write_video(path, (rgb * 255).round().to(torch.uint8), 8, codec="ffv1")
    assert (read_video(path).frames - rgb).abs().max() <= 0.51 / 255
    write_video(path, rgb[..., :1], 8, codec="ffv1")
    assert (read_video(path).frames - rgb[..., :1]).abs().max() <= 0.51 / 255
    write_video(path, rgb * 3 - 1, 8, codec="ffv1")
    assert (read_video(path).frames - (rgb * 3 - 1).clamp(0, 1)).abs().max() <= 0.51 / 255


@pytest.mark.parametrize("extension", ["mp4", "webm", "gif"])
@pytest.mark.parametrize("size", [(65, 97), (64, 97), (33, 64)])
def test_odd_sizes_repeat_the_edge(tmp_path, extension, size):
    height, width = size
    frames = moving(2, height, width)
    result = write_video(tmp_path / f"x.{extension}", frames, 8)
    clip = read_video(tmp_path / f"x.{extension}").frames
    even = extension != "gif"
    full = (height + height % 2, width + width % 2) if even else size
    assert (result.height, result.width) == clip.shape[1:3] == full
    assert (clip[:, :height, :width] - frames).abs().mean() < 0.03
    assert (clip[:, -1, -1] - frames[:, -1, -1]).abs().max() < 0.1
    notes = (
        f"The size {width}x{height} is odd, which this codec cannot hold: the edge was repeated to "
        f"{full[1]}x{full[0]}.",
    )
    assert result.notes == (notes if even else ())


def test_quality_matters(tmp_path):
    noise = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    for codec in ("h264", "vp9", "webp"):
        extension = next(name for name, container in CONTAINERS.items() if codec in container.codecs)
        sizes = []
        for quality in (*QUALITIES, CODECS[codec].scale[0]):
            write_video(tmp_path / f"x.{extension}", noise, 8, codec=codec, quality=quality)
            sizes.append((tmp_path / f"x.{extension}").stat().st_size)
        assert sizes == sorted(sizes) and sizes[0] < sizes[3]


def test_flat_frames_are_told():
    from sora_dit.dit_core.media.frames import FrameFeed

    frames = moving(4)
    frames[2] = 0.25
    feed = FrameFeed(frames, even=True)
    assert len(list(feed)) == 4
    assert feed.notes() == ["1 of 4 frames is one flat colour (the first is frame 2): the picture may be wrong."]


def bad_frame(value):
    frames = moving(9)
    frames[7, 3, 5, 1] = value
    return [frames[:5], frames[5:]]


def never(number):
    raise AssertionError("a frame was asked for")


REFUSED = {
    "no frames": (dict(frames=[]), ["x.mp4 cannot be written", "no frames", "at least one"]),
    "NaN": (dict(frames=bad_frame(float("nan"))), ["Frame 7 of the video", "NaN or infinite", "0 to 1"]),
    "infinite": (dict(frames=bad_frame(float("-inf"))), ["Frame 7 of the video", "NaN or infinite"]),
    "sizes differ": (dict(frames=[SKY, SKY[:10]]), ["Frame 1 of the video is 96x10", "96x64 as frame 0"]),
    "size 0": (dict(frames=[SKY[:0]]), ["Frame 0 of the video is 96x0", "at least 1x1"]),
    "channels": (dict(frames=[torch.rand(8, 8, 2)]), ["Frame 0", "[8, 8, 2]", "[height, width, 3]"]),
    "not a frame": (dict(frames=[SKY, "sky"]), ["Frame 1", "str", "[height, width, 3]"]),
    "too wide": (dict(frames=torch.rand(1, 2, 20_000, 3)), ["x.mp4", "H.264", "20000x2", "another size"]),
    "small": (dict(frames=torch.rand(1, 8, 40, 3), codec="hevc"), ["H.265 takes", "at least 16x16 pixels; got 40x8"]),
    "one wide": (dict(frames=torch.rand(1, 64, 1, 3), codec="av1"), ["AV1 takes", "at least 4x4 pixels; got 1x64"]),
    "fast": (dict(frames=map(never, [0]), codec="av1", fps=1000), ["AV1 takes at most 240 frames", "got 1000"]),
    "extension": (dict(path="x.avi"), ["'avi'", "mp4, mov, webm"]),
    "no extension": (dict(path="x"), ["''", "mp4, mov, webm"]),
    "codec": (dict(codec="divx"), ["'divx'", "h264, hevc, av1"]),
    "pair": (dict(path="x.webm", codec="h264"), ["WebM cannot hold H.264", "vp9, av1"]),
    "quality name": (dict(quality="great"), ["'great'", "low, medium, high, best"]),
    "quality number": (dict(quality=52), ["52", "H.264", "0 (best) to 51 (worst)"]),
    "quality fraction": (dict(quality=18.5), ["18.5", "whole number"]),
    "fps 0": (dict(fps=0), ["frame rate is 0", "0.01 to 1000"]),
    "fps NaN": (dict(fps=float("nan")), ["frame rate is nan", "0.01 to 1000"]),
    "fps text": (dict(fps="24"), ["frame rate is '24'", "0.01 to 1000"]),
    "fps huge": (dict(fps=1e9), ["1000000000.0", "0.01 to 1000"]),
    "no folder": (dict(path="no/x.mp4"), ["x.mp4 cannot be written", "does not exist"]),
    "file as folder": (dict(path="file/x.mp4"), ["x.mp4 cannot be written", "is a file, not a folder"]),
    "folder": (dict(path="folder.mp4"), ["folder.mp4 cannot be written", "it is a folder"]),
    "silent kind": (dict(path="x.gif", audio=tone()), ["animated GIF cannot hold sound", "mp4, mov, webm, mkv"]),
    "channels of sound": (dict(audio=tone(channels=3)), ["[1, 3, 48000]", "1, 2, 6 channels"]),
    "no samples": (dict(audio=tone(0.0)), ["[1, 2, 0]", "at least one sample"]),
    "sound NaN": (dict(audio={"waveform": torch.zeros(1, 1, 9) / 0, "sample_rate": 8000}), ["NaN", "-1 to 1"]),
    "sample rate": (dict(audio={"waveform": torch.zeros(1, 1, 9), "sample_rate": 3}), ["sample_rate is 3", "Hz"]),
    "sound is a list": (dict(audio=[1]), ["audio is list", "waveform and sample_rate"]),
    "metadata": (dict(metadata={"prompt": 3}), ["'prompt'", "int", "text"]),
    "metadata zero byte": (dict(metadata={"a": "b\0c"}), ["'a'", "zero bytes"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path, name):
    changes, words = REFUSED[name]
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    before = sorted(os.listdir(tmp_path))
    call = {"path": "x.mp4", "frames": moving(2), "fps": 8, **changes}
    call["path"] = tmp_path / call["path"]
    with pytest.raises(MediaError) as caught:
        write_video(**call)
    message = str(caught.value)
    assert all(word in message for word in words) and message.endswith("."), message
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("extension", ["mp4", "webm", "gif"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Cancelled("stop"), OSError(5, "a disk elsewhere")])
def test_an_interrupted_video_leaves_nothing_and_keeps_the_old_file(tmp_path, extension, error):
    path = tmp_path / f"x.{extension}"
    path.write_bytes(b"the old file")

    def source():
        yield from moving(5)
        raise error

    with pytest.raises(type(error)) as caught:
        write_video(path, source(), 8)
    assert caught.value is error  # what the frames' maker raises is not ours to reword
    assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == b"the old file"


FULL_DISK = """
import os, resource, sys, torch
from sora_dit.dit_core.media import write_video
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
torch.manual_seed(0)
for name in sys.argv[2:]:
    try:
        write_video(os.path.join(sys.argv[1], name), torch.rand(24, 96, 96, 3), 8)
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit to set")
def test_a_disk_that_fills_up(tmp_path):
    names = ["x.mp4", "x.webm", "x.mkv", "x.gif", "x.webp"]
    ran = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path), *names], capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    assert len(lines) == len(names), ran
    for line, name in zip(lines, names, strict=True):
        assert line.startswith(f"MediaError {tmp_path / name} cannot be written: the file would be larger than")
    assert os.listdir(tmp_path) == []


def test_a_read_only_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(MediaError) as caught:
        write_video(tmp_path / "x.mp4", moving(2), 8)
    assert f"{tmp_path / 'x.mp4'} cannot be written: the folder {tmp_path} is read-only" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_missing_encoder_is_told_before_anything_is_rendered(tmp_path, monkeypatch):
    def missing(name, mode):
        raise ValueError(name)

    monkeypatch.setattr(av.codec, "Codec", missing)

    def never():
        raise AssertionError("a frame was asked for")
        yield

    for extension, encoder in (("mp4", "libx264"), ("webm", "libvpx-vp9")):
        with pytest.raises(MediaError) as caught:
            write_video(tmp_path / f"x.{extension}", never(), 8)
        assert encoder in str(caught.value) and "pip install av" in str(caught.value)
    assert probe_codec("gif").encoder == "pillow"


def test_every_codec_of_the_table_is_there():
    for extension, codec in PAIRS:
        assert probe_codec(extension, codec, audio=CONTAINERS[extension].audio is not None) is CODECS[codec]


def test_luma_and_chroma_are_those_of_the_standard():
    from sora_dit.dit_core.media.frames import to_yuv420

    primaries = torch.eye(3)[:, None, None].expand(3, 2, 2, 3)
    got = np.stack([to_yuv420(frame).reshape(-1)[[0, 4, 5]] for frame in primaries])
    assert got.tolist() == [[63, 102, 240], [173, 42, 26], [32, 240, 118]]  # 100 % red, green, blue in BT.709, 8 bits


def test_the_same_frames_give_the_same_file(tmp_path):
    generator = torch.Generator().manual_seed(4)
    cells = torch.rand(5, 8, 8, 3, generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    frames = torch.cat([cells[k : k + 1] + 0.02 * torch.rand(4, 64, 64, 3, generator=generator) for k in range(5)])
    files, litter = [], []
    for number in range(6):
        litter.append(torch.rand(10_000 + 9_999 * number))  # other memory each time
        write_video(tmp_path / f"{number}.mp4", [frames.clamp(0, 1)], fps=8)
        files.append((tmp_path / f"{number}.mp4").read_bytes())
    assert len(set(files)) == 1
