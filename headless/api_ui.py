"""The stand-in for the module `comfy_api.latest.ui`: plain records. Previews are not written to disk headless."""

from __future__ import annotations

from typing import Any

from .api_types import FolderType


class SavedResult(dict):
    """A file that a node wrote: name, folder inside the output (input, temp) folder, and which of the three."""

    def __init__(self, filename: str, subfolder: str, type: FolderType):
        super().__init__(filename=filename, subfolder=subfolder, type=FolderType(type).value)

    @property
    def filename(self) -> str:
        """Name without folder."""
        return self["filename"]

    @property
    def subfolder(self) -> str:
        """Folder below the output folder, "" for none."""
        return self["subfolder"]

    @property
    def type(self) -> FolderType:
        """Which folder."""
        return FolderType(self["type"])


class UIOutput:
    """Base: what a node shows, as lists by key."""

    def as_dict(self) -> dict[str, Any]:
        """The record that ComfyUI sends to the editor."""
        raise NotImplementedError


class SavedImages(UIOutput):
    """Images that were saved."""

    def __init__(self, results: list[SavedResult], is_animated: bool = False):
        self.results = results
        self.is_animated = is_animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.results, **({"animated": (True,)} if self.is_animated else {})}


class SavedAudios(UIOutput):
    """Audio files that were saved."""

    def __init__(self, results: list[SavedResult]):
        self.results = results

    def as_dict(self) -> dict[str, Any]:
        return {"audio": self.results}


class PreviewImage(UIOutput):
    """A preview of an IMAGE; headless nobody looks at it, so nothing is written."""

    def __init__(self, image: Any, animated: bool = False, cls: type | None = None, **kwargs: Any):
        self.values: list[SavedResult] = []
        self.animated = animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": (self.animated,)}


class PreviewMask(PreviewImage):
    """A preview of a MASK."""


class PreviewAudio(UIOutput):
    """A preview of an AUDIO."""

    def __init__(self, audio: Any, cls: type | None = None, **kwargs: Any):
        self.values: list[SavedResult] = []

    def as_dict(self) -> dict[str, Any]:
        return {"audio": self.values}


class PreviewVideo(UIOutput):
    """Video files to show, usually just saved."""

    def __init__(self, values: list[SavedResult | dict], **kwargs: Any):
        self.values = values

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": (True,)}


class PreviewText(UIOutput):
    """Text to show; headless it is printed."""

    def __init__(self, value: str, **kwargs: Any):
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        return {"text": (self.value,)}


__all__ = [
    "PreviewAudio",
    "PreviewImage",
    "PreviewMask",
    "PreviewText",
    "PreviewVideo",
    "SavedAudios",
    "SavedImages",
    "SavedResult",
]
