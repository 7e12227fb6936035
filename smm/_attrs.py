"""Stands for attrs where a stored value passes through: its `frozen`, without importing attrs.

Importing attrs takes longer than all else that serving a stored value needs together. Modules read `attrs`
from here, behind `TYPE_CHECKING`, so that type checkers see attrs itself; what is not written here is attrs'
own. To everyone else the classes made here are classes of attrs: `attrs.evolve`, `asdict`, `fields` and `has`
take them, since what attrs looks for in a class is made when it looks.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_set = object.__setattr__


def __getattr__(name: str) -> Any:
    import attrs

    return getattr(attrs, name)


def frozen(*, kw_only: bool, eq: bool = True) -> Callable[[type[Any]], type[Any]]:
    """As `attrs.frozen`, without slots: a value takes more memory so, and less time to make.

    Args:
        kw_only: True; there is no other way to make one.
        eq: whether two of one class with equal fields are equal, and hash alike.
    """
    del kw_only  # said for type checkers

    def decorator(cls: Any) -> Any:
        own = vars(cls)
        names = tuple(cls.__annotations__)
        told = {
            name: own[name].told if type(own[name]) is field else {"default": own[name]}
            for name in names
            if name in own
        }
        cls._told = told
        cls._defaults = {name: told.get(name, {}).get("default") for name in names}
        cls._required = {name for name in names if name not in told}
        cls._factories = [(name, of["factory"]) for name, of in told.items() if "factory" in of]
        cls._checks = [own[name] for name, of in told.items() if "validator" in of]
        cls._is_plain = not cls._checks
        cls._has_post_init = hasattr(cls, "__attrs_post_init__")
        cls._compared = attrgetter(*(name for name in names if told.get(name, {}).get("eq", True)))
        cls.__attrs_attrs__ = _Described()
        for name in told:
            delattr(cls, name)
        for name, method in _METHODS.items():
            if name not in own and (eq or method not in (_eq, _hash)):
                setattr(cls, name, method)
        return cls

    return decorator


class field:  # noqa: N801 - the name of attrs
    """As `attrs.field`, with `default` or `factory`, `validator`, `eq` and `repr`."""

    def __init__(self, **told: Any) -> None:
        self.told = told

    def __set_name__(self, _: type, name: str) -> None:
        self.name = name


class _Described:
    """The fields of a class as attrs describes them, which it asks of the class."""

    def __init__(self) -> None:
        self.known: Any = None

    def __get__(self, _: object, cls: Any) -> Any:
        if self.known is None:
            import attrs

            fields = {
                name: attrs.field(**cls._told.get(name, {}), type=kind)
                for name, kind in cls.__annotations__.items()
            }
            self.known = attrs.fields(attrs.make_class(cls.__name__, fields, frozen=True, kw_only=True))
        return self.known


def evolve(value: Any, **changes: Any) -> Any:
    """As `attrs.evolve`."""
    if type(vars(type(value)).get("__attrs_attrs__")) is _Described:
        return type(value)(**{**vars(value), **changes})
    import attrs

    return attrs.evolve(value, **changes)


# --- methods of all these classes -------------------------------------------------------------------------


def _init(self: Any, **given: Any) -> None:
    cls = type(self)
    if cls._is_plain and given.keys() == cls._defaults.keys():  # all are given, and nothing is checked
        _set(self, "__dict__", given)
        return
    values = {**cls._defaults, **given}
    if len(values) > len(cls._defaults) or not given.keys() >= cls._required:
        raise _misfit(cls, given)
    for name, make in cls._factories:
        if name not in given:
            values[name] = make()
    _set(self, "__dict__", values)
    for checked in cls._checks:
        checked.told["validator"](self, checked, values[checked.name])
    if cls._has_post_init:
        self.__attrs_post_init__()


def _misfit(cls: Any, given: dict[str, Any]) -> TypeError:
    unknown = [name for name in given if name not in cls._defaults]
    if unknown:
        return TypeError(f"{cls.__name__}() got an unexpected keyword argument {unknown[0]!r}")
    missing = ", ".join(repr(name) for name in cls._defaults if name in cls._required - given.keys())
    return TypeError(f"{cls.__name__}() missing keyword-only arguments: {missing}")


def _repr(self: Any) -> str:
    cls = type(self)
    names = (name for name in cls._defaults if cls._told.get(name, {}).get("repr", True))
    return f"{cls.__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def _refuse(*_: Any) -> None:
    from attrs.exceptions import FrozenInstanceError

    raise FrozenInstanceError


def _eq(self: Any, other: Any) -> bool:
    if type(other) is not type(self):
        return NotImplemented  # type: ignore[no-any-return]
    return bool(self._compared(self) == self._compared(other))


def _hash(self: Any) -> int:
    return hash((type(self), self._compared(self)))


_METHODS: dict[str, Any] = {
    "__init__": _init,
    "__repr__": _repr,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__eq__": _eq,
    "__hash__": _hash,
}
