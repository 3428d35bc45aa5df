"""Latents and noise levels: files, batches, parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...dit_core.checkpoint.atomic import reason
from ...dit_core.errors import CheckpointError, ShapeError
from ..comfy_api import io
from ..session import current
from . import saving
from .base import CoreNode
from .image_files import prefix_input
from .ours import checks, files, host
from .resize import resize

_SAMPLES, _VERSION = "latent_tensor", "latent_format_version_0"  # tensors in a .latent file
_OLD_SCALE = 1 / 0.18215  # files without the second one hold latents in the scale of Stable Diffusion 1


class SaveLatent(CoreNode):
    """LATENT -> a file in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveLatent",
            display_name="SaveLatent",
            category="_for_testing",
            description="Writes a latent into a file that holds the workflow; copied into the input folder, it "
            "can be loaded.",
            inputs=[io.Latent.Input("samples"), prefix_input("latents/ComfyUI")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return saving.prefix_verdict(filename_prefix)

    @classmethod
    def execute(cls, samples, filename_prefix="ComfyUI") -> io.NodeOutput:
        import torch
        from safetensors.torch import save

        tensors = {_SAMPLES: _samples_of(samples, "samples").cpu().contiguous(), _VERSION: torch.tensor([])}
        data = save(tensors, {"prompt": "", **host.run_metadata(cls)})
        if samples.get("noise_mask") is not None:
            host.note(cls, "A latent file has no place for the mask; only the latent itself was saved.")
        saved = saving.save(cls, filename_prefix, "latent", lambda _, path: path.write_bytes(data))
        return io.NodeOutput(ui={"latents": saved})


class LoadLatent(CoreNode):
    """File -> LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadLatent",
            display_name="LoadLatent",
            category="_for_testing",
            description="Reads a latent that SaveLatent wrote.",
            inputs=[
                io.Combo.Input(
                    "latent",
                    options=_latent_files(Path(current().input_dir)),
                    tooltip='The file in the input folder; "name.latent [output]" is one in the output folder.',
                )
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def validate_inputs(cls, latent=None) -> bool | str:
        return checks.verdict(latent=lambda: latent is None or host.input_path(latent))

    @classmethod
    def fingerprint_inputs(cls, latent) -> list:
        return list(files.file_identity(host.input_path(latent)))

    @classmethod
    def execute(cls, latent) -> io.NodeOutput:
        return io.NodeOutput({"samples": _read_latent(host.input_path(latent))})


def _latent_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(one.name for one in folder.iterdir() if one.name.endswith(".latent") and one.is_file())


def _read_latent(path: Path) -> Any:
    """The samples in a file. Raises `CheckpointError` if it holds none."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}.") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged, or no latent file; expected one that SaveLatent wrote.") from error
    if _SAMPLES not in tensors:
        names = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise CheckpointError(f"{path} holds {names}; expected the tensor {_SAMPLES}, as SaveLatent writes it.")
    samples = tensors[_SAMPLES].float()
    return samples if _VERSION in tensors else samples * _OLD_SCALE


class LatentBatch(CoreNode):
    """Two LATENTs -> one batch, the second in the first's size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentBatch",
            category="latent/batch",
            description="Puts two latents into one batch; the second is brought to the size of the first.",
            is_deprecated=True,
            inputs=[io.Latent.Input("samples1"), io.Latent.Input("samples2")],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, samples1, samples2) -> io.NodeOutput:
        import torch

        first, second = _samples_of(samples1, "samples1"), _samples_of(samples2, "samples2")
        if first.shape[1:-2] != second.shape[1:-2]:
            raise ShapeError(
                f"samples1 has shape {list(first.shape)} and samples2 {list(second.shape)}; expected two latents of "
                "one model with the same number of frames."
            )
        if first.shape[1:] != second.shape[1:]:
            second = resize(second, first.shape[-1], first.shape[-2], "bilinear", "center")
        numbers = [list(one.get("batch_index", range(len(part))))
                   for one, part in ((samples1, first), (samples2, second))]  # fmt: skip
        return io.NodeOutput(
            {**samples1, "samples": torch.cat((first, second)), "batch_index": numbers[0] + numbers[1]}
        )


class RepeatLatentBatch(CoreNode):
    """LATENT -> the same several times, with further noise numbers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RepeatLatentBatch",
            display_name="Repeat Latent Batch",
            category="latent/batch",
            description="Repeats a latent, so that several variants are made at once.",
            inputs=[io.Latent.Input("samples"), io.Int.Input("amount", default=1, min=1, max=64)],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, samples, amount) -> io.NodeOutput:
        tensor, changed = _samples_of(samples, "samples"), {}
        changed["samples"] = _repeated(tensor, amount)
        mask = samples.get("noise_mask")
        if mask is not None and len(mask) > 1:  # one mask counts for all
            rounds = -(-len(tensor) // len(mask))
            changed["noise_mask"] = _repeated(_repeated(mask, rounds)[: len(tensor)], amount)
        if "batch_index" in samples:
            numbers = list(samples["batch_index"])
            further = max(numbers) - min(numbers) + 1
            changed["batch_index"] = [number + turn * further for turn in range(amount) for number in numbers]
        return io.NodeOutput({**samples, **changed})


def _repeated(tensor: Any, times: int) -> Any:
    return tensor.repeat(times, *[1] * (tensor.ndim - 1))


def _samples_of(latent: Any, name: str) -> Any:
    """The tensor `[B, C, ..., h, w]` of a LATENT, as it is. Raises `ShapeError` that names the input."""
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if getattr(samples, "ndim", 0) < 3 or 0 in samples.shape:
        raise ShapeError(f"{name} is {checks.described(latent if samples is None else samples)}; expected a LATENT.")
    return samples


class SplitSigmas(CoreNode):
    """SIGMAS -> those up to a step, and those from it on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SplitSigmas",
            category="sampling/custom_sampling/sigmas",
            description="Cuts a schedule in two at a step, which belongs to both parts.",
            inputs=[io.Sigmas.Input("sigmas"), io.Int.Input("step", default=0, min=0, max=10000)],
            outputs=[io.Sigmas.Output(display_name="high_sigmas"), io.Sigmas.Output(display_name="low_sigmas")],
        )

    @classmethod
    def execute(cls, sigmas, step) -> io.NodeOutput:
        if getattr(sigmas, "ndim", 0) != 1:
            raise ShapeError(f"sigmas is {checks.described(sigmas)}; expected SIGMAS, a row of noise levels.")
        return io.NodeOutput(sigmas[: step + 1], sigmas[step:])


NODES = (SaveLatent, LoadLatent, LatentBatch, RepeatLatentBatch, SplitSigmas)
