"""Clips that are there twice: byte for byte, or as another encoding, size or frame rate of the same pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .analyse import Analysis

_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)  # numpy has bitwise_count only from 2.0


def exact_groups(clips: Sequence[Analysis]) -> list[tuple[int, ...]]:
    """Numbers of clips with the same bytes, each group of two or more once."""
    same: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        same.setdefault(clip.sha256, []).append(number)
    return [tuple(group) for group in same.values() if len(group) > 1]


def near_groups(clips: Sequence[Analysis], most_bits: float, most_colour: float) -> list[tuple[int, ...]]:
    """Numbers of clips that show the same, those with the same bytes left out (but for the first of them).

    Args:
        most_bits: share of differing hash bits, mean over 8 frames, up to which two clips are alike (0..1).
        most_colour: mean difference of the colours of 4 x 4 parts up to which they are (0..255).

    Black clips are passed over: nothing tells them apart. Clips are compared at the same shares of their length, so a
    copy at another frame rate is found; an excerpt is not.
    """
    seen: set[str] = set()
    numbers = []
    for number, clip in enumerate(clips):
        if not clip.is_black and clip.sha256 not in seen:
            seen.add(clip.sha256)
            numbers.append(number)
    if len(numbers) < 2:
        return []
    bits = np.stack([clips[k].hashes.view(np.uint8).ravel() for k in numbers])  # [N, 128]
    colours = np.stack([clips[k].colours.ravel() for k in numbers]).astype(np.int16)  # [N, 384]
    parent = list(range(len(numbers)))
    for i in range(len(numbers) - 1):
        share = _ONES[bits[i + 1 :] ^ bits[i]].sum(1, dtype=np.int64) / (8 * bits.shape[1])
        for j in (np.flatnonzero(share <= most_bits) + i + 1).tolist():
            if np.abs(colours[i] - colours[j]).mean() <= most_colour:
                parent[_root(parent, j)] = _root(parent, i)
    groups: dict[int, list[int]] = {}
    for i, number in enumerate(numbers):
        groups.setdefault(_root(parent, i), []).append(number)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        i = parent[i]
    return i
