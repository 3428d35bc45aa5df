"""Fake nodes and a prompt builder for the tests of the headless runtime."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for what the tests of the command line share


def _load(stem):
    name = f"sora_dit_test_{stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{stem}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def fakes():
    module = _load("fake_nodes")
    module.CALLS.clear()
    return module


@pytest.fixture
def registry(fakes):
    from sora_dit.headless.registry import Registry

    return Registry.of(fakes.NODES)


@pytest.fixture
def prompt():
    """prompt(a=("FakeInt", {"value": 1}), show=("FakeShow", {"value": "@a"})): "@id" or "@id:slot" is a link."""

    def build(**nodes):
        return {
            node_id: {"class_type": class_type, "inputs": {name: _link(value) for name, value in inputs.items()}}
            for node_id, (class_type, inputs) in nodes.items()
        }

    return build


def _link(value):
    if isinstance(value, str) and value.startswith("@"):
        node_id, _, slot = value[1:].partition(":")
        return [node_id, int(slot or 0)]
    return value


@pytest.fixture
def core(tmp_path):
    """Workflows of core nodes: `core(ImageScale=dict(image=tensor, ...))` runs one node and gives its outputs.

    Values that no workflow file can hold come from a node `Give`, results are caught by a node `Keep`; everything
    between is the real runtime. `core.run(prompt)` runs a whole prompt; `core.input` and `core.output` are its folders.
    """
    return _load("core_desk").Desk(tmp_path)


@pytest.fixture
def flow(tmp_path):
    """flow(graph, name) -> path of a file that holds a workflow, `flows.GOOD` unless given."""
    from flows import GOOD

    def write(graph=None, name="flow.json"):
        path, graph = tmp_path / name, GOOD if graph is None else graph
        path.write_text(graph if isinstance(graph, str) else json.dumps(graph), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def main(monkeypatch, fakes, tmp_path, capsys):
    """main("run", ...) -> (exit code, standard output, standard error) with the fake nodes."""
    from sora_dit import nodes
    from sora_dit.headless import cli

    monkeypatch.setattr(nodes, "node_classes", lambda: fakes.NODES)
    monkeypatch.setattr(nodes, "failures", {}, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = cli.main([str(one) for one in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err or "--verbose" in arguments
        return code, captured.out, captured.err

    return call
