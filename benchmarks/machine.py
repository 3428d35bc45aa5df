"""What the benchmarks share: timing side by side, this machine's matrix-product rate, peak memory, a Markdown table."""

from __future__ import annotations

import platform
import resource
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch


def side_by_side(runs: dict[str, Callable[[], object]], rounds: int = 5, warmup: int = 1) -> dict[str, float]:
    """Median seconds of each run. They take turns, so that a noisy machine is noisy for all of them."""
    for _ in range(warmup):
        for run in runs.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def matmul_run(rows: int, inner: int, columns: int) -> tuple[Callable[[], object], float]:
    """A float32 product [rows, inner] @ [inner, columns] and its floating-point operations."""
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    return (lambda: a @ b), 2.0 * rows * inner * columns


def peak_memory(run: Callable[[], object]) -> float:
    """MiB that the process grows by, at most, while `run` runs (sampled every 2 ms)."""
    process, peak, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        run()
    finally:
        done.set()
        thread.join()
    return max(0, peak[0] - before) / 2**20


def describe() -> str:
    """One line: processor, cores in use, versions, date."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return (
        f"{time.strftime('%Y-%m-%d')}, {model}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"peak resident set {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )


def table(columns: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; floats get three significant digits."""

    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    return "\n".join(lines + ["| " + " | ".join(map(cell, row)) + " |" for row in rows])
