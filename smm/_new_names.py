"""The new names of stored metrics: by what the code declares, else by the names they have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

import attrs

from smm._decoding import Described, decode, form_of
from smm._encoding import Unsupported
from smm.collect import Row, Rows
from smm.identity import Binder, Call, params_to_json
from smm.metric import Record

NewParams: TypeAlias = Mapping[str, str] | Callable[[dict[str, Any]], Mapping[str, Any]]
"""New names of arguments, or a function from a row's params, by argument name, to its new ones."""


@attrs.frozen(kw_only=True)
class Target:
    """What becomes of a stored metric."""

    name: str
    base_name: str | None
    """As its record will have it."""
    params: Mapping[str, Any] | None
    """As its record will have them."""


class NoName(Exception):  # noqa: N818 - never seen by a user: it becomes a conflict
    """There is no new name for a stored metric, and why."""


class Declaring(Protocol):
    """What is asked of a manager here."""

    functions_dict: dict[str, Callable[[], Any]]
    _rows: dict[str, Rows]

    @property
    def waiting(self) -> tuple[str, ...]:
        """Base names declared without a function."""


def is_declared(manager: Declaring, name: str) -> bool:
    """Whether a base name, or a metric name, is declared; with or without a function."""
    return name in manager._rows or name in manager.functions_dict or name in manager.waiting


def row_of(manager: Declaring, name: str, base_name: str) -> Row | None:
    """The declared row of this name, if it is one of this base name."""
    row = manager.functions_dict.get(name)
    return row if isinstance(row, Row) and row.rows.base_name == base_name else None


class DeclaredRows:
    """The declared rows of one base name, found by their params as records have them."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._by_argument: dict[str, tuple[str, dict[str, Any]]] = {}
        self._by_value: dict[str, tuple[str, dict[str, Any]]] = {}
        for name, row in rows.entries.items():
            noted = row.noted_params()
            self._by_argument[json.dumps(noted, sort_keys=True)] = name, noted
            self._by_value[json.dumps(list(noted.values()))] = name, noted

    def find(self, noted: Mapping[str, Any], *, by_value: bool) -> Target | None:
        """The declared row with these params.

        Args:
            noted: as a record has them.
            by_value: the arguments may be called otherwise now, in the same order.
        """
        found = self._by_argument.get(json.dumps(noted, sort_keys=True))
        if found is None and by_value:
            found = self._by_value.get(json.dumps(list(noted.values())))
            if found is not None and not _agree(noted, found[1]):
                return None
        if found is None:
            return None
        return Target(name=found[0], base_name=self.rows.base_name, params=found[1])

    def bound(self, params: Mapping[str, Any], *, by_value: bool) -> Target:
        """The row with these params, declared or not. `by_value` as for `find`.

        Raises:
            TypeError: they do not fit the function.
        """
        rows, binder = self.rows, self.rows.binder
        call = self._call(params, by_value)
        name = rows._by_key.get(call.key) or binder.name(call, rows.name_generation_function)
        return Target(name=name, base_name=rows.base_name, params=params_to_json(binder.params(call)))

    def _call(self, params: Mapping[str, Any], by_value: bool) -> Call:
        try:
            return self._call_by_name(params)
        except TypeError:
            renamed = self._renamed(params) if by_value else None
            if renamed is None:
                raise
            return self._call_by_name(renamed)

    def _renamed(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """The params by today's argument names, in order; None if an argument has moved."""
        signature, ignore = self.rows.binder._signature, self.rows.binder.ignore
        now = [
            each.name for each in (*signature.positional, *signature.keyword_only) if each.name not in ignore
        ]
        pairs = list(zip(params, now, strict=False))
        if len(params) > len(now) or any(
            then != name and (then in now or name in params or then.startswith("*")) for then, name in pairs
        ):
            return None
        return {name: params[then] for then, name in pairs}

    def _call_by_name(self, params: Mapping[str, Any]) -> Call:
        binder = self.rows.binder
        signature = binder._signature
        args: list[Any] = []
        named: dict[str, Any] = {}
        for argument, value in params.items():
            if argument.startswith("**"):
                named |= value
            elif argument.startswith("*"):
                args, named = [*named.values(), *value], {}  # what stands before it goes by position, too
            else:
                named[argument] = value
        for each in (*signature.positional, *signature.keyword_only):
            if each.name in binder.ignore:
                named.setdefault(each.name, None)  # whatever it was, it is not noted, and no part of the name
        for each in signature.positional:
            if each.kind is not each.POSITIONAL_ONLY or each.name not in named:
                break
            args.append(named.pop(each.name))
        return binder.bind(args, named)


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the arguments that both have, have the same values in both; as records have them."""
    return all(json.dumps(one[argument]) == json.dumps(other[argument]) for argument in one.keys() & other)


class ByName:
    """`poly_Y_1_2` under another base name: by the naming of whoever declares the new one, or the old.

    Args:
        manager: what is declared.
        old: a base name.
        new: another one.
    """

    def __init__(self, manager: Declaring, old: str, new: str) -> None:
        self._manager = manager
        self._old = old
        self._new = new
        rows = manager._rows.get(new)
        self._declared = None if rows is None else DeclaredRows(rows)
        self.names_then: dict[str, str] = {}
        """What the new rows would be called under the old base name, and are called."""
        self._by_function: dict[str, str] = {}
        """What a function of the user's would call the old rows under the new base name."""
        rows_then = manager._rows.get(old)
        if rows is None and rows_then is not None and rows_then.name_generation_function is not None:
            self._by_function = names_under(rows_then, new)
        if rows is not None:
            self.names_then = {then: name for name, then in names_under(rows, old).items()}

    def is_row(self, name: str) -> bool:
        """Whether a stored metric without a base name is a row of the old one: by what is declared."""
        if row_of(self._manager, name, self._old) is not None or name == self._old:
            return True
        # What is declared as something else is that, however it is called.
        return name in self.names_then and name not in self._manager.functions_dict

    def target(self, name: str, record: Record) -> Target:
        """The new name of a row of the old base name.

        Raises:
            NoName: there is none.
        """
        if self._declared is None or record.params is None:
            return self._by_what_it_is_called(name, record)
        found = self._declared.find(record.params, by_value=True)
        if found is not None:
            return found
        params = {argument: decode(form) for argument, form in record.params.items()}
        if any(isinstance(param, Described) for param in params.values()):
            return self._by_what_it_is_called(name, record)
        try:
            return self._declared.bound(params, by_value=True)
        except TypeError as error:
            raise NoName(
                f"its params do not fit the new function: {error}; rename_rows changes params"
            ) from None

    def _by_what_it_is_called(self, name: str, record: Record) -> Target:
        base_name = record.base_name and self._new
        if name in self.names_then:
            new = self.names_then[name]
        elif name in self._by_function:
            new = self._by_function[name]
        elif name == self._old or name.startswith(f"{self._old}_"):
            new = self._new + name.removeprefix(self._old)
        elif name == self._new or name.startswith(f"{self._new}_"):
            new = name  # somebody has renamed the files, and only the record still says otherwise
        else:
            raise NoName(f"it does not begin with {self._old!r}; declare the new metric, which then names it")
        return Target(name=new, base_name=base_name, params=record.params)


def names_under(rows: Rows, base_name: str) -> dict[str, str]:
    """What the declared rows would be called under another base name, by what they are called."""
    metric = rows.metric
    binder = Binder(rows.function, base_name=base_name, ignore=metric.ignore, inputs=tuple(metric.inputs))
    return {name: binder.name(row.call, rows.name_generation_function) for name, row in rows.entries.items()}


def single(manager: Declaring, name: str, record: Record, new: str) -> Target:
    """What becomes of one stored metric that is called otherwise, whatever its base name.

    Raises:
        NoName: the new name is declared for other params.
    """
    if record.base_name is None:
        return Target(name=new, base_name=None, params=record.params)
    row = manager.functions_dict.get(new)
    if isinstance(row, Row):
        noted = row.noted_params()
        if record.params is not None and json.dumps([*record.params.values()]) != json.dumps(
            [*noted.values()]
        ):
            raise NoName(f"{row!r} is declared there, which has other params; rename_rows changes params")
        return Target(name=new, base_name=row.rows.base_name, params=noted)
    rest = name.removeprefix(record.base_name)
    if row is None and rest != name and new.endswith(rest) and new != rest:
        # `poly_X_1` to `poly_Z_1`: a row of another base name.
        return Target(name=new, base_name=new.removesuffix(rest) if rest else new, params=record.params)
    return Target(name=new, base_name=None, params=None)


class ByParams:
    """Rows of one base name with other params, and the names that these give them.

    Args:
        manager: what is declared: the function that takes the new params.
        old: the base name.
        new: the new base name, which may be the same.
        new_params: what becomes of the params.

    Raises:
        NoName: nothing declares the function.
    """

    def __init__(self, manager: Declaring, old: str, new: str, new_params: NewParams) -> None:
        rows = manager._rows.get(new)
        if rows is None:
            raise NoName(f"the function {new!r}, by which rows get their names, must be declared")
        self._manager = manager
        self._old = old
        self._new = new
        self._new_params = new_params
        self._declared = DeclaredRows(rows)

    def noted(self, name: str, record: Record) -> Mapping[str, Any] | None:
        """The params of a stored metric as records have them, if it is one of these rows.

        Raises:
            NoName: it is, and its params are not known.
        """
        if record.base_name == self._old:
            if record.params is None:
                raise NoName("its record does not note its params; rename it by itself")
            return record.params
        row = row_of(self._manager, name, self._old)
        # The predecessor's: if the base name stays, what is declared are the new rows.
        return None if record.base_name or row is None or self._old == self._new else row.noted_params()

    def target(self, noted: Mapping[str, Any]) -> Target:
        """What becomes of a row with these params.

        Raises:
            NoName: the new params do not fit.
            Exception: what the function of new params raised.
        """
        given = {argument: decode(form) for argument, form in noted.items()}
        params = self._changed(given)
        if not any(isinstance(param, Described) for param in params.values()):
            try:
                return self._declared.bound(params, by_value=False)
            except TypeError as error:
                raise NoName(f"its new params do not fit: {error}") from None
        try:
            found = self._declared.find(
                {key: form_of(param) for key, param in params.items()}, by_value=False
            )
        except Unsupported as error:
            raise NoName(f"its new params have {error.found}") from None
        if found is None:
            raise NoName("its record only describes a param; declare the row with its new params")
        return found

    def _changed(self, params: dict[str, Any]) -> Mapping[str, Any]:
        if not isinstance(self._new_params, Mapping):
            changed = self._new_params(params)
            if not isinstance(changed, Mapping):
                raise TypeError(
                    f"new_params gave {changed!r} for {params!r}; it must give params by argument name"
                )
            return changed
        names = [self._new_params.get(argument, argument) for argument in params]
        if len(set(names)) < len(names):
            raise NoName(f"two of its arguments would be called the same: {', '.join(names)}")
        return dict(zip(names, params.values(), strict=True))


def unknown_arguments(new_params: NewParams, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Arguments that no row has, nor has any more."""
    if not isinstance(new_params, Mapping):
        return []
    known = {argument for params in rows for argument in params}
    return [old for old, new in new_params.items() if not {old, new} & known]
