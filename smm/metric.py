"""The nouns: Metric, Input, Record, Stamp, SideCar. Inert values; what is done with them is elsewhere."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from typing import Literal as TypeLiteral

from smm._dates import iso, moment
from smm._pieces import encoded, json_text, object_text, parsed, short, text_or_none
from smm._text import visible

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

Function: TypeAlias = Callable[..., Any]
NameFunction: TypeAlias = Callable[[str, tuple[Any, ...]], str]

RECORD_VERSION = 1
"""The value of `smm_record` in every side-car this version writes."""


@attrs.frozen(kw_only=True)
class Argument:
    """In an input's params: the value of this argument in the row that is being computed."""

    name: str


@attrs.frozen(kw_only=True)
class Literal:
    """In an input's params: this value itself."""

    value: Any


@attrs.frozen(kw_only=True)
class Input:
    """An argument that is filled with another metric's value when the metric is computed."""

    metric: str
    """Base name of the upstream metric."""
    params: Sequence[Argument | Literal] | Mapping[str, Argument | Literal] = ()
    """How to call it: by position, or by the upstream function's argument names."""


OnStale: TypeAlias = TypeLiteral["serve", "warn", "recompute", "error"]
"""What becomes of a stored value that is stale."""
StaleOn: TypeAlias = TypeLiteral["code", "inputs", "age"]
"""What can make a stored value stale."""

ON_STALE: tuple[OnStale, ...] = ("serve", "warn", "recompute", "error")
STALE_ON: tuple[StaleOn, ...] = ("code", "inputs", "age")


def _check_policy(_: Trust, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value not in ON_STALE:
        raise ValueError(f"{field.name} is {value!r}; it must be one of {', '.join(ON_STALE)}")


def _check_what(_: Trust, field: attrs.Attribute[Any], value: Any) -> None:
    for word in value or ():
        if word not in STALE_ON:
            raise ValueError(f"{field.name} has {word!r}; it may have {', '.join(STALE_ON)}")


@attrs.frozen(kw_only=True)
class Trust:
    """When a stored value counts as stale, and what becomes of it then. None: as the manager says."""

    on_stale: OnStale | None = attrs.field(default=None, validator=_check_policy)
    max_age_seconds: float | None = None
    stale_on: tuple[StaleOn, ...] | None = attrs.field(default=None, validator=_check_what)

    def over(self, other: Trust) -> Trust:
        """This, and what it leaves open as another says."""
        return Trust(
            on_stale=self.on_stale or other.on_stale,
            max_age_seconds=other.max_age_seconds if self.max_age_seconds is None else self.max_age_seconds,
            stale_on=other.stale_on if self.stale_on is None else self.stale_on,
        )


def _check_timeout(metric: Metric, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not (type(value) in (int, float) and 0 < value < math.inf):
        raise ValueError(f"{field.name} of metric {metric.base_name!r} is {value!r}; give seconds above 0")


def _check_retries(metric: Metric, field: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(
            f"{field.name} of metric {metric.base_name!r} is {value!r}; give a whole number from 0"
        )


@attrs.frozen(kw_only=True)
class Metric:
    """A declaration: a name, a function, the rows it is wanted for."""

    base_name: str
    function: Function | None = None
    """None while a metric declared in YAML waits for `@CM.collect`."""
    params_list: Any = ((),)
    """Any iterable of rows. These are sequences, mappings by argument name, or scalars for one argument."""
    name_generation_function: NameFunction | None = None
    ignore: tuple[str, ...] = ()
    """Arguments that are no part of a call's identity."""
    inputs: Mapping[str, Input] = attrs.field(factory=dict)
    """By argument name."""
    trust: Trust = Trust()
    timeout_seconds: float | None = attrs.field(default=None, validator=_check_timeout)
    """A row that computes longer is stopped, and failed; needs workers that are processes."""
    retries: int = attrs.field(default=0, validator=_check_retries)
    """How many more times a row that failed is tried in the same run."""


@attrs.frozen(kw_only=True)
class Read:
    """An upstream metric that was read."""

    name: str
    date: datetime
    """The `changed` of the record that was read: since when that metric has had the value it had then."""
    store: str | None = None
    """The folder of the other storage it was read from; None for the reader's own."""


@attrs.frozen(kw_only=True)
class Code:
    """The fingerprint of a metric's code."""

    digest: str
    """Of all parts; independent of the names of modules and files."""
    parts: Mapping[str, str]
    """The digest of each definition the function reaches, itself included: `analysis.growth_rate`."""
    python: str
    """The version of Python that read it, `3.11`: another one may read the same source differently."""
    reading: int = 1
    """The version of smm's way of reading code, `READING` of the fingerprint; 1 where none was noted."""
    unseen: tuple[str, ...] = ()
    """Clauses that name what the code reaches and no fingerprint covers: `analysis.f calls exec`."""

    def __hash__(self) -> int:
        return hash(self.digest)  # a mapping has none


@attrs.frozen(kw_only=True)
class Accepted:
    """A person's word that a value is right though its code or its inputs have changed since."""

    date: datetime
    digest: str | None
    """Of the code that it was computed by; None if that was not known."""


ReasonKind: TypeAlias = TypeLiteral[
    "missing", "failed", "forced", "needed", "code", "input", "age", "unknown", "unseen"
]


@attrs.frozen(kw_only=True)
class Reason:
    """Why a metric is, or would be, computed; or why it is not known whether it should be.

    `missing`: it is not stored. `failed`: nor is it, and an earlier run failed at it. `forced`: somebody
    wants it anew. `needed`: missing, and not asked for, but another one reads it. `code`: what computes it
    changed. `input`: what it read is not what it would read now. `age`: it is older than it may be.
    `unknown`: nobody can tell whether its code is the same. `unseen`: something of its code or its reads
    could not be seen when it was computed, so that a change of that will not be seen either.
    """

    kind: ReasonKind
    about: str | None = None
    """The reader for `needed`, the definition for `code`, the upstream metric for `input`."""
    detail: str = ""
    """In words, to be read after what it is about: `changed`, `was computed again on 2026-01-31 17:05`."""
    is_inherited: bool = False
    """True for an input that has the value it had then, and is stale itself."""
    is_earlier: bool = False
    """True for code that an earlier version of smm noted, by another way of reading it."""

    @property
    def is_stale(self) -> bool:
        """True if the stored value is not what would be computed now."""
        return self.kind in ("code", "input", "age")

    def __str__(self) -> str:
        words = {"code": "the code of ", "input": "its input "}
        about = "" if self.about is None else f"{words.get(self.kind, '')}{self.about} "
        return visible(f"{about}{self.detail}".strip(), lines=True) or self.kind


@attrs.frozen(kw_only=True)
class Stamp:
    """What a stored file looked like when it was written."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since 1970 UTC, as the file system noted it."""
    crc32: int
    """Of all its bytes."""

    def fits(self, status: os.stat_result) -> bool:
        """Whether a file has this size and time, so that its check sum must be this one too."""
        return status.st_size == self.size and status.st_mtime_ns == self.mtime_ns


@attrs.frozen(kw_only=True)
class Record:
    """What the side-car of a stored metric says. Fields that were never noted are None."""

    name: str
    base_name: str | None = None
    params: Mapping[str, Any] | None = None
    """By argument name, in signature order, in the JSON form of `smm.identity.params_to_json`."""
    date: datetime
    """When the computation ended: aware, UTC."""
    changed: datetime = attrs.field(default=cast("datetime", None))
    """When the metric first had this very value: the date of the first of the computations in a row that gave
    the same bytes. `date` where it was never noted."""
    duration_seconds: float | None = None
    data: Stamp | None = None
    """None for storages without files."""
    code: Code | None = None
    inputs: tuple[Read, ...] | None = None
    """What was read to compute it, in the order of reading; empty for nothing."""
    reads_unseen: str | None = None
    """A clause that says why `inputs` may lack some reads; None if all were seen."""
    accepted: Accepted | None = None
    smm_version: str | None = None
    python_version: str | None = None
    numpy_version: str | None = None
    """None also if the process that computed it had not loaded numpy."""

    def __attrs_post_init__(self) -> None:
        changed: datetime | None = self.changed
        if not changed:
            object.__setattr__(self, "changed", self.date)

    def to_json(self) -> str:
        """The text of the side-car: one JSON object, `"smm_record": 1` first."""
        return self.text_with(self.data)

    def text_with(self, data: Stamp | None) -> str:
        """The same, with another `data`."""
        # What `json.dumps` of a dict would write, in half the time that takes.
        stamp = {"size": data.size, "mtime_ns": data.mtime_ns, "crc32": data.crc32} if data else None
        by = self.accepted
        accepted = {"date": iso(by.date), "digest": by.digest} if by else None
        unseen = "" if self.reads_unseen is None else f'"reads_unseen": {json_text(self.reads_unseen)}, '
        return (
            f'{{"smm_record": {RECORD_VERSION}, "name": {json_text(self.name)}, '
            f'"base_name": {json_text(self.base_name)}, "params": {object_text(self.params)}, '
            f'"date": "{iso(self.date)}", "changed": "{iso(self.changed)}", '
            f'"duration_seconds": {json_text(self.duration_seconds)}, '
            f'"data": {object_text(stamp)}, "code": {_code_text(self.code)}, '
            f'"inputs": {_inputs_text(self.inputs)}, {unseen}"accepted": {object_text(accepted)}, '
            f'"smm_version": {json_text(self.smm_version)}, '
            f'"python_version": {json_text(self.python_version)}, '
            f'"numpy_version": {json_text(self.numpy_version)}}}'
        )

    @classmethod
    def from_json(cls, name: str, text: str) -> Record:
        """Read a side-car's text: smm's JSON object, or the bare date the predecessor wrote.

        Unknown fields are passed over, so that later versions may add some.

        Raises:
            ValueError: the text is neither; a damaged side-car counts as missing.
        """
        try:
            return SideCar(name, text).record()
        except ValueError as error:
            raise ValueError(f"the side-car of {name!r} is damaged: {error}") from None

    @property
    def code_digest(self) -> str | None:
        """Of the code that computed it; None if that was not noted."""
        return None if self.code is None else self.code.digest

    @property
    def code_reading(self) -> int | None:
        """The version of the reading of the code that computed it; None if no code was noted."""
        return None if self.code is None else self.code.reading

    @property
    def reads_nothing(self) -> bool:
        """True if it is noted that no other metric was read."""
        return self.inputs == ()


class SideCar:
    """A side-car's text, of which only that has been looked at which every hit from storage needs.

    Making the whole record would take nearly as long as reading the file does.

    Raises:
        ValueError: the text is no record; a damaged side-car counts as missing.
    """

    __slots__ = ("_fields", "changed", "data", "date", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._fields = fields = _fields_of(text)
        for key, kinds in _KINDS.items():
            if type(fields.get(key)) not in kinds:
                raise ValueError(f"it has {key}: {short(fields.get(key))}")
        self.date = moment(fields["date"])
        changed = fields.get("changed")
        self.changed = self.date if changed is None else moment(changed)
        duration = fields.get("duration_seconds")
        if duration is not None and not 0 <= duration <= _LONGEST_SECONDS:
            raise ValueError(f"it has duration_seconds: {short(duration)}")
        self.data = _read_stamp(fields.get("data"))

    @property
    def date_text(self) -> str:
        """The date as it is written there, ISO 8601: a time, or the day that the predecessor wrote."""
        return str(self._fields["date"])

    @property
    def base_name(self) -> str | None:
        """As of the record."""
        name: str | None = self._fields.get("base_name")
        return name

    @property
    def params(self) -> Mapping[str, Any] | None:
        """As of the record."""
        params: Mapping[str, Any] | None = self._fields.get("params")
        return params

    @property
    def code_digest(self) -> str | None:
        """As of the record."""
        code = self._fields.get("code")
        digest = code.get("digest") if type(code) is dict else None
        return digest if type(digest) is str else None

    @property
    def code_reading(self) -> int | None:
        """As of the record."""
        code = self._fields.get("code")
        reading = code.get("reading", 1) if type(code) is dict else None
        return reading if type(reading) is int else None

    @property
    def is_unseen(self) -> bool:
        """True if something of its code or its reads could not be seen."""
        code = self._fields.get("code")
        unseen = code.get("unseen") if type(code) is dict else None
        return bool(unseen) or self._fields.get("reads_unseen") is not None

    @property
    def reads_nothing(self) -> bool:
        """As of the record."""
        return bool(self._fields.get("inputs") == [])

    def record(self) -> Record:
        """The whole of it."""
        get = self._fields.get
        return Record(
            name=self.name,
            base_name=self.base_name,
            params=self.params,
            date=self.date,
            changed=self.changed,
            duration_seconds=get("duration_seconds"),
            data=self.data,
            code=_read_code(get("code")),
            inputs=_read_inputs(get("inputs")),
            reads_unseen=get("reads_unseen"),
            accepted=_read_accepted(get("accepted")),
            smm_version=get("smm_version"),
            python_version=get("python_version"),
            numpy_version=get("numpy_version"),
        )


# By hand: a record is read on every hit from storage, and cattrs costs an import.
_OF_TEXT = frozenset({str, type(None)})
_KINDS: Mapping[str, frozenset[object]] = {
    "base_name": _OF_TEXT,
    "params": frozenset({dict, type(None)}),
    "date": frozenset({str}),
    "changed": _OF_TEXT,
    "duration_seconds": frozenset({int, float, type(None)}),
    "data": frozenset({dict, type(None)}),
    "reads_unseen": _OF_TEXT,
    "smm_version": _OF_TEXT,
    "python_version": _OF_TEXT,
    "numpy_version": _OF_TEXT,
}
_LONGEST_SECONDS = 1e12
"""A computation cannot have lasted longer than the years that dates can have."""
_DEEPEST = 350
"""Params that are nested as deep as they may be take 300."""


def _fields_of(text: str) -> dict[str, Any]:
    """Return the JSON object of a side-car; of the predecessor's bare date, one with that date."""
    noted = parsed(text, _DEEPEST) if text[:1] in ("{", '"') else text
    if type(noted) is str:
        return {"date": noted}
    if type(noted) is not dict or type(noted.get("smm_record")) is not int:
        raise ValueError(f"it is no record: {short(text)}")
    return noted


def _read_stamp(noted: dict[str, Any] | None) -> Stamp | None:
    if noted is None:
        return None
    try:
        size, mtime_ns, crc = noted["size"], noted["mtime_ns"], noted["crc32"]
    except KeyError:
        size = mtime_ns = crc = None
    if not type(size) is type(mtime_ns) is type(crc) is int:
        raise ValueError(f"it has data: {short(noted)}")
    return Stamp(size=size, mtime_ns=mtime_ns, crc32=crc)


# What says where a value came from is left out where it cannot be read: it is no part of the value.


def _read_code(noted: Any) -> Code | None:
    try:
        return Code(
            digest=str(noted["digest"]),
            parts={str(name): str(digest) for name, digest in noted["parts"].items()},
            python=str(noted["python"]),
            reading=int(noted.get("reading", 1)),
            unseen=tuple(map(str, noted.get("unseen", ()))),
        )
    except (TypeError, LookupError, ValueError, AttributeError, OverflowError):
        return None


def _read_inputs(noted: Any) -> tuple[Read, ...] | None:
    try:
        return tuple(
            Read(name=str(read["name"]), date=moment(read["date"]), store=text_or_none(read.get("store")))
            for read in noted
        )
    except (TypeError, LookupError, ValueError, AttributeError):
        return None


def _read_accepted(noted: Any) -> Accepted | None:
    try:
        return Accepted(date=moment(noted["date"]), digest=text_or_none(noted["digest"]))
    except (TypeError, LookupError, ValueError):
        return None


# All rows of a metric have the same one. Of two that are equal, the order of the parts may be either's.
@functools.lru_cache(maxsize=256)
def _code_text(code: Code | None) -> str:
    if code is None:
        return "null"
    noted = {"digest": code.digest, "parts": dict(code.parts), "python": code.python, "reading": code.reading}
    return encoded(noted | ({"unseen": list(code.unseen)} if code.unseen else {}))


def read_to_text(read: Read) -> str:
    """Return a read as one line of JSON."""
    return encoded({"name": read.name, "date": iso(read.date), "store": read.store})


def read_from_text(text: str) -> Read:
    """Return the read of a line by `read_to_text`.

    Raises:
        ValueError: it is none.
    """
    found = _read_inputs([json.loads(text)])
    if found is None:
        raise ValueError(f"{text!r} is no read")
    return found[0]


def _inputs_text(inputs: tuple[Read, ...] | None) -> str:
    if not inputs:
        return "null" if inputs is None else "[]"
    return encoded([{"name": read.name, "date": iso(read.date), "store": read.store} for read in inputs])
