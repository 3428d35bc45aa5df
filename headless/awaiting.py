"""Running coroutines from plain code, also where an event loop is already running (a notebook)."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_coroutine(coroutine: Coroutine[Any, Any, T], on_interrupt: Callable[[], None] | None = None) -> T:
    """Run to the end and return the result.

    An event loop of our own instead of `asyncio.run`, whose Ctrl-C handler waits until a synchronous node returns.
    If this thread already runs a loop, a helper thread does it; a Ctrl-C here then calls `on_interrupt` and waits.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(coroutine)
    return _run_in_thread(coroutine, on_interrupt)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _run_in_thread(coroutine: Coroutine[Any, Any, T], on_interrupt: Callable[[], None] | None) -> T:
    outcome: dict[str, Any] = {}
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome["result"] = context.run(_run, coroutine)
        except BaseException as error:  # handed to the caller's thread
            outcome["error"] = error

    thread = threading.Thread(target=work, name="sora-dit-run")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        if on_interrupt is not None:
            on_interrupt()
        thread.join()
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
