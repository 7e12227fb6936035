"""Metric names, and other texts about params.

A name is made once and lies on disk for good, so nothing here depends on a locale, a context, or how
another library writes its values.
"""

from __future__ import annotations

import enum
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from smm._encoding import BITS_IN_DECIMAL, digest, encode, json_form, parts, short
from smm.errors import MetricNameError, NameTypeError

if TYPE_CHECKING:
    import numpy as np
else:
    from smm import _numpy as np

_LONGEST_PART = 40
_LONGEST_TEXT = 120
"""Of all params in a name, as the file name counts them: so no row fails for the length of its params."""

_SURROGATE = "[\ud800-\udfff]"
_NOT_PLAIN = frozenset({"none", "true", "false", "nan", "inf"})
_UNSAFE = "[^A-Za-z0-9_.=+,\xa1-\ud7ff\ue000-\U0010ffff-]+"
"""What a readable form leaves out: separators, control characters, lone surrogates, and the `~`."""


def check_base_name(name: str) -> None:
    """Refuse what cannot be the name of a metric.

    Raises:
        NameTypeError: `name` is no str.
        MetricNameError: `name` is empty or a lambda's, has lone surrogates, or ends in `_date`,
            which names side-cars.
    """
    check_name(name, "give another one with base_name=...")


def check_name(name: Any, way_out: str) -> None:
    """The same for a name that came about in another way, with the way out that fits it.

    Raises:
        MetricNameError: as `check_base_name`.
    """
    if type(name) is not str:
        raise NameTypeError(name=repr(name), reason=f"is of class {type(name).__name__}, not str; {way_out}")
    elif not name:
        wrong = "is empty"
    elif name == "<lambda>":
        wrong = "is every lambda's"
    elif name.endswith("_date"):
        wrong = "ends in '_date', which names side-cars"
    elif not name.isascii() and re.search(_SURROGATE, name):
        wrong = "has a lone surrogate, which no file name can hold"
    else:
        return
    raise MetricNameError(name=name, reason=f"{wrong}; {way_out}")


def metric_name(
    base_name: str,
    positional: Sequence[Any] = (),
    named: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """The metric name of canonical params: `poly_Y_1_2`.

    The parts are joined by `_`: positional params by value, keyword-only ones as `name=value`. Plain parts
    are ints and bools as `str`, None, finite floats as `repr` with `p` for the point, and words of up to 40
    letters, digits and hyphens that begin with a letter and are none of None, True, False, nan, inf. Any
    other part is written in a readable form of up to 40 characters. If there is such a part, if the last
    one is `date`, or if the parts together are longer than 120 characters (they are cut then), `~` and
    the `digest` of the positional ones (a tuple) and the others (a dict), as a tuple, follow. So different
    params of one function never share a name.

    Args:
        base_name: the metric.
        positional: values of the arguments that may be given by position, in signature order.
        named: keyword-only arguments, in signature order.
        extra: what a `**kwargs` parameter took; its names are plain only if they are plain words.
    """
    named, extra = named or {}, extra or {}
    if not (positional or named or extra):
        return base_name
    parts = list(map(_plain, positional))
    for name, value in named.items():
        parts.append(_labelled(name, value))
    for name, value in extra.items():
        parts.append(_labelled(name, value) if _plain(name) else None)
    if None not in parts and parts[-1] != "date":
        text = "_".join(cast("list[str]", parts))
        if text == _cut(text, _LONGEST_TEXT):
            return f"{base_name}_{text}"
    others = {**named, **extra}
    readable = [_readable(value) for value in positional]
    readable += [f"{name}={_readable(value)}" for name, value in others.items()]
    text = "_".join(
        _safe(instead) if part is None else part for part, instead in zip(parts, readable, strict=True)
    )
    return f"{base_name}_{_cut(text, _LONGEST_TEXT)}~{digest((tuple(positional), others))}"


def metric_names(base_name: str, columns: Sequence[Sequence[Any]]) -> list[str] | None:
    """`metric_name` of many calls at once, of which all params are plain; None if any is not.

    Args:
        base_name: the metric.
        columns: for each positional param its values in all calls, which are of one type.
    """
    texts = []
    for column in columns:
        write = _PLAIN_COLUMNS.get(type(column[0]))
        text = None if write is None else write(column)
        if text is None:
            return None
        texts.append(text)
    if not texts or (type(texts[-1][0]) is str and "date" in texts[-1]):
        return None
    form = base_name.replace("%", "%%") + "_%s" * len(texts)
    try:
        names = list(map(form.__mod__, zip(*texts, strict=True)))
    except ValueError:  # an int of so many digits that Python does not write it
        return None
    # Plain parts are ASCII: as many characters in a file name.
    return names if max(map(len, names)) <= len(base_name) + 1 + _LONGEST_TEXT else None


def legacy_metric_name(base_name: str, params: Iterable[Any]) -> str:
    """The name that simple-metrics-manager 0.3 to 0.5 gave: a `name_generation_function` for its stores.

    Different params may share such a name (`1.5` and `"1p5"`, `"a_b"` and two words); declaring both is
    refused then.
    """
    return "_".join([base_name, *map(str, params)]).replace(".", "p")


def _plain(value: Any) -> str | None:
    """The value as a plain part, None if it is not plain."""
    write = _PLAIN.get(type(value))
    return None if write is None else write(value)


def _is_plain_word(value: str) -> bool:
    """Up to 40 letters, digits and hyphens, a letter first, and none of the words of other values."""
    return (
        len(value) <= 40
        and value.isascii()
        and value[:1].isalpha()
        and value.replace("-", "0").isalnum()
        and value.lower() not in _NOT_PLAIN
    )


def _labelled(name: str, value: Any) -> str | None:
    plain = _plain(value)
    return None if plain is None else f"{name}={plain}"


_PLAIN: dict[type, Callable[[Any], str | None]] = {
    type(None): str,
    bool: str,
    int: lambda value: str(value) if value.bit_length() <= BITS_IN_DECIMAL else None,
    float: lambda value: repr(value).replace(".", "p") if math.isfinite(value) else None,
    str: lambda value: value if _is_plain_word(value) else None,
}


def _floats(column: Sequence[float]) -> Sequence[Any] | None:
    if not all(map(math.isfinite, column)):
        return None
    return [text.replace(".", "p") for text in map(repr, column)]


def _words(column: Sequence[str]) -> Sequence[Any] | None:
    return column if all(map(_PLAIN[str], set(column))) else None


_PLAIN_COLUMNS: dict[type, Callable[[Sequence[Any]], Sequence[Any] | None]] = {
    type(None): lambda column: column,
    bool: lambda column: column,
    int: lambda column: column,
    float: _floats,
    str: _words,
}
"""Values of one type as what `%s` writes as their plain parts; None if one of them has none."""


def _readable(value: Any) -> str:
    """What a person may recognise a param by; different ones may share it."""
    if type(value) is str:
        return value[:_LONGEST_TEXT]
    if type(value) in (type(None), bool, float):
        return str(value)
    if type(value) is int:
        return str(value) if value.bit_length() <= BITS_IN_DECIMAL else f"{value.bit_length()}-bits"
    if type(value) is bytes:
        return value[:_LONGEST_PART].hex()
    if type(value) is np.ndarray:
        return "-".join((value.dtype.name, "x".join(map(str, value.shape)))).removesuffix("-")
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{parts(value)[1]['name']}"
    if type(value) is np.datetime64:
        return str(np.datetime_as_string(value))
    if type(value) is np.timedelta64:
        return f"{value.view(np.int64)}{np.datetime_data(value.dtype)[0]}"
    if type(value) is dict:
        items = sorted(value.items(), key=lambda item: encode(item[0]))
        return _listed(f"{_readable(key)}={_readable(item)}" for key, item in items) or "dict"
    if type(value) in (set, frozenset):
        return _listed(map(_readable, sorted(value, key=encode))) or "set"
    if type(value) in (list, tuple):
        return _listed(map(_readable, value)) or type(value).__name__
    fields = parts(value)[1]
    return fields["iso"] if "iso" in fields else _listed(map(_readable, fields.values()))


def _listed(texts: Iterable[str]) -> str:
    return ",".join(itertools.islice(texts, _LONGEST_PART))


def _safe(text: str) -> str:
    return _cut(re.sub(_UNSAFE, "-", text), _LONGEST_PART)


def _cut(text: str, longest: int) -> str:
    """The beginning of `text` that fills at most `longest` characters of a file name."""
    if text.isascii():
        return text[:longest]
    length = 0
    for index, character in enumerate(text):
        length += 1 if character.isascii() else len("%XX") * len(character.encode())
        if length > longest:
            return text[:index]
    return text


# --- params as a person or a record reads them ----------------------------------------------------------


def params_to_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical params in the form that a record keeps, by argument name in the same order.

    None, bool, int, finite float, str and lists are themselves; anything else is an object with its
    `type`. The JSON *texts* of two forms are equal exactly if the params are the same; compare those,
    because Python takes `{"a": 1}` and `{"a": True}` for equal.
    """
    return {name: json_form(value) for name, value in params.items()}


def show_call(base_name: str, params: Mapping[str, Any], named: Collection[str] = ()) -> str:
    """The call as a person would write it, on one short line: `poly_Y(2, 4)`.

    Args:
        base_name: the metric.
        params: as `Binder.params` gives them.
        named: arguments to write as `name=value`.
    """
    shown: list[str] = []
    for name, value in params.items():
        if name.startswith("**"):
            shown += [f"{key}={short(item)}" for key, item in value.items()]
        elif name.startswith("*"):
            shown += map(short, value)
        else:
            shown.append(f"{name}={short(value)}" if name in named else short(value))
    text = ", ".join(shown)
    return f"{base_name}({text if len(text) <= _LONGEST_CALL else text[:_LONGEST_CALL] + '...'})"


_LONGEST_CALL = 200
