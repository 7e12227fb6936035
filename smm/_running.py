"""Many metrics at once: what `run`, `plan` and `get_all` of a manager do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smm import _flights
from smm._keeping import hushed
from smm._trusting import Trusting
from smm.collect import Row, Rows

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from smm._pace import Forecast
    from smm._recipe import Recipe
    from smm.metric import Reason
    from smm.run import Failed, Plan, RunReport

# What runs is imported when there is something to run (`smm._carrying`): most processes only serve.


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
        keep_trying: bool = False,
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
            keep_trying: compute the other rows of a metric after the storage has refused the value of one.
                They are held back else, since it would most likely refuse theirs, too.
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
            SmmWarning: a stored value is stale, once for each metric; looks at 32 rows of each.
        """
        from smm import _carrying

        chosen = self._chosen(names)
        if not force:
            self._save_unsaved(chosen, False)  # what cannot be stored now is one of the rows to compute
        planning: dict[str, Any] = {
            "force": force,
            "retry_failed": retry_failed,
            "keep_trying": keep_trying,
        }
        planned, stored = self._planned(chosen, **planning)
        if unreadable := self._tell_of_stale(planned.stored):
            planned, stored = self._planned(chosen, **planning, missing=unreadable)
        show = self.verbose if progress is None else progress
        engine = _carrying.engine_of(
            self.executor if executor is None else executor,
            self.workers if workers is None else workers,
            needed=bool(planned.compute),
        )
        log = _carrying.new_log(self) if planned.compute or planned.skipped else None
        with _carrying.watching(show) as watch, contextlib.closing(log) if log else contextlib.nullcontext():
            how = _carrying.How(
                engine=engine, keep_going=keep_going, keep_trying=keep_trying, watch=watch, log=log
            )
            loud = hushed.set(True)
            try:
                return _carrying.carried_out(self, planned, stored, how)
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
    ) -> Forecast:
        """What `run` with the same arguments would compute and why, and what it would take. Computes nothing.

        Reads the side-cars of a few rows of each metric, for the seconds and bytes that its rows take.

        Raises:
            UnknownMetricError, CircularMetricError: as `run`.
        """
        from smm import _carrying, _pace
        from smm._select import groups

        planned, stored = self._planned(self._chosen(names), force=force, retry_failed=retry_failed)
        by_base = groups(self)
        paces = _pace.recorded(self, _carrying.involved(planned, by_base), stored)
        count = _carrying.worker_count(self.executor if executor is None else executor, workers, self.workers)
        return _pace.forecast(planned, by_base, paces, count)

    def bring(self, name: str, use_stored: bool = True, *, verbose: bool | None = None) -> bool:
        """See that the metric is stored, computing it if need be; whether this call computed it.

        Raises:
            As `get`.
        """
        __tracebackhide__ = self.hidden_frames
        if use_stored and name not in self._unsaved:
            sidecar = self._shelf.sidecar(name) if self._shelf.exists(name) else None
            if sidecar is not None:
                self._update_inputs(name, sidecar)
                if self._stale_for_a_run(name) is None:
                    return False
            elif name in self.cache and not self.storage_interface.exists(name):
                self._set_unsaved(name, True)  # its file was taken away: what memory has is stored again
        return self._settle(name, None, use_stored, verbose, looked=use_stored)[1]

    def bring_all(
        self, names: Sequence[str], *, use_stored: bool = True, verbose: bool | None = None
    ) -> dict[str, BaseException]:
        """See that all are stored or in memory; the errors of those that failed, by name.

        Values stay in memory if the workers share it. Within another metric, the calling thread computes.
        """
        from smm._select import stored_names
        from smm.run import plan

        self._drop_outdated()
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
            stale=self._stale_for_this_run() if self._may_recompute else None,
        )
        if not planned.compute:
            return failed
        from smm import _carrying

        nested = _flights.current() is not None
        how = _carrying.How(
            engine=_carrying.inline() if nested else _carrying.engine_of(self.executor, self.workers),
            keep_all=True,
            verbose=self.verbose if verbose is None else verbose,
            watch=_carrying.Silent(),
        )
        report = _carrying.carried_out(self, planned, stored, how)
        wanted = set(names)
        return failed | {
            outcome.name: outcome.error
            for outcome in report.outcomes
            if outcome.error is not None and outcome.name in wanted
        }

    def _save_unsaved(self, names: Sequence[str], verbose: bool | None) -> dict[str, BaseException]:
        """Store what memory has and the storage has not; here, since no other process knows these values."""
        failed: dict[str, BaseException] = {}
        for name in names if self._unsaved else ():
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

    # --- planning ---------------------------------------------------------------------------------------

    def _chosen(self, names: str | Iterable[str] | None) -> list[str]:
        from smm._select import select

        if names is None:
            return select(self, ())
        patterns = [names] if isinstance(names, str) else list(names)
        return select(self, patterns) if patterns else []

    def _planned(
        self,
        chosen: Sequence[str],
        *,
        force: bool,
        retry_failed: bool,
        keep_trying: bool = False,
        missing: Collection[str] = (),
    ) -> tuple[Plan, Collection[str]]:
        from smm._select import stored_names
        from smm.run import plan

        stored = stored_names(self) - self._unsaved - set(missing)
        failed = None
        if not retry_failed:
            failed = self._failed_before if keep_trying else self._not_worth_a_try
        stale = self._stale_for_this_run() if self._may_recompute else None
        return plan(self, chosen, force=force, stored=stored, failed=failed, stale=stale), stored

    def _stale_for_this_run(self) -> Callable[[str], Reason | None]:
        look = self._staleness.look()
        return lambda name: self._stale_for_a_run(name, look)

    def _not_worth_a_try(self, names: Collection[str]) -> Mapping[str, Failed]:
        """Of these, those that failed before, and the other rows of metrics that the storage refused then."""
        from smm._select import base_name

        failed = dict(self._failed_before(names))
        refused = {
            base_name(self, name): noted for name, noted in failed.items() if noted.kind == "UnstorableError"
        }
        if refused:
            for name in names:
                if (noted := refused.get(base_name(self, name))) is not None:
                    failed.setdefault(name, noted)
        return failed

    def _failed_before(self, names: Collection[str]) -> Mapping[str, Failed]:
        from smm._runlog import failures

        folder = self._shelf.folder
        return {} if folder is None else failures(folder, names, self._noted_declaration)

    # --- what a run asks --------------------------------------------------------------------------------

    def _add_row(self, base_name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        """Declare a row by its call, as a call with `dynamic_metric_creation` does; its metric name."""
        return self.rows_of(base_name).find(tuple(args), kwargs)[0]

    @property
    def _place(self) -> str:
        """Where results are stored: the folder, else the class of the storage."""
        return self._shelf.where

    def _noted_declaration(self, name: str) -> dict[str, Any]:
        """What a row's failure may come from besides its code."""
        storage = self.storage_interface
        noted: dict[str, Any] = {"storage": type(storage).__qualname__}
        for option in ("allow_pickle", "list_limit"):  # which decide on what is refused
            if getattr(storage, option, None):
                noted[option] = getattr(storage, option)
        row = self.functions_dict.get(name)
        if isinstance(row, Row):
            noted |= {"timeout_seconds": row.rows.timeout_seconds, "reads": None}
            with contextlib.suppress(Exception):  # its inputs cannot be told, which the plan says
                noted["reads"] = row.reads()
        return noted
