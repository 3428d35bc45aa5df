"""What travels on the SORA_DIT, CLIP and VAE wires, and what our nodes ask of such objects.

The CLIP and VAE objects have the methods of ComfyUI's own, so core nodes can use them, and our nodes use nothing but
those methods, so core's objects work in our nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..dit_core.errors import ShapeError, SoraDiTError
from . import _checks

REFUSED_TO_SAVE = (
    "ComfyUI's own save nodes leave out what a Sora DiT file must say about itself (configuration, latent statistics), "
    "so the file could not be opened again. Use Save Model (Sora DiT)."
)
_TOKENS = "sora_dit"  # key of our rows in a tokens dictionary
_WEIGHT = re.compile(r"\([^()]{1,60}:\s*\d*\.?\d+\s*\)")  # as other models' prompts have: (sun:1.4)
_ACTIVATION_BUDGET = 256 * 2**20  # bytes of working memory for one chunk when its size is chosen automatically


class Resident:
    """Weights that stay on their device. Inside ComfyUI its memory management takes this place (`host.managed`)."""

    patcher = None

    def load(self, memory: int = 0) -> None:
        """Make sure that the weights are on the device, with `memory` bytes left free for working."""

    def rest(self) -> None:
        """Make sure that the weights lie where they wait, as this handle knows them: without what core nodes add."""

    def clone(self) -> Resident:
        """A handle on the same weights, for changes of its own."""
        return self


RESIDENT = Resident()


@dataclass(frozen=True)
class SoraDit:
    """A video transformer that is ready to use: the value of SORA_DIT.

    module: `VideoDiT`; name: of its file, for people; sha256: of its content; device, dtype: where and in which type it
    computes; spatial_factor, temporal_factor: pixels and frames per latent cell; empty_prompt: CONDITIONING of the
    empty prompt, what guidance compares with when no negative prompt is given (None if the file has no text encoder);
    weights: what brings them to the device; latent_rgb: colours of the latent for previews, None if nobody knows;
    base_sha256: of the model file before LoRAs were merged into it, "" if none were; provenance: how it was trained;
    exact: the weights in float32 on the CPU where the module has them rounded, for saving and for training on; trained:
    False for the random weights of New Model.
    """

    module: Any
    name: str
    sha256: str
    device: Any
    dtype: Any
    spatial_factor: int = _checks.SPATIAL_FACTOR
    temporal_factor: int = _checks.TEMPORAL_FACTOR
    empty_prompt: list | None = field(default=None, repr=False)
    weights: Any = field(default=RESIDENT, repr=False)
    latent_rgb: tuple | None = field(default=None, repr=False)
    base_sha256: str = ""
    provenance: dict = field(default_factory=dict, repr=False)
    exact: dict | None = field(default=None, repr=False)
    trained: bool = True

    @property
    def config(self) -> Any:
        """The module's `TransformerConfig`."""
        return self.module.config


class SoraClip:
    """A text encoder with the methods of ComfyUI's CLIP."""

    def __init__(self, encoder: Any, device: Any, output_device: Any, name: str = "", weights: Any = RESIDENT):
        self.encoder, self.device, self.output_device, self.name = encoder, device, output_device, name
        self.weights, self.patcher = weights, weights.patcher
        self.apply_hooks_to_conds, self.use_clip_schedule = None, False  # core's hook nodes write here

    @property
    def cond_stage_model(self) -> Any:
        """The weights under the names that LoRA loaders look for."""
        return self.encoder.module if self.patcher is None else self.patcher.model

    def tokenize(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, list]:
        """Prompt -> {"sora_dit": [[(token id, weight), ...]]}; longer prompts than the encoder takes are cut."""
        ids = self.encoder.tokenize([text])[0][0].tolist()
        return {_TOKENS: [[(token, 1.0, 0) if return_word_ids else (token, 1.0) for token in ids]]}

    def encode_from_tokens(self, tokens: dict, return_pooled: bool = False, return_dict: bool = False) -> Any:
        """Tokens -> embeddings `[B, L, D]`; with `return_pooled` also `[B, D]`; or all as a dictionary.

        Raises:
            SoraDiTError: the tokens were made by another text encoder.
        """
        import torch

        if _TOKENS not in tokens:
            raise SoraDiTError("These tokens were made by another text encoder; connect one CLIP to both nodes.")
        rows = [[int(entry[0]) for entry in row] for row in tokens[_TOKENS]]
        length = max(map(len, rows))
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        mask = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows])
        self.weights.load()
        place = self.encoder.device  # where they are now; with --novram they stay where they wait
        with torch.inference_mode():
            found = self.encoder.forward_ids(ids.to(place), mask.to(place))
        cond, pooled = (part.to(self.output_device, torch.float32) for part in (found.embeddings, found.pooled))
        if return_dict:
            found = {"cond": cond, "pooled_output": pooled, "attention_mask": mask.to(self.output_device)}
            return found | ({"hooks": self.apply_hooks_to_conds} if self.apply_hooks_to_conds else {})
        return (cond, pooled) if return_pooled else cond

    def encode_from_tokens_scheduled(
        self, tokens: dict, unprojected: bool = False, add_dict: dict | None = None, show_pbar: bool = True
    ) -> list:
        """Tokens -> CONDITIONING.

        Raises:
            SoraDiTError: a hook node asks for other weights from step to step.
        """
        if self.use_clip_schedule:
            raise SoraDiTError(
                "The text encoder of a Sora DiT file cannot change between steps; set schedule_clip off."
            )
        extra = self.encode_from_tokens(tokens, return_dict=True)
        return [[extra.pop("cond"), extra | (add_dict or {})]]

    def encode(self, text: str) -> Any:
        """Prompt -> embeddings `[1, L, D]`."""
        return self.encode_from_tokens(self.tokenize(text))

    def clone(self) -> SoraClip:
        """Another handle on the same weights, which may be given LoRAs and hooks of its own."""
        other = SoraClip(self.encoder, self.device, self.output_device, self.name, self.weights.clone())
        other.apply_hooks_to_conds, other.use_clip_schedule = self.apply_hooks_to_conds, self.use_clip_schedule
        return other

    # What core's LoRA loaders, merge, hook and save nodes ask; they exist only where ComfyUI manages the weights.

    def load_model(self) -> Any:
        """Bring the weights to the device; returns ComfyUI's handle of them."""
        self.weights.load()
        return self.patcher

    def add_patches(self, patches: dict, strength_patch: float = 1.0, strength_model: float = 1.0) -> Any:
        """Changes to weights (a LoRA, a merge) for this handle only; returns the names that fit."""
        return self.patcher.add_patches(patches, strength_patch, strength_model)

    def get_key_patches(self) -> dict[str, Any]:
        """The weights by name, as a change that another handle can take up."""
        return self.patcher.get_key_patches()

    def get_ram_usage(self) -> int:
        """Bytes of the weights."""
        return self.patcher.get_ram_usage()

    def set_tokenizer_option(self, option_name: str, value: Any) -> None:
        """Options are for tokenizers of other families, named in `option_name`: there is nothing to do."""

    def clip_layer(self, layer_idx: int) -> None:
        """Raise `SoraDiTError` for any layer but the last, -1: the model has learned from that one only."""
        if layer_idx != -1:
            raise SoraDiTError(
                f"This model was trained with the last layer of its text encoder, not with layer {layer_idx}. "
                "Take the CLIP Set Last Layer node out, or set it to -1."
            )

    def get_sd(self) -> dict[str, Any]:
        """Raise `SoraDiTError`: see `REFUSED_TO_SAVE`."""
        raise SoraDiTError(REFUSED_TO_SAVE)

    def prompt_remark(self, text: str) -> str | None:
        """What to tell whoever wrote `text`: that it is longer than the encoder reads, or has weights; else None."""
        remarks = [self._too_long(text)]
        if found := _WEIGHT.search(text):
            remarks.append(f"This model reads {found[0]} letter by letter: it knows no weights. Say it in words.")
        return " ".join(filter(None, remarks)) or None

    def _too_long(self, text: str) -> str | None:
        if not self.encoder.truncated([text])[0]:
            return None
        limit = self.encoder.max_length - 1
        by_letter = self.encoder.config_dict()["tokenizer"] == "byt5"
        unit = "bytes (an English letter is one)" if by_letter else "word pieces"
        return f"The prompt is longer than the {limit} {unit} that this model reads; the rest of it is ignored."


class SoraVae:
    """A causal video autoencoder with the methods of ComfyUI's VAE. Latents are raw (not normalised)."""

    def __init__(self, module: Any, device: Any, output_device: Any, name: str = "", weights: Any = RESIDENT):
        self.first_stage_model, self.device, self.output_device, self.name = module, device, output_device, name
        self.weights, self.patcher = weights, weights.patcher
        self.latent_channels, self.latent_dim, self.output_channels = module.config.latent_channels, 3, 3

    def spacial_compression_decode(self) -> int:
        """Pixels per latent cell (the spelling is ComfyUI's)."""
        return self.first_stage_model.config.spatial_factor

    spacial_compression_encode = spacial_compression_decode

    @property
    def downscale_ratio(self) -> int:
        """Pixels per latent cell, as core's inpainting node asks for it."""
        return self.spacial_compression_decode()

    def temporal_compression_decode(self) -> int:
        """Frames per latent frame."""
        return self.first_stage_model.config.temporal_factor

    def throw_exception_if_invalid(self) -> None:
        """ComfyUI asks; a file that loaded is valid."""

    def get_sd(self) -> dict[str, Any]:
        """Raise `SoraDiTError`: see `REFUSED_TO_SAVE`."""
        raise SoraDiTError(REFUSED_TO_SAVE)

    def get_ram_usage(self) -> int:
        """Bytes of the weights."""
        return sum(part.nbytes for part in self.first_stage_model.state_dict().values())

    def decode(self, samples: Any, chunk_frames: int = 0, on_chunk: Callable[[int, int], None] | None = None) -> Any:
        """Latent `[B, C, T, h, w]` -> frames `[B, F, H, W, 3]` float32 in 0..1 on the output device.

        chunk_frames: video frames decoded at a time, 0 for as many as fit in little memory. The result is the same.
        on_chunk: called with (frames done, all frames).

        Raises:
            ShapeError: wrong number of channels or dimensions.
        """
        import torch

        samples = _checks.samples_of({"samples": samples}, self.latent_channels, "VAE")
        config = self.first_stage_model.config
        total = config.video_frames(samples.shape[2])
        size = [edge * config.spatial_factor for edge in samples.shape[3:]]
        frames = torch.empty((samples.shape[0], total, *size, 3), device=self.output_device)
        chunk = self._chunk_latents(samples.shape, chunk_frames)
        self.weights.load(self._bytes_per_latent(samples.shape) * chunk)
        done = 0
        with torch.inference_mode():
            for piece in self._pieces(samples, chunk):
                pixels = piece.float().add(1).mul(0.5).clamp_(0, 1).permute(0, 2, 3, 4, 1)  # [B, f, H, W, 3]
                frames[:, done : done + pixels.shape[1]] = pixels
                done += pixels.shape[1]
                if on_chunk is not None:
                    on_chunk(done, total)
        return frames

    def decode_tiled(self, samples: Any, tile_x=None, tile_y=None, overlap=None, tile_t=None, overlap_t=None) -> Any:
        """As `decode`, `tile_t` latent frames at a time. Chunks in time are exact, so nothing is cut in space."""
        return self.decode(samples, (tile_t or 0) * self.temporal_compression_decode())

    def encode(self, pixels: Any, chunk_frames: int = 0, on_chunk: Callable[[int, int], Any] | None = None) -> Any:
        """Frames `[F, H, W, 3]` or `[B, F, H, W, 3]` in 0..1 -> latent `[B, C, T, h, w]` on the output device.

        on_chunk: called with (frames, frames in all) before each chunk; may raise to cancel.

        Raises:
            ShapeError: width or height no multiple of the spatial factor, or frames not one more than a multiple of
                the temporal factor; the message names the nearest two values.
        """
        import torch

        video = pixels.unsqueeze(0) if pixels.ndim == 4 else pixels
        _checks.require_fit(video.shape[1:4], _checks.factors_of(self))
        factor = self.spacial_compression_decode()
        cells = (video.shape[2] // factor, video.shape[3] // factor)
        shape = (video.shape[0], 0, 1, *cells)
        chunk = self._chunk_latents(shape, 0) * self.temporal_compression_decode()
        self.weights.load(self._bytes_per_latent(shape) * self._chunk_latents(shape, 0))
        weights = next(self.first_stage_model.parameters())
        with torch.inference_mode():
            found = self.first_stage_model.encode_chunks(_prepared(video, chunk_frames or chunk, weights, on_chunk))
            means = [posterior.mean.to(self.output_device, torch.float32) for posterior in found]
        return torch.cat(means, 2)

    def encode_tiled(self, pixels: Any, tile_x=None, tile_y=None, overlap=None, tile_t=None, overlap_t=None) -> Any:
        """As `encode`, `tile_t` frames at a time."""
        return self.encode(pixels, tile_t or 0)

    def _pieces(self, samples: Any, chunk: int) -> Iterator[Any]:
        """Decoded pieces `[B, 3, f, H, W]`; each part of the latent goes to the device when its turn comes."""
        weights = next(self.first_stage_model.parameters())
        parts = (part.to(weights) for part in samples.split(chunk, 2))
        return self.first_stage_model.decode_chunks(parts)

    def _chunk_latents(self, shape: Any, chunk_frames: int) -> int:
        """Latent frames to decode at a time."""
        config = self.first_stage_model.config
        if chunk_frames > 0:
            return max(1, chunk_frames // config.temporal_factor)
        return max(1, _ACTIVATION_BUDGET // self._bytes_per_latent(shape))

    def _bytes_per_latent(self, shape: Any) -> int:
        """Working memory for one latent frame of `[B, C, T, h, w]`: some float32 maps at full size."""
        config = self.first_stage_model.config
        pixels = shape[0] * shape[3] * shape[4] * config.spatial_factor**2 * config.temporal_factor
        return max(1, pixels * (max(config.decoder_channels) * 4 // config.patch**2) * 4)


def _prepared(video: Any, chunk: int, weights: Any, on_chunk: Callable[[int, int], Any] | None) -> Iterator[Any]:
    """Pieces [B, 3, f, H, W] in -1..1 of frames [B, F, H, W, 3] in 0..1, in type and place of the weights."""
    done = 0
    for piece in video.split(chunk, 1):
        if on_chunk is not None:
            on_chunk(done, video.shape[1])
        done += piece.shape[1]
        yield piece[..., :3].to(weights).mul(2).sub(1).permute(0, 4, 1, 2, 3)


# --- What nodes ask of any object ----------------------------------------------------------------------------------


def require(value: Any, name: str, *methods: str) -> None:
    """Raise `SoraDiTError` unless `value` has `methods`: another pack's private object may sit on a standard wire."""
    missing = [method for method in methods if not callable(getattr(value, method, None))]
    kind = name.upper() if name in ("clip", "vae") else name
    if value is None:
        raise SoraDiTError(f"{name} is nothing; expected the {kind} output of a Load Model whose file holds that part.")
    if missing:
        raise SoraDiTError(
            f"{name} is {_checks.described(value)}, which cannot be used as a {kind}: it has no {missing[0]}. "
            f"Connect the {kind} output of a Load Model node."
        )


def prompt_remark(clip: Any, text: str) -> str | None:
    """What our `clip` has to say of `text`; None for encoders that do not tell."""
    ask = getattr(clip, "prompt_remark", None)
    return ask(text) if ask else None


def check_audio(audio: Any) -> None:
    """Raise `ShapeError` unless `audio` is an AUDIO with some sound in it, or None."""
    if audio is None:
        return
    waveform = audio.get("waveform") if isinstance(audio, dict) else None
    if getattr(waveform, "ndim", 0) != 3 or not audio.get("sample_rate"):
        raise ShapeError(f"Expected an AUDIO (sound with a sample rate), got {_checks.described(audio)}.")
