"""What a person sees of a training while it runs: progress, curves and samples, on the node and as files."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..dit_core.errors import Cancelled, DataError, SoraDiTError
from ..dit_core.memory import is_out_of_memory
from . import _training_data, host

CURVES, STRIP = "curves.png", "samples.png"
_FILES, _PICTURE, _STATUS = 30.0, 4.0, 1.0  # seconds between drawings of files, of the picture on the node, of words
_SHARE = 0.02  # of the time is spent on drawing at most, whatever a drawing costs


def stopped(position: dict[str, Any]) -> str:
    """What a person who cancelled is told: at which step, and from where it goes on."""
    said = f"The training was stopped at step {position['step']}"
    if "kept" not in position:
        return f"{said}; queue it again to go on."
    kept = f"goes on from step {position['kept']}" if position["kept"] else "begins anew"
    return f"{said}, just after the loss rose, and that step is not saved; queued again it {kept}."


class Desk:
    """Follows one training.

    cls: the running node; folder: of the run; total: steps; sampler: steps done -> samples, or None.
    """

    def __init__(self, cls: type, folder: Path, total: int, sampler: Callable[[int], list] | None = None):
        from ..dit_core.watch import EventWriter, TrainingLog

        self.cls, self.folder, self.total, self.sampler = cls, folder, total, sampler
        self.log, self.samples = TrainingLog(folder.name, ()), []
        self.events = EventWriter(folder)
        self.progress = host.progress(cls, total)
        self._last = {"files": time.monotonic(), "picture": 0.0, "status": 0.0}
        self._cost = 0.0  # seconds of the last drawing
        self._told = False

    def callbacks(self) -> Any:
        """For the trainer; `step` raises when the person has cancelled, and the trainer then saves."""
        from ..dit_core.training.callbacks import Callbacks

        return Callbacks(begin=self._begin, report=self._report, step=self._step, sample=self._sample)

    def follow(self, work: Callable[[Any], tuple[Any, dict[str, Any], bool]]) -> tuple[Any, dict[str, Any]]:
        """Run a training, `work`(callbacks) -> (result, position, done): the first two.

        Raises `Cancelled` where it was stopped; other errors speak of the input for its name.
        """
        try:
            with _training_data.by_name("name for run"):
                result, position, done = work(self.callbacks())
            if done:
                self.finish()
        finally:
            self.close()
        if not done:
            raise Cancelled(stopped(position))
        return result, position

    def close(self) -> None:
        """Draw the files; called however the training ended."""
        self.events.close()
        if self.log.lines:
            self._draw_files()

    def finish(self) -> None:
        """What stays on the node of a finished training is its end, not the last look before it."""
        from ..dit_core.watch import summary

        if self.log.lines and host.in_comfyui:
            host.status(self.cls, summary(self.log))
            self.progress.show(self.log.step, self._glance())

    def _begin(self, step: int) -> None:
        """Say where the training is kept and from where it goes on; what is shown of it begins with what was there."""
        from ..dit_core.watch import forget_samples, read_log, read_samples, reduced

        with suppress(DataError):  # there is none yet
            self.log = read_log(self.folder)
        forget_samples(self.folder, step)
        self.samples = [reduced(one) for one in read_samples(self.folder)]
        if step >= self.total:
            words = f"The training in {self.folder} is finished: {step} steps."
        elif step:
            words = f"The training in {self.folder} goes on from step {step} of {self.total}."
        else:
            words = f"The training in {self.folder} begins: {self.total} steps."
        host.note(self.cls, words)

    def _report(self, line: dict) -> None:
        from ..dit_core.watch import TrainingLog

        self.events.write(line)
        if "event" in line:
            self.log = TrainingLog(self.log.name, self.log.lines, (*self.log.events, line))
            return
        kept = tuple(one for one in self.log.lines if one["step"] < line["step"])
        self.log = TrainingLog(self.log.name, (*kept, line | {"total": self.total}), self.log.events)
        if self._due("files", _FILES):
            self._draw_files()

    def _step(self, step: int, total: int | None) -> None:
        from ..dit_core.watch import summary

        picture = None
        if host.in_comfyui and self.log.lines and self._due("picture", _PICTURE):
            picture = self._glance()
        if self._due("status", _STATUS):
            host.status(self.cls, summary(self.log) if self.log.lines else f"step {step} of {self.total}")
        self.progress.update(step, picture)

    def _sample(self, step: int) -> None:
        """A training is worth more than a look at it: a sample that cannot be made is told once, no more."""
        from ..dit_core.watch import reduced, save_sample

        if self.sampler is None:
            return
        try:
            new = []
            for sample in self.sampler(step):
                save_sample(self.folder, sample)
                new.append(reduced(sample))
        except (SoraDiTError, MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                host.free_memory()
            if not self._told:
                host.note(self.cls, f"No sample at step {step}. {error}")
            self._told = True
            return
        self.samples = [one for one in self.samples if one.step < step] + new
        self._draw_files()
        self._last["picture"] = 0.0

    def _due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._last[what] < max(seconds, 0.0 if what == "status" else self._cost / _SHARE):
            return False
        self._last[what] = now
        return True

    def _glance(self) -> Any:
        from ..dit_core.watch import draw_glance

        started = time.monotonic()
        newest = max((one.step for one in self.samples), default=0)
        picture = draw_glance(self.log, [one for one in self.samples if one.step == newest])
        self._cost = time.monotonic() - started
        return _training_data.bytes_of(picture)

    def _draw_files(self) -> None:
        """Curves and strip beside the state; a full disk must not stop what could still be saved elsewhere."""
        from ..dit_core.watch import draw_curves, draw_strip, save_picture

        started = time.monotonic()
        try:
            save_picture(draw_curves(self.log), self.folder / CURVES)
            if self.samples:
                save_picture(draw_strip(self.samples), self.folder / STRIP)
        except SoraDiTError as error:
            host.status(self.cls, str(error))
        self._cost = time.monotonic() - started
        self._last["files"] = time.monotonic()


class Sampler:
    """Makes clips of fixed prompts with the model as it is, always from the same noise.

    module: in training; text: `TextEncoder`; vae: any VAE; shape: of a latent [C, T, h, w].
    """

    steps, scale = 12, 3.0  # enough to see what was learned

    def __init__(self, module: Any, text: Any, vae: Any, prompts: list[str], shape: tuple[int, ...]):
        self.module, self.text, self.vae, self.prompts, self.shape = module, text, vae, prompts, shape

    def __call__(self, step: int) -> list:
        """A sample for each prompt. Raises `SoraDiTError` when the model puts out no numbers."""
        import torch

        from ..dit_core.watch import Sample

        found = []
        for number, prompt in enumerate(self.prompts):
            latent = self._latent(prompt, number)
            with torch.inference_mode():
                pixels = self.vae.decode(latent)
            pixels = pixels[0] if pixels.ndim == 5 else pixels
            frames = pixels[..., :3].float().clamp(0, 1).mul(255).round().to("cpu", torch.uint8).numpy()
            found.append(Sample(step, number, prompt, frames))
        return found

    def _latent(self, prompt: str, number: int) -> Any:
        import torch

        from ..dit_core.conditioning import Prompt, combine
        from ..dit_core.diffusion import make_sigmas
        from ..dit_core.generate import denoise_latent, model_objective, model_shift

        objective = model_objective(self.module.config)
        place = next(self.module.parameters()).device
        with torch.no_grad():
            text = self.text.encode([prompt, ""])
            rows = (slice(0, 1), slice(1, 2))
            prompts = [[Prompt(text.embeddings[one], text.mask[one], text.pooled[one])] for one in rows]
            shift = model_shift(self.module.config)
            plan = combine(self.module, objective, make_sigmas(objective, self.steps, shift=shift), *prompts,
                           device=place)  # fmt: skip
        empty = torch.zeros(1, *self.shape)
        return denoise_latent(self.module, plan, empty, seed=number + 1, guidance_scale=self.scale, device=place)
