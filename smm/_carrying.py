"""One run of a manager, carried out: from its plan to its report.

Everything that only a run needs is imported here, when the first one begins: most processes only serve what
is stored.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from smm import _flights, _pace
from smm._engines import Engine, Foreign, Idle, Inline, Threads, processors
from smm._executors import check_executor, check_workers
from smm._interrupt import asked_politely
from smm._processes import Processes
from smm._progress import Silent as Silent
from smm._progress import Watch
from smm._progress import watching as watching
from smm._recipe import packed
from smm._runlog import RunLog, Source
from smm._schedule import Schedule
from smm._select import base_name, groups
from smm._worker import Job, Task, shared
from smm.collect import Row, first_declared, unwrapped
from smm.errors import RunInterrupted, RunRefusedError, UnstorableError, WorkersLostError
from smm.metric import Function
from smm.run import Outcome, Plan, RunReport

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs


@attrs.frozen(kw_only=True)
class How:
    """How one run goes about its plan."""

    engine: Engine
    keep_going: bool = True
    keep_all: bool = False
    """Leave values in memory."""
    keep_trying: bool = False
    """Go on with the rows of a metric after the storage has refused one of them."""
    verbose: bool = False
    watch: Watch
    log: RunLog | None = None


def carried_out(manager: Any, planned: Plan, stored: Collection[str], how: How) -> RunReport:
    """Do what a plan says.

    Args:
        manager: whose plan it is (`smm._running.Running`).
        planned: what there is to do.
        stored: names that are stored already.
        how: with which workers, and who looks on.

    Raises:
        WorkersLostError: the workers died, and no others took their place.
        RunInterrupted: it was interrupted; carries the report.
        RunRefusedError: the workers store where this process does not look.
    """
    started = time.perf_counter()
    outcomes: list[Outcome] = []
    engine = how.engine
    schedule = _schedule(manager, planned, stored, how)

    def report(*, interrupted: bool = False) -> RunReport:
        if how.log is not None:
            how.log.flush()
        return RunReport(
            outcomes=tuple(outcomes),
            seconds=time.perf_counter() - started,
            left=schedule.left,
            interrupted=interrupted,
            executor=engine.name,
            workers=engine.workers,
            log=how.log.path if how.log is not None else None,
        )

    with _at_work(manager, engine, planned, schedule):
        try:
            with _interruptible(schedule):
                for outcome in how.watch.over(schedule.outcomes(), planned, schedule.paces, engine.workers):
                    outcomes.append(outcome)
                    if outcome.status not in ("stored", "held"):
                        _check_arrived(manager, outcome, engine)
                        _keep_refused(manager, outcome, engine)
                        if how.log is not None:
                            how.log.hold(outcome)
        except KeyboardInterrupt as error:
            schedule.interrupted = True
            engine.close(at_once=True)
            raise _interrupted(report(interrupted=True)) from error
        except BrokenExecutor as error:
            lost = WorkersLostError(executor=engine.name, reason=str(error), names=schedule.suspects)
            raise lost from error
    if schedule.interrupted:
        raise _interrupted(report(interrupted=True))
    return report()


def _check_arrived(manager: Any, outcome: Outcome, engine: Engine) -> None:
    """Refuse workers that store where this process never looks; of folders, that is known beforehand."""
    if engine.apart and outcome.status == "computed" and manager._shelf.folder is None:
        if manager._shelf.exists(outcome.name):
            return
        raise RunRefusedError(
            executor=engine.name,
            reason=f"a worker has stored {outcome.name!r}, and this process does not find it: each has a "
            f"{manager._place} of its own; use executor='threads', or a storage that they share",
        )


def _keep_refused(manager: Any, outcome: Outcome, engine: Engine) -> None:
    """Keep a value that a worker in another process computed and its storage refused."""
    error = outcome.error
    if engine.apart and isinstance(error, UnstorableError) and error.value is not None:
        manager._keep_refused(outcome.name, error.value, outcome.seconds)


@contextlib.contextmanager
def _interruptible(schedule: Schedule) -> Iterator[None]:
    """Let Ctrl-C stop the schedule; within another metric it is that one's run that stops."""
    if _flights.current() is not None:
        yield
        return

    def first() -> None:
        schedule.interrupted = True
        schedule.stop()
        with contextlib.suppress(RuntimeError):  # somebody is in the middle of printing there
            print(  # noqa: T201 - a person has just pressed Ctrl-C
                "stopping: what is running is finished and stored; Ctrl-C again stops at once",
                file=sys.stderr,
                flush=True,
            )

    with asked_politely(first):
        yield


@contextlib.contextmanager
def _at_work(manager: Any, engine: Engine, planned: Plan, schedule: Schedule) -> Iterator[None]:
    """Open the engine for the length of a block, if there is anything to do."""
    if not planned.compute:
        yield
        return
    job = Job(token=secrets.token_hex(8))
    tasks = list(schedule.tasks.values())
    with shared(job.token, manager):
        pack = functools.partial(packed, manager)
        engine.open(job, tasks, pack, manager._place, schedule.changed)
        at_once = True
        try:
            yield
            at_once = False
        finally:
            engine.close(at_once=at_once)


def _schedule(manager: Any, planned: Plan, stored: Collection[str], how: How) -> Schedule:
    paces = _pace.Paces(
        lambda name: base_name(manager, name),
        _pace.recorded(manager, involved(planned, groups(manager)), stored)
        if len(planned.compute) > 1
        else {},
    )

    def retries(name: str) -> int:
        row = manager.functions_dict.get(name)
        return row.rows.retries if isinstance(row, Row) else 0

    return Schedule(
        manager,
        planned,
        _tasks(manager, planned),
        retries,
        how.engine,
        paces,
        keep_going=how.keep_going,
        keep_all=how.keep_all,
        keep_trying=how.keep_trying,
        base_name=lambda name: base_name(manager, name),
        verbose=how.verbose,
        caught_up=how.log.flush if how.log is not None else lambda: None,
    )


def _tasks(manager: Any, planned: Plan) -> dict[str, Task]:
    forced = planned.forced
    nested = _flights.current() is not None  # then the outer metric's time is what counts
    tasks = {}
    for name in planned.compute:
        row, call, timeout = manager.functions_dict.get(name), None, None
        if isinstance(row, Row):
            timeout = None if nested else row.rows.timeout_seconds
            if name not in row.rows.entries:  # a call has added it
                call = (row.rows.base_name, *row.call.arguments())
        tasks[name] = Task(name=name, use_stored=name not in forced, call=call, timeout_seconds=timeout)
    return tasks


def involved(planned: Plan, by_base: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The metrics of which rows are to be computed, with all their rows."""
    compute = set(planned.compute)
    return {base: names for base, names in by_base.items() if not compute.isdisjoint(names)}


def _interrupted(report: RunReport) -> RunInterrupted:
    done, left = len(report.of("computed")), report.left
    return RunInterrupted(
        f"interrupted: {done:,} computed and stored, {left:,} left; run again for the rest", report
    )


# --- workers ---------------------------------------------------------------------------------------------


def engine_of(executor: str | Executor, workers: int | None, *, needed: bool = True) -> Engine:
    """What works off a run; one that has nothing to do if there is no need for it.

    Raises:
        ValueError: it is no executor, or no number of workers.
    """
    check_executor(executor)
    check_workers(workers)
    if isinstance(executor, Executor):
        count = workers or getattr(executor, "_max_workers", None) or processors()
        return Foreign(executor, name=type(executor).__name__, workers=count)
    if executor == "threads":
        count = workers or processors()
        return Threads(count) if count > 1 else Inline()
    if executor == "processes":
        return Processes(workers or processors())
    if not needed:
        return Idle("dask", workers or processors())
    from smm import _dask

    return _dask.engine(None if executor == "dask" else executor, workers)


def inline() -> Engine:
    """The calling thread."""
    return Inline()


def worker_count(executor: str | Executor, workers: int | None, usual: int | None) -> int:
    """How many workers a run would have, without asking a cluster.

    Args:
        executor: of the run.
        workers: how many the run was told.
        usual: how many the manager was told.

    Raises:
        ValueError: as `engine_of`.
    """
    check_executor(executor)
    check_workers(workers)
    own = getattr(executor, "_max_workers", None) if isinstance(executor, Executor) else None
    return workers or usual or own or processors()


# --- the log ---------------------------------------------------------------------------------------------


def new_log(manager: Any) -> RunLog | None:
    """Where a run notes what it does; None for a storage without a folder."""
    folder = manager._shelf.folder
    if folder is None:
        return None

    def source_of(name: str) -> Source | None:
        entry = manager.functions_dict.get(name)
        function = entry.rows.function if isinstance(entry, Row) else entry
        file = _file_of(function)
        return None if file is None else Source(file=file, declared=first_declared(function))

    def params_of(name: str) -> Mapping[str, Any] | None:
        row = manager.functions_dict.get(name)
        return row.noted_params() if isinstance(row, Row) else None

    return RunLog(
        folder,
        datetime.now(UTC),
        source_of=source_of,
        params_of=params_of,
        declared_of=manager._noted_declaration,
    )


def _file_of(function: Function | None) -> str | None:
    """The file of a function's code; None for what has none: built-in, from a prompt."""
    function = unwrapped(function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    file = getattr(code, "co_filename", None)
    return file if isinstance(file, str) else None
