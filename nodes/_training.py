"""Between the training nodes and `dit_core.training`: what a person chose becomes a training, its end a model again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ..dit_core.errors import ShapeError, SoraDiTError
from . import _checks, _loras, _training_data, _training_watch, host

MOST_PROMPTS = 4
RATES = {"muon": 3e-3, "adamw": 6e-4}  # of a learning rate that is left to us


@dataclass(frozen=True)
class Options:
    """The value of SORA_TRAINING_OPTIONS: see the inputs of Training Options. ema 0 = what suits the training."""

    schedule: str = "wsd"
    warmup: int = 60
    decay: float = 0.3
    accumulate: int = 1
    clip_gradient: float = 1.0
    weight_decay: float = 0.01
    ema: float = 0.0
    caption_dropout: float = 0.1
    known_frames: float = 0.3
    timesteps: str = "logit-normal"
    held_out: float = 0.1
    held_out_every: int = 100
    precision: str = "auto"
    checkpointing: bool = False
    compile: bool = False
    save_every: float = 120.0
    log_every: int = 10

    def loop(self, steps: int, batch: int, sample_every: int = 0) -> Any:
        """`LoopSettings` for a training of so many steps; a short one warms up in its first tenth."""
        from ..dit_core.training.loop import LoopSettings

        return LoopSettings(
            steps=steps,
            batch=batch,
            warmup=min(self.warmup, steps // 10),
            decay=self.decay,
            clip=self.clip_gradient,
            save_every=self.save_every,
            log_every=min(self.log_every, max(1, steps // 20)),
            accumulate=self.accumulate,
            schedule=self.schedule,
            sample_every=sample_every,
            held_out_every=self.held_out_every,
        )

    def drawn(self) -> dict[str, Any]:
        """What `TransformerTraining` calls these."""
        return {
            "caption_dropout": self.caption_dropout,
            "known": self.known_frames,
            "uniform": 1.0 if self.timesteps == "uniform" else 0.15,
            "precision": self.precision,
            "checkpoint_activations": self.checkpointing,
            "compile": True if self.compile else None,
        }


def check_prompts(text: str | None) -> None:
    """Raise `ShapeError` for more sample prompts than are shown."""
    if text is not None and len(prompts_in(text)) > MOST_PROMPTS:
        raise ShapeError(
            f"sample_prompts has {len(prompts_in(text))} lines; expected at most {MOST_PROMPTS}, one prompt a line."
        )


def prompts_in(text: str) -> list[str]:
    """The prompts of a text, one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


@contextmanager
def learning() -> Iterator[None]:
    """ComfyUI runs nodes without gradients, and what is made so can never have any."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        yield


# --- A training of the transformer, whole or by a LoRA -----------------------------------------------------------


class Job:
    """One training as a node asks for it. Everything is checked when it is made; `module` is a copy to train on.

    Raises:
        SoraDiTError: parts that do not go together; sentences name the inputs.
    """

    def __init__(self, cls: type, model: Any, clip: Any, latents: Any, vae: Any, options: Options | None):
        self.cls, self.model, self.clip, self.vae, self.options = cls, model, clip, vae, options or Options()
        self.latents, self.text = _training_data.require_latents(latents), _training_data.encoder_of(clip)
        _check_together(model, clip, self.text, latents)
        if vae is not None:
            _check_vae(vae, latents)
        self.train, self.held_out = latents.split(self.options.held_out, seed=0)

    def run(self, work: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Train: (what `work` returned, position). work: (module, text, desk, loop) -> (result, position, done)."""
        folder = host.training_folder(settings["run"])
        with learning():
            self.model.weights.rest()
            self.clip.weights.rest()
            host.make_room()
            module, text = self._copies()
            desk = _training_watch.Desk(self.cls, folder, settings["steps"], self._sampler(module, text, settings))
            host.note(self.cls, _training_data.told_split(self.train, self.held_out))
            loop = self.options.loop(settings["steps"], settings["batch"], settings["sample_every"])
            return desk.follow(lambda callbacks: work(module, text, callbacks, loop, folder))

    def provenance(self, settings: dict[str, Any], position: dict[str, Any]) -> dict[str, Any]:
        """How the weights were made, for their file."""
        kept = {key: settings[key] for key in ("run", "batch", "training_seed") if key in settings}
        if "run" in kept:  # as its folder and file are called
            kept["run"] = kept["run"].strip()
        data = self.latents.fingerprint().get("data", {})
        done = {key: position.get(key) for key in ("step", "samples", "seconds", "loss")}
        done |= {"run_id": position["run_id"]} if "run_id" in position else {}  # an older state has none
        facts = {"data": data.get("kind"), "data_sha256": _digest(data), "clips": len(self.latents)}
        return {**kept, **done, **facts, "started_from": self.model.name}

    def _copies(self) -> tuple[Any, Any]:
        """Modules of our own: other nodes may use the ones that came in, and ComfyUI may move them."""
        import torch

        place = torch.device(self.model.device)
        module = copy.deepcopy(self.model.module).to(place, torch.float32).requires_grad_(True)
        if self.model.exact is not None:
            module.load_state_dict(self.model.exact)
        text = copy.copy(self.text)
        text.module = copy.deepcopy(self.text.module).to(place, torch.float32)
        return module, text

    def _sampler(self, module: Any, text: Any, settings: dict[str, Any]) -> Any:
        prompts = prompts_in(settings.get("sample_prompts", ""))
        if not prompts:
            return None
        if self.vae is None:
            host.note(self.cls, "There are sample prompts, but no VAE to make pictures: connect it to see samples.")
            return None
        bucket = max(self.latents.buckets().items(), key=lambda item: item[1])[0]
        space, time = self.model.spatial_factor, self.model.temporal_factor
        cells = ((bucket.frames - 1) // time + 1, bucket.height // space, bucket.width // space)
        return _training_watch.Sampler(module, text, self.vae, prompts, (self.model.config.in_channels, *cells))


def train_model(job: Job, settings: dict[str, Any]) -> Any:
    """Train the whole transformer of `job.model`: a SORA_DIT with the averaged weights."""
    from ..dit_core.training.transformer import TransformerTraining, train_transformer

    options, optimiser = job.options, settings["optimiser"]
    training = TransformerTraining(
        optimiser=optimiser,
        lr=settings["learning_rate"] or RATES[optimiser],
        weight_decay=options.weight_decay,
        ema=options.ema or TransformerTraining.ema,
        seed=settings["training_seed"],
        **options.drawn(),
    )

    def work(module: Any, text: Any, callbacks: Any, loop: Any, folder: Any) -> tuple[Any, dict, bool]:
        told = {"callbacks": callbacks, "held_out": job.held_out, "provenance": {"start": job.model.sha256}}
        position, done = train_transformer(module, text, job.train, folder, loop, training, job.model.device, **told)
        return module, position, done

    module, position = job.run(work, settings)
    return _as_model(job, module, settings, position)


def train_lora(job: Job, settings: dict[str, Any]) -> tuple[Any, str]:
    """Train a LoRA on `job.model` and write its file: (a SORA_DIT with it in, the file's name)."""
    from ..dit_core.lora import LoraConfig, save_lora
    from ..dit_core.training.lora import LoraTraining
    from ..dit_core.training.lora import train_lora as train

    target = host.model_target(settings["run"], "lora")
    check_own_lora(target, settings["run"])
    training = LoraTraining(
        lr=settings["learning_rate"] or LoraTraining.lr,
        ema=job.options.ema or LoraTraining.ema,
        seed=settings["training_seed"],
        lora=LoraConfig(settings["rank"], float(settings["alpha"] or settings["rank"]), TARGETS[settings["targets"]]),
        **job.options.drawn(),
    )

    def work(module: Any, text: Any, callbacks: Any, loop: Any, folder: Any) -> tuple[Any, dict, bool]:
        told = {"callbacks": callbacks, "held_out": job.held_out}
        return train(module, text, job.train, folder, loop, training, job.model.device, **told)

    layers, position = job.run(work, settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    # what it was trained on, with the LoRAs that were in it: beside the plain model it would be half of something
    save_lora(target, layers, job.provenance(settings, position), job.model.sha256, job.model.name)
    changed, facts, _ = _loras.with_lora(job.model, target, target.name, 1.0, host.manager)
    host.record(job.cls, **facts)
    host.written(target)
    host.note(job.cls, f"The LoRA is {target}.")
    return changed, target.name


TARGETS = {
    "attention and feed-forward": ("attention", "feed_forward"),
    "attention": ("attention",),
    "attention and text": ("attention", "text_attention"),
    "all layers": ("all",),
}
"""What a person chooses -> groups of layers as `LoraConfig` calls them."""


def check_own_lora(target: Any, run: str) -> None:
    """Raise `SoraDiTError` if there is a LoRA of that name that another training made: it is not replaced.

    Trainings of one name are told apart by a random number that state and file keep; older ones have none.
    """
    from ..dit_core.lora import read_lora_header
    from ..dit_core.training.state import saved_position

    if not target.exists():
        return
    made = read_lora_header(target).provenance
    own = made.get("run") == run.strip()
    if own and "run_id" in made:  # output folders share one models folder
        own = made["run_id"] == saved_position(host.training_folder(run)).get("run_id")
    if not own:
        raise SoraDiTError(
            f"There is a LoRA {target} already, which another training made. Give run another name; or remove the file."
        )


def _as_model(job: Job, module: Any, settings: dict[str, Any], position: dict[str, Any]) -> Any:
    import torch

    from ..dit_core.latents import weights_sha256

    model, exact = job.model, None
    with learning():
        if model.dtype != torch.float32:
            exact = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
        module = module.requires_grad_(False).eval().to(host.storage_device(model.device), model.dtype)
    changes = {
        "name": f"{settings['run'].strip()}, step {position['step']}",
        "sha256": weights_sha256(module),
        "base_sha256": "",
        "trained": True,
        "exact": exact,
        "provenance": {"transformer": job.provenance(settings, position)},
        "weights": host.manager(model.device)("model", module, model.latent_rgb),
    }
    host.record(job.cls, **changes["provenance"]["transformer"], sha256=changes["sha256"])
    return replace(model, module=module, **changes)


def _digest(value: Any) -> str:
    from ..dit_core.data.fingerprint import digest

    return digest(value)


# --- Do the parts go together? -----------------------------------------------------------------------------------


def _check_together(model: Any, clip: Any, text: Any, latents: Any) -> None:
    import torch

    if not hasattr(getattr(model, "module", None), "config"):
        raise SoraDiTError(f"model is {_checks.described(model)}; connect Load Model or New Model (Sora DiT).")
    shape = latents.draw(1, torch.Generator().manual_seed(0)).latents.shape
    if shape[1] != model.config.in_channels:
        raise ShapeError(
            f"The latents have {shape[1]} channels, but this model works with {model.config.in_channels}: they were "
            "made with the VAE of another model. Connect the VAE that belongs to the model to Cache Latents."
        )
    for bucket in latents.buckets():
        sides = zip((bucket.height, bucket.width), model.config.patch[1:], strict=True)
        for pixels, patch in sides:
            if pixels % (model.spatial_factor * patch):
                raise ShapeError(
                    f"There are clips of {bucket.width} x {bucket.height} pixels, but this model takes multiples of "
                    f"{model.spatial_factor * patch}. Set that in Clip Dataset (sizes are multiples of)."
                )
    tokens, extra = clip.encode_from_tokens_scheduled(clip.tokenize(""))[0]
    _checks.check_widths(tokens, extra.get("pooled_output"), model.config, "clip")
    made = (latents.fingerprint().get("text") or {}).get("tokenizer")
    if made is not None and made != _digest(text.config_dict()["tokenizer"]):
        raise SoraDiTError(
            "The captions in the latents were cut into tokens for another text encoder; connect one CLIP to Cache "
            "Latents and to this node."
        )


def _check_vae(vae: Any, latents: Any) -> None:
    from ..dit_core.latents import weights_sha256

    made = (latents.fingerprint().get("autoencoder") or {}).get("weights")
    module = getattr(vae, "first_stage_model", None)
    if made is not None and module is not None and made != weights_sha256(module):
        raise SoraDiTError(
            "The VAE is another one than the latents were made with, so it would show something else; connect one VAE "
            "to Cache Latents and to this node."
        )
