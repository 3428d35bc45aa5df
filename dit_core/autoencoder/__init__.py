"""The causal video autoencoder: video to latent and back, whole or chunk by chunk."""

from .colours import Colours, fit_colours, latent_picture
from .config import AutoencoderConfig
from .joins import Joins
from .latent import LatentStatistics, Posterior
from .model import CausalVideoAutoencoder
from .stream import Stream

__all__ = [
    "AutoencoderConfig",
    "CausalVideoAutoencoder",
    "Colours",
    "Joins",
    "LatentStatistics",
    "Posterior",
    "Stream",
    "fit_colours",
    "latent_picture",
]
