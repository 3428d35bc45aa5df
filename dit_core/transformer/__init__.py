"""The video diffusion transformer."""

from .config import TransformerConfig
from .model import Modulation, TextKeyValues, VideoDiT

__all__ = ["Modulation", "TextKeyValues", "TransformerConfig", "VideoDiT"]
