"""Station 5: noise becomes a clip, step by step."""

from __future__ import annotations

from . import _sampling, host
from .host import io


class SoraDiTDenoise(io.ComfyNode):
    """Model, SORA_CONDITIONING, LATENT -> LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTDenoise",
            display_name="Denoise (Sora DiT)",
            category="Sora DiT/sampling",
            description="Makes the clip: starts from noise and removes a little of it at each step, following the "
            "prompt. A mask in the latent says what to keep: kept frames and regions come out unchanged.",
            search_aliases=["ksampler", "sampler", "generate"],
            inputs=[
                host.SoraDit.Input("model", tooltip="The model."),
                host.SoraConditioning.Input("conditioning", tooltip="The plan from Timestep Conditioning."),
                io.Latent.Input(
                    "latent",
                    tooltip="What to start from: an empty latent for a new clip, an encoded clip to change it (with "
                    "denoise below 1), or a latent with a noise mask to keep parts of it.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip="Number of the random noise, 0 to 18446744073709551615. The same seed with the same "
                    "settings gives the same clip on every machine; another seed gives another clip.",
                ),
                io.Float.Input(
                    "cfg",
                    default=4.0,
                    min=0.0,
                    max=30.0,
                    step=0.5,
                    round=0.01,
                    tooltip="Guidance scale: how strictly the prompt is followed, 0 to 30. 1 is the model by itself "
                    "and takes half the time; 3 to 7 is usual (starter: 2.5); more gets glaring and stiff.",
                ),
                io.Combo.Input(
                    "sampler",
                    options=list(_sampling.SAMPLERS),
                    default="euler",
                    tooltip="How a step is taken. euler: simple and steady. dpmpp_2m and unipc: finer with few steps. "
                    "heun: finer, but each step takes twice as long. ddim: as euler. ddpm: adds fresh noise at each "
                    "step, needs many steps.",
                ),
                io.Float.Input(
                    "cfg_until",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.01,
                    optional=True,
                    tooltip="Where guidance ends: at the noise level, 0 to 1, below which the model goes on by itself, "
                    "in half the time. 0 guides every step. Starter: 0.7; with 0.9 a second balloon comes less often, "
                    "and clouds follow the prompt less.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The finished clip as a latent. Connect it to a decode node.",
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(cls, model, conditioning, latent, seed, cfg, sampler, cfg_until=0.0) -> io.NodeOutput:
        run = _sampling.Run(seed, cfg, sampler, host.result_device(), cfg_until)
        filled, facts = _sampling.denoise(model, conditioning, latent, run, lambda total: host.progress(cls, total))
        host.record(cls, **facts)
        return io.NodeOutput(filled)


NODES = (SoraDiTDenoise,)
