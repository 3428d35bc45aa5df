"""Measures of clips: how like the original, how sharp, how coherent; and what an autoencoder does to them."""

from .causality import Causality, check_causality
from .codec import CodecQuality, codec_quality, to_frames
from .likeness import luminance, psnr, ssim
from .seams import TokenGrid, coherence, edge_ratio, time_ratio
from .sharpness import BANDS, band_energy, detail_ratio, motion_ratio

__all__ = [
    "BANDS",
    "Causality",
    "CodecQuality",
    "TokenGrid",
    "band_energy",
    "check_causality",
    "codec_quality",
    "coherence",
    "detail_ratio",
    "edge_ratio",
    "luminance",
    "motion_ratio",
    "psnr",
    "ssim",
    "time_ratio",
    "to_frames",
]
