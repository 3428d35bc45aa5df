"""Looking at a training, running or done: its log in words, its curves and its samples as pictures, TensorBoard files.

`read_log(folder)` reads what a training wrote, `summary` says it in words, `draw_curves` draws it, `draw_strip` lays
samples of the same prompts beside each other. Pillow draws; nothing here imports torch but the TensorBoard writer.
"""

from .curves import draw_curves, draw_glance, save_picture
from .events import EventWriter
from .log import LOG_FILE, TrainingLog, read_log
from .strip import Sample, draw_strip, forget_samples, placard, read_samples, reduced, save_sample
from .words import duration, summary

__all__ = [
    "LOG_FILE", "EventWriter", "Sample", "TrainingLog", "draw_curves", "draw_glance", "draw_strip", "duration",
    "forget_samples", "placard", "read_log", "read_samples", "reduced", "save_picture", "save_sample", "summary",
]  # fmt: skip
