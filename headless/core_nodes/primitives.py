"""A value as a node of its own, and a value shown as text."""

from __future__ import annotations

import json
import sys
from typing import Any

from ..comfy_api import io
from .base import CoreNode


class _Primitive(CoreNode):
    """Passes its widget's value on."""

    passes_on = "value"

    @classmethod
    def execute(cls, value) -> io.NodeOutput:
        return io.NodeOutput(value)


def _schema(node_id: str, name: str, value: Any, output: Any, description: str) -> io.Schema:
    return io.Schema(
        node_id=node_id,
        display_name=name,
        category="utils/primitive",
        description=description,
        inputs=[value],
        outputs=[output],
    )


class PrimitiveInt(_Primitive):
    """A whole number."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        value = io.Int.Input("value", min=-sys.maxsize, max=sys.maxsize, control_after_generate=True)
        return _schema("PrimitiveInt", "Int", value, io.Int.Output(), "A whole number for several nodes.")


class PrimitiveFloat(_Primitive):
    """A number."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        value = io.Float.Input("value", min=-sys.maxsize, max=sys.maxsize, step=0.1)
        return _schema("PrimitiveFloat", "Float", value, io.Float.Output(), "A number for several nodes.")


class PrimitiveString(_Primitive):
    """A line of text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        value = io.String.Input("value")
        return _schema("PrimitiveString", "String", value, io.String.Output(), "A line of text for several nodes.")


class PrimitiveStringMultiline(_Primitive):
    """A text of several lines."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        value, output = io.String.Input("value", multiline=True), io.String.Output()
        return _schema("PrimitiveStringMultiline", "String (Multiline)", value, output, "A text for several nodes.")


class PrimitiveBoolean(_Primitive):
    """Yes or no."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        value = io.Boolean.Input("value")
        return _schema("PrimitiveBoolean", "Boolean", value, io.Boolean.Output(), "Yes or no for several nodes.")


class PreviewAny(CoreNode):
    """Any value -> its text, which the command line prints."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewAny",
            display_name="Preview as Text",
            category="utils",
            description="Shows any value as text; headless it is printed.",
            inputs=[io.AnyType.Input("source")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, source=None) -> io.NodeOutput:
        return io.NodeOutput(ui={"text": (_as_text(source),)})


def _as_text(value: Any) -> str:
    """Texts and numbers as they are, what JSON can hold as JSON, and anything else as Python shows it."""
    if value is None or isinstance(value, (str, int, float)):
        return str(value)
    try:
        return json.dumps(value, indent=4)
    except (TypeError, ValueError, RecursionError):
        return str(value)


NODES = (PrimitiveInt, PrimitiveFloat, PrimitiveString, PrimitiveStringMultiline, PrimitiveBoolean, PreviewAny)
