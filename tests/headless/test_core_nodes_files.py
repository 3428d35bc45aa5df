"""The stand-ins for core nodes that write files: what is in them, how they are called, nothing by halves."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from sora_dit.dit_core.checkpoint import atomic
from sora_dit.dit_core.media import read_metadata, write_video
from sora_dit.headless.problems import WorkflowError
from sora_dit.headless.run_errors import RunError


def clip(frames=5, height=32, width=48):
    """Smooth frames `[F, H, W, 3]`, each another grey on the left."""
    x = torch.linspace(0, 1, width).expand(frames, height, width)
    t = torch.linspace(0, 1, frames)[:, None, None].expand_as(x)
    return torch.stack([x, t, 1 - x], -1)


def tone(seconds=0.5, rate=8000, channels=1):
    wave = torch.sin(torch.arange(int(seconds * rate)) * (2 * torch.pi * 440 / rate)) * 0.5
    return {"waveform": wave.expand(1, channels, -1), "sample_rate": rate}


# --- names and texts ---


def test_names_count_on_across_batches_and_kinds(core):
    save = {"filename_prefix": "f"}
    assert core.saved(SaveImage={"images": clip(2), **save}) == ["f_00001_.png", "f_00002_.png"]
    assert core.saved(SaveAnimatedWEBP={"images": clip(2), "fps": 6.0, "lossless": True, "quality": 80,
                                        "method": "default", **save}) == ["f_00003_.webp"]  # fmt: skip
    assert core.saved(SaveImage={"images": clip(1), "filename_prefix": "g"}) == ["g_00001_.png"]
    assert core.saved(SaveImage={"images": clip(1), **save}) == ["f_00004_.png"]


def test_names_are_filled_in(core, monkeypatch):
    import time

    moment = time.struct_time((2031, 2, 3, 4, 5, 6, 0, 34, 0))
    monkeypatch.setattr(time, "localtime", lambda *_: moment)
    save = {"filename_prefix": "%date:yyyy-MM-dd_hmm%/%width%x%height% %batch_num%"}
    images = {"images": clip(2, 4, 6)}
    assert core.saved(SaveImage=images | save) == ["2031-02-03_405/6x4 0_00001_.png", "2031-02-03_405/6x4 1_00002_.png"]
    assert core.saved(SaveImage=images | save)[0] == "2031-02-03_405/6x4 0_00003_.png"
    prompt = {
        "1": {"class_type": "EmptyImage", "_meta": {"title": "Blue"},
              "inputs": {"width": 8, "height": 4, "batch_size": 1, "color": 255}},
        "2": {"class_type": "PrimitiveString", "inputs": {"value": "sea: a/b"}},
        "3": {"class_type": "SaveImage", "inputs": {
            "images": ["1", 0], "filename_prefix": "%Blue.width% %PrimitiveString.value% %Nobody.x%"}},
    }  # fmt: skip
    assert core.run(prompt).outputs[0].name == "8 sea_ a_b %Nobody.x%_00001_.png"


def test_two_runs_into_one_folder_lose_nothing(core, monkeypatch):
    """Another run saves under the same names while this one is at work, and this one is stopped: only its own go."""
    from sora_dit.headless.core_nodes import pictures

    theirs, to_picture = [], pictures.to_picture

    def meanwhile(frame, number):
        if number == 3:
            raise KeyboardInterrupt
        if number < 2:
            theirs.append(core.output / f"f_0000{2 * number + 1}_.png")
            theirs[-1].write_bytes(b"theirs")
        return to_picture(frame, number)

    monkeypatch.setattr(pictures, "to_picture", meanwhile)
    assert core.saved(SaveImage={"images": clip(2), "filename_prefix": "f"}) == ["f_00002_.png", "f_00004_.png"]
    with pytest.raises(KeyboardInterrupt):
        core.saved(SaveImage={"images": clip(4), "filename_prefix": "f"})
    names = {path.name for path in core.output.iterdir()}
    assert names == {path.name for path in theirs} | {"f_00002_.png", "f_00004_.png"}
    assert all(path.read_bytes() == b"theirs" for path in theirs)


SAVERS = {
    "SaveImage": {"images": clip(2)},
    "SaveAnimatedWEBP": {"images": clip(2), "fps": 8.0, "lossless": False, "quality": 80, "method": "fastest"},
    "SaveAnimatedPNG": {"images": clip(2), "fps": 8.0, "compress_level": 1},
    "SaveWEBM": {"images": clip(2), "codec": "vp9", "fps": 8.0, "crf": 32.0},
    "SaveLatent": {"samples": {"samples": torch.zeros(1, 4, 1, 2, 2)}},
    "SaveAudio": {"audio": tone()},
}


@pytest.mark.parametrize("node", SAVERS)
def test_a_prefix_that_leads_out_is_refused_before_the_run(core, node):
    with pytest.raises(WorkflowError, match='filename_prefix: .*"../x" leads out of the output folder'):
        core(**{node: SAVERS[node] | {"filename_prefix": "../x"}})
    assert not core.output.exists()


def test_a_rate_that_the_encoder_does_not_take_is_refused_before_the_run(core):
    for codec, fps, said in (("av1", 300.0, "fps: AV1 takes at most 240 frames per second; got 300"),
                             ("vp9", 5000.0, "fps: The frame rate is 5000.0; expected a number from 0.01 to 1000"),
                             ("x", 8.0, "codec: got 'x'; expected one of: vp9, av1")):  # fmt: skip
        with pytest.raises(WorkflowError, match=said):
            core(SaveWEBM={"images": clip(2), "filename_prefix": "a", "codec": codec, "fps": fps, "crf": 32.0})


@pytest.mark.parametrize("node", SAVERS)
def test_nothing_half_written_stays(core, node, monkeypatch):
    """The disk is full when the first, or the second, file is about to get its name."""

    def full(*names):
        left.pop()
        if not left:
            raise OSError(28, "No space left on device")
        return real(*names)

    real = atomic._moved
    monkeypatch.setattr(atomic, "_moved", full)
    for turns in (1, 2) if node == "SaveImage" else (1,):
        left = [None] * turns
        with pytest.raises(RunError, match="the disk is full"):
            core(**{node: SAVERS[node] | {"filename_prefix": "f"}})
        assert core.files() == [] and left == []


def test_pictures_that_are_no_numbers_are_refused(core):
    images = clip(2)
    images[1, 0, 0, 0] = float("nan")
    with pytest.raises(RunError, match="Frame 1 of the images holds NaN or infinite values; expected numbers"):
        core(SaveImage={"images": images, "filename_prefix": "f"})
    with pytest.raises(RunError, match=r"images is a dict; expected images of shape \[frames, height, width, 3\]"):
        core(SaveImage={"images": {}, "filename_prefix": "f"})
    assert core.files() == []


EDITOR = {"version": 0.4, "nodes": [], "links": []}


def run_with_workflow(core, class_type, inputs, given):
    """Run a save node from the body of a /prompt request that brings the editor's file with it."""
    core.give(x=given)
    ((name, _),) = [(key, value) for key, value in inputs.items() if value is None]
    prompt = {"1": {"class_type": "Give", "inputs": {"name": "x"}},
              "2": {"class_type": class_type, "inputs": {**inputs, name: ["1", 0]}}}  # fmt: skip
    result = core.run({"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": EDITOR}}})
    (path,) = result.outputs
    return path, prompt


def check_texts(texts, prompt):
    assert json.loads(texts["prompt"]) == prompt and json.loads(texts["workflow"]) == EDITOR
    assert json.loads(texts["sora_dit"])["nodes"]["1"]["class_type"] == "Give"


def test_png_holds_the_workflow(core):
    path, prompt = run_with_workflow(core, "SaveImage", {"images": None, "filename_prefix": "f"}, clip(1))
    check_texts(Image.open(path).text, prompt)


def test_webp_holds_the_workflow_where_comfyui_looks(core):
    inputs = {"images": None, "filename_prefix": "f", "fps": 8.0, "lossless": True, "quality": 80, "method": "default"}
    path, prompt = run_with_workflow(core, "SaveAnimatedWEBP", inputs, clip(3))
    exif = Image.open(path).getexif()
    assert json.loads(exif[0x0110].removeprefix("prompt:")) == prompt
    assert json.loads(exif[0x010F].removeprefix("workflow:")) == EDITOR


def test_apng_holds_the_workflow_in_its_own_chunks(core):
    inputs = {"images": None, "filename_prefix": "f", "fps": 8.0, "compress_level": 4}
    path, prompt = run_with_workflow(core, "SaveAnimatedPNG", inputs, clip(3))
    data, chunks, place = path.read_bytes(), {}, 8
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind == b"comf":
            key, _, text = data[place + 8 : place + 8 + length].partition(b"\0")
            chunks[key.decode()] = text.decode()
        place += 12 + length
    check_texts(chunks, prompt)


def test_latent_file_has_comfyuis_layout(core):
    samples = torch.randn(1, 4, 2, 3, 5, generator=torch.Generator().manual_seed(1))
    latent = {"samples": samples.transpose(3, 4), "noise_mask": torch.ones(1, 1, 2, 5, 3)}
    path, prompt = run_with_workflow(core, "SaveLatent", {"samples": None, "filename_prefix": "l"}, latent)
    with safe_open(path, "pt") as file:
        assert sorted(file.keys()) == ["latent_format_version_0", "latent_tensor"]
        assert torch.equal(file.get_tensor("latent_tensor"), latent["samples"])
        assert file.get_tensor("latent_format_version_0").shape == (0,)
        check_texts(file.metadata(), prompt)
    assert torch.equal(core(LoadLatent={"latent": "l_00001_.latent [output]"})[0]["samples"], latent["samples"])


def test_an_old_latent_is_rescaled(core):
    save_file({"latent_tensor": torch.full((1, 4, 2, 2), 0.18215).half()}, core.input / "old.latent")
    (latent,) = core(LoadLatent={"latent": "old.latent"})
    assert latent["samples"].dtype == torch.float32 and latent["samples"].mean().item() == pytest.approx(1, abs=1e-3)
    save_file({"weight": torch.zeros(1)}, core.input / "other.latent")
    with pytest.raises(RunError, match="other.latent holds weight; expected the tensor latent_tensor"):
        core(LoadLatent={"latent": "other.latent"})


# --- moving pictures ---


def test_animated_webp_keeps_every_pixel_when_lossless(core):
    how = {"images": clip(4), "filename_prefix": "f", "fps": 8.0, "quality": 80, "method": "default"}
    sizes = {}
    for lossless in (True, False):
        (name,) = core.saved(SaveAnimatedWEBP=how | {"lossless": lossless})
        sizes[lossless] = (core.output / name).stat().st_size
        with Image.open(core.output / name) as file:
            assert (file.n_frames, file.info["loop"]) == (4, 0)
            file.seek(2)
            file.load()
            assert file.info["duration"] == 125
            error = np.abs(np.asarray(file.convert("RGB"), int) - (clip(4)[2].numpy() * 255).astype(int)).max()
        assert error == 0 if lossless else 0 < error < 64
    assert sizes[True] != sizes[False]


def test_animated_png(core):
    (name,) = core.saved(SaveAnimatedPNG={"images": clip(3), "filename_prefix": "f", "fps": 5.0, "compress_level": 9})
    with Image.open(core.output / name) as file:
        assert (file.n_frames, file.info["duration"]) == (3, 200)
        file.seek(1)
        assert np.array_equal(np.asarray(file.convert("RGB")), (clip(3)[1].numpy() * 255).astype(np.uint8))


@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_webm(core, codec):
    (name,) = core.saved(SaveWEBM={"images": clip(5), "filename_prefix": "f", "codec": codec, "fps": 12.0, "crf": 20.0})
    assert name == "f_00001_.webm"
    with av.open(str(core.output / name)) as file:
        stream = file.streams.video[0]
        assert codec in stream.codec_context.name.replace("dav1d", "av1").replace("libdav1d", "av1")
        assert (stream.width, stream.height, stream.average_rate) == (48, 32, 12)
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert len(frames) == 5 and np.abs(frames[4] / 255 - clip(5)[4].numpy()).mean() < 0.03
    assert "prompt" in read_metadata(core.output / name)
    with pytest.raises(WorkflowError, match="codec: got 'h264'; expected one of: vp9, av1"):
        core(SaveWEBM=SAVERS["SaveWEBM"] | {"codec": "h264", "filename_prefix": "f"})


def video_flow(**save):
    return {
        "1": {"class_type": "Give", "inputs": {"name": "images"}},
        "2": {"class_type": "Give", "inputs": {"name": "audio"}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "audio": ["2", 0], "fps": 23.976}},
        "4": {"class_type": "SaveVideo", "inputs": {"video": ["3", 0], "filename_prefix": "v/clip", "format": "auto",
                                                    "codec": "auto"} | save},
    }  # fmt: skip


def test_create_and_save_video(core):
    core.give(images=clip(12), audio=tone(0.5, channels=2))
    result = core.run(video_flow(format="mp4", codec="h264"))
    (path,) = result.outputs
    assert path == core.output / "v" / "clip_00001_.mp4" and result.ui["4"]["animated"] == [True]
    with av.open(str(path)) as file:
        picture, sound = file.streams.video[0], file.streams.audio[0]
        assert (picture.codec_context.name, picture.pix_fmt, picture.frames) == ("h264", "yuv420p", 12)
        assert picture.average_rate == Fraction(24000, 1001) and sound.codec_context.name == "aac"
    assert json.loads(read_metadata(path)["prompt"])["3"]["class_type"] == "CreateVideo"


def test_load_video_and_take_it_apart(core):
    write_video(core.input / "a.mp4", clip(6), 8, audio=tone(0.75), quality="best")
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "a.mp4"}},
        "2": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}},
        "3": {"class_type": "Keep", "inputs": {slot: ["2", place] for place, slot in enumerate("abc")}},
    }
    core.run(prompt)
    kept = core.kept
    assert kept["a"].shape == (6, 32, 48, 3) and (kept["a"] - clip(6)).abs().mean() < 0.02 and kept["c"] == 8.0
    assert kept["b"]["sample_rate"] == 8000 and kept["b"]["waveform"].abs().max() > 0.3


def test_frames_are_converted_as_comfyui_converts_them(core):
    """Colours that change from pixel to pixel, where ways to enlarge the chroma differ most."""
    colours = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])[torch.arange(48) % 3].expand(4, 32, 48, 3)
    write_video(core.input / "a.mp4", colours, 8, quality="best")
    with av.open(str(core.input / "a.mp4")) as file:  # comfy_api/latest/_input_impl/video_types.py
        want = torch.stack([torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)])
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "a.mp4"}},
        "2": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}},
        "3": {"class_type": "Keep", "inputs": {"a": ["2", 0]}},
    }
    core.run(prompt)
    assert torch.equal(core.kept["a"], want / 255)


def packets(path):
    """{kind of stream: its compressed data}."""
    with av.open(str(path)) as file:
        found = {}
        for packet in file.demux():
            found.setdefault(packet.stream.type, []).append(bytes(packet))
    return {kind: b"".join(parts) for kind, parts in found.items()}


def test_an_mp4_is_copied_and_not_compressed_again(core):
    write_video(core.input / "a.mp4", clip(6), 8, audio=tone(0.75), metadata={"prompt": "{}", "author": "me"})
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "a.mp4"}},
        "2": {"class_type": "SaveVideo", "inputs": {"video": ["1", 0], "filename_prefix": "%width%", "format": "auto",
                                                    "codec": "h264"}},
    }  # fmt: skip
    (path,) = core.run(prompt).outputs
    assert path.name == "48_00001_.mp4" and packets(path) == packets(core.input / "a.mp4")
    texts = read_metadata(path)
    assert texts["author"] == "me" and json.loads(texts["prompt"]) == prompt


def test_what_is_no_mp4_is_compressed_again(core):
    write_video(core.input / "a.webm", clip(6), 8, audio=tone(0.75))
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "a.webm"}},
        "2": {"class_type": "SaveVideo", "inputs": {"video": ["1", 0], "filename_prefix": "v", "format": "auto",
                                                    "codec": "auto"}},
    }  # fmt: skip
    (path,) = core.run(prompt).outputs
    with av.open(str(path)) as file:
        assert "mp4" in file.format.name and file.streams.video[0].codec_context.name == "h264"
        assert file.streams.audio[0].codec_context.name == "aac"


# --- sound ---


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_there_and_back(core, channels):
    given = tone(0.5, 22050, channels)
    (name,) = core.saved(SaveAudio={"audio": given, "filename_prefix": "s"})
    assert name == "s_00001_.flac"
    (got,) = core(LoadAudio={"audio": f"{name} [output]"})
    assert got["sample_rate"] == 22050 and got["waveform"].shape == given["waveform"].shape
    assert (got["waveform"] - given["waveform"]).abs().max() < 1 / 16384
    with av.open(str(core.output / name)) as file:
        assert json.loads(file.metadata["prompt"])["node"]["class_type"] == "SaveAudio"


def test_a_batch_of_sounds_is_one_file_each(core):
    batch = {"waveform": torch.cat([tone()["waveform"], -tone()["waveform"]]), "sample_rate": 8000}
    names = core.saved(SaveAudio={"audio": batch, "filename_prefix": "s"})
    assert names == ["s_00001_.flac", "s_00002_.flac"]
    first, second = (core(LoadAudio={"audio": f"{name} [output]"})[0]["waveform"] for name in names)
    assert (first + second).abs().max() < 1e-3 < first.abs().max()


def test_wav_is_read_as_it_is(core):
    import wave

    values = np.array([0, 16384, -32768, 32767], np.int16)
    with wave.open(str(core.input / "a.wav"), "wb") as file:
        file.setnchannels(2), file.setsampwidth(2), file.setframerate(44100)
        file.writeframes(values.tobytes())
    (got,) = core(LoadAudio={"audio": "a.wav"})
    assert got["sample_rate"] == 44100
    assert got["waveform"][0].T.flatten().tolist() == pytest.approx([0, 0.5, -1, 32767 / 32768])


def test_video_without_sound_is_a_sentence(core):
    write_video(core.input / "a.mp4", clip(2), 8)
    with pytest.raises(RunError, match="a.mp4 has no sound; expected a sound file, or a video with sound"):
        core(LoadAudio={"audio": "a.mp4"})
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "a.mp4"}},
        "2": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}},
        "3": {"class_type": "SaveAudio", "inputs": {"audio": ["2", 1], "filename_prefix": "s"}},
    }
    with pytest.raises(RunError, match="audio is nothing: the video it comes from has no sound; expected an AUDIO"):
        core.run(prompt)


def test_previews_write_nothing_and_say_so(core):
    for node, inputs in (("PreviewImage", {"images": clip(2)}), ("PreviewAudio", {"audio": tone()})):
        result = core(**{node: inputs})
        assert result.outputs == [] and core.files() == []
        assert "Without the editor there is nothing to" in str(result.notes[0])
