"""What a worker of a run does: rows in batches, for a manager that it shares or makes again itself.

A thread shares the manager of whoever started the run. A process finds none, makes its own from what the job
brings, and stores what it computes; names, times and errors are all that it sends back.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from multiprocessing import connection, parent_process
from typing import Any, Protocol

import attrs

from smm._blame import user_files, user_line, user_traceback
from smm.errors import TimedOutError, WorkerError
from smm.run import Outcome, Runnable

LONGEST_SECONDS = 0.5
"""After which a worker gives back what it has not begun of a batch: rows took longer than was thought."""

_MOST_MANAGERS = 4
"""Managers of earlier jobs that a worker process keeps."""


class Travelled(Runnable, Protocol):
    """What a worker needs of a manager besides."""

    verbose: bool

    @property
    def _place(self) -> str:
        """Where it stores."""

    def _add_row(self, base_name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        """Declare a row by its call, as a call does; its metric name."""


@attrs.frozen(kw_only=True)
class Job:
    """A run, as its workers know it."""

    token: str
    """Of the manager, for workers that share it."""
    payload: bytes | None = None
    """The pickled manager, for those that do not."""
    children: bool = False
    """Whether a row with a timeout computes in a process of its own, which can be stopped."""


@attrs.frozen(kw_only=True)
class Task:
    """One row to compute."""

    name: str
    use_stored: bool = True
    call: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None
    """Base name and arguments of a row that a call has added, which a manager made again does not know."""
    timeout_seconds: float | None = None


@attrs.frozen(kw_only=True)
class Batch:
    """Rows that one worker computes one after another."""

    tasks: tuple[Task, ...]
    keep: frozenset[str] = frozenset()
    """Of what they read, what rows that are still to come read too."""
    verbose: bool = False
    """Print a line for everything that is done."""


@attrs.frozen(kw_only=True)
class Ready:
    """What a worker process says before its first batch."""

    process: int
    place: str = ""
    """Where its manager stores."""
    problem: str = ""
    """Why it cannot work; empty if it can."""
    unknown: tuple[str, ...] = ()
    """Names that its manager does not declare."""


# --- managers --------------------------------------------------------------------------------------------

_shared: dict[str, Any] = {}
"""Managers of this process that have a run under way, by token."""
_made: OrderedDict[str, Any] = OrderedDict()
_making = threading.Lock()


@contextlib.contextmanager
def shared(token: str, manager: Runnable) -> Iterator[None]:
    """Let workers in this process find the manager."""
    _shared[token] = manager
    try:
        yield
    finally:
        del _shared[token]


def is_shared(token: str) -> bool:
    """Whether this is the process of the manager itself."""
    return token in _shared


def _manager_of(job: Job) -> Any:
    manager = _shared.get(job.token)
    if manager is not None:
        return manager
    with _making:
        if job.token not in _made:
            if job.payload is None:
                raise RuntimeError("a worker in another process was sent no manager")
            made = pickle.loads(job.payload)  # noqa: S301 - the parent's own manager
            made.verbose = False
            _made[job.token] = made
            while len(_made) > _MOST_MANAGERS:
                _made.popitem(last=False)
        _made.move_to_end(job.token)
        return _made[job.token]


def prepare(job: Job, tasks: Sequence[Task]) -> Ready:
    """Make the manager, and see that it knows what it will be asked for. Computes nothing."""
    try:
        manager = _manager_of(job)
        unknown = [task.name for task in tasks if not _is_known(manager, task)]
    except BaseException as error:  # noqa: BLE001 - the parent refuses the run with it
        place = user_line(error)
        problem = f"{type(error).__name__}: {error}{f' ({place})' if place else ''}"
        return Ready(process=os.getpid(), problem=problem)
    return Ready(process=os.getpid(), place=manager._place, unknown=tuple(unknown[:3]))


def _is_known(manager: Travelled, task: Task) -> bool:
    return task.call is not None or task.name in manager.functions_dict


# --- work ------------------------------------------------------------------------------------------------


def work(job: Job, batch: Batch) -> list[Outcome]:
    """Compute a batch's rows in order; give back how each ended, perhaps of the first ones only."""
    manager = _manager_of(job)
    own = not is_shared(job.token)
    started = time.perf_counter()
    ended: list[Outcome] = []
    for task in batch.tasks:
        if job.children and task.timeout_seconds is not None:
            outcome = _in_child(job, task)
        else:
            outcome = compute(manager, task, verbose=batch.verbose)
        ended.append(_portable(outcome) if own else outcome)
        if time.perf_counter() - started > LONGEST_SECONDS:
            break
    if own:
        manager._release(batch.keep.__contains__)
    return ended


def compute(manager: Travelled, task: Task, *, verbose: bool = False) -> Outcome:
    """Bring one row to the storage; whatever its function raises is its outcome, but for Ctrl-C."""
    started = time.perf_counter()
    worker = worker_name()
    try:
        name = task.name if task.call is None else manager._add_row(*task.call)
        computed = manager.bring(name, task.use_stored, verbose=verbose)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a metric that ends the process ends only itself
        seconds = time.perf_counter() - started
        return failed(task.name, error, seconds=seconds, worker=worker)
    return Outcome(
        name=task.name,
        status="computed" if computed else "stored",
        seconds=time.perf_counter() - started,
        worker=worker,
    )


def failed(name: str, error: BaseException, *, seconds: float = 0.0, worker: str = "") -> Outcome:
    """The outcome of a row that raised, with what its traceback says."""
    outcome = Outcome(
        name=name,
        status="failed",
        seconds=seconds,
        worker=worker,
        error=error,
        traceback=user_traceback(error),
        where=user_line(error),
        files=user_files(error),
    )
    # The frames of a failed metric may hold gigabytes; their lines are enough to tell where it failed.
    traceback.clear_frames(error.__traceback__)
    return outcome


def worker_name() -> str:
    """`host:process`, and the thread if it is not the main one."""
    thread = threading.current_thread()
    name = f"{platform.node()}:{os.getpid()}"
    return name if thread is threading.main_thread() else f"{name}:{thread.name}"


def _portable(outcome: Outcome) -> Outcome:
    """The same with an error that can be sent: as it is if pickle manages, else one that stands for it."""
    error = outcome.error
    if error is None:
        return outcome
    try:
        # Both ways: many an exception pickles, and fails when it is made again.
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what this process has just pickled
        fits = type(again) is type(error)
    except Exception:  # noqa: BLE001 - whatever a class of the user's raises
        fits = False
    if fits:
        return outcome
    stand_in = WorkerError(kind=type(error).__qualname__, text=str(error))
    for note in getattr(error, "__notes__", ()):
        stand_in.add_note(note)
    return attrs.evolve(outcome, error=stand_in)


# --- a process for one row -------------------------------------------------------------------------------


def _in_child(job: Job, task: Task) -> Outcome:
    """Compute a row in a process of its own, which is killed when the time is up."""
    started = time.perf_counter()
    command = [sys.executable, "-c", "from smm._worker import child; child()"]
    sent = pickle.dumps((sys.path, job, task))
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - this Python
    answer = b""
    try:
        if running.stdin is not None:
            # It stays open: the child ends when it closes, and so never outlives this process.
            running.stdin.write(sent)
            running.stdin.flush()
        answer = _answer_of(running, task.timeout_seconds)
    except BrokenPipeError:
        pass
    except subprocess.TimeoutExpired:
        late = TimedOutError(name=task.name, seconds=task.timeout_seconds or 0.0)
        return failed(task.name, late, seconds=time.perf_counter() - started, worker=worker_name())
    finally:
        running.kill()
        running.communicate()
    if not answer:
        raise ChildDiedError
    outcome: Outcome = pickle.loads(answer)  # noqa: S301 - from a child of this process
    return outcome


class ChildDiedError(RuntimeError):
    """The process of one row ended without an answer."""


def _answer_of(running: subprocess.Popen[bytes], seconds: float | None) -> bytes:
    answer: list[bytes] = []
    stdout = running.stdout
    reader = threading.Thread(target=lambda: answer.append(stdout.read() if stdout else b""), daemon=True)
    reader.start()
    reader.join(seconds)
    if reader.is_alive():
        raise subprocess.TimeoutExpired(running.args, seconds or 0.0)
    return answer[0] if answer else b""


def child() -> None:
    """The main function of that process: a task from standard input, its outcome to standard output."""
    ignore_interrupts()
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the metric prints must not mix with the answer
    sys.path[:], job, task = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the parent

    def end_with_parent() -> None:
        sys.stdin.buffer.read(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    outcome = _portable(compute(_manager_of(job), task))
    answer.write(pickle.dumps(outcome))
    answer.close()
    os._exit(0)


# --- worker processes ------------------------------------------------------------------------------------


def begin() -> None:
    """What a worker process does first: leave Ctrl-C to its parent, and see to it that it ends with that."""
    ignore_interrupts()
    parent = parent_process()
    if parent is not None:
        watch = threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True)
        watch.start()


def ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal, SIGTERM every one of a service: the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)  # a worker without a parent would wait for work for ever


def _forget() -> None:
    """After a fork: what the parent shares with its threads is not shared with this process."""
    global _making
    _shared.clear()
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forget)

# --- making a manager again ------------------------------------------------------------------------------


def recalled(module: str, name: str, modules: Sequence[str], folders: Sequence[str]) -> Any:
    """The manager that a module has under a name, once all modules that declare its metrics are imported.

    Args:
        module: that holds it.
        name: in that module.
        modules: that declare metrics.
        folders: in which these modules were found; put at the end of `sys.path`.
    """
    sys.path += [folder for folder in folders if folder not in sys.path]
    for each in (module, *modules):
        importlib.import_module(each)
    return getattr(sys.modules[module], name)
