"""What `CM.<base_name>` is: a function that serves one metric, and all its rows together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from smm._hidden_frames import HiddenFrames
from smm._warm import Known
from smm.collect import Row, Rows
from smm.errors import HeldBackError, MetricNotStoredError
from smm.metric import Function, NameFunction, Record

if TYPE_CHECKING:
    from smm._tables import Table
    from smm.run import RunReport

P = ParamSpec("P")
R = TypeVar("R")


class CollectedMetric(Protocol):
    """What `CM.<base_name>` is: a function that serves the metric, with these attributes."""

    __name__: str
    __doc__: str | None
    __wrapped__: Function
    base_name: str
    original_function: Function
    params_list: Any
    """Equal to what was given, a copy in the same container types."""
    name_generation_function: NameFunction | None

    def __call__(self, *params: Any, use_stored: bool = True, cache: bool = True, **named: Any) -> Any:
        """The metric at these params, from memory, else the storage, else computed and stored.

        `use_stored=False` computes again and replaces both; `cache=False` calls the plain function.
        """

    def get_all(self, use_stored: bool = True, verbose: bool | None = None) -> list[Any]:
        """Every row's value in the order of `params_list`, computing what is missing."""

    def iter_all(self, use_stored: bool = True, verbose: bool | None = None) -> Iterator[Any]:
        """Every row's value in the order of `params_list`, one by one, each computed when it is asked for.

        Memory holds afterwards what it held before: for sweeps whose values do not fit there together.
        """

    def run(self, **options: Any) -> RunReport:
        """Bring every row to the storage, without giving the values: `CM.run` of this metric."""

    def name(self, *params: Any, **named: Any) -> str:
        """The metric name at these params. Touches neither memory nor storage."""

    def names(self) -> list[str]:
        """The metric name of each declared row, in order. Touches neither memory nor storage."""

    def exists(self, *params: Any, **named: Any) -> bool:
        """Whether the value is in memory, or stored with its side-car."""

    def record(self, *params: Any, **named: Any) -> Record:
        """The side-car's record, read from the storage."""

    def to_dict(self, *, compute: bool = False) -> dict[str, Any]:
        """What is there of the declared rows, by metric name, in order. Leaves in memory what was there.

        `compute=True` first computes and stores what is missing, as `get_all` does; so do the other two.
        """

    def to_frame(self, engine: str | None = None, *, compute: bool = False) -> Any:
        """A frame of pandas, or with `engine="polars"` of polars: for each row its params, then its value."""

    def to_xarray(self, *, compute: bool = False) -> Any:
        """A DataArray over the params, or a Dataset of one for each key if the values are dicts."""


class Cached(Protocol, Generic[P, R]):
    """A decorated function: the plain function, and a way through the manager with `cache=True`."""

    __name__: str
    __doc__: str | None
    __wrapped__: Callable[P, R]

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: Any, cache: bool, use_stored: bool = True, **kwargs: Any) -> R: ...


def function_object(rows: Rows) -> CollectedMetric:
    """`CM.<base_name>`: a function, because a call of one costs less than a method of an object."""
    manager = rows.manager
    collected = functools.wraps(rows.function, updated=())(_serving(rows))

    def name(*params: Any, **named: Any) -> str:
        return rows.name(params, named)

    def exists(*params: Any, **named: Any) -> bool:
        return manager.exists(rows.name(params, named))

    def record(*params: Any, **named: Any) -> Record:
        return manager.record(rows.name(params, named))

    def run(**options: Any) -> RunReport:
        return manager.run(rows.names, **options)

    together = _Together(rows)
    attributes = {
        "base_name": rows.base_name,
        "original_function": rows.function,
        "params_list": rows.params_list,
        "name_generation_function": rows.name_generation_function,
        "get_all": together.get_all,
        "iter_all": together.iter_all,
        "run": run,
        "name": name,
        "names": lambda: list(rows.names),
        "exists": exists,
        "record": record,
        "to_dict": together.to_dict,
        "to_frame": together.to_frame,
        "to_xarray": together.to_xarray,
    }
    vars(collected).update(attributes)
    return cast("CollectedMetric", collected)


def _serving(rows: Rows) -> Callable[..., Any]:
    """Serves one call of a metric."""
    manager, serve = rows.manager, rows.manager.serve

    def served(params: tuple[Any, ...], named: dict[str, Any], use_stored: bool, cache: bool) -> Any:
        __tracebackhide__ = manager.hidden_frames
        if not cache:
            return Row(rows, rows.binder.bind(params, named))()
        name, row = rows.find(params, named)
        # Noted the second time: most rows of a sweep are asked for once. Of ignored arguments each value
        # would be one more call to note.
        if name in manager.cache and not named and not rows.binder.ignore:
            known.note(params, name)
        return serve(name, row, use_stored=use_stored)

    only = rows.names[0] if len(rows.names) == 1 else None
    known = Known(rows.binder.plain_arguments, only, manager._cell, serve, served, manager.hidden_frames)
    return known.function


class _Together:
    """All declared rows of a metric at once; the methods do what `CollectedMetric` says."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._manager = rows.manager

    def get_all(self, use_stored: bool = True, verbose: bool | None = None) -> list[Any]:
        """Every row's value in the order of `params_list`.

        Computes with the manager's `executor`, and in the calling thread within another metric. A row that
        fails does not keep the others from being computed and stored.

        Raises:
            Exception: the first failing row's own, with a note that says how many failed.
            RunInterrupted: (a KeyboardInterrupt) Ctrl-C; what was running has been finished and stored.
        """
        __tracebackhide__ = self._manager.hidden_frames
        rows, manager = self._rows, self._manager
        failures = manager.bring_all(rows.names, use_stored=use_stored, verbose=verbose)
        values = []
        for name in rows.names:
            if name not in failures:
                try:
                    values.append(manager.serve(name, None, verbose=verbose))
                except Exception as error:  # noqa: BLE001 - kept, and raised below
                    failures[name] = error
        if failures:
            failed = [failures[name] for name in rows.names if name in failures]
            own = [error for error in failed if not isinstance(error, HeldBackError)]
            first = (own or failed)[0]
            first.add_note(
                f"{len(failures)} of {len(rows.entries)} rows of {rows.base_name!r} failed; "
                "the others are stored"
            )
            raise first
        return values

    def iter_all(self, use_stored: bool = True, verbose: bool | None = None) -> Iterator[Any]:
        """Every row's value in the order of `params_list`, one by one.

        Raises:
            Exception: (on the way) a row's own; the rows after it can still be had from another iterator.
        """
        __tracebackhide__ = self._manager.hidden_frames
        cache = self._manager.cache
        done: set[str] = set()
        for name in self._rows.names:
            before = set(cache)
            # A repeated row is one metric: computed again at most once.
            fresh = use_stored or name in done
            try:
                value = self._manager.serve(name, None, use_stored=fresh, verbose=verbose)
            finally:
                self._manager._release(before.__contains__)
            done.add(name)
            yield value

    def to_dict(self, *, compute: bool = False) -> dict[str, Any]:
        """As `CollectedMetric` says; `to_frame` and `to_xarray`, too."""
        from smm._columns import MISSING

        __tracebackhide__ = self._manager.hidden_frames
        return {cell.name: cell.value for cell in self._table(compute).cells if cell.value is not MISSING}

    def to_frame(self, engine: str | None = None, *, compute: bool = False) -> Any:
        from smm._tables import frame_maker

        __tracebackhide__ = self._manager.hidden_frames
        make = frame_maker(engine)  # that a library is missing is said before anything is computed
        return make(self._table(compute))

    def to_xarray(self, *, compute: bool = False) -> Any:
        from smm._tables import array_maker

        __tracebackhide__ = self._manager.hidden_frames
        make = array_maker()
        return make(self._table(compute))

    def _table(self, compute: bool) -> Table:
        """The declared rows and their values; memory holds afterwards what it held before."""
        from smm._tables import Cell, Table, argument_names

        __tracebackhide__ = self._manager.hidden_frames
        before = set(self._manager.cache)
        try:
            names = self._rows.names
            values = (
                dict(zip(names, self.get_all(), strict=True))
                if compute
                else {name: self._stored(name) for name in dict.fromkeys(names)}
            )
        finally:
            self._manager._release(before.__contains__)
        cells = [
            Cell(name=name, params=self._rows.entries[name].params(), value=value)
            for name, value in values.items()
        ]
        arguments = argument_names(
            self._rows.base_name, self._rows.function, self._rows.binder.ignore, self._rows.inputs
        )
        return Table(base_name=self._rows.base_name, arguments=arguments, cells=cells)

    def _stored(self, name: str) -> Any:
        try:
            return self._manager.load(name)
        except MetricNotStoredError:
            from smm._columns import MISSING

            return MISSING


def decorated(function: Callable[P, R], collected: CollectedMetric, hidden: HiddenFrames) -> Cached[P, R]:
    """Return what the decorated name becomes: the plain function, unless called with `cache=True`."""

    @functools.wraps(function)
    def wrapper(*args: Any, cache: bool = False, use_stored: bool | None = None, **kwargs: Any) -> Any:
        __tracebackhide__ = hidden
        if cache:
            return collected(*args, use_stored=use_stored is not False, **kwargs)
        if use_stored is not None:
            raise TypeError(
                f"{collected.base_name}(..., use_stored={use_stored}) is for the manager: add cache=True"
            )
        return function(*args, **kwargs)

    return cast("Cached[P, R]", wrapper)
