"""The command `sora-dit`: run, check, nodes, convert, curves. Exit: 0 done, 1 failed, 2 bad input, 130 stopped.

Little is imported before `main`: Ctrl-C is answered with a traceback until then.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from .streams import end_remarks, give_up, open_missing, say

DONE, FAILED, INVALID, STOPPED = 0, 1, 2, 130

_SET_HELP = (
    "give an input another value; NODE is a node's id or title, the value is read by the input's type. "
    "A text is taken as it is, with its braces and slashes. May be repeated"
)
_EPILOG = """exit codes: 0 done, 1 failed while running, 2 bad usage or invalid workflow, 130 stopped with Ctrl-C

example:
  sora-dit run workflows/text_to_video.json --set "Prompt.text=a red balloon over the sea" --output out
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never shows a traceback without --verbose."""
    try:
        open_missing()
        return _main(argv)
    except KeyboardInterrupt:
        return _ended("stopped.", STOPPED)
    finally:
        end_remarks()


def _main(argv: Sequence[str] | None) -> int:
    """`main` once there are streams to write to."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as exit_:  # argparse has said what is wrong
        return exit_.code if isinstance(exit_.code, int) else INVALID
    _prepare_process(options.verbose)
    try:
        from . import commands

        code = getattr(commands, options.command)(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has gone; nothing is left to be said
        give_up(sys.stdout)
        return FAILED
    except RecursionError:
        return _ended("error: the file is nested too deeply to be a workflow.", INVALID)
    except Exception as error:
        return _failed(error, options.verbose)


def _failed(error: Exception, verbose: bool) -> int:
    """One line, unless more is asked for: whatever the commands did not word themselves is our mistake."""
    import traceback

    from ..dit_core.checkpoint.atomic import reason
    from ..dit_core.errors import SoraDiTError

    if verbose:
        say("".join(traceback.format_exception(error)))
    if isinstance(error, OSError) and not error.filename:  # files are named, so this is standard output
        give_up(sys.stdout)
        return _ended(f"error: the output of this command cannot be written: {reason(error)}.", FAILED)
    known = isinstance(error, SoraDiTError)
    text = str(error) if known else f"internal error: {type(error).__name__}: {error} (--verbose shows where)"
    return _ended(f"error: {text}", INVALID if known else FAILED)


def _ended(text: str, code: int) -> int:
    say(text)
    return code


def parser() -> argparse.ArgumentParser:
    """The options of all commands."""
    top = argparse.ArgumentParser(
        prog="sora-dit",
        description="Run ComfyUI workflow files for video generation without ComfyUI.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="write the result as JSON to standard output")
    common.add_argument("--verbose", action="store_true", help="show tracebacks and what libraries log")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = functools.partial(commands.add_parser, allow_abbrev=False)
    workflow = argparse.ArgumentParser(add_help=False)
    workflow.add_argument("file", metavar="FILE", help="workflow: what the editor saves, or API format")
    workflow.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help=_SET_HELP)
    workflow.add_argument("--seed", type=_whole_number, help="set every seed of noise (seed, noise_seed)")
    workflow.add_argument("--input", default="input", metavar="DIR", help="folder of input files (default: input)")
    workflow.add_argument(
        "--models", action="append", default=[], metavar="DIR", help="folder with weight files. May be repeated"
    )
    workflow.add_argument("--output", default="output", metavar="DIR", help="where files are saved (default: output)")
    run = command("run", parents=[workflow, common], help="run a workflow")
    run.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    run.add_argument("--dtype", default="auto", help="auto (default), float32, bfloat16, float16")
    run.add_argument("--quiet", action="store_true", help="no progress; remarks and warnings are still told")
    check = command("check", parents=[workflow, common], help="check a workflow without running it")
    for name in ("--device", "--dtype"):  # a line that runs can be checked as it is
        check.add_argument(name, default="auto", help=argparse.SUPPRESS)
    check.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    nodes = command("nodes", parents=[common], help="list the nodes, or describe one")
    nodes.add_argument("node", nargs="?", help="id or name of a node to describe")
    convert = command("convert", parents=[common], help="editor format to API format")
    convert.add_argument("file", metavar="FILE", help="workflow as the editor saves it")
    convert.add_argument("-o", "--output", metavar="OUT", help="file to write (default: standard output)")
    convert.add_argument(
        "--object-info", metavar="FILE", help="ComfyUI's /object_info as JSON, for nodes that this pack does not have"
    )
    curves = command("curves", parents=[common], help="draw how a training goes")
    curves.add_argument("folder", metavar="FOLDER", help="of the training: it holds log.jsonl; it may be running")
    curves.add_argument("-o", "--output", metavar="OUT", help="picture to write (default: curves.png in the folder)")
    curves.add_argument("--samples", metavar="OUT", help="picture of the samples over the steps to write as well")
    return top


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got '{text}'; expected a whole number") from None


class _Version(argparse.Action):
    """Prints versions on demand only, because reading them takes time."""

    def __init__(self, option_strings: Sequence[str], dest: str):
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from .session import package_versions

        versions = package_versions()
        rest = ", ".join(f"{name} {version}" for name, version in versions.items() if name in ("torch", "av"))
        print(f"sora-dit {versions.get('sora-dit', 'not installed')} (Python {sys.version.split()[0]}, {rest})")
        parser.exit()


def _prepare_process(verbose: bool) -> None:
    """No hub, no chatter from libraries, and no crash on a console that cannot show a character."""
    import logging
    import warnings

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        warnings.simplefilter("ignore")
        logging.getLogger("sora_dit").setLevel(logging.ERROR)  # what matters in it is said by the commands
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def stop_signals(cancel: threading.Event) -> Iterator[None]:
    """The first Ctrl-C sets `cancel`: the run ends at the next step. The second ends it at once.

    SIGTERM and, when the terminal is closed, SIGHUP count as Ctrl-C; `nohup` has SIGHUP ignored, which stays.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        say("\nstopping at the next step; press Ctrl-C again to stop at once.")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    heeded = {signal.SIGINT, signal.SIGTERM}
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        heeded.add(hangup)
    before = {one: signal.signal(one, stop) for one in heeded}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


__all__ = ["DONE", "FAILED", "INVALID", "STOPPED", "main", "parser", "stop_signals"]

if __name__ == "__main__":
    sys.exit(main())
