"""How smm writes seconds, bytes and the texts of others for a person, and reads what a person writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import timedelta
    from fractions import Fraction

_HIDDEN = frozenset(
    map(
        chr,
        (
            *range(0x20),  # C0: escape, bell, backspace, carriage return ...
            *range(0x7F, 0xA0),  # delete, and C1: escape sequences of one character
            *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # order of writing
            *(0x2028, 0x2029),  # ends of lines and paragraphs
        ),
    )
)


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return a text in which nothing changes what a terminal does, for whatever others have written.

    Control characters (C0, delete, C1), controls of the writing direction, separators of lines and paragraphs
    and lone surrogates become what `repr` writes for them, such as `\x1b` and `\u202e`. All else stays,
    backslashes too, so the result cannot be read back; what is visible already comes out as it is.

    Args:
        text: from a name, a param, an exception or a file.
        lines: let newlines and tabs stay, for tracebacks and source code.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        repr(each)[1:-1] if (each in _HIDDEN or "\ud800" <= each <= "\udfff") and each not in kept else each
        for each in text
    )


def seconds(duration: float) -> str:
    """A duration, in seconds, to three digits: `412 µs`, `3.05 s`, `2 min 05 s`, `7 h 02 min`, `9 d 04 h`."""
    if duration < 1e-3:
        return f"{duration * 1e6:.0f} µs"
    if duration < 0.9995:
        return f"{duration * 1e3:.3g} ms"
    if duration < 60:
        return f"{duration:.3g} s"
    minutes, rest = divmod(round(duration), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days} d {hours:02} h" if hours else f"{days} d"


def size(count: float) -> str:
    """A number of bytes: `512 B`, `8.2 kB`, `1.5 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


# --- from a person ---------------------------------------------------------------------------------------

TIME = "a time above 0 with its unit (ms, s, min, h, d), such as '10min'"
"""What `parse_seconds` takes, in words."""
SIZE = "a size above 0 with its unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), such as '2 GiB'"
"""What `parse_size` takes, in words."""

LONGEST_DAYS = 36_500
"""Of a time; beyond some hundred years the operating system's own clocks overflow."""

# Fifteen digits on either side: as many as a float holds, and no text makes more than arithmetic can take.
_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,15})?"
TIME_PATTERN = f"^(?=.*[1-9]){_NUMBER} ?([mM]?[sS]|[mM][iI][nN]|[hH]|[dD])$"
SIZE_PATTERN = f"^(?=.*[1-9]){_NUMBER} ?([kKmMgGtT][iI]?)?[bB]$"
"""As in a JSON Schema, too."""

_MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_seconds(text: Any) -> float:
    """Seconds from a time with its unit: `90s`, `10min`, `2h`, `7d`, `1.5 h`, `500ms`; in any case.

    Raises:
        ValueError: there is no unit, another one, or the time is nothing or longer than 36,500 days.
    """
    number, unit = _parted(text, TIME_PATTERN, TIME)
    return _checked_seconds(number * _MILLISECONDS[unit] / 1000, text)


def parse_size(text: Any) -> int:
    """Bytes from a size with its unit: `2 GiB`, `1.5GB`, `64KiB`, `1000 B`; in any case.

    kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB powers of 1024. A fraction of a byte is left out.

    Raises:
        ValueError: there is no unit, another one, or the size is less than a byte.
    """
    number, unit = _parted(text, SIZE_PATTERN, SIZE)
    prefix = unit.removesuffix("b")
    size = int(number * (1024 if prefix.endswith("i") else 1000) ** _POWERS[prefix.removesuffix("i")])
    if size == 0:
        raise ValueError(f"found {text!r}, wanted at least one byte")
    return size


def parse_time(argument: str, given: str | timedelta | None) -> float | None:
    """Seconds from what an argument for a time, such as `timeout`, may be.

    Raises:
        ValueError: it is neither a time with its unit nor a timedelta, or not positive; names the argument.
    """
    if given is None:
        return None
    from datetime import timedelta

    try:
        if isinstance(given, timedelta):
            return _checked_seconds(given / timedelta(seconds=1), given)
        return parse_seconds(given)
    except ValueError as error:
        raise ValueError(f"{argument}: {error}, or a datetime.timedelta") from None


def parse_limit(limit: int | str | None) -> int | None:
    """Bytes from what a `memory_limit` argument may be.

    Raises:
        ValueError: it is neither a size with its unit nor a whole number of bytes from 1.
    """
    if limit is None or (type(limit) is int and limit > 0):
        return limit
    try:
        return parse_size(limit)
    except ValueError as error:
        raise ValueError(f"memory_limit: {error}, or a whole number of bytes from 1") from None


def _parted(text: Any, pattern: str, wanted: str) -> tuple[Fraction, str]:
    """The number and the unit, in lower case."""
    import re
    import reprlib
    import string
    from fractions import Fraction

    if not isinstance(text, str) or re.fullmatch(pattern, text) is None:
        raise ValueError(f"found {reprlib.repr(text)}, wanted {wanted}")
    number = text.rstrip(string.ascii_letters + " ")
    return Fraction(number), text.removeprefix(number).strip().lower()


def _checked_seconds(seconds: Fraction | float, given: object) -> float:
    if not 0 < seconds <= LONGEST_DAYS * 86400:
        raise ValueError(f"found {given!r}, wanted a time above 0 and of at most {LONGEST_DAYS:,} days")
    return float(seconds)
