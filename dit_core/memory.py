"""How much memory there is, so that what can never fit is refused in words: the system just ends the program."""

from __future__ import annotations

import os


def machine_memory() -> int | None:
    """Bytes of memory this machine has, None where the system does not tell (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def gigabytes(count: int) -> str:
    """A number of bytes in words: 0.4 GB, 25 GB."""
    return f"{count / 1e9:.1f} GB" if count < 10e9 else f"{count / 1e9:.0f} GB"
