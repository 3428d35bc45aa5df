"""Between the data nodes of the training and `dit_core`: what a person typed becomes data sets and cached latents."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..dit_core.errors import CheckpointError, DataError, ShapeError, SoraDiTError
from ..dit_core.lock import FolderInUse
from . import _checks, host

_OFTEN = 0.3  # seconds between two tellings of progress inside one clip
Tell = Callable[[int, int, str], None]


_SETTING = re.compile(r"(?<= )training\.(?:lora\.)?(\w+)(?= (?:was|is another))")
_INPUTS = {"lr": "learning_rate (0: the usual one of the optimiser)", "seed": "training_seed"} | {
    name: f"{given} in Training Options"
    for name, given in {
        "known": "known_frames", "uniform": "timesteps", "caption_dropout": "caption_dropout", "ema": "ema",
        "weight_decay": "weight_decay", "precision": "precision", "compile": "compile",
    }.items()
}  # fmt: skip
"""What a training calls a setting -> how a person knows it, where that is another word or another node."""


@contextmanager
def by_name(what: str) -> Iterator[None]:
    """Errors about a folder speak of its name, which is what a person gives here, and of a setting by its input; `what`
    is how the input for the name is called."""
    try:
        yield
    except (CheckpointError, DataError, FolderInUse) as error:
        text = str(error).replace("another folder", f"another {what}")
        raise type(error)(_SETTING.sub(lambda found: _INPUTS.get(found[1], found[1]), text)) from error


# --- Checks before anything is read ------------------------------------------------------------------------------


def check_frames(frames: int | None, shortest: int | None = None) -> None:
    """Raise `ShapeError` for a length that no model here takes."""
    if frames is not None and (problem := _checks.frames_problem(frames, _checks.TEMPORAL_FACTOR)):
        raise ShapeError(problem)
    if None not in (frames, shortest) and shortest > frames:
        raise ShapeError(f"shortest is {shortest}, but the clips have {frames} frames; expected at most {frames}.")


def check_size(size: int | None, multiple: int | None) -> None:
    """Raise `ShapeError` unless a square of `multiple` fits into one of `size`."""
    if None not in (size, multiple) and size < multiple:
        raise ShapeError(
            f"size is {size} pixels, but widths and heights are multiples of {multiple}; expected {multiple} or more."
        )


def check_edge(name: str, pixels: int | None) -> None:
    """Raise `ShapeError` for a width or height that does not fit."""
    if pixels is not None and (problem := _checks.size_problem(name, pixels, _checks.SPATIAL_FACTOR)):
        raise ShapeError(problem)


def check_sky_rate(fps: float | None) -> None:
    """Raise `ShapeError` for skies that stand still."""
    if fps is not None and not fps >= 0.5:
        raise ShapeError(
            f"frames per second is {fps:g}; skies have no rate of their own, so expected 0.5 or more, such as 12."
        )


def encoder_of(clip: Any) -> Any:
    """The `TextEncoder` behind a CLIP. Raises `SoraDiTError` for one of another pack."""
    encoder = getattr(clip, "encoder", None)
    if clip is None or not hasattr(encoder, "config_dict"):
        raise SoraDiTError(
            f"clip is {_checks.described(clip)}, which cannot be trained with; connect the CLIP output of Load Model "
            "or New Model (Sora DiT)."
        )
    return encoder


def autoencoder_of(vae: Any) -> Any:
    """The autoencoder behind a VAE. Raises `SoraDiTError` for one of another pack."""
    module = getattr(vae, "first_stage_model", None)
    if vae is None or not hasattr(module, "statistics") or not hasattr(vae, "weights"):
        raise SoraDiTError(
            f"vae is {_checks.described(vae)}, which cannot be trained with; connect the VAE output of Load Model or "
            "Train Autoencoder (Sora DiT)."
        )
    return module


def require_clips(clips: Any) -> Any:
    """`clips` if one can train on them.

    Raises:
        SoraDiTError: something else is connected.
        DataError: no clip is long enough, or caption files cannot be used.
    """
    if not all(hasattr(clips, name) for name in ("bucket", "captions", "clip", "fingerprint", "name", "group")):
        raise SoraDiTError(f"clips is {_checks.described(clips)}; connect Clip Dataset or Sky Dataset.")
    if hasattr(clips, "survey"):  # made without being strict, so that the doctor can look at it
        return type(clips)(clips.survey, clips.rules, clips.split_cuts)
    return clips


# --- Data sets ---------------------------------------------------------------------------------------------------


def telling(cls: type) -> Tell:
    """A function of (done, all, what is at work) that shows progress on the node `cls`; raises on cancel."""
    bar, shown = None, (-1, 0.0)

    def tell(done: int, total: int, name: str) -> None:
        nonlocal bar, shown
        now = time.monotonic()
        host.check_cancelled()
        if done == shown[0] and now - shown[1] < _OFTEN:
            return
        if bar is None or bar.total != max(total, 1):
            bar = host.progress(cls, max(total, 1))
        shown = done, now
        bar.update(done)
        host.status(cls, f"{done} of {total}" + (f": {name}" if name else ""))

    return tell


def clips_of(folder: Path, rules: dict[str, Any], tell: Tell) -> tuple[Any, list[str]]:
    """Look through a folder: (`ClipSet`, remarks). rules: the values of Clip Dataset.

    Raises:
        DataError: no clip in it can be read.
    """
    from ..dit_core.data import BucketRules, ClipSet, survey

    found = survey(folder, rules["image_fps"], None, tell)
    wanted = BucketRules(
        pixels=rules["size"] ** 2,
        min_frames=min(rules["shortest"], rules["frames"]),
        max_frames=rules["frames"],
        spatial_factor=rules["multiple"],
        temporal_factor=_checks.TEMPORAL_FACTOR,
        fps=rules["fps"] or None,
        max_aspect=rules["widest"],
    )
    clips = ClipSet(found, wanted, rules["split_cuts"], strict=False)
    return clips, _remarks(clips)


def _remarks(clips: Any) -> list[str]:
    from ..dit_core.data import bucket_counts

    files, buckets = len(clips.survey.clips), bucket_counts(clips)
    sizes = ", ".join(f"{count} x {bucket}" for bucket, count in list(buckets.items())[-4:])
    more = f" and {len(buckets) - 4} other sizes" if len(buckets) > 4 else ""
    remarks = [f"{_count(files, 'file')}, {_count(len(clips), 'clip')}" + (f": {sizes}{more}." if sizes else ".")]
    bad = [problem for problem in clips.survey.problems if problem.kind == "unreadable"]
    if bad:
        remarks.append(f"{_count(len(bad), 'file')} cannot be read and left out. {bad[0].sentence}")
    if other := clips.survey.ignored:
        named = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        which = _count(len(other), "other file or folder is", "other files or folders are")
        remarks.append(f"{which} not used: {named}.")
    if clips.too_short:
        remarks.append(
            f"{_count(len(clips.too_short), 'stretch', 'stretches')} too short and left out. "
            f"{clips.too_short[0].sentence}"
        )
    return remarks


def skies(count: int, sky_seed: int, part: str, balanced: bool, **settings: Any) -> Any:
    """`SkyClips`. settings: width, height, frames, fps, twins."""
    from ..dit_core.data import SkyClips
    from ..dit_core.skies import EQUALLY
    from ..dit_core.training.sky_data import SkySource

    flying = EQUALLY if balanced else ()
    return SkyClips(SkySource(seed=sky_seed, split=part, flying=flying, **settings), count)


def examined(clips: Any, in_row: int, height: int, clip: Any = None) -> tuple[str, Any]:
    """The doctor's report, and the contact sheet as IMAGE [1, H, W, 3]."""
    from ..dit_core.data import DoctorRules, examine
    from ..dit_core.watch import placard

    if not hasattr(clips, "survey"):
        return _about_skies(require_clips(clips)), _sheet(clips, in_row, height)
    rules = DoctorRules()
    if clip is not None:
        encoder = encoder_of(clip)
        unit = "bytes (an English letter is one)" if encoder.config_dict()["tokenizer"] == "byt5" else "word pieces"
        rules = DoctorRules(
            caption_limit=encoder.max_length - 1,
            caption_length=lambda text: len(text.encode()) if "bytes" in unit else _pieces(encoder, text),
            caption_unit=unit,
        )
    report = examine(clips.survey, clips.rules, rules, split_cuts=clips.split_cuts)
    if not len(clips):
        return report.text(), image_of(placard("no clip can be used; see the report"))
    return report.text(), _sheet(clips, in_row, height)


def _pieces(encoder: Any, text: str) -> int:
    """Word pieces of a caption; one that is cut counts as one more than fits."""
    return encoder.max_length if encoder.truncated([text])[0] else int(encoder.tokenize([text])[1].sum()) - 1


def _sheet(clips: Any, in_row: int, height: int) -> Any:
    from ..dit_core.data.sheet import contact_sheet

    return image_of(contact_sheet(clips, in_row, height))


def image_of(picture: Any) -> Any:
    """A Pillow picture as IMAGE: float32 [1, H, W, 3] in 0..1."""
    return bytes_of(picture).float().div(255).unsqueeze(0).to(host.result_device())


def bytes_of(picture: Any) -> Any:
    """A Pillow picture as a tensor [H, W, 3] uint8."""
    import torch

    data = bytearray(picture.convert("RGB").tobytes())
    return torch.frombuffer(data, dtype=torch.uint8).reshape(picture.height, picture.width, 3)


def _about_skies(clips: Any) -> str:
    from ..dit_core.data import captions_of

    examples = "\n".join(f"  {captions_of(clips, index)[0]}" for index in range(min(5, len(clips))))
    kind = clips.fingerprint().kind
    if kind != "synthetic skies":
        return f"{_count(len(clips), 'clip')} of {kind}; not examined. Captions such as:\n{examples}\n"
    return (
        f"{_count(len(clips), 'rendered sky', 'rendered skies')}, each {clips.bucket(0)}. They are made from numbers, "
        f"so nothing can be wrong with them. Captions such as:\n{examples}\n"
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"1 {one}" if number == 1 else f"{number} {many or one + 's'}"


def told_split(train: Any, held_out: Any) -> str:
    """How many clips train and how many are held out (None: none are)."""
    return f"{_count(len(train), 'clip trains', 'clips train')}, {len(held_out or ())} held out."


# --- Latents -----------------------------------------------------------------------------------------------------


class Caching:
    """Clips that are to be encoded into `folder`; everything is checked when it is made.

    Raises:
        SoraDiTError, DataError: parts that cannot be trained with, or sizes that the VAE does not take.
    """

    def __init__(self, clips: Any, vae: Any, clip: Any, folder: Path, wordings: int):
        from ..dit_core.data import plan_cache
        from ..dit_core.latents import cache_format

        self.clips, self.vae, self.folder, self.wordings = require_clips(clips), vae, folder, wordings
        self.autoencoder, self.encoder = autoencoder_of(vae), encoder_of(clip)
        self._plan = plan_cache(self.clips, cache_format(self.autoencoder, self.encoder))

    def plan(self) -> str:
        """How much is to be stored, in words."""
        if (self.folder / "index.json").is_file():
            return f"{self.folder} holds latents already; they are looked at, and used if they are of these clips."
        return f"To be written to {self.folder}:\n{self._plan.text()}"

    def run(self, tell: Tell) -> tuple[Any, list[str]]:
        """Encode what is not there yet: (`LatentStore`, remarks)."""
        import torch

        from ..dit_core.latents import cache_latents

        with torch.inference_mode(False), torch.no_grad(), by_name("name"):
            self.vae.weights.load()
            store = cache_latents(
                self.clips,
                self.autoencoder,
                self.encoder,
                self.folder,
                wordings=self.wordings,
                device=next(self.autoencoder.parameters()).device,  # where the weights are now
                on_progress=tell,
            )
        if not store.skipped:
            return store, []
        reasons = " ".join(list(store.skipped.values())[:2])
        return store, [f"{_count(len(store.skipped), 'clip')} could not be read and left out. {reasons}"]


def require_latents(latents: Any) -> Any:
    """`latents` if they are such. Raises `DataError`."""
    if not all(hasattr(latents, name) for name in ("draw", "fingerprint", "buckets")):
        raise DataError(f"latents is {_checks.described(latents)}; connect Cache Latents (Sora DiT).")
    return latents


def shape_of(latents: Any) -> dict[str, Any]:
    """What most of the clips are: height, width, frames, and fps where all have one (as models remember it)."""
    bucket = max(latents.buckets().items(), key=lambda item: (item[1], item[0].frames))[0]
    found = {"height": bucket.height, "width": bucket.width, "frames": bucket.frames}
    rules = (latents.fingerprint().get("data") or {}).get("rules", {})
    try:
        whole, _, part = str(rules["fps"]).partition("/")
        found["fps"] = float(whole) / float(part or 1)
    except (KeyError, ValueError):
        pass
    return found
