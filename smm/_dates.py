"""Dates as the texts of side-cars and logs have them: ISO 8601."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, date, datetime


def iso(when: datetime) -> str:
    """Return an aware time as text: UTC, with microseconds."""
    return (when if when.tzinfo is UTC else when.astimezone(UTC)).isoformat(timespec="microseconds")


def moment(text: str) -> datetime:
    """Return a date or time in ISO 8601 as an aware one, UTC.

    Without a zone it is taken as UTC, a bare date as its midnight. It is so far from the first and the last
    day that Python knows that every zone can show it.

    Raises:
        ValueError: it is none, or lies in the year 1 or 9999.
    """
    if len(text) == len("2026-01-31"):
        day = date.fromisoformat(text)
        when = datetime(day.year, day.month, day.day, tzinfo=UTC)
    else:
        when = datetime.fromisoformat(text)
    if not MINYEAR < when.year < MAXYEAR:
        raise ValueError(f"{text!r} is no date that can be meant")
    if when.tzinfo is UTC:
        return when
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
