"""A user's desk: a small model, a workflow that makes a clip with it, folders for files; and what every row must keep.

The tables are in the test files beside this one. A row says what the user does, the exit code (0 fine, 1 failed while
running, 2 refused before anything ran) and words that the message must contain; `Desk.does` checks the rest.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sora_dit
import torch
from sora_dit.headless import cli

TINY = "tiny.safetensors"
GRAPH: dict[str, Any] = {
    "1": {"class_type": "SoraDiTLoadModel", "_meta": {"title": "Load model"},
          "inputs": {"model": TINY, "device": "auto", "dtype": "auto"}},
    "2": {"class_type": "SoraDiTTextEncode", "_meta": {"title": "Prompt"},
          "inputs": {"clip": ["1", 1], "text": "a red balloon"}},
    "3": {"class_type": "SoraDiTTextEncode", "_meta": {"title": "Negative prompt"},
          "inputs": {"clip": ["1", 1], "text": ""}},
    "4": {"class_type": "SoraDiTEmptyLatent", "_meta": {"title": "Size"},
          "inputs": {"model": ["1", 0], "width": 32, "height": 24, "frames": 5, "batch_size": 1}},
    "5": {"class_type": "SoraDiTTimestepConditioning", "_meta": {"title": "Timesteps"},
          "inputs": {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "steps": 2, "schedule": "auto",
                     "shift": 0.0, "denoise": 1.0}},
    "6": {"class_type": "SoraDiTDenoise", "_meta": {"title": "Denoise"},
          "inputs": {"model": ["1", 0], "conditioning": ["5", 0], "latent": ["4", 0], "seed": 1, "cfg": 4.0,
                     "sampler": "euler"}},
    "7": {"class_type": "SoraDiTDecode", "_meta": {"title": "Decode"},
          "inputs": {"vae": ["1", 2], "latent": ["6", 0], "chunk_frames": 0}},
    "8": {"class_type": "SoraDiTAssembleVideo", "_meta": {"title": "Assemble video"},
          "inputs": {"images": ["7", 0], "fps": 8.0}},
    "9": {"class_type": "SoraDiTSaveVideo", "_meta": {"title": "Save video"},
          "inputs": {"video": ["8", 0], "filename_prefix": "sky", "container": "mp4", "codec": "auto",
                     "quality": "high"}},
}  # fmt: skip

# What may never be shown: these stand where a sentence is missing.
UNWORDED = ("Traceback", "internal error", "it failed with", "check of the inputs failed with", "Errno")
LONGEST_LINE = 900  # characters; how to convert a pickle takes 500


def changed(graph: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of `graph` with {"6.inputs.seed": value} put in; `...` removes the place. Numbers count in lists."""
    graph = copy.deepcopy(graph)
    for path, value in changes.items():
        *way, last = path.split(".")
        place: Any = graph
        for key in way:
            place = place[int(key)] if isinstance(place, list) else place[key]
        last = int(last) if isinstance(place, list) else last
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return graph


def files_below(folder: Path) -> dict[str, str]:
    """{path: checksum} of all files; folders and what is no plain file have the checksum "-"."""
    found = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else "-"
    return found


@dataclass
class Outcome:
    """What the user sees. saved: new files in the output folder."""

    code: int
    out: str
    err: str
    saved: list[Path]

    @property
    def errors(self) -> list[str]:
        """Lines that say what is wrong, in alphabetical order."""
        return sorted(line for line in self.err.splitlines() if "error:" in line)


class Desk:
    """The folder in which the commands are run: `flow.json`, `input/`, `models/`, `out/` (not there yet)."""

    def __init__(self, folder: Path, shared_models: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self.shared, self._capsys = folder, shared_models, capsys
        self.models, self.input, self.output = folder / "models", folder / "input", folder / "out"
        self.models.mkdir()
        self.input.mkdir()
        self.write("flow.json", GRAPH)

    def write(self, name: str, content: Any) -> str:
        """Write text, bytes, or anything else as JSON; returns the name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return name

    def arguments(self, *argv: Any) -> list[str]:
        """The command line with the desk's models and output folder, unless it names its own."""
        full = [str(one) for one in argv]
        if full[:1] in (["run"], ["check"]) and "--models" not in full:
            full += ["--models", "models", "--models", str(self.shared)]
        if full[:1] in (["run"], ["check"]) and "--output" not in full:
            full += ["--output", "out"]
        return full

    def does(self, *argv: Any, code: int, words: tuple[str, ...] = (), lines: int = 2) -> Outcome:
        """Run a command and check what every command must keep: see the asserts. lines: error lines at most."""
        before, models = files_below(self.folder), files_below(self.shared)
        outcome = self._call(self.arguments(*argv), before)
        told = f"exit code {outcome.code}\n{outcome.out}\n{outcome.err}"
        assert outcome.code == code, told
        assert not [word for word in words if word not in outcome.err], told
        self._check_words(outcome, lines, told)
        self._check_files(outcome, before, models)
        if argv[:1] == ("run",) and not {"--output", "--device", "--dtype"} & set(argv):
            self._check_agrees(outcome, argv)
        return outcome

    def _call(self, arguments: list[str], before: dict[str, str]) -> Outcome:
        self._capsys.readouterr()
        code = cli.main(arguments)
        shown = self._capsys.readouterr()
        after = files_below(self.folder)
        saved = [self.folder / name for name, digest in after.items() if digest != "-" and before.get(name) != digest]
        return Outcome(code, shown.out, shown.err, saved)

    def _check_words(self, outcome: Outcome, lines: int, told: str) -> None:
        assert not [word for word in UNWORDED if word in outcome.out + outcome.err], told
        assert bool(outcome.errors) == (outcome.code != 0) and len(outcome.errors) <= lines, told
        assert all(len(line) <= LONGEST_LINE for line in outcome.err.splitlines()), told
        for line in outcome.err.splitlines():  # no line without a beginning: what a file holds breaks none
            assert line.startswith(("error: ", "warning: ", "note: ", "usage: ", " ", "[", "done in", "sora-dit")), told
            assert not line.startswith("error: ") or line.endswith((".", "?", ")")), told
        assert not any(ord(letter) < 32 and letter != "\n" for letter in outcome.err), told

    def _check_files(self, outcome: Outcome, before: dict[str, str], models: dict[str, str]) -> None:
        after = files_below(self.folder)
        assert files_below(self.shared) == models and before.items() <= after.items(), "a file was changed"
        assert not list(Path(tempfile.gettempdir()).iterdir())
        if outcome.code:
            assert after == before, "something was left behind"
        for path in outcome.saved:
            assert path.stat().st_size > 0 and not path.name.startswith(".") and path.suffix not in (".part", ".tmp")
        assert [f"saved {path.relative_to(self.folder)}" for path in outcome.saved] == [
            line for line in outcome.out.splitlines() if line.startswith("saved ")
        ]

    def _check_agrees(self, outcome: Outcome, argv: tuple[Any, ...]) -> None:
        """`check` says the same as `run` does before it runs, so exit code 2 needs no run."""
        checked = self._call(self.arguments("check", *argv[1:]), {})
        assert (checked.code == 2) == (outcome.code == 2), checked.err
        assert outcome.code != 2 or checked.errors == [
            line.replace("dit run:", "dit check:") for line in outcome.errors
        ]


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(f"sora_dit_bad_input_{path.parent.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_bundle():
    """`make_bundle(path, seed, text_width, channels, parts)` of the node tests: writes a random model."""
    return _load(Path(__file__).parent.parent / "nodes" / "conftest.py").make_bundle


@pytest.fixture(scope="session")
def shared_models(tmp_path_factory, make_bundle) -> Path:
    """A models folder with the small model; no row may change it."""
    folder = tmp_path_factory.mktemp("shared")
    make_bundle(folder / TINY)
    return folder


@pytest.fixture
def desk(tmp_path, shared_models, capsys, monkeypatch) -> Desk:
    """A fresh desk; it is the working folder, and temporary files go where they are seen."""
    torch.set_num_threads(1)
    (tmp_path / "desk").mkdir()
    (tmp_path / "temp").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    return Desk(tmp_path / "desk", shared_models, capsys)


@pytest.fixture(scope="session")
def editor_graph() -> dict[str, Any]:
    """The example that is shipped, as the editor saves it, made small."""
    path = Path(sora_dit.__file__).parent / "workflows" / "text_to_video.json"
    graph = json.loads(path.read_text(encoding="utf-8"))
    small = {"SoraDiTLoadModel": [TINY], "SoraDiTEmptyLatent": [32, 24, 5], "SoraDiTTimestepConditioning": [2],
             "SoraDiTTextEncode": ["a red balloon"]}  # fmt: skip
    for node in graph["nodes"]:
        values = small.get(node["type"], [])
        node["widgets_values"][: len(values)] = values
    return graph


@pytest.fixture
def changed_graph():
    """`changed_graph({"6.inputs.seed": -1})`: the workflow with places changed; see `changed`."""
    return lambda changes, graph=GRAPH: changed(graph, changes)


@pytest.fixture
def process(desk):
    """`process("run", "flow.json", limit="resource.setrlimit(...)")` in a process of its own: (code, out, err)."""

    def call(*argv: Any, limit: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        start = f"import sys, resource\n{limit}\nfrom sora_dit.headless.cli import main\nsys.exit(main())"
        command = [sys.executable, "-c", start, *desk.arguments(*argv)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 300} | options
        return subprocess.run(command, cwd=desk.folder, **options)

    return call
