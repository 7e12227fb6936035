"""JSON text put together piece by piece, as `json.dumps` would write it.

For what is written once for each row: the encoder takes twice as long, much of it to get ready.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

encoded = json.JSONEncoder().encode
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
