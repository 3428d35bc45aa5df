"""Our transformer as a native MODEL of ComfyUI, for core's samplers, guiders and LoRA loaders.

The adapter rests on ComfyUI's classes for models (`BaseModel`, `BASE`, `LatentFormat`) and its wrapped layers
(`comfy.ops`), all looked up when first needed; nothing of ComfyUI is changed.
"""

from __future__ import annotations

import math
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.supported_models_base
import torch
from torch import Tensor, nn

from ...dit_core.errors import SoraDiTError
from ...dit_core.generate import model_objective, model_shift, model_statistics
from ...dit_core.memory import denoise_bytes
from ...dit_core.transformer import TransformerConfig, VideoDiT
from .. import _checks
from ..handles import REFUSED_TO_SAVE

MODEL_TYPES = {"flow": "FLOW", "epsilon": "EPS", "v": "V_PREDICTION"}
LAYERS = {nn.Linear: "Linear", nn.LayerNorm: "LayerNorm"}


class SoraLatentFormat(comfy.latent_formats.LatentFormat):
    """Scale of our latents and their colours for previews."""

    latent_dimensions = 3

    def __init__(self, config: TransformerConfig, colours: Any = None) -> None:
        self.latent_channels = config.in_channels
        self.statistics = model_statistics(config)
        if colours is not None:  # raw latents to colours -> normalised latents to colours
            table, constant = torch.tensor(colours[:-1]), torch.tensor(colours[-1])
            if self.statistics is not None:
                constant = constant + torch.tensor(self.statistics.mean) @ table
                table = table * torch.tensor(self.statistics.std)[:, None]
            self.latent_rgb_factors, self.latent_rgb_factors_bias = table.tolist(), constant.tolist()

    def process_in(self, latent: Tensor) -> Tensor:
        """Raw latent as on the wire -> as the network sees it."""
        return latent if self.statistics is None else self.statistics.normalise(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        """The inverse of `process_in`."""
        return latent if self.statistics is None else self.statistics.denormalise(latent)


class SoraModelConfig(comfy.supported_models_base.BASE):
    """What ComfyUI asks a model family."""

    unet_extra_config: dict[str, Any] = {}


class NativeDiT(VideoDiT):
    """`VideoDiT` with the call that ComfyUI makes."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.patch_in.weight.dtype

    @property
    def in_channels(self) -> int:
        """Channels of the latent; core's RenormCFG asks."""
        return self.config.in_channels

    def __deepcopy__(self, memo: dict[int, Any]) -> VideoDiT:
        """A copy is an ordinary `VideoDiT` again, to train or to change: ComfyUI's layers are for running.

        Only weights are copied: what ComfyUI keeps on layers (handles of memory that it manages) cannot be.
        """
        with torch.device("meta"):
            other = VideoDiT(self.config)
        weights = dict(self.named_parameters())
        copies = {
            name: nn.Parameter(value.detach().clone(), weights[name].requires_grad if name in weights else False)
            for name, value in self.state_dict().items()
        }
        other.load_state_dict(copies, assign=True)
        other.gradient_checkpointing = self.gradient_checkpointing
        memo[id(self)] = other.train(self.training)
        return other

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        *,
        transformer_options: dict | None = None,
        **_: Any,
    ) -> Tensor:
        """x [B, C, T, H, W] -> prediction like x; timestep [B] or [B, T], context [B, M, D], pooled [B, P].

        ComfyUI gives `transformer_options`, and names of its own such as `control`; without them this is `VideoDiT`'s.
        """
        if transformer_options is None:
            return super().forward(x, timestep, context, context_mask, pooled)
        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL  # such as EasyCache, which skips steps
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(
            self._predict, self, comfy.patcher_extension.get_all_wrappers(kind, transformer_options)
        )
        return executor.execute(x, timestep, context, pooled, transformer_options=transformer_options)

    def _predict(self, x: Tensor, timestep: Tensor, context: Any, pooled: Any, **_: Any) -> Tensor:
        out = super().forward(x, timestep, context, None, pooled)
        return out[:, : x.shape[1]]  # a learned variance is not used


class SoraModel(comfy.model_base.BaseModel):
    """The transformer with its noise schedule, latent format and conditions."""

    def __init__(self, module: VideoDiT, settings: SoraModelConfig, device: Any) -> None:
        objective = model_objective(module.config)
        kind = getattr(comfy.model_base.ModelType, MODEL_TYPES[objective.name])
        super().__init__(settings, model_type=kind, device=device)
        self.diffusion_model, self.objective = module, objective
        if not objective.straight:  # DDPM's table of noise levels, which ComfyUI would otherwise guess
            count = module.config.training.get("num_train_timesteps", 1000)
            self.model_sampling.set_sigmas(objective.sigma(torch.arange(count)).float())
        self.known_frames: Tensor | None = None

    def extra_conds(self, **given: Any) -> dict[str, Any]:
        """What the network gets besides latent and timestep, from one CONDITIONING and the noise mask."""
        out = super().extra_conds(**given)
        embeddings, pooled, config = given.get("cross_attn"), given.get("pooled_output"), self.diffusion_model.config
        if embeddings is None:
            raise SoraDiTError("The conditioning holds no text embeddings; connect a text encode node.")
        _checks.check_widths(embeddings, pooled, config, "The conditioning")
        mask = given.get("attention_mask")
        if mask is not None and mask.shape == embeddings.shape[:2] and len(mask) == 1:
            # without padding, ComfyUI may repeat the tokens to join prompts of different lengths: attention is the same
            out["c_crossattn"] = comfy.conds.CONDCrossAttn(embeddings[:, mask[0].bool()])
        if config.uses_pooled:
            out["pooled"] = comfy.conds.CONDRegular(pooled)
        self.known_frames = None
        if (noise_mask := given.get("denoise_mask")) is not None:
            known = (noise_mask <= 0).flatten(3).all(-1).all(1)  # [B, T]: kept as a whole
            self.known_frames = known
            # [B, 1, T]: core's context windows cut what has as many frames as the latent, along the same dimension
            out["known_frames"] = comfy.conds.CONDRegular(known[:, None].float())
        return out

    def process_timestep(self, timestep: Tensor, known_frames: Tensor | None = None, **_: Any) -> Tensor:
        """In the units of the network; frames that are kept are seen clean, at timestep 0: [B] -> [B, T]."""
        if self.objective.straight:  # core counts to 1000, whatever the model does
            timestep = timestep * (self.diffusion_model.config.timestep_scale / 1000)
        if known_frames is None or not bool(known_frames.any()):
            return timestep
        return timestep[:, None] * (1 - known_frames[:, 0].to(timestep))

    def scale_latent_inpaint(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, **others: Any) -> Tensor:
        """What is kept, at this noise level: whole frames clean, regions inside generated frames as noisy as those."""
        noisy = super().scale_latent_inpaint(sigma=sigma, noise=noise, latent_image=latent_image, **others)
        if self.known_frames is None:
            return noisy
        clean = latent_image
        if not self.objective.straight:  # core divides all frames by this before the network sees them
            clean = clean * (1 + sigma.reshape(-1, 1, 1, 1, 1).to(clean) ** 2).sqrt()
        return torch.where(self.known_frames[:, None, :, None, None].to(noisy.device), clean, noisy)

    def state_dict_for_saving(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Raise `SoraDiTError`: see `REFUSED_TO_SAVE`."""
        raise SoraDiTError(REFUSED_TO_SAVE)

    def memory_required(self, input_shape: Any, cond_shapes: Any = None) -> int:
        """Bytes of working memory for one pass over a batch of this shape [B, C, T, H, W]."""
        config = self.diffusion_model.config
        shape = tuple(input_shape)
        if len(shape) != 5:  # several latents packed into one row: their numbers are what counts
            shape = (shape[0], config.in_channels, 1, 1, math.prod(shape[1:]) // config.in_channels)
        return denoise_bytes(config, shape, self.get_dtype().itemsize)


def native_patcher(module: VideoDiT, place: Any, storage: Any, colours: Any) -> Any:
    """A patcher of `module` that core's samplers take as MODEL. The module's weights are used, not copied."""
    settings = SoraModelConfig({"disable_unet_model_creation": True})
    settings.latent_format = SoraLatentFormat(module.config, colours)
    settings.set_inference_dtype(module.patch_in.weight.dtype, None)
    if model_objective(module.config).straight:  # core's schedulers then plan the levels that Denoise has by default
        settings.sampling_settings = {"shift": model_shift(module.config)}
    _use_comfy_layers(module)
    model = SoraModel(module, settings, storage).eval()
    # looked up here: newer versions put another class in its place
    patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher_class(model, load_device=place, offload_device=storage)


def _use_comfy_layers(module: VideoDiT) -> None:
    """Turn the layers of this one module into ComfyUI's subclasses of them, which can wait on another device, take
    LoRAs and be interrupted. Only the class of the objects changes, weights and results do not."""
    kinds = comfy.ops.disable_weight_init
    for layer in module.modules():
        if type(layer) in LAYERS:
            layer.__class__ = getattr(kinds, LAYERS[type(layer)])
    module.__class__ = NativeDiT
