"""Where the batches of a run are worked off: in this thread, in threads, in processes, or by an executor.

An engine takes batches and gives futures of outcomes. It knows nothing of order, failures or memory.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import copy_context
from multiprocessing import get_context
from typing import Any, Protocol, TypeAlias

from smm._worker import Batch, Job, Ready, Task, begin, is_shared, prepare, work
from smm.errors import RunRefusedError
from smm.run import Outcome

Answer: TypeAlias = "Future[list[Outcome]]"
Pack: TypeAlias = Callable[[bool], bytes]
"""The manager as bytes; by value (`smm._recipe.packed`) or not."""

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

    def kill(self, answer: Answer) -> bool:
        """End the worker of a batch, which then counts as gone; whether that can be done at all."""

    def close(self, *, at_once: bool) -> None:
        """Let the workers go, at once or when they are done; what was open stays with whoever opened it."""


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
        """Work it off now. Ctrl-C passes."""
        answer: Answer = Future()
        answer.set_result(work(self._job, batch))
        return answer


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


# --- processes -------------------------------------------------------------------------------------------


class _Worker:
    """A pool of one process: one that dies takes no neighbour's work with it."""

    def __init__(self, job: Job, tasks: Sequence[Task]) -> None:
        self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=begin)
        self.ready: Future[Ready] = self.pool.submit(prepare, job, tasks)
        self.job = job

    def kill(self) -> None:
        """End the process, if it has begun."""
        if self.ready.done() and self.ready.exception() is None:
            try:
                os.kill(self.ready.result().process, signal.SIGKILL)
            except ProcessLookupError:
                return

    def close(self, *, at_once: bool) -> None:
        """End the pool; a process that is still starting is waited for."""
        if at_once:
            self.kill()
        self.pool.shutdown(wait=True, cancel_futures=True)


class Processes:
    """Processes of this machine, each made anew when it dies."""

    name = "processes"
    apart = True

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._idle: list[_Worker] = []
        self._busy: dict[Answer, _Worker] = {}
        self._starting: set[_Worker] = set()
        self._mutex = threading.RLock()
        self._closed = False

    def open(
        self, job: Job, tasks: Sequence[Task], pack: Pack, place: str, changed: Callable[[], None]
    ) -> None:
        """Start all workers, and wait until each has made the manager."""
        self._job = Job(token=job.token, payload=pack(False))
        self._changed = changed
        started = [_Worker(self._job, tasks) for _ in range(self.workers)]
        self._idle += started
        try:
            for worker in started:
                check_ready(self.name, _ready_of(worker), place)
        except BaseException:
            self.close(at_once=True)
            raise

    def capacity(self) -> int:
        """Those that are ready, busy or not.

        Raises:
            BrokenExecutor: none is, nor starting: not even a new process could make the manager.
        """
        with self._mutex:
            if not (self._idle or self._busy or self._starting):
                raise BrokenExecutor("a worker process died, and could not be started again")
            return len(self._idle) + len(self._busy)

    def submit(self, batch: Batch) -> Answer:
        """Hand it to an idle worker."""
        with self._mutex:
            worker = self._idle.pop()
            try:
                answer = worker.pool.submit(work, worker.job, batch)
            except RuntimeError as error:  # it died while it was idle
                answer = Future()
                answer.set_exception(error)
            self._busy[answer] = worker
        answer.add_done_callback(self._done)
        return answer

    def kill(self, answer: Answer) -> bool:
        """End the process that works on it."""
        with self._mutex:
            worker = self._busy.get(answer)
        if worker is not None:
            worker.kill()
        return True

    def close(self, *, at_once: bool) -> None:
        """End all processes."""
        with self._mutex:
            self._closed = True
            workers = [*self._idle, *self._busy.values(), *self._starting]
        for worker in workers:
            worker.close(at_once=at_once)

    def _done(self, answer: Answer) -> None:
        with self._mutex:
            worker = self._busy.pop(answer)
            if answer.exception() is None:
                self._idle.append(worker)
            elif not self._closed:
                worker.pool.shutdown(wait=False)
                new = _Worker(self._job, ())
                self._starting.add(new)
                new.ready.add_done_callback(lambda ready: self._begun(new, ready))

    def _begun(self, worker: _Worker, ready: Future[Ready]) -> None:
        with self._mutex:
            self._starting.discard(worker)
            if not ready.cancelled() and ready.exception() is None:
                self._idle.append(worker)
        self._changed()


def _ready_of(worker: _Worker) -> Ready:
    try:
        return worker.ready.result()
    except Exception as error:
        raise RunRefusedError(
            executor="processes",
            reason="a worker process ended while it started, see above; a script that starts a run does so "
            "under `if __name__ == '__main__':`, since each worker imports the script",
        ) from error


# --- any executor ----------------------------------------------------------------------------------------


class Foreign:
    """An executor that someone else made: dask's, loky's, MPI's, or one of the standard library.

    Args:
        executor: takes `work` and what it needs, pickled or not.
        name: as reports call it.
        workers: batches that are under way at once.
        everywhere: calls `prepare` in every worker; by default in whichever comes first.
        end: called when the run has ended.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        name: str,
        workers: int,
        everywhere: Callable[[Job, Sequence[Task]], list[Ready]] | None = None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.workers = workers
        self.apart = False
        self._executor = executor
        self._everywhere = everywhere or self._somewhere
        self._end = end
        self._under_way: set[Answer] = set()

    def open(
        self, job: Job, tasks: Sequence[Task], pack: Pack, place: str, changed: Callable[[], None]
    ) -> None:
        """Find out whether its workers are in this process; if not, see that one can make the manager."""
        del changed
        try:
            shares = isinstance(self._executor, ThreadPoolExecutor) or (
                self._executor.submit(is_shared, job.token).result()
            )
            if shares:
                refuse_timeouts(self.name, tasks)
                self._job = job
                return
            self.apart = True
            self._job = Job(token=job.token, payload=pack(True), children=True)
            for ready in self._everywhere(self._job, tasks):
                check_ready(self.name, ready, place)
        except BaseException:
            self._end()
            raise

    def _somewhere(self, job: Job, tasks: Sequence[Task]) -> list[Ready]:
        return [self._executor.submit(prepare, job, tasks).result()]

    def capacity(self) -> int:
        """A batch for each worker."""
        return self.workers

    def submit(self, batch: Batch) -> Answer:
        """Hand it to the executor."""
        answer: Answer = self._executor.submit(work, self._job, batch)
        self._under_way.add(answer)
        answer.add_done_callback(self._under_way.discard)
        return answer

    def kill(self, answer: Answer) -> bool:
        """Only the worker itself can stop what it does, and does so (`Job.children`)."""
        del answer
        return False

    def close(self, *, at_once: bool) -> None:
        """Forget what has not begun; the executor stays open."""
        if at_once:
            for answer in list(self._under_way):
                answer.cancel()
        self._end()


# --- refusals --------------------------------------------------------------------------------------------


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
