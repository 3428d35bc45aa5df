"""Where to compute and in which number type: `auto` is right, and every choice is checked before weights load."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch

from .errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(choice: str | torch.device = "auto") -> torch.device:
    """Return the device that `choice` means on this machine.

    Args:
        choice: "auto" (the first CUDA device, else Apple's GPU, else the CPU), "cpu", "cuda", "cuda:N" or "mps";
            a `torch.device` is checked in the same way when it is one of these, and taken as it is otherwise.

    Raises:
        ConfigError: no such name, or this machine does not have it.
    """
    if isinstance(choice, torch.device) and choice.type not in DEVICES:
        return choice
    name = str(choice).strip().lower()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, colon, number = name.partition(":")
    if kind not in DEVICES or (colon and not (number.isdecimal() and number.isascii())):
        raise ConfigError(f"The device is {str(choice)!r}; expected auto, cpu, cuda, cuda:1 (a number) or mps.")
    if kind == "cuda":
        return _cuda(name, int(number or 0), bool(colon))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            "The device is 'mps', but this machine has no Apple GPU that PyTorch can use; expected auto or cpu."
        )
    if int(number or 0) != 0:
        raise ConfigError(f"The device is {name!r}; there is only one, called {kind}.")
    return torch.device(kind)


def _cuda(name: str, index: int, explicit: bool) -> torch.device:
    if not torch.cuda.is_available():
        why = "PyTorch was installed without it" if torch.version.cuda is None else "no usable GPU was found"
        raise ConfigError(f"The device is {name!r}, but CUDA cannot be used here: {why}; expected auto or cpu.")
    count = torch.cuda.device_count()
    if index >= count:
        have = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"The device is {name!r}; this machine has {have}.")
    # with its number, always: ComfyUI compares devices, and cuda is not cuda:0
    return torch.device("cuda", index if explicit else torch.cuda.current_device())


def resolve_dtype(choice: str | torch.dtype = "auto", device: str | torch.device = "cpu") -> torch.dtype:
    """Return the number type that `choice` means on `device`.

    Args:
        choice: "auto", "float32", "bfloat16" or "float16". "auto" is float32 on a CPU (bfloat16 is emulated, hence
            slower, on most), bfloat16 on a GPU that has it in hardware, float16 on one that has not. The type a
            file is stored in plays no part.
        device: as `resolve_device` returns it.

    Raises:
        ConfigError: no such type.
    """
    name = str(choice).removeprefix("torch.").strip().lower()
    if name != "auto":
        if name not in DTYPES:
            raise ConfigError(f"The number type is {str(choice)!r}; expected auto, {', '.join(DTYPES)}.")
        return DTYPES[name]
    device = torch.device(device)
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if has_bfloat16(device) else torch.float16


def training_dtype(choice: str = "auto", device: str | torch.device = "cpu") -> torch.dtype:
    """Number type of a training's products; weights, optimisers and losses stay in float32 (arXiv:1710.03740).

    Args:
        choice: "auto", "float32" or "bfloat16". "auto" is bfloat16 where matrix units multiply it faster than float32:
            on GPUs that have it, on CPUs that were seen to (see `cpu_multiplies_bfloat16`); else float32. float16 would
            need a scaled loss and is not offered.
        device: as `resolve_device` returns it.

    Raises:
        ConfigError: no such type.
    """
    if choice not in ("auto", "float32", "bfloat16"):
        raise ConfigError(f"The precision of the training is {choice!r}; expected auto, float32 or bfloat16.")
    if choice != "auto":
        return DTYPES[choice]
    device = torch.device(device)
    fast = cpu_multiplies_bfloat16() if device.type == "cpu" else has_bfloat16(device)
    return torch.bfloat16 if fast else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32.

    Without an instruction for it (AMX, AVX512-BF16) it is hundreds of times slower. With one it is 4 to 8 times faster
    on some CPUs and half as fast on others (seen: a Xeon whose AMX is hidden from its guest), so both are timed, some
    30 ms, once a process.
    """
    return has_bfloat16("cpu") and _bfloat16_was_faster()


@cache
def _bfloat16_was_faster() -> bool:
    """Best of five: a busy machine makes single products slow, not all of them."""
    kinds = (torch.float32, torch.bfloat16)
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(5):
        for kind in kinds:  # in turn, so that noise meets both
            best[kind] = min(best[kind], _product_seconds(kind))
    return best[torch.bfloat16] < best[torch.float32]


def _product_seconds(kind: torch.dtype) -> float:
    """Time of a product of the size that a small transformer has."""
    tokens, weight = torch.ones(1024, 256, dtype=kind), torch.ones(256, 1024, dtype=kind)
    started = time.perf_counter()
    _ = tokens @ weight
    return time.perf_counter() - started


def autocast(device: torch.device, dtype: torch.dtype = torch.float32) -> AbstractContextManager:
    """A context in which products are computed in `dtype`; float32 switches an autocast around it off.

    `torch.autocast` itself refuses even to be off on devices that it does not know (DirectML, Apple's on old versions).
    """
    if dtype != torch.float32:
        return torch.autocast(device.type, dtype)
    known = torch.amp.is_autocast_available(device.type)
    if known and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def has_bfloat16(device: str | torch.device) -> bool:
    """Whether a device multiplies bfloat16 by instructions of its own, rather than step by step."""
    device = torch.device(device)
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        able = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        return bool(able) and torch.backends.mkldnn.is_available()
    if device.type == "cuda":
        # NVIDIA has it since compute capability 8.0; `is_bf16_supported` also says yes where it is emulated.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        one = torch.ones(2, 2, dtype=torch.bfloat16, device=device)
        return bool((one @ one).float().sum().item() == 8.0)
    except (RuntimeError, TypeError, NotImplementedError):
        return False
