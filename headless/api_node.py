"""Stand-in for `ComfyNode`, `Schema`, `NodeOutput` and hidden values of `comfy_api.latest.io` (ComfyUI 0.8.0)."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .api_dynamic import DynamicInput
from .api_types import Input, Output, input_dict


class ExecutionBlocker:
    """Returned in place of an output: nodes that need this value are skipped; `message` is shown unless None."""

    def __init__(self, message: str | None):
        self.message = message


class Hidden(str, Enum):
    """Values that the runtime gives to a node that asks for them in its schema."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"  # noqa: S105 - a name, not a secret
    api_key_comfy_org = "API_KEY_COMFY_ORG"


class HiddenHolder:
    """`cls.hidden` during execution: attributes by the names of `Hidden`, None for what was not asked for."""

    def __init__(self, **values: Any):
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):  # copy and pickle probe for dunders and must not get None
            raise AttributeError(name)
        return None


@dataclass
class Schema:
    """What a node is called, takes and gives. `finalize` and `validate` run in `ComfyNode.GET_SCHEMA`."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def finalize(self) -> None:
        """Fill in what ComfyUI fills in: prompt and workflow for output nodes, ids for unnamed outputs."""
        self.inputs, self.outputs = list(self.inputs or ()), list(self.outputs or ())
        self.hidden = list(self.hidden or ())
        if self.is_output_node:
            for name in (Hidden.prompt, Hidden.extra_pnginfo):
                if name not in self.hidden:
                    self.hidden.append(name)
        for index, output in enumerate(self.outputs):
            if output.id is None:
                output.id = f"_{index}_{output.io_type}_"

    def validate(self) -> None:
        """Raise ValueError if two inputs or two outputs share an id, or an input is declared wrongly."""
        plain = [one.id for one in self.inputs if not isinstance(one, DynamicInput)]
        for what, ids in (("inputs", plain), ("outputs", [one.id for one in self.outputs])):
            twice = [name for name, count in Counter(ids).items() if count > 1]
            if twice:
                raise ValueError(f"{self.node_id}: two {what} share the id {', '.join(twice)}.")
        for one in self.inputs:
            one.validate()

    def input_dict(self) -> dict[str, dict[str, Any]]:
        """V1 `INPUT_TYPES()`: required, optional, hidden."""
        layout = input_dict(self.inputs)
        if self.hidden:
            layout["hidden"] = {one.name: (one.value,) for one in self.hidden}
        return layout


class NodeOutput:
    """Result of `execute`: one value per declared output, and what the editor shows."""

    def __init__(
        self, *args: Any, ui: Any = None, expand: dict[str, Any] | None = None, block_execution: str | None = None
    ):
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        """The values, None if there are none."""
        return self.args or None

    def __getitem__(self, index: int) -> Any:
        return self.args[index]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NodeOutput:
        """From the V1 form {"result": (...), "ui": {...}}."""
        result = data.get("result", ())
        if isinstance(result, ExecutionBlocker):
            return cls(block_execution=result.message)
        return cls(*result, ui=data.get("ui"), expand=data.get("expand"))

    @classmethod
    def of(cls, value: Any) -> NodeOutput:
        """From anything that `execute` may return; TypeError for anything else."""
        if isinstance(value, cls):
            return value
        if value is None:
            return cls()
        if isinstance(value, tuple):
            return cls(*value)
        if isinstance(value, dict):
            return cls.from_dict(value)
        if isinstance(value, ExecutionBlocker):
            return cls(block_execution=value.message)
        raise TypeError(f"execute returned {type(value).__name__}; expected io.NodeOutput, a tuple or None")


class ComfyNode:
    """Base of all nodes: classmethods only, no state."""

    RELATIVE_PYTHON_MODULE: str | None = None
    hidden: HiddenHolder = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        """Say what the node is; cheap and free of side effects, since it is called often."""
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs: Any) -> NodeOutput:
        """Do the work; sync or async."""
        raise NotImplementedError

    @classmethod
    def validate_inputs(cls, **kwargs: Any) -> bool | str:
        """True, or a message. Linked inputs arrive as None; inputs named here lose the built-in range check."""
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        """A value that changes when the node must run again though its inputs are the same (a file's mtime)."""
        raise NotImplementedError

    @classmethod
    def check_lazy_status(cls, **kwargs: Any) -> list[str]:
        """Names of the lazy inputs (those that are None) that are still needed."""
        return [name for name, value in kwargs.items() if value is None]

    @classmethod
    def VALIDATE_CLASS(cls) -> None:
        """Raise if the class lacks what every node must have."""
        for name in ("define_schema", "execute"):
            if not overrides(cls, name):
                raise NotImplementedError(f"{cls.__name__} has no {name}.")

    @classmethod
    def FINALIZE_SCHEMA(cls) -> Schema:
        """A fresh, complete schema."""
        schema = cls.define_schema()
        schema.finalize()
        return schema

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        """A fresh schema, checked."""
        cls.VALIDATE_CLASS()
        schema = cls.FINALIZE_SCHEMA()
        schema.validate()
        return schema

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The V1 description of the inputs."""
        return cls.FINALIZE_SCHEMA().input_dict()

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        """The node's entry in /object_info."""
        from .object_info import node_info

        return node_info(cls)


def overrides(cls: type, name: str) -> bool:
    """Whether a node class has its own `name` instead of the base's."""
    own = inspect.getattr_static(cls, name)
    return own is not inspect.getattr_static(ComfyNode, name)


def locked_clone(cls: type[ComfyNode], hidden: HiddenHolder) -> type[ComfyNode]:
    """A subclass that carries `hidden` and refuses assignment, as in ComfyUI: nodes keep no state on the class."""

    class Locked(type(cls)):
        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(f"{cls.__name__}.{name} cannot be set during execution; nodes keep no state.")

    return Locked(cls.__name__, (cls,), {"hidden": hidden, "__module__": cls.__module__})
