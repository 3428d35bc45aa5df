"""The mathematics of diffusion: objectives, noise schedules, samplers and guidance. No model, no device, no nodes."""

from .guidance import classifier_free
from .noise import SeededNoise, cpu_noise
from .objectives import OBJECTIVES, Objective, get_objective
from .samplers import SAMPLERS, sample
from .schedules import BETA_SCHEDULES, SCHEDULES, DDPMSchedule, check_sigmas, flow_shift, make_sigmas

__all__ = [
    "BETA_SCHEDULES",
    "OBJECTIVES",
    "SAMPLERS",
    "SCHEDULES",
    "DDPMSchedule",
    "Objective",
    "SeededNoise",
    "check_sigmas",
    "classifier_free",
    "cpu_noise",
    "flow_shift",
    "get_objective",
    "make_sigmas",
    "sample",
]
