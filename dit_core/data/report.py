"""What the doctor found: as words, as data, and as a picture of what the training would see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .clips import ClipSet
from .survey import Survey
from .training_clips import bucket_counts

if TYPE_CHECKING:
    from PIL.Image import Image

_MARKS = {"error": "x", "warning": "!", "note": "-"}
_MOTION = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # levels of 255 a frame; each bin ends where the next begins
_SHOWN = 8  # files listed under a finding


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        kind: a word or two to look it up by.
        severity: "error" (training cannot start, or files are missing from it), "warning", or "note".
        sentence: what is wrong and how many files it is true of.
        files: their names.
        advice: what to do.
        details: one line each, more than the names tell.
    """

    kind: str
    severity: str
    sentence: str
    files: tuple[str, ...]
    advice: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Histogram:
    """Counts of files; bin k runs from edges[k] to edges[k + 1]."""

    title: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def lines(self) -> list[str]:
        """As text, a bar a bin."""
        most = max(max(self.counts), 1)
        labels = [_range(a, b) for a, b in zip(self.edges, self.edges[1:], strict=False)]
        width = max(map(len, labels))
        bars = ("#" * -(-count * 30 // most) for count in self.counts)
        rows = zip(labels, bars, self.counts, strict=True)
        return [self.title] + [f"  {label:>{width}} {bar} {count}".rstrip() for label, bar, count in rows]


def _range(low: float, high: float) -> str:
    return f"{low:g} and more" if np.isinf(high) else f"{low:g} to {high:g}"


def histograms(found: Survey) -> tuple[Histogram, ...]:
    """Motion and brightness of all files."""
    motion = [float(c.analysis.motion.mean()) * 255 if len(c.analysis.motion) else 0.0 for c in found.clips]
    bright = [float(c.analysis.brightness.mean()) for c in found.clips]
    tenths = tuple(round(k / 10, 1) for k in range(11))
    return (
        _histogram("Files by motion (mean change of brightness from frame to frame, levels of 255):", motion,
                   (*_MOTION, float("inf"))),
        _histogram("Files by mean brightness (0 black, 1 white):", bright, tenths),
    )  # fmt: skip


def _histogram(title: str, values: list[float], edges: tuple[float, ...]) -> Histogram:
    places = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)
    return Histogram(title, edges, tuple(np.bincount(places, minlength=len(edges) - 1).tolist()))


@dataclass(frozen=True)
class Report:
    """The doctor's report.

    Attributes:
        clip_set: the training clips as they would be; it may be empty.
        findings: worst first.
        histograms: of motion and of brightness.
    """

    clip_set: ClipSet
    findings: tuple[Finding, ...]
    histograms: tuple[Histogram, ...]

    @property
    def is_ready(self) -> bool:
        """Whether a training could start: there are clips, and no caption file is refused."""
        return bool(self.clip_set.windows) and not self.clip_set.survey.captions.refused

    def finding(self, kind: str) -> Finding | None:
        """The finding of that kind, None where there is none."""
        return next((finding for finding in self.findings if finding.kind == kind), None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        clips = self.clip_set
        return {
            "folder": str(clips.survey.folder),
            "ready": self.is_ready,
            "files": len(clips.survey.clips),
            "files_left_out": sum(problem.kind == "unreadable" for problem in clips.survey.problems),
            "seconds": self._seconds(),
            "clips": len(clips),
            "findings": [
                {
                    "kind": f.kind, "severity": f.severity, "count": len(f.files), "sentence": f.sentence,
                    "files": list(f.files), "advice": f.advice, "details": list(f.details),
                }
                for f in self.findings
            ],
            "buckets": [
                {"frames": bucket.frames, "height": bucket.height, "width": bucket.width, "clips": count}
                for bucket, count in bucket_counts(clips).items()
            ],
            "histograms": [
                {"title": h.title, "edges": [None if np.isinf(e) else e for e in h.edges], "counts": list(h.counts)}
                for h in self.histograms
            ],
            "fingerprint": clips.fingerprint().sha256,
        }  # fmt: skip

    def text(self) -> str:
        """In plain words."""
        clips, files = self.clip_set, self.clip_set.survey.clips
        head = f"{_count(len(files), 'file')}, {self._seconds():.1f} s in all, give {_count(len(clips), 'clip')}."
        parts = [f"{clips.survey.folder}: {head}"]
        parts += [_finding_text(finding) for finding in self.findings] or ["Nothing is wrong with them."]
        table = [f"  {count:>6} x {bucket}" for bucket, count in bucket_counts(clips).items()]
        if table:
            parts.append("\n".join(["Buckets (clips x size):", *table]))
        parts += ["\n".join(histogram.lines()) for histogram in self.histograms]
        return "\n\n".join(parts) + "\n"

    def contact_sheet(self, clips_in_row: int = 4, height: int = 96) -> Image:
        """A picture of the clips as the training would see them, one row a bucket.

        Args:
            clips_in_row: at most so many clips of a bucket, spread over it; each by its first, middle and last frame.
            height: of the frames, in pixels.

        Raises:
            DataError: there are no clips. MediaError: a file was changed since.
        """
        from .sheet import contact_sheet

        return contact_sheet(self.clip_set, clips_in_row, height)

    def _seconds(self) -> float:
        return float(sum(clip.analysis.frames / clip.file.fps for clip in self.clip_set.survey.clips))


def _count(number: int, word: str) -> str:
    return f"1 {word}" if number == 1 else f"{number} {word}s"


def _finding_text(finding: Finding) -> str:
    lines = finding.details or tuple(dict.fromkeys(finding.files))
    shown = [f"    {line}" for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"    and {len(lines) - _SHOWN} more")
    return "\n".join([f"{_MARKS[finding.severity]} {finding.sentence}", *shown, f"  {finding.advice}"])
