"""Where the batches of a run are worked off: in this thread, in threads, in processes, or by an executor.

An engine takes batches and gives futures of outcomes. It knows nothing of order, failures or memory.
"""

from __future__ import annotations

import itertools
import os
import pickle
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from multiprocessing import current_process
from typing import Any, Protocol, TypeAlias, TypeVar

from smm._blame import last_line
from smm._worker import Asked, Batch, Job, Ready, Task, asked, is_shared, prepare, work
from smm.errors import RunRefusedError, TravelError
from smm.run import Outcome

Answer: TypeAlias = "Future[list[Outcome]]"
Pack: TypeAlias = Callable[[bool], bytes]
"""The manager as bytes; by value (`smm._recipe.packed`) or not."""

T = TypeVar("T")

LOOK_EVERY_SECONDS = 0.5
"""How often whatever waits for workers looks whether they still live."""

_THREADS = itertools.count(1)


class Engine(Protocol):
    """What carries out batches."""

    name: str
    """As reports call it."""
    workers: int
    apart: bool
    """Whether its workers are other processes, which make the manager again."""

    def open(
        self, job: Job, tasks: Sequence[Task], pack: Pack, place: str, changed: Callable[[], None]
    ) -> None:
        """Get ready for a job.

        Args:
            job: without payload.
            tasks: all that will be asked for.
            pack: gives the payload, if it is needed.
            place: where the manager stores.
            changed: called from any thread when `capacity` may have grown.

        Raises:
            RunRefusedError: the workers could not work, with the reason.
            TravelError: the manager cannot go to them.
        """

    def capacity(self) -> int:
        """How many batches may be under way now."""

    def submit(self, batch: Batch) -> Answer:
        """Have a batch worked off; an exception in place of an answer says that its worker is gone."""

    def look(self) -> None:
        """See whether the workers live. Called every `LOOK_EVERY_SECONDS` while batches are waited for.

        The batches of a worker that is gone have ended soon after, with an exception.

        Raises:
            BrokenExecutor: they will not end.
        """

    def kill(self, answer: Answer) -> bool:
        """End the worker of a batch, which then counts as gone; whether that can be done at all."""

    def close(self, *, at_once: bool) -> None:
        """Let the workers go, at once or when they are done; what was open stays with whoever opened it."""


def result_of(future: Future[T], look: Callable[[], None]) -> T:
    """Return what a future gives, once it has ended; until then `look` is called again and again.

    Raises:
        Exception: what the future or `look` raises.
    """
    while not wait([future], LOOK_EVERY_SECONDS).done:
        look()
    return future.result()


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- in this process -------------------------------------------------------------------------------------


class _Here:
    """Engines whose workers share the manager."""

    name = "threads"
    apart = False
    workers = 1
    _job: Job

    def open(
        self, job: Job, tasks: Sequence[Task], pack: Pack, place: str, changed: Callable[[], None]
    ) -> None:
        """Nothing to prepare; but no thread can be stopped from outside."""
        del pack, place, changed
        refuse_timeouts(self.name, tasks)
        self._job = job

    def capacity(self) -> int:
        """A batch for each worker."""
        return self.workers

    def look(self) -> None:
        """Threads do not die."""

    def kill(self, answer: Answer) -> bool:
        """No thread can be stopped from outside."""
        del answer
        return False

    def close(self, *, at_once: bool) -> None:
        """Nothing was begun."""
        del at_once


class Inline(_Here):
    """The calling thread itself: each batch is done when `submit` returns."""

    def submit(self, batch: Batch) -> Answer:
        """Work it off now."""
        answer: Answer = Future()
        try:
            answer.set_result(work(self._job, batch))
        except KeyboardInterrupt as error:  # what the batch had stored by then is still to be told
            answer.set_exception(error)
        return answer


class Idle(Inline):
    """Stands for an engine that would take long to start, in a run that has nothing to compute."""

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self.workers = workers


class Threads(_Here):
    """Threads of this process, which Python does not wait for when it ends.

    A `ThreadPoolExecutor` would be joined at the interpreter's exit, so that a second Ctrl-C, which means
    "at once", would hang until the rows that are being computed have ended.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._waiting: queue.SimpleQueue[tuple[Any, Batch, Answer] | None] = queue.SimpleQueue()
        self._begun = 0

    def submit(self, batch: Batch) -> Answer:
        """Hand it to a thread, in a copy of the caller's context."""
        answer: Answer = Future()
        if self._begun < self.workers:
            self._begun += 1
            name = f"smm-{next(_THREADS)}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._waiting.put((copy_context(), batch, answer))
        return answer

    def close(self, *, at_once: bool) -> None:
        """End each thread after what it is doing; waits for none."""
        del at_once
        for _ in range(self._begun):
            self._waiting.put(None)

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            context, batch, answer = item
            try:
                answer.set_result(context.run(work, self._job, batch))
            except BaseException as error:  # noqa: BLE001 - such as a KeyboardInterrupt that the metric raised
                answer.set_exception(error)
            del item, context, batch, answer  # until the next one comes, which may be long


# --- any executor ----------------------------------------------------------------------------------------


_REPLACES = "executor='processes' replaces a worker that dies"


class Foreign:
    """An executor that someone else made: dask's, loky's, MPI's, or one of the standard library.

    Args:
        executor: takes `work` and what it needs, pickled or not.
        name: as reports call it.
        workers: batches that are under way at once.
        everywhere: calls `prepare` in every worker; by default in whichever comes first.
        end: called when the run has ended, with whether it is to be at once.
        look: as `Engine.look`; by default it knows the processes of the standard library's pool and of loky.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        name: str,
        workers: int,
        everywhere: Callable[[Job, Asked], list[Ready]] | None = None,
        end: Callable[[bool], None] = lambda _at_once: None,
        look: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.workers = workers
        self.apart = False
        self._executor = executor
        self._everywhere = everywhere or self._somewhere
        self._end = end
        self._look = look or self._look_at_processes
        self._dead: set[int] = set()
        self._under_way: set[Answer] = set()

    def open(
        self, job: Job, tasks: Sequence[Task], pack: Pack, place: str, changed: Callable[[], None]
    ) -> None:
        """Find out whether its workers are in this process; if not, see that one can make the manager."""
        del changed
        try:
            shares = isinstance(self._executor, ThreadPoolExecutor) or answered(
                self.name, (), lambda: result_of(self._executor.submit(is_shared, job.token), self.look)
            )
            if shares:
                refuse_timeouts(self.name, tasks)
                self._job = job
                return
            self.apart = True
            self._job = Job(token=job.token, payload=pack(True), children=True)
            for ready in answered(self.name, tasks, lambda: self._everywhere(self._job, asked(tasks))):
                check_ready(self.name, ready, place)
        except BaseException:
            self._end(True)
            raise

    def _somewhere(self, job: Job, asked: Asked) -> list[Ready]:
        return [result_of(self._executor.submit(prepare, job, asked), self.look)]

    def capacity(self) -> int:
        """A batch for each worker."""
        return self.workers

    def submit(self, batch: Batch) -> Answer:
        """Hand it to the executor, in a copy of the caller's context if its workers are plain threads.

        Raises:
            BrokenExecutor: it takes nothing any more.
        """
        within: Any = copy_context().run
        plain = isinstance(self._executor, ThreadPoolExecutor)  # others may pickle what they are given
        try:
            answer: Answer = self._executor.submit(partial(within, work) if plain else work, self._job, batch)
        except RuntimeError as error:  # which a BrokenExecutor is; or somebody has shut it down
            why = f"{last_line(error)} ({_REPLACES})"
            raise BrokenExecutor(why) from error
        self._under_way.add(answer)
        answer.add_done_callback(self._under_way.discard)
        return answer

    def look(self) -> None:
        """See whether the workers live, as far as that is known of such an executor."""
        self._look()

    def _look_at_processes(self) -> None:
        """Raise if a process has died, and the executor has not noticed in the time between two looks.

        It never will: what the process has started holds its pipes open, by which the executor would know.
        """
        processes = getattr(self._executor, "_processes", None) or {}
        dead = {number for number, process in list(processes.items()) if process.exitcode}
        if dead & self._dead:
            raise BrokenExecutor(f"a worker process died ({_REPLACES})")
        self._dead = dead

    def kill(self, answer: Answer) -> bool:
        """Only the worker itself can stop what it does, and does so (`Job.children`)."""
        del answer
        return False

    def close(self, *, at_once: bool) -> None:
        """Forget what has not begun; the executor stays open."""
        if at_once:
            for answer in list(self._under_way):
                answer.cancel()
        self._end(at_once)


# --- refusals --------------------------------------------------------------------------------------------

GUARD = (
    "a script that starts a run with processes does so under `if __name__ == '__main__':`, since each worker "
    "imports the script"
)


def answered(executor: str, tasks: Sequence[Task], ask: Callable[[], T]) -> T:
    """What workers say before the run, when they are told of their tasks.

    Raises:
        RunRefusedError: they did not come to say anything.
        TravelError: there is a task that they cannot be told of.
    """
    try:
        return ask()
    except BrokenExecutor as error:
        reason = f"a worker process ended while it started, see above; {GUARD}"
        raise RunRefusedError(executor=executor, reason=reason) from error
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        stuck = next((task.name for task in tasks if not _can_be_pickled(task)), None)
        if stuck is not None:
            reason = f"the arguments of {stuck!r} stay behind, {said}; declare the row in params_list instead"
            raise TravelError(reason=reason) from error
        reason = f"a worker could not be asked whether all is ready: {said}"
        raise RunRefusedError(executor=executor, reason=reason) from error


def _can_be_pickled(task: Task) -> bool:
    try:
        pickle.dumps(task)
    except Exception:  # noqa: BLE001 - whatever an argument of the user's raises
        return False
    return True


def refuse_within_an_import(executor: str) -> None:
    """Refuse a run that a worker process is about to start, because it imports a script that does.

    Raises:
        RunRefusedError: it is.
    """
    if getattr(current_process(), "_inheriting", False):
        raise RunRefusedError(executor=executor, reason=GUARD)


def refuse_timeouts(executor: str, tasks: Sequence[Task]) -> None:
    """Refuse rows with a timeout where nobody could stop them.

    Raises:
        RunRefusedError: there are some.
    """
    timed = next((task.name for task in tasks if task.timeout_seconds is not None), None)
    if timed is not None:
        raise RunRefusedError(
            executor=executor,
            reason=f"metric {timed!r} has a timeout, and no thread can be stopped from outside; use "
            "executor='processes' or 'dask', or take the timeout out",
        )


def check_ready(executor: str, ready: Ready, place: str) -> None:
    """Refuse a run whose worker could not work.

    Raises:
        RunRefusedError: with what the worker says.
    """
    reason = ""
    if ready.problem:
        reason = (
            f"a worker could not make the manager: {ready.problem}; it must find the same modules and files "
            "as this process"
        )
    elif ready.place != place:
        reason = f"a worker would store in {ready.place}, this process in {place}; make metrics_dir absolute"
    elif ready.unknown:
        names = ", ".join(map(repr, ready.unknown))
        reason = (
            f"a worker's manager does not declare {names}; declare them where importing the module does it, "
            "not under `if __name__ == '__main__':` or in a function"
        )
    if reason:
        raise RunRefusedError(executor=executor, reason=reason)
