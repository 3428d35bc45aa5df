"""Station 3: text and steps are combined, so that the denoising loop has nothing left to prepare."""

from __future__ import annotations

from . import _sampling, host
from .host import io


class SoraDiTTimestepConditioning(io.ComfyNode):
    """Model, prompts, schedule -> SORA_CONDITIONING, SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTTimestepConditioning",
            display_name="Timestep Conditioning (Sora DiT)",
            category="Sora DiT/conditioning",
            description="Plans the denoising: how many steps, how noisy the clip is at each of them, and what the "
            "prompts say to the model at each step. All of it is worked out here once.",
            search_aliases=["scheduler", "steps", "sigmas", "shift"],
            inputs=[
                host.SoraDit.Input("model", tooltip="The model that will denoise."),
                io.Conditioning.Input("positive", tooltip="The prompt: what should be seen."),
                io.Int.Input(
                    "steps",
                    default=24,
                    min=1,
                    max=1000,
                    tooltip="How many denoising steps, 1 to 1000. 16 to 30 is usual (starter: 14): more take longer "
                    "and bring finer, steadier clips up to about 50, hardly anything after that.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(_sampling.SCHEDULES),
                    default="auto",
                    tooltip="How the noise levels are spread over the steps. auto suits the model. uniform: equal "
                    "steps. cosine: more steps in the middle. beta: more steps at both ends. linspace, karras and "
                    "exponential go with older model kinds (epsilon and v) only.",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    round=0.01,
                    tooltip="0 takes the value that the model was trained for. 0.01 to 100: above 1 spends more steps "
                    "on the rough shapes and the motion, below 1 more on fine detail. Larger and longer clips like "
                    "larger values.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.05,
                    round=0.01,
                    tooltip="How much of the clip is made new, 0.01 to 1. 1 starts from nothing but noise. Less keeps "
                    "more of the latent connected to the denoise node: 0.3 changes textures, 0.7 changes scenes.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="A second prompt: what should not be seen. Without one the clip is pushed away from the "
                    "empty prompt.",
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="Noise levels from another scheduler. Steps, schedule, shift and denoise then do nothing.",
                ),
            ],
            outputs=[
                host.SoraConditioning.Output(
                    "conditioning", display_name="conditioning", tooltip="The plan. Connect it to a denoise node."
                ),
                io.Sigmas.Output(
                    "sigmas",
                    display_name="sigmas",
                    tooltip="The noise levels, one more than there are steps, down to 0.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(cls, model, positive, steps, schedule, shift, denoise, negative=None, sigmas=None) -> io.NodeOutput:
        plan = _sampling.Plan(steps, schedule, shift, denoise, sigmas)
        conditioning = _sampling.prepare(model, positive, negative, plan, host.result_device())
        host.record(cls, schedule=schedule, sigmas=[round(level, 6) for level in conditioning.sigmas.tolist()])
        return io.NodeOutput(conditioning, conditioning.sigmas)


NODES = (SoraDiTTimestepConditioning,)
