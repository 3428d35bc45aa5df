"""Progress as text."""

import io

import pytest
from sora_dit.headless.progress import TextProgress, columns, duration
from sora_dit.headless.session import NoProgress, Note, RunningNode, Session, current, node_running, use

NODE = RunningNode("5", "Denoise", "SoraDiTDenoise")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def play(progress, clock, steps=10, seconds=1.0):
    progress.run_started(2)
    progress.node_started(NODE)
    for step in range(1, steps + 1):
        clock.now += seconds
        progress.node_progress(NODE, step, steps)
    progress.node_finished(NODE, steps * seconds, False)
    progress.node_finished(RunningNode("6", "Save", "X"), 0.0, True)
    progress.run_finished()


def test_on_a_terminal_one_line_is_rewritten():
    stream, clock = io.StringIO(), Clock()
    play(TextProgress(stream, interactive=True, clock=clock), clock)
    text = stream.getvalue()
    assert "\r[1/2] Denoise  step 3 of 10  1.0 s a step  about 7.0 s left" in text
    assert text.count("\n") == 2  # one lasting line for each node
    assert text.split("\r")[-1].splitlines() == ["[1/2] Denoise  10 s", "[2/2] Save  unchanged, not run again"]


def test_in_a_file_there_are_few_lines_and_no_carriage_return():
    stream, clock = io.StringIO(), Clock()
    play(TextProgress(stream, interactive=False, clock=clock), clock, steps=40)
    lines = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue() and 4 <= len(lines) <= 7
    assert lines[0] == "[1/2] Denoise  step 11 of 40  1.0 s a step  about 29 s left"
    assert lines[-2:] == ["[1/2] Denoise  40 s", "[2/2] Save  unchanged, not run again"]


def test_long_lines_are_cut_to_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream = io.StringIO()
    TextProgress(stream, interactive=True).node_started(RunningNode("1", "A" * 100, "X"))
    assert len(stream.getvalue().strip("\r")) == 29


@pytest.mark.parametrize("title", ["空に浮かぶ赤い気球", "e\u0301tude", "🎈 Denoise"])
def test_nothing_of_a_wide_line_is_left_on_the_terminal(title):
    stream = io.StringIO()
    progress = TextProgress(stream, interactive=True)
    progress.node_started(RunningNode("1", title, "X"))
    progress._rewrite("short")
    first, second = stream.getvalue().split("\r")[1:]
    assert columns(second) == columns(first) and second.startswith("short")
    assert columns("空é🎈") == 5 and columns("e\u0301") == 1


def test_wide_lines_are_cut_to_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream = io.StringIO()
    TextProgress(stream, interactive=True).node_started(RunningNode("1", "空" * 100, "X"))
    assert 27 <= columns(stream.getvalue().strip("\r")) <= 29


def test_a_title_that_the_console_cannot_show():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252")
    TextProgress(stream, interactive=False).note(RunningNode("1", "空", "X"), "näher")
    stream.flush()
    assert raw.getvalue().decode("cp1252").splitlines() == ["note: ? (node 1): näher"]


def test_a_stream_that_takes_nothing_is_asked_once():
    class Full(io.StringIO):
        asked = 0

        def write(self, text):
            self.asked += 1
            raise OSError(28, "No space left on device")

    stream, clock = Full(), Clock()
    play(TextProgress(stream, interactive=True, clock=clock), clock)
    assert stream.asked == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4219, "0.42 s"), (4.25, "4.2 s"), (42, "42 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (119.7, "2 min 0 s")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_session_without_a_run_is_a_default_one():
    assert current().output_dir.name == "output" and current().current_node() is None
    current().step(1, 2)  # nobody listens


def test_notes_are_said_once_and_facts_go_to_the_node():
    said = []

    class Sink(NoProgress):
        def note(self, node, text):
            said.append((node, text))

    session = Session(progress=Sink())
    with use(session), node_running(session, NODE):
        assert current() is session
        for _ in range(2):
            current().note("The width was cropped to 128.")
        current().record(seed=7)
    session.record(weights="abc")
    assert session.notes == [Note("5", "Denoise", "The width was cropped to 128.")] and len(said) == 1
    assert str(session.notes[0]) == "Denoise (node 5): The width was cropped to 128."
    manifest = session.full_manifest()
    assert manifest["nodes"] == {"5": {"seed": 7}} and manifest["weights"] == "abc"
    assert manifest["packages"]["sora-dit"] and manifest["device"] == "auto"


def test_sessions_nest():
    outer, inner = Session(), Session()
    with use(outer):
        with use(inner):
            assert current() is inner
        assert current() is outer
