"""From a workflow file to saved videos: read, set, check, run. What the command line and Python callers share."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dit_core.checkpoint.atomic import reason
from .execute import Outcome, Runner
from .graph import Plan, plan
from .problems import WARNING, Problem, UsageError, WorkflowError, errors, shown
from .registry import Registry, load_registry
from .session import NoProgress, Note, ProgressSink, Session, use
from .settings import apply_settings, set_seed
from .workflow import Workflow, choose_words, load_workflow

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class RunResult:
    """What a run gave.

    outputs: saved files in the order of saving. ui: {node id: what it shows}. seconds: {node id: seconds}, without
    the nodes in `cached`, which were not run again. warnings: problems that did not stop the run.
    """

    outputs: list[Path]
    ui: dict[str, dict[str, list[Any]]]
    seconds: dict[str, float]
    cached: list[str]
    notes: list[Note]
    warnings: list[Problem]
    manifest: dict[str, Any]
    prompt: dict[str, Any]
    total_seconds: float


@dataclass
class Job:
    """A workflow with the surroundings it shall run in; `open_job` makes one, `run_job` runs it.

    chosen: a sentence for each prompt in which words were chosen by chance.
    """

    workflow: Workflow
    session: Session
    registry: Registry
    plan: Plan
    settings: list[Any] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)


def run_workflow(
    path_or_dict: str | Path | dict[str, Any],
    *,
    set: Mapping[str, Any] | Iterable[str] | str | None = None,  # noqa: A002 - the name of the command's option
    output: str | Path = "output",
    input: str | Path = "input",  # noqa: A002
    models: str | Path | Iterable[str | Path] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    seed: int | None = None,
    progress: ProgressSink | None = None,
    cancel: threading.Event | None = None,
    registry: Registry | None = None,
    runner: Runner | None = None,
) -> RunResult:
    """Run a workflow (file or object, API or editor format) and return what it saved.

    set: {"Prompt.text": "a red balloon", "3.seed": 7}, nodes by id or title; or "Prompt.text=a red balloon", or several
    such texts. models: folders with weight files. device, dtype: as on the command line; None is "auto".
    runner: pass the same `Runner` to several calls and unchanged nodes are not run again.

    Raises:
        WorkflowError: the workflow, a setting or a folder is wrong; `problems` lists everything at once.
        RunError: a node failed. dit_core.errors.Cancelled: `cancel` was set. `saved` of either lists the files that
            were finished before.
    """
    session = Session(
        output_dir=_folders("output", [output])[0],
        input_dir=_folders("input", [input])[0],
        models_dirs=_folders("models", models),
        device=str(device or "auto"),
        dtype=str(dtype or "auto"),
        progress=progress or NoProgress(),
        cancel=cancel or threading.Event(),
    )
    job = open_job(path_or_dict, session, set or {}, seed, registry)
    return run_job(job, runner or Runner(keep=False))


def _folders(name: str, given: str | Path | Iterable[str | Path] | None) -> list[Path]:
    """One folder or several. Raises `UsageError` for what is no name of one."""
    if given is None:
        return []
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else [given]
    for one in several:
        if one == "" or not isinstance(one, (str, os.PathLike)):
            raise UsageError(f"{name}: got {shown(one)}; expected a folder.")
    return [Path(one) for one in several]


def open_job(
    source: str | Path | dict[str, Any],
    session: Session,
    settings: Mapping[str, Any] | Iterable[str] = (),
    seed: int | None = None,
    registry: Registry | None = None,
) -> Job:
    """Read, set, choose and check. The plan's problems may hold errors; `run_job` refuses those.

    seed: of every seed in the workflow, and of the words that are chosen by chance in the prompts of an editor file.
    """
    _check_surroundings(session)
    with use(session):
        registry = registry or load_registry()
        workflow = load_workflow(source, registry)
        made = set_seed(workflow, registry, seed) if seed is not None else []
        made += apply_settings(workflow, registry, settings)
        chosen = choose_words(workflow, registry, seed, {(one.node_id, one.input) for one in made})
        session.prompt, session.extra_pnginfo = workflow.prompt, workflow.extra_pnginfo
        if made:
            session.manifest["set"] = {f"{one.node_id}.{one.input}": one.value for one in made}
        checked = plan(workflow.prompt, registry, workflow.packs, workflow.left_out)
        checked.problems += [Problem(None, None, None, text, WARNING) for text in workflow.notes]
        return Job(workflow, session, registry, checked, made, chosen)


def _check_surroundings(session: Session) -> None:
    """Raise `UsageError` for a folder or a name that cannot be meant; whether a device is there, torch says later."""
    if os.path.isfile(session.output_dir):  # a run finds out all else that bars it, before it begins
        raise UsageError(f"The output folder {session.output_dir} is a file; expected a folder.")
    for folder in session.models_dirs:
        if not folder.is_dir():
            what = "is a file; expected a folder" if folder.exists() else "does not exist"
            raise UsageError(f"The models folder {folder} {what}.")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", session.device.strip().lower()):
        raise UsageError(f"The device is {shown(session.device)}; expected auto, cpu, cuda, cuda:1 or mps.")
    if session.dtype not in DTYPES:
        raise UsageError(f"The dtype is {shown(session.dtype)}; expected one of: {', '.join(DTYPES)}.")


def run_job(job: Job, runner: Runner) -> RunResult:
    """Run a checked job.

    Raises:
        WorkflowError: it has errors, or the output folder cannot be written to.
    """
    if errors(job.plan.problems):
        raise WorkflowError(job.plan.problems)
    start = time.perf_counter()
    with _writable(Path(job.session.output_dir)):
        for text in job.chosen:
            job.session.note(text)
        outcome = _outcome(job, runner)
    return RunResult(
        outputs=outcome.files(job.session),
        ui=outcome.ui,
        seconds=outcome.seconds,
        cached=outcome.cached,
        notes=job.session.notes,
        warnings=job.plan.problems,
        manifest=job.session.full_manifest(),
        prompt=job.workflow.prompt,
        total_seconds=time.perf_counter() - start,
    )


def _outcome(job: Job, runner: Runner) -> Outcome:
    """What the run gave. One that ends early takes along, as `saved`, the files that were finished by then."""
    outcome = Outcome()
    try:
        return runner.run(job.plan, job.session, outcome)
    except BaseException as error:
        error.saved = outcome.files(job.session)
        raise


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Fail before hours of work if nothing can be saved; a folder that was made and stayed empty is removed."""
    made: list[Path] = []
    try:
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        loose = next((one for one in (folder, *folder.parents) if one.is_symlink() and not one.exists()), None)
        what = "a file" if loose is None else f"a link to {os.readlink(loose)}, which does not exist"
        raise UsageError(f"The output folder {loose or folder} is {what}; expected a folder.") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise UsageError(f"The output folder {shown(str(folder), 120)} cannot be written to: {why}.") from None
    try:
        yield
    finally:
        for one in made:
            try:
                os.rmdir(one)
            except OSError:
                break
