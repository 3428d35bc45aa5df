"""What the starter is made of, and what its training runs on: configurations and seeds of skies."""

from __future__ import annotations

from ...autoencoder import AutoencoderConfig
from ...skies import EQUALLY
from ...transformer import TransformerConfig
from ..sky_data import SkySource

# fitted in closed form in a minute; with linear="encoder" convolutions may be trained on top of the same latents
AUTOENCODER = AutoencoderConfig(
    latent_channels=64,
    patch=4,
    encoder_channels=(48, 64, 96),
    decoder_channels=(64, 96, 128),
    spatial_downsample=(True, False),
    linear="alone",
    lookahead=1,
    kl=0.0,
)
TEXT = {
    "family": "t5",
    "tokenizer": "byt5",
    "max_length": 192,
    "config": dict(
        vocab_size=384,
        d_model=192,
        d_kv=32,
        num_heads=6,
        d_ff=384,
        num_layers=3,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=32,
    ),
}
# one token per latent cell: with coarse tokens the picture falls apart at their borders until very late in training
TRANSFORMER = TransformerConfig(
    width=256,
    depth=6,
    heads=4,
    ff_width=1024,
    patch=(1, 1, 1),
    text="both",
    text_width=192,
    text_projection=False,
    modulation="shared",
    qk_norm="head",
    cross_norm=True,
    rope_theta=100.0,
    frame_position=8,
    objective="flow",
)
AUTOENCODER_SOURCE = SkySource(seed=11)
TRANSFORMER_SOURCE = SkySource(seed=22, flying=EQUALLY)
HELD_OUT_SOURCE = SkySource(seed=33, split="heldout")
