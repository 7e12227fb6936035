"""Times and sizes as people write them, read and refused; texts of others, made visible."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._text import SIZE, TIME, parse_seconds, parse_size, parse_time, seconds, size, visible


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", 90.0),
        ("10min", 600.0),
        ("2h", 7200.0),
        ("7d", 604_800.0),
        ("1.5 h", 5400.0),
        ("500ms", 0.5),
        ("0.001 ms", 1e-6),
        ("0.1 s", 0.1),
        ("007 s", 7.0),
        ("10 MIN", 600.0),
        ("2 H", 7200.0),
        ("36500d", 3.1536e9),
    ],
)
def test_times(text: str, wanted: float) -> None:
    found = parse_seconds(text)
    assert (found, type(found)) == (wanted, float)


@pytest.mark.parametrize(
    "text",
    [
        "", "10", "10.5", "s", "min", "ten s", "10m", "10 minutes", "10 mins", "1w", "1y", "1h30min",
        "-5s", "+5s", "0s", "0.000 h", "1e3s", "1_000 s", "1,5 h", ".5 h", "5. h", "1..5h", "inf s", "nan s",
        " 5s", "5s ", "5  s", "5\ts", "5\u00a0s", "5s\n", "\u0665s", "5\u017f", "1" * 16 + " s",
        "1" * 9999 + "s", "1 h 30 min",
    ],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=f"^found .*, wanted {re.escape(TIME)}$") as caught:
        parse_seconds(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["36501d", "36500.001 d", "999999999999999h"])
def test_a_time_beyond_every_clock(text: str) -> None:
    with pytest.raises(
        ValueError, match=f"^found '{text}', wanted a time above 0 and of at most 36,500 days$"
    ):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2 GiB", 2**31),
        ("500 MB", 500_000_000),
        ("1.5GB", 1_500_000_000),
        ("64KiB", 65_536),
        ("1000 B", 1000),
        ("1 kB", 1000),
        ("1 KB", 1000),
        ("1kib", 1024),
        ("2 gb", 2 * 10**9),
        ("3TB", 3 * 10**12),
        ("3 TiB", 3 * 2**40),
        ("0.1 GiB", 107_374_182),
        ("1.9 B", 1),
        ("999999999999999 TiB", 999_999_999_999_999 * 2**40),
    ],
)
def test_sizes(text: str, wanted: int) -> None:
    found = parse_size(text)
    assert (found, type(found)) == (wanted, int)


@pytest.mark.parametrize(
    "text",
    [
        "", "1000", "B", "GiB", "2 G", "2 Gi", "2 Gbit", "2 bytes", "2 PB", "2 iB", "-1 B", "0 GiB", "1e9 B",
        "1,5 GB", ".5 GB", "2  GB", " 2 GB", "2 GB ", "2 GB\n", "two GB", "\u0662 GB", "2 \u212aB",
        "1" * 16 + "B",
    ],
)  # fmt: skip
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=f"^found .*, wanted {re.escape(SIZE)}$"):
        parse_size(text)


def test_less_than_a_byte() -> None:
    with pytest.raises(ValueError, match=r"^found '0\.9 B', wanted at least one byte$"):
        parse_size("0.9 B")


@pytest.mark.parametrize("value", [10, 10.0, True, None, b"10s", ["10s"], timedelta(seconds=1)])
def test_only_texts_are_read(value: Any) -> None:
    with pytest.raises(ValueError, match="wanted a time above 0 with its unit"):
        parse_seconds(value)
    with pytest.raises(ValueError, match="wanted a size above 0 with its unit"):
        parse_size(value)


decimals = st.decimals(min_value="0.001", max_value=10**6, places=3)


@given(decimals, st.sampled_from(["", " "]), st.sampled_from([("ms", 1), ("s", 1000), ("min", 60_000)]))
def test_times_are_read_exactly(number: Any, space: str, unit: tuple[str, int]) -> None:
    word, milliseconds = unit
    assert parse_seconds(f"{number}{space}{word}") == float(Fraction(number) * milliseconds / 1000)


@given(decimals, st.sampled_from("kMGT"), st.sampled_from([("B", 1000), ("iB", 1024)]))
def test_sizes_are_read_exactly(number: Any, prefix: str, unit: tuple[str, int]) -> None:
    word, base = unit
    assert parse_size(f"{number} {prefix}{word}") == math.floor(
        Fraction(number) * base ** ("kMGT".index(prefix) + 1)
    )


@given(st.floats(1e-4, 59) | st.floats(1, 59).map(lambda minute: minute / 60))
def test_short_times_are_read_as_they_are_printed(duration: float) -> None:
    printed = seconds(duration)
    if "µs" not in printed:
        assert parse_seconds(printed) == pytest.approx(duration, rel=0.01)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (125.4, "2 min 05 s"),
        (3600.0, "1 h 00 min"),
        (48 * 3600 - 31, "47 h 59 min"),
        (48 * 3600, "2 d"),
        (7 * 86400, "7 d"),
        (8 * 86400 + 5 * 3600 + 29 * 60, "8 d 05 h"),
        (3 * 86400 - 60, "3 d"),
    ],
)
def test_long_times_are_printed_in_two_units(duration: float, text: str) -> None:
    assert seconds(duration) == text


@given(st.integers(1, 10**14))
def test_sizes_are_read_as_they_are_printed(count: int) -> None:
    assert parse_size(size(count)) == pytest.approx(count, rel=0.01, abs=1)


# --- as an argument --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, None),
        ("10min", 600.0),
        (timedelta(minutes=10), 600.0),
        (timedelta(microseconds=1), 1e-6),
        (timedelta(days=36_500), 3.1536e9),
    ],
)
def test_timeouts(given: str | timedelta | None, wanted: float | None) -> None:
    assert parse_time("timeout", given) == wanted


@pytest.mark.parametrize(
    "given", [10, 0.5, True, "10", "ten minutes", timedelta(0), timedelta(-1), timedelta.max]
)
def test_what_is_no_timeout(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^max_age: .*or a datetime\.timedelta$"):
        parse_time("max_age", given)


# --- texts of others -------------------------------------------------------------------------------------

HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("poly_Y_1_2", "poly_Y_1_2"),
        ("é 日本 \N{GRINNING FACE} \\x1b", "é 日本 \N{GRINNING FACE} \\x1b"),
        ("a\xa0b\u200bc\u200dd", "a\xa0b\u200bc\u200dd"),  # invisible, and harmless
        ("\x1b[31m", r"\x1b[31m"),
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x9b1m\x9d0;x\x9c\x85", r"\x9b1m\x9d0;x\x9c\x85"),
        ("a\x7f\x08\r\x0b\x0c\x00", r"a\x7f\x08\r\x0b\x0c\x00"),
        ("\u202agnp\u202e\u2066\u2069", r"\u202agnp\u202e\u2066\u2069"),
        ("\u200e\u200f\u061c", r"\u200e\u200f\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800\udfff", r"\ud800\udfff"),
    ],
)
def test_what_a_terminal_would_obey_is_made_visible(text: str, wanted: str) -> None:
    assert visible(text) == wanted
    assert visible(text, lines=True) == wanted


def test_newlines_and_tabs_stay_only_where_there_are_lines() -> None:
    assert visible("a\n\tb\r\n") == r"a\n\tb\r\n"
    assert visible("a\n\tb\r\n", lines=True) == "a\n\tb\\r\n"


@given(st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])), st.booleans())
def test_nothing_hidden_is_left_and_all_else_stays(text: str, lines: bool) -> None:
    shown = visible(text, lines=lines)
    assert set(HIDDEN.findall(shown)) <= ({"\n", "\t"} if lines else set())
    assert visible(shown, lines=lines) == shown
    kept = "".join(each for each in text if not HIDDEN.match(each))
    assert re.sub(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|[nrt])|[\n\t]", "", shown) == re.sub(
        r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|[nrt])", "", kept
    )
