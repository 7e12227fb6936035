"""Carries a plan out over an engine: what is ready first, in batches, past failures and dead workers."""

from __future__ import annotations

import heapq
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from smm._child import ChildDiedError
from smm._engines import LOOK_EVERY_SECONDS, Answer, Engine, Inline
from smm._pace import Paces
from smm._worker import Batch, Task, UnfitError, failed
from smm.errors import (
    FailedBeforeError,
    HeldBackError,
    MetricNotStoredError,
    TimedOutError,
    UnstorableError,
    WorkerDiedError,
)
from smm.run import Outcome, Plan, Runnable, Status

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

BATCH_SECONDS = 0.1
"""How long a batch should take: long beside the 0.2 ms of a message, short beside a person's patience."""

_MOST_IN_BATCH = 1000
_DEATHS = 3
"""How often a worker may die over one row before that row has failed."""


class Memory:
    """Takes out of a shared manager's memory what a run brings there.

    What was computed goes with its batch, and comes back from the storage for its readers: of a sweep whose
    rows read each other one by one, the order of the run would otherwise keep half in memory.
    """

    def __init__(self, manager: Runnable, planned: Plan, *, keep_all: bool) -> None:
        self._manager = manager
        self._before = set(manager.cache)
        self._keep_all = keep_all
        self._reads = planned.reads
        self._readers: dict[str, int] = {}
        for name in planned.compute:
            for read in planned.reads[name]:
                self._readers[read] = self._readers.get(read, 0) + 1

    def is_wanted(self, name: str) -> bool:
        """Whether a row still to come reads it, or memory held it before the run."""
        return name in self._before or self._readers.get(name, 0) > 0

    def wanted_of(self, tasks: tuple[Task, ...]) -> frozenset[str]:
        """Of what these rows read, what others read too."""
        mine: dict[str, int] = {}
        for task in tasks:
            for read in self._reads[task.name]:
                mine[read] = mine.get(read, 0) + 1
        return frozenset(read for read, count in mine.items() if self._readers.get(read, 0) > count)

    def ended(self, name: str) -> None:
        """A row will not read again."""
        for read in self._reads[name]:
            self._readers[read] -= 1

    def sweep(self, done: Collection[str]) -> None:
        """Let go of what these rows have computed, and of all that is not wanted; unsaved values stay."""
        if not self._keep_all:
            done = set(done) - self._before
            self._manager._release(lambda name: name not in done and self.is_wanted(name))


class Schedule:
    """One run of one plan. Used by one thread; workers answer through a queue.

    Args:
        manager: whose metrics are run; asked only what is stored.
        planned: what there is to do.
        tasks: for each row to compute.
        retries: for each row, how often it is tried again after a failure.
        engine: opened for this run.
        paces: what rows take; learns.
        keep_going: go on after a failure; else stop.
        keep_all: leave computed values in memory, where the engine shares it.
        keep_trying: go on with the rows of a metric after the storage has refused one of them.
        base_name: gives the base name of a row.
        verbose: have workers print what they do.
        caught_up: called when all that has ended has been given, before the next rows are waited for.
    """

    def __init__(
        self,
        manager: Runnable,
        planned: Plan,
        tasks: Mapping[str, Task],
        retries: Callable[[str], int],
        engine: Engine,
        paces: Paces,
        *,
        keep_going: bool = True,
        keep_all: bool = False,
        keep_trying: bool = False,
        base_name: Callable[[str], str] = lambda name: name,
        verbose: bool = False,
        caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._manager = manager
        self._plan = planned
        self.tasks = tasks
        self._retries = retries
        self._engine = engine
        self.paces = paces
        self._memory = Memory(manager, planned, keep_all=keep_all)
        self._keep_going = keep_going
        self._keep_trying = keep_trying
        self._base_name = base_name
        self._refusals: dict[str, HeldBackError] = {}  # by base name
        self._verbose = verbose
        self._caught_up = caught_up
        self._since = datetime.now(UTC)
        # Waited for in pieces: a signal that comes just before a wait does not end it.
        self._events: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._next_look = 0.0
        self._order = {name: index for index, name in enumerate(planned.compute)}
        self._ready: list[tuple[int, str]] = []  # a heap: what comes first in the plan goes first
        self._alone: set[str] = set()  # rows of a batch whose worker died: which of them was it?
        self._unmet: dict[str, int] = {}
        self._readers: dict[str, list[str]] = {}
        self._tries: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._deaths: dict[str, int] = {}
        self._flying: dict[Answer, Batch] = {}
        self._deadlines: dict[Answer, float] = {}
        self._ended: dict[str, Outcome] = {}
        self._stopping = False
        self.interrupted = False

    def stop(self) -> None:
        """Begin nothing more. May be called by a signal handler."""
        self._stopping = True
        self._events.put(None)

    def changed(self) -> None:
        """The engine can take more. May be called by any thread."""
        self._events.put(None)

    @property
    def left(self) -> int:
        """Rows that were planned and have not ended."""
        return len(self._plan.compute) + len(self._plan.skipped) - len(self._ended)

    @property
    def suspects(self) -> tuple[str, ...]:
        """Rows that were being computed, or over which workers died before, and that have not ended."""
        flying = [task.name for batch in self._flying.values() for task in batch.tasks]
        names = [*self._deaths, *sorted(self._alone, key=self._order.__getitem__), *flying]
        return tuple(name for name in dict.fromkeys(names) if name not in self._ended)

    def outcomes(self) -> Iterator[Outcome]:
        """Give each metric's outcome as soon as it has ended.

        Raises:
            KeyboardInterrupt: at once; whatever has been given as computed is stored.
            BrokenExecutor: there are no workers any more.
        """
        for name in self._plan.stored:
            yield Outcome(name=name, status="stored")
        yield from self._begin()
        while True:
            self._caught_up()
            self._submit()
            if not self._flying and (self._stopping or not self._ready):
                return
            yield from self._next()

    # --- what is ready ----------------------------------------------------------------------------------

    def _begin(self) -> Iterator[Outcome]:
        plan = self._plan
        for name, noted in plan.skipped.items():
            error = FailedBeforeError(name=noted.name, kind=noted.kind, text=noted.message)
            upstream = next((read for read in plan.reads[name] if read in plan.skipped), None)
            where = noted.where if upstream is None else None
            yield self._note(
                Outcome(name=name, status="skipped", error=error, where=where, upstream=upstream)
            )
        if not (plan.unreadable or any(plan.reads.values())):
            self._ready = [(index, name) for name, index in self._order.items()]
            return
        for name in plan.compute:
            unmet = [read for read in plan.reads[name] if read in self._order]
            self._unmet[name] = len(unmet)
            for read in unmet:
                self._readers.setdefault(read, []).append(name)
        # Only now: what ends at once must find its readers.
        for name in [name for name in plan.compute if not self._unmet[name]]:
            yield from self._met(name)

    def _met(self, name: str) -> Iterator[Outcome]:
        """All that a row reads has ended: it is ready, or will never be."""
        waiting = deque([name])
        while waiting:
            name = waiting.popleft()
            hindrance = self._hindrance(name)
            if hindrance is None:
                heapq.heappush(self._ready, (self._order[name], name))
            else:
                yield self._note(hindrance)
                waiting += self._freed_by(name)

    def _freed_by(self, name: str) -> list[str]:
        freed = []
        for reader in self._readers.get(name, ()):
            self._unmet[reader] -= 1
            if not self._unmet[reader]:
                freed.append(reader)
        return freed

    def _hindrance(self, name: str) -> Outcome | None:
        """The outcome of a row that cannot be computed; None for one that can."""
        if name in self._plan.unreadable:
            return failed(name, self._plan.unreadable[name])
        for read in self._plan.reads[name]:
            outcome = self._ended.get(read)
            if outcome is not None and outcome.error is not None:
                status: Status = "held" if outcome.status == "held" else "failed"
                return Outcome(name=name, status=status, error=outcome.error, upstream=read)
        return self._held(name)

    def _held(self, name: str) -> Outcome | None:
        """The outcome of a row that is held back, since the storage refused another row of the metric."""
        refusal = self._refusals.get(self._base_name(name)) if self._refusals else None
        return None if refusal is None else Outcome(name=name, status="held", error=refusal)

    def _hold_back(self) -> Iterator[Outcome]:
        """Take the rows of metrics whose values are refused out of those that are ready."""
        held = [outcome for _, name in self._ready if (outcome := self._held(name)) is not None]
        if held:
            names = {outcome.name for outcome in held}
            self._ready = [entry for entry in self._ready if entry[1] not in names]
            heapq.heapify(self._ready)
        for outcome in sorted(held, key=lambda outcome: self._order[outcome.name]):
            yield self._note(outcome)
            for reader in self._freed_by(outcome.name):
                yield from self._met(reader)

    def _note(self, outcome: Outcome) -> Outcome:
        self._ended[outcome.name] = outcome
        if outcome.status == "failed" and not self._keep_going:
            self._stopping = True
        if outcome.name in self._order:
            self._memory.ended(outcome.name)
        return outcome

    # --- to the workers ---------------------------------------------------------------------------------

    def _submit(self) -> None:
        while self._ready and not self._stopping and len(self._flying) < self._engine.capacity():
            batch = self._batch()
            answer = self._engine.submit(batch)
            self._flying[answer] = batch
            timeout = batch.tasks[0].timeout_seconds
            if timeout is not None:
                self._deadlines[answer] = time.monotonic() + timeout
            answer.add_done_callback(self._events.put)

    def _batch(self) -> Batch:
        """The next rows, for as long as a batch should take; what is not known to be short goes alone."""
        share = max(1, len(self._ready) // (2 * max(1, self._engine.capacity())))
        tasks: list[Task] = []
        expected = 0.0
        while self._ready and len(tasks) < min(share, _MOST_IN_BATCH):
            name = self._ready[0][1]
            task = self.tasks[name]
            seconds = self.paces.seconds(name)
            single = seconds is None or task.timeout_seconds is not None or name in self._alone
            expected += seconds or 0.0
            if tasks and (single or expected > BATCH_SECONDS):
                break
            tasks.append(task)
            heapq.heappop(self._ready)
            if single:
                break
        keep = self._memory.wanted_of(tuple(tasks)) if self._engine.apart else frozenset()
        return Batch(
            tasks=tuple(tasks),
            keep=keep,
            keep_going=self._keep_going,
            keep_trying=self._keep_trying,
            verbose=self._verbose,
        )

    # --- and back ---------------------------------------------------------------------------------------

    def _next(self) -> Iterator[Outcome]:
        """Wait for an answer, or for a row's time to be up, and give what has ended by it."""
        answer = self._wait()
        if answer is None or answer not in self._flying:
            return
        batch = self._flying.pop(answer)
        deadline = self._deadlines.pop(answer, math.inf)
        error = _error_of(answer)
        if error is None:
            outcomes = answer.result()
        elif isinstance(error, KeyboardInterrupt):  # raised by a metric, or the second Ctrl-C
            self._stopping = self.interrupted = True
            outcomes = [found for task in batch.tasks for found in self._in_time(task)]
        elif len(batch.tasks) == 1 and time.monotonic() >= deadline:
            outcomes = self._in_time(batch.tasks[0]) or [self._too_late(batch.tasks[0])]
        else:
            outcomes = self._after_a_death(batch, error)
        done = {outcome.name for outcome in outcomes}
        for task in batch.tasks:
            if task.name not in done:
                heapq.heappush(self._ready, (self._order[task.name], task.name))
        for outcome in outcomes:
            if outcome.status == "computed":
                self.paces.learn(outcome.name, outcome.seconds)
        broken = self._submit_ahead(outcomes)
        for outcome in outcomes:
            yield from self._end(outcome)
        if self._refusals and len(done) < len(batch.tasks):
            yield from self._hold_back()
        if not self._engine.apart:
            self._memory.sweep(done)
        if broken is not None:
            raise broken

    def _submit_ahead(self, outcomes: Collection[Outcome]) -> BrokenExecutor | None:
        """Give the worker its next rows before going through the last ones, so that it need not wait.

        Not where these decide what comes next, nor where `submit` returns when all is done. What it raises is
        to be raised when the outcomes have been given.
        """
        if self._readers or isinstance(self._engine, Inline) or any(each.error for each in outcomes):
            return None
        try:
            self._submit()
        except BrokenExecutor as error:
            return error
        return None

    def _wait(self) -> Answer | None:
        """Return the next answer; None if there is none yet, or something else has changed.

        Raises:
            BrokenExecutor: the workers are gone.
        """
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY_SECONDS
            self._engine.look()
        for answer, deadline in list(self._deadlines.items()):
            if now >= deadline and not self._engine.kill(answer):
                del self._deadlines[answer]  # its worker keeps the time itself
        nearest = min(self._deadlines.values(), default=math.inf)
        # Once it is killed, the answer comes soon.
        timeout = min(max(nearest - now, 0.05), LOOK_EVERY_SECONDS)
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def _end(self, outcome: Outcome) -> Iterator[Outcome]:
        name = outcome.name
        if outcome.status == "failed" or name in self._tries:
            tries = self._tries[name] = self._tries.get(name, 0) + 1
            seconds = self._seconds[name] = self._seconds.get(name, 0.0) + outcome.seconds
            is_refused = isinstance(outcome.error, UnstorableError)  # it would be refused again
            may_retry = outcome.status == "failed" and not self._stopping and not is_refused
            if may_retry and tries <= self._retries(name):
                heapq.heappush(self._ready, (self._order[name], name))
                return
            outcome = attrs.evolve(outcome, tries=tries, seconds=seconds)
        yield self._note(outcome)
        for reader in self._freed_by(name):
            yield from self._met(reader)
        if isinstance(outcome.error, UnstorableError) and not self._keep_trying:
            refusal = HeldBackError(name=name, refusal=str(outcome.error))
            self._refusals.setdefault(self._base_name(name), refusal)
            yield from self._hold_back()

    def _too_late(self, task: Task) -> Outcome:
        seconds = task.timeout_seconds or 0.0
        return failed(task.name, TimedOutError(name=task.name, seconds=seconds), seconds=seconds)

    def _after_a_death(self, batch: Batch, error: BaseException) -> list[Outcome]:
        """What a batch had stored when its worker died; the rest is tried again, each row by itself.

        Raises:
            BrokenExecutor: no worker is there any more, or none that could work.
            BaseException: `error`, if it is none of these.
        """
        if isinstance(error, UnfitError | CancelledError):
            self._alone.update(task.name for task in batch.tasks)
            given_up = "it has given up what it was asked for; does its scheduler still run?"
            raise BrokenExecutor(str(error) or given_up) from error
        if not _is_a_death(error):
            raise error
        ended: list[Outcome] = []
        for task in batch.tasks:
            ended += self._in_time(task)
            if not ended or ended[-1].name != task.name:
                self._alone.add(task.name)
        if len(batch.tasks) == 1 and not ended:
            (task,) = batch.tasks
            # Dask has given it to several workers before it says so.
            count = _DEATHS if type(error).__name__ == "KilledWorker" else 1
            deaths = self._deaths[task.name] = self._deaths.get(task.name, 0) + count
            if deaths >= _DEATHS:  # more, if it is tried again after that
                ended.append(failed(task.name, WorkerDiedError(name=task.name, tries=deaths)))
        return ended

    def _in_time(self, task: Task) -> list[Outcome]:
        """The outcome of a row that was stored by a worker which cannot tell any more; else nothing."""
        try:
            record = self._manager.record(task.name) if self._manager.exists(task.name) else None
        except MetricNotStoredError:
            record = None
        # What was there when the run was planned, forced or stale, is not what the worker was to store.
        again = not task.use_stored or self._plan.reasons[task.name].kind not in ("missing", "needed")
        if record is None or (again and record.date < self._since):
            return []
        status: Status = "computed" if record.date >= self._since else "stored"
        return [Outcome(name=task.name, status=status, seconds=record.duration_seconds or 0.0)]


def _error_of(answer: Answer) -> BaseException | None:
    try:
        return answer.exception()
    except CancelledError as error:  # by the executor itself, as dask's does when its scheduler is gone
        return error


def _is_a_death(error: BaseException) -> bool:
    """Whether an answer failed to come because its worker is gone."""
    if isinstance(error, BrokenExecutor | ChildDiedError):
        return True
    # dask's, which is not imported for this alone
    return type(error).__name__ in ("KilledWorker", "CommClosedError", "TerminatedWorkerError")
