"""What is done with pictures on the way: resizing, batches, plain colours, sizes."""

from __future__ import annotations

from ...dit_core.errors import ShapeError
from ..comfy_api import io
from .base import CoreNode, frames_of, require_room
from .resize import CROPS, METHODS, resize

_LARGEST = 16384  # pixels


class ImageScale(CoreNode):
    """IMAGE -> IMAGE of another size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageScale",
            display_name="Upscale Image",
            category="image/upscaling",
            description="Brings pictures to a size. 0 for width or height keeps the proportions.",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("upscale_method", options=list(METHODS)),
                io.Int.Input("width", default=512, min=0, max=_LARGEST, step=1),
                io.Int.Input("height", default=512, min=0, max=_LARGEST, step=1),
                io.Combo.Input("crop", options=list(CROPS), tooltip="center cuts the edges, disabled stretches."),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image, upscale_method, width, height, crop) -> io.NodeOutput:
        frames = frames_of(image, "image")
        if width == 0 and height == 0:
            return io.NodeOutput(image)
        rows, columns = frames.shape[1:3]
        width = width or max(1, round(columns * height / rows))
        height = height or max(1, round(rows * width / columns))
        return io.NodeOutput(_resized(frames, width, height, upscale_method, crop))


class ImageScaleBy(CoreNode):
    """IMAGE -> IMAGE larger or smaller by a factor."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageScaleBy",
            display_name="Upscale Image By",
            category="image/upscaling",
            description="Makes pictures larger or smaller by a factor.",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("upscale_method", options=list(METHODS)),
                io.Float.Input("scale_by", default=1.0, min=0.01, max=8.0, step=0.01),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image, upscale_method, scale_by) -> io.NodeOutput:
        frames = frames_of(image, "image")
        width, height = round(frames.shape[2] * scale_by), round(frames.shape[1] * scale_by)
        if 0 in (width, height):
            raise ShapeError(
                f"scale_by is {scale_by:g}, which makes {frames.shape[2]} x {frames.shape[1]} pixels to {width} x "
                f"{height}; expected a factor that leaves at least one pixel."
            )
        return io.NodeOutput(_resized(frames, width, height, upscale_method, "disabled"))


def _resized(frames, width: int, height: int, method: str, crop: str):
    """Frames `[F, H, W, C]` in a new size. Raises `ShapeError` if that does not fit into memory."""
    require_room(width, height, len(frames))
    return resize(frames.movedim(-1, 1), width, height, method, crop).movedim(1, -1)


class ImageBatch(CoreNode):
    """Two IMAGEs -> one, the frames of the second after those of the first, in the first's size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageBatch",
            display_name="Batch Images",
            category="image",
            description="Puts the frames of image2 behind those of image1, brought to its size.",
            is_deprecated=True,
            inputs=[io.Image.Input("image1"), io.Image.Input("image2")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image1, image2) -> io.NodeOutput:
        import torch

        first, second = frames_of(image1, "image1"), frames_of(image2, "image2")
        channels = max(first.shape[-1], second.shape[-1])
        first, second = (_with_channels(frames, channels) for frames in (first, second))
        if first.shape[1:] != second.shape[1:]:
            second = _resized(second, first.shape[2], first.shape[1], "bilinear", "center")
        return io.NodeOutput(torch.cat((first, second)))


def _with_channels(frames, channels: int):
    """Grey becomes colour, and colour without transparency becomes opaque, where `channels` asks for it."""
    import torch

    if frames.shape[-1] == 1 < channels:
        frames = frames.expand(*frames.shape[:-1], 3)
    return torch.nn.functional.pad(frames, (0, channels - frames.shape[-1]), value=1.0)


class ImageFromBatch(CoreNode):
    """IMAGE -> some of its frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageFromBatch",
            category="image/batch",
            description="Takes frames out of a batch; what lies behind its end is cut to it.",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("batch_index", default=0, min=0, max=4095, tooltip="The first frame is 0."),
                io.Int.Input("length", default=1, min=1, max=4096, tooltip="How many frames."),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image, batch_index, length) -> io.NodeOutput:
        frames = frames_of(image, "image")
        start = min(batch_index, len(frames) - 1)
        return io.NodeOutput(frames[start : start + length].clone())


class RepeatImageBatch(CoreNode):
    """IMAGE -> the same frames several times."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RepeatImageBatch",
            category="image/batch",
            description="Repeats all frames, one round after the other.",
            inputs=[io.Image.Input("image"), io.Int.Input("amount", default=1, min=1, max=4096)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image, amount) -> io.NodeOutput:
        frames = frames_of(image, "image")
        require_room(frames.shape[2], frames.shape[1], len(frames) * amount)
        return io.NodeOutput(frames.repeat(amount, 1, 1, 1))


class EmptyImage(CoreNode):
    """A colour -> IMAGE of nothing else."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmptyImage",
            display_name="EmptyImage",
            category="image",
            description="Frames of one colour.",
            inputs=[
                io.Int.Input("width", default=512, min=1, max=_LARGEST, step=1),
                io.Int.Input("height", default=512, min=1, max=_LARGEST, step=1),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="How many frames."),
                io.Int.Input(
                    "color", default=0, min=0, max=0xFFFFFF, step=1, extra_dict={"display": "color"},
                    tooltip="65536 * red + 256 * green + blue, each from 0 to 255.",
                ),
            ],
            outputs=[io.Image.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, width, height, batch_size=1, color=0) -> io.NodeOutput:
        import torch

        require_room(width, height, batch_size)
        rgb = torch.tensor([color >> 16 & 255, color >> 8 & 255, color & 255], dtype=torch.float32) / 255
        return io.NodeOutput(rgb.repeat(batch_size, height, width, 1))


class GetImageSize(CoreNode):
    """IMAGE -> width, height and number of frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GetImageSize",
            display_name="Get Image Size",
            category="image",
            description="Width and height in pixels and the number of frames.",
            inputs=[io.Image.Input("image")],
            outputs=[
                io.Int.Output(display_name="width"),
                io.Int.Output(display_name="height"),
                io.Int.Output(display_name="batch_size"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, image) -> io.NodeOutput:
        count, height, width = frames_of(image, "image").shape[:3]
        return io.NodeOutput(width, height, count)


NODES = (ImageScale, ImageScaleBy, ImageBatch, ImageFromBatch, RepeatImageBatch, EmptyImage, GetImageSize)
