"""Small nodes that show one behaviour each; they import no torch. `CALLS` says who ran with what."""

import asyncio
import functools
import time
from pathlib import Path

from sora_dit.dit_core.errors import ShapeError
from sora_dit.headless import session
from sora_dit.headless.comfy_api import ExecutionBlocker, io, ui

CALLS = []
Model = io.Custom("FAKE_MODEL")


def make(node_id, inputs, outputs, execute, display_name=None, more=None, **schema):
    """A node class from its parts; `execute(cls, **inputs)` is logged in CALLS."""
    if asyncio.iscoroutinefunction(execute):

        async def run(cls, **values):
            CALLS.append((node_id, values))
            return await execute(cls, **values)
    else:

        def run(cls, **values):
            CALLS.append((node_id, values))
            return execute(cls, **values)

    if execute is not None:
        run = functools.wraps(execute)(run)  # the runtime looks at the parameters

    def define_schema(cls):
        return io.Schema(
            node_id=node_id, display_name=display_name, category="Fake", inputs=inputs, outputs=outputs,
            description=f"{node_id} for tests.", **schema,
        )  # fmt: skip

    methods = {"define_schema": define_schema, "execute": run, **(more or {})}
    return type(node_id, (io.ComfyNode,), {name: classmethod(one) for name, one in methods.items()})


def check_width(cls, width):
    return (
        True if width is None or width % 8 == 0 else f"got {width}; expected a multiple of 8, such as {width // 8 * 8}."
    )


def run_steps(cls, latent, steps, delay):
    for index in range(steps):
        time.sleep(delay)
        session.current().step(index + 1, steps)
    session.current().record(steps=steps)
    return ({**latent, "steps": steps},)


def save(cls, value, prefix):
    folder = Path(session.current().output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}.txt"
    path.write_text(str(value), encoding="utf-8")
    return io.NodeOutput(ui=ui.PreviewVideo([ui.SavedResult(path.name, "", io.FolderType.output)]))


def still_needed(cls, choice, on=None, off=None):
    name = "on" if choice else "off"
    return [name] if (on if choice else off) is None else []


async def wait(cls, value, seconds):
    await asyncio.sleep(seconds)
    return (value,)


def fail(cls, kind):
    errors = {
        "ours": ShapeError("The latent has 3 channels; expected 16."),
        "memory": MemoryError(),
        "torch memory": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 GB"),
        "disk": OSError(28, "No space left on device", "out/clip.mp4"),
        "other": KeyError("lost"),
    }
    raise errors[kind]


def grown(cls, kind, things):
    return (f"{kind['kind']}:{kind.get('size')}:{sorted(things.items())}",)


NODES = [
    make("FakeText", [io.String.Input("text", multiline=True)], [io.String.Output()], lambda cls, text: (text,),
         "Prompt"),
    make("FakeInt", [io.Int.Input("value", default=1, min=0, max=100)], [io.Int.Output()], lambda cls, value: (value,)),
    make("FakeFloat", [io.Float.Input("value", min=0, max=1)], [io.Float.Output()], lambda cls, value: (value,)),
    make("FakeFlag", [io.Boolean.Input("value")], [io.Boolean.Output()], lambda cls, value: (value,)),
    make(
        "FakeLoad",
        [io.Combo.Input("file", options=["tiny.safetensors", "large.safetensors"])],
        [Model.Output("model"), io.Clip.Output("clip")],
        lambda cls, file: ({"model": file}, {"clip": file}),
        "Load Model",
    ),
    make(
        "FakeLatent",
        [
            Model.Input("model"),
            io.Int.Input("width", min=16, max=512),
            io.Int.Input("seed", default=0, min=0, max=2**63, optional=True),
        ],
        [io.Latent.Output("latent")],
        lambda cls, model, width, seed=0: ({"width": width, "seed": seed},),
        "Empty Latent",
        {"validate_inputs": check_width},
    ),
    make(
        "FakeSteps",
        [io.Latent.Input("latent"), io.Int.Input("steps", min=1, max=1000), io.Float.Input("delay", default=0.0)],
        [io.Latent.Output("latent")],
        run_steps,
        "Denoise",
    ),
    make("FakeShow", [io.AnyType.Input("value")], [], lambda cls, value: io.NodeOutput(ui=ui.PreviewText(value)),
         "Show", is_output_node=True),
    make("FakeSave", [io.AnyType.Input("value"), io.String.Input("prefix")], [], save, "Save", is_output_node=True),
    make("FakeAdd", [io.Int.Input("a"), io.Int.Input("b")], [io.Int.Output()], lambda cls, a, b: (a + b,), "Add"),
    make("FakeList", [io.Int.Input("count")], [io.Int.Output("items", is_output_list=True)],
         lambda cls, count: (list(range(count)),)),
    make("FakeJoin", [io.AnyType.Input("values"), io.String.Input("between")], [io.String.Output()],
         lambda cls, values, between: (between[0].join(map(str, values)),), is_input_list=True),
    make(
        "FakeSwitch",
        [io.Boolean.Input("choice"), io.AnyType.Input("on", lazy=True, optional=True),
         io.AnyType.Input("off", lazy=True, optional=True)],
        [io.AnyType.Output()],
        lambda cls, choice, on=None, off=None: (on if choice else off,),
        "Switch",
        {"check_lazy_status": still_needed},
    ),
    make("FakeWait", [io.AnyType.Input("value"), io.Float.Input("seconds")], [io.AnyType.Output()], wait),
    make("FakeBlock", [io.AnyType.Input("value"), io.Boolean.Input("block")], [io.AnyType.Output()],
         lambda cls, value, block: io.NodeOutput(ExecutionBlocker("no sky in it") if block else value), "Gate"),
    make("FakeFail", [io.Combo.Input("kind", options=["ours", "memory", "torch memory", "disk", "other"])],
         [io.AnyType.Output()], fail, "Breaks"),
    make("FakeShort", [], [io.Int.Output(), io.Int.Output("two")], lambda cls: (1,)),
    make("FakeHidden", [], [io.AnyType.Output()], lambda cls: (dict(vars(cls.hidden)),),
         hidden=[io.Hidden.unique_id, io.Hidden.prompt]),
    make("FakeFile", [io.String.Input("path")], [io.String.Output()], lambda cls, path: (Path(path).read_text(),),
         more={"fingerprint_inputs": lambda cls, path: Path(path).read_text()}),
    make("FakeNaN", [], [io.Int.Output()], lambda cls: (1,), more={"fingerprint_inputs": lambda cls: float("nan")}),
    make("FakeAlone", [], [io.AnyType.Output()], lambda cls: (object(),), not_idempotent=True),
    make("FakeTwin", [], [io.AnyType.Output()], lambda cls: (object(),)),
    make("FakeUnion", [io.MultiType.Input("value", [io.Int, io.Float])], [io.AnyType.Output()],
         lambda cls, value: (value,), "Union"),
    make(
        "FakeDynamic",
        [
            io.DynamicCombo.Input("kind", options=[
                io.DynamicCombo.Option("plain", []),
                io.DynamicCombo.Option("sized", [io.Int.Input("size", min=1, max=9)]),
            ]),
            io.Autogrow.Input(
                "things", template=io.Autogrow.TemplatePrefix(io.Int.Input("thing"), "thing", min=1, max=3)
            ),
        ],
        [io.String.Output()],
        grown,
        "Dynamic",
    ),
    make("FakeState", [], [io.Int.Output()], lambda cls: setattr(cls, "x", 1)),
    make("FakeTorch", [], [io.String.Output()],
         lambda cls: (str(__import__("torch").is_inference_mode_enabled()),)),
]  # fmt: skip
