"""Training clips from a person's own folder, and the doctor that looks at them before hours of training are spent.

`ClipSet.from_folder(folder, BucketRules(...))` gives clips in buckets; `SkyClips` offers the synthetic skies in the
same way; `examine(folder, ...)` reports what is wrong; `plan_cache` tells how large the cached latents will be.

The way of the data: `scan` (files) -> `read_captions` -> `analyse` (one look through each file: cuts, motion, hashes)
= `survey` -> `ClipSet` (pieces between cuts, resampled in time, cut to bucket lengths, resized when asked for).
"""

from .analyse import Analysis, analyse
from .buckets import Bucket, BucketRules
from .captions import Caption, CaptionBook, read_captions
from .clips import ClipSet, SkyClips, Window
from .cuts import CutFinder, CutRules, segments
from .doctor import DoctorRules, examine
from .fingerprint import Fingerprint
from .plan import CacheFormat, CachePlan, plan_cache
from .report import Finding, Histogram, Report
from .scan import ClipFile, Problem, Scan, scan
from .survey import Survey, SurveyedClip, survey
from .timing import Timeline, exact_times, resample
from .training_clips import TrainingClips, bucket_counts, captions_of, clip_of

__all__ = [
    "Analysis", "Bucket", "BucketRules", "CacheFormat", "CachePlan", "Caption", "CaptionBook", "ClipFile", "ClipSet",
    "CutFinder", "CutRules", "DoctorRules", "Finding", "Fingerprint", "Histogram", "Problem", "Report", "Scan",
    "SkyClips", "Survey", "SurveyedClip", "Timeline", "TrainingClips", "Window", "analyse", "bucket_counts",
    "captions_of", "clip_of", "exact_times", "examine", "plan_cache", "read_captions", "resample", "scan", "segments",
    "survey",
]  # fmt: skip
