"""ComfyUI's execution semantics, one by one."""

import gc
import threading
import time
import weakref

import pytest
from sora_dit.dit_core.errors import Cancelled, ShapeError
from sora_dit.headless import session as sessions
from sora_dit.headless.execute import Runner
from sora_dit.headless.graph import plan
from sora_dit.headless.problems import errors
from sora_dit.headless.registry import Registry
from sora_dit.headless.run_errors import RunError
from sora_dit.headless.session import Session


@pytest.fixture
def run(registry, tmp_path):
    """run(prompt, runner=..., **session fields) -> Outcome; `run.session` is the latest session."""

    def execute(prompt, runner=None, registry=registry, **fields):
        checked = plan(prompt, registry)
        assert not errors(checked.problems), checked.problems
        execute.session = Session(output_dir=tmp_path, prompt=prompt, **fields)
        return (runner or Runner(keep=False)).run(checked, execute.session)

    return execute


def texts(outcome, node_id="show"):
    return outcome.ui[node_id]["text"]


def ran(fakes):
    return [name for name, _ in fakes.CALLS]


def test_only_what_an_output_needs_is_run(run, prompt, fakes):
    outcome = run(
        prompt(a=("FakeInt", {"value": 5}), idle=("FakeInt", {"value": 6}), show=("FakeShow", {"value": "@a"}))
    )
    assert texts(outcome) == [5]
    assert ran(fakes) == ["FakeInt", "FakeShow"]


def test_constants_are_converted_before_the_node_sees_them(run, prompt):
    outcome = run(prompt(a=("FakeInt", {"value": "42"}), show=("FakeShow", {"value": "@a"})))
    assert texts(outcome) == [42]


def test_undeclared_constants_are_dropped(run, prompt):
    assert texts(run(prompt(a=("FakeInt", {"value": 5, "old": 1}), show=("FakeShow", {"value": "@a"})))) == [5]


def test_missing_optional_inputs_are_not_passed(run, prompt, fakes):
    run(prompt(load=("FakeLoad", {"file": "tiny.safetensors"}), a=("FakeLatent", {"model": "@load", "width": 16}),
               show=("FakeShow", {"value": "@a"})))  # fmt: skip
    assert dict(fakes.CALLS)["FakeLatent"] == {"model": {"model": "tiny.safetensors"}, "width": 16}


def test_second_output_is_taken_by_its_number(run, prompt):
    outcome = run(prompt(load=("FakeLoad", {"file": "tiny.safetensors"}), show=("FakeShow", {"value": "@load:1"})))
    assert texts(outcome) == [{"clip": "tiny.safetensors"}]


def test_list_output_calls_the_next_node_once_for_each_item(run, prompt, fakes):
    outcome = run(prompt(many=("FakeList", {"count": 3}), a=("FakeAdd", {"a": "@many", "b": 10}),
                         show=("FakeShow", {"value": "@a"})))  # fmt: skip
    assert texts(outcome) == [10, 11, 12]  # ui of all calls is joined
    assert ran(fakes).count("FakeAdd") == 3


def test_the_shorter_list_repeats_its_last_item(run, prompt):
    outcome = run(prompt(long=("FakeList", {"count": 4}), short=("FakeList", {"count": 2}),
                         a=("FakeAdd", {"a": "@long", "b": "@short"}), show=("FakeShow", {"value": "@a"})))  # fmt: skip
    assert texts(outcome) == [0 + 0, 1 + 1, 2 + 1, 3 + 1]


def test_input_list_node_gets_whole_lists_also_for_constants(run, prompt, fakes):
    outcome = run(prompt(many=("FakeList", {"count": 3}), a=("FakeJoin", {"values": "@many", "between": "-"}),
                         show=("FakeShow", {"value": "@a"})))  # fmt: skip
    assert texts(outcome) == ["0-1-2"]
    assert dict(fakes.CALLS)["FakeJoin"] == {"values": [0, 1, 2], "between": ["-"]}


def test_empty_list_says_which_input(run, prompt):
    with pytest.raises(
        RunError, match=r"Add \(node a\): the list on its input a is empty; expected at least one value"
    ):
        run(prompt(many=("FakeList", {"count": 0}), a=("FakeAdd", {"a": "@many", "b": 1}),
                   show=("FakeShow", {"value": "@a"})))  # fmt: skip


@pytest.mark.parametrize(("choice", "expected"), [(True, [1]), (False, [2])])
def test_lazy_inputs_run_only_the_branch_that_is_asked_for(run, prompt, fakes, choice, expected):
    graph = prompt(one=("FakeInt", {"value": 1}), two=("FakeInt", {"value": 2}),
                   a=("FakeSwitch", {"choice": choice, "on": "@one", "off": "@two"}),
                   show=("FakeShow", {"value": "@a"}))  # fmt: skip
    assert texts(run(graph)) == expected
    assert ran(fakes) == ["FakeInt", "FakeSwitch", "FakeShow"]


def test_lazy_input_that_another_node_needs_anyway(run, prompt):
    graph = prompt(one=("FakeInt", {"value": 1}), a=("FakeSwitch", {"choice": False, "on": "@one", "off": "@one"}),
                   show=("FakeShow", {"value": "@a"}), other=("FakeShow", {"value": "@one"}))  # fmt: skip
    outcome = run(graph)
    assert texts(outcome) == [1] and texts(outcome, "other") == [1]


def test_lazy_input_that_is_not_linked_is_an_error(run, prompt):
    with pytest.raises(RunError, match=r"Switch \(node a\): it asks for its input on, which is not linked"):
        run(prompt(a=("FakeSwitch", {"choice": True}), show=("FakeShow", {"value": "@a"})))


def test_asynchronous_nodes_overlap(run, prompt):
    graph = prompt(**{f"w{i}": ("FakeWait", {"value": i, "seconds": 0.3}) for i in range(4)},
                   **{f"s{i}": ("FakeShow", {"value": f"@w{i}"}) for i in range(4)})  # fmt: skip
    start = time.perf_counter()
    outcome = run(graph)
    assert time.perf_counter() - start < 0.9  # one after the other would take 1.2 s
    assert [texts(outcome, f"s{i}") for i in range(4)] == [[0], [1], [2], [3]]


def test_asynchronous_node_over_a_list_overlaps_with_itself(run, prompt):
    graph = prompt(many=("FakeList", {"count": 4}), w=("FakeWait", {"value": "@many", "seconds": 0.2}),
                   show=("FakeShow", {"value": "@w"}))  # fmt: skip
    start = time.perf_counter()
    assert texts(run(graph)) == [0, 1, 2, 3]
    assert time.perf_counter() - start < 0.7


def test_blocked_value_stops_the_nodes_behind_it_and_says_why_once(run, prompt, fakes):
    graph = prompt(a=("FakeInt", {"value": 1}), gate=("FakeBlock", {"value": "@a", "block": True}),
                   w=("FakeWait", {"value": "@gate", "seconds": 0.0}), show=("FakeShow", {"value": "@w"}),
                   other=("FakeShow", {"value": "@a"}))  # fmt: skip
    outcome = run(graph)
    assert "show" not in outcome.ui and texts(outcome, "other") == [1]
    assert ran(fakes).count("FakeShow") == 1
    assert [str(note) for note in run.session.notes] == ["FakeWait (node w): Not run: no sky in it"]


def test_gate_that_lets_through(run, prompt):
    graph = prompt(gate=("FakeBlock", {"value": "x", "block": False}), show=("FakeShow", {"value": "@gate"}))
    assert texts(run(graph)) == ["x"]


def test_hidden_values(run, prompt):
    graph = prompt(h=("FakeHidden", {}), show=("FakeShow", {"value": "@h"}))
    assert texts(run(graph)) == [{"unique_id": "h", "prompt": graph}]


def test_dynamic_inputs_arrive_nested(run, prompt):
    graph = prompt(a=("FakeInt", {"value": 7}),
                   d=("FakeDynamic", {"kind": "sized", "kind.size": 3, "things.thing0": "@a", "things.thing1": 8}),
                   show=("FakeShow", {"value": "@d"}))  # fmt: skip
    assert texts(run(graph)) == ["sized:3:[('thing0', 7), ('thing1', 8)]"]


def test_nodes_run_in_inference_mode(run, prompt):
    assert texts(run(prompt(a=("FakeTorch", {}), show=("FakeShow", {"value": "@a"})))) == ["True"]


def test_a_node_cannot_keep_state_on_its_class(run, prompt):
    with pytest.raises(RunError, match="cannot be set during execution"):
        run(prompt(a=("FakeState", {}), show=("FakeShow", {"value": "@a"})))


def test_fewer_values_than_declared_outputs_is_an_error(run, prompt):
    with pytest.raises(RunError, match="it returned 1 values; its schema declares 2 outputs"):
        run(prompt(a=("FakeShort", {}), show=("FakeShow", {"value": "@a"})))


# --- memory and reuse ---


class Big:
    """Something whose life can be watched."""


def test_a_value_is_freed_when_its_last_consumer_has_run(run, prompt, fakes):
    alive = []
    registry = Registry.of(fakes.NODES)
    any_input = fakes.io.AnyType.Input("value")

    def big(cls):
        value = Big()
        alive.append(weakref.ref(value))
        return (value,)

    def count(cls, value, after=None):
        fakes.CALLS.clear()  # the log holds values too
        gc.collect()
        return (sum(one() is not None for one in alive),)

    after = fakes.io.AnyType.Input("after", optional=True)
    registry.add(fakes.make("Big", [], [fakes.io.AnyType.Output()], big))
    registry.add(fakes.make("Count", [any_input, after], [fakes.io.AnyType.Output()], count))
    graph = prompt(big=("Big", {}), first=("Count", {"value": "@big"}),
                   second=("Count", {"value": 0, "after": "@first"}), third=("Count", {"value": 1, "after": "@second"}),
                   s1=("FakeShow", {"value": "@first"}), s2=("FakeShow", {"value": "@second"}),
                   s3=("FakeShow", {"value": "@third"}))  # fmt: skip
    outcome = run(graph, registry=registry)
    assert [texts(outcome, one) for one in ("s1", "s2", "s3")] == [[1], [0], [0]]


def test_an_abandoned_lazy_branch_does_not_hold_values(run, prompt, fakes):
    alive = []
    registry = Registry.of(fakes.NODES)

    def big(cls):
        value = Big()
        alive.append(weakref.ref(value))
        return (value,)

    def count(cls, value):
        fakes.CALLS.clear()
        gc.collect()
        return (sum(one() is not None for one in alive),)

    io = fakes.io
    registry.add(fakes.make("Big", [], [io.AnyType.Output()], big))
    registry.add(fakes.make("Use", [io.AnyType.Input("value")], [io.Int.Output()], lambda cls, value: (1,)))
    registry.add(fakes.make("Count", [io.AnyType.Input("value")], [io.AnyType.Output()], count))
    # `costly` may be asked for by the switch and wants the big value; once the switch has run, nobody does.
    graph = prompt(big=("Big", {}), use=("Use", {"value": "@big"}),
                   costly=("FakeWait", {"value": "@big", "seconds": 0.0}),
                   sw=("FakeSwitch", {"choice": True, "on": "@use", "off": "@costly"}), n=("Count", {"value": "@sw"}),
                   show=("FakeShow", {"value": "@n"}))  # fmt: skip
    assert texts(run(graph, registry=registry)) == [0]


def test_an_output_that_a_cached_node_did_not_want_still_gets_its_inputs(run, prompt, fakes):
    """A cached output gives up its lazy link to another output; that one must not lose its own sources."""
    registry, io = Registry.of(fakes.NODES), fakes.io
    failures = [RuntimeError("only the first time")]

    def show(cls, value):
        if failures:
            raise failures.pop()
        return io.NodeOutput(value, ui={"text": [value]})

    value, lazy = io.AnyType.Input("value"), io.AnyType.Input("unwanted", lazy=True)
    nothing_needed = {"check_lazy_status": lambda cls, unwanted=None: []}
    registry.add(fakes.make("Once", [value], [io.AnyType.Output()], show, is_output_node=True))
    maybe = fakes.make("Maybe", [lazy], [], lambda cls, unwanted=None: None, more=nothing_needed, is_output_node=True)
    registry.add(maybe)
    runner = Runner()
    graph = prompt(maybe=("Maybe", {"unwanted": "@mid"}), a=("FakeInt", {"value": 4}), mid=("Once", {"value": "@a"}))
    with pytest.raises(RunError, match="only the first time"):
        run(graph, runner, registry=registry)
    assert ran(fakes) == ["Maybe", "FakeInt", "Once"]
    assert texts(run(graph, runner, registry=registry), "mid") == [4]


def test_a_reused_runner_runs_only_what_changed(run, prompt, fakes):
    runner = Runner()

    def graph(value):
        return prompt(a=("FakeInt", {"value": 1}), b=("FakeInt", {"value": value}),
                      sum=("FakeAdd", {"a": "@a", "b": "@b"}), show=("FakeShow", {"value": "@sum"}))  # fmt: skip

    assert texts(run(graph(2), runner)) == [3]
    fakes.CALLS.clear()
    outcome = run(graph(2), runner)
    assert texts(outcome) == [3] and fakes.CALLS == [] and outcome.seconds == {}  # ui comes from the cache
    outcome = run(graph(5), runner)
    assert texts(outcome) == [6] and ran(fakes) == ["FakeInt", "FakeAdd", "FakeShow"]
    assert len(runner.cache) == 4  # only what the latest prompt used


def test_a_runner_that_keeps_nothing(run, prompt, fakes):
    runner = Runner(keep=False)
    graph = prompt(a=("FakeInt", {"value": 1}), show=("FakeShow", {"value": "@a"}))
    run(graph, runner)
    run(graph, runner)
    assert ran(fakes).count("FakeInt") == 2 and runner.cache == {}


def test_the_surroundings_belong_to_the_signature(run, prompt, fakes):
    runner = Runner()
    graph = prompt(a=("FakeInt", {"value": 1}), show=("FakeShow", {"value": "@a"}))
    run(graph, runner, device="cpu")
    run(graph, runner, device="cuda")
    assert ran(fakes).count("FakeInt") == 2


def test_fingerprint_decides_over_equal_constants(run, prompt, fakes, tmp_path):
    runner, file = Runner(), tmp_path / "clip.txt"
    graph = prompt(a=("FakeFile", {"path": str(file)}), show=("FakeShow", {"value": "@a"}))
    for content, expected in (("one", 1), ("one", 1), ("two", 2)):
        file.write_text(content)
        assert texts(run(graph, runner)) == [content]
        assert ran(fakes).count("FakeFile") == expected


def test_nan_fingerprint_always_runs(run, prompt, fakes):
    runner = Runner()
    graph = prompt(a=("FakeNaN", {}), show=("FakeShow", {"value": "@a"}))
    run(graph, runner)
    run(graph, runner)
    assert ran(fakes).count("FakeNaN") == 2


def test_equal_nodes_run_once_unless_not_idempotent(run, prompt, fakes):
    graph = prompt(t1=("FakeTwin", {}), t2=("FakeTwin", {}), a1=("FakeAlone", {}), a2=("FakeAlone", {}),
                   t=("FakeJoin", {"values": "@t1", "between": "@x"}), x=("FakeText", {"text": ""}),
                   **{f"s{one}": ("FakeShow", {"value": f"@{one}"}) for one in ("t1", "t2", "a1", "a2")})  # fmt: skip
    outcome = run(graph)
    assert texts(outcome, "st1") == texts(outcome, "st2")
    assert texts(outcome, "sa1") != texts(outcome, "sa2")
    assert ran(fakes).count("FakeTwin") == 1 and ran(fakes).count("FakeAlone") == 2


def test_facts_of_a_cached_node_stay_in_the_manifest(run, prompt):
    runner = Runner()
    graph = prompt(load=("FakeLoad", {"file": "tiny.safetensors"}), lat=("FakeLatent", {"model": "@load", "width": 16}),
                   den=("FakeSteps", {"latent": "@lat", "steps": 3, "delay": 0.0}),
                   show=("FakeShow", {"value": "@den"}))  # fmt: skip
    run(graph, runner)
    run(graph, runner)
    facts = run.session.full_manifest()["nodes"]["den"]
    assert facts["steps"] == 3 and facts["class_type"] == "FakeSteps" and facts["cached"] is True


# --- errors and cancel ---


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("ours", r"^Breaks \(node a\): The latent has 3 channels; expected 16\.$"),
        ("memory", r"^Breaks \(node a\): there is not enough memory\. Use a smaller width"),
        ("torch memory", r"^Breaks \(node a\): there is not enough memory\. Use a smaller width"),
        ("disk", r"^Breaks \(node a\): the disk is full; could not write out/clip\.mp4"),
        ("other", r"^Breaks \(node a\): it failed with KeyError: 'lost'\. Run again with --verbose to see where\.$"),
    ],
)
def test_errors_are_one_sentence_with_the_node(run, prompt, kind, sentence):
    with pytest.raises(RunError, match=sentence) as caught:
        run(prompt(a=("FakeFail", {"kind": kind}), show=("FakeShow", {"value": "@a"})))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None and caught.value.class_type == "FakeFail"
    assert isinstance(caught.value.__cause__, ShapeError) == (kind == "ours")


def test_a_failing_node_stops_asynchronous_ones(run, prompt):
    graph = prompt(w=("FakeWait", {"value": 1, "seconds": 30.0}), s=("FakeShow", {"value": "@w"}),
                   a=("FakeFail", {"kind": "other"}), show=("FakeShow", {"value": "@a"}))  # fmt: skip
    start = time.perf_counter()
    with pytest.raises(RunError):
        run(graph)
    assert time.perf_counter() - start < 5


def steps_graph(prompt, delay, steps=1000):
    return prompt(load=("FakeLoad", {"file": "tiny.safetensors"}), lat=("FakeLatent", {"model": "@load", "width": 16}),
                  den=("FakeSteps", {"latent": "@lat", "steps": steps, "delay": delay}),
                  show=("FakeShow", {"value": "@den"}))  # fmt: skip


def test_cancel_stops_within_a_step(run, prompt, fakes):
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    start = time.perf_counter()
    with pytest.raises(Cancelled):
        run(steps_graph(prompt, 0.02), cancel=cancel)
    assert time.perf_counter() - start < 3
    assert "FakeShow" not in ran(fakes)


def test_cancel_stops_a_waiting_asynchronous_node(run, prompt):
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    start = time.perf_counter()
    with pytest.raises(Cancelled):
        run(prompt(w=("FakeWait", {"value": 1, "seconds": 30.0}), s=("FakeShow", {"value": "@w"})), cancel=cancel)
    assert time.perf_counter() - start < 5


def test_runs_inside_a_running_event_loop(run, prompt):
    """As in a notebook."""
    import asyncio

    async def notebook():
        return run(prompt(a=("FakeInt", {"value": 5}), show=("FakeShow", {"value": "@a"})))

    assert texts(asyncio.run(notebook())) == [5]


def test_progress_events_come_in_order(run, prompt):
    events = []

    class Sink(sessions.NoProgress):
        def node_started(self, node):
            events.append(("start", node.node_id))

        def node_progress(self, node, step, total, preview=None):
            events.append((node.node_id, step, total))

        def node_finished(self, node, seconds, cached):
            events.append(("end", node.node_id, cached))

    run(steps_graph(prompt, 0.0, steps=2), progress=Sink())
    start = events.index(("start", "den"))
    assert events[start : start + 4] == [("start", "den"), ("den", 1, 2), ("den", 2, 2), ("end", "den", False)]


def test_session_is_seen_from_a_thread_that_a_node_starts(run, prompt, fakes):
    seen = []
    registry = Registry.of(fakes.NODES)

    def work(cls):
        def look():
            seen.append((sessions.current(), sessions.current().current_node().node_id))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return (1,)

    registry.add(fakes.make("Threaded", [], [fakes.io.Int.Output()], work))
    run(prompt(a=("Threaded", {}), show=("FakeShow", {"value": "@a"})), registry=registry)
    assert seen == [(run.session, "a")]
    assert sessions.current() is not run.session  # and it is gone after the run


def test_deep_graphs_need_no_recursion(run, prompt):
    nodes = {"n0": ("FakeInt", {"value": 1})}
    nodes |= {f"n{i}": ("FakeAdd", {"a": f"@n{i - 1}", "b": i % 7}) for i in range(1, 1500)}
    outcome = run(prompt(**nodes, show=("FakeShow", {"value": "@n1499"})))
    assert texts(outcome) == [1 + sum(i % 7 for i in range(1, 1500))]
