"""Who may know whom: only host.py knows ComfyUI, and the pack loads under the name that ComfyUI gives it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import sora_dit

PACK = Path(sora_dit.__file__).parent
ALLOWED = set(sys.stdlib_module_names) | {"torch"}
COMFYUI = {"folder_paths", "comfy", "comfy_api", "PIL"}


@pytest.mark.parametrize("path", sorted((PACK / "nodes").rglob("*.py")), ids=lambda path: path.name)
def test_only_host_knows_comfyui(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = {node.module.split(".")[0]}
        else:
            continue
        knows = path.name == "host.py" or path.parent.name == "in_comfyui"
        assert names <= (ALLOWED | COMFYUI if knows else ALLOWED), f"line {node.lineno}"


def test_only_host_opens_the_door_to_comfyui():
    importers = [path.name for path in (PACK / "nodes").glob("*.py") if "from .in_comfyui" in path.read_text()]
    assert importers == ["host.py"]


# What ComfyUI offers, as far as we use it: its modules are in sys.modules before a pack is loaded.
STAND_IN = """
import asyncio, importlib.util, json, logging, sys, types
from pathlib import Path

pack, models, work = map(Path, sys.argv[1:4])

def module(name, **content):
    made = types.ModuleType(name)
    made.__dict__.update(content)
    sys.modules[name] = made
    if "." in name:
        setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], made)
    return made

class Interrupted(BaseException):
    pass

state = {"interrupt": False, "bars": [], "texts": [], "loads": []}

def check():
    if state["interrupt"]:
        raise Interrupted

class ProgressBar:
    def __init__(self, total):
        self.total = total

    def update_absolute(self, value, total=None, preview=None):
        state["bars"].append((value, total))
        if value == state.get("interrupt_at"):
            state["interrupt"] = True

folders = {"diffusion_models": [str(work / "dm")], "vae": [], "text_encoders": []}
kinds = lambda kind: folders.setdefault(kind, [])
module("folder_paths", models_dir=str(models.parent / "elsewhere"), get_folder_paths=kinds,
       add_model_folder_path=lambda kind, path: None if path in kinds(kind) else kinds(kind).append(path),
       get_filename_list=lambda kind: sorted(p.name for f in kinds(kind) for p in Path(f).glob("*") if p.is_file()),
       get_directory_by_type=lambda kind: str(work / kind))
kinds("sora_dit").append(str(models))
module("comfy", __path__=[])
module("comfy.utils", ProgressBar=ProgressBar)
module("comfy.cli_args", args=types.SimpleNamespace(disable_metadata=False))

def cpu():
    import torch
    return torch.device("cpu")

module("comfy.model_management", get_torch_device=cpu, intermediate_device=cpu,
       throw_exception_if_processing_interrupted=check, unet_offload_device=cpu,
       load_models_gpu=lambda patchers, **how: state["loads"].append(how))

class ModelPatcher:  # all that a ComfyUI whose inside has changed still has
    def __init__(self, model, load_device, offload_device):
        self.model = model

module("comfy.model_patcher", ModelPatcher=ModelPatcher)

class Server:
    def send_progress_text(self, text, node_id):
        state["texts"].append((node_id, text))

module("server", PromptServer=types.SimpleNamespace(instance=Server()))

# The classes of comfy_api: our stand-in, loaded under a name of its own.
def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path / "__init__.py", submodule_search_locations=[str(path)])
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made

load("api_pack", pack)
import api_pack.headless.comfy_api as api
module("comfy_api")
sys.modules["comfy_api.latest"] = api

mine = load(str(pack).replace(".", "_x_"), pack)  # the name that ComfyUI gives a pack
extension = asyncio.run(mine.comfy_entrypoint())
classes = {cls.GET_SCHEMA().node_id[7:]: cls for cls in asyncio.run(extension.get_node_list())}
heavy = sorted(set(sys.modules) & {"torch", "av", "transformers"})

def run(name, _id, prompt, **inputs):
    cls = type(name, (classes[name],), {"hidden": api.io.HiddenHolder(
        unique_id=_id, prompt=prompt, extra_pnginfo={"workflow": {"nodes": []}})})
    return cls.execute(**inputs)

prompt = {"1": {"class_type": "SoraDiTLoadModel", "inputs": {"model": "tiny.safetensors"}},
          "5": {"class_type": "SoraDiTDenoise", "inputs": {"model": ["1", 0], "seed": 3}},
          "8": {"class_type": "SoraDiTSaveVideo", "inputs": {"video": ["5", 0]}}}
model, clip, vae = run("LoadModel", "1", prompt, model="tiny.safetensors", device="auto", dtype="auto").args
text = run("TextEncode", "2", prompt, clip=clip, text="sea " * 60)[0]
plan = run("TimestepConditioning", "3", prompt, model=model, positive=text, steps=3, schedule="auto", shift=0.0,
           denoise=1.0)[0]
latent = run("EmptyLatent", "4", prompt, model=model, width=16, height=16, frames=5, batch_size=1)[0]
go = dict(model=model, conditioning=plan, latent=latent, cfg=2.0, sampler="euler")
samples = run("Denoise", "5", prompt, seed=3, **go)[0]
images = run("Decode", "6", prompt, vae=vae, latent=samples, chunk_frames=0)[0]
video = run("AssembleVideo", "7", prompt, images=images, fps=8.0)[0]
saved = run("SaveVideo", "8", prompt, video=video, filename_prefix="a/clip", container="mp4", codec="auto",
            quality="low")
state["interrupt_at"] = 2
try:
    run("Denoise", "5", prompt, seed=4, **go)
    stopped = False
except Interrupted:
    stopped = True
from api_pack.dit_core.media import read_metadata
print(json.dumps({
    "host": sys.modules[mine.__name__ + ".nodes.host"].in_comfyui, "heavy": heavy, "nodes": sorted(classes),
    "models": classes["LoadModel"].INPUT_TYPES()["required"]["model"][1]["options"], "ui": saved.ui.as_dict(),
    "texts": state["texts"], "bars": state["bars"], "stopped": stopped, "web": mine.WEB_DIRECTORY,
    "loads": state["loads"], "saved": read_metadata(work / "output/a/clip_00001_.mp4"),
}))
"""


@pytest.fixture(scope="module")
def in_comfyui(models_folder, tmp_path_factory):
    """What the pack does when it finds ComfyUI around it."""
    work = tmp_path_factory.mktemp("comfyui")
    command = [sys.executable, "-c", STAND_IN, str(PACK), str(models_folder), str(work)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr and "cannot be used" not in done.stderr
    return json.loads(done.stdout)


def test_the_pack_loads_under_comfyuis_name(in_comfyui):
    assert in_comfyui["host"] and in_comfyui["heavy"] == [] and len(in_comfyui["nodes"]) == 23
    assert in_comfyui["web"] == "./web"


def test_models_come_from_comfyuis_folders(in_comfyui):
    assert in_comfyui["models"] == ["sora-dit-starter.safetensors", "tiny.safetensors"]


def test_progress_remarks_and_results_reach_comfyui(in_comfyui):
    assert [1, 3] in in_comfyui["bars"] and [3, 3] in in_comfyui["bars"]
    assert any(node == "2" and "longer than" in text for node, text in in_comfyui["texts"])
    result = {"filename": "clip_00001_.mp4", "subfolder": "a", "type": "output"}
    assert in_comfyui["ui"]["images"] == [result]


def test_weights_are_asked_for_before_use_with_room_to_work(in_comfyui):
    rooms = [how["memory_required"] for how in in_comfyui["loads"]]
    assert len(rooms) >= 5 and max(rooms) > 0  # two prompts and the empty one, plan, denoise, decode
    assert all(how["force_full_load"] for how in in_comfyui["loads"])  # not native here: no loading in parts


def test_cancel_stops_within_a_step(in_comfyui):
    assert in_comfyui["stopped"] and in_comfyui["bars"][-1] == [2, 3]


def test_files_saved_in_comfyui_say_how_they_were_made(in_comfyui):
    texts = {name: json.loads(in_comfyui["saved"][name]) for name in ("prompt", "workflow", "sora_dit")}
    assert texts["workflow"] == {"nodes": []} and "8" in texts["prompt"]
    facts = texts["sora_dit"]["nodes"]
    assert facts["5"]["seed"] == 3 and "tiny.safetensors" in facts["1"]["weights"]
    assert texts["sora_dit"]["packages"]["sora-dit"] == sora_dit.__version__
