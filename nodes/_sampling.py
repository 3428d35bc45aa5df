"""Between the sampling nodes and `dit_core`: wires become arguments, the model's own settings fill the gaps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import _checks

# The names that `dit_core.diffusion` knows, written out because a schema must not import torch; a test compares them.
SCHEDULES = ("auto", "uniform", "cosine", "beta", "linspace", "karras", "exponential")
SAMPLERS = ("euler", "heun", "dpmpp_2m", "unipc", "ddim", "ddpm")
_LEFT = "sora_dit_left"  # in a LATENT whose schedule ended above 0: (level, steps so far, samples it began with)


@dataclass(frozen=True)
class Plan:
    """The schedule that was asked for; shift 0 means the model's own; `sigmas` replaces all the rest."""

    steps: int
    schedule: str = "auto"
    shift: float = 0.0
    denoise: float = 1.0
    sigmas: Any = None


@dataclass(frozen=True)
class Run:
    """What one denoising run was asked for, and where its result goes."""

    seed: int
    cfg: float
    sampler: str
    output_device: Any
    cfg_until: float = 0.0


def prepare(model: Any, positive: Any, negative: Any, plan: Plan, output_device: Any) -> Any:
    """Work out prompts (CONDITIONING; `negative` may be None) and schedule for a SORA_DIT -> `Conditioning`.

    Raises:
        ShapeError: a prompt was made by an encoder that does not go with the model.
        SoraDiTError: a schedule that does not go with the model's objective.
    """
    from ..dit_core.conditioning import Prompt, combine
    from ..dit_core.generate import model_objective

    objective = model_objective(model.config)
    prompts = []
    for name, conditioning in (("positive", positive), ("negative", negative or model.empty_prompt)):
        found = [] if conditioning is None else _checks.prompts_of(conditioning, name)
        for embeddings, _, pooled, _ in found:
            _checks.check_widths(embeddings, pooled, model.config, name)
        prompts.append([Prompt(*one) for one in found])
    model.weights.load()
    sigmas = _sigmas(model.config, objective, plan)
    conditioning = combine(model.module, objective, sigmas, *prompts, device=model.device).to(output_device)
    return replace(conditioning, weights=_weights(model))


def _weights(model: Any) -> str:
    """What tells the weights of a SORA_DIT from others: ComfyUI may let go of a model and keep what was worked out."""
    return f"{model.sha256} {model.dtype}" if model.sha256 else ""


def _sigmas(config: Any, objective: Any, plan: Plan) -> Any:
    from ..dit_core.diffusion import check_sigmas, make_sigmas
    from ..dit_core.generate import model_shift

    if plan.sigmas is not None:
        return check_sigmas(plan.sigmas, objective)
    return make_sigmas(objective, plan.steps, plan.schedule, plan.shift or model_shift(config), plan.denoise)


def denoise(
    model: Any, conditioning: Any, latent: dict, run: Run, progress: Callable[[int], Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fill a LATENT: returns the LATENT with samples `[B, C, T, H, W]` on `run.output_device`, facts for the manifest.

    A schedule that ends above 0 leaves noise in the latent; its level goes with it, so that a second run goes on there.

    progress: called with the number of steps, returns an object whose `update(step, picture)` may raise to cancel and
        whose `wants_preview` says whether a picture is worth making.
    """
    from ..dit_core.autoencoder import latent_picture
    from ..dit_core.generate import denoise_latent, model_statistics
    from ..dit_core.memory import denoise_bytes

    samples = _checks.samples_of(latent, model.config.in_channels)
    conditioning = conditioning.bound_to(model.module, _weights(model))
    levels = conditioning.sigmas.tolist()
    noisy = _left_noisy(latent, levels[0])
    done = len(levels) - 1 + (0 if noisy is None else noisy.steps)
    bar = progress(len(conditioning.sigmas) - 1)
    prompts = len(conditioning.positive) + (0 if run.cfg == 1 else len(conditioning.negative))
    shape = (len(samples) * prompts, *samples.shape[1:])
    held = 2 * conditioning.nbytes  # on the device while it runs, and once more while texts are joined
    model.weights.load(denoise_bytes(model.config, shape, model.dtype.itemsize) + held)
    statistics = model_statistics(model.config)

    def on_step(index: int, steps: int, x: Any, x0: Any) -> None:
        seen = None
        if bar.wants_preview and model.latent_rgb is not None:
            clip = x0[:1].float() if statistics is None else statistics.denormalise(x0[:1].float())
            seen = latent_picture(clip[0], model.latent_rgb)
        bar.update(index + 1, seen)

    started = time.perf_counter()
    result = denoise_latent(
        model.module,
        conditioning,
        samples,
        seed=run.seed,
        guidance_scale=run.cfg,
        guidance_until=run.cfg_until,
        sampler=run.sampler,
        noise_mask=latent.get("noise_mask"),
        noise_numbers=latent.get("batch_index"),
        noisy=noisy,
        callback=on_step,
        device=model.device,
    )
    steps = len(conditioning.sigmas) - 1
    facts = {
        "model": model.name,
        "sha256": model.sha256,
        "seed": run.seed,
        "cfg": run.cfg,
        "cfg_until": run.cfg_until,
        "sampler": run.sampler,
        "latent": list(samples.shape),
        "device": str(model.device),
        "dtype": str(model.dtype).split(".")[-1],
        "seconds_per_step": round((time.perf_counter() - started) / steps, 4),
    }
    filled = {key: value for key, value in latent.items() if key != _LEFT} | {"samples": result.to(run.output_device)}
    begun = samples if noisy is None else noisy.clean
    return filled | ({_LEFT: (levels[-1], done, begun)} if levels[-1] > 0 else {}), facts


def _left_noisy(latent: dict, first: float) -> Any:
    """`Unfinished` if the latent is the first part of a split schedule whose second part begins at level `first`."""
    from ..dit_core.errors import SoraDiTError
    from ..dit_core.generate import Unfinished

    if _LEFT not in latent:
        return None
    level, steps, clean = latent[_LEFT]
    if abs(level - first) > 1e-4 * max(level, 1.0):
        raise SoraDiTError(
            f"Input latent still has noise: its schedule ended at level {level:.4g}, this one begins at {first:.4g}. "
            "Connect both parts of one Split Sigmas to the two Timestep Conditioning nodes, or use the whole schedule."
        )
    # nodes between the parts may have changed the size
    return Unfinished(steps, clean if clean is not None and clean.shape == latent["samples"].shape else None)
