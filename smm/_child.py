"""Processes that leave signals to their parent, end with it, and are ended with all they have started."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe, connection, parent_process
from typing import Any

_LOOK_EVERY_SECONDS = 0.5
"""How often is looked whether a child still lives."""

_is_worker = False


def begin() -> None:
    """What a process of multiprocessing does first that is such a one.

    It leads a process group of its own, by which it can be ended together with what it has started, and which
    the Ctrl-C of a terminal does not reach.
    """
    os.setpgid(0, 0)
    _leave_signals_to_parent()
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def end(process: int) -> None:
    """End such a process, which may be ending by itself, and all that it has started."""
    # PermissionError: macOS, of a group in which nobody lives any more.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _leave_signals_to_parent() -> None:
    """Ctrl-C may be sent to every process of a terminal, SIGTERM to every one of a service.

    They are not ignored: what is started from here would inherit that, and could not be ended by them.
    """
    global _is_worker
    _is_worker = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
        signal.siginterrupt(number, False)


def _hear_signals_again() -> None:
    """What is forked from such a process is none."""
    global _is_worker
    if _is_worker:
        _is_worker = False
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_hear_signals_again)


def _end_with(parent: Any) -> None:
    """End when the other end of a connection does: without a parent it would wait for ever."""
    connection.wait([parent])
    os.killpg(0, signal.SIGKILL)


# --- one question ----------------------------------------------------------------------------------------


class ChildDiedError(RuntimeError):
    """A process ended without an answer."""


def ask_child(module: str, function: str, question: Any, seconds: float | None) -> Any:
    """What a new Python process answers, which is ended then.

    Args:
        module: that it imports, with this process's `sys.path`.
        function: of that module, called with a file descriptor; calls `answer_as_child`.
        question: anything that can be pickled.
        seconds: that it may take to answer, once it is ready to.

    Raises:
        TimeoutError: it took longer.
        ChildDiedError: it ended without an answer.
    """
    ours, theirs = Pipe()
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import {function}"
    running = subprocess.Popen(  # noqa: S603 - this Python
        [sys.executable, "-c", f"{code}; {function}({theirs.fileno()})"],
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        process_group=0,
    )
    try:
        theirs.close()
        # It stays open: the child ends when it closes, and so never outlives this process.
        ours.send(question)
        _answers(running, ours, None)
        ours.recv()
        if not _answers(running, ours, seconds):
            raise TimeoutError
        return ours.recv()
    except (EOFError, ConnectionError):
        raise ChildDiedError from None
    finally:
        end(running.pid)
        running.wait()
        ours.close()


def _answers(running: subprocess.Popen[bytes], pipe: Any, seconds: float | None) -> bool:
    """Whether a child answers within its time.

    Raises:
        EOFError: it has ended. What it has started may keep the pipe open.
    """
    until = time.monotonic() + (math.inf if seconds is None else seconds)
    while (left := until - time.monotonic()) > 0:
        if pipe.poll(min(left, _LOOK_EVERY_SECONDS)):
            return True
        if running.poll() is not None and not pipe.poll():
            raise EOFError
    return False


def answer_as_child(descriptor: int, ready: Callable[[Any], Callable[[], Any]]) -> None:
    """The other side: take the question, answer it, and end this process.

    Args:
        descriptor: of the pipe.
        ready: takes the question, and gives what answers it; what that takes is not counted.
    """
    _leave_signals_to_parent()
    pipe: Any = connection.Connection(descriptor)
    question = pipe.recv()
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    answer = ready(question)
    pipe.send(None)
    answered = answer()
    sys.stdout.flush()
    pipe.send(answered)
    os._exit(0)
