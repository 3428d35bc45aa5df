"""The dataset doctor: what is wrong with a folder of clips, in words, before hours of training are spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from .buckets import BucketRules, kept_area
from .clips import ClipSet
from .cuts import CutRules
from .duplicates import exact_groups, near_groups
from .report import Finding, Report, histograms
from .scan import Progress
from .survey import Survey, SurveyedClip, survey


@dataclass(frozen=True)
class DoctorRules:
    """What counts as a fault.

    Attributes:
        near_bits, near_colour: see `near_groups`.
        caption_limit: longest caption in `caption_unit`; None = no limit.
        caption_length: measures a caption, as the number of tokens of the text encoder to be trained with.
        cropped: share of the picture lost to the crop from which it is told.
        enlarged: how many times larger than filmed a picture must get to be told.
    """

    near_bits: float = 0.1
    near_colour: float = 10.0
    caption_limit: int | None = None
    caption_length: Callable[[str], int] = len
    caption_unit: str = "characters"
    cropped: float = 0.35
    enlarged: float = 1.2


def examine(
    folder: str | Path | Survey,
    rules: BucketRules | None = None,
    doctor: DoctorRules | None = None,
    *,
    split_cuts: bool = True,
    image_fps: float | Fraction = 24,
    cut_rules: CutRules | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Look through a folder (or take what `survey` found) and report.

    Args:
        rules: sizes, lengths and frame rate of the training to come.
        on_progress: called with (clips done, clips, what is being read); may raise to stop.

    Raises:
        DataError: no such folder, or no clip that can be read. Everything milder is in the report.
    """
    found = folder if isinstance(folder, Survey) else survey(folder, image_fps, cut_rules, on_progress)
    rules, doctor = rules or BucketRules(), doctor or DoctorRules()
    clip_set = ClipSet(found, rules, split_cuts, strict=False)
    findings = [
        *_files(found),
        *_lengths(clip_set),
        *_twice(found, doctor),
        *_captions(found, doctor),
        *_rates(found, rules),
        *_pictures(found),
        *_cuts(found, split_cuts),
        *_sizes(clip_set, doctor),
    ]
    findings = [finding for finding in findings if finding.files]
    order = ("error", "warning", "note")
    findings.sort(key=lambda finding: order.index(finding.severity))
    return Report(clip_set, tuple(findings), histograms(found))


def _names(clips: Iterable[SurveyedClip]) -> tuple[str, ...]:
    return tuple(clip.file.name for clip in clips)


def _seconds(clip: SurveyedClip) -> float:
    return float(clip.analysis.frames / clip.file.fps)


def _files(found: Survey) -> list[Finding]:
    """Unreadable files, refused caption files, rows without clips, remarks."""
    bad = [problem for problem in found.problems if problem.kind == "unreadable"]
    lost = [problem for problem in found.problems if problem.kind != "unreadable"]
    refused = found.captions.refused
    brief = [clip for clip in found.clips if (clip.file.seconds or 0) > 1.1 * _seconds(clip) + 0.5]
    remarks = [(clip.file.name, note) for clip in found.clips for note in clip.file.notes]
    return [
        Finding(
            "unreadable", "error", f"{_some(bad, 'file')} cannot be read and {_are(bad)} left out.",
            tuple(problem.file for problem in bad), "Fetch or convert them again, or remove them.",
            tuple(problem.sentence for problem in bad),
        ),
        Finding(
            "captions refused", "error", f"{_some(refused, 'caption file')} cannot be used.",
            tuple(problem.file for problem in refused), "Repair them: training does not start with them as they are.",
            tuple(problem.sentence for problem in refused),
        ),
        Finding(
            "caption rows", "warning", f"{_some(lost, 'row')} of caption tables {_are(lost)} passed over.",
            tuple(problem.file for problem in lost), "Correct the file names there, or bring the clips.",
            tuple(problem.sentence for problem in lost),
        ),
        Finding(
            "cut short", "warning", f"{_some(brief, 'file')} {_are(brief)} shorter than the header says: cut short, or "
            "with longer sound.", _names(brief), "Look whether the end is there.",
            tuple(f"{c.file.name}: {_seconds(c):.1f} s of {c.file.seconds:.1f} s" for c in brief),
        ),
        Finding(
            "other files", "note", f"{_some(found.ignored, 'other file or folder', 'other files or folders')} "
            f"{_are(found.ignored)} not used.", found.ignored,
            "Look whether clips are among them; images are a clip where they are numbered.",
        ),
        Finding(
            "remarks", "note", f"There {_are(remarks)} {_some(remarks, 'remark')} on what was read.",
            tuple(name for name, _ in remarks), "Look whether that is what you meant.",
            tuple(f"{name}: {note}" for name, note in remarks),
        ),
    ]  # fmt: skip


def _lengths(clip_set: ClipSet) -> list[Finding]:
    used = {window.file for window in clip_set.windows}
    short = [clip for number, clip in enumerate(clip_set.survey.clips) if number not in used]
    names = set(_names(short))
    parts = [problem for problem in clip_set.too_short if problem.file not in names]
    least = min(clip_set.rules.lengths())
    fps = clip_set.rules.fps
    asked = f"{least} frames" + (f" at {float(fps):g} frames per second" if fps else "")
    return [
        Finding(
            "too short", "error" if not clip_set.windows else "warning",
            f"{_some(short, 'file')} {_are(short)} shorter than the {asked} asked for and {_are(short)} not used.",
            _names(short), "Ask for fewer frames, or bring longer clips.",
            tuple(problem.sentence for problem in clip_set.too_short if problem.file in names),
        ),
        Finding(
            "short stretches", "note",
            f"{_some(parts, 'stretch', 'stretches')} between scene cuts {_are(parts)} shorter than the {asked} asked "
            f"for and {_are(parts)} not used.",
            tuple(problem.file for problem in parts), "Ask for fewer frames to use them.",
            tuple(problem.sentence for problem in parts),
        ),
    ]  # fmt: skip


def _twice(found: Survey, doctor: DoctorRules) -> list[Finding]:
    analyses = [clip.analysis for clip in found.clips]
    findings = []
    for kind, groups, what in (
        ("duplicates", exact_groups(analyses), "the very same bytes"),
        ("near-duplicates", near_groups(analyses, doctor.near_bits, doctor.near_colour), "nearly the same pictures"),
    ):
        named = [tuple(found.clips[number].file.name for number in group) for group in groups]
        findings.append(
            Finding(
                kind,
                "warning",
                f"{_some(named, 'group')} of files {'has' if len(named) == 1 else 'have'} {what}.",
                tuple(name for group in named for name in group),
                "Keep one of each: what is there twice is learned by heart, and leaks into held-out clips.",
                tuple(_list(group, between=" = ") for group in named),
            )  # fmt: skip
        )
    return findings


def _captions(found: Survey, doctor: DoctorRules) -> list[Finding]:
    missing = [clip for clip in found.clips if clip.caption.source == "none"]
    empty = [clip for clip in found.clips if clip.caption.is_empty]
    findings = [
        Finding(
            "no caption", "warning", f"{_some(missing, 'file')} {_have(missing)} no caption.", _names(missing),
            "Write <clip>.txt beside each, or a captions.csv with the columns file and caption; without words the "
            "model learns to make such clips, but not to be asked for them.",
        ),
        Finding(
            "empty caption", "warning", f"{_some(empty, 'file')} {_have(empty)} an empty caption.", _names(empty),
            "Write what is to be seen into the file, or remove the file.",
        ),
    ]  # fmt: skip
    if doctor.caption_limit is not None:
        unit, limit = doctor.caption_unit, doctor.caption_limit
        lengths = [max(map(doctor.caption_length, clip.caption.wordings), default=0) for clip in found.clips]
        long = [(clip, length) for clip, length in zip(found.clips, lengths, strict=True) if length > limit]
        findings.append(
            Finding(
                "long caption",
                "warning",
                f"{_some(long, 'file')} {_have(long)} a caption longer than {limit} {unit}; the rest would be cut off.",
                tuple(clip.file.name for clip, _ in long),
                "Shorten them, the important words first.",
                tuple(f"{clip.file.name}: {length} {unit}" for clip, length in long),
            )  # fmt: skip
        )
    first = found.clips[0].caption.wordings
    same = (
        found.clips if first and len(found.clips) > 2 and all(c.caption.wordings == first for c in found.clips) else ()
    )
    findings.append(
        Finding(
            "one caption",
            "note",
            f"All {len(same)} files have the same caption: {' / '.join(first)}",
            _names(same),
            "Words that never differ teach no words; that is fine for one style or subject.",
        )  # fmt: skip
    )
    return findings


def _rates(found: Survey, rules: BucketRules) -> list[Finding]:
    rates: dict[Fraction, list[str]] = {}
    for clip in found.clips:
        rates.setdefault(clip.file.fps, []).append(clip.file.name)
    details = tuple(f"{float(fps):g} frames per second: {_list(names)}" for fps, names in sorted(rates.items()))
    mixed = tuple(name for names in rates.values() for name in names) if len(rates) > 1 else ()
    if rules.fps is None:
        return [
            Finding(
                "mixed frame rates", "warning", f"The files have {len(rates)} frame rates, and none was asked for: the "
                "same movement is learned at several speeds.", mixed, "Ask for one frame rate.", details,
            )
        ]  # fmt: skip
    slow = tuple(name for fps, names in rates.items() if fps < rules.fps for name in names)
    wanted = f"{float(rules.fps):g} frames per second"
    return [
        Finding("mixed frame rates", "note", f"The files have {len(rates)} frame rates; all are brought to {wanted}.",
                mixed, "Nothing needs to be done.", details),
        Finding("repeated frames", "warning", f"{_some(slow, 'file')} {_have(slow)} fewer than {wanted}: frames are "
                "repeated, and the model learns to stutter.", slow, "Ask for a lower frame rate."),
    ]  # fmt: skip


def _pictures(found: Survey) -> list[Finding]:
    black = [clip for clip in found.clips if clip.analysis.is_black]
    still = [clip for clip in found.clips if clip.analysis.is_still and not clip.analysis.is_black]
    bars = [clip for clip in found.clips if clip.analysis.has_bars]
    return [
        Finding("black", "warning", f"{_some(black, 'file')} {_are(black)} black from beginning to end.", _names(black),
                "Remove them."),
        Finding("still", "warning", f"{_some(still, 'file')} {_have(still)} no movement.", _names(still),
                "Remove them, unless the model is to make still pictures."),
        Finding("bars", "warning", f"{_some(bars, 'file')} {_have(bars)} black bars.", _names(bars),
                "Cut them off: the model would learn to paint bars.",
                tuple(f"{clip.file.name}: {_bars(clip)}" for clip in bars)),
    ]  # fmt: skip


def _bars(clip: SurveyedClip) -> str:
    parts = zip(("top", "bottom", "left", "right"), clip.analysis.bars, strict=True)
    return ", ".join(f"{share:.0%} at the {side}" for side, share in parts if share >= 1 / 64)


def _cuts(found: Survey, split_cuts: bool) -> list[Finding]:
    cut = [clip for clip in found.clips if clip.analysis.cuts]
    count = sum(len(clip.analysis.cuts) for clip in cut)
    cuts = f"{_some(cut, 'file')} {_have(cut)} {'a scene cut' if count == 1 else f'scene cuts ({count} in all)'}"
    details = tuple(
        f"{clip.file.name}: {_list([_moment(clip, frame) for frame in clip.analysis.cuts])}" for clip in cut
    )
    if split_cuts:
        return [Finding("cuts", "note", f"{cuts}; each is split there.", _names(cut), "Nothing needs to be done; look "
                        "whether the caption fits all parts.", details)]  # fmt: skip
    return [Finding("cuts", "warning", f"{cuts}: the model would learn to jump from scene to scene.", _names(cut),
                    "Split at cuts.", details)]  # fmt: skip


def _moment(clip: SurveyedClip, frame: int) -> str:
    return f"frame {frame} ({clip.analysis.times[frame] - clip.analysis.times[0]:.1f} s)"


def _sizes(clip_set: ClipSet, doctor: DoctorRules) -> list[Finding]:
    small, cropped = [], []
    for clip in clip_set.survey.clips:
        height, width = clip_set.rules.shape_for(clip.file.height, clip.file.width)
        scale = max(height / clip.file.height, width / clip.file.width)
        lost = 1 - kept_area(clip.file.height, clip.file.width, height, width)
        size = f"{clip.file.name}: {clip.file.width} x {clip.file.height} to {width} x {height}"
        if scale > doctor.enlarged:
            small.append((clip.file.name, f"{size}, {scale:.1f} times larger"))
        if lost > doctor.cropped:
            cropped.append((clip.file.name, f"{size}, {lost:.0%} of the picture lost"))
    return [
        Finding("enlarged", "warning", f"{_some(small, 'file')} {_are(small)} smaller than trained at: the model "
                "learns their blur.", tuple(n for n, _ in small), "Ask for fewer pixels, or bring larger clips.",
                tuple(text for _, text in small)),
        Finding("cropped", "note", f"{_some(cropped, 'file')} {_have(cropped)} a shape that no bucket is near to: much "
                "is cut off at the edges.", tuple(n for n, _ in cropped), "Allow a larger aspect ratio, or crop them "
                "yourself.", tuple(text for _, text in cropped)),
    ]  # fmt: skip


def _some(items, one: str, many: str | None = None) -> str:
    return f"1 {one}" if len(items) == 1 else f"{len(items)} {many or one + 's'}"


def _are(items) -> str:
    return "is" if len(items) == 1 else "are"


def _have(items) -> str:
    return "has" if len(items) == 1 else "have"


def _list(names: Sequence[str], most: int = 6, between: str = ", ") -> str:
    return between.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
