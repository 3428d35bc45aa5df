"""The stand-ins for core nodes that read files: pictures as core reads them, and bad files as sentences."""

import numpy as np
import pytest
import torch
from PIL import Image
from sora_dit.headless.problems import WorkflowError
from sora_dit.headless.run_errors import RunError
from sora_dit.headless.session import Session, use


def picture(height=4, width=6, channels=3, seed=0):
    """An 8-bit picture of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


# --- Load Image ---


def test_load_image(core):
    Image.fromarray(pixels := picture()).save(core.input / "a.png")
    image, mask = core(LoadImage={"image": "a.png"})
    assert torch.equal(image, torch.from_numpy(pixels)[None].float() / 255) and image.dtype == torch.float32
    assert mask.shape == (1, 64, 64) and mask.sum() == 0


def test_transparency_becomes_the_mask(core):
    Image.fromarray(pixels := picture(channels=4)).save(core.input / "a.png")
    image, mask = core(LoadImage={"image": "a.png"})
    assert torch.allclose(mask, 1 - torch.from_numpy(pixels[..., 3])[None] / 255) and image.shape == (1, 4, 6, 3)
    flat = Image.new("P", (3, 1))
    flat.putpalette([255, 0, 0, 0, 255, 0])
    flat.putpixel((1, 0), 1)
    flat.save(core.input / "palette.png", transparency=1)
    image, mask = core(LoadImage={"image": "palette.png"})
    assert mask.tolist() == [[[0, 1, 0]]] and image[0, 0, 0].tolist() == [1, 0, 0]


def test_the_camera_was_turned(core):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = 255  # top left in the file, hence top right to the eye
    Image.fromarray(pixels).save(core.input / "a.png", exif=exif)
    image, _ = core(LoadImage={"image": "a.png"})
    assert image.shape == (1, 4, 2, 3) and image[0, 0, 1].tolist() == [1, 1, 1] and image.sum() == 3


def test_an_animation_is_a_batch_and_odd_pages_are_left_out(core):
    pages = [Image.fromarray(picture(seed=seed)) for seed in range(3)]
    pages[0].save(core.input / "a.tiff", save_all=True, append_images=[pages[1], pages[2].resize((5, 5))])
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.tiff"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "page"}},
    }
    result = core.run(prompt)
    for path, page in zip(result.outputs, pages[:2], strict=True):
        assert np.array_equal(Image.open(path), page)
    assert any("1 pages of a.tiff have another size" in str(note) for note in result.notes)


def test_sixteen_bits_as_core_reads_them(core):
    Image.fromarray(np.array([[0, 25500, 65535]], np.uint16)).save(core.input / "deep.png")
    image, _ = core(LoadImage={"image": "deep.png"})
    assert (image[0, 0, :, 0] * 255).tolist() == pytest.approx([0, 100, 255])


def test_a_saved_picture_is_loaded_from_the_output_folder(core):
    pixels = torch.rand(1, 4, 6, 3, generator=torch.Generator().manual_seed(0))
    (name,) = core.saved(SaveImage={"images": pixels, "filename_prefix": "deep/one"})
    assert name == "deep/one_00001_.png"
    image, _ = core(LoadImage={"image": f"{name} [output]"})
    assert (image - pixels).abs().max() <= 1 / 255


def test_a_channel_as_mask(core):
    Image.fromarray(pixels := picture(channels=4)).save(core.input / "a.png")
    (green,) = core(LoadImageMask={"image": "a.png", "channel": "green"})
    (alpha,) = core(LoadImageMask={"image": "a.png", "channel": "alpha"})
    assert torch.allclose(green[0], torch.from_numpy(pixels[..., 1]) / 255) and green.shape == (1, 4, 6)
    assert torch.allclose(alpha[0], 1 - torch.from_numpy(pixels[..., 3]) / 255)


LOADERS = [("LoadImage", "image"), ("LoadImageMask", "image"), ("LoadVideo", "file"), ("LoadAudio", "audio"),
           ("LoadLatent", "latent")]  # fmt: skip


@pytest.mark.parametrize(("node", "name"), LOADERS)
@pytest.mark.parametrize(
    ("file", "words"),
    [("no.png", 'There is no file "no.png" in the input folder'), ("../no.png", "leads out of the input folder"),
     ("", "No file is chosen")],
)  # fmt: skip
def test_a_missing_file_is_refused_before_the_run(core, node, name, file, words):
    more = {"channel": "red"} if node == "LoadImageMask" else {}
    with pytest.raises(WorkflowError, match=words) as caught:
        core(**{node: {name: file, **more}})
    assert f"(node node), {name}: " in str(caught.value) and core.files() == []


@pytest.mark.parametrize(("node", "name"), LOADERS)
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_a_damaged_file_is_a_sentence(core, node, name, content):
    (core.input / "bad.png").write_bytes(content)
    more = {"channel": "red"} if node == "LoadImageMask" else {}
    prompt = {"1": {"class_type": node, "inputs": {name: "bad.png", **more}},
              "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}  # fmt: skip
    if node == "LoadVideo":
        prompt["2"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}}
        prompt["3"] = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
    with pytest.raises(
        RunError, match="bad.png (cannot be read|is damaged|is empty|holds|is a picture|has no sound)"
    ) as caught:
        core.run(prompt)
    assert "it failed with" not in str(caught.value)


def test_a_cut_off_picture_is_a_sentence(core):
    Image.fromarray(picture(64, 64)).save(core.input / "a.png")
    data = (core.input / "a.png").read_bytes()
    (core.input / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(RunError, match=r"a.png cannot be read as a picture: it is damaged"):
        core(LoadImage={"image": "a.png"})


def test_file_lists_hold_what_is_there(core):
    for name in ("a.png", "b.jpg", "c.latent", "d.mp4", "e.flac", "f.txt"):
        (core.input / name).write_bytes(b"x")
    with use(Session(input_dir=core.input)):
        lists = {node: core.registry.schema(node).inputs[0].choices for node, _ in LOADERS}
    assert lists == {
        "LoadImage": ["a.png", "b.jpg"], "LoadImageMask": ["a.png", "b.jpg"], "LoadVideo": ["d.mp4"],
        "LoadAudio": ["d.mp4", "e.flac"], "LoadLatent": ["c.latent"],
    }  # fmt: skip
