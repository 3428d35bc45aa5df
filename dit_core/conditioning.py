"""Text and timesteps combined for one model and one schedule: what does not change while a clip is denoised.

`combine` works it out once; `Denoiser` holds it against the noisy latent at each step (design.md, decision 2).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .diffusion.guidance import classifier_free
from .diffusion.objectives import Objective
from .errors import ShapeError, SoraDiTError
from .transformer import Modulation, TextKeyValues, VideoDiT


@dataclass(frozen=True)
class Prompt:
    """A prompt as a text encoder gives it: embeddings [B, M, D], mask [B, M] bool or None, pooled [B, P] or None.

    weight: its share beside other prompts of the same sign; see `Conditioning`.
    """

    embeddings: Tensor | None
    mask: Tensor | None = None
    pooled: Tensor | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class PromptConditioning:
    """One prompt, worked out for one model and schedule. Modulation row i belongs to noise level i; the last row is
    timestep 0, the level of known frames."""

    text: TextKeyValues
    modulation: Modulation
    weight: float = 1.0


@dataclass(frozen=True)
class Conditioning:
    """The value on a SORA_CONDITIONING wire.

    Several positive prompts (or negative ones) are predicted side by side and averaged by weight, which is what
    combined conditionings mean in ComfyUI (composable diffusion, arXiv:2206.01714).
    """

    sigmas: Tensor  # [steps + 1] float32, descending
    timesteps: Tensor  # the same levels in the network's units, and 0 as the last entry
    positive: tuple[PromptConditioning, ...]
    negative: tuple[PromptConditioning, ...]  # empty = none
    model: weakref.ref = field(repr=False)
    weights: str = ""  # which weights the model has, as whoever loaded it tells them apart; "" = not known

    def bound_to(self, model: VideoDiT, weights: str) -> Conditioning:
        """The same for `model`, where that has just the weights that this was worked out for: it may have been loaded
        again meanwhile."""
        return replace(self, model=weakref.ref(model)) if weights and weights == self.weights else self

    def to(self, device: torch.device | str) -> Conditioning:
        """The same with its tensors on `device`; for large models they are hundreds of megabytes."""
        move = lambda prompts: tuple(  # noqa: E731
            replace(p, text=p.text.map(_to(device)), modulation=p.modulation.map(_to(device))) for p in prompts
        )
        return replace(self, positive=move(self.positive), negative=move(self.negative))

    @property
    def nbytes(self) -> int:
        """Bytes of the texts and modulations of all prompts."""
        found: list[int] = []
        for prompt in (*self.positive, *self.negative):
            for part in (prompt.text, prompt.modulation):
                part.map(lambda x: found.append(x.nbytes) or x)
        return sum(found)

    def check_model(self, model: VideoDiT) -> None:
        """Raise `SoraDiTError` when this was worked out for other weights."""
        if self.model() is not model:
            raise SoraDiTError(
                "Conditioning: it was worked out for another model; connect the same model to Timestep "
                "Conditioning and to Denoise."
            )


@torch.no_grad()
def combine(
    model: VideoDiT,
    objective: Objective,
    sigmas: Tensor,
    positive: Prompt | Sequence[Prompt],
    negative: Prompt | Sequence[Prompt] | None = None,
    device: torch.device | str | None = None,
) -> Conditioning:
    """All modulation vectors of a schedule in one batched product, all text keys and values, for each prompt.

    sigmas [steps + 1] as on a SIGMAS wire. device: where to compute; None is where the weights are (a model that is
    partly offloaded has no single such place). Raises `ShapeError` when the text does not fit the model.
    """
    parameter = next(model.parameters())
    device = torch.device(device or parameter.device)
    timesteps = objective.timestep(sigmas.to(torch.float32))
    if sigmas[-1] > 0:  # a schedule that another sampler finishes still needs timestep 0 for known frames
        timesteps = F.pad(timesteps, (0, 1))

    for name, prompts in (("positive", positive), ("negative", negative)):
        strengths = [prompt.weight for prompt in _several(prompts)]
        if len(strengths) > 1 and not sum(strengths) > 0:
            raise SoraDiTError(
                f"The strengths of the {name} prompts are {', '.join(f'{one:g}' for one in strengths)}; expected a sum "
                "above 0, their mean is taken."
            )

    def work_out(prompt: Prompt) -> PromptConditioning:
        move = lambda x: None if x is None else x.to(device, parameter.dtype)  # noqa: E731
        mask = None if prompt.mask is None or bool(prompt.mask.all()) else prompt.mask.to(device).bool()
        pooled = move(prompt.pooled) if model.config.uses_pooled else None
        if pooled is not None and pooled.shape[0] > 1:
            raise ShapeError(f"Prompt: got a batch of {pooled.shape[0]} prompts; expected one.")
        text = model.prepare_text(move(prompt.embeddings), mask)
        return PromptConditioning(text, model.modulate(timesteps.to(device), pooled), prompt.weight)

    return Conditioning(
        sigmas.float().cpu(),
        timesteps.cpu(),
        tuple(work_out(prompt) for prompt in _several(positive)),
        tuple(work_out(prompt) for prompt in _several(negative)),
        weakref.ref(model),
    )


def _several(prompts: Prompt | Sequence[Prompt] | None) -> Sequence[Prompt]:
    return () if prompts is None else (prompts,) if isinstance(prompts, Prompt) else prompts


def _to(device: torch.device | str) -> Callable[[Tensor], Tensor]:
    return lambda x: x.to(device)


@dataclass(frozen=True)
class Known:
    """What is given of a clip: its clean normalised latent [B, C, T, H, W], the mask [B, 1, T, H, W] (1 = generate,
    0 = keep) and the noise that its kept parts get inside frames that are not wholly known."""

    clean: Tensor
    mask: Tensor
    noise: Tensor

    @property
    def frames(self) -> Tensor:
        """Bool [B, T]: frames that are kept as a whole; the model sees them clean, at timestep 0."""
        return (self.mask <= 0).all(dim=-1).all(dim=-1).all(dim=1)


@dataclass(frozen=True)
class _Prompts:
    """Prompts that run side by side, each for all clips of the batch; rows are those of the joined modulation."""

    weights: list[float]
    text: TextKeyValues
    modulation: Modulation
    still: Tensor  # [prompts * B, t or 1] bool
    offset: Tensor  # [prompts * B, 1]

    @classmethod
    def of(cls, prompts: Sequence[PromptConditioning], still: Tensor) -> _Prompts:
        """For the clips of `still` [B, t or 1]."""
        # a prompt's keys and values are there once, however many clips: they may be gigabytes
        several = max((p.text.pairs[0][0].shape[0] for p in prompts if p.text.pairs), default=1)
        modulation = Modulation.join([p.modulation for p in prompts])
        count, rows, device = len(prompts), len(prompts[0].modulation.final), modulation.final.device
        return cls(
            [p.weight for p in prompts],
            join_texts([p.text.expand(several) for p in prompts]),
            modulation,
            still.to(device).repeat(count, 1),
            torch.arange(count, device=device).repeat_interleave(len(still))[:, None] * rows,
        )


class Denoiser:
    """(x, index) -> x0, what a sampler calls: all prompts in one batch, known parts held.

    With guidance scale 1, and at levels below `guidance_until`, only the positive prompts run.
    """

    def __init__(
        self,
        model: VideoDiT,
        objective: Objective,
        conditioning: Conditioning,
        guidance_scale: float,
        batch: int,
        known: Known | None = None,
        guidance_until: float = 0.0,
    ) -> None:
        conditioning.check_model(model)
        self.model, self.objective, self.known, self.scale = model, objective, known, guidance_scale
        self.sigmas = conditioning.sigmas.tolist()
        self.rows = len(conditioning.timesteps)
        self.guided = guided_levels(conditioning, objective, guidance_scale, guidance_until)
        self.positives = len(conditioning.positive)
        prompts = list(conditioning.positive)
        still = torch.zeros(batch, 1, dtype=torch.bool) if known is None else self._still_patches(known)
        self.alone = _Prompts.of(prompts, still)
        if any(self.guided):
            if not conditioning.negative:
                raise SoraDiTError(
                    f"Guidance scale: got {guidance_scale:g} without a negative prompt; connect a negative "
                    "prompt (an empty text will do) to Timestep Conditioning, or set the scale to 1."
                )
            self.both = _Prompts.of(prompts + list(conditioning.negative), still)

    def _still_patches(self, known: Known) -> Tensor:
        # a temporal patch stands still only if all its frames do
        frames = known.frames
        step = self.model.config.patch[0]
        still = F.pad(frames, (0, -frames.shape[1] % step), value=True).unflatten(1, (-1, step)).all(-1)
        return still if bool(still.any()) else still[:, :1]

    def __call__(self, x: Tensor, index: int) -> Tensor:
        """x [B, C, T, H, W] at level sigmas[index] -> the estimated clean latent, same shape, float32."""
        sigma = self.sigmas[index]
        level: float | Tensor = sigma
        if self.known is not None:
            k = self.known
            noisy = self.objective.add_noise(k.clean, k.noise, sigma)
            kept = torch.where(k.frames[:, None, :, None, None], k.clean, noisy)
            x = torch.lerp(kept, x, k.mask)
            level = torch.where(k.frames, 0.0, sigma)  # [B, T]
        x0 = self.objective.denoised(x, self._predict(x, level, index), level)
        return x0 if self.known is None else torch.lerp(self.known.clean, x0, self.known.mask)

    def _predict(self, x: Tensor, level: float | Tensor, index: int) -> Tensor:
        """What the network says of x, guided where this step is."""
        prompts, split = self.both if self.guided[index] else self.alone, self.positives
        count = len(prompts.weights)
        network_in = self.objective.network_input(x, level).to(prompts.modulation.final.dtype)
        rows = torch.where(prompts.still, self.rows - 1, index) + prompts.offset
        out = self.model.denoise(network_in.repeat(count, 1, 1, 1, 1), prompts.modulation.select(rows), prompts.text)
        parts = list(out[:, : x.shape[1]].float().chunk(count))  # a learned variance is not used
        positive = average(parts[:split], prompts.weights[:split])
        if count == split:
            return positive
        return classifier_free(positive, average(parts[split:], prompts.weights[split:]), self.scale)


def guided_levels(conditioning: Conditioning, objective: Objective, scale: float, until: float) -> list[bool]:
    """For each of `conditioning.timesteps`, whether the negative prompt runs too: not below `until` of the highest."""
    return [scale != 1.0 and level >= until for level in (conditioning.timesteps / objective.timestep_max).tolist()]


def average(predictions: list[Tensor], weights: list[float]) -> Tensor:
    """The mean of predictions of one shape, by weight."""
    if len(predictions) == 1:
        return predictions[0]
    return sum(p * w for p, w in zip(predictions, weights, strict=True)) / sum(weights)


def join_texts(texts: list[TextKeyValues]) -> TextKeyValues:
    """Stack prompts into one batch; shorter ones are padded and masked."""
    if len(texts) == 1 or not texts[0].pairs:
        return texts[0]
    lengths = [t.pairs[0][0].shape[1] for t in texts]
    longest = max(lengths)

    def pad(x: Tensor) -> Tensor:  # [B, M, heads, d]
        return F.pad(x, (0, 0, 0, 0, 0, longest - x.shape[1]))

    pairs = tuple(
        (torch.cat([pad(k) for k, _ in layer]), torch.cat([pad(v) for _, v in layer]))
        for layer in zip(*(t.pairs for t in texts), strict=True)
    )
    if all(t.mask is None for t in texts) and min(lengths) == longest:
        return TextKeyValues(pairs, None)
    masks = [
        t.mask if t.mask is not None else k.new_ones(k.shape[:2], dtype=torch.bool)
        for t in texts
        for k in (t.pairs[0][0],)
    ]
    return TextKeyValues(pairs, torch.cat([F.pad(m, (0, longest - m.shape[1])) for m in masks]))
