"""Training, station 5: the transformer learns to predict noise."""

from __future__ import annotations

from . import _checks, _training, _training_files, host
from ._training_inputs import HIDDEN, beside, choice, rate, run, samples, trained_outputs
from .host import io


class SoraDiTTrainModel(io.ComfyNode):
    """SORA_DIT, CLIP, SORA_LATENTS -> SORA_DIT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTTrainModel",
            display_name="Train Model (Sora DiT)",
            category="Sora DiT/training",
            description="Trains the video model on cached latents: noise is added to clips, the model learns to "
            "predict it. Only the model learns; VAE and text encoder stay as they are. Cancel saves: queue it again, "
            "today or next week, and it goes on where it was. While it runs the node shows curves and samples.",
            search_aliases=["training", "train from scratch", "fine-tune", "finetune", "pretrain"],
            inputs=[
                host.SoraDit.Input(
                    "model", tooltip="The model to begin with: from New Model (from scratch) or Load Model. It stays "
                    "as it is; the trained one comes out.",
                ),
                io.Clip.Input("clip", tooltip="The text encoder, the same that Cache Latents had."),
                host.SoraLatents.Input("latents", tooltip="The encoded clips, from Cache Latents."),
                *run("my_model", 4000, 16),
                rate("0 takes what suits: 0.003 for muon, 0.0006 for adamw."),
                choice(
                    "optimiser", ["muon", "adamw"],
                    "muon learns about twice as much in a step. adamw is what everybody uses; its learning rates are 5 "
                    "times lower.",
                ),
                *samples(),
                *beside(),
            ],
            outputs=trained_outputs("The trained model (its averaged weights), for sampling and for Save Model."),
            hidden=HIDDEN,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, run=None, sample_prompts=None) -> bool | str:
        return _checks.verdict(
            run=lambda: run is None or host.training_folder(run),
            sample_prompts=lambda: _training.check_prompts(sample_prompts),
        )

    @classmethod
    def fingerprint_inputs(cls, run=None, **_) -> str | None:
        return None if run is None else _training_files.kept_identity(host.training_folder(run) / _training_files.STATE)

    @classmethod
    def execute(cls, model, clip, latents, vae=None, options=None, **settings) -> io.NodeOutput:
        job = _training.Job(cls, model, clip, latents, vae, options)
        return io.NodeOutput(_training.train_model(job, settings), settings["run"])


NODES = (SoraDiTTrainModel,)
