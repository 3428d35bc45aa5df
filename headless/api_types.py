"""Stand-in for the socket and widget types of `comfy_api.latest.io` (ComfyUI 0.8.0): names and keyword arguments alike.

A type is a class with `io_type`, `Input` and usually `Output`. `as_dict()` gives the options of the V1 /object_info.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any


class FolderType(str, Enum):
    """Where a saved file lies, relative to which folder."""

    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    """Which upload button the editor shows beside a file list."""

    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class NumberDisplay(str, Enum):
    """How the editor draws a number."""

    number = "number"
    slider = "slider"


def without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    """ComfyUI leaves options out that were not given."""
    return {key: value for key, value in options.items() if value is not None}


class Input:
    """One input of a node; socket types use it as it is."""

    io_type: str = "*"

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: dict[str, Any] | None = None,
        raw_link: bool | None = None,
    ):
        self.id = id
        self.display_name = display_name
        self.optional = optional
        self.tooltip = tooltip
        self.lazy = lazy
        self.extra_dict = dict(extra_dict or {})
        self.rawLink = raw_link

    def get_io_type(self) -> str:
        """The type name in /object_info; several names are joined by commas."""
        return self.io_type

    def get_all(self) -> list[Input]:
        """The input itself, and for dynamic inputs those inside it."""
        return [self]

    def options(self) -> dict[str, Any]:
        """Options of this class of input; subclasses add theirs. None means not given."""
        return {
            "display_name": self.display_name,
            "tooltip": self.tooltip,
            "lazy": self.lazy,
            "rawLink": self.rawLink,
        }

    def as_dict(self) -> dict[str, Any]:
        """The options object of the V1 layout."""
        return without_none({**self.options(), **self.extra_dict})

    def validate(self) -> None:
        """Raise ValueError when the declaration itself is wrong."""


class WidgetInput(Input):
    """An input whose value can be typed in the editor."""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        default: Any = None,
        socketless: bool | None = None,
        widget_type: str | None = None,
        force_input: bool | None = None,
        extra_dict: dict[str, Any] | None = None,
        raw_link: bool | None = None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link)
        self.default = default.value if isinstance(default, Enum) else default
        self.socketless = socketless
        self.widget_type = widget_type
        self.force_input = force_input

    def get_io_type(self) -> str:
        return self.widget_type or super().get_io_type()

    def options(self) -> dict[str, Any]:
        return super().options() | {
            "default": self.default,
            "socketless": self.socketless,
            "widgetType": self.widget_type,
            "forceInput": self.force_input,
        }


class Output:
    """One output of a node."""

    io_type: str = "*"

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ):
        self.id = id
        self.display_name = display_name or id
        self.tooltip = tooltip
        self.is_output_list = is_output_list

    def get_io_type(self) -> str:
        """The type name in /object_info."""
        return self.io_type


class ComfyTypeIO:
    """Base of all types; `Custom` and the table below make the plain ones."""

    io_type: str = "*"
    Type: Any = Any
    Input: type[Input]
    Output: type[Output]


def bind(io_type: str):
    """Class decorator: give a type its name, and its own Input and Output classes that know it."""

    def decorate(cls: type) -> type:
        cls.io_type = io_type
        for part, base in (("Input", Input), ("Output", Output)):
            own = cls.__dict__.get(part, base)
            setattr(cls, part, type(part, (own,), {"io_type": io_type, "__module__": own.__module__}))
        return cls

    return decorate


def Custom(io_type: str) -> type[ComfyTypeIO]:
    """A socket type of any other name, such as SORA_DIT."""
    return bind(io_type)(type(io_type.title().replace("_", ""), (ComfyTypeIO,), {}))


class _IntInput(WidgetInput):
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
        step=None, control_after_generate=None, display_mode=None, socketless=None, force_input=None, extra_dict=None,
        raw_link=None,
    ):  # fmt: skip
        super().__init__(
            id, display_name, optional, tooltip, lazy, default, socketless, None, force_input, extra_dict, raw_link
        )
        self.min, self.max, self.step = min, max, step
        self.control_after_generate = control_after_generate
        self.display_mode = display_mode

    def options(self) -> dict[str, Any]:
        return super().options() | {
            "min": self.min,
            "max": self.max,
            "step": self.step,
            "control_after_generate": self.control_after_generate,
            "display": self.display_mode.value if self.display_mode else None,
        }


class _FloatInput(WidgetInput):
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
        step=None, round=None, display_mode=None, socketless=None, force_input=None, extra_dict=None, raw_link=None,
    ):  # fmt: skip
        super().__init__(
            id, display_name, optional, tooltip, lazy, default, socketless, None, force_input, extra_dict, raw_link
        )
        self.min, self.max, self.step, self.round = min, max, step, round
        self.display_mode = display_mode

    def options(self) -> dict[str, Any]:
        return super().options() | {
            "min": self.min,
            "max": self.max,
            "step": self.step,
            "round": self.round,
            "display": self.display_mode.value if self.display_mode else None,
        }


class _StringInput(WidgetInput):
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, multiline=False, placeholder=None,
        default=None, dynamic_prompts=None, socketless=None, force_input=None, extra_dict=None, raw_link=None,
    ):  # fmt: skip
        super().__init__(
            id, display_name, optional, tooltip, lazy, default, socketless, None, force_input, extra_dict, raw_link
        )
        self.multiline = multiline
        self.placeholder = placeholder
        self.dynamic_prompts = dynamic_prompts

    def options(self) -> dict[str, Any]:
        return super().options() | {
            "multiline": self.multiline,
            "placeholder": self.placeholder,
            "dynamicPrompts": self.dynamic_prompts,
        }


class _BooleanInput(WidgetInput):
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, label_on=None,
        label_off=None, socketless=None, force_input=None, extra_dict=None, raw_link=None,
    ):  # fmt: skip
        super().__init__(
            id, display_name, optional, tooltip, lazy, default, socketless, None, force_input, extra_dict, raw_link
        )
        self.label_on, self.label_off = label_on, label_off

    def options(self) -> dict[str, Any]:
        return super().options() | {"label_on": self.label_on, "label_off": self.label_off}


class _ComboInput(WidgetInput):
    multiselect = False

    def __init__(
        self, id, options=None, display_name=None, optional=False, tooltip=None, lazy=None, default=None,
        control_after_generate=None, upload=None, image_folder=None, remote=None, socketless=None, extra_dict=None,
        raw_link=None,
    ):  # fmt: skip
        super().__init__(
            id, display_name, optional, tooltip, lazy, default, socketless, None, None, extra_dict, raw_link
        )
        if isinstance(options, type) and issubclass(options, Enum):
            options = [member.value for member in options]
        self.choices = options
        self.control_after_generate = control_after_generate
        self.upload = upload
        self.image_folder = image_folder
        self.remote = remote

    def options(self) -> dict[str, Any]:
        return super().options() | {
            "multiselect": self.multiselect,
            "options": self.choices,
            "control_after_generate": self.control_after_generate,
            "image_folder": self.image_folder.value if self.image_folder else None,
            "remote": self.remote,
            **({self.upload.value: True} if self.upload else {}),
        }


class _ComboOutput(Output):
    def __init__(self, id=None, display_name=None, options=None, tooltip=None, is_output_list=False):
        super().__init__(id, display_name, tooltip, is_output_list)
        self.options = options or []


class _MultiTypeInput(Input):
    """Accepts several types; given a widget input instead of an id, it keeps that widget."""

    def __init__(
        self, id, types, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None, raw_link=None
    ):
        self.widget = copy.copy(id) if isinstance(id, Input) else None
        if self.widget is not None:
            optional = self.widget.optional or optional
            tooltip = self.widget.tooltip if self.widget.tooltip is not None else tooltip
            display_name = self.widget.display_name if self.widget.display_name is not None else display_name
            lazy = self.widget.lazy if self.widget.lazy is not None else lazy
            if isinstance(self.widget, WidgetInput):
                self.widget.widget_type = self.widget.get_io_type()
            id = self.widget.id
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link)
        self.io_types = list(types)

    def get_io_type(self) -> str:
        names = [kind.io_type for kind in self.io_types]
        if self.widget is not None:
            names.insert(0, self.widget.get_io_type())
        return ",".join(dict.fromkeys(names))

    def as_dict(self) -> dict[str, Any]:
        return (self.widget.as_dict() if self.widget is not None else {}) | super().as_dict()


@bind("INT")
class Int(ComfyTypeIO):
    """Whole number."""

    Type = int
    Input = _IntInput


@bind("FLOAT")
class Float(ComfyTypeIO):
    """Number."""

    Type = float
    Input = _FloatInput


@bind("STRING")
class String(ComfyTypeIO):
    """Text."""

    Type = str
    Input = _StringInput


@bind("BOOLEAN")
class Boolean(ComfyTypeIO):
    """Yes or no."""

    Type = bool
    Input = _BooleanInput


@bind("COMBO")
class Combo(ComfyTypeIO):
    """One of a list of values."""

    Type = str
    Input = _ComboInput
    Output = _ComboOutput


@bind("COMFY_MULTITYPED_V3")
class MultiType(ComfyTypeIO):
    """Several types on one socket; has no outputs in ComfyUI."""

    Input = _MultiTypeInput


AnyType = Custom("*")
Image = Custom("IMAGE")
Mask = Custom("MASK")
Latent = Custom("LATENT")
Conditioning = Custom("CONDITIONING")
Clip = Custom("CLIP")
Vae = Custom("VAE")
Model = Custom("MODEL")
Sampler = Custom("SAMPLER")
Sigmas = Custom("SIGMAS")
Noise = Custom("NOISE")
Guider = Custom("GUIDER")
Audio = Custom("AUDIO")
Video = Custom("VIDEO")
ClipVision = Custom("CLIP_VISION")
ClipVisionOutput = Custom("CLIP_VISION_OUTPUT")
ControlNet = Custom("CONTROL_NET")
UpscaleModel = Custom("UPSCALE_MODEL")
StyleModel = Custom("STYLE_MODEL")
Hooks = Custom("HOOKS")
LoraModel = Custom("LORA_MODEL")
LossMap = Custom("LOSS_MAP")


def input_dict(inputs: Iterable[Input]) -> dict[str, dict[str, Any]]:
    """The `input` part of V1 /object_info: {"required": {id: (type, options)}, "optional": {...}}."""
    layout: dict[str, dict[str, Any]] = {"required": {}}
    for one in inputs:
        group = layout.setdefault("optional" if one.optional else "required", {})
        group[one.id] = (one.get_io_type(), one.as_dict())
    return layout
