"""Processes of this machine that work off the batches of a run, each made anew when it dies."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from smm._child import begin, end
from smm._engines import (
    LOOK_EVERY_SECONDS,
    Answer,
    Pack,
    answered,
    check_ready,
    refuse_within_an_import,
    result_of,
)
from smm._pause import collector_paused
from smm._worker import Asked, Batch, Job, Ready, Task, asked, prepare, work

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs


def _prepared(job: Job, asked: Asked) -> Ready:
    """`prepare`, in a process of its own.

    What it has imported stays until it ends; to search it for garbage then would take longer than all else.
    """
    with collector_paused():
        ready = prepare(job, asked)
    gc.freeze()
    return ready


class _Worker:
    """A pool of one process: one that dies takes no neighbour's work with it."""

    def __init__(self, job: Job, asked: Asked) -> None:
        self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=begin)
        self.ready: Future[Ready] = self.pool.submit(_prepared, job, asked)
        self.job = attrs.evolve(job, payload=None)  # which it has kept
        # A pool has no public names for its process and the pipe of its answers.
        (self._process,) = vars(self.pool)["_processes"].values()
        self._results = vars(self.pool)["_result_queue"]
        self._looks_without_process = 0

    def kill(self) -> None:
        """End the process, and whatever its metric has started."""
        end(self._process.pid)
        self._process.kill()  # it may not lead a group yet

    def look(self) -> None:
        """Let the pool notice that its process is gone, where it would wait for ever.

        It waits for the other ends of pipes to close. What the process has started may hold them open, and
        the pool itself holds the one by which half an answer may have come.
        """
        if not self._process.is_alive():
            self._looks_without_process += 1
            if self._looks_without_process == 2:  # it has had the time between two looks to notice
                self.kill()
                self._results._writer.close()

    def close(self, *, at_once: bool) -> None:
        """End the pool; unless at once, a process that is still starting is waited for."""
        if at_once:
            self.kill()
        # Without waiting, the end of the interpreter may come in between, and hang (Python 3.11).
        self.pool.shutdown(wait=True, cancel_futures=True)


class Processes:
    """Processes of this machine, each made anew when it dies.

    Used by one thread. It calls nothing of a pool in the callback of a future: since Python 3.12 a broken
    pool holds its own lock meanwhile.
    """

    name = "processes"
    apart = True

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._idle: list[_Worker] = []
        self._busy: dict[Answer, _Worker] = {}
        self._starting: list[_Worker] = []
        self._problem = ""  # why a process could not take the place of a dead one

    def open(
        self, job: Job, tasks: Sequence[Task], pack: Pack, place: str, changed: Callable[[], None]
    ) -> None:
        """Start all workers, and wait until each has made the manager."""
        refuse_within_an_import(self.name)
        self._job = Job(token=job.token, payload=pack(False))
        self._changed = changed
        wanted = asked(tasks)
        answered(self.name, tasks, partial(pickle.dumps, wanted))  # before any worker fails to get it
        try:
            for _ in range(self.workers):
                self._idle.append(_Worker(self._job, wanted))
            for worker in self._idle:
                ready = answered(self.name, tasks, partial(result_of, worker.ready, self.look))
                check_ready(self.name, ready, place)
        except BaseException:
            self.close(at_once=True)
            raise

    def capacity(self) -> int:
        """Return how many are ready, busy or not; those that have died are replaced first.

        Raises:
            BrokenExecutor: none is, nor starting: not even a new process could make the manager.
        """
        self._update()
        if not (self._idle or self._busy or self._starting):
            why = f": {self._problem}" if self._problem else ""
            raise BrokenExecutor(f"a worker process died, and could not be started again{why}")
        return len(self._idle) + len(self._busy)

    def submit(self, batch: Batch) -> Answer:
        """Give a batch to an idle worker."""
        worker = self._idle.pop()
        try:
            answer = worker.pool.submit(work, worker.job, batch)
        except RuntimeError as error:  # it died while it was idle
            answer = Future()
            answer.set_exception(error)
        self._busy[answer] = worker
        return answer

    def look(self) -> None:
        """Let pools notice processes that are gone: their answers, which are exceptions, come soon."""
        for worker in [*self._idle, *self._busy.values(), *self._starting]:
            worker.look()

    def kill(self, answer: Answer) -> bool:
        """End the process that works on it."""
        worker = self._busy.get(answer)
        if worker is not None:
            worker.kill()
        return True

    def close(self, *, at_once: bool) -> None:
        """End all processes, side by side: each takes a while to end."""
        for answer, worker in self._busy.items():
            if _has_failed(answer):
                worker.kill()  # what its metric has started
        workers = [*self._idle, *self._busy.values(), *self._starting]
        closing = [threading.Thread(target=worker.close, kwargs={"at_once": at_once}) for worker in workers]
        for thread in closing:
            thread.start()
        for worker, thread in zip(workers, closing, strict=True):
            thread.join(LOOK_EVERY_SECONDS)
            while thread.is_alive():
                worker.look()
                thread.join(LOOK_EVERY_SECONDS)

    def _update(self) -> None:
        """See who has answered, who has died and who has started meanwhile."""
        for answer, worker in list(self._busy.items()):
            if not answer.done():
                continue
            if _has_failed(answer):
                self._end(worker)
                new = _Worker(self._job, asked(()))
                self._starting.append(new)
                new.ready.add_done_callback(lambda _: self._changed())
            else:
                self._idle.append(worker)
            del self._busy[answer]
        for worker in [worker for worker in self._starting if worker.ready.done()]:
            if _has_failed(worker.ready):
                self._end(worker)
            else:
                self._problem = worker.ready.result().problem
                if self._problem:
                    self._end(worker)
                else:
                    self._idle.append(worker)
            self._starting.remove(worker)

    def _end(self, worker: _Worker) -> None:
        """End a worker that is of no more use, with what its metric has started."""
        worker.kill()
        worker.pool.shutdown(wait=False)


def _has_failed(future: Future[Any]) -> bool:
    """Return whether a future has ended without a result."""
    return future.done() and (future.cancelled() or future.exception() is not None)
