"""Processes of this machine that work off the batches of a run, each made anew when it dies."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

from smm._child import begin, end
from smm._engines import Answer, Pack, answered, check_ready, refuse_within_an_import
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

    def kill(self) -> None:
        """End the process, and whatever its metric has started."""
        process = self._process()
        if process is None:
            return
        end(process)
        if not self.ready.done():  # it may not lead a group yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _process(self) -> int | None:
        if self.ready.done() and self.ready.exception() is None:
            return self.ready.result().process
        starting = vars(self.pool).get("_processes") or ()
        return next(iter(starting), None)

    def close(self, *, at_once: bool) -> None:
        """End the pool; unless at once, a process that is still starting is waited for."""
        if at_once:
            self.kill()
        # Without waiting, the end of the interpreter may come in between, and hang (Python 3.11).
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
        started = [_Worker(self._job, wanted) for _ in range(self.workers)]
        self._idle += started
        try:
            for worker in started:
                check_ready(self.name, answered(self.name, tasks, worker.ready.result), place)
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
                why = f": {self._problem}" if self._problem else ""
                raise BrokenExecutor(f"a worker process died, and could not be started again{why}")
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
        """End all processes, side by side: each takes a while to end."""
        with self._mutex:
            self._closed = True
            workers = [*self._idle, *self._busy.values(), *self._starting]
        closing = [threading.Thread(target=worker.close, kwargs={"at_once": at_once}) for worker in workers]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def _done(self, answer: Answer) -> None:
        with self._mutex:
            worker = self._busy.pop(answer)
            if answer.exception() is None:
                self._idle.append(worker)
            elif not self._closed:
                worker.kill()  # what its metric has started
                worker.pool.shutdown(wait=False)
                new = _Worker(self._job, asked(()))
                self._starting.add(new)
                new.ready.add_done_callback(partial(self._begun, new))

    def _begun(self, worker: _Worker, ready: Future[Ready]) -> None:
        with self._mutex:
            self._starting.discard(worker)
            if not ready.cancelled() and ready.exception() is None:
                self._problem = ready.result().problem
                if self._problem:
                    worker.pool.shutdown(wait=False)
                else:
                    self._idle.append(worker)
        self._changed()
