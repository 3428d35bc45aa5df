"""Errors whose message is written for the person who made the mistake.

Every message is a complete sentence that names the input or file, says what was got and what was expected.
The nodes let them pass unchanged; the headless runtime puts the node's title and id in front.
"""

from __future__ import annotations


class SoraDiTError(ValueError):
    """Base of all errors this library raises on purpose."""

    # An editor shows the full name, which would begin with the folder that ComfyUI loaded the pack from.
    __module__ = "sora_dit"

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        cls.__module__ = SoraDiTError.__module__


class ConfigError(SoraDiTError):
    """A configuration holds a value this code does not implement."""


class CheckpointError(SoraDiTError):
    """A weight file cannot be used: unreadable, damaged, foreign, or not matching its configuration."""


class ShapeError(SoraDiTError):
    """A size, frame count or tensor shape does not fit the model."""


class MediaError(SoraDiTError):
    """A video, image or audio file cannot be read or written."""


class DataError(SoraDiTError):
    """A training set cannot be used: no clips, captions that cannot be read, sizes that do not go together."""


class Cancelled(Exception):
    """The person asked to stop; not a mistake, so not a `SoraDiTError`."""
