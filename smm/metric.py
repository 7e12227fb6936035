"""The nouns: Metric, Input, Record, Stamp. Inert values; what is done with them is done elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

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
    timeout_seconds: float | None = attrs.field(default=None, validator=_check_timeout)
    """A row that computes longer is stopped, and failed; needs workers that are processes."""
    retries: int = attrs.field(default=0, validator=_check_retries)
    """How many more times a row that failed is tried in the same run."""


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
    smm_version: str | None = None
    python_version: str | None = None
    numpy_version: str | None = None

    def to_json(self) -> str:
        """The text of the side-car: one JSON object, `"smm_record": 1` first."""
        fields = attrs.asdict(self) | {"date": self.date.astimezone(UTC).isoformat(timespec="microseconds")}
        return json.dumps({"smm_record": RECORD_VERSION} | fields)

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
        smm_version=field("smm_version", str),
        python_version=field("python_version", str),
        numpy_version=field("numpy_version", str),
    )


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
