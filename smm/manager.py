"""The managers: declare metrics, and serve them by name or by a function of the same name."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from smm import _warm, collect
from smm._executors import check_executor, check_workers
from smm._imported import note_imports
from smm._policies import parse_manager_trust, parse_trust, written_age
from smm._running import Running
from smm._text import parse_limit, parse_time
from smm.collect import NO_PARAMS, Row, Rows
from smm.collected import Cached, CollectedMetric, decorated, function_object
from smm.errors import DeclarationError, NameClashError, UnknownMetricError, closest
from smm.identity import Binder, check_base_name
from smm.metric import STALE_ON, Function, Metric, NameFunction, OnStale, StaleOn
from smm.protocols import StorageInterface

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import attrs
else:
    from smm import _attrs as attrs

P = ParamSpec("P")
R = TypeVar("R")

RESERVED = frozenset({"status", "rename", "verify", "report"})
"""Names of methods to come, which no collected metric may take."""


class DatedCacheManager(Running):
    """Named metrics over one storage: computed once, cached in memory and stored, dated by side-cars.

    May be shared by many threads: each metric is computed by one of them, different ones at the same time.
    Managers in other processes on the same folder count as such threads.

    Args:
        storage_interface: where results are kept; a folder stands for NpzStorageInterface in it.
        verbose: print a line for each action; the same lines go to the logger `smm` in any case.
        read_only: give every caller the same read-only arrays; if False, a writable copy each.
        executor: what `run` and `get_all` use unless they are told otherwise: `threads`, `processes`, `dask`,
            the address of a dask scheduler, or any `concurrent.futures.Executor`.
        workers: how many of them; None for one per processor.
        memory_limit: how much the values in memory may take, as bytes or `"2 GiB"`; what was used longest ago
            leaves, to be read again from the storage. Values that are not stored yet stay besides. None for
            no limit.
        on_stale: what becomes of a stored value that is stale: `serve` it, `warn` once and serve it,
            `recompute` it, or raise an `error`. A metric may have a policy of its own, in these three.
        max_age: how old a stored value may be: `"7d"`, or a timedelta; None for any age.
        stale_on: what makes a stored value stale: of `code`, `inputs` and `age`; none of them for nothing.
    """

    dynamic_metric_creation = False

    def __init__(
        self,
        storage_interface: StorageInterface | str | os.PathLike[str],
        *,
        verbose: bool = True,
        read_only: bool = True,
        executor: str | Executor = "threads",
        workers: int | None = None,
        memory_limit: int | str | None = None,
        on_stale: OnStale = "warn",
        max_age: str | timedelta | None = None,
        stale_on: Iterable[StaleOn] = STALE_ON,
    ) -> None:
        check_executor(executor)
        check_workers(workers)
        limit = parse_limit(memory_limit)
        trust = parse_manager_trust(on_stale, max_age, stale_on)
        storage = _storage_of(storage_interface)
        super().__init__(storage, verbose=verbose, read_only=read_only, memory_limit=limit)
        self._staleness.trust = trust
        self.executor = executor
        self.workers = workers
        self._recipe = None
        self._manual: set[str] = set()  # names that set_functions_dict gave
        self._rows: dict[str, Rows] = {}
        self._expected: dict[str, Metric] = {}  # declared without a function, which @CM.collect brings

    # --- declaring --------------------------------------------------------------------------------------

    def set_functions_dict(self, functions_dict: Mapping[str, Callable[..., Any]]) -> None:
        """Declare metrics by a dict of names to functions without arguments.

        Replaces what an earlier call gave, whose values leave memory; collected metrics stay. A function
        with a parameter called `CM` is given this manager.

        Raises:
            NameClashError: a name belongs to a collected metric.
            DeclarationError: a value is no function, or one that cannot be a metric's.
            TypeError: a function needs arguments.
            MetricNameError: no metric can have this name.
        """
        entries = {name: self._manual_entry(name, function) for name, function in functions_dict.items()}
        for name in self._manual:
            self._forget(name)
        self._manual = set(entries)
        self.functions_dict.update(entries)

    def _manual_entry(self, name: str, function: Callable[..., Any]) -> Callable[[], Any]:
        check_base_name(name)
        if name in self._rows or isinstance(self.functions_dict.get(name), Row):
            raise NameClashError(base_name=name, reason="a collected metric has this name; give another one")
        if not callable(function):
            raise DeclarationError(
                base_name=name, reason=f"{function!r} is no function; give one without arguments"
            )
        binder = Binder(function, base_name=name)
        if binder.needs_params:
            binder.bind((), {})  # says what is missing
        collect.first_declared(function)
        return functools.partial(function, CM=self) if binder.takes_manager else function

    @overload
    def collect(self, base_name: Callable[P, R], /) -> Cached[P, R]: ...
    @overload
    def collect(
        self,
        base_name: str | None = None,
        params_list: Any = NO_PARAMS,
        name_generation_function: NameFunction | None = None,
        ignore: Sequence[str] = (),
        timeout: str | timedelta | None = None,
        retries: int = 0,
        on_stale: OnStale | None = None,
        max_age: str | timedelta | None = None,
        stale_on: Iterable[StaleOn] | None = None,
    ) -> Callable[[Callable[P, R]], Cached[P, R]]: ...
    def collect(
        self,
        base_name: Any = None,
        params_list: Any = NO_PARAMS,
        name_generation_function: NameFunction | None = None,
        ignore: Sequence[str] = (),
        timeout: str | timedelta | None = None,
        retries: int = 0,
        on_stale: OnStale | None = None,
        max_age: str | timedelta | None = None,
        stale_on: Iterable[StaleOn] | None = None,
    ) -> Any:
        """Declare a function as a metric: `@CM.collect`, or `@CM.collect(params_list=[[1, 2], [1, 3]])`.

        Adds `CM.<base_name>`, which serves the metric (`CollectedMetric`). The decorated name stays the plain
        function; called with `cache=True` it goes through the manager. A function that is not written in
        Python, such as `np.sin`, is called with the arguments that a call gives, no defaults.

        Args:
            base_name: the metric's name; the function's own by default.
            params_list: any iterable of rows: by position `[1, 2]`, by name `{"a": 1, "b": 2}`, or a scalar
                for one argument. It is copied.
            name_generation_function: `(base_name, params) -> metric name` in place of smm's scheme.
            ignore: arguments that are no part of a call's identity.
            timeout: a row that computes longer is stopped, and failed: `"10min"`, or a timedelta. Needs
                workers that are processes.
            retries: how many more times a row that failed is tried in the same run.
            on_stale: what becomes of a stored value of this metric that is stale, in place of what the
                manager says: `serve`, `warn`, `recompute` or `error`.
            max_age: how old a stored value of this metric may be: `"7d"`, or a timedelta.
            stale_on: what makes one stale: of `code`, `inputs` and `age`; none of them for nothing.

        Raises:
            DeclarationError: the function or its name cannot be a metric's, or params are given to a manager
                without them.
            NameClashError: a metric of this name is declared already, by another function.
            TypeError: a row does not fit the function.
            ValueError: `timeout` or `max_age` is no time, or has no unit; `retries` is no whole number from
                0; `on_stale` or `stale_on` has another word.
        """
        if callable(base_name):
            bare = self.collect(
                None,
                params_list,
                name_generation_function,
                ignore,
                timeout,
                retries,
                on_stale,
                max_age,
                stale_on,
            )
            return bare(base_name)
        timeout_seconds = parse_time("timeout", timeout)
        trust = parse_trust(on_stale, max_age, stale_on)
        kept = collect.copied(params_list)  # now: the caller may change the rows before the function comes

        def decorator(function: Callable[P, R]) -> Cached[P, R]:
            metric = Metric(
                base_name=collect.name_of(function) if base_name is None else base_name,
                function=function,
                params_list=kept,
                name_generation_function=name_generation_function,
                ignore=(ignore,) if isinstance(ignore, str) else tuple(ignore),
                trust=trust,
                timeout_seconds=timeout_seconds,
                retries=retries,
            )
            expected = self._expected.get(metric.base_name)
            if expected is not None:
                metric = collect.completed(expected, metric)
            self._add(metric, function)
            return decorated(function, getattr(self, metric.base_name), self.hidden_frames)

        return decorator

    def declare(self, metric: Metric) -> None:
        """Declare a metric by value, as a configuration does.

        Without a function it waits for `@CM.collect` of its base name, which then brings the function only.

        Raises:
            DeclarationError, NameClashError, MetricNameError, TypeError: as for `collect`.
        """
        if not collect.has_no_params(metric):
            metric = attrs.evolve(metric, params_list=collect.copied(metric.params_list))
        self._declare(metric)

    def _declare(self, metric: Metric) -> None:
        """The same of a metric whose params list nobody else holds."""
        if metric.function is not None:
            self._add(metric, metric.function)
        else:
            self._check_free(metric.base_name)
            self._expected[metric.base_name] = metric

    def _add(self, metric: Metric, function: Function) -> None:
        note_imports()  # soon after they were imported: what is edited later is not the code that runs
        name = metric.base_name
        before = self._rows.get(name)
        if before is None:
            self._check_free(name)
        elif not collect.same_definition(before.function, function):
            raise NameClashError(
                base_name=name,
                reason="another function has this name already; give one of the two a base_name of its own",
            )
        binder = collect.binder_of(metric, function)
        self._check_params_allowed(metric, binder)
        rows = Rows(self, metric, function, binder)
        self._check_names_free(rows, before)
        # Nothing is refused from here on: a declaration happens whole or not at all.
        if before is not None:
            for old in before.all_names():
                self._forget(old)
            del self._rows[name]
            vars(self).pop(name, None)
        self.functions_dict.update(rows.entries)
        self._rows[name] = rows

    def _check_free(self, base_name: str) -> None:
        check_base_name(base_name)
        if base_name in RESERVED or base_name in vars(self) or hasattr(type(self), base_name):
            raise DeclarationError(
                base_name=base_name,
                reason="the manager has an attribute of that name; give another one with base_name=...",
            )

    def _check_params_allowed(self, metric: Metric, binder: Binder) -> None:
        """A manager without params takes metrics of one value only."""
        if not collect.has_no_params(metric) or binder.needs_params:
            raise DeclarationError(
                base_name=metric.base_name,
                reason=f"it has params, which {type(self).__name__} does not take; "
                "make a ParameterizedDatedCacheManager",
            )

    def _check_names_free(self, rows: Rows, before: Rows | None) -> None:
        for name in filter(self.functions_dict.__contains__, rows.entries):
            taken = self.functions_dict.get(name)
            if taken is not None and not (isinstance(taken, Row) and taken.rows is before):
                raise NameClashError(
                    base_name=rows.base_name,
                    reason=f"its metric name {name!r} is taken by {taken!r}; rename one of the two",
                )

    # --- to other processes -----------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """As the recipe by which another process makes it again (`smm._recipe`); never its memory."""
        from smm._recipe import reduced

        return reduced(self)

    def _options(self) -> dict[str, Any]:
        """The constructor's keyword arguments, as they are now; an executor object stays behind."""
        given: dict[str, Any] = {
            "verbose": self.verbose,
            "read_only": self.read_only,
            "workers": self.workers,
            "memory_limit": self.memory_limit,
            "on_stale": self.on_stale,
            "max_age": written_age(self.max_age_seconds),
            "stale_on": self.stale_on,
        }
        return given | ({"executor": self.executor} if isinstance(self.executor, str) else {})

    def _declarations(self) -> dict[str, Any]:
        """All that is declared, by value."""
        others = {name: entry for name, entry in self.functions_dict.items() if not isinstance(entry, Row)}
        return {
            "metrics": [rows.metric for rows in self._rows.values()],
            "expected": [metric for name, metric in self._expected.items() if name not in self._rows],
            "functions": others,
            "manual": sorted(self._manual),
        }

    def __setstate__(self, declarations: dict[str, Any]) -> None:
        for metric in (*declarations["metrics"], *declarations["expected"]):
            self.declare(metric)
        self.functions_dict.update(declarations["functions"])
        self._manual = set(declarations["manual"])

    def _forget(self, name: str) -> None:
        self.functions_dict.pop(name, None)
        self._drop(name)
        self._drop_readers()

    # --- looking ----------------------------------------------------------------------------------------

    def _rows_under(self, base_name: str) -> Sequence[str] | None:
        rows = self._rows.get(base_name)
        return None if rows is None or base_name in self.functions_dict else rows.all_names()

    def rows_of(self, base_name: str) -> Rows:
        """The rows collected under a base name.

        Raises:
            UnknownMetricError: nothing is; the message names the closest base name.
        """
        rows = self._rows.get(base_name)
        if rows is None:
            raise UnknownMetricError(name=base_name, hint=closest(base_name, self._rows))
        return rows

    @property
    def show_internal_frames(self) -> bool:
        """Show smm's own frames, too, where IPython and pytest print an exception; False by default.

        Also holds for an exception that was raised before: `%tb` of IPython prints it again.
        """
        return self.hidden_frames.shown

    @show_internal_frames.setter
    def show_internal_frames(self, shown: bool) -> None:
        self.hidden_frames.shown = shown

    @property
    def parameterized_metrics(self) -> list[CollectedMetric]:
        """What `collect` has added, in order."""
        return [getattr(self, name) for name in self._rows]

    @property
    def waiting(self) -> tuple[str, ...]:
        """Base names declared without a function, that `@CM.collect` has not brought yet."""
        return tuple(name for name in self._expected if name not in self._rows)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.functions_dict or self.exists(name))

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.functions_dict))

    def __getitem__(self, name: str) -> Any:
        __tracebackhide__ = self.hidden_frames
        if not _warm.in_flight:
            try:
                return self._cells[name][1]
            except (LookupError, TypeError):  # not in memory, or no name
                pass
        return self.get(name)

    def __repr__(self) -> str:
        counts = [f"{len(self.functions_dict)} declared", f"{len(self.cache)} in memory"]
        if self._unsaved:
            counts.append(f"{len(self._unsaved)} unsaved")
        return f"<{type(self).__name__}: {', '.join(counts)}, {self.storage_interface!r}>"

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.functions_dict)

    def __dir__(self) -> Iterable[str]:
        return {*super().__dir__(), *self._rows}

    def __getattr__(self, name: str) -> CollectedMetric:
        # Collected metrics become attributes when they are first asked for: only then one comes here.
        rows = vars(self).get("_rows", {})
        if name in rows:
            served: CollectedMetric = vars(self).setdefault(name, function_object(rows[name]))
            return served
        if name in vars(self).get("_expected", {}):
            raise AttributeError(
                f"metric {name!r} is declared without a function; decorate one of that name with @CM.collect"
            )
        raise AttributeError(f"{type(self).__name__} has no metric or method {name!r}{closest(name, rows)}")


class ParameterizedDatedCacheManager(DatedCacheManager):
    """A `DatedCacheManager` whose collected metrics take params.

    Args:
        storage_interface: where results are kept; a folder stands for NpzStorageInterface in it.
        verbose: print a line for each action; the same lines go to the logger `smm` in any case.
        read_only: give every caller the same read-only arrays; if False, a writable copy each.
        executor: what `run` and `get_all` use unless they are told otherwise: `threads`, `processes`, `dask`,
            the address of a dask scheduler, or any `concurrent.futures.Executor`.
        workers: how many of them; None for one per processor.
        memory_limit: how much the values in memory may take, as bytes or `"2 GiB"`; what was used longest ago
            leaves, to be read again from the storage. Values that are not stored yet stay besides. None for
            no limit.
        on_stale: what becomes of a stored value that is stale: `serve` it, `warn` once and serve it,
            `recompute` it, or raise an `error`. A metric may have a policy of its own, in these three.
        max_age: how old a stored value may be: `"7d"`, or a timedelta; None for any age.
        stale_on: what makes a stored value stale: of `code`, `inputs` and `age`; none of them for nothing.
        dynamic_metric_creation: serve params that no row declares; otherwise they are refused.
    """

    def __init__(
        self,
        storage_interface: StorageInterface | str | os.PathLike[str],
        *,
        verbose: bool = True,
        read_only: bool = True,
        dynamic_metric_creation: bool = False,
        executor: str | Executor = "threads",
        workers: int | None = None,
        memory_limit: int | str | None = None,
        on_stale: OnStale = "warn",
        max_age: str | timedelta | None = None,
        stale_on: Iterable[StaleOn] = STALE_ON,
    ) -> None:
        super().__init__(
            storage_interface,
            verbose=verbose,
            read_only=read_only,
            executor=executor,
            workers=workers,
            memory_limit=memory_limit,
            on_stale=on_stale,
            max_age=max_age,
            stale_on=stale_on,
        )
        self.dynamic_metric_creation = dynamic_metric_creation

    def _options(self) -> dict[str, Any]:
        """The constructor's keyword arguments, as they are now."""
        return super()._options() | {"dynamic_metric_creation": self.dynamic_metric_creation}

    def _check_params_allowed(self, metric: Metric, binder: Binder) -> None:
        """Any params list is welcome."""


def _storage_of(given: StorageInterface | str | os.PathLike[str]) -> StorageInterface:
    """Return the storage that a manager is given; of a folder, the npz storage in it.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(given, str | os.PathLike):
        from smm.storage import NpzStorageInterface

        return NpzStorageInterface(given)
    missing = [name for name in ("exists", "save", "load") if not callable(getattr(given, name, None))]
    if isinstance(given, type):
        raise TypeError(f"storage_interface is the class {given.__name__}; give an object of it: make one")
    if missing:
        raise TypeError(
            f"storage_interface is {given!r}, which has no method {missing[0]!r}; give a storage such as "
            "smm.NpzStorageInterface('results'), or the folder itself"
        )
    return given
