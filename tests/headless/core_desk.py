"""A desk for the tests of the core stand-ins: folders, a registry with two helper nodes, and short ways to run."""

from sora_dit.headless import run_workflow
from sora_dit.headless.comfy_api import io
from sora_dit.headless.registry import load_registry

GIVEN, KEPT = {}, {}
SLOTS = "abcd"


class Give(io.ComfyNode):
    """Puts a Python object on a wire."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Give", inputs=[io.String.Input("name")], outputs=[io.AnyType.Output()], not_idempotent=True
        )

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(GIVEN[name])


class Keep(io.ComfyNode):
    """Keeps up to four values under its title."""

    @classmethod
    def define_schema(cls):
        inputs = [io.AnyType.Input(slot, optional=True) for slot in SLOTS]
        return io.Schema(node_id="Keep", inputs=inputs, is_output_node=True)

    @classmethod
    def execute(cls, **values):
        KEPT.update(values)
        return io.NodeOutput()


class Desk:
    def __init__(self, folder):
        self.input, self.output = folder / "input", folder / "output"
        self.input.mkdir()
        self.registry = load_registry()
        self.registry.add(Give)
        self.registry.add(Keep)
        GIVEN.clear()
        KEPT.clear()

    def run(self, prompt, **options):
        """The `RunResult` of a whole prompt in API format."""
        folders = {"output": self.output, "input": self.input, "device": "cpu"}
        return run_workflow(prompt, registry=self.registry, **(folders | options))

    def give(self, **values):
        """Objects for the `Give` nodes of a prompt, by name."""
        GIVEN.update(values)

    @property
    def kept(self):
        """What the `Keep` node of the last prompt got, by slot."""
        return KEPT

    def __call__(self, **node):
        """Run one node, `Type={input: value}`; its outputs as a list, or the `RunResult` if it has none."""
        ((class_type, inputs),) = node.items()
        prompt = {"node": {"class_type": class_type, "inputs": {}}}
        for name, value in inputs.items():
            if not isinstance(value, (str, int, float, bool)):
                GIVEN[name] = value
                prompt[f"give {name}"] = {"class_type": "Give", "inputs": {"name": name}}
                value = [f"give {name}", 0]
            prompt["node"]["inputs"][name] = value
        count = len(self.registry.schema(class_type).outputs)
        if count:
            prompt["keep"] = {"class_type": "Keep", "inputs": {SLOTS[slot]: ["node", slot] for slot in range(count)}}
        KEPT.clear()
        result = self.run(prompt)
        return [KEPT[slot] for slot in SLOTS[:count]] if count else result

    def saved(self, **node):
        """Run one save node; names of its files, relative to the output folder."""
        return [path.relative_to(self.output).as_posix() for path in self(**node).outputs]

    def files(self):
        """Everything in the output folder, hidden files too."""
        return sorted(path.relative_to(self.output).as_posix() for path in self.output.rglob("*") if path.is_file())
