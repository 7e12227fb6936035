"""JSON text put together piece by piece, as `json.dumps` would write it; and read with a limit to its depth.

For what is written once for each row: the encoder takes twice as long, much of it to get ready.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

encoded = json.JSONEncoder().encode
_DECODER = json.JSONDecoder()
_quoted = json.encoder.encode_basestring_ascii


def json_text(value: Any) -> str:
    """A value as JSON; of what is no None, str, int or finite float, the encoder is asked."""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int or (kind is float and math.isfinite(value)):
        return repr(value)
    return "null" if value is None else encoded(value)


def object_text(fields: Mapping[str, Any] | None) -> str:
    """An object with these fields, whose names are str; null for None."""
    if fields is None:
        return "null"
    return f"{{{', '.join([f'{_quoted(name)}: {json_text(value)}' for name, value in fields.items()])}}}"


def parsed(text: str, deepest: int) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON, or its lists and objects are nested more than `deepest` deep.
    """
    try:
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            value = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {deepest} deep") from None
    # The count takes a microsecond; it has brackets inside of strings in it, too.
    if text.count("{") + text.count("[") > deepest and nesting(text) > deepest:
        raise ValueError(f"it is nested more than {deepest} deep")
    return value


def text_or_none(value: Any) -> str | None:
    """Return a value that was read, if it may stand for a text.

    Raises:
        ValueError: it is neither a str nor None.
    """
    if value is not None and type(value) is not str:
        raise ValueError(f"no text: {short(value)}")
    return value


def short(value: Any) -> str:
    """Return the beginning of what a value looks like, which may be long and nested deep."""
    return reprlib.repr(value)[:80]


def nesting(text: str) -> int:
    """Return how deep the brackets of a JSON text are nested, which takes no recursion."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[{\]}]", re.sub(_STRING, "", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


_STRING = r'(?s)"(?:[^"\\]|\\.)*+"'
