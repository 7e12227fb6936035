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
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from smm._blame import is_own, message, shown, user_files, user_line, user_traceback
from smm._child import answer_as_child, ask_child
from smm._hidden_frames import HiddenFrames
from smm._sources import check_sources, note_sources
from smm.errors import TimedOutError, UnstorableError, WorkerError
from smm.run import Outcome, Runnable

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

LONGEST_SECONDS = 0.5
"""After which a worker gives back what it has not begun of a batch: rows took longer than was thought."""

_MOST_MANAGERS = 4
"""Managers of earlier jobs that a worker process keeps."""


class Travelled(Runnable, Protocol):
    """What a worker needs of a manager besides."""

    verbose: bool
    hidden_frames: HiddenFrames

    @property
    def _place(self) -> str:
        """Where it stores."""

    def _warm_up(self, names: Iterable[str]) -> None:
        """Do now what the first computation of these would have to wait for."""

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


Asked: TypeAlias = tuple[list[str], list[Task]]
"""Names that a worker must know, and tasks that bring their rows along, which must be able to reach it."""


@attrs.frozen(kw_only=True)
class Batch:
    """Rows that one worker computes one after another."""

    tasks: tuple[Task, ...]
    keep: frozenset[str] = frozenset()
    """Of what they read, what rows that are still to come read too."""
    keep_going: bool = True
    """Go on after a row that fails; else it is the last one."""
    keep_trying: bool = False
    """Go on after a row that the storage refuses; else it is the last one."""
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


class UnfitError(RuntimeError):
    """A worker process cannot make the manager, or not with the code of today."""


def _manager_of(job: Job) -> Any:
    manager = _shared.get(job.token)
    if manager is not None:
        return manager
    with _making:
        if job.token not in _made:
            if job.payload is None:
                raise RuntimeError("a worker in another process was sent no manager")
            made = pickle.loads(job.payload)  # noqa: S301 - the parent's own manager
            check_sources(_functions(made))
            made.verbose = False
            _made[job.token] = made
            while len(_made) > _MOST_MANAGERS:
                _made.popitem(last=False)
        _made.move_to_end(job.token)
        return _made[job.token]


def _functions(manager: Travelled) -> Iterable[Callable[..., Any]]:
    """Each function that it declares, once."""
    entries = {id(rows): rows for rows in (getattr(e, "rows", e) for e in manager.functions_dict.values())}
    return [getattr(rows, "function", rows) for rows in entries.values()]


def asked(tasks: Sequence[Task]) -> Asked:
    """What `prepare` is to be told of tasks."""
    calls = [task for task in tasks if task.call is not None]
    return [task.name for task in tasks if task.call is None], calls


def prepare(job: Job, asked: Asked) -> Ready:
    """Make the manager, and see that it knows what it will be asked for. Computes nothing.

    What the first row of a process would have to wait for is done here, so that its time is its own: by that,
    others are put into batches.
    """
    try:
        manager = _manager_of(job)
        manager._warm_up(asked[0])
        unknown = [name for name in asked[0] if name not in manager.functions_dict]
    except BaseException as error:  # noqa: BLE001 - the parent refuses the run with it
        return Ready(process=os.getpid(), problem=shown(error))
    return Ready(process=os.getpid(), place=manager._place, unknown=tuple(unknown[:3]))


# --- work ------------------------------------------------------------------------------------------------


def work(job: Job, batch: Batch) -> list[Outcome]:
    """Compute a batch's rows in order; give back how each ended, perhaps of the first ones only.

    Raises:
        UnfitError: this process, which may have come after the run began, has no manager for it.
    """
    try:
        manager = _manager_of(job)
    except Exception as error:
        raise UnfitError(f"a worker could not make the manager: {shown(error)}") from error
    own = not is_shared(job.token)
    started = time.perf_counter()
    worker = worker_name()
    ended: list[Outcome] = []
    for task in batch.tasks:
        if job.children and task.timeout_seconds is not None:
            outcome = _in_child(job, task)
        else:
            outcome = compute(manager, task, verbose=batch.verbose, worker=worker)
        ended.append(_portable(outcome) if own else outcome)
        is_refused = isinstance(outcome.error, UnstorableError) and not batch.keep_trying
        is_last = is_refused or (outcome.status == "failed" and not batch.keep_going)
        if is_last or time.perf_counter() - started > LONGEST_SECONDS:
            break
    if own:
        manager._release(batch.keep.__contains__)
        note_sources()
    return ended


def compute(manager: Travelled, task: Task, *, verbose: bool = False, worker: str = "") -> Outcome:
    """Bring one row to the storage; whatever its function raises is its outcome, but for Ctrl-C.

    Args:
        manager: whose row it is.
        task: the row.
        verbose: print a line for everything that is done.
        worker: the `worker_name` of this thread, if that has been asked already.
    """
    __tracebackhide__ = manager.hidden_frames
    started = time.perf_counter()
    worker = worker or worker_name()
    handled = sys.exception()
    try:
        name = task.name if task.call is None else manager._add_row(*task.call)
        computed = manager.bring(name, task.use_stored, verbose=verbose)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a metric that ends the process ends only itself
        seconds = time.perf_counter() - started
        return failed(task.name, error, seconds=seconds, worker=worker, handled=handled)
    return Outcome(
        name=task.name,
        status="computed" if computed else "stored",
        seconds=time.perf_counter() - started,
        worker=worker,
    )


def failed(
    name: str,
    error: BaseException,
    *,
    seconds: float = 0.0,
    worker: str = "",
    handled: BaseException | None = None,
) -> Outcome:
    """The outcome of a row that raised, with what its traceback says.

    Args:
        name: of the metric.
        error: what it raised; its frames forget their locals, and those of its causes.
        seconds: that it took.
        worker: that was busy with it.
        handled: what the caller was handling before: no cause, though Python notes it as one.
    """
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
    for each in _with_causes(error, handled):
        _clear_frames(each.__traceback__)
    return outcome


def _clear_frames(trace: TracebackType | None) -> None:
    """Empty frames: they may hold gigabytes, and their lines are enough to tell where it failed.

    Those stay that hold `__tracebackhide__` for IPython and pytest, and little else.
    """
    while trace is not None:
        code = trace.tb_frame.f_code
        if not is_own(code.co_filename) or "__tracebackhide__" not in code.co_varnames:
            with contextlib.suppress(RuntimeError):  # it still runs
                trace.tb_frame.clear()
        trace = trace.tb_next


def _with_causes(error: BaseException, handled: BaseException | None) -> list[BaseException]:
    """An error, those it came from up to `handled`, and those in a group."""
    found = [error]
    for each in found:  # grows while it is read
        group = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        for other in (each.__cause__, each.__context__, *group):
            if other is not None and all(other is not known for known in (handled, *found)):
                found.append(other)
    return found


def worker_name() -> str:
    """`host:process`, and the thread if it is not the main one."""
    thread = threading.current_thread()
    name = f"{platform.node()}:{os.getpid()}"
    return name if thread is threading.main_thread() else f"{name}:{thread.name}"


def _portable(outcome: Outcome) -> Outcome:
    """The same with an error that can be sent."""
    return outcome if outcome.error is None else attrs.evolve(outcome, error=_SentError(outcome.error))


class _SentError(Exception):
    """An error on its way: comes out as itself where pickle can make it again, else as a `WorkerError`.

    Pickled by itself, since what cannot be made again would take the whole answer with it, and with that
    the worker. A value that the storage refused comes along, if it can be pickled; else a note says so.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        try:
            pickled = pickle.dumps(error)
        except Exception as problem:  # noqa: BLE001 - whatever a class of the user's raises
            pickled = b""
            if isinstance(error, UnstorableError):
                error = without_value(error, problem)
                pickled = pickle.dumps(error)
        notes = tuple(str(note) for note in getattr(error, "__notes__", ()))
        return _arrived, (pickled, type(error).__qualname__, message(error), notes)


def without_value(error: UnstorableError, problem: BaseException) -> UnstorableError:
    """Return a refusal without the value that was refused, and a note that says why."""
    make, (kind, data) = error.__reduce__()
    bare: UnstorableError = make(kind, {**data, "value": None})
    bare.add_note(f"the worker could not hand its value back: {type(problem).__name__}: {problem}")
    return bare


def _arrived(pickled: bytes, kind: str, text: str, notes: tuple[str, ...]) -> BaseException:
    if pickled:
        with contextlib.suppress(Exception):
            error = pickle.loads(pickled)  # noqa: S301 - from a worker of this run
            if isinstance(error, BaseException) and type(error).__qualname__ == kind:
                return error
    error = WorkerError(kind=kind, text=text)
    for note in notes:
        error.add_note(note)
    return error


# --- a process for one row -------------------------------------------------------------------------------


def _in_child(job: Job, task: Task) -> Outcome:
    """Compute a row in a process of its own, which is killed when the time is up.

    Raises:
        ChildDiedError: it ended without an answer.
    """
    started = time.perf_counter()
    try:
        outcome: Outcome = ask_child("smm._worker", "child", (job, task), task.timeout_seconds)
    except TimeoutError:
        late = TimedOutError(name=task.name, seconds=task.timeout_seconds or 0.0)
        return failed(task.name, late, seconds=time.perf_counter() - started, worker=worker_name())
    return outcome


def child(descriptor: int) -> None:
    """The main function of that process."""

    def made(question: tuple[Job, Task]) -> Callable[[], Outcome]:
        job, task = question
        manager = _manager_of(job)
        return lambda: _portable(compute(manager, task))

    answer_as_child(descriptor, made)


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
    found = sys.modules[module]
    if not hasattr(found, name):
        raise AttributeError(f"{module} has no {name!r} when it is imported; make that outside of any `if`")
    return getattr(found, name)
