"""Plain data as YAML text, in flow and block style; strategies of plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

# What YAML can hold: no lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,7}", fullmatch=True)
tricky = st.sampled_from(
    ["no", "1e-3", "010", "12:30", "null", "~", "", "<<", "=", "0x10", "a: b", "# c", "*a"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | words | tricky
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | words, inner, max_size=4),
    max_leaves=12,
)


def quoted(text: str) -> str:
    """A double-quoted scalar, every character beyond plain ASCII as an escape."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if " " <= character <= "~" else f"\\U{ord(character):08X}"


def scalar(value: Any) -> str:
    """A scalar as YAML 1.2 writes it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
        case int():
            return str(value)
    return quoted(value)


def flow(value: Any) -> str:
    """Any plain data, in one line."""
    match value:
        case list():
            return "[" + ", ".join(flow(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    return scalar(value)


def block(value: Any, indent: int = 0) -> str:
    """Any plain data, a line for each item; what is empty is written in flow style."""
    margin = "\n" + " " * indent
    match value:
        case list() if value:
            return "".join(f"{margin}- {block(item, indent + 2)}" for item in value)
        case dict() if value:
            return "".join(f"{margin}{scalar(key)}: {block(item, indent + 2)}" for key, item in value.items())
    return flow(value)


def table(name: str) -> list[Any]:
    """The cases of a file in tests/data: a text and the lines said about it, under the title of each."""
    cases = (Path(__file__).parent / "data" / name).read_text(encoding="utf-8").split("\n=== ")[1:]
    parted = [(case.partition("\n")[0], case.partition("\n")[2].partition("--->\n")) for case in cases]
    return [
        pytest.param(text, said.strip().split("\n"), id=title.replace(" ", "-"))
        for title, (text, _, said) in parted
    ]
