"""Reading videos: parts, rates, matrices, rotation, and files that are no video."""

from __future__ import annotations

import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from sora_dit.dit_core.errors import MediaError
from sora_dit.dit_core.media import read_metadata, read_video, write_video

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "clips"


def numbered(count=17, height=32, width=48):
    """Frame i has brightness i / count and a bright left half."""
    frames = torch.zeros(count, height, width, 3) + (torch.arange(count) / count)[:, None, None, None]
    frames[:, :, : width // 2] += 1 / count / 2
    return frames


def numbers(clip, count=17):
    return (clip.frames[:, :, -8:].mean((1, 2, 3)) * count).round().int().tolist()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    rate = 8000
    ramp = torch.linspace(-1, 1, 17 * 1000)[None]  # the sound tells the time: 1000 samples per frame
    write_video(path, numbered(), 8, quality="best", audio={"waveform": ramp, "sample_rate": rate})
    return path


@pytest.mark.parametrize(
    ("options", "expected", "fps"),
    [
        ({}, range(17), 8),
        ({"start": 5}, range(5, 17), 8),
        ({"max_frames": 4}, range(4), 8),
        ({"start": 3, "max_frames": 4, "every": 2}, [3, 5, 7, 9], 4),
        ({"every": 5}, [0, 5, 10, 15], Fraction(8, 5)),
        ({"start": 16, "max_frames": 9}, [16], 8),
        ({"fps": 16, "max_frames": 6}, [0, 0, 1, 1, 2, 2], 16),
        ({"fps": 4}, range(0, 17, 2), 4),
        ({"fps": 4, "start": 2, "every": 2}, [4, 8, 12, 16], 2),
        ({"fps": 12.0, "max_frames": 6}, [0, 0, 1, 2, 2, 3], 12),
    ],
)
def test_parts_and_rates(film, options, expected, fps):
    clip = read_video(film, **options)
    assert numbers(clip) == list(expected) and clip.fps == fps
    assert clip.notes == () and float(clip.frames.max()) <= 1.0


def test_sound_goes_with_the_pictures(film):
    clip = read_video(film, start=5, max_frames=8)
    sound = clip.audio["waveform"]
    assert sound.shape == (1, 1, 8000) and clip.audio["sample_rate"] == 8000
    expected = torch.linspace(-1, 1, 17_000)[5000:13_000]
    assert (sound[0, 0] - expected)[200:-200].abs().max() < 0.05


def test_progress_and_cancel(film):
    seen = []
    read_video(film, max_frames=3, on_frame=seen.append)
    assert seen == [1, 2, 3]

    def stop(_count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_video(film, on_frame=stop)


def encode(path, array, pixel_format, colorspace=None, color_range=None, codec="ffv1", rate=8):
    """A file with the given raw pictures, tagged as told."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = array[0].shape[0] * 2 // 3, array[0].shape[1]
        stream.pix_fmt = pixel_format
        for name, value in (("colorspace", colorspace), ("color_range", color_range)):
            if value is not None:
                setattr(stream.codec_context, name, value)
        for picture in array:
            frame = av.VideoFrame.from_ndarray(picture, format=pixel_format)
            if colorspace is not None:
                frame.colorspace = colorspace
            if color_range is not None:
                frame.color_range = color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("colorspace", "color_range", "height", "weights"),
    [
        (1, 1, 64, (0.2126, 0.0722)),  # tagged BT.709
        (6, 1, 64, (0.299, 0.114)),  # tagged BT.601
        (5, 1, 64, (0.299, 0.114)),  # tagged BT.601 of PAL
        (None, None, 64, (0.299, 0.114)),  # not tagged, small: BT.601
        (None, None, 720, (0.2126, 0.0722)),  # not tagged, large: BT.709
        (1, 2, 64, (0.2126, 0.0722)),  # full range
    ],
)
def test_the_matrix_that_the_file_names_is_used(tmp_path, colorspace, color_range, height, weights):
    luma, blue, red = 120, 90, 180
    planes = np.concatenate([np.full(height * 64 // part, value) for part, value in ((1, luma), (4, blue), (4, red))])
    encode(tmp_path / "x.mkv", [planes.astype(np.uint8).reshape(-1, 64)] * 2, "yuv420p", colorspace, color_range)
    y, cb, cr = (luma - 16) / 219, (blue - 128) / 224, (red - 128) / 224
    if color_range == 2:
        y, cb, cr = luma / 255, (blue - 128) / 255, (red - 128) / 255
    r, b = y + 2 * (1 - weights[0]) * cr, y + 2 * (1 - weights[1]) * cb
    expected = torch.tensor([r, (y - weights[0] * r - weights[1] * b) / (1 - sum(weights)), b])
    assert (read_video(tmp_path / "x.mkv").frames[1, 8, 8] - expected).abs().max() < 2.5 / 255


def test_sixteen_bits_are_not_cut_to_eight(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64, 1).repeat(3, 2)
    with av.open(str(tmp_path / "deep.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv444p16le"
        frame = av.VideoFrame.from_ndarray(ramp, format="rgb48le").reformat(format="yuv444p16le")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = read_video(tmp_path / "deep.mkv")
    assert len(clip.frames.unique()) > 2000
    assert (clip.frames[0, ..., 1] - torch.from_numpy(ramp[..., 1] / 65535)).abs().max() < 0.01


def test_a_phone_held_upright(tmp_path):
    path = tmp_path / "phone.mp4"
    frames = torch.zeros(2, 32, 64, 3)
    frames[:, :16, :, 0] = 1  # the upper half is red
    write_video(path, frames, 8)
    data = path.read_bytes()
    one = (1 << 16).to_bytes(4, "big")
    identity = one + bytes(12) + one + bytes(12) + (1 << 30).to_bytes(4, "big")
    quarter = bytes(4) + one + bytes(4) + (-(1 << 16)).to_bytes(4, "big", signed=True) + bytes(16) + identity[-4:]
    place = data.index(identity, data.index(b"tkhd"))
    path.write_bytes(data[:place] + quarter + data[place + 36 :])
    clip = read_video(path).frames
    assert clip.shape == (2, 64, 32, 3)
    assert clip[0, :, 20:, 0].mean() > 0.9 and clip[0, :, :12, 0].mean() < 0.1  # a quarter turn clockwise


def test_a_gif_whose_pictures_last_differently(tmp_path):
    from PIL import Image

    pictures = [Image.new("RGB", (8, 8), (value, value, value)) for value in (0, 100, 200)]
    pictures[0].save(tmp_path / "x.gif", save_all=True, append_images=pictures[1:], duration=[100, 300, 100])
    clip = read_video(tmp_path / "x.gif")
    assert (clip.frames[:, 0, 0, 0] * 255).round().tolist() == [0, 100, 100, 100, 200] and clip.fps == 10
    assert clip.audio is None and clip.notes == (
        "The pictures are shown for different times; they were read at 10 frames per second.",
    )


def not_a_video(folder: Path, what: str) -> Path:
    path = folder / "x.mp4"
    if what == "folder":
        path.mkdir()
    elif what == "sound":
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(8000))
    elif what == "picture":
        from PIL import Image

        Image.new("RGB", (8, 8)).save(path, format="PNG")
    elif what == "cut before the pictures":
        write_video(path, numbered(), 8)
        data = path.read_bytes()
        path.write_bytes(data[: data.index(b"mdat") + 20])
    elif what == "cut in the header":
        write_video(path, numbered(), 8)
        path.write_bytes(path.read_bytes()[:300])
    elif what == "broken GIF":
        path.write_bytes(b"GIF89a\x08\x00\x08\x00" + bytes(3))
    elif what != "missing":
        path.write_bytes({"empty": b"", "text": b"hello\n" * 99, "noise": os.urandom(4000)}[what])
    return path


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", ["does not exist", "expected a video file"]),
        ("folder", ["is a folder", "expected a video file"]),
        ("empty", ["is empty (0 bytes)", "expected a video file"]),
        ("text", ["cannot be read as a video", "damaged, or not a video file"]),
        ("noise", ["cannot be read as a video"]),
        ("sound", ["has sound but no picture"]),
        ("picture", ["is a picture (png), not a video"]),
        ("cut before the pictures", ["cannot be read as a video", "damaged"]),
        ("cut in the header", ["holds no picture, or is damaged", "expected a video file"]),
        ("broken GIF", ["cannot be read as a video"]),
    ],
)
def test_files_that_are_no_video(tmp_path, what, words):
    path = not_a_video(tmp_path, what)
    with pytest.raises(MediaError) as caught:
        read_video(path)
    assert all(word in str(caught.value) for word in [str(path), *words]), str(caught.value)


def test_a_video_cut_in_the_middle_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "x.mp4"
    noise = torch.rand(17, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    write_video(path, noise, 8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = read_video(path)
    assert 0 < len(clip.frames) < 16
    assert clip.notes == (f"The file announces 17 frames, but {len(clip.frames)} could be read: it may be cut short.",)


@pytest.mark.parametrize(("name", "codec"), [("x.webm", "vp9"), ("x.mkv", "h264")])
def test_a_matroska_cut_in_the_middle_is_told_by_its_length(tmp_path, name, codec):
    noise = torch.rand(24, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / name, noise, 8, codec=codec)
    assert read_video(tmp_path / name).notes == ()
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[: (tmp_path / name).stat().st_size // 2])
    clip = read_video(tmp_path / name)
    (note,) = clip.notes
    assert 0 < len(clip.frames) < 20 and note.startswith(f"The file announces 3.0 s, but the {len(clip.frames)} frames")
    assert note.endswith("it may be cut short.")
    assert read_video(tmp_path / name, max_frames=3).notes == (), "the end was not looked at"


@pytest.mark.parametrize("times", [[0, 125, 250, 375], [0, 40, 80, 1000, 1040], [0], [700, 825, 950]])
@pytest.mark.parametrize("with_sound", [True, False])
def test_a_whole_matroska_is_not_called_damaged(tmp_path, times, with_sound):
    """Variable frame rates, a late start, one picture for all of it, and sound that goes on after the pictures."""
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        sound = container.add_stream("pcm_s16le", rate=8000) if with_sound else None
        for time in times:
            frame = av.VideoFrame(32, 32, "bgr0")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if with_sound:
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 5), np.int16), format="s16", layout="mono")
            tone.sample_rate = 8000
            container.mux(sound.encode(tone))
            container.mux(sound.encode(None))
    clip = read_video(tmp_path / "x.mkv")
    assert clip.notes == () and len(clip.frames) == len(times)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 17}, ["has 17 frames", "wanted is 17", "below 17"]),
        ({"start": -1}, ["start is -1", "at least 0"]),
        ({"every": 0}, ["every is 0", "at least 1"]),
        ({"max_frames": 2.5}, ["max_frames is 2.5", "whole number"]),
        ({"fps": -3}, ["frame rate is -3", "0.01 to 1000"]),
    ],
)
def test_parts_that_cannot_be_had(film, options, words):
    with pytest.raises(MediaError) as caught:
        read_video(film, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_texts_of_comfyui_webp(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = 'prompt:{"1": {}}', 'workflow:{"nodes": []}'
    Image.new("RGB", (8, 8)).save(tmp_path / "x.webp", exif=exif)
    assert read_metadata(tmp_path / "x.webp") == {"prompt": '{"1": {}}', "workflow": '{"nodes": []}'}
    with pytest.raises(MediaError, match="nothing.mp4 does not exist"):
        read_metadata(tmp_path / "nothing.mp4")


@pytest.mark.parametrize(("name", "size"), [("nasa_13013", (180, 320)), ("cockatoo", (720, 1280))])
def test_clips_from_the_world(tmp_path, name, size):
    source = CLIPS / f"{name}.mp4"
    if not source.exists():
        pytest.skip("no sample clips on this machine")
    clip = read_video(source, start=80, max_frames=4)
    assert clip.frames.shape == (4, *size, 3) and clip.frames.std() > 0.05 and clip.fps in (20, 25)
    seconds = 4 / clip.fps
    assert clip.audio["waveform"].shape[-1] == round(seconds * clip.audio["sample_rate"])
    write_video(tmp_path / "again.mp4", clip.frames, clip.fps, audio=clip.audio)
    again = read_video(tmp_path / "again.mp4")
    assert -10 * torch.log10((again.frames - clip.frames).square().mean()) > 36 and again.fps == clip.fps
