"""What makes a call of a metric the same as another: binding to the signature, typed keys, names.

A `Binder` knows one metric's function. It turns a call or a row into a `Call`, whose key tells it from
every other call of the function in memory, and whose name does so on disk, for good.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from smm._blake import blake2b
from smm._encoding import ATOMS, Unsupported, canonical, digest, encode, fresh
from smm._names import (
    check_base_name,
    check_name,
    legacy_metric_name,
    metric_name,
    metric_names,
    params_to_json,
    show_call,
)
from smm._signature import Parameter, is_of_python, read_signature
from smm.errors import UnsupportedParamError
from smm.metric import Function, NameFunction

if TYPE_CHECKING:
    import attrs
    import numpy as np
else:
    from smm import _attrs as attrs
    from smm import _numpy as np

__all__ = [
    "Binder",
    "Call",
    "check_base_name",
    "digest",
    "legacy_metric_name",
    "metric_name",
    "params_to_json",
    "show_call",
]


_LONGEST_PLACE = 80
_NOTHING: frozenset[Any] = frozenset()

_Key: TypeAlias = tuple[tuple[object, ...], tuple[Any, ...]]
"""What tells a call from all others of its function: the kinds of its params, and their marks."""


class Call:
    """One call of a metric's function, with defaults applied and params canonical.

    Shares nothing that can change with the caller. Two calls of one `Binder` have equal keys exactly if
    they have equal names by smm's scheme.
    """

    # Not an attrs class: a frozen one takes three times as long to make, and there is one for each row.
    __slots__ = ("form", "key", "values")

    def __init__(self, form: _Form, values: tuple[Any, ...], key: tuple[Any, ...]) -> None:
        self.form = form
        self.values = values
        """By slot of the form."""
        self.key = key
        """Hashable. Tells 1, 1.0, True and "1" apart, and 0.0 from -0.0; nan is one."""

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What to call the function with, inputs and manager aside: fresh copies of what can be changed.

        Ignored arguments are the very objects that the call brought.
        """
        form = self.form
        values = [value if slot in form.ignored else fresh(value) for slot, value in enumerate(self.values)]
        if form.left_out:
            by_position = min(form.by_position, *form.left_out)
            slots = [slot for slot in range(by_position, len(values)) if slot not in form.left_out]
            return tuple(values[:by_position]), {form.names[slot]: values[slot] for slot in slots}
        named = zip(form.names[form.by_position :], values[form.by_position :], strict=True)
        return tuple(values[: form.by_position]), dict(named)


@attrs.frozen(kw_only=True, eq=False)
class _Form:
    """How calls with so many positional arguments and these keywords fill the slots.

    The slots are the values of one call in this order: arguments that may be given by position, what
    `*args` takes, keyword-only arguments, what `**kwargs` takes by name.
    """

    picks: tuple[int, ...]
    """For each slot, which of the call's arguments, then keyword values, then all defaults fills it."""
    names: tuple[str, ...]
    """For each slot, its argument; the name of the `*args` for what that takes."""
    declared: int
    """Where the slots of `*args` begin."""
    positional: int
    """Where the slots begin that are keyword-only."""
    extra: int
    """Where the slots of `**kwargs` begin."""
    by_position: int
    """So many slots are handed to the function by position, the others by name."""
    ignored: frozenset[int]
    """Slots that are no part of the identity."""
    options: tuple[str, ...]
    """Names of the slots of `**kwargs` that are part of the identity."""
    left_out: frozenset[int] = _NOTHING
    """Slots of defaults that are not handed to the function, as it is none of Python's: such a function may
    take an argument only in other company, or name a default that it does not take."""


@attrs.frozen(kw_only=True, eq=False)
class _Shortcut:
    """How calls of one form are bound whose values, of these types, need no conversion."""

    form: _Form
    whole: bool
    """Whether the positional arguments are the slots."""
    floats: tuple[int, ...]
    """Slots with floats."""
    kinds: tuple[object, ...]
    """The first half of the key."""


class Binder:
    """One metric's function as its calls and rows see it: without inputs and manager.

    Args:
        function: what the metric computes. If Python does not tell its arguments (some builtins), it takes
            any by position and none by name.
        base_name: the metric, for names and messages.
        ignore: arguments that are no part of a call's identity.
        inputs: arguments that are filled with other metrics' values.

    Raises:
        DeclarationError: `function` cannot be a metric's, or `ignore` or `inputs` do not fit it.
    """

    def __init__(
        self, function: Function, *, base_name: str, ignore: Iterable[str] = (), inputs: Iterable[str] = ()
    ) -> None:
        self.base_name = base_name
        self.ignore: frozenset[str] = frozenset(ignore) if ignore else _NOTHING
        filled: frozenset[str] = frozenset(inputs) if inputs else _NOTHING
        self._is_foreign = not is_of_python(function)
        self._signature = signature = read_signature(base_name, function, self.ignore, filled)
        self.takes_manager = signature.takes_manager
        """Whether the function has a parameter `CM`."""
        named = [*signature.positional, *signature.keyword_only]
        self._defaults = {
            each.name: each.default if each.name in self.ignore else _canonical_default(each.default)
            for each in named
            if each.default is not each.empty
        }
        self._no_params = (
            frozenset(filter(self._is_no_param, self._defaults)) if self._is_foreign else _NOTHING
        )
        """Arguments that are part of the identity only if they are given: their defaults are no params."""
        self.needs_params = len(self._defaults) < len(named)
        """Whether a call without arguments does not fit."""
        self.argument_names = tuple(each.name for each in named)
        """Names of the arguments that a call may give."""
        self.plain_arguments = signature.plain_arguments
        """Names of all arguments, if each may be given by position and by name; None otherwise."""
        self._forms: dict[tuple[Any, ...], _Form] = {}
        self._shortcuts: dict[tuple[Any, ...], _Shortcut] = {}
        self._plain_forms: dict[tuple[object, ...], _Form] = {}  # by the first half of the key
        self._kinds: dict[tuple[object, ...], tuple[object, ...]] = {}

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """The call of the function with these arguments.

        Raises:
            TypeError: they do not fit; what Python would say, of the metric.
            UnsupportedParamError: one of them has no lasting identity.
        """
        types = _types(args, kwargs)
        shortcut = self._shortcuts.get(types)
        if shortcut is None:
            return self._bind_any(args, kwargs, types)
        values = tuple(args) if shortcut.whole else self._filled(shortcut.form, args, kwargs)
        for slot in shortcut.floats:
            if not _is_told_apart(values[slot]):
                return self._bind_any(args, kwargs, types)
        return Call(shortcut.form, values, (shortcut.kinds, values))

    def bind_row(self, row: Any) -> Call:
        """The call that a row of a params list stands for.

        Sequences and arrays with dimensions are positional, mappings by argument name, anything else is
        the one argument.

        Raises:
            TypeError: the row does not fit the function.
            UnsupportedParamError: a param has no lasting identity.
        """
        if type(row) in (list, tuple):
            return self.bind(row, {})
        if isinstance(row, Mapping):
            return self.bind((), row)
        if isinstance(row, np.ndarray) and row.ndim:
            return self.bind(tuple(row), {})
        if isinstance(row, Sequence) and not isinstance(row, str | bytes | bytearray | enum.Enum):
            return self.bind(tuple(row), {})
        return self.bind((row,), {})

    def bind_alike(self, rows: Any) -> tuple[list[_Key], list[str]] | None:
        """The keys of the calls that all rows of a params list stand for, and their names by smm's scheme.

        At once for rows that are alike: all by position, all by the same names, or all scalars, with params
        that are plain in a name and in each slot of one type. None for others, which are bound one by one.
        """
        alike = _alike(rows)
        if alike is None:
            return None
        keywords, given = alike
        columns: list[list[Any]] = []
        try:
            form = self._form(0 if keywords else len(given[0]), keywords)
        except TypeError:  # said by whoever binds them one by one
            return None
        if form.ignored or form.positional < len(form.names):  # keyword-only: named in the name, too
            return None
        if form.picks != tuple(range(len(given[0]))):
            rest = tuple(self._defaults.values())
            given = [tuple(map((values + rest).__getitem__, form.picks)) for values in given]
        kinds: tuple[object, ...] = tuple(map(type, given[0]))
        for slot, kind in enumerate(kinds):
            column = list(map(operator.itemgetter(slot), given))
            # Of one type, and told apart by Python's own equality: then the values are their own marks.
            if set(map(type, column)) != {kind} or (kind is float and not all(map(_is_told_apart, column))):
                return None
            columns.append(column)
        names = metric_names(self.base_name, columns)
        if names is None:
            return None
        kinds = self._kinds.setdefault(kinds, kinds)
        self._plain_forms[kinds] = form
        return [(kinds, values) for values in given], names

    def call(self, key: _Key) -> Call:
        """The call with a key that `bind_alike` gave."""
        kinds, values = key
        return Call(self._plain_forms[kinds], values, key)

    def params(self, call: Call) -> dict[str, Any]:
        """The params that make the call's identity, by argument name in signature order.

        What `*args` took is a tuple under `"*args"`, what `**kwargs` took a dict under `"**kwargs"`, each
        only if there is any. The values are the call's own: not to be changed.
        """
        form = call.form
        if not form.ignored and form.declared == len(call.values):
            return dict(zip(form.names, call.values, strict=True))
        declared, rest, named, extra = self._sorted_out(call)
        return (
            declared
            | ({f"*{self._signature.rest}": rest} if rest else {})
            | named
            | ({f"**{self._signature.options}": extra} if extra else {})
        )

    def name(self, call: Call, name_generation_function: NameFunction | None = None) -> str:
        """The metric name of a call.

        Args:
            call: from this binder.
            name_generation_function: `(base_name, params) -> name` in place of smm's scheme. `params` are
                the values in signature order, without trailing ones equal to their defaults.

        Raises:
            MetricNameError: `name_generation_function` gave what cannot be a metric's name.
        """
        form = call.form
        if name_generation_function is None and not form.ignored and form.positional == len(call.values):
            return metric_name(self.base_name, call.values)  # nothing to sort out: the quick way for most
        declared, rest, named, extra = self._sorted_out(call)
        if name_generation_function is None:
            return metric_name(self.base_name, (*declared.values(), *rest), named, extra)
        name = name_generation_function(self.base_name, self._trimmed(declared, rest, named, extra))
        check_name(name, "let name_generation_function give another one")
        return name

    def show(self, call: Call) -> str:
        """The call as a person would write it, on one short line: `poly_Y(2, 4)`."""
        keyword_only = [each.name for each in self._signature.keyword_only]
        return show_call(self.base_name, self.params(call), keyword_only)

    def _sorted_out(
        self, call: Call
    ) -> tuple[dict[str, Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """The params of a call without ignored ones: positional, `*args`, keyword-only, `**kwargs`."""
        form, values = call.form, call.values

        def between(start: int, stop: int) -> list[tuple[str, Any]]:
            slots = range(start, stop)
            return [(form.names[slot], values[slot]) for slot in slots if slot not in form.ignored]

        return (
            dict(between(0, form.declared)),
            tuple(value for _, value in between(form.declared, form.positional)),
            dict(between(form.positional, form.extra)),
            dict(between(form.extra, len(values))),
        )

    def _trimmed(
        self, declared: dict[str, Any], rest: tuple[Any, ...], named: dict[str, Any], extra: dict[str, Any]
    ) -> tuple[Any, ...]:
        params = [*declared.items(), *((None, value) for value in rest), *named.items()]
        while not extra and params:
            name, value = params[-1]
            if name not in self._defaults or not _same(value, self._defaults[name]):
                break
            params.pop()
        return tuple(fresh(value) for _, value in params) + ((fresh(extra),) if extra else ())

    def _bind_any(self, args: Sequence[Any], kwargs: Mapping[str, Any], types: tuple[Any, ...]) -> Call:
        form = self._form(len(args), tuple(kwargs))
        values = list(self._filled(form, args, kwargs))
        if not form.ignored and ATOMS.issuperset(map(type, values)):
            self._shortcuts[types] = _Shortcut(
                form=form,
                whole=form.picks == tuple(range(len(args))),
                floats=tuple(slot for slot, value in enumerate(values) if type(value) is float),
                kinds=(*map(type, values), *form.options),
            )
        marks: list[tuple[object, object]] = []
        for slot, value in enumerate(values):
            if slot not in form.ignored:
                values[slot] = self._canonical(form, slot, value)
                marks.append(_mark(values[slot]))
        kinds = (*(kind for kind, _ in marks), *form.options)
        # One tuple for all rows of these kinds, of which there may be 100,000.
        kinds = self._kinds.setdefault(kinds, kinds)
        return Call(form, tuple(values), (kinds, tuple(mark for _, mark in marks)))

    def _filled(self, form: _Form, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        given = (*args, *kwargs.values(), *self._defaults.values())
        return tuple([given[pick] for pick in form.picks])

    def _canonical(self, form: _Form, slot: int, value: Any) -> Any:
        try:
            return canonical(value)
        except Unsupported as error:
            in_rest = form.declared <= slot < form.positional
            place = f"[{slot - form.declared}]{error.place}" if in_rest else error.place
            if len(place) > _LONGEST_PLACE:
                place = place[:_LONGEST_PLACE] + "..."
            raise UnsupportedParamError(
                base_name=self.base_name, argument=form.names[slot] + place, found=error.found
            ) from None

    def _form(self, count: int, keywords: tuple[str, ...]) -> _Form:
        return self._forms.get((count, *keywords)) or self._new_form(count, keywords)

    def _new_form(self, count: int, keywords: tuple[str, ...]) -> _Form:
        signature = self._signature
        signature.check_fit(count, keywords)
        slots = [(each.name, index) for index, each in enumerate(signature.positional[:count])]
        positional = extra = count
        if keywords or signature.keyword_only or count != len(slots) or count != len(signature.positional):
            positional, extra = self._fill(slots, count, keywords)
        names = tuple([name for name, _ in slots])
        ignored = frozenset(self._ignored(names, extra)) if self.ignore else _NOTHING
        given = count + len(keywords)
        of_defaults = [slot for slot, (_, index) in enumerate(slots) if index >= given]
        form = self._forms[count, *keywords] = _Form(
            picks=tuple([index for _, index in slots]),
            names=names,
            declared=min(len(signature.positional), positional),
            positional=positional,
            extra=extra,
            by_position=self._by_position(count, positional),
            ignored=ignored,
            options=tuple([names[slot] for slot in range(extra, len(names)) if slot not in ignored]),
            left_out=frozenset(of_defaults) if self._is_foreign else _NOTHING,
        )
        return form

    def _fill(self, slots: list[tuple[str, int]], count: int, keywords: tuple[str, ...]) -> tuple[int, int]:
        """Add what keywords, defaults and `*args` fill; gives where keyword-only and extra ones begin."""
        signature = self._signature
        defaults = {name: index for index, name in enumerate(self._defaults, count + len(keywords))}
        by_keyword = {name: index for index, name in enumerate(keywords, count)}

        def pick(argument: Parameter) -> int:
            if argument.kind is not argument.POSITIONAL_ONLY and argument.name in by_keyword:
                return by_keyword.pop(argument.name)
            return defaults[argument.name]

        def is_named(argument: Parameter) -> bool:
            return argument.name in by_keyword or argument.name not in self._no_params

        slots += [(each.name, pick(each)) for each in filter(is_named, signature.positional[count:])]
        slots += [(signature.rest or "", index) for index in range(len(slots), count)]
        positional = len(slots)
        slots += [(each.name, pick(each)) for each in filter(is_named, signature.keyword_only)]
        extra = len(slots)
        slots += sorted(by_keyword.items())
        return positional, extra

    def _by_position(self, count: int, positional: int) -> int:
        """Return how many slots are handed to the function by position."""
        if self._is_foreign:
            return count  # its defaults are left out, so what comes after them goes by name
        return positional if self._signature.rest else self._signature.before_filled

    def _is_no_param(self, name: str) -> bool:
        """Return whether a default is none of the values that a param may be."""
        if name in self.ignore:
            return False
        try:
            canonical(self._defaults[name])
        except Unsupported:
            return True
        return False

    def _ignored(self, names: Sequence[str], extra: int) -> Iterator[int]:
        """The slots that are no part of the identity."""
        all_options = self._signature.options in self.ignore
        for slot, name in enumerate(names):
            if name in self.ignore or (slot >= extra and all_options):
                yield slot


class _Encoded:
    """In a key, the type of a value that is there by its encoding."""


def _types(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Different for calls that are bound in different ways."""
    if not kwargs:
        return tuple(map(type, args))
    return (tuple(kwargs), *map(type, args), *map(type, kwargs.values()))


def _alike(rows: Any) -> tuple[tuple[str, ...], list[tuple[Any, ...]]] | None:
    """The keywords and the values of rows that have as many, and the same keywords; None if they differ."""
    if type(rows) is range:
        rows = list(rows)
    elif type(rows) not in (list, tuple):
        if (
            type(rows) is not np.ndarray
            or rows.ndim != 2
            or rows.dtype.kind not in "biuf"
            or rows.itemsize > 8
        ):
            return None
        rows = rows.tolist()
    if not rows:
        return None
    kinds = set(map(type, rows))
    if ATOMS.issuperset(kinds):
        return (), list(zip(rows, strict=True))
    if kinds <= {list, tuple} and len(set(map(len, rows))) == 1:
        return (), list(map(tuple, rows))  # a tuple is given back as it is
    if kinds == {dict} and rows[0] and len(set(map(tuple, rows))) == 1:
        return tuple(rows[0]), list(map(tuple, map(dict.values, rows)))
    return None


def _is_told_apart(value: float) -> bool:
    """Whether Python's own equality will do: 0.0 == -0.0 and nan != nan need a mark of their own."""
    return value == value and value != 0.0


def _mark(value: Any) -> tuple[object, object]:
    """What stands for a canonical value in a key: its type and itself, or its encoding."""
    kind = type(value)
    if kind in ATOMS and (kind is not float or _is_told_apart(value)):
        return kind, value
    encoding = encode(value)
    # Two long values have one key as likely as two files have one SHA.
    return _Encoded, encoding if len(encoding) <= 64 else blake2b(encoding).digest()


def _canonical_default(value: Any) -> Any:
    """A copy, since the function itself may change its default; what is no param is said when it is used."""
    try:
        return canonical(value)
    except Unsupported:
        return value


def _same(one: Any, other: Any) -> bool:
    """Whether two canonical values, the other perhaps a default that is no param, are one param."""
    try:
        return encode(one) == encode(canonical(other))
    except Unsupported:
        return False
