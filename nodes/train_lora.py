"""Training, station 5: a small file learns what is new, the model stays."""

from __future__ import annotations

from . import _checks, _training, _training_files, host
from ._training_inputs import HIDDEN, beside, choice, number, rate, run, samples, trained_outputs, whole
from .host import io


class SoraDiTTrainLora(io.ComfyNode):
    """SORA_DIT, CLIP, SORA_LATENTS -> SORA_DIT, file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        model, trained = trained_outputs("The model with the LoRA in, for sampling.")
        file = io.String.Output("lora", display_name="lora", tooltip="The file's name, as Load LoRA lists it.")
        return host.schema(
            node_id="SoraDiTTrainLora",
            display_name="Train LoRA (Sora DiT)",
            category="Sora DiT/training",
            description="Teaches a finished model something new from few clips (20 are enough): a subject, a look, a "
            "way to move. All its weights stay; beside them a small file learns, which Load LoRA adds again. Cancel "
            "saves: queue it again and it goes on. While it runs the node shows curves and samples.",
            search_aliases=["lora training", "fine-tune", "finetune", "dreambooth", "adapter"],
            inputs=[
                host.SoraDit.Input("model", tooltip="The model to teach, from Load Model. It stays as it is."),
                io.Clip.Input("clip", tooltip="The model's text encoder, the same that Cache Latents had."),
                host.SoraLatents.Input("latents", tooltip="The encoded clips, from Cache Latents."),
                *run("my_lora", 600, 4),
                rate("0 takes 0.001, which suits ranks of 4 to 32."),
                whole(
                    "rank", 16, 1, 256,
                    "How much the LoRA can learn, 1 to 256: the directions that each layer can change in. 8 to 32 is "
                    "usual; more learns more, a larger file, and by heart sooner.",
                ),
                number(
                    "alpha", 0.0, 0.0, 1024.0,
                    "Strength of the change is alpha / rank, 0 to 1024. 0 takes the rank, so the strength is 1.",
                    step=1.0, advanced=True,
                ),
                choice(
                    "targets", list(_training.TARGETS),
                    "Which layers learn. attention and feed-forward: good for most. attention: smaller and gentler. "
                    "attention and text: for new words. all layers: learns most, the largest file.",
                ),
                *samples(),
                *beside(),
            ],
            outputs=[model, file, trained],
            hidden=HIDDEN,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, run=None, sample_prompts=None) -> bool | str:
        return _checks.verdict(
            run=lambda: run is None or _training.check_own_lora(host.model_target(run, "lora"), run),
            sample_prompts=lambda: _training.check_prompts(sample_prompts),
        )

    @classmethod
    def fingerprint_inputs(cls, run=None, **_) -> str | None:
        if run is None:
            return None
        # a finished training writes the LoRA's file at each call: only that it is there counts
        state, file = host.training_folder(run) / _training_files.STATE, host.model_target(run, "lora")
        return _training_files.kept_identity(state, file)

    @classmethod
    def execute(cls, model, clip, latents, vae=None, options=None, **settings) -> io.NodeOutput:
        job = _training.Job(cls, model, clip, latents, vae, options)
        changed, name = _training.train_lora(job, settings)
        return io.NodeOutput(changed, name, settings["run"])


NODES = (SoraDiTTrainLora,)
