"""The way to a value of a configuration: as keys, as text, and in the refusal of what stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, TypeAlias

import attrs

from smm.errors import closest

Keys: TypeAlias = tuple[Hashable, ...]
"""Keys of mappings and indexes of lists, outermost first: `("metrics", "poly_Y", "params_list", 1)`."""

_LONGEST_SHOWN = 60
_PLAIN = re.compile(r"[^\W\d][\w-]*")
_PART = re.compile(r"""(?P<plain>[^.'"\[\]\s]+)|'(?P<single>[^']+)'|"(?P<double>[^"]+)\"""")


def dotted(keys: Keys) -> str:
    """Keys as one text: `metrics.poly_Y.params_list[1]`. A key that is no plain word is quoted."""
    parts: list[str] = []
    for key in keys:
        if not isinstance(key, str):
            parts.append(f"[{shown(key)}]")
        else:
            word = key if len(key) <= _LONGEST_SHOWN and _PLAIN.fullmatch(key) else shown(key)
            parts.append(f".{word}" if parts else word)
    return "".join(parts)


def undotted(text: str) -> tuple[str, ...]:
    """Keys from the text `dotted` makes: names joined by dots, a name that holds a dot in quotes.

    Raises:
        ValueError: the text is no such path, or leads into a list.
    """
    keys: list[str] = []
    at = 0
    while found := _PART.match(text, at):
        keys.append(found["plain"] or found["single"] or found["double"])
        at = found.end()
        if at == len(text):
            return tuple(keys)
        if text[at] != ".":
            break
        at += 1
    raise ValueError(
        f"found the key {shown(text)}, wanted names joined by dots, such as storage.metrics_dir; "
        "a name that holds a dot is quoted: metrics.'a.b'.function"
    )


def shown(value: object) -> str:
    """A value as a message names it, short whatever it is: `'no'`, `3.7`, `null`, `a list`, `a mapping`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > 200:
            return f"an integer of {value.bit_length():,} bits"
        case int() | float():
            return repr(value)
        case str():
            cut = value[:_LONGEST_SHOWN]
            return repr(value) if cut == value else f"{cut!r}... ({len(value):,} characters)"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case dict():
            return "a mapping" if value else "an empty mapping"
        case _:
            return f"an object of class {type(value).__qualname__}"


def nearest(word: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` as `errors.closest`, where looking for it takes no time to speak of."""
    return closest(word, known) if len(word) <= 100 and len(known) <= 1_000 else ""


@attrs.frozen
class Refusal:
    """What is wrong with one value."""

    message: str
    """What was found, what is wanted, what to do."""
    keys: Keys = ()
    """The way from the value being read down to the one that is wrong."""
    at_key: bool = False
    """True where the last key itself is wrong, not what it holds."""


class Refused(ValueError):  # noqa: N818  # never seen by a user: it becomes Problems of a ConfigError
    """A value that cannot be read, with everything that is wrong in it."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__(refusals)
        self.refusals = refusals

    def below(self, *keys: Hashable) -> list[Refusal]:
        """The refusals as seen from further up: `keys` lead to the value that was being read."""
        return [attrs.evolve(refusal, keys=keys + refusal.keys) for refusal in self.refusals]


def refused(message: str, *keys: Hashable, at_key: bool = False) -> Refused:
    """One refusal, ready to raise."""
    return Refused(Refusal(message, keys, at_key))


def read_at(key: Hashable, read: Callable[[Any], Any], mapping: Mapping[Any, Any]) -> Any:
    """`read(mapping[key])`, with the key in what is refused.

    Raises:
        Refused: by `read`.
    """
    try:
        return read(mapping[key])
    except Refused as error:
        raise Refused(*error.below(key)) from None


def read_list(value: Any, read: Callable[[Any], Any], wanted: str = "a list") -> tuple[Any, ...]:
    """Read every item of a list.

    Raises:
        Refused: `value` is no list, or `read` refused items of it: all of those at once.
    """
    if type(value) is not list:
        raise refused(f"found {shown(value)}, wanted {wanted}")
    done: list[Any] = []
    found: list[Refusal] = []
    for index, item in enumerate(value):
        try:
            done.append(read(item))
        except Refused as error:
            found += error.below(index)
    if found:
        raise Refused(*found)
    return tuple(done)


def read_mapping(
    value: Any, read: Callable[[Any], Any], wanted: str = "a mapping", key: str = "a name"
) -> dict[str, Any]:
    """Read every value of a mapping whose keys are strings.

    Raises:
        Refused: `value` is no such mapping, or `read` refused values of it: all of those at once.
    """
    if type(value) is not dict:
        raise refused(f"found {shown(value)}, wanted {wanted}")
    done: dict[str, Any] = {}
    found: list[Refusal] = []
    for name, item in value.items():
        try:
            if type(name) is not str:
                raise refused(f"found the key {shown(name)}, wanted {key}; put it in quotes", at_key=True)
            done[name] = read(item)
        except Refused as error:
            found += error.below(name)
    if found:
        raise Refused(*found)
    return done
