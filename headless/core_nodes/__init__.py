"""Stand-ins for the nodes of ComfyUI's core that stand around ours in a workflow. They exist headless only.

Ids, inputs, types, ranges and defaults are those of ComfyUI 0.8.0; `tests/headless/core_nodes_0_8_0.json` holds the
facts they are compared with. Nothing here imports torch, Pillow or PyAV before a node runs.
"""

from __future__ import annotations

from . import audio, conditioning, image_files, images, latents, primitives, vae, video
from .base import MODULE, CoreNode

CORE_NODES: tuple[type[CoreNode], ...] = (
    *primitives.NODES,
    *conditioning.NODES,
    *vae.NODES,
    *latents.NODES,
    *image_files.NODES,
    *images.NODES,
    *video.NODES,
    *audio.NODES,
)

__all__ = ["CORE_NODES", "MODULE", "CoreNode"]
