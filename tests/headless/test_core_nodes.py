"""The stand-ins for core nodes: declared as in ComfyUI 0.8.0, listed and marked, and values through them."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from sora_dit.headless.core_nodes import CORE_NODES, MODULE
from sora_dit.headless.object_info import object_info
from sora_dit.headless.registry import load_registry
from sora_dit.headless.run_errors import RunError

FACTS = json.loads((Path(__file__).parent / "core_nodes_0_8_0.json").read_text())
FACTS.pop("_source")
INFO = json.loads(json.dumps(object_info(CORE_NODES)))
FACT_KEYS = ("default", "min", "max", "step", "multiline", "dynamicPrompts", "control_after_generate", "image_upload",
             "video_upload", "audio_upload", "display")  # fmt: skip


def declared(entry):
    """An entry of /object_info in the layout of the facts."""
    inputs = []
    for group in ("required", "optional"):
        for name in entry["input_order"].get(group, []):
            kind, options = entry["input"][group][name]
            facts = {key: options[key] for key in FACT_KEYS if options.get(key) is not None}
            facts = {key: value for key, value in facts.items() if value is not False or key == "default"}
            if kind == "COMBO":
                facts["options"] = options["options"] or "files"
            inputs.append([name, group, kind, facts])
    return {
        "display_name": entry["display_name"],
        "category": entry["category"],
        "inputs": inputs,
        "outputs": [list(one) for one in zip(entry["output"], entry["output_name"], strict=True)],
        "flags": [flag for flag in ("output_node", "deprecated", "experimental") if entry[flag]],
    }


def test_the_facts_are_of_these_nodes():
    assert set(FACTS) == set(INFO)
    asked = "LoadImage LoadVideo LoadAudio LoadLatent SaveLatent SaveImage PreviewImage SaveAnimatedWEBP SaveWEBM "
    asked += "CreateVideo GetVideoComponents SaveVideo CLIPTextEncode VAEDecode VAEEncode PrimitiveInt PrimitiveFloat "
    asked += "PrimitiveString PrimitiveStringMultiline PrimitiveBoolean ImageScale ImageBatch ImageFromBatch "
    asked += "ConditioningZeroOut"
    assert set(asked.split()) <= set(FACTS)


@pytest.mark.parametrize("node_id", sorted(FACTS))
def test_declared_as_in_comfyui(node_id):
    assert declared(INFO[node_id]) == FACTS[node_id]


@pytest.mark.parametrize("cls", CORE_NODES, ids=lambda cls: cls.__name__)
def test_described_and_marked(cls):
    entry = INFO[cls.GET_SCHEMA().node_id]
    assert entry["description"] and entry["python_module"] == MODULE
    assert set(entry["input"]) >= ({"hidden"} if entry["output_node"] else set())


def test_ours_come_first():
    registry = load_registry()
    ids = list(registry.classes)
    assert ids[0].startswith("SoraDiT") and "CreateVideo" in ids and not registry.failures
    ours = registry["SoraDiTLoadModel"]

    class Fake(registry["CreateVideo"]):
        @classmethod
        def define_schema(cls):
            schema = super().define_schema()
            schema.node_id = "SoraDiTLoadModel"
            return schema

    registry.add(Fake)
    assert registry["SoraDiTLoadModel"] is ours


def test_listed_with_a_mark(capsys):
    from sora_dit.headless import cli

    assert cli.main(["nodes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (scale,) = [line for line in lines if line.startswith("ImageScale ")]
    (ours,) = [line for line in lines if line.startswith("SoraDiTSaveVideo ")]
    assert scale.endswith("Upscale Image  [image/upscaling; core node of ComfyUI]") and ours.endswith(
        "[Sora DiT/video]"
    )
    assert cli.main(["nodes", "CreateVideo"]) == 0
    assert "core node of ComfyUI" in capsys.readouterr().out


# --- values and texts ---


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ("PrimitiveInt", sys.maxsize),
        ("PrimitiveFloat", -2.5),
        ("PrimitiveString", "a {b} c"),
        ("PrimitiveStringMultiline", "one\ntwo"),
        ("PrimitiveBoolean", False),
    ],
)
def test_primitives_pass_their_value_on(core, node, value):
    (got,) = core(**{node: {"value": value}})
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (2.5, "2.5"),
        ({"a": [1]}, '{\n    "a": [\n        1\n    ]\n}'),
        (
            {
                1,
            },
            "{1}",
        ),
    ],
)
def test_preview_any_is_text(core, value, text):
    assert core(PreviewAny={"source": value}).ui["node"]["text"] == [text]


def entry(width=4, **extra):
    return [torch.ones(1, 3, width), {"attention_mask": torch.ones(1, 3), **extra}]


def test_conditioning_zero_out_leaves_the_original_alone(core):
    given = [entry(pooled_output=torch.ones(1, 4)), entry(pooled_output=None, guidance=3.5)]
    (zeroed,) = core(ConditioningZeroOut={"conditioning": given})
    assert [one[0].abs().sum() for one in zeroed] == [0, 0] and zeroed[0][1]["pooled_output"].abs().sum() == 0
    assert zeroed[1][1]["pooled_output"] is None and zeroed[1][1]["guidance"] == 3.5
    assert zeroed[0][1]["attention_mask"].sum() == 3
    assert given[0][0].sum() == 12 and given[0][1]["pooled_output"].sum() == 4


def test_conditioning_combine_is_both(core):
    first, second = [entry()], [entry(5), entry(6)]
    (both,) = core(ConditioningCombine={"conditioning_1": first, "conditioning_2": second})
    assert [one[0].shape[-1] for one in both] == [4, 5, 6]


def test_split_sigmas_share_a_level(core):
    high, low = core(SplitSigmas={"sigmas": torch.tensor([1.0, 0.7, 0.4, 0.0]), "step": 2})
    assert high.tolist() == pytest.approx([1.0, 0.7, 0.4]) and low.tolist() == pytest.approx([0.4, 0.0])


# --- latents in batches ---


def test_latent_batch_brings_the_second_to_the_size_of_the_first(core):
    first = {"samples": torch.zeros(1, 4, 2, 3, 4), "noise_mask": torch.ones(1, 1, 2, 3, 4)}
    second = {"samples": torch.full((2, 4, 2, 6, 8), 5.0), "batch_index": [7, 9]}
    (both,) = core(LatentBatch={"samples1": first, "samples2": second})
    assert both["samples"].shape == (3, 4, 2, 3, 4) and both["batch_index"] == [0, 7, 9]
    assert both["samples"][1:].min() == both["samples"].max() == 5 and both["noise_mask"] is first["noise_mask"]
    with pytest.raises(
        RunError, match=r"samples1 has shape \[1, 4, 2, 3, 4\] and samples2 \[1, 4, 3, 3, 4\]; expected"
    ):
        core(LatentBatch={"samples1": first, "samples2": {"samples": torch.zeros(1, 4, 3, 3, 4)}})


def test_repeat_latent_batch_numbers_on(core):
    latent = {"samples": torch.arange(2.0).reshape(2, 1, 1, 1), "batch_index": [3, 5], "other": 1}
    latent["noise_mask"] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    (out,) = core(RepeatLatentBatch={"samples": latent, "amount": 3})
    assert out["samples"].flatten().tolist() == out["noise_mask"].flatten().tolist() == [0, 1] * 3
    assert out["batch_index"] == [3, 5, 6, 8, 9, 11] and out["other"] == 1


# --- pictures in memory ---


def ramp(frames=1, height=6, width=8, channels=3):
    """Frames that differ from each other, grow to the right and differ by channel."""
    x = torch.arange(width) / (width - 1)
    planes = [x.expand(height, width) * (1 - channel / 4) for channel in range(channels)]
    return torch.stack([torch.stack(planes, -1) * (1 - number / 8) for number in range(frames)])


def test_scale_keeps_proportions_for_zero(core):
    def size(width, height):
        return core(
            ImageScale={
                "image": ramp(2, 6, 8), "upscale_method": "area", "width": width, "height": height, "crop": "disabled",
            }
        )[0].shape[1:3]  # fmt: skip

    assert [size(16, 0), size(0, 3), size(0, 0), size(5, 7)] == [(12, 16), (3, 4), (6, 8), (7, 5)]


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
def test_scale_methods(core, method):
    picture = ramp(2, 6, 8)
    (got,) = core(ImageScale={"image": picture, "upscale_method": method, "width": 4, "height": 3, "crop": "disabled"})
    assert got.shape == (2, 3, 4, 3) and got.dtype == torch.float32
    if method == "lanczos":  # Pillow's, on 8-bit values that are cut off
        eight = Image.fromarray((picture[1] * 255).clamp(0, 255).byte().numpy()).resize(
            (4, 3), Image.Resampling.LANCZOS
        )
        expected = torch.tensor(list(eight.get_flattened_data() if hasattr(eight, "get_flattened_data")
                                     else eight.getdata())).reshape(3, 4, 3) / 255  # fmt: skip
    elif method == "nearest-exact":  # the pixel under the centre of the new one
        expected = picture[1][1::2, 1::2]
    elif method == "bicubic":  # Keys' kernel with a = -3/4 between two pixels: -3/32, 19/32, 19/32, -3/32
        padded = torch.cat([picture[1][:, :1], picture[1], picture[1][:, -1:]], 1)
        weights = torch.tensor([-3, 19, 19, -3]) / 32
        expected = sum(padded[:, k : k + 7 : 2] * weights[k] for k in range(4))[::2]
    else:  # the mean of four
        expected = picture[1].unfold(0, 2, 2).unfold(1, 2, 2).mean((-1, -2))
    assert torch.allclose(got[1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "height", "columns", "rows"),
    [(4, 4, slice(4, 12), slice(0, 8)), (8, 1, slice(0, 16), slice(3, 5)), (4, 2, slice(0, 16), slice(0, 8))],
)
def test_scale_crops_to_the_centre(core, width, height, columns, rows):
    picture = torch.rand(1, 8, 16, 3, generator=torch.Generator().manual_seed(0))
    inputs = {"upscale_method": "area", "width": width, "height": height}
    (cropped,) = core(ImageScale={"image": picture, "crop": "center", **inputs})
    (by_hand,) = core(ImageScale={"image": picture[:, rows, columns], "crop": "disabled", **inputs})
    assert torch.equal(cropped, by_hand)


def test_scale_by(core):
    (got,) = core(ImageScaleBy={"image": ramp(1, 6, 8), "upscale_method": "nearest-exact", "scale_by": 1.5})
    assert got.shape == (1, 9, 12, 3)
    with pytest.raises(RunError, match=r"scale_by is 0.01, which makes 8 x 6 pixels to 0 x 0; expected"):
        core(ImageScaleBy={"image": ramp(1, 6, 8), "upscale_method": "area", "scale_by": 0.01})


def test_scale_refuses_what_is_no_picture_and_what_cannot_fit(core):
    inputs = {"upscale_method": "area", "width": 8, "height": 8, "crop": "disabled"}
    with pytest.raises(RunError, match=r"image is a tensor of shape \[3, 4\]; expected images of shape"):
        core(ImageScale={"image": torch.zeros(3, 4), **inputs})
    large = {"upscale_method": "area", "width": 16384, "height": 16384, "crop": "disabled"}
    with pytest.raises(RunError, match=r"4096 frames of 16384 x 16384 pixels take .* memory"):
        core(ImageScale={"image": torch.zeros(4096, 1, 1, 3), **large})


def test_image_batch_fits_size_and_transparency(core):
    (both,) = core(ImageBatch={"image1": ramp(2, 4, 4, 4), "image2": torch.full((1, 8, 16, 3), 0.5)})
    assert both.shape == (3, 4, 4, 4) and both[2, ..., 3].min() == 1 and torch.all(both[2, ..., :3] == 0.5)
    (both,) = core(ImageBatch={"image1": ramp(1, 4, 4), "image2": ramp(1, 4, 4, 4)})
    assert both.shape == (2, 4, 4, 4) and both[0, ..., 3].min() == 1


@pytest.mark.parametrize(("start", "length", "frames"), [(0, 1, [0]), (1, 2, [1, 2]), (3, 9, [3, 4]), (40, 2, [4])])
def test_image_from_batch(core, start, length, frames):
    picture = ramp(5)
    (got,) = core(ImageFromBatch={"image": picture, "batch_index": start, "length": length})
    assert torch.equal(got, picture[frames])


def test_repeat_empty_and_size(core):
    (twice,) = core(RepeatImageBatch={"image": ramp(2), "amount": 2})
    assert torch.equal(twice, ramp(2)[[0, 1, 0, 1]])
    (plain,) = core(EmptyImage={"width": 3, "height": 2, "batch_size": 4, "color": 0xFF8000})
    assert plain.shape == (4, 2, 3, 3) and plain[3, 1, 2].tolist() == pytest.approx([1, 128 / 255, 0])
    assert core(GetImageSize={"image": ramp(5, 6, 8)}) == [8, 6, 5]
