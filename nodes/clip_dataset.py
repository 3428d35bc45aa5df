"""Training, station 1: a folder of clips becomes a data set."""

from __future__ import annotations

from . import _checks, _training_data, _training_files, host
from ._training_inputs import HIDDEN, clips_output, frame_rate, length, number, switch, whole
from .host import io


class SoraDiTClipDataset(io.ComfyNode):
    """Folder -> SORA_CLIPS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTClipDataset",
            display_name="Clip Dataset (Sora DiT)",
            category="Sora DiT/training",
            description="Takes a folder of your clips as training data: videos, GIFs and folders of numbered images, "
            "with captions from .txt files beside them, a captions.csv or .jsonl, or the folders' names. Clips are cut "
            "at scene changes and brought to one frame rate and to a few sizes. Nothing is copied or changed.",
            search_aliases=["training data", "video folder", "load clips", "captions", "finetune"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=host.input_folders(),
                    tooltip="The folder with the clips, and with captions beside them. Put it, or a link to it, into "
                    "the input folder. Twenty clips are enough for a LoRA; a model from scratch wants thousands.",
                ),
                whole(
                    "size", 96, 16, 2048,
                    "Size of the pictures, 16 to 2048: the side of a square with as many pixels as a frame gets. 96 "
                    "is within reach of a CPU; twice the size takes over 4 times as long.",
                ),
                length(),
                frame_rate(
                    "Frames per second that all clips are brought to, 0 to 120. Fewer make a clip of the same number "
                    "of frames last longer and its movements larger; 0 keeps each file's own, so that speeds differ."
                ),
                whole(
                    "shortest", 13, 1, 401,
                    "Clips down to so many frames are used too, 1 to 401; shorter stretches are left out. As many as "
                    "frames: all clips have the same length.",
                    advanced=True,
                ),
                number(
                    "widest", 1.0, 1.0, 4.0,
                    "How much wider than high (or higher than wide) frames may become, 1 to 4. 1 cuts the middle "
                    "square out of each; 1.8 keeps wide pictures wide. Batches are made of clips of one shape.",
                    step=0.1,
                ),
                switch(
                    "split_cuts", True,
                    "Cut files where the scene changes, so that no clip jumps. Off: clips run over such cuts and the "
                    "model learns to jump.",
                    display_name="split at cuts",
                ),
                number(
                    "image_fps", 24.0, 0.01, 1000.0,
                    "Frames per second that folders of numbered images are taken to have, 0.01 to 1000.",
                    step=1.0, advanced=True, display_name="fps of image folders",
                ),
                whole(
                    "multiple", 16, 1, 128,
                    "Widths and heights are multiples of it, 1 to 128: pixels per latent cell of the VAE times the "
                    "patch of the model. 16 goes with all models here; 8 gives more shapes where the patch is 1.",
                    advanced=True, display_name="sizes are multiples of",
                ),
            ],
            outputs=[clips_output()],
            hidden=HIDDEN,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, folder=None, size=None, frames=None, shortest=None, multiple=None) -> bool | str:
        return _checks.verdict(
            _checks.within(cls, size=size, frames=frames, shortest=shortest, multiple=multiple),
            folder=lambda: folder is None or host.input_folder(folder),
            frames=lambda: _training_data.check_frames(frames, shortest),
            size=lambda: _training_data.check_size(size, multiple),
        )

    @classmethod
    def fingerprint_inputs(cls, folder, **_) -> list:
        return _training_files.folder_identity(host.input_folder(folder))

    @classmethod
    def execute(cls, folder, **rules) -> io.NodeOutput:
        clips, remarks = _training_data.clips_of(host.input_folder(folder), rules, _training_data.telling(cls))
        for remark in remarks:
            host.note(cls, remark)
        return io.NodeOutput(clips)


NODES = (SoraDiTClipDataset,)
