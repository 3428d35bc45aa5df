"""Picture files in and out: Load Image, Save Image, animations, previews."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..comfy_api import io, ui
from . import pictures, saving
from .base import CoreNode, frames_of
from .ours import checks, files, host

_METHODS = {"default": 4, "fastest": 0, "slowest": 6}  # libwebp's effort, 0 to 6
_PREFIX = "How the file name begins; a number is added. sky/picture saves into the folder sky. %date:yyyy-MM-dd%, "
_PREFIX += "%Node.widget%, %width% and %height% are filled in."


def prefix_input(default: str) -> Any:
    """The input `filename_prefix` of a save node."""
    return io.String.Input("filename_prefix", default=default, tooltip=_PREFIX)


class _ReadsPicture(CoreNode):
    """What the two loaders share: the file must be there, and a changed file runs the node again."""

    @classmethod
    def validate_inputs(cls, image=None) -> bool | str:
        return checks.verdict(image=lambda: image is None or host.input_path(image))

    @classmethod
    def fingerprint_inputs(cls, image, **_) -> list:
        return list(files.file_identity(host.input_path(image)))


class LoadImage(_ReadsPicture):
    """File -> IMAGE, MASK."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            category="image",
            description="Reads a picture from the input folder; transparency becomes the mask.",
            inputs=[
                io.Combo.Input(
                    "image",
                    options=host.input_files("image"),
                    upload=io.UploadType.image,
                    tooltip='The file in the input folder; "name.png [output]" is one in the output folder.',
                )
            ],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def execute(cls, image) -> io.NodeOutput:
        frames, masks, remarks = pictures.read_pictures(host.input_path(image))
        for remark in remarks:
            host.note(cls, remark)
        return io.NodeOutput(frames, masks)


class LoadImageMask(_ReadsPicture):
    """File -> MASK."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadImageMask",
            display_name="Load Image (as Mask)",
            category="mask",
            description="Reads one channel of a picture as a mask.",
            inputs=[
                io.Combo.Input("image", options=host.input_files("image"), upload=io.UploadType.image),
                io.Combo.Input("channel", options=["alpha", "red", "green", "blue"]),
            ],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, image, channel) -> io.NodeOutput:
        return io.NodeOutput(pictures.read_channel(host.input_path(image), channel))


class SaveImage(CoreNode):
    """IMAGE -> PNG files, one for each frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveImage",
            display_name="Save Image",
            category="image",
            description="Writes each frame as a PNG file that holds the workflow.",
            inputs=[io.Image.Input("images", tooltip="The frames."), prefix_input("ComfyUI")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return saving.prefix_verdict(filename_prefix)

    @classmethod
    def execute(cls, images, filename_prefix="ComfyUI") -> io.NodeOutput:
        frames, texts = frames_of(images, "images"), pictures.png_texts(host.run_metadata(cls))

        def write(number: int, path: Path) -> None:
            pictures.to_picture(frames[number], number).save(path, "PNG", pnginfo=texts, compress_level=4)

        size = (frames.shape[2], frames.shape[1])
        return io.NodeOutput(ui=ui.SavedImages(saving.save(cls, filename_prefix, "png", write, len(frames), size)))


class PreviewImage(CoreNode):
    """IMAGE -> nothing: there is nobody to look at it, but what leads to it is run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewImage",
            display_name="Preview Image",
            category="image",
            description="Shows frames in the editor. Headless it writes nothing; use Save Image to keep them.",
            inputs=[io.Image.Input("images")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images) -> io.NodeOutput:
        frames_of(images, "images")
        host.note(cls, "Without the editor there is nothing to look at; use a Save Image node to keep the frames.")
        return io.NodeOutput(ui=ui.PreviewImage(images, cls=cls))


def _save_animation(cls: type, images: Any, prefix: str, extension: str, options: Callable[[], dict]) -> io.NodeOutput:
    """Save all frames as one file. options: Pillow's, asked for once the frames are known to be good."""
    frames = frames_of(images, "images")

    def write(_: int, path: Path) -> None:
        first, *others = [pictures.to_picture(frame, number) for number, frame in enumerate(frames)]
        kind = "WEBP" if extension == "webp" else "PNG"
        first.save(path, kind, save_all=True, append_images=others, **options())

    saved = saving.save(cls, prefix, extension, write, size=(frames.shape[2], frames.shape[1]))
    return io.NodeOutput(ui=ui.SavedImages(saved, is_animated=len(frames) > 1))


class SaveAnimatedWEBP(CoreNode):
    """IMAGE -> one animated WebP file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveAnimatedWEBP",
            category="image/animation",
            description="Writes the frames as a moving WebP picture that holds the workflow.",
            inputs=[
                io.Image.Input("images"),
                prefix_input("ComfyUI"),
                io.Float.Input("fps", default=6.0, min=0.01, max=1000.0, step=0.01, tooltip="Frames per second."),
                io.Boolean.Input("lossless", default=True),
                io.Int.Input("quality", default=80, min=0, max=100, tooltip="100 is best; lossless: only the effort."),
                io.Combo.Input("method", options=list(_METHODS), tooltip="Slower makes smaller files."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return saving.prefix_verdict(filename_prefix)

    @classmethod
    def execute(cls, images, filename_prefix, fps, lossless, quality, method) -> io.NodeOutput:
        def options() -> dict[str, Any]:
            from ...dit_core.media.animation import webp_metadata  # the same EXIF entries as in our own WebP files

            how = {"lossless": lossless, "quality": quality, "method": _METHODS[method]}
            return how | {"duration": int(1000 / fps), "loop": 0} | webp_metadata(host.run_metadata(cls))

        return _save_animation(cls, images, filename_prefix, "webp", options)


class SaveAnimatedPNG(CoreNode):
    """IMAGE -> one animated PNG file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveAnimatedPNG",
            category="image/animation",
            description="Writes the frames as a moving PNG picture that holds the workflow.",
            inputs=[
                io.Image.Input("images"),
                prefix_input("ComfyUI"),
                io.Float.Input("fps", default=6.0, min=0.01, max=1000.0, step=0.01, tooltip="Frames per second."),
                io.Int.Input("compress_level", default=4, min=0, max=9, tooltip="Higher is smaller and slower."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return saving.prefix_verdict(filename_prefix)

    @classmethod
    def execute(cls, images, filename_prefix, fps, compress_level) -> io.NodeOutput:
        def options() -> dict[str, Any]:
            texts = pictures.apng_texts(host.run_metadata(cls))
            return {"pnginfo": texts, "compress_level": compress_level, "duration": int(1000 / fps)}

        return _save_animation(cls, images, filename_prefix, "png", options)


NODES = (LoadImage, LoadImageMask, SaveImage, PreviewImage, SaveAnimatedWEBP, SaveAnimatedPNG)
