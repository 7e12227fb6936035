"""YAML text to plain data, with the line and column of every value, and never an object of anyone's class.

PyYAML delivers events; all that follows is decided here: what a plain scalar means (YAML 1.2, not PyYAML's
constructors), what is refused, and how much is taken in. Limits are counted on the events, before anything
is composed, because libyaml's own composer recurses and crashes on deep nesting.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable
from typing import Any

import attrs
import yaml
from yaml import events
from yaml.events import ScalarEvent

from smm._keys import Keys, dotted, nearest, shown
from smm._marks import NO_MARK as NO_MARK
from smm._marks import Mark as Mark
from smm._marks import Place as Place
from smm._marks import Places as Places
from smm._marks import find as find
from smm._marks import line_and_column as line_and_column
from smm._syntax import MAX_DEPTH as MAX_DEPTH
from smm._syntax import TOO_DEEP, explained, unprintable
from smm._warn import warn_user
from smm.errors import Problem

MAX_BYTES = 64 * 2**20
MAX_VALUES = 10_000_000
"""Keys and values in one document, those behind an alias counted each time it is used."""
MAX_PROBLEMS = 1_000
"""Kept one by one; a file with more is wrong as a whole, and the rest is only counted."""
MAX_DIGITS = 4_300
"""Of an integer: what Python itself reads and writes by default, because its conversion is quadratic."""

# --- scalars ---------------------------------------------------------------------------------------------

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_NUMBER_STARTS = frozenset("+-.0123456789")
_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


def scalar(text: str) -> Any:
    """What a plain scalar means: the core schema of YAML 1.2, `010` ten, `no` and `12:30` text.

    Raises:
        ValueError: a number Python cannot hold, with a sentence that says so.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INT.fullmatch(text):
        return _integer(text, 10)
    if _OTHER_INT.fullmatch(text):
        return _integer(text, 0)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError(f"found {shown(text)}, which no float can hold; write .inf for infinity")
        return value
    return text


def _integer(text: str, base: int) -> int:
    if len(text) <= MAX_DIGITS:
        try:
            value = int(text, base)
        except ValueError:  # the interpreter was given a lower limit than Python's own
            pass
        else:
            if base == 10 or value < 10**MAX_DIGITS:
                return value
    raise ValueError(
        f"found an integer of {len(text):,} digits, wanted at most {MAX_DIGITS:,}; quote it as text"
    )


# --- documents -------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Document:
    """What one text holds."""

    data: Any
    """None, bool, int, float, str, list and dict only; None for an empty text. Aliased values are shared."""
    place: Place
    """Of `data`."""
    problems: list[Problem]
    """What is wrong with the text; `data` then holds the rest."""
    whole: bool
    """False where reading could not go on to the end: `data` says nothing then."""


def read(raw: bytes | str, file: str) -> Document:
    """Read one YAML document.

    Time and memory grow with the text and no faster; at most 64 MiB, 10,000,000 values and 1,000 levels are
    taken in.

    Args:
        raw: UTF-8, or UTF-16 with its byte order mark.
        file: what problems call it.
    """
    composer = _Composer(file)
    whole = False
    try:
        composer.compose(_decoded(raw))
        whole = True
    except _Stop as stop:
        composer.note(*stop.args)
    data, place = composer.result() if whole else (None, 0)
    return Document(data=data, place=place, problems=composer.problems, whole=whole)


class _Stop(Exception):  # noqa: N818  # an exit, no error
    """Reading cannot go on: a mark and a message."""


def _decoded(raw: bytes | str) -> str:
    if len(raw) > MAX_BYTES:
        raise _Stop(
            0, f"larger than {MAX_BYTES // 2**20} MiB; make long params lists in code, with rows_from"
        )
    if isinstance(raw, str):
        # Lone surrogates, which undecodable bytes of a command line become, are found when decoding.
        raw = raw.encode(errors="surrogatepass")
    utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if utf16 else "utf-8"
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        # All before the bad byte is text, and gives its line and column.
        before = raw[: error.start].decode(encoding, "replace")
        found = f"found the byte 0x{raw[error.start]:02x}, wanted text in UTF-8"
        raise _Stop(_end_of(before), f"{found}; save the file in that encoding") from None


_ABSENT: Any = object()
"""The key of a mapping whose next value is a key."""
_DROPPED: Any = object()
"""A key that was refused: its value is read and forgotten."""
_NO_KEYS: dict[Any, Mark] = {}
"""Of all lists."""
_NEW: Any = object()
"""A plain scalar that has not come yet."""
_MOST_KNOWN = 10_000
"""Plain scalars whose meaning is remembered."""


class _Open:
    """A list or mapping whose end has not come yet."""

    __slots__ = ("anchor", "before", "height", "key", "place", "value")

    def __init__(self, value: Any, place: Places, anchor: str | None, before: int) -> None:
        self.value = value
        self.place = place
        self.anchor = anchor
        self.before = before
        """Values counted when it began."""
        self.height = 1
        """Levels of nesting so far, itself included."""
        self.key: Any = _ABSENT


@attrs.frozen
class _Anchored:
    value: Any
    place: Place
    size: int
    """Values in it."""
    height: int
    """Levels of nesting in it, 0 for a scalar."""


class _Composer:
    """Builds one document from events; all state of one reading."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.count = 0
        # The document itself is the only item of a list, so that it is added like any other value.
        self.stack = [_Open([], Places(0, [], {}), None, 0)]
        self.anchors: dict[str, _Anchored | None] = {}
        """None while the anchored value is still open."""
        self.known: dict[str, Any] = {}
        """Plain scalars that have come, and what they mean."""

    def result(self) -> tuple[Any, Place]:
        root = self.stack[0]
        return (root.value[0], root.place.items[0]) if root.value else (None, 0)

    def compose(self, text: str) -> None:
        if found := _TAG_HANDLE.search(text):  # libyaml compares each of them with all before it
            raise _Stop(
                _end_of(text[: found.start()]), "found the directive %TAG; tags are not read, leave it out"
            )
        loader = _loader()
        known = self.known
        takers: dict[type, Callable[[Any], None]] = {
            ScalarEvent: self.take_scalar,
            events.SequenceStartEvent: self.begin,
            events.MappingStartEvent: self.begin,
            events.SequenceEndEvent: self.end,
            events.MappingEndEvent: self.end,
            events.AliasEvent: self.take_alias,
            events.DocumentStartEvent: self.take_start,
        }
        try:
            next_event = loader(text).get_event
            while (event := next_event()) is not None:
                # Nearly half of all events, and nothing in them that `take_scalar` would have to look at.
                if type(event) is ScalarEvent and event.anchor is None and event.tag is None:
                    word = event.value
                    if word != "<<" and self.count < MAX_VALUES:
                        self.count += 1
                        start: Any = event.start_mark
                        place = start.line << 32 | start.column
                        value = known.get(word, _NEW) if event.implicit[0] else word
                        self.add(self.typed(word, place) if value is _NEW else value, place)
                        continue
                if take := takers.get(type(event)):
                    take(event)
        except yaml.MarkedYAMLError as error:
            line, column, message = explained(error, text)
            raise _Stop(line << 32 | column, message) from None
        except yaml.reader.ReaderError:
            start, message = unprintable(text)
            raise _Stop(_end_of(text[:start]), message) from None
        except (ValueError, OverflowError) as error:
            # The parser in pure Python meets \U escapes beyond Unicode with the error of chr().
            raise _Stop(_mark(event), f"this cannot be read after here: {error}") from None

    def take_start(self, event: Any) -> None:
        if self.stack[0].value:
            raise _Stop(_mark(event), "a second document begins here; one file is one configuration")

    def take_scalar(self, event: Any) -> None:
        mark = _mark(event)
        value: Any = event.value
        if event.tag is not None:
            self.refuse_tag(event.tag, mark)
        elif event.implicit[0]:  # plain: written without quotes
            if value == "<<" and self.expects_key():
                self.report(mark, "found the merge key <<, which is not read; write the keys out")
                value = _DROPPED
            else:
                value = self.typed(value, mark)
        self.grow(1, mark)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, mark, 1, 0)
        self.add(value, mark)

    def typed(self, text: str, mark: Mark) -> Any:
        try:
            value = scalar(text)
        except ValueError as error:
            self.report(mark, str(error))
            return _DROPPED
        if len(self.known) < _MOST_KNOWN:
            self.known[text] = value
        return value

    def take_alias(self, event: Any) -> None:
        mark, name = _mark(event), event.anchor
        if name not in self.anchors:
            hint = nearest(name, self.anchors) or "; a text that begins with * needs quotes"
            self.report(mark, f"found the alias *{name}, but no &{name} stands before it{hint}")
            self.add(_DROPPED, mark)
            return
        anchored = self.anchors[name]
        if anchored is None:
            raise _Stop(mark, f"found *{name} inside of &{name}; a value cannot contain itself, write it out")
        self.grow(anchored.size, mark)
        self.nest(anchored.height, mark)
        self.raise_height(anchored.height)
        self.add(anchored.value, anchored.place)

    def begin(self, event: Any) -> None:
        mark = _mark(event)
        if event.tag is not None:
            self.refuse_tag(event.tag, mark)
        self.count += 1
        if self.count > MAX_VALUES or len(self.stack) > MAX_DEPTH:
            self.grow(0, mark)
            self.nest(1, mark)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if type(event) is events.SequenceStartEvent:
            begun = _Open([], Places(mark, [], _NO_KEYS), event.anchor, self.count - 1)
        else:
            begun = _Open({}, Places(mark, {}, {}), event.anchor, self.count - 1)
        self.stack.append(begun)

    def end(self, _: Any) -> None:
        done = self.stack.pop()
        if done.anchor is not None:
            size = self.count - done.before
            self.anchors[done.anchor] = _Anchored(done.value, done.place, size, done.height)
        self.raise_height(done.height)
        self.add(done.value, done.place)

    def add(self, value: Any, place: Place) -> None:
        """Put a finished value where it belongs: into the list, as a key, or under the key before it."""
        parent = self.stack[-1]
        if type(parent.value) is list:
            parent.value.append(None if value is _DROPPED else value)
            parent.place.items.append(place)
        elif parent.key is _ABSENT:
            if type(value) is str and value not in parent.place.keys and type(place) is int:
                parent.place.keys[value] = place
                parent.key = value
            else:
                parent.key = self.accepted(value, place)
        else:
            if parent.key is not _DROPPED and value is not _DROPPED:
                parent.value[parent.key] = value
                parent.place.items[parent.key] = place
            parent.key = _ABSENT

    def accepted(self, key: Any, place: Place) -> Any:
        known = self.stack[-1].place.keys
        if isinstance(place, Places):
            self.report(place.mark, f"found {shown(key)} as a key, wanted a single word")
            return _DROPPED
        if key is _DROPPED:
            return key
        if key in known:
            line, _ = line_and_column(known[key])
            self.report(place, f"found the key {shown(key)} again, first in line {line}; keep one of them")
            return _DROPPED
        known[key] = place
        return key

    def expects_key(self) -> bool:
        parent = self.stack[-1]
        return type(parent.value) is dict and parent.key is _ABSENT

    def raise_height(self, height: int) -> None:
        parent = self.stack[-1]
        if parent.height <= height:
            parent.height = height + 1

    def grow(self, values: int, mark: Mark) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            raise _Stop(
                mark, f"more than {MAX_VALUES:,} values, aliases counted; make long params lists in code"
            )

    def nest(self, levels: int, mark: Mark) -> None:
        if len(self.stack) - 1 + levels > MAX_DEPTH:
            raise _Stop(mark, TOO_DEEP)

    def refuse_tag(self, tag: str, mark: Mark) -> None:
        self.report(mark, f"found the tag {shown(tag)}, which is not read; leave it out")

    def report(self, mark: Mark, message: str) -> None:
        """Note a problem after which reading goes on."""
        self.note(mark, message)
        if len(self.problems) == MAX_PROBLEMS:
            raise _Stop(mark, f"{MAX_PROBLEMS:,} problems up to here; the rest was not read")

    def note(self, mark: Mark, message: str) -> None:
        line, column = line_and_column(mark)
        path = dotted(self.keys())
        self.problems.append(Problem(file=self.file, line=line, column=column, path=path, message=message))

    def keys(self) -> Keys:
        """The way to the value that comes next."""
        way: list[Any] = []
        for parent in self.stack[1:]:
            if type(parent.value) is list:
                way.append(len(parent.value))
            elif parent.key is not _ABSENT and parent.key is not _DROPPED:
                way.append(parent.key)
        return tuple(way)


_told = False
"""Whether this process has said that libyaml is missing."""


def _loader() -> Any:
    """What makes events of a text: only these are asked of it, its constructors never run.

    Warns:
        SmmWarning: once, libyaml is missing.
    """
    global _told
    if yaml.__with_libyaml__:
        return yaml.CSafeLoader
    if not _told:
        _told = True
        warn_user(
            "PyYAML was built without libyaml, so reading a configuration takes ten times as long; "
            "install one of its wheels, or libyaml before building it"
        )
    return yaml.SafeLoader


_TAG_HANDLE = re.compile(r"^%TAG\b", re.MULTILINE)


def _mark(event: Any) -> Mark:
    mark = event.start_mark
    packed: Mark = mark.line << 32 | mark.column
    return packed


def _end_of(text: str) -> Mark:
    return text.count("\n") << 32 | (len(text) - 1 - text.rfind("\n"))
