"""Records: to a side-car's text and back, and what is no record."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._encoding import DEEPEST, canonical
from smm.identity import params_to_json
from smm.metric import Accepted, Code, Read, Record, Stamp

texts = st.text(max_size=20)
params = st.dictionaries(
    texts, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
)
whole = st.integers(0, 2**63)
dates = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))
records = st.builds(
    Record,
    name=texts,
    base_name=st.none() | texts,
    params=st.none() | params,
    date=dates,
    changed=dates,
    duration_seconds=st.none() | st.floats(0, 1e9),
    data=st.none() | st.builds(Stamp, size=whole, mtime_ns=whole, crc32=whole),
    code=st.none()
    | st.builds(
        Code,
        digest=texts,
        parts=st.dictionaries(texts, texts),
        python=texts,
        reading=st.integers(1, 9),
        unseen=st.lists(texts, max_size=2).map(tuple),
    ),
    inputs=st.none()
    | st.lists(st.builds(Read, name=texts, date=dates, store=st.none() | texts), max_size=3).map(tuple),
    reads_unseen=st.none() | texts,
    accepted=st.none() | st.builds(Accepted, date=dates, digest=st.none() | texts),
    smm_version=st.none() | texts,
    python_version=st.none() | texts,
    numpy_version=st.none() | texts,
)


@given(records)
def test_a_record_comes_back(record: Record) -> None:
    assert Record.from_json(record.name, record.to_json()) == record
    fields = json.loads(record.to_json())
    assert fields["smm_record"] == 1
    assert record.to_json() == json.dumps(fields), "written piece by piece, and yet as json writes it"


@given(records, texts.filter(lambda key: key not in vars(Record)))
def test_fields_of_later_versions_are_passed_over(record: Record, key: str) -> None:
    later = json.dumps({key: [1], **json.loads(record.to_json())})
    assert Record.from_json(record.name, later) == record


@given(records)
def test_a_record_without_changed_was_first_computed_at_its_date(record: Record) -> None:
    fields = json.loads(record.to_json())
    del fields["changed"]
    assert Record.from_json(record.name, json.dumps(fields)).changed == record.date
    assert Record(name="x", date=record.date).changed == record.date


def test_code_of_an_older_record_was_read_by_the_first_reading() -> None:
    code = {"digest": "0" * 16, "parts": {"m.f": "1" * 16}, "python": "3.11"}
    fields = {"smm_record": 1, "date": "2026-01-31T00:00:00+00:00", "code": code}
    read = Record.from_json("x", json.dumps(fields)).code
    assert read is not None
    assert (read.reading, read.unseen) == (1, ())


@given(st.dates(date(2, 1, 1), date(9998, 12, 31)))
def test_the_predecessors_dates_are_midnights(day: date) -> None:
    expected = Record(name="x", date=datetime.combine(day, time(), UTC))
    assert Record.from_json("x", day.isoformat()) == expected
    assert Record.from_json("x", f'"{day}"') == expected


@given(st.text() | st.recursive(st.none() | st.integers() | texts, st.lists).map(json.dumps))
def test_what_is_no_record_is_a_value_error(text: str) -> None:
    try:
        record = Record.from_json("x", text)
    except ValueError:
        return
    assert record.date.tzinfo is UTC


@pytest.mark.parametrize(
    "change",
    [
        {"date": None},
        {"date": 3},
        {"date": "yesterday"},
        {"date": "0001-01-01T00:00:00+14:00"},
        {"date": "0001-01-01T00:00:00"},
        {"date": "0001-01-01"},
        {"date": "9999-12-31T23:59:59-14:00"},
        {"changed": "9999-12-31"},
        {"duration_seconds": math.inf},
        {"duration_seconds": -math.inf},
        {"duration_seconds": math.nan},
        {"duration_seconds": -1e-9},
        {"duration_seconds": 1e300},
        {"duration_seconds": 10**400},
        {"changed": 3},
        {"changed": "yesterday"},
        {"reads_unseen": 3},
        {"smm_record": "1"},
        {"params": []},
        {"duration_seconds": "long"},
        {"data": {"size": 1}},
        {"data": {"size": 1, "mtime_ns": 2, "crc32": 3.5}},
        {"data": {"size": True, "mtime_ns": 2, "crc32": 3}},
    ],
)
def test_a_field_of_another_type_is_damage(change: dict[str, Any]) -> None:
    fields = json.loads(Record(name="x", date=datetime(2026, 1, 31, tzinfo=UTC)).to_json())
    with pytest.raises(ValueError, match="the side-car of 'x' is damaged: "):
        Record.from_json("x", json.dumps(fields | change))


def test_deep_nesting_is_damage_too() -> None:
    for text in ('{"a":' * 100_000, '{"smm_record": 1, "params": {"a": ' + "[" * 900 + "]" * 900 + "}}"):
        with pytest.raises(
            ValueError, match="the side-car of 'x' is damaged: it is nested more than 350 deep"
        ):
            Record.from_json("x", text)


def test_params_nested_as_deep_as_they_may_be_come_back() -> None:
    value: Any = 1
    for _ in range(DEEPEST):
        value = {1: value}
    noted = params_to_json({"a": canonical(value)})
    record = Record(name="x", params=noted, date=datetime(2026, 1, 31, tzinfo=UTC))
    assert Record.from_json("x", record.to_json()) == record


def test_brackets_in_a_text_nest_nothing() -> None:
    record = Record(name="x", params={"a": "[{" * 900}, date=datetime(2026, 1, 31, tzinfo=UTC))
    assert Record.from_json("x", record.to_json()) == record
