"""The nouns: Metric, Input, Record, Stamp. Inert values; what is done with them is done elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeAlias
from typing import Literal as TypeLiteral

import attrs

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
    """Any iterable of rows: sequences, mappings by argument name, or scalars for one argument."""
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
    """Of the record that was read: when that value was computed."""
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
    """`3.11`: another version may read the same source differently."""


@attrs.frozen(kw_only=True)
class Accepted:
    """A person's word that a value is right though its code or its inputs have changed since."""

    date: datetime
    digest: str | None
    """Of the code that it was computed by; None if that was not known."""


ReasonKind: TypeAlias = TypeLiteral[
    "missing", "failed", "forced", "needed", "code", "input", "age", "unknown"
]


@attrs.frozen(kw_only=True)
class Reason:
    """Why a metric is, or would be, computed; or why it is not known whether it should be.

    `missing`: it is not stored. `failed`: nor is it, and an earlier run failed at it. `forced`: somebody
    wants it anew. `needed`: missing, and not asked for, but another one reads it. `code`: what computes it
    changed. `input`: what it read is not what it would read now. `age`: it is older than it may be.
    `unknown`: nobody can tell whether its code is the same.
    """

    kind: ReasonKind
    about: str | None = None
    """The reader for `needed`, the definition for `code`, the upstream metric for `input`."""
    detail: str = ""
    """In words, to be read after what it is about: `changed`, `was computed again on 2026-01-31 17:05`."""

    @property
    def is_stale(self) -> bool:
        """Whether a stored value is not what would be computed now."""
        return self.kind in ("code", "input", "age")

    def __str__(self) -> str:
        words = {"code": "the code of ", "input": "its input "}
        about = "" if self.about is None else f"{words.get(self.kind, '')}{self.about} "
        return f"{about}{self.detail}".strip() or self.kind


@attrs.frozen(kw_only=True)
class Stamp:
    """What a stored file looked like when it was written."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since 1970 UTC, as the file system noted it."""
    crc32: int
    """Of all its bytes."""


@attrs.frozen(kw_only=True)
class Record:
    """What the side-car of a stored metric says. Fields that were never noted are None."""

    name: str
    base_name: str | None = None
    params: Mapping[str, Any] | None = None
    """By argument name, in signature order, in the JSON form of `smm.identity.params_to_json`."""
    date: datetime
    """When the computation ended: aware, UTC."""
    duration_seconds: float | None = None
    data: Stamp | None = None
    """None for storages without files."""
    code: Code | None = None
    inputs: tuple[Read, ...] | None = None
    """What was read to compute it, in the order of reading; empty for nothing."""
    accepted: Accepted | None = None
    smm_version: str | None = None
    python_version: str | None = None
    numpy_version: str | None = None

    def to_json(self) -> str:
        """The text of the side-car: one JSON object, `"smm_record": 1` first."""
        return json.dumps({"smm_record": RECORD_VERSION} | attrs.asdict(self), default=_as_json)

    @classmethod
    def from_json(cls, name: str, text: str) -> Record:
        """Read a side-car's text: smm's JSON object, or the bare date the predecessor wrote.

        Unknown fields are passed over, so that later versions may add some.

        Raises:
            ValueError: the text is neither; a damaged side-car counts as missing.
        """
        try:
            noted = json.loads(text) if text[:1] in '{"' else text
        except RecursionError:
            raise ValueError(f"the side-car of {name!r} is no record: {text[:80]!r}") from None
        if isinstance(noted, str):
            return cls(name=name, date=_aware(noted))
        if not isinstance(noted, dict) or not isinstance(noted.get("smm_record"), int):
            raise ValueError(f"the side-car of {name!r} is no record: {text[:80]!r}")
        return _read_fields(name, noted)


def _read_fields(name: str, noted: dict[str, Any]) -> Record:
    """Check each field's type by hand: a record is read on every cold hit, and cattrs costs an import."""

    def field(key: str, *kinds: type, source: dict[str, Any] = noted) -> Any:
        value = source.get(key)
        if value is not None and type(value) not in kinds:
            raise ValueError(f"the side-car of {name!r} has {key}: {value!r}")
        return value

    def stamp(source: dict[str, Any]) -> Stamp:
        return Stamp(
            **{key: _present(field(key, int, source=source)) for key in ("size", "mtime_ns", "crc32")}
        )

    data = field("data", dict)
    return Record(
        name=name,
        base_name=field("base_name", str),
        params=field("params", dict),
        date=_aware(_present(field("date", str))),
        duration_seconds=field("duration_seconds", int, float),
        data=None if data is None else stamp(data),
        code=_read_code(noted.get("code")),
        inputs=_read_inputs(noted.get("inputs")),
        accepted=_read_accepted(noted.get("accepted")),
        smm_version=field("smm_version", str),
        python_version=field("python_version", str),
        numpy_version=field("numpy_version", str),
    )


# What says where a value came from is left out where it cannot be read: it is no part of the value.


def _read_code(noted: Any) -> Code | None:
    try:
        return Code(digest=str(noted["digest"]), parts=dict(noted["parts"]), python=str(noted["python"]))
    except (TypeError, LookupError, ValueError):
        return None


def _read_inputs(noted: Any) -> tuple[Read, ...] | None:
    try:
        return tuple(
            Read(name=str(read["name"]), date=_aware(read["date"]), store=read.get("store")) for read in noted
        )
    except (TypeError, LookupError, ValueError, AttributeError):
        return None


def _read_accepted(noted: Any) -> Accepted | None:
    try:
        return Accepted(date=_aware(noted["date"]), digest=noted["digest"])
    except (TypeError, LookupError, ValueError):
        return None


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    raise TypeError(f"{value!r} has no place in a record")


def _present(value: Any) -> Any:
    if value is None:
        raise ValueError("the side-car lacks a field it must have")
    return value


def _aware(text: str) -> datetime:
    """A date or time as ISO 8601; without a zone it is taken as UTC, a bare date as its midnight."""
    if len(text) == len("2026-01-31"):
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    when = datetime.fromisoformat(text)
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
