"""From a function and its rows to named metrics: what `@CM.collect` and a configuration declare.

A collected metric is a set of rows under one base name. Each row is a callable without arguments under its
metric name in the manager's `functions_dict`. `smm.collected` makes `CM.<base_name>` of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from smm._encoding import ATOMS
from smm._hidden_frames import HiddenFrames
from smm._pause import collector_paused
from smm._text import visible
from smm.errors import DeclarationError, NameClashError, UndeclaredParamsError
from smm.identity import Binder, Call, params_to_json
from smm.metric import Argument, Function, Input, Literal, Metric, Record, SideCar

if TYPE_CHECKING:
    import attrs

    from smm.run import RunReport
else:
    from smm import _attrs as attrs

NO_PARAMS: tuple[tuple[()], ...] = ((),)
"""The params list of a metric without params: one empty row."""


class Keeper(Protocol):
    """What a collected metric needs of its manager."""

    functions_dict: dict[str, Callable[[], Any]]
    cache: MutableMapping[str, Any]
    dynamic_metric_creation: bool
    hidden_frames: HiddenFrames

    def serve(
        self,
        name: str,
        row: Callable[[], Any] | None,
        *,
        use_stored: bool = True,
        verbose: bool | None = None,
    ) -> Any:
        """The value of `name`, computed by `row` or, if that is None, by its `functions_dict` entry."""

    def _cell(self, name: str) -> list[Any]:
        """Where the quickest calls look for the value of a metric."""

    def load(self, name: str) -> Any:
        """The value from memory, else from the storage."""

    def bring_all(
        self, names: Sequence[str], *, use_stored: bool = True, verbose: bool | None = None
    ) -> dict[str, BaseException]:
        """See that all are stored, computing what is missing; the errors of those that failed."""

    def _release(self, is_wanted: Callable[[str], bool]) -> None:
        """Let values leave memory that are not wanted there; what is not stored yet stays."""

    @property
    def run(self) -> Callable[..., RunReport]:
        """Brings metrics to the storage, and reports."""

    def exists(self, name: str) -> bool:
        """Whether the value is in memory, or stored with its side-car."""

    def record(self, name: str) -> Record:
        """The side-car's record."""

    def rows_of(self, base_name: str) -> Rows:
        """The rows collected under this base name."""


class Row:
    """One call of a collected metric, as the function without arguments that `functions_dict` holds."""

    __slots__ = ("_call", "rows")

    def __init__(self, rows: Rows, call: Call | tuple[Any, Any]) -> None:
        self.rows = rows
        self._call = call  # or the key by which it can be made, since most of 100,000 rows are never asked

    @property
    def call(self) -> Call:
        """The params, as bound to the function."""
        call = self._call
        return call if isinstance(call, Call) else self.rows.binder.call(call)

    def __call__(self) -> Any:
        """Compute the value: call the metric's function with this row's params, its inputs and `CM`."""
        rows, call = self.rows, self.call
        __tracebackhide__ = rows.manager.hidden_frames
        args, kwargs = call.arguments()
        try:
            for argument, name, upstream in rows.upstream(call):
                kwargs[argument] = rows.manager.serve(name, upstream)
            if rows.binder.takes_manager:
                kwargs["CM"] = rows.manager
            return rows.function(*args, **kwargs)
        except BaseException:
            del args, kwargs  # an exception may keep this frame for long, and upstream values may be large
            raise

    def params(self) -> dict[str, Any]:
        """The params that make its identity, by argument name."""
        return self.rows.binder.params(self.call)

    def noted_params(self) -> dict[str, Any]:
        """The same in the form that a record keeps."""
        return params_to_json(self.params())

    def check_record(self, name: str, record: Record | SideCar, where: str) -> None:
        """Refuse what other params have stored under this row's name.

        Raises:
            NameClashError: the record is another call's.
        """
        if record.params is None:
            return
        rows = self.rows
        same = self._is_of(record.params) or _values(record.params) == _values(self.noted_params())
        if record.base_name != rows.base_name or not same:
            raise NameClashError(
                base_name=rows.base_name,
                reason=f"{self!r} would take the name {name!r}, under which {where} holds "
                f"{record.base_name} with params {dict(record.params)}; rename one of the two",
            )

    def _is_of(self, noted: Mapping[str, Any]) -> bool:
        """Whether noted params are this row's, as far as that is seen at once: they are this row's key."""
        values = tuple(noted.values())
        kinds = tuple(map(type, values))
        if not _NOTED_AS_THEY_ARE.issuperset(kinds):
            return False
        key = self._call.key if isinstance(self._call, Call) else self._call
        return bool(key == (kinds, values))

    def reads(self) -> list[str]:
        """Names of the metrics it reads by its declared inputs."""
        return [name for _, name, _ in self.rows.upstream(self.call)]

    def __repr__(self) -> str:
        return visible(f"<row {self.rows.show(self.call)}>")


class Rows:
    """All rows of one base name, and how to bind and name further ones."""

    def __init__(self, manager: Keeper, metric: Metric, function: Function, binder: Binder) -> None:
        self.manager = manager
        self.base_name = metric.base_name
        self.function = function
        self.name_generation_function = metric.name_generation_function
        self.inputs = metric.inputs
        self.metric = metric
        """The declaration itself."""
        self.timeout_seconds = metric.timeout_seconds
        self.retries = metric.retries
        first_declared(function)
        self.binder = binder
        self.params_list = metric.params_list
        self.entries: dict[str, Row] = {}
        """The declared rows by metric name."""
        self.names: list[str] = []
        """The metric name of each row given; a repeated row repeats its name."""
        self._by_key: dict[object, str] = {}
        # Bare @CM.collect over a function with params: the rows come as they are called.
        if not (manager.dynamic_metric_creation and has_no_params(metric) and self.binder.needs_params):
            self._add_rows()

    def _add_rows(self) -> None:
        one_by_one = self.name_generation_function is not None or has_no_params(self.metric)
        with collector_paused():
            if one_by_one or not self._add_alike():
                self._add_each()

    def _add_alike(self) -> bool:
        """Add all rows at once, if they are alike and none of them is refused; says whether it has."""
        alike = self.binder.bind_alike(self.params_list)
        if alike is None:
            return False
        keys, names = alike
        by_key: dict[object, str] = dict(zip(keys, names, strict=True))
        entries = dict(zip(names, [Row(self, key) for key in keys], strict=True))
        if len(entries) < len(by_key):
            return False  # two would share a name
        self._by_key, self.entries, self.names = by_key, entries, names
        return True

    def _add_each(self) -> None:
        for index, row in enumerate(self.params_list):
            try:
                call = self.binder.bind_row(row)
                name = self._by_key.get(call.key)
                if name is None:
                    name = self.binder.name(call, self.name_generation_function)
                    self._claim(name, call)
            except (TypeError, ValueError) as error:
                error.add_note(f"in params_list[{index}] of metric {self.base_name!r}")
                raise
            self.names.append(name)

    def _claim(self, name: str, call: Call) -> None:
        row = Row(self, call)
        other = self.entries.setdefault(name, row)
        if other is not row:
            raise NameClashError(
                base_name=self.base_name,
                reason=f"{self.show(call)} and {self.show(other.call)} would share the name {name!r}; "
                "let name_generation_function tell them apart, or leave it out",
            )
        self._by_key[call.key] = name

    def all_names(self) -> list[str]:
        """Return the names of all rows in order, with those that calls have added since."""
        return list(dict.fromkeys(self._by_key.values()))

    def show(self, call: Call) -> str:
        """The call as a person would write it: `poly_Y(1, 2)`."""
        return self.binder.show(call)

    def find(self, params: tuple[Any, ...], named: dict[str, Any]) -> tuple[str, Row | None]:
        """The metric name of a call, and its row if the call brings arguments of its own.

        Raises:
            TypeError: the call does not fit the function.
            UndeclaredParamsError: no row has these params, and the manager makes none on the way.
        """
        call = self.binder.bind(params, named)
        name = self._by_key.get(call.key)
        functions = self.manager.functions_dict
        if name is None:
            if not self.manager.dynamic_metric_creation:
                raise self._undeclared(call)
            name = self.binder.name(call, self.name_generation_function)
            taken = functions.setdefault(name, Row(self, call))
            if not isinstance(taken, Row) or taken.rows is not self or taken.call.key != call.key:
                raise NameClashError(
                    base_name=self.base_name,
                    reason=f"{self.show(call)} would take the name {name!r} of {taken!r}",
                )
            self._by_key[call.key] = name
        if self.binder.ignore and isinstance(functions.get(name), Row):
            return name, Row(self, call)  # the ignored arguments are this call's, not the row's
        return name, None

    def _undeclared(self, call: Call) -> UndeclaredParamsError:
        from smm._nearest import nearest  # which no call needs that is right

        close = nearest(call, (row.call for row in self.entries.values()))
        return UndeclaredParamsError(
            base_name=self.base_name, call=self.show(call), nearest=self.show(close) if close else ""
        )

    def name(self, params: tuple[Any, ...], named: dict[str, Any]) -> str:
        """The name of a call, declared or not."""
        call = self.binder.bind(params, named)
        return self._by_key.get(call.key) or self.binder.name(call, self.name_generation_function)

    def upstream(self, call: Call) -> list[tuple[str, str, Row | None]]:
        """For each declared input: the argument, the metric name it reads at this row, its own row if any."""
        if not self.inputs:
            return []
        # Also what is no part of the identity: an input may follow an ignored argument.
        given = dict(zip(call.form.names, call.values, strict=True))
        return [(argument, *self._upstream(source, given)) for argument, source in self.inputs.items()]

    def _upstream(self, source: Input, given: Mapping[str, Any]) -> tuple[str, Row | None]:
        def value(param: Argument | Literal) -> Any:
            return given[param.name] if isinstance(param, Argument) else param.value

        rows = self.manager.rows_of(source.metric)
        if isinstance(source.params, Mapping):
            return rows.find((), {name: value(param) for name, param in source.params.items()})
        return rows.find(tuple(map(value, source.params)), {})


_NOTED_AS_THEY_ARE = frozenset({type(None), bool, int, str})


def _values(params: Mapping[str, Any]) -> str:
    """What identifies a call whatever its arguments are called; as text, since 1 == 1.0 == True."""
    return json.dumps(list(params.values()))


def name_of(function: Function) -> str:
    """The base name a function brings.

    Raises:
        DeclarationError: it has none (a partial, an instance).
    """
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise DeclarationError(
            base_name=repr(function), reason="it has no name of its own; give it a base_name"
        )
    return name


_first_declared: WeakKeyDictionary[Function, float] = WeakKeyDictionary()


def first_declared(function: Any) -> float:
    """When this process first declared a function, whoever its manager was, seconds since 1970.

    A module that is loaded again brings another function. One that cannot be remembered is declared now.
    """
    function = unwrapped(function)
    now = time.time()
    try:
        return _first_declared.setdefault(function, now)
    except TypeError:
        return now


def unwrapped(function: Any) -> Any:
    """The function itself, within partials and what decorators have made of it."""
    for _ in range(100):  # a mock has every attribute, for ever
        inner = function.func if isinstance(function, partial) else getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    return function


def same_definition(one: Function, other: Function) -> bool:
    """Whether both come from the same place: a notebook cell run again, a module reloaded."""
    if one is other:
        return True
    origin = getattr(one, "__module__", None), getattr(one, "__qualname__", None)
    # A partial or an instance has no qualified name of its own.
    return origin[1] is not None and origin == (other.__module__, getattr(other, "__qualname__", None))


def has_no_params(metric: Metric) -> bool:
    """Whether the declaration is of one value, without params."""
    rows = metric.params_list
    return isinstance(rows, tuple) and len(rows) == 1 and isinstance(rows[0], tuple) and not rows[0]


def copied(params_list: Any) -> Any:
    """A params list that its giver can no longer change, in the same container types.

    What can be read only once becomes a list.

    Raises:
        TypeError: `params_list` is no iterable of rows.
    """
    rows = params_list
    if type(rows) not in (list, tuple):
        if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
            raise TypeError(f"params_list is {rows!r}; it must be an iterable of rows: [[1, 2], [1, 3]]")
        if isinstance(rows, Iterator):
            rows = list(rows)
    with collector_paused():
        plain = _copied_plain(rows)
    if plain:
        return plain
    import copy

    return copy.deepcopy(rows)


def _copied_plain(rows: Any) -> Any:
    """A copy of rows that hold nothing that could change, which need no closer look; None for others."""
    if type(rows) not in (list, tuple):
        return None
    kinds = set(map(type, rows))
    if ATOMS.issuperset(kinds):
        return rows[:]
    inside = map(dict.values, rows) if kinds == {dict} else rows
    if not (kinds <= {list, tuple} or kinds == {dict}) or not ATOMS.issuperset(
        map(type, chain.from_iterable(inside))
    ):
        return None
    return type(rows)([row.copy() if type(row) is not tuple else row for row in rows])


def completed(expected: Metric, brought: Metric) -> Metric:
    """A declaration that waited for its function, with the function that a decorator brings.

    Raises:
        DeclarationError: the decorator says again what the declaration says: only one of them may.
    """
    again = [
        field
        for field, given in (
            ("params_list", not has_no_params(brought)),
            ("name_generation_function", brought.name_generation_function is not None),
            ("ignore", bool(brought.ignore)),
            ("timeout", brought.timeout_seconds is not None),
            ("retries", brought.retries != 0),
            ("on_stale", brought.trust.on_stale is not None),
            ("max_age", brought.trust.max_age_seconds is not None),
            ("stale_on", brought.trust.stale_on is not None),
        )
        if given
    ]
    if again:
        raise DeclarationError(
            base_name=expected.base_name,
            reason=f"the configuration declares it; leave {' and '.join(again)} to the configuration",
        )
    return attrs.evolve(expected, function=brought.function)


def binder_of(metric: Metric, function: Function) -> Binder:
    """What binds the calls of a metric, and its rows.

    Raises:
        DeclarationError: the function cannot be a metric's, or the declaration does not fit it.
    """
    binder = Binder(function, base_name=metric.base_name, ignore=metric.ignore, inputs=tuple(metric.inputs))
    for argument, source in metric.inputs.items():
        params = source.params.values() if isinstance(source.params, Mapping) else source.params
        for param in params:
            if isinstance(param, Argument) and param.name not in binder.argument_names:
                raise DeclarationError(
                    base_name=metric.base_name,
                    reason=f"its input {argument!r} takes the argument {param.name!r} for {source.metric}, "
                    f"and its function has {_listed(binder.argument_names)}; correct it, or write "
                    f"{{value: {param.name}}} for that text itself",
                )
    return binder


def _listed(names: Sequence[str]) -> str:
    """Arguments in a sentence: `the arguments a and b`."""
    if not names:
        return "no arguments besides its inputs"
    head = ", ".join(names[:-1])
    return f"the argument{'s' if head else ''} {f'{head} and ' if head else ''}{names[-1]}"
