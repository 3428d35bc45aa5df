"""torch.compile for the time of a training, where it can be had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

_LEAST = (7, 0)  # compute capability that Triton, which torch compiles for NVIDIA cards with, has code for


def compiles(device: torch.device, wanted: bool | None = None) -> bool:
    """Whether to compile. wanted None: where that pays at once and is known to work: on an NVIDIA card with Triton.

    ComfyUI for Windows comes without Triton, and cards before Volta are not supported: they train as they are.
    """
    if wanted is not None:
        return wanted
    if device.type != "cuda" or torch.version.hip is not None or torch.cuda.get_device_capability(device) < _LEAST:
        return False
    try:
        from torch.utils._triton import has_triton
    except ImportError:
        return False
    return bool(has_triton())


@contextmanager
def compiled(modules: Iterable[nn.Module], device: torch.device, wanted: bool | None = None) -> Iterator[None]:
    """The modules, compiled in place while the block runs if `compiles` says so; afterwards as they were.

    Where nobody asked for it, what cannot be compiled (no C compiler) runs as it is; where somebody did, it raises.
    """
    if not compiles(device, wanted):
        yield
        return
    import torch._dynamo

    changed = [module for module in modules if module._compiled_call_impl is None]
    with torch._dynamo.config.patch(suppress_errors=True) if wanted is None else nullcontext():
        for module in changed:
            module.compile()
        try:
            yield
        finally:
            for module in changed:
                module._compiled_call_impl = None
