"""What each command of `sora-dit` does. Progress and remarks go to standard error, results to standard output."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..dit_core.checkpoint.atomic import reason, whole_file
from ..dit_core.errors import Cancelled, SoraDiTError
from .cli import DONE, FAILED, INVALID, STOPPED, stop_signals
from .graph import title_of
from .json_file import prompt_of, read_json
from .problems import Problem, UsageError, WorkflowError, did_you_mean, errors, nearest, shown
from .registry import Registry, load_registry
from .run import Job, RunResult, open_job, run_job
from .session import Session
from .streams import say

LONGEST_NAME = 120  # characters of a path in a sentence
_NAMED = {"file": "FILE", "folder": "FOLDER", "node": "NODE", "models": "--models", "input": "--input",
          "output": "--output", "samples": "--samples", "object_info": "--object-info"}  # fmt: skip


def _answers(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command that says what it refuses in the same way as all others: in lines, or as JSON with `--json`."""

    @functools.wraps(command)
    def answer(options: argparse.Namespace) -> int:
        try:
            _refuse_empty(options)
            _find_home(options)
            return command(options)
        except SoraDiTError as error:
            return _refuse(options, error)

    return answer


def _refuse_empty(options: argparse.Namespace) -> None:
    """An empty name, as of a shell variable that is not set, must not be taken for "not given" or for this folder."""
    for name, called in _NAMED.items():
        given = getattr(options, name, None)
        if "" in (given if isinstance(given, list) else [given]):
            raise UsageError(f"{called} is an empty text; expected a name.")


def _find_home(options: argparse.Namespace) -> None:
    """`~` is the home folder also where the shell leaves it: in quotes, and behind the `=` of an option."""
    for name in _NAMED.keys() - {"node"}:
        given = getattr(options, name, None)
        if isinstance(given, list):
            setattr(options, name, [os.path.expanduser(one) for one in given])
        elif given is not None:
            setattr(options, name, os.path.expanduser(given))


@_answers
def run(options: argparse.Namespace) -> int:
    """`sora-dit run FILE`."""
    from .execute import Runner
    from .progress import NotesOnly, TextProgress
    from .run_errors import RunError

    cancel = threading.Event()
    session = _session(options, progress=(NotesOnly if options.quiet else TextProgress)(sys.stderr), cancel=cancel)
    with stop_signals(cancel):
        try:
            job = open_job(options.file, session, options.set, options.seed)
            _say_problems(job.plan.problems if not errors(job.plan.problems) else [])
            result = run_job(job, Runner(keep=False))
        except RunError as error:
            if options.verbose and error.__cause__ is not None:
                say("".join(traceback.format_exception(error.__cause__)))
            return _end(options, "failed", FAILED, str(error), error)
        except (Cancelled, KeyboardInterrupt) as error:
            # What keeps its state says so, and how to go on; all else leaves nothing unfinished behind.
            why = str(error) or "stopped; nothing unfinished was left behind."
            return _end(options, "stopped", STOPPED, why, error)
    _show_result(options, job, result)
    return DONE


@_answers
def check(options: argparse.Namespace) -> int:
    """`sora-dit check FILE`."""
    job = open_job(options.file, _session(options), options.set, options.seed)
    problems = job.plan.problems
    wrong = errors(problems)
    if options.json:
        _write_json({"status": "invalid" if wrong else "ok", "problems": [one.as_dict() for one in problems]})
    else:
        _say_problems(problems)
        if not wrong:
            nodes, outputs = len(job.plan.needed), len(job.plan.outputs)
            print(f"ok: {_count(nodes, 'node')} to run, {_count(outputs, 'output')}")
    return INVALID if wrong else DONE


@_answers
def nodes(options: argparse.Namespace) -> int:
    """`sora-dit nodes [NODE]`."""
    registry = load_registry()
    info = registry.object_info()
    if options.node is not None:
        info = {node_id: info[node_id] for node_id in [_node_called(options.node, registry)]}
    if options.json:
        _write_json(info)
    elif options.node is not None:
        print(_described(*info.values()))
    else:
        for entry in sorted(info.values(), key=lambda one: one["category"]):
            print(f"{entry['name']:32}  {entry['display_name'] or entry['name']}  [{_place(entry)}]")
            print(textwrap.indent(textwrap.fill(entry["description"] or "", 96), "    "))
    for name, why in registry.failures.items():
        say(f"warning: {name} could not be loaded: {why}")
    return DONE


@_answers
def convert(options: argparse.Namespace) -> int:
    """`sora-dit convert FILE`."""
    from .editor import EditorFormatError, is_editor_format
    from .editor import convert as convert_file

    data = read_json(options.file)
    if not isinstance(data, dict):
        raise WorkflowError(f"{options.file} holds no object; expected a workflow as the editor saves it.")
    data = prompt_of(data)
    info = _object_info(options.object_info) if options.object_info else load_registry().object_info()
    if is_editor_format(data):
        try:
            conversion = convert_file(data, info)
        except EditorFormatError as error:
            raise WorkflowError(f"{options.file} cannot be converted: {error}") from error
        data = conversion.prompt
        for text in (*conversion.notes, *(node.sentence() for node in conversion.unknown_nodes)):
            say(f"warning: {text}")
    elif not any(isinstance(node, dict) and "class_type" in node for node in data.values()):
        raise WorkflowError(f"{options.file} is JSON but no workflow; expected what the editor saves.")
    else:
        say(f"note: {options.file} is in API format already.")
    in_unicode = options.output is not None or (sys.stdout.encoding or "").lower().startswith("utf")
    text = _prompt_text(data, options.file, ascii_only=not in_unicode)
    if options.output is not None:
        _write_file(Path(options.output), text)
    else:
        sys.stdout.write(text)
    return DONE


def _prompt_text(prompt: Mapping[str, Any], name: str, ascii_only: bool) -> str:
    """`prompt` as JSON. Raises `WorkflowError` for what JSON cannot hold, though Python reads it: NaN and Infinity."""
    try:
        return json.dumps(prompt, indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n"
    except ValueError:
        problems = list(_not_finite(prompt))
        raise WorkflowError(problems or f"{name} holds a number that is not finite; JSON has no such.") from None


def _not_finite(prompt: Mapping[str, Any]) -> Iterator[Problem]:
    """Inputs with a number that JSON has no word for."""
    for node_id, node in prompt.items():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        for name, value in (inputs if isinstance(inputs, dict) else {}).items():
            try:
                json.dumps(value, allow_nan=False)
            except ValueError:
                text = f"got {shown(value)}; expected what JSON can hold, in which every number is finite."
                yield Problem(node_id, title_of(node_id, node), name, text)


@_answers
def curves(options: argparse.Namespace) -> int:
    """`sora-dit curves FOLDER`."""
    from ..dit_core.watch import draw_curves, draw_strip, read_log, read_samples, save_picture, summary

    folder = Path(options.folder)
    log = read_log(folder)
    target = Path(options.output) if options.output else folder / "curves.png"
    samples = read_samples(folder) if options.samples else []
    if options.samples and not samples:
        raise UsageError(f"{folder} holds no samples; the training makes some when it is given prompts for them.")
    if options.samples and Path(options.samples).absolute() == target.absolute():
        raise UsageError(f"--samples and --output are both {options.samples}; expected two files.")
    written = [save_picture(draw_curves(log), target)]
    if options.samples:
        written.append(save_picture(draw_strip(samples), Path(options.samples)))
    if options.json:
        _write_json({"status": "done", "outputs": [str(one) for one in written], "summary": summary(log, False),
                     "last": log.lines[-1] if log.lines else None})  # fmt: skip
    else:
        print(summary(log, remaining=False))
        for path in written:
            print(f"saved {path}")
    return DONE


def _object_info(path: str) -> dict[str, Any]:
    """The node definitions of another machine."""
    info = read_json(path, "ComfyUI's /object_info")
    if not isinstance(info, dict):
        raise WorkflowError(f"{path} holds no object; expected ComfyUI's /object_info.")
    if not any(isinstance(one, dict) and "input" in one for one in info.values()):
        raise WorkflowError(f"{path} is not ComfyUI's /object_info: it says of no node what its inputs are.")
    return info


def _session(options: argparse.Namespace, **more: Any) -> Session:
    return Session(
        output_dir=Path(getattr(options, "output", None) or "output"),
        input_dir=Path(options.input),
        models_dirs=[Path(one) for one in options.models],
        device=getattr(options, "device", "auto"),
        dtype=getattr(options, "dtype", "auto"),
        **more,
    )


def _refuse(options: argparse.Namespace, error: SoraDiTError) -> int:
    """Bad usage or an invalid workflow: every problem on a line."""
    problems = error.problems if isinstance(error, WorkflowError) else [Problem(None, None, None, str(error))]
    if options.json:
        _write_json({"status": "invalid", "problems": [one.as_dict() for one in problems]})
    else:
        _say_problems(problems)
    if options.verbose:
        say("".join(traceback.format_exception(error)))
    return INVALID


def _end(options: argparse.Namespace, status: str, code: int, message: str, error: BaseException) -> int:
    """A run that did not come to its end; the files that it finished stay, and are named."""
    saved = [str(one) for one in getattr(error, "saved", ())]
    if options.json:
        _write_json({"status": status, "errors": [message], "outputs": saved})
    else:
        for path in saved:
            print(f"saved {path}")
    say(message if code == STOPPED else f"error: {message}")
    return code


def _say_problems(problems: list[Problem]) -> None:
    for one in problems:
        say(f"{one.severity}: {one}")


def _show_result(options: argparse.Namespace, job: Job, result: RunResult) -> None:
    if options.json:
        _write_json(
            {
                "status": "done",
                "outputs": [str(one) for one in result.outputs],
                "ui": result.ui,
                "seconds": {node_id: round(seconds, 4) for node_id, seconds in result.seconds.items()},
                "total_seconds": round(result.total_seconds, 4),
                "notes": [str(one) for one in result.notes],
                "problems": [one.as_dict() for one in result.warnings],
                "manifest": result.manifest,
            }
        )
        return
    for node_id, seen in result.ui.items():
        for text in seen.get("text", ()):
            print(f"{job.plan.nodes[node_id].title}: {text}")
    for path in result.outputs:
        print(f"saved {path}")
    if not options.quiet:
        from .progress import duration

        say(f"done in {duration(result.total_seconds)}")


def _node_called(name: str, registry: Registry) -> str:
    known = {one.lower(): one for one in registry.classes}
    known |= {(registry.schema(one).display_name or one).lower(): one for one in registry.classes}
    for called, one in list(known.items()):  # "Denoise" of "Denoise (Sora DiT)"
        known.setdefault(called.partition(" (")[0], one)
    if name.lower() in known:
        return known[name.lower()]
    close = nearest(name, known)
    hint = f" Did you mean '{known[close]}'?" if close else did_you_mean(name, registry.classes)
    raise UsageError(f"There is no node '{name}'.{hint}")


def _place(entry: dict[str, Any]) -> str:
    """Where a node stands in the editor's menu; core's nodes are marked, since they are not of this pack."""
    from .core_nodes import MODULE

    return entry["category"] + ("; core node of ComfyUI" if entry["python_module"] == MODULE else "")


def _described(entry: dict[str, Any]) -> str:
    """One node's page: description, inputs with type, default and range, outputs."""
    head = f"{entry['display_name'] or entry['name']} ({entry['name']})  [{_place(entry)}]"
    lines = [head, "", entry["description"] or "", ""]
    for group in ("required", "optional"):
        for name, (kind, extra) in entry["input"].get(group, {}).items():
            facts = [f"default {extra['default']!r}"] if "default" in extra else []
            facts += [f"{extra.get('min', '')} to {extra.get('max', '')}"] if {"min", "max"} & set(extra) else []
            facts += ["optional"] if group == "optional" else []
            lines.append(f"  {name}: {kind}" + (f" ({', '.join(facts)})" if facts else ""))
            if extra.get("options") and kind == "COMBO":
                lines.append(textwrap.indent("one of: " + ", ".join(map(str, extra["options"])), "      "))
            if extra.get("tooltip"):
                lines.append(textwrap.indent(textwrap.fill(extra["tooltip"], 96), "      "))
    for name, kind in zip(entry["output_name"], entry["output"], strict=True):
        lines.append(f"  -> {name}: {kind}")
    return "\n".join(lines)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _write_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def _write_file(path: Path, text: str) -> None:
    """The whole file or none."""
    data = text.encode("utf-8", "backslashreplace")  # half an emoji becomes \ud83c, which JSON reads back as it was
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # /dev/null, a pipe: nothing may take its place
            path.write_bytes(data)
            return
        with whole_file(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        name = str(path) if len(str(path)) <= LONGEST_NAME else f"{str(path)[: LONGEST_NAME - 1]}…"
        raise UsageError(f"{name} cannot be written: {reason(error)}.") from None
    except ValueError:  # a zero byte, or half an emoji
        raise UsageError(f"{shown(str(path), LONGEST_NAME)} is no file name; expected a file to write.") from None
