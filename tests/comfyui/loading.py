"""Runs inside a real ComfyUI's Python: `loading.py COMFYUI_PATH PACK BASE`; loads the pack and prints what it did."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import warnings

COMFYUI, PACK, BASE = sys.argv[1:4]
sys.argv = ["main.py", "--cpu", "--base-directory", BASE]
sys.path.insert(0, COMFYUI)
os.chdir(COMFYUI)
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy_config.config_parser  # noqa: E402, F401, I001  (core imports it with the first pack that has a pyproject)
import execution  # noqa: E402, F401
import torch  # noqa: E402

import nodes  # noqa: E402, I001


class Lines(logging.Handler):
    """Keeps warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


written: list[str] = []
cuda: list[str] = []
watching = False


def audit(event: str, args: tuple) -> None:
    """Changes to files while the pack loads."""
    if not watching:
        return
    if event == "open" and isinstance(args[0], (str, bytes)) and (set(str(args[1] or "")) & set("wax+")):
        written.append(str(args[0]))
    if event in ("os.mkdir", "os.remove", "os.rename", "os.truncate", "os.utime", "shutil.copyfile"):
        written.append(f"{event} {args[0]}")


def watch_cuda(name: str) -> None:
    """Record calls of torch.cuda's `name`."""
    before = getattr(torch.cuda, name)

    def call(*args, **options):
        if watching:
            cuda.append(name)
        return before(*args, **options)

    setattr(torch.cuda, name, call)


for one in ("_lazy_init", "is_available", "device_count", "current_device", "get_device_properties", "mem_get_info"):
    watch_cuda(one)
handler = Lines()
logging.getLogger().addHandler(handler)
sys.addaudithook(audit)
known, before = set(nodes.NODE_CLASS_MAPPINGS), set(sys.modules)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    watching, start = True, time.process_time()
    loaded = asyncio.run(nodes.load_custom_node(PACK, module_parent="custom_nodes"))
    seconds, watching = time.process_time() - start, False
added = {name.split(".")[0] for name in set(sys.modules) - before}
outside = {name for name in added if "site-packages" in (getattr(sys.modules.get(name), "__file__", None) or "")}
print("RESULT " + json.dumps({
    "loaded": loaded, "nodes": sorted(set(nodes.NODE_CLASS_MAPPINGS) - known), "said": handler.seen,
    "warnings": [str(one.message) for one in warned], "cpu seconds": seconds, "cuda": cuda, "written": written,
    "new packages": sorted(outside),
}))  # fmt: skip
