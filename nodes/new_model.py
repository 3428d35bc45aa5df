"""Training, station 4: a model that knows nothing yet."""

from __future__ import annotations

from . import _checks, _training_models, host
from ._training_inputs import HIDDEN, choice, whole
from .host import io


class SoraDiTNewModel(io.ComfyNode):
    """VAE, CLIP, numbers -> SORA_DIT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTNewModel",
            display_name="New Model (Sora DiT)",
            category="Sora DiT/training",
            description="Makes a video model with random weights, to be trained from scratch. It belongs to one VAE "
            "and one text encoder. The defaults are those of the starter model (7 million weights), which a CPU can "
            "train; width and depth make it larger.",
            search_aliases=["from scratch", "create model", "architecture", "init"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the latents that it will make."),
                io.Clip.Input("clip", tooltip="The text encoder that it will listen to."),
                whole("width", 256, *_training_models.WIDTHS, "Numbers in a token, 24 to 8192, a multiple of 2 x "
                      "heads. Twice as many make about 4 times the weights and the time."),
                whole("depth", 6, 1, 100, "Blocks one after the other, 1 to 100. Weights and time grow with it."),
                whole("heads", 4, *_training_models.HEADS, "Attention heads, 1 to 128. width / heads is usually 64 or "
                      "128; at least 6, and even."),
                whole("patch", 1, 1, 8, "Latent cells in a token, along width and height, 1 to 8. 1 is finest; 2 is 4 "
                      "times fewer tokens, faster, and coarser until late in the training."),
                choice("objective", ["flow", "epsilon", "v"], "What is predicted. flow: the direction from clip to "
                       "noise, learns fastest. epsilon: the noise itself, as in Sora's description. v: between both."),
                choice("modulation", ["shared", "per_block"], "How the timestep reaches the blocks. shared: one "
                       "projection for all (PixArt, Wan). per_block: one for each (DiT), more weights.", advanced=True),
                choice("text", ["both", "cross", "pooled"], "How the words reach the blocks. cross: each token looks "
                       "at the words. pooled: one vector for all, cheapest. both: follows prompts best.",
                       advanced=True),
                whole("model_seed", 1, 0, 2**31 - 1, "Number of the random weights, 0 to 2147483647.", advanced=True,
                      display_name="seed of the weights"),
                host.SoraLatents.Input(
                    "latents", optional=True,
                    tooltip="The cached latents, to measure how strong each channel is: with the objective flow the "
                    "model then learns faster. It also remembers their size and speed.",
                ),
                whole("frame_position", 8, 0, 64, "How finely a token is told where in the frame it is, 0 to 64. 0: "
                      "not at all; it knows distances only, and 'on the left' has to be guessed from the edges.",
                      advanced=True, optional=True, display_name="place in the frame"),
            ],
            outputs=[
                host.SoraDit.Output("model", display_name="model", tooltip="The model; connect it to Train Model."),
            ],
            hidden=HIDDEN,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, width=None, heads=None) -> bool | str:
        return _checks.verdict(
            _checks.within(cls, width=width, heads=heads),
            width=lambda: _training_models.check_width(width, heads),
        )

    @classmethod
    def execute(cls, vae, clip, latents=None, frame_position=8, **shape) -> io.NodeOutput:
        shape["frame_position"] = frame_position
        model = _training_models.new_model(vae, clip, latents, shape)
        host.note(cls, model.name)
        return io.NodeOutput(model)


NODES = (SoraDiTNewModel,)
