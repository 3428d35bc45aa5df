"""A real ComfyUI for the tests of this folder, started once for all of them (with `pytest -n 0`; else in each process).

COMFYUI_PATH: its checkout; COMFY_PYTHON: the Python of its environment, if not this one. Without COMFYUI_PATH every
test here is skipped. COMFYUI_FRONTEND: the `static` folder of another frontend than the installed one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import sora_dit
import torch
from safetensors.torch import save_file
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import save_bundle
from sora_dit.dit_core.media import write_video
from sora_dit.dit_core.skies.captions import caption
from sora_dit.dit_core.skies.render import render
from sora_dit.dit_core.skies.scene import sample_scene
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

COMFYUI = os.environ.get("COMFYUI_PATH")
PYTHON = os.environ.get("COMFY_PYTHON", sys.executable)
FRONTEND = os.environ.get("COMFYUI_FRONTEND")
PACK = Path(sora_dit.__file__).parent
CHANNELS = 6


def pytest_collection_modifyitems(items: list) -> None:
    """Skip all of this folder where no ComfyUI is given."""
    if not COMFYUI:
        for item in items:
            if Path(__file__).parent in Path(item.path).parents:
                item.add_marker(pytest.mark.skip(reason="COMFYUI_PATH is not set"))


def make_model(path: Path, text_width: int = 24, parts: tuple[str, ...] = (), **changes: Any) -> None:
    """A small random model; `parts` names those to keep, all if empty."""
    torch.manual_seed(3)
    training = {"num_train_timesteps": 1000} | changes.pop("training", {})
    statistics = {"latent_mean": (0.1,) * CHANNELS, "latent_std": (1.5,) * CHANNELS}
    text = TextEncoder.from_config(
        {"family": "t5", "tokenizer": "byt5", "max_length": 64,
         "config": {"vocab_size": 259, "d_model": text_width, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}}
    )  # fmt: skip
    transformer = VideoDiT(
        TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=CHANNELS, text_width=text_width,
                          patch=(1, 2, 2), training=training, **statistics, **changes)
    )  # fmt: skip
    for p in transformer.parameters():
        torch.nn.init.normal_(p, std=0.1)
    rgb = tuple((0.1 * k, 0.2, -0.1) for k in range(CHANNELS + 1))
    autoencoder = CausalVideoAutoencoder(
        AutoencoderConfig(latent_channels=CHANNELS, encoder_channels=(4, 4, 4), decoder_channels=(4, 4, 4),
                          encoder_blocks=0, decoder_blocks=0, latent_rgb=rgb, **statistics)
    )  # fmt: skip
    made = {
        "transformer": (transformer.config.to_dict(), transformer.state_dict()),
        "text_encoder": (text.config_dict(), text.module.state_dict()),
        "autoencoder": (autoencoder.config.to_dict(), autoencoder.state_dict()),
    }
    kept = {name: part for name, part in made.items() if not parts or name in parts}
    save_bundle(path, kept, {"made": "at random, for tests"}, dtype=torch.float32)


def fill_models(base: Path) -> None:
    """Small models below `base`/models, a second root `base`/elsewhere, a LoRA, and files that are none of ours."""
    own, loras, elsewhere = base / "models" / "sora_dit", base / "models" / "loras", base / "elsewhere" / "dits"
    for folder in (own, loras, elsewhere, base / "models" / "vae"):
        folder.mkdir(parents=True, exist_ok=True)
    make_model(own / "flow.safetensors", skip_std=(1.0,) * CHANNELS)
    make_model(own / "epsilon.safetensors", objective="epsilon")
    make_model(own / "v.safetensors", objective="v")
    make_model(own / "wide.safetensors", text_width=40)
    make_model(own / "shifted.safetensors", training={"shift": 4.0}, timestep_scale=500.0)
    make_model(elsewhere / "far.safetensors")
    make_model(own / "autoencoder.safetensors", parts=("autoencoder",))
    make_model(base / "models" / "vae" / "only_vae.safetensors", parts=("autoencoder",))
    layer = "diffusion_model.blocks.0.feed_forward.inner"
    torch.manual_seed(1)
    lora = {f"{layer}.lora_A.weight": torch.randn(2, 24) * 0.3, f"{layer}.lora_B.weight": torch.randn(64, 2) * 0.3}
    text = "text_encoders.inner.encoder.block.0.layer.0.SelfAttention.q"
    lora |= {f"{text}.lora_A.weight": torch.randn(2, 24), f"{text}.lora_B.weight": torch.randn(16, 2)}
    save_file(lora, loras / "small.safetensors")
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4)}, own / "another_family.safetensors")
    (own / "page.safetensors").write_text("<html>404 not found</html>")
    (own / "cut.safetensors").write_bytes((own / "flow.safetensors").read_bytes()[:5000])


def fill_with_skies(folder: Path, count: int, side: int = 96, frames: int = 25) -> Path:
    """Put `count` rendered clips and their captions into `folder`; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [sample_scene(5, index) for index in range(count)]
    for number, (scene, clip) in enumerate(zip(scenes, render(scenes, frames, side, side, 12.0), strict=True)):
        write_video(folder / f"sky{number}.mp4", [clip], 12, quality="best")
        (folder / f"sky{number}.txt").write_text(caption(scene, 0))
    return folder


class Server:
    """A ComfyUI of our own in a folder of its own, and what one asks it."""

    def __init__(self, base: Path, *options: str, pack: Path | None = PACK) -> None:
        self.base, self.log = base, base / "server.log"
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (base / name).mkdir(parents=True, exist_ok=True)
        if pack is not None:
            (base / "custom_nodes" / "comfyui-sora-dit").symlink_to(pack, target_is_directory=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [PYTHON, "-u", "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port),
                   "--disable-auto-launch", "--disable-api-nodes", "--base-directory", str(base),
                   "--database-url", f"sqlite:///{base / 'comfyui.db'}", "--use-pytorch-cross-attention",
                   "--preview-method", "latent2rgb", *options]  # fmt: skip
        command += ["--front-end-root", FRONTEND] if FRONTEND else []
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env |= {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=COMFYUI, stdout=log, stderr=subprocess.STDOUT, env=env)
        self._await()
        self.kinds = self.call("/object_info")

    def _await(self, seconds: float = 240.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return self.call("/queue")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        raise RuntimeError(f"ComfyUI did not start: {self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(20)

    def call(self, path: str, data: Any = None) -> Any:
        """JSON of a GET, or of a POST when there is `data`."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def fetch_page(self, path: str, text: bool = True) -> Any:
        """What the server answers at `path`."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read().decode() if text else answer.read()

    def queue(self, prompt: dict[str, Any]) -> str:
        """Queue a prompt; its id."""
        return self.call("/prompt", {"prompt": prompt, "extra_data": {"preview_method": "latent2rgb"}})["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = 180.0) -> dict[str, Any]:
        """Its entry in the history, once there is one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if entry := self.call(f"/history/{prompt_id}").get(prompt_id):
                return entry
            time.sleep(0.1)
        raise TimeoutError(f"no result of {prompt_id}: {self.log.read_text()[-2000:]}")

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """Queue and wait; fails the test unless it succeeds."""
        try:
            entry = self.wait(self.queue(prompt))
        except urllib.error.HTTPError as error:
            pytest.fail(error.read().decode()[:2000])
        assert entry["status"]["status_str"] == "success", self.told(entry)
        return entry

    def refused(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The errors by node of a prompt that is not accepted."""
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.queue(prompt)
        return json.loads(caught.value.read())["node_errors"]

    def told(self, entry: dict[str, Any]) -> dict[str, Any]:
        """What a person sees of a run that failed: node, kind and words of the error."""
        messages = dict(entry["status"]["messages"])
        error = messages.get("execution_error", {})
        return {name: error.get(name) for name in ("node_type", "exception_type", "exception_message")}

    def files(self, entry: dict[str, Any]) -> list[dict[str, str]]:
        """Files of a history entry, previews too."""
        lists = (files for outputs in entry["outputs"].values() for files in outputs.values())
        return [one for files in lists for one in files if isinstance(one, dict) and "filename" in one]

    def fetch(self, file: dict[str, str]) -> bytes:
        """Content of such a file."""
        query = urllib.parse.urlencode({name: file[name] for name in ("filename", "subfolder", "type")})
        with urllib.request.urlopen(f"{self.url}/view?{query}", timeout=60) as answer:
            return answer.read()

    def graph(self) -> Graph:
        """An empty prompt to fill."""
        return Graph(self.kinds)


class Graph:
    """A prompt in API format, made node by node; widgets that are not named get the defaults of `/object_info`."""

    def __init__(self, kinds: dict[str, Any]) -> None:
        self.kinds, self.prompt = kinds, {}

    def __call__(self, kind: str, **inputs: Any) -> list | tuple:
        """Add a node; its output as a link, or a tuple of links if there are several."""
        known = self.kinds[kind]
        for name, (of, *options) in (known["input"].get("required") or {}).items():
            options = options[0] if options else {}
            if name not in inputs and "default" in options:
                inputs[name] = options["default"]
            elif name not in inputs and (isinstance(of, list) or of == "COMBO"):
                inputs[name] = (of if isinstance(of, list) else options["options"])[0]
        key = str(len(self.prompt) + 1)
        self.prompt[key] = {"class_type": kind, "inputs": inputs}
        links = tuple([key, slot] for slot in range(len(known["output"])))
        return links[0] if len(links) == 1 else links

    def start(self, model: str = "flow.safetensors", frames: int = 9) -> dict[str, Any]:
        """Load a model and what sampling needs: model, clip, vae, native, positive, negative, latent."""
        model, clip, vae = self("SoraDiTLoadModel", model=model)
        return {
            "model": model, "clip": clip, "vae": vae, "native": self("SoraDiTToComfyModel", model=model),
            "positive": self("CLIPTextEncode", clip=clip, text="a red balloon"),
            "negative": self("CLIPTextEncode", clip=clip, text="rain"),
            "latent": self("SoraDiTEmptyLatent", model=model, width=48, height=32, frames=frames),
        }  # fmt: skip

    def sample(self, at: dict[str, Any], **changes: Any) -> list:
        """KSampler on what `start` gave, three steps of euler."""
        given = {"seed": 5, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
        wires = {"model": at["native"], "latent_image": at["latent"]}
        return self("KSampler", **(given | wires | {k: at[k] for k in ("positive", "negative")} | changes))

    def show(self, at: dict[str, Any], samples: list) -> dict[str, Any]:
        """Decode and preview; returns the prompt."""
        self("PreviewImage", images=self("VAEDecode", vae=at["vae"], samples=samples))
        return self.prompt


@pytest.fixture(scope="session")
def comfy(tmp_path_factory):
    """The server, with small models in its folders and one in an extra model path."""
    base = tmp_path_factory.mktemp("comfyui")
    fill_models(base)
    extra = base / "extra.yaml"
    extra.write_text(f"somewhere:\n  base_path: {base / 'elsewhere'}\n  sora_dit: dits\n")
    server = Server(base, "--extra-model-paths-config", str(extra))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def another(tmp_path_factory):
    """(pack folder or None, options) -> a second server that stops with the session."""
    started = []

    def start(pack: Path | None, *options: str) -> Server:
        started.append(Server(tmp_path_factory.mktemp("other"), *options, pack=pack))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def sky_clips():
    """`fill_with_skies`."""
    return fill_with_skies


@pytest.fixture(scope="session")
def small_models():
    """`fill_models`, for tests that start ComfyUI's Python themselves."""
    return fill_models


@pytest.fixture(scope="module")
def ed(comfy):
    """The editor of the server in a headless browser; skips where there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    browser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(browser)
    with browser.editor(comfy.url) as page:
        page.kit = browser
        yield page
