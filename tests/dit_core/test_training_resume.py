"""Stop is a checkpoint: real processes, real kills, and the same weights to the last bit (one thread on a CPU)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sora_dit.dit_core.errors import CheckpointError
from sora_dit.dit_core.lock import FolderInUse, folder_lock
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.callbacks import Callbacks
from sora_dit.dit_core.training.loop import LoopSettings, TrainingDiverged
from sora_dit.dit_core.training.lora import LoraTraining, train_lora
from sora_dit.dit_core.training.optim import make_optimisers
from sora_dit.dit_core.training.sky_data import LatentCache
from sora_dit.dit_core.training.transformer import TransformerTraining, defaults_before, train_transformer
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CPU = torch.device("cpu")
TEXT = {
    "family": "t5", "tokenizer": "byt5", "max_length": 48,
    "config": {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
               "dropout_rate": 0.1},
}  # fmt: skip
CONFIG = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, patch=(1, 1, 1))
STEPS = 40


def cache(seed: int = 3, clips: int = 12) -> LatentCache:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, 250, (clips, 2, 48), generator=generator).short()
    flat = torch.randn(clips, 4, 1, 1, 1, generator=generator).expand(-1, -1, 3, 4, 4)
    return LatentCache(flat.half().contiguous(), tokens)


def train(folder, steps=STEPS, callbacks=None, loop=None, held_out=None, **changes):
    """Everything there is to keep: EMA, two optimisers, accumulation, a text encoder that learns, with dropout."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, text = VideoDiT(CONFIG), TextEncoder.from_config(TEXT)
    settings = dict(batch=4, warmup=4, schedule="cosine", accumulate=2, log_every=3, save_every=0.0) | (loop or {})
    training = TransformerTraining(**{"train_text": True} | changes)
    loop = LoopSettings(steps=steps, **settings)
    return train_transformer(model, text, cache(), Path(folder), loop, training, CPU, callbacks, held_out)


def warm_up():
    """Imports all that a training does, but takes no step: threads of a backward pass would not survive a fork."""
    text = TextEncoder.from_config(TEXT)
    make_optimisers({"text": text.module}, "muon", 1e-3, 0.0)[0].step()


def watched(folder, steps, pause):
    """The same training with everything that watches it; runs in a process of its own and says where it is."""

    def sample(step):
        torch.rand(5)  # a preview may draw as it likes

    def tell(step, total):
        print("step", step, flush=True)
        time.sleep(pause)

    train(folder, steps, Callbacks(step=tell, sample=sample), dict(sample_every=6, held_out_every=20), cache(4))


def differing(a: Path, b: Path) -> list[str]:
    one, two = (load_file(folder / "state.safetensors") for folder in (a, b))
    assert one.keys() == two.keys() and any(key.startswith("optimiser.1.") for key in one)
    assert any(key.startswith("average.") for key in one)
    return [key for key in one if not torch.equal(one[key], two[key])]


def steps_of(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


SERVER = """
import importlib.util, json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
spec = importlib.util.spec_from_file_location("resume_tests", sys.argv[2])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
tests.warm_up()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        tests.watched(*json.loads(line))
        os._exit(0)
    print("process", child, flush=True)
    print("ended", os.waitpid(child, 0)[1], flush=True)
"""


class Processes:
    """Starts trainings in processes of their own: children of one that has torch imported already, which is quicker."""

    def __init__(self):
        command = [sys.executable, "-c", SERVER, json.dumps([str(p) for p in sys.path]), __file__]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, folder, steps=STEPS, pause=0.0) -> int:
        """Returns the process id."""
        self.server.stdin.write(json.dumps([str(folder), steps, pause]) + "\n")
        self.server.stdin.flush()
        return self.wait_for("process")

    def wait_for(self, word: str) -> int:
        """The number behind the next line that begins with `word`."""
        for line in self.server.stdout:
            if line.startswith(word):
                return int(line.split()[1])
            assert not line.startswith("ended"), f"the training ended without saying {word}"
        raise AssertionError(f"the process ended without saying {word}")

    def ended(self) -> int:
        return self.wait_for("ended")


@pytest.fixture(scope="module")
def processes():
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    made = Processes()
    yield made
    made.server.stdin.close()
    made.server.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training without a stop, and without anything that watches it."""
    folder = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    assert train(folder)[1]
    torch.set_num_threads(threads)
    return folder


def test_twenty_steps_then_ctrl_c_and_twenty_more_in_another_process(tmp_path, whole, processes):
    process = processes.start(tmp_path, pause=0.05)
    while processes.wait_for("step") < 20:
        pass
    os.kill(process, signal.SIGINT)
    assert processes.ended() == 0, "Ctrl-C is a way to stop, not an error"
    stopped_at = steps_of(tmp_path)[-1]
    assert 20 <= stopped_at < STEPS
    processes.start(tmp_path)
    assert processes.ended() == 0 and not differing(whole, tmp_path)


def test_killed_at_random_moments(tmp_path, whole, processes):
    """Each kill strikes somewhere in a step, a save or a line of the log; the file is whole after each."""
    kills, chance = 0, random.Random(time.time_ns())
    while True:
        process = processes.start(tmp_path, pause=0.01)
        first = processes.wait_for("step")
        if kills == 4:
            break
        for _ in range(chance.randrange(5)):
            processes.wait_for("step")
        time.sleep(chance.random() * 0.03)
        os.kill(process, signal.SIGKILL)
        assert processes.ended() == signal.SIGKILL
        kills += 1
        state = tmp_path / "state.safetensors"
        assert not state.exists() or all(value.isfinite().all() for value in load_file(state).values())
    assert processes.ended() == 0 and first > 1
    assert not differing(whole, tmp_path)
    steps = steps_of(tmp_path)
    assert steps == sorted(set(steps)) and steps[-1] == STEPS, "no step is told twice"
    assert not list(tmp_path.glob(".*.part")), "what a killed save left behind is cleared away"


def test_two_trainings_in_one_folder(tmp_path, processes):
    process = processes.start(tmp_path, pause=0.05)
    processes.wait_for("step")
    with pytest.raises(FolderInUse, match=rf"in use by a training \(process {process} on .*, since 20"):
        train(tmp_path)
    os.kill(process, signal.SIGKILL)
    processes.ended()
    _, done = train(tmp_path)  # whom a dead process does not hold off
    assert done
    with folder_lock(tmp_path, "a test"), pytest.raises(FolderInUse, match="a test .process"):
        train(tmp_path)


def test_stop_and_errors_of_callbacks_save_the_state(tmp_path, whole):
    stops = iter([False] * 6 + [True])
    position, done = train(tmp_path, callbacks=Callbacks(stop=lambda: next(stops)), loop=dict(save_every=1e9))
    assert not done and position["step"] == 7

    def cancel(step):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train(tmp_path, callbacks=Callbacks(sample=cancel), loop=dict(save_every=1e9, sample_every=15))
    seen, lines, samples = [], [], []
    told = Callbacks(lines.append, lambda *step: seen.append(step), sample=samples.append)
    position, done = train(tmp_path, callbacks=told, loop=dict(save_every=1e9, sample_every=10))
    assert done and seen[0] == (16, STEPS) and seen[-1] == (STEPS, STEPS) and samples == [20, 30, 40]
    assert not differing(whole, tmp_path)
    before = (tmp_path / "state.safetensors").stat().st_mtime_ns
    assert train(tmp_path, callbacks=told)[1] and samples == [20, 30, 40], "what is finished is not trained anew"
    assert (tmp_path / "state.safetensors").stat().st_mtime_ns == before
    told = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [line for line in told if line["step"] > 15]
    assert lines[-1]["memory_bytes"] > 1e7 and lines[-1]["samples_per_second"] > 0 and lines[-1]["total"] == STEPS


def test_another_data_set_and_other_settings_are_said_exactly(tmp_path, monkeypatch):
    def data(seed, contents):
        files = {f"clip{i}.mp4": {"content": c, "captions": "c", "pieces": "p"} for i, c in enumerate(contents)}
        return {
            "data": {"kind": "clips of a folder", "rules": {"fps": "8"}, "files": files},
            "autoencoder": {"w": seed},
        }

    monkeypatch.setattr(LatentCache, "fingerprint", lambda self: data(1, "ab"))
    train(tmp_path, 2)
    with pytest.raises(CheckpointError) as error:
        train(tmp_path, 4, loop=dict(accumulate=1), lr=0.5, known=0.0)
    assert "accumulate was 2 and is 1. training.known was 0.3 and is 0.0. training.lr was 0.003 and is 0.5. Use" in str(
        error.value
    )
    monkeypatch.setattr(LatentCache, "fingerprint", lambda self: data(2, "axy"))
    words = r"1 file is new: clip2\.mp4\. 1 file has another content: clip1\.mp4\. The autoencoder is another one\."
    with pytest.raises(CheckpointError, match=words + " Use the same settings to go on, or another folder"):
        train(tmp_path, 4)


def test_a_state_that_did_not_know_its_data_goes_on(tmp_path, monkeypatch):
    """As older versions of the starter's command wrote it."""
    train(tmp_path, 2)
    monkeypatch.setattr(LatentCache, "fingerprint", lambda self: {"autoencoder": {"weights": "ab"}})
    assert train(tmp_path, 4)


def test_a_state_from_before_these_settings_goes_on(tmp_path, whole):
    train(tmp_path, 20, loop=dict(accumulate=1))
    path = tmp_path / "state.safetensors"
    with safe_open(path, "pt") as file:
        old = file.metadata()
    settings = json.loads(old["settings"])
    assert "checkpoint_activations" not in settings["training"], "what does not change the weights is not compared"
    del settings["accumulate"], settings["training"]["precision"]
    save_file(load_file(path), path, old | {"settings": json.dumps(settings)})
    assert train(tmp_path, 22, loop=dict(accumulate=1), checkpoint_activations=True)[1]


@pytest.mark.parametrize("changes", [dict(optimiser="adamw"), dict(optimiser="muon")])
@pytest.mark.parametrize("warmup", [4, 30])
def test_the_highest_learning_rate_is_said_to_diverge(tmp_path, changes, warmup):
    """The loss rises some tenfold in its first steps and falls again later, to a model that learned nothing."""
    loop = dict(accumulate=1, warmup=warmup, save_every=1e9)
    with pytest.raises(TrainingDiverged, match=r"diverged at step (8|16|24|32|40|48|56|64), .*the loss rose to "):
        train(tmp_path, 64, loop=loop, lr=1.0, train_text=False, **changes)


def without(saved: dict, defaults: dict) -> dict:
    """Saved settings without all that has its default value, as a version wrote them that had no such settings."""
    deep = {k: without(v, defaults[k]) for k, v in saved.items() if isinstance(v, dict) and k in defaults}
    return {k: v for k, v in (saved | deep).items() if k not in defaults or k in deep or v != defaults[k]}


def rewrite(folder: Path, change) -> None:
    """The state in `folder` with its settings changed."""
    path = folder / "state.safetensors"
    with safe_open(path, "pt") as file:
        old = file.metadata()
    settings = change(json.loads(old["settings"]))
    save_file(load_file(path), path, old | {"settings": json.dumps(settings)})


def train_usual(folder, steps, lora, text_seed=0):
    """A training with the usual settings throughout, so that all of them may be missing from its state."""
    torch.manual_seed(0)
    model = VideoDiT(CONFIG)
    torch.manual_seed(text_seed)
    text, loop = TextEncoder.from_config(TEXT), LoopSettings(steps=steps, batch=4, warmup=1)
    if lora:
        return train_lora(model, text, cache(), folder, loop, LoraTraining(), CPU)
    return train_transformer(model, text, cache(), folder, loop, TransformerTraining(), CPU)


@pytest.mark.parametrize("lora", [False, True])
def test_a_state_from_before_any_setting_with_a_default_goes_on(tmp_path, lora):
    train_usual(tmp_path, 1, lora)
    defaults = defaults_before(LoraTraining() if lora else TransformerTraining(), {})
    defaults = json.loads(json.dumps(defaults))
    left = []
    rewrite(tmp_path, lambda saved: left.append(without(saved, defaults)) or left[0])
    assert "accumulate" not in left[0] and not left[0]["training"].get("lora") and "lr" not in left[0]["training"]
    assert "frame_position" not in left[0]["config"] and left[0]["config"]["in_channels"] == 4
    *_, done = train_usual(tmp_path, 2, lora)
    assert done


def test_another_text_encoder_is_said(tmp_path):
    train_usual(tmp_path, 1, False)
    with pytest.raises(CheckpointError, match="belongs to another training. text_encoder is another one. Use"):
        train_usual(tmp_path, 2, False, text_seed=1)
    rewrite(tmp_path, lambda saved: {k: v for k, v in saved.items() if k != "text_encoder"})
    assert train_usual(tmp_path, 2, False)[-1], "a state from before its weights were told goes on"
