"""The stand-in for comfy_api.latest: the same keywords, the same /object_info, no torch."""

import copy
import json
import os
import subprocess
import sys
from enum import Enum
from fractions import Fraction
from pathlib import Path

import pytest
from sora_dit.headless.api_dynamic import nest, unfold
from sora_dit.headless.api_node import HiddenHolder, NodeOutput, locked_clone, overrides
from sora_dit.headless.comfy_api import ExecutionBlocker, InputImpl, Types, io, ui
from sora_dit.headless.object_info import object_info

# Source text, so that the very same class can be built with ComfyUI's own io (see the test at the end).
SAMPLE = """
class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Sample", display_name="A sample", category="x/y", description="All kinds of inputs.",
            inputs=[
                io.Int.Input("count", default=3, min=0, max=10, step=1, control_after_generate=True, tooltip="many"),
                io.Float.Input("scale", default=1.0, min=0.0, round=0.01, display_mode=io.NumberDisplay.slider),
                io.String.Input("text", multiline=True, dynamic_prompts=True, placeholder="words", default=""),
                io.Boolean.Input("flag", default=False, label_on="yes", label_off="no", socketless=True),
                io.Combo.Input("file", options=["a.mp4"], upload=io.UploadType.video, image_folder=io.FolderType.input),
                io.Custom("SORA_DIT").Input("model", optional=True, lazy=True, display_name="Model"),
                io.String.Input("linked", force_input=True, optional=True, extra_dict={"own": 1}),
                io.MultiType.Input(io.Float.Input("number", default=2.0), [io.Int, io.Mask]),
                io.MultiType.Input("size_of", [io.Vae, io.Custom("SORA_DIT")], raw_link=True),
                io.DynamicCombo.Input("kind", options=[
                    io.DynamicCombo.Option("plain", []),
                    io.DynamicCombo.Option("sized", [io.Int.Input("size", min=1), io.Mask.Input("im", optional=True)]),
                ]),
                io.Autogrow.Input("things", template=io.Autogrow.TemplatePrefix(io.Image.Input("t"), "thing", min=2)),
                io.Autogrow.Input("named", template=io.Autogrow.TemplateNames(io.Int.Input("n"), ["p", "q"])),
                io.MatchType.Input("match", template=io.MatchType.Template("T")),
            ],
            outputs=[io.Video.Output(), io.Image.Output("frames", "Frames", tooltip="t", is_output_list=True),
                     io.MatchType.Output(template=io.MatchType.Template("T"), id="same")],
            hidden=[io.Hidden.unique_id], is_output_node=True, is_experimental=True,
        )

    @classmethod
    def execute(cls, **values):
        return io.NodeOutput(None)
"""


def sample(io_module):
    names = {"io": io_module}
    exec(compile(SAMPLE, "sample", "exec"), names)  # noqa: S102 - our own text above
    return names["Sample"]


def test_object_info_layout():
    info = json.loads(json.dumps(object_info([sample(io)])))["Sample"]
    assert info["input"]["required"]["count"] == [
        "INT",
        {"default": 3, "min": 0, "max": 10, "step": 1, "control_after_generate": True, "tooltip": "many"},
    ]
    assert info["input"]["required"]["file"] == [
        "COMBO",
        {"multiselect": False, "options": ["a.mp4"], "video_upload": True, "image_folder": "input"},
    ]
    assert info["input"]["required"]["number"] == ["FLOAT,INT,MASK", {"default": 2.0, "widgetType": "FLOAT"}]
    assert info["input"]["optional"]["model"] == ["SORA_DIT", {"display_name": "Model", "lazy": True}]
    assert info["input"]["hidden"] == {
        "unique_id": ["UNIQUE_ID"],
        "prompt": ["PROMPT"],  # an output node gets these two by itself
        "extra_pnginfo": ["EXTRA_PNGINFO"],
    }
    assert info["input_order"]["optional"] == ["model", "linked"]
    assert info["output"] == ["VIDEO", "IMAGE", "COMFY_MATCHTYPE_V3"]
    assert info["output_name"] == ["VIDEO", "Frames", "same"]
    assert info["output_is_list"] == [False, True, False]
    assert info["output_matchtypes"] == [None, None, "T"]
    assert (info["output_node"], info["experimental"], info["deprecated"]) == (True, True, False)


def test_enum_options_and_default():
    class Sampler(Enum):
        EULER = "euler"
        HEUN = "heun"

    assert io.Combo.Input("s", options=Sampler, default=Sampler.HEUN).as_dict() == {
        "multiselect": False,
        "options": ["euler", "heun"],
        "default": "heun",
    }


def test_two_inputs_of_one_name_are_refused():
    class Twice(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema("Twice", inputs=[io.Int.Input("a"), io.Float.Input("a")])

        @classmethod
        def execute(cls, a):
            return None

    with pytest.raises(ValueError, match="two inputs share the id a"):
        Twice.GET_SCHEMA()


def test_a_node_must_have_execute():
    class Empty(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema("Empty")

    with pytest.raises(NotImplementedError, match="Empty has no execute"):
        Empty.GET_SCHEMA()


def test_overrides_and_locked_clone():
    cls = sample(io)
    assert overrides(cls, "execute") and not overrides(cls, "validate_inputs")
    clone = locked_clone(cls, HiddenHolder(unique_id="7"))
    assert clone.hidden.unique_id == "7" and clone.hidden.prompt is None and cls.hidden.unique_id is None
    with pytest.raises(AttributeError, match="cannot be set during execution"):
        clone.counter = 1
    assert copy.copy(clone.hidden).unique_id == "7"


@pytest.mark.parametrize(
    ("returned", "args"),
    [(io.NodeOutput(1, 2), (1, 2)), ((1, 2), (1, 2)), (None, ()), ({"result": (1,), "ui": {}}, (1,))],
)
def test_what_execute_may_return(returned, args):
    assert NodeOutput.of(returned).args == args


def test_what_execute_may_not_return():
    with pytest.raises(TypeError, match="execute returned list; expected io.NodeOutput"):
        NodeOutput.of([1])
    assert NodeOutput.of(ExecutionBlocker("stop")).block_execution == "stop"


def test_dynamic_inputs_unfold_by_the_prompt():
    inputs = sample(io).GET_SCHEMA().inputs
    names = {one.name for one in unfold(inputs, {"kind": "sized", "things.thing0": 1, "things.thing1": 2})}
    assert {"kind", "kind.size", "kind.im", "things.thing0", "things.thing1", "count"} <= names
    assert "things.thing2" not in names and "things" not in names
    bound = unfold(inputs, {"kind": "sized", "things.thing0": 1})
    values = {"kind": "sized", "kind.size": 4, "things.thing0": "x", "count": 1}
    assert nest(values, bound) == {"kind": {"kind": "sized", "size": 4}, "things": {"thing0": "x"}, "count": 1}


def test_ui_records():
    saved = ui.SavedResult("a.mp4", "sky", io.FolderType.output)
    assert ui.PreviewVideo([saved]).as_dict() == {
        "images": [{"filename": "a.mp4", "subfolder": "sky", "type": "output"}],
        "animated": (True,),
    }
    assert saved.type is io.FolderType.output
    assert ui.PreviewText("x").as_dict() == {"text": ("x",)}
    assert ui.PreviewImage(None, animated=True).as_dict() == {"images": [], "animated": (True,)}


def test_video_values(tmp_path):
    torch = pytest.importorskip("torch")
    frames = torch.rand(5, 32, 48, 3)
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=frames, frame_rate=Fraction(24000, 1001)))
    assert video.get_dimensions() == (48, 32) and video.get_frame_count() == 5
    assert video.get_duration() == pytest.approx(5 * 1001 / 24000)
    path = tmp_path / "clip.mp4"
    video.save_to(path, format=Types.VideoContainer.MP4, codec=Types.VideoCodec.AUTO, metadata={"prompt": {"1": {}}})
    read = InputImpl.VideoFromFile(path)
    assert read.get_dimensions() == (48, 32) and read.get_frame_rate() == Fraction(24000, 1001)
    assert json.loads(read.get_components().metadata["prompt"]) == {"1": {}}
    assert video.get_stream_source().getvalue()[4:8] == b"ftyp"
    with pytest.raises(ValueError, match=r"expected a file name that ends in \.mkv"):
        video.save_to(path, format="mkv")


def test_nothing_heavy_is_imported():
    code = (
        "import sys; import sora_dit.headless.comfy_api, sora_dit.headless.cli, sora_dit.headless.commands;"
        "sora_dit.headless.run_workflow;"
        "print([m for m in ('torch', 'numpy', 'av', 'transformers', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="COMFYUI_PATH does not name a ComfyUI checkout")
def test_object_info_equals_comfyuis_own(tmp_path):
    """The same class text gives the same /object_info with ComfyUI's own io."""
    code = (
        "import sys, json, torch; sys.path.insert(0, sys.argv[1]); path = sys.argv[2]; sys.argv = ['x', '--cpu'];"
        "from comfy_api.latest import io; names = {'io': io}; exec(open(path).read(), names);"
        "print(json.dumps(names['Sample'].GET_NODE_INFO_V1()))"
    )
    text = tmp_path / "sample.py"
    text.write_text(SAMPLE)
    command = [sys.executable, "-c", code, os.environ["COMFYUI_PATH"], str(text)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    real = json.loads(done.stdout.splitlines()[-1])
    ours = json.loads(json.dumps(object_info([sample(io)])["Sample"]))
    real.pop("python_module"), ours.pop("python_module")
    assert ours == real


def test_repository_files_stay_in_their_room():
    """headless/ knows nodes/ only through the registry, and the stand-ins for core nodes through one door."""
    room = Path(__file__).parents[2] / "headless"
    for path in room.rglob("*.py"):
        if path not in (room / "registry.py", room / "core_nodes" / "ours.py"):
            assert "import nodes" not in path.read_text() and "..nodes" not in path.read_text(), path
