"""Station 4: how large and how long the clip will be."""

from __future__ import annotations

from . import _checks, host
from .host import io


class SoraDiTEmptyLatent(io.ComfyNode):
    """Model or VAE, size -> LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        space, time = _checks.SPATIAL_FACTOR, _checks.TEMPORAL_FACTOR
        largest, longest = _checks.LARGEST_SIDE, _checks.MOST_FRAMES
        return host.schema(
            node_id="SoraDiTEmptyLatent",
            display_name="Empty Video Latent (Sora DiT)",
            category="Sora DiT/latent",
            description="Says how large and how long the clip will be: an empty latent (the small form of a video that "
            "the model works on) for the denoise node to fill.",
            search_aliases=["size", "resolution", "frames", "empty latent video"],
            inputs=[
                io.MultiType.Input(
                    "model",
                    types=[host.SoraDit, io.Vae],
                    tooltip="The model, or its VAE: it knows how much smaller a latent is than the picture.",
                ),
                io.Int.Input(
                    "width",
                    default=96,
                    min=space,
                    max=largest,
                    step=space,
                    tooltip=f"Width of the picture in pixels, {space} to {largest}, a multiple of {space}. Models are "
                    "best near the size they were trained at; twice the size takes four times as long "
                    "or more.",
                ),
                io.Int.Input(
                    "height",
                    default=96,
                    min=space,
                    max=largest,
                    step=space,
                    tooltip=f"Height of the picture in pixels, {space} to {largest}, a multiple of {space}.",
                ),
                io.Int.Input(
                    "frames",
                    default=25,
                    min=1,
                    max=longest,
                    step=time,
                    tooltip=f"Number of frames, 1 (a still picture) to {longest}, one more than a multiple of {time}: "
                    "1, 5, 9, 13, 17, ... Seconds = frames / frames per second (25 frames at 12 per second are 2 "
                    "seconds). Longer clips need more time and memory.",
                ),
                io.Int.Input(
                    "batch_size",
                    display_name="clips",
                    default=1,
                    min=1,
                    max=_checks.LARGEST_BATCH,
                    tooltip=f"How many different clips to make at once, 1 to {_checks.LARGEST_BATCH}. Time and memory "
                    "grow with it; all clips come out one after the other in one sequence.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent", display_name="latent", tooltip="The empty latent. Connect it to a denoise node."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None, frames=None, batch_size=None) -> bool | str:
        problems = _checks.clip_problems(width, height, frames, (_checks.SPATIAL_FACTOR, _checks.TEMPORAL_FACTOR))
        if batch_size is not None and not 1 <= batch_size <= _checks.LARGEST_BATCH:
            problems.append(f"batch_size is {_checks.digits(batch_size)}; expected 1 to {_checks.LARGEST_BATCH}.")
        if not problems and None not in (width, height, frames, batch_size):
            problems += filter(None, [_checks.memory_problem(width, height, frames, batch_size)])
        return "\n".join(problems) or True

    @classmethod
    def execute(cls, model, width, height, frames, batch_size) -> io.NodeOutput:
        factors, channels = _checks.factors_of(model), _checks.channels_of(model)
        shape = _checks.latent_shape(width, height, frames, factors)
        return io.NodeOutput({"samples": host.zeros((batch_size, channels, *shape))})


NODES = (SoraDiTEmptyLatent,)
