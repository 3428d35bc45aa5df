"""Files that are whole but unusual: trimmed without encoding anew, odd sound, odd pixels, many texts."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from sora_dit.dit_core.checkpoint import read_safetensors_header
from sora_dit.dit_core.data import analyse, scan
from sora_dit.dit_core.errors import CheckpointError, DataError, MediaError
from sora_dit.dit_core.media import VideoStream, read_video, write_video

SOUND = {"waveform": torch.sin(torch.arange(16_000) / 9)[None] / 2, "sample_rate": 8000}


def moving(count=48, height=64, width=64):
    """A bright bar that goes on by two pixels a frame."""
    frames = torch.zeros(count, height, width, 3)
    for index, frame in enumerate(frames):
        frame[:, index * 2 % width :][:, :8] = 1
    return frames


def test_a_film_trimmed_without_encoding_anew_is_whole(tmp_path):
    write_video(tmp_path / "whole.mp4", moving(), 24)
    (tmp_path / "cut").mkdir()
    # as ffmpeg -ss 0.5 -c copy: all packets from the key frame on stay, an edit list hides the first half second
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(tmp_path / "cut/trimmed.mp4"), "w") as trimmed:
        stream = whole.streams.video[0]
        target = trimmed.add_stream_from_template(stream)
        hidden = int(Fraction(1, 2) / stream.time_base)
        for packet in whole.demux(stream):
            if packet.dts is not None:
                packet.stream = target
                packet.pts, packet.dts = packet.pts - hidden, packet.dts - hidden
                trimmed.mux(packet)
    film = VideoStream(tmp_path / "cut/trimmed.mp4")
    assert sum(1 for _ in film.frames()) == 36 and film.damage is None
    assert analyse(scan(tmp_path / "cut").clips[0]).frames == 36


def test_pictures_are_read_where_the_sound_has_no_decoder(tmp_path):
    write_video(tmp_path / "a.mkv", moving(), 24, audio=SOUND, codec="h264")
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "unknown.mkv").write_bytes(data.replace(b"A_OPUS", b"A_XPUS"))
    clip = read_video(tmp_path / "unknown.mkv")
    assert len(clip.frames) == 48 and clip.audio is None


def test_a_damaged_piece_of_sound_is_silence(tmp_path):
    write_video(tmp_path / "a.mp4", moving(), 24, audio=SOUND)
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [p for p in container.demux(container.streams.audio[0]) if p.size]
        broken = packets[len(packets) // 2]
        place, size = broken.pos, broken.size
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    data[place : place + size] = b"\xff" * size
    (tmp_path / "a.mp4").write_bytes(data)
    clip = read_video(tmp_path / "a.mp4")
    assert len(clip.frames) == 48
    wave = clip.audio["waveform"][0, 0]
    assert len(wave) == 16_000 and wave[2000:4000].std() > 0.2 and wave[-3000:-1500].std() > 0.2


@pytest.mark.parametrize(("shape", "size"), [("64/45", (112, 205)), ("1/2", (224, 144)), ("1000/999", (112, 144))])
def test_pixels_that_are_not_square_are_stretched_as_players_do(tmp_path, shape, size):
    with av.open(str(tmp_path / "dv.mp4"), "w") as container:
        stream = container.add_stream("h264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 144, 112, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(shape)
        picture = np.zeros((112, 144, 3), np.uint8)
        picture[:, 72:] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    clip, header = read_video(tmp_path / "dv.mp4"), VideoStream(tmp_path / "dv.mp4").header()
    assert clip.frames.shape[1:3] == size == (header.height, header.width)
    assert clip.frames[0, :, : size[1] // 2 - 4].max() < 0.1 and clip.frames[0, :, size[1] // 2 + 4 :].min() > 0.9
    assert ("not square" in " ".join(clip.notes)) == (size != (112, 144))
    assert read_video(tmp_path / "dv.mp4", plain=True).frames.shape[1:3] == (112, 144)


def test_a_webp_holds_many_texts(tmp_path):
    texts = {"prompt": "{}"} | {f"key{k}": f"Wörter {k}" for k in range(20)}
    write_video(tmp_path / "a.webp", moving(3), 24, metadata=texts)
    assert read_video(tmp_path / "a.webp").metadata == texts


@pytest.mark.parametrize("fps", [24, 50, 60, 90])
def test_a_gif_is_read_at_the_rate_it_was_written_at(tmp_path, fps):
    write_video(tmp_path / "a.gif", moving(60, 32, 32), fps)
    clip = read_video(tmp_path / "a.gif")
    assert len(clip.frames) == 60 and abs(clip.fps - fps) < 1
    assert not any("different times" in note for note in clip.notes)


def test_a_name_too_long_is_said(tmp_path):
    with pytest.raises(MediaError, match="the name is too long"):
        write_video(tmp_path / f"{'x' * 300}.mp4", moving(2), 8)
    with pytest.raises(DataError, match="the name is too long"):
        scan(tmp_path / ("x" * 300))
    with pytest.raises(CheckpointError, match="the name is too long"):
        read_safetensors_header(tmp_path / f"{'x' * 300}.safetensors")
