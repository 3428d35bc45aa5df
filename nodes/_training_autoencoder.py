"""Between Train Autoencoder and `dit_core.training.autoencoder`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ..dit_core.errors import CheckpointError, SoraDiTError
from ..dit_core.lock import folder_lock
from . import _training, _training_data, _training_watch, host
from .handles import SoraVae

# What a person chooses -> changes to the configuration of the starter's autoencoder
KINDS = {
    "linear": {"linear": "alone", "lookahead": 1},
    "linear encoder": {"linear": "encoder", "lookahead": 0},
    "convolutional": {"linear": "none", "lookahead": 0, "patch": 2, "spatial_downsample": (True, True)},
}
MADE = "autoencoder.safetensors"
"""The finished autoencoder, in the folder of its run."""


def train(cls: type, clips: Any, vae: Any, settings: dict[str, Any]) -> SoraVae:
    """Train, go on, or open what was finished before: a VAE. settings: the values of Train Autoencoder."""
    import torch

    clips, start = _training_data.require_clips(clips), None
    if vae is not None:
        start = _training_data.autoencoder_of(vae)
        vae.weights.rest()
    place, folder = torch.device(host.device()), host.training_folder(settings["run"])
    if start is None and settings["kind"] == "linear":
        module = _fitted(cls, clips, settings, place, folder)
    else:
        module = _trained(cls, clips, start, settings, place, folder)
    return _as_vae(cls, module, settings["run"], place)


def _fitted(cls: type, clips: Any, settings: dict[str, Any], place: Any, folder: Path) -> Any:
    """A linear autoencoder, worked out at once from all clips. Two runs at once would write over each other."""
    from ..dit_core.training.autoencoder import new_autoencoder, with_statistics

    training = _training_of(settings | {"adversarial": 0})
    asked = [_asked_at_once(clips, training, settings)]
    asked.append(_asked(clips, None, training, settings))  # as older versions wrote it
    if (module := _made_before(folder / MADE, asked, keep=True)) is not None:
        return module
    with _training_data.by_name("name for run"), folder_lock(folder, "a training"), _training.learning():
        if (module := _made_before(folder / MADE, asked, keep=True)) is None:  # by another process since
            host.make_room()
            module = new_autoencoder(_config(settings), clips, training, place, partial(_watched, cls))
            module = with_statistics(module, clips, place)
            _keep(folder / MADE, module, asked[0], {"step": 0, "samples": 0, "seconds": 0.0})
    return module


def _trained(cls: type, clips: Any, start: Any, settings: dict[str, Any], place: Any, folder: Path) -> Any:
    """An autoencoder trained in steps, gone on with, or finished before."""
    from ..dit_core.data.held_out import split_clips
    from ..dit_core.training.autoencoder import new_autoencoder, train_autoencoder, will_load

    training, (part, held_out) = _training_of(settings), split_clips(clips, settings["held_out"])
    asked = [_asked(part, start, training, settings, "held_out"), _asked(clips, start, training, settings)]
    if (module := _made_before(folder / MADE, asked, keep=False)) is not None:
        return module
    with _training.learning():
        host.make_room()
        host.note(cls, _training_data.told_split(part, held_out))
        watch = partial(_watched, cls)
        if start is None:
            config = _config(settings)
            module = new_autoencoder(config, part, training, place, watch, not will_load(config, folder))
        else:
            module = _with_decoder(start, settings["training_seed"], part, place, watch, folder)
        mirror = Mirror(module, held_out or part, place)
        desk = _training_watch.Desk(cls, folder, settings["steps"], mirror)
        loop = _loop(settings)
        module, position = desk.follow(
            lambda callbacks: train_autoencoder(module, part, folder, loop, training, place, callbacks, held_out)
        )
        _keep(folder / MADE, module, asked[0], position)
    return module


def _loop(settings: dict[str, Any]) -> Any:
    tenth = max(1, settings["steps"] // 10)
    loop = _training.Options().loop(settings["steps"], settings["batch"], tenth)
    return replace(loop, held_out_every=min(loop.held_out_every, tenth))


class Mirror:
    """Shows clips and, below each, what the autoencoder makes of them."""

    clips_shown = 2

    def __init__(self, module: Any, clips: Any, place: Any):
        self.module, self.place = module, place
        self._videos = list(islice(_decoded(clips, self.clips_shown), self.clips_shown))

    def __call__(self, step: int) -> list:
        """A sample for each clip: original above, reconstruction below."""
        import torch

        from ..dit_core.watch import Sample

        found = []
        for number, (name, video) in enumerate(self._videos):
            with torch.no_grad():
                latent = self.module.encode(video.unsqueeze(0).to(self.place)).mean
                drawn = self.module.decode(latent)[0].float().cpu()
            both = torch.cat([video, drawn.clamp(-1, 1)], 2).permute(1, 2, 3, 0)  # [F, 2 H, W, 3]
            frames = both.add(1).mul(127.5).round().to(torch.uint8).numpy()
            found.append(Sample(step, number, f"{name}, and as it comes back", frames))
        return found


def _watched(cls: type, batches: Iterable[Any]) -> Iterator[Any]:
    """The batches that something is fitted to; says how many, raises when the person pressed cancel."""
    for number, batch in enumerate(batches, 1):
        host.check_cancelled()
        host.status(cls, f"fitting, batch {number}")
        yield batch


def _decoded(clips: Any, wanted: int) -> Iterator[tuple[str, Any]]:
    """(name, clip) at even distances, from each such place the first that can be decoded."""
    from ..dit_core.data import clip_of
    from ..dit_core.errors import MediaError

    apart = -(-len(clips) // min(wanted, len(clips)))
    for first in range(0, len(clips), apart):
        for index in range(first, min(first + apart, len(clips))):
            with suppress(MediaError):
                yield clips.name(index), clip_of(clips, index)
                break


def _training_of(settings: dict[str, Any]) -> Any:
    from ..dit_core.training.adversary import AdversarialSettings
    from ..dit_core.training.autoencoder import AutoencoderTraining
    from ..dit_core.training.likelihood import LikelihoodSettings

    by_likelihood = settings["reconstruction"] == "likelihood"
    rival = AdversarialSettings(start=settings["adversarial_start"], weight=settings["adversarial"])
    return AutoencoderTraining(
        lr=settings["learning_rate"] or AutoencoderTraining.lr,
        perceptual=settings["perceptual"],
        likelihood=LikelihoodSettings(beta=settings["beta"]) if by_likelihood else None,
        adversarial=rival if settings["adversarial"] else None,
        seed=settings["training_seed"],
    )


def _config(settings: dict[str, Any]) -> Any:
    from ..dit_core.autoencoder import AutoencoderConfig
    from ..dit_core.training.starter.recipe import AUTOENCODER

    changes = {**KINDS[settings["kind"]], "latent_channels": settings["channels"]}
    return AutoencoderConfig.from_dict(AUTOENCODER.to_dict() | changes)


def _with_decoder(start: Any, seed: int, clips: Any, place: Any, watch: Any, folder: Path) -> Any:
    """A copy of an autoencoder to train on; a linear one gets a decoder that can learn, its latents stay."""
    import torch

    from ..dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
    from ..dit_core.training.autoencoder import will_load, with_changes
    from ..dit_core.training.feed import fitting_clips

    own = copy.deepcopy(start).to(place, torch.float32)
    with torch.random.fork_rng([]):
        if start.config.linear != "alone":
            return with_changes(own, {}, seed)
        # a decoder that looks ahead does not go with convolutions; what it could do is fitted again without
        changes = {"linear": "encoder", "lookahead": 0}
        config = AutoencoderConfig.from_dict(own.config.to_dict() | changes)
        if will_load(config, folder):
            return CausalVideoAutoencoder(config).to(place)
        return with_changes(own, changes, seed, watch(fitting_clips(clips, place)))


def _asked(clips: Any, start: Any, training: Any, settings: dict[str, Any], *more: str) -> str:
    """A sum of all that decides the result of a training in steps; older versions had no `more` settings."""
    from ..dit_core.data.fingerprint import digest
    from ..dit_core.latents import weights_sha256

    chosen = {key: settings[key] for key in ("steps", "batch", "kind", "channels", *more)}
    begun = None if start is None else weights_sha256(start)
    return digest([chosen, asdict(training), clips.fingerprint().sha256, begun])


def _asked_at_once(clips: Any, training: Any, settings: dict[str, Any]) -> str:
    """A sum of all that decides what is fitted at once: no step is taken, so nothing that steps are made with."""
    from ..dit_core.data.fingerprint import digest

    chosen = {key: settings[key] for key in ("kind", "channels", "training_seed")}
    return digest([chosen, training.whitening, clips.fingerprint().sha256])


def _made_before(path: Path, asked: list[str], keep: bool) -> Any:
    """The finished autoencoder if it is the one that is asked for, else None.

    asked: sums that it may have. keep: raise `SoraDiTError` for another one instead. What is fitted at once has no
    state that would refuse, and models may have been trained on its latents.
    """
    from ..dit_core.checkpoint import load_bundle, read_header

    if not path.exists():
        return None
    try:
        if read_header(path).provenance.get("autoencoder", {}).get("asked") not in asked:
            if keep:
                raise SoraDiTError(
                    f"{path} was made from other clips or with another kind, channels or training seed (or by an older "
                    "version with any other setting), and models may need it. Give run another name; or remove it."
                )
            return None
        with _training.learning():
            return load_bundle(path).autoencoder
    except CheckpointError:  # damaged: it is made again
        return None


def _keep(path: Path, module: Any, asked: str, position: dict[str, Any]) -> None:
    import torch

    from ..dit_core.checkpoint import save_bundle

    made = {key: position.get(key) for key in ("step", "samples", "seconds", "loss")} | {"asked": asked}
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {"autoencoder": (module.config.to_dict(), module.state_dict())}
    save_bundle(path, parts, {"autoencoder": made}, torch.float32)


def _as_vae(cls: type, module: Any, run: str, place: Any) -> SoraVae:
    with _training.learning():
        module = module.requires_grad_(False).eval().to(host.storage_device(place))
    config = module.config
    host.record(cls, run=run, latent_channels=config.latent_channels)
    cell = f"{config.spatial_factor} x {config.spatial_factor} pixels and {config.temporal_factor} frames"
    host.status(cls, f"{config.latent_channels} numbers for {cell}")
    weights = host.manager(place)("vae", module, None)
    return SoraVae(module, place, host.result_device(), run, weights)
