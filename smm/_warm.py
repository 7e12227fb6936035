"""The shortest way of a call: a value that is in memory, given without asking anything else.

Everything here is told by measurements of a call such as `CM.poly_Y(1, 2)`, whose limit is a look into a
dict. A call takes this way if no metric is being computed anywhere in the process (else the read must be
noted, and circles looked for), if the value can be changed by nobody, and if the arguments are the very
objects, or of the very types, with which an earlier call came to this metric name. All others go on to
`served`, which knows everything, and gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

from smm._hidden_frames import HiddenFrames
from smm._reloads import code_may_change


class InFlight(dict[Any, Any]):
    """The metrics that this process is computing.

    A function that is pickled by value, as by cloudpickle, takes its globals along: this one by its name.
    """

    def __reduce__(self) -> str:
        return "in_flight"


in_flight = InFlight()
"""Kept by `smm._flights`."""

Cell: TypeAlias = list[Any]
"""Of one metric: its name, and its value while that may be given as it is."""
Serve: TypeAlias = Callable[[str, None], Any]
"""A metric, by its name."""
Served: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any], bool, bool], Any]
"""Params, arguments by name, `use_stored` and `cache`."""

_UNCHANGING = frozenset({type(None), bool, int, float, complex, str, bytes})
_PLAIN = frozenset({type(None), bool, int, str, bytes})


class Cache(dict[str, Any]):
    """Values by metric name, and which of them may be given to everybody as they are.

    May be shared by many threads. Whoever takes a value away does so here first and from its cell second; who
    fills a cell looks here once more afterwards. So no cell keeps what is not here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cells: dict[str, Cell] = {}
        """Of the metrics that have been asked for; a cell stays the same list for good."""

    def cell(self, name: str) -> Cell:
        """The one of a metric, made if need be."""
        return self.cells.setdefault(name, [name])

    def make_ready(self, name: str, value: Any, unsaved: set[str]) -> None:
        """Let the next calls have a value that has just been found here, if nobody can change it."""
        if type(value) in _UNCHANGING and not code_may_change():
            cell = self.cell(name)
            cell[1:] = [value]
            if self.get(name) is not value or name in unsaved:
                del cell[1:]

    def unready(self, name: str) -> None:
        """A value is not to be given any more without asking."""
        cell = self.cells.get(name)
        if cell is not None:
            del cell[1:]

    def unready_all(self) -> None:
        """Give no value any more without asking."""
        for cell in list(self.cells.values()):
            del cell[1:]

    # What changes a dict, so that nobody who does so by hand is served what was there before.

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.unready(name)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self.unready(name)

    def pop(self, name: str, *default: Any) -> Any:
        """As of a dict."""
        value = super().pop(name, *default)
        self.unready(name)
        return value

    def popitem(self) -> tuple[str, Any]:
        """As of a dict."""
        name, value = super().popitem()
        self.unready(name)
        return name, value

    def clear(self) -> None:
        """As of a dict."""
        super().clear()
        self.unready_all()

    def update(self, *others: Any, **named: Any) -> None:
        """As of a dict."""
        super().update(*others, **named)
        self.unready_all()

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]  # `|` makes a plain dict
        self.update(other)
        return self


# --- functions -------------------------------------------------------------------------------------------
# In Python 3.11 a keyword-only argument costs 11 ns, `**named` 18, variables of an enclosing function 10, as
# much as looking into a dict. Hence functions with just the arguments that the metric has, and whatever
# else they need as further ones, under names that no call can write. `more` catches calls with too many.

_NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda _: "<not given>"})()


class Slowly(NamedTuple):
    """What a call needs that does not end here; one thing, since each argument costs every call its time."""

    names: tuple[str, ...]
    serve: Serve
    served: Served
    hidden: HiddenFrames


def _of_none(more: Any, use_stored: bool, cache: bool, cell: Cell, slowly: Slowly) -> Any:
    if more is _NOT_GIVEN and use_stored and cache:
        if not in_flight:
            try:
                return cell[1]
            except IndexError:  # not in memory, or nothing to be given as it is
                pass
        __tracebackhide__ = slowly.hidden
        return slowly.serve(cell[0], None)
    __tracebackhide__ = slowly.hidden
    return slowly.served(() if more is _NOT_GIVEN else (more,), {}, use_stored, cache)


def _of_one(a: Any, more: Any, use_stored: bool, cache: bool, calls: dict[Any, Any], slowly: Slowly) -> Any:
    if more is _NOT_GIVEN and use_stored and cache:
        try:
            cell, first = calls[a]
        except (KeyError, TypeError):  # new, or not hashable
            pass
        else:
            if a is first or type(a) is type(first):
                if not in_flight:
                    try:
                        return cell[1]
                    except IndexError:
                        pass
                __tracebackhide__ = slowly.hidden
                return slowly.serve(cell[0], None)
        if a is not _NOT_GIVEN:
            __tracebackhide__ = slowly.hidden
            return slowly.served((a,), {}, use_stored, cache)
    __tracebackhide__ = slowly.hidden
    return slowly.served(*_given(slowly.names, a, more), use_stored, cache)


def _of_two(
    a: Any, b: Any, more: Any, use_stored: bool, cache: bool, calls: dict[Any, Any], slowly: Slowly
) -> Any:
    if more is _NOT_GIVEN and use_stored and cache:
        try:
            # Making the tuple (a, b) and looking for it would cost 27 ns more.
            cell, first, second = calls[a][b]
        except (KeyError, TypeError):
            pass
        else:
            if (a is first or type(a) is type(first)) and (b is second or type(b) is type(second)):
                if not in_flight:
                    try:
                        return cell[1]
                    except IndexError:
                        pass
                __tracebackhide__ = slowly.hidden
                return slowly.serve(cell[0], None)
        if a is not _NOT_GIVEN and b is not _NOT_GIVEN:
            __tracebackhide__ = slowly.hidden
            return slowly.served((a, b), {}, use_stored, cache)
    __tracebackhide__ = slowly.hidden
    return slowly.served(*_given(slowly.names, a, b, more), use_stored, cache)


def _given(names: Sequence[str], *values: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """By position what was given up to the first gap, by name what comes after it."""
    params: list[Any] = []
    for value in values:
        if value is _NOT_GIVEN:
            break
        params.append(value)
    later = zip(names[len(params) :], values[len(params) : -1], strict=False)
    return tuple(params), {name: value for name, value in later if value is not _NOT_GIVEN}


_BY_COUNT: tuple[Any, ...] = (_of_none, _of_one, _of_two)


class Known:
    """The calls of one metric that have been made before, and the function that serves them.

    Args:
        names: of the arguments, if each may be given by position and by name and there are no others.
        only: the metric name, if there are no arguments.
        cell_of: the cell of a metric name.
        serve: serves a metric by its name.
        served: serves any call.
        hidden: whether tracebacks leave out the frames of these functions.
    """

    def __init__(
        self,
        names: Sequence[str] | None,
        only: str | None,
        cell_of: Callable[[str], Cell],
        serve: Serve,
        served: Served,
        hidden: HiddenFrames,
    ) -> None:
        self._cell_of = cell_of
        self._calls: dict[Any, Any] = {}
        """By the params, which are equal where 1, 1.0 and True are: the cell, the params or their types."""
        self._depth = 0
        if names and len(names) < len(_BY_COUNT):
            self._depth = len(names)
            further = (self._calls, Slowly(tuple(names), serve, served, hidden))
            self.function = _with_names(_BY_COUNT[self._depth], names, further)
        elif names is not None and not names and only is not None:
            self.function = _with_names(_of_none, (), (cell_of(only), Slowly((), serve, served, hidden)))
        else:
            self.function = _of_any(self._calls, serve, served, hidden)

    def note(self, params: tuple[Any, ...], name: str) -> None:
        """A call with these params is of this metric. What equality does not tell apart is not noted."""
        for param in params:
            kind = type(param)
            # 0.0 == -0.0, and nan is not itself
            if kind not in _PLAIN and not (kind is float and param == param and param != 0.0):
                return
        if self._depth == 0:
            self._calls[params] = (self._cell_of(name), tuple(map(type, params)))
            return
        params += (_NOT_GIVEN,) * (self._depth - len(params))
        calls = self._calls
        for param in params[:-1]:
            calls = calls.setdefault(param, {})
        calls[params[-1]] = (self._cell_of(name), *params)


def _with_names(template: Any, names: Sequence[str], further: tuple[Any, ...]) -> Callable[..., Any]:
    """One of the functions above, its arguments called as the metric calls them."""
    code = template.__code__
    own = len(names) + 3
    hidden = tuple(f"*{name}" for name in code.co_varnames[own : code.co_argcount])
    called = (*names, "*more", "use_stored", "cache", *hidden, *code.co_varnames[code.co_argcount :])
    defaults = (*[_NOT_GIVEN] * (len(names) + 1), True, True, *further)
    return FunctionType(code.replace(co_varnames=called), globals(), template.__name__, defaults)


def _of_any(calls: dict[Any, Any], serve: Serve, served: Served, hidden: HiddenFrames) -> Callable[..., Any]:
    def call(*params: Any, use_stored: bool = True, cache: bool = True, **named: Any) -> Any:
        if use_stored and cache and not named:
            try:
                cell, kinds = calls[params]
            except (KeyError, TypeError):
                pass
            else:
                if kinds == tuple(map(type, params)):
                    if not in_flight:
                        try:
                            return cell[1]
                        except IndexError:
                            pass
                    __tracebackhide__ = hidden
                    return serve(cell[0], None)
        __tracebackhide__ = hidden
        return served(params, named, use_stored, cache)

    return call
