"""TensorBoard's event files, written only where TensorBoard is installed; the pack itself does not need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .log import level_means

_SCALARS = ("loss", "held_out", "gradient_norm", "rate", "samples_per_second", "memory_bytes", "psnr",
            "held_out_psnr")  # fmt: skip


class EventWriter:
    """Writes log lines as TensorBoard events below `folder`/events; does nothing where TensorBoard is not installed.

    The file is begun with the first line: a training that is refused leaves none. What was written before of that step
    and later ones, by a training that lost them, is not shown any more.
    """

    def __init__(self, folder: str | Path):
        self._folder, self._writer, self._begun = Path(folder) / "events", None, False

    def write(self, line: dict[str, Any]) -> None:
        """Write the numbers of one log line."""
        if not isinstance(line.get("step"), int) or "event" in line:
            return
        if not self._begun:
            self._begun, self._writer = True, _open(self._folder, line["step"])
        if self._writer is None:
            return
        step = line["step"]
        for name in _SCALARS:
            if isinstance(line.get(name), (int, float)):
                self._writer.add_scalar(name, line[name], step)
        for key, title in (("level_loss", "loss by noise level"), ("held_out_level_loss", "held out by noise level")):
            means = level_means(line, key)
            for number, mean in enumerate(means):
                if mean is not None:
                    low, high = number / len(means), (number + 1) / len(means)
                    self._writer.add_scalar(f"{title}/{low:.2f} to {high:.2f}", mean, step)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def _open(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # not installed, or of a version that does not go with this torch: a view less, no more
        return None
    return SummaryWriter(str(folder), purge_step=step)
