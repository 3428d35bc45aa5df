"""The command line as a process of its own: signals, broken streams, what is imported."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from flows import EDITOR, GOOD
from sora_dit.headless import cli

HERE = Path(__file__).parent
NOTHING_LEFT = "stopped; nothing unfinished was left behind."
PROCESS = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("fakes", sys.argv[1])
fakes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fakes)
import sora_dit.nodes
sora_dit.nodes.node_classes = lambda: fakes.NODES
from sora_dit.headless.cli import main
sys.exit(main(sys.argv[2:]))
"""


def start(tmp_path, *arguments, **more):
    command = [sys.executable, "-c", PROCESS, str(HERE / "fake_nodes.py"), *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command, cwd=tmp_path, text=True, **streams)


STEPS = {
    "1": {"class_type": "FakeLoad", "inputs": {"file": "tiny.safetensors"}},
    "2": {"class_type": "FakeLatent", "inputs": {"model": ["1", 0], "width": 64}},
    "3": {"class_type": "FakeSteps", "inputs": {"latent": ["2", 0], "steps": 1000, "delay": 0.1}},
    "4": {"class_type": "FakeSave", "inputs": {"value": ["3", 0], "prefix": "clip"}},
}


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_stops_within_a_step_and_leaves_nothing(flow, tmp_path, name):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # what is ignored is inherited, as by tests that run under nohup
    try:
        process = start(tmp_path, "run", flow(STEPS), "--output", "out", "--verbose")
    finally:
        signal.signal(number, before)
    lines = []
    for line in process.stderr:  # the node before the long one is done
        lines.append(line)
        if "Empty Latent" in line:
            break
    time.sleep(0.4)
    sent = time.perf_counter()
    process.send_signal(number)
    _, rest = process.communicate(timeout=20)
    assert process.returncode == 130, rest
    assert time.perf_counter() - sent < 20
    assert NOTHING_LEFT in rest and "Traceback" not in rest
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["parser", "_prepare_process", "open_missing"])
def test_an_early_stop_is_answered(main, monkeypatch, place):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, place, stop)
    assert main("nodes") == (130, "", "stopped.\n")


def test_little_is_imported_before_ctrl_c_is_answered():
    code = (
        "import sys; import sora_dit.headless.cli; print([one for one in sys.modules if one.startswith('sora_dit.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['sora_dit.headless', 'sora_dit.headless.streams', 'sora_dit.headless.cli']\n"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
@pytest.mark.parametrize("ignored", [True, False])
def test_under_nohup_a_closed_terminal_does_not_stop_the_run(ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        cancel = threading.Event()
        with cli.stop_signals(cancel):
            signal.raise_signal(signal.SIGHUP)
        assert cancel.is_set() is not ignored
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def gone_reader():
    """The writing end of a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk():
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("broken", [gone_reader, full_disk])
def test_remarks_that_cannot_be_written_do_not_cost_the_video(flow, tmp_path, broken):
    late = {**GOOD, "9": {"class_type": "FakeInt", "inputs": {"value": -1}}}  # a warning before the run as well
    stderr = broken()
    process = start(tmp_path, "run", flow(late), "--output", "out", stderr=stderr)
    os.close(stderr)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and f"saved {Path('out/clip.txt')}" in out
    assert (tmp_path / "out/clip.txt").read_text() == "hello"


def test_our_own_nodes_need_no_torch_to_be_listed():
    code = (
        "import sys; from sora_dit.headless.cli import main; code = main(['nodes', '--json']);"
        "print(code, [m for m in ('torch', 'numpy', 'av', 'transformers') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "0 []"
    info = json.loads(done.stdout)
    assert all(entry["description"] for entry in info.values())
    ours = [entry for entry in info.values() if not entry["python_module"].endswith(".core_nodes")]
    assert len(ours) >= 10 and all(entry["category"].startswith("Sora DiT/") for entry in ours)


def test_check_imports_nothing_heavy(flow, tmp_path):
    code = PROCESS.replace(
        "sys.exit(main(sys.argv[2:]))",
        "code = main(sys.argv[2:]); print([m for m in ('torch', 'numpy', 'av', 'transformers') if m in sys.modules])",
    )
    for arguments in (["check", flow()], ["nodes"], ["convert", flow(EDITOR, "editor.json")]):
        command = [sys.executable, "-c", code, str(HERE / "fake_nodes.py"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", done.stdout
