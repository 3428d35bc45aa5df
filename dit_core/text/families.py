"""The encoder families: which transformers classes they are and which settings define them.

Data only. The settings listed are those that change the computation or the training; a configuration that names any
other is refused, because it might mean something this code would ignore.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True)
class Family:
    """One kind of text encoder.

    Attributes:
        config_class, model_class: names in the `transformers` package.
        settings: keyword arguments of the config class that a configuration may hold.
        width: the setting that is the embedding width D.
        pooled: "mean" (masked mean of the embeddings) or "own" (the model's own pooled output).
        anchor: how the name of one tensor of every such encoder ends; what stands before is a file's own prefix.
        left_out: beginnings of names that files may hold and the encoder has no use for.
        optional_prefix: a name prefix that some files and transformers versions have and others do not.
    """

    config_class: str
    model_class: str
    settings: tuple[str, ...]
    width: str
    pooled: str
    anchor: str
    left_out: tuple[str, ...]
    optional_prefix: str = ""


_T5_SETTINGS = (
    "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "relative_attention_num_buckets",
    "relative_attention_max_distance", "dropout_rate", "layer_norm_epsilon", "initializer_factor",
    "feed_forward_proj", "pad_token_id", "eos_token_id",
)  # fmt: skip
_CLIP_SETTINGS = (
    "vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "hidden_act", "layer_norm_eps", "attention_dropout", "initializer_range",
    "initializer_factor", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
_T5_ANCHOR, _T5_LEFT_OUT = "encoder.block.0.layer.0.SelfAttention.q.weight", ("decoder.", "lm_head.", "spiece_model")
_CLIP_LEFT_OUT = (
    "vision_model.", "visual_projection.", "text_projection.", "logit_scale",
    "text_model.embeddings.position_ids", "embeddings.position_ids",
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "t5": Family("T5Config", "T5EncoderModel", _T5_SETTINGS, "d_model", "mean", _T5_ANCHOR, _T5_LEFT_OUT),
    "umt5": Family("UMT5Config", "UMT5EncoderModel", _T5_SETTINGS, "d_model", "mean", _T5_ANCHOR, _T5_LEFT_OUT),
    "clip_text_model": Family(
        "CLIPTextConfig", "CLIPTextModel", _CLIP_SETTINGS, "hidden_size", "own",
        "encoder.layers.0.self_attn.q_proj.weight", _CLIP_LEFT_OUT, optional_prefix="text_model.",
    ),
}  # fmt: skip


def get_family(name: str) -> Family:
    """Return the family called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        raise ConfigError(f"The text encoder's family is {name!r}; expected one of {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def build_model(name: str, settings: dict[str, Any]):
    """Build a randomly initialised transformers encoder of family `name` in eval mode, on the current default device.

    Raises:
        ConfigError: unknown family or setting, or a value that transformers does not take.
    """
    import transformers

    family = get_family(name)
    if not isinstance(settings, dict):
        raise ConfigError(f"The text encoder's config is a {type(settings).__name__}; expected a dictionary.")
    if unknown := sorted(set(settings) - set(family.settings)):
        raise ConfigError(
            f"The {name} text encoder has settings this code does not implement: {', '.join(unknown)}; "
            f"expected only {', '.join(family.settings)}."
        )
    try:
        config = getattr(transformers, family.config_class)(**settings)
        return getattr(transformers, family.model_class)(config).eval()
    except Exception as error:  # transformers raises its own classes for bad values, differently in each version
        raise ConfigError(f"The {name} text encoder cannot be built from its config: {error}") from error
