"""Many metrics at once: what `run`, `plan` and `get_all` of a manager do."""

from __future__ import annotations

import contextlib
import functools
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from datetime import UTC, datetime
from typing import Any

import attrs

from smm import _flights, _pace
from smm._engines import Engine, Foreign, Idle, Inline, Threads, processors
from smm._executors import check_executor, check_workers
from smm._interrupt import asked_politely
from smm._keeping import hushed
from smm._processes import Processes
from smm._progress import Silent, Watch, watching
from smm._recipe import Recipe, packed
from smm._runlog import RunLog, Source, failures
from smm._schedule import Schedule
from smm._select import base_names, groups, select, stored_names
from smm._trusting import Trusting
from smm._worker import Job, Task, shared
from smm.collect import Row, Rows, first_declared, unwrapped
from smm.errors import RunInterrupted, RunRefusedError, WorkersLostError
from smm.metric import Function
from smm.run import Failed, Outcome, Plan, RunReport, plan


@attrs.frozen(kw_only=True)
class _How:
    """How one run goes about its plan."""

    engine: Engine
    keep_going: bool = True
    keep_all: bool = False
    """Leave values in memory."""
    verbose: bool = False
    watch: Watch
    log: RunLog | None = None


class Running(Trusting):
    """A manager that brings many of its metrics to the storage, with many workers."""

    executor: str | Executor
    workers: int | None
    _recipe: Recipe | None
    """How it was made, if a configuration did that."""

    def rows_of(self, base_name: str) -> Rows:
        """The rows collected under a base name."""
        raise NotImplementedError

    # --- what there is to do ----------------------------------------------------------------------------

    def run(
        self,
        names: str | Iterable[str] | None = None,
        *,
        executor: str | Executor | None = None,
        workers: int | None = None,
        force: bool = False,
        keep_going: bool = True,
        retry_failed: bool = False,
        progress: bool | None = None,
    ) -> RunReport:
        """Bring every declared metric, or those named, to the storage: what is missing is computed.

        Upstream comes first, by the declared inputs. Workers compute and store; memory holds afterwards what
        it held before. A metric that fails stops nothing but what depends on it; its error is kept in the
        log, `.smm/runs/` in the folder of the results, and it is not tried again by later runs until its code
        or an input changes. Running again computes only what is missing, and with `on_stale="recompute"` what
        is stale.

        Ctrl-C, or SIGTERM, lets running rows end and be stored; a second one stops at once.

        Args:
            names: metric names, base names (for all their rows) or globs; None for all that is declared.
            executor: `threads`, `processes`, `dask`, the address of a dask scheduler, or any
                `concurrent.futures.Executor`, which stays open; None for the manager's own.
            workers: how many; None for the manager's own, or one per processor. One thread is this one.
            force: compute those of `names` that are stored, too.
            keep_going: go on after a failure; False ends the run after it, as Ctrl-C does.
            retry_failed: also try what failed in an earlier run.
            progress: tell on standard error how far it is: bars on a terminal or in a notebook, else lines.
                None for what the manager's `verbose` says.

        Raises:
            UnknownMetricError: a name means nothing.
            CircularMetricError: a metric would read itself.
            RunRefusedError, TravelError: the workers could not work; nothing was computed.
            WorkersLostError: they died, and no others took their place.
            RunInterrupted: (a KeyboardInterrupt) it was interrupted; carries the report.
            StaleMetricError: a stored value is stale, and `on_stale` is `error`; nothing was computed.

        Warns:
            SmmWarning: a stored value is stale, once for each metric; looks at 100 rows of each.
        """
        chosen = self._chosen(names)
        if not force:
            self._save_unsaved(chosen, False)  # what cannot be stored now is one of the rows to compute
        planned, stored = self._planned(chosen, force=force, retry_failed=retry_failed)
        self._tell_of_stale(planned.stored)
        show = self.verbose if progress is None else progress
        engine = self._engine(executor, workers, needed=bool(planned.compute))
        log = self._new_log() if planned.compute or planned.skipped else None
        with watching(show) as watch, contextlib.closing(log) if log else contextlib.nullcontext():
            how = _How(engine=engine, keep_going=keep_going, watch=watch, log=log)
            loud = hushed.set(True)
            try:
                return self._carried_out(planned, stored, how)
            finally:
                hushed.reset(loud)

    def plan(
        self,
        names: str | Iterable[str] | None = None,
        *,
        executor: str | Executor | None = None,
        workers: int | None = None,
        force: bool = False,
        retry_failed: bool = False,
    ) -> _pace.Forecast:
        """What `run` with the same arguments would compute and why, and what it would take. Computes nothing.

        Reads the side-cars of a few rows of each metric, for the seconds and bytes that its rows take.

        Raises:
            UnknownMetricError, CircularMetricError: as `run`.
        """
        planned, stored = self._planned(self._chosen(names), force=force, retry_failed=retry_failed)
        by_base = groups(self)
        paces = _pace.recorded(self, _involved(planned, by_base), stored)
        count = self._worker_count(self.executor if executor is None else executor, workers)
        return _pace.forecast(planned, by_base, paces, count)

    def bring(self, name: str, use_stored: bool = True, *, verbose: bool | None = None) -> bool:
        """See that the metric is stored, computing it if need be; whether this call computed it.

        Raises:
            As `get`.
        """
        if use_stored and name not in self._unsaved:
            if self._shelf.exists(name):
                if self._stale_for_a_run(name) is None:
                    return False
            elif name in self.cache and not self.storage_interface.exists(name):
                self._set_unsaved(name, True)  # its file was taken away: what memory has is stored again
        return self._settle(name, None, use_stored, verbose)[1]

    def bring_all(
        self, names: Sequence[str], *, use_stored: bool = True, verbose: bool | None = None
    ) -> dict[str, BaseException]:
        """See that all are stored or in memory; the errors of those that failed, by name.

        Values stay in memory if the workers share it. Within another metric, the calling thread computes.
        """
        failed = self._save_unsaved(names, verbose) if use_stored else {}
        missing = [name for name in names if name not in self.cache] if use_stored else names
        if not missing:
            return failed
        stored = stored_names(self, missing)
        planned = plan(
            self,
            missing,
            force=not use_stored,
            stored=stored | set(self.cache),
            stale=self._stale_for_a_run,
        )
        if not planned.compute:
            return failed
        nested = _flights.current() is not None
        say = self.verbose if verbose is None else verbose
        how = _How(
            engine=Inline() if nested else self._engine(None, None),
            keep_all=True,
            verbose=say,
            watch=Silent(),
        )
        report = self._carried_out(planned, stored, how)
        wanted = set(names)
        return failed | {
            outcome.name: outcome.error
            for outcome in report.outcomes
            if outcome.error is not None and outcome.name in wanted
        }

    def _save_unsaved(self, names: Sequence[str], verbose: bool | None) -> dict[str, BaseException]:
        """Store what memory has and the storage has not; here, since no other process knows these values."""
        failed: dict[str, BaseException] = {}
        for name in names:
            if name in self._unsaved:
                try:
                    self.bring(name, verbose=verbose)
                except Exception as error:  # noqa: BLE001 - one of the failures that the caller is told of
                    failed[name] = error
        return failed

    def _release(self, is_wanted: Callable[[str], bool]) -> None:
        """Let values leave memory that are not wanted there; what is not stored yet stays."""
        for name in [name for name in list(self.cache) if not is_wanted(name)]:
            if name not in self._unsaved:
                self._drop(name)

    # --- carrying it out --------------------------------------------------------------------------------

    def _chosen(self, names: str | Iterable[str] | None) -> list[str]:
        if names is None:
            return select(self, ())
        patterns = [names] if isinstance(names, str) else list(names)
        return select(self, patterns) if patterns else []

    def _planned(
        self, chosen: Sequence[str], *, force: bool, retry_failed: bool
    ) -> tuple[Plan, Collection[str]]:
        stored = stored_names(self) - self._unsaved
        failed = None if retry_failed else self._failed_before
        return plan(
            self, chosen, force=force, stored=stored, failed=failed, stale=self._stale_for_a_run
        ), stored

    def _failed_before(self, names: Collection[str]) -> Mapping[str, Failed]:
        folder = self._shelf.folder
        return {} if folder is None else failures(folder, names, self._noted_declaration)

    def _carried_out(self, planned: Plan, stored: Collection[str], how: _How) -> RunReport:
        started = time.perf_counter()
        outcomes: list[Outcome] = []
        engine = how.engine
        schedule = self._schedule(planned, stored, how)

        def report(*, interrupted: bool = False) -> RunReport:
            return RunReport(
                outcomes=tuple(outcomes),
                seconds=time.perf_counter() - started,
                left=schedule.left,
                interrupted=interrupted,
                executor=engine.name,
                workers=engine.workers,
                log=how.log.path if how.log is not None else None,
            )

        with self._at_work(engine, planned, schedule):
            try:
                with self._interruptible(schedule):
                    for outcome in how.watch.over(
                        schedule.outcomes(), planned, schedule.paces, engine.workers
                    ):
                        self._check_arrived(outcome, engine)
                        outcomes.append(outcome)
                        if how.log is not None:
                            how.log.add(outcome)
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

    def _check_arrived(self, outcome: Outcome, engine: Engine) -> None:
        """Refuse workers that store where this process never looks; of folders, that is known beforehand."""
        if engine.apart and outcome.status == "computed" and self._shelf.folder is None:
            if self._shelf.exists(outcome.name):
                return
            raise RunRefusedError(
                executor=engine.name,
                reason=f"a worker has stored {outcome.name!r}, and this process does not find it: each has a "
                f"{self._place} of its own; use executor='threads', or a storage that they share",
            )

    @contextlib.contextmanager
    def _interruptible(self, schedule: Schedule) -> Iterator[None]:
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
    def _at_work(self, engine: Engine, planned: Plan, schedule: Schedule) -> Iterator[None]:
        """Open the engine for the length of a block, if there is anything to do."""
        if not planned.compute:
            yield
            return
        job = Job(token=secrets.token_hex(8))
        tasks = list(schedule.tasks.values())
        with shared(job.token, self):
            pack = functools.partial(packed, self)
            engine.open(job, tasks, pack, self._place, schedule.changed)
            at_once = True
            try:
                yield
                at_once = False
            finally:
                engine.close(at_once=at_once)

    def _schedule(self, planned: Plan, stored: Collection[str], how: _How) -> Schedule:
        base_name = base_names(self)
        paces = _pace.Paces(
            lambda name: base_name.get(name, name),
            _pace.recorded(self, _involved(planned, groups(self)), stored)
            if len(planned.compute) > 1
            else {},
        )
        forced = planned.forced
        nested = _flights.current() is not None
        return Schedule(
            self,
            planned,
            {name: self._task(name, name not in forced, nested) for name in planned.compute},
            self._retries,
            how.engine,
            paces,
            keep_going=how.keep_going,
            keep_all=how.keep_all,
            verbose=how.verbose,
        )

    def _task(self, name: str, use_stored: bool, nested: bool) -> Task:
        row = self.functions_dict.get(name)
        if not isinstance(row, Row):
            return Task(name=name, use_stored=use_stored)
        call = None
        if name not in row.rows.entries:  # a call has added it
            call = (row.rows.base_name, *row.call.arguments())
        timeout = None if nested else row.rows.timeout_seconds  # the outer metric's time is what counts
        return Task(name=name, use_stored=use_stored, call=call, timeout_seconds=timeout)

    def _add_row(self, base_name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        """Declare a row by its call, as a call with `dynamic_metric_creation` does; its metric name."""
        return self.rows_of(base_name).find(tuple(args), kwargs)[0]

    @property
    def _place(self) -> str:
        """Where results are stored: the folder, else the class of the storage."""
        return self._shelf.where

    def _retries(self, name: str) -> int:
        row = self.functions_dict.get(name)
        return row.rows.retries if isinstance(row, Row) else 0

    # --- workers ----------------------------------------------------------------------------------------

    def _engine(self, executor: str | Executor | None, workers: int | None, *, needed: bool = True) -> Engine:
        executor = self.executor if executor is None else executor
        workers = self.workers if workers is None else workers
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

    def _worker_count(self, executor: str | Executor, workers: int | None) -> int:
        """How many workers a run would have, without asking a cluster."""
        check_executor(executor)
        check_workers(workers)
        own = getattr(executor, "_max_workers", None) if isinstance(executor, Executor) else None
        return workers or self.workers or own or processors()

    # --- the log ----------------------------------------------------------------------------------------

    def _new_log(self) -> RunLog | None:
        folder = self._shelf.folder
        if folder is None:
            return None
        return RunLog(
            folder,
            datetime.now(UTC),
            source_of=self._source_of,
            params_of=self._noted_params,
            declared_of=self._noted_declaration,
        )

    def _source_of(self, name: str) -> Source | None:
        entry = self.functions_dict.get(name)
        function = entry.rows.function if isinstance(entry, Row) else entry
        file = _file_of(function)
        return None if file is None else Source(file=file, declared=first_declared(function))

    def _noted_declaration(self, name: str) -> dict[str, Any]:
        """What a row's failure may come from besides its code."""
        noted: dict[str, Any] = {"storage": type(self.storage_interface).__qualname__}
        row = self.functions_dict.get(name)
        if isinstance(row, Row):
            noted |= {"timeout_seconds": row.rows.timeout_seconds, "reads": None}
            with contextlib.suppress(Exception):  # its inputs cannot be told, which the plan says
                noted["reads"] = row.reads()
        return noted

    def _noted_params(self, name: str) -> Mapping[str, Any] | None:
        row = self.functions_dict.get(name)
        return row.noted_params() if isinstance(row, Row) else None


def _involved(planned: Plan, by_base: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The metrics of which rows are to be computed, with all their rows."""
    compute = set(planned.compute)
    return {base: names for base, names in by_base.items() if not compute.isdisjoint(names)}


def _interrupted(report: RunReport) -> RunInterrupted:
    done, left = len(report.of("computed")), report.left
    return RunInterrupted(
        f"interrupted: {done:,} computed and stored, {left:,} left; run again for the rest", report
    )


def _file_of(function: Function | None) -> str | None:
    """The file of a function's code; None for what has none: built-in, from a prompt."""
    function = unwrapped(function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    file = getattr(code, "co_filename", None)
    return file if isinstance(file, str) else None
