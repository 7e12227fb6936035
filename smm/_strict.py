"""Plain data to attrs classes, and the JSON Schema of what is taken: both from the same fields.

Nothing is coerced, no key is passed over, null is no value, and all that is wrong is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from smm._keys import Refusal, Refused, nearest, read_list, refused, shown

T = TypeVar("T")


def key(
    about: str,
    *,
    read: Callable[[Any], Any] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Metadata of a field that a configuration may set; fields without are not seen here.

    Args:
        about: what it is, for the schema and the reference.
        read: plain data to the field's value, raising Refused; without it the field's type decides.
        schema: the JSON Schema of what `read` takes.
    """
    return {"about": about, "read": read, "schema": schema}


def keys(cls: type[Any]) -> list[attrs.Attribute[Any]]:
    """The fields of a class that are keys of a configuration, in order, their types resolved."""
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(attrs.resolve_types(cls))
    return [field for field in fields if "about" in field.metadata]


def structure(value: Any, cls: type[T]) -> T:
    """Plain data as `cls`.

    Raises:
        Refused: with everything that is wrong in `value`.
    """
    return _CONVERTER.structure(value, cls)


# --- hooks for cattrs ------------------------------------------------------------------------------------


def _boolean(value: Any, _: Any) -> bool:
    if type(value) is not bool:
        raise refused(f"found {shown(value)}, wanted true or false, without quotes")
    return value


def _integer(value: Any, _: Any) -> int:
    if type(value) is not int or value < 0:
        raise refused(f"found {shown(value)}, wanted a whole number from 0")
    return value


def _string(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise refused(f"found {shown(value)}, wanted a text; put it in quotes")
    return value


def _path(value: Any, _: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise refused(f"found {shown(value)}, wanted a path such as 'results'")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise refused(
            f"found {shown(value)}, whose ~ stands for no one's home; write the folder out"
        ) from error


def _make_tuple(cls: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
    (item, _) = get_args(cls)
    wanted = "a list, such as [x]"
    return lambda value, _: read_list(value, lambda each: _CONVERTER.structure(each, item), wanted)


def _make_optional(cls: Any) -> Callable[[Any, Any], Any]:
    return lambda value, _: _CONVERTER.structure(value, _without_none(cls))


def _make_class(cls: Any) -> Callable[[Any, Any], Any]:
    declared = {field.name: field for field in keys(cls)}
    overrides: dict[str, Any] = {
        field.name: override(struct_hook=_field_hook(declared[field.name]))
        if field.name in declared
        else override(omit=True)
        for field in attrs.fields(cls)
    }
    make = make_dict_structure_fn(
        cls, _CONVERTER, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **overrides
    )

    def read(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            instead = "; write {} for none of them" if value is None else ""
            raise refused(f"found {shown(value)}, wanted a mapping with {_listed(list(declared))}{instead}")
        # Of keys that are no text, cattrs before 25.2 makes a TypeError.
        odd = [_unknown(key, list(declared)) for key in value if type(key) is not str]
        if odd:
            value = {key: each for key, each in value.items() if type(key) is str}
        try:
            made = make(value, cls)
        except cattrs.ClassValidationError as error:
            raise Refused(*_flat(error, list(declared)), *odd) from None
        if odd:
            raise Refused(*odd)
        return made

    return read


def _field_hook(field: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
    cls: Any = field.type
    read = field.metadata["read"] or (lambda value: _CONVERTER.structure(value, cls))

    def hook(value: Any, _: Any) -> Any:
        if value is None and field.default is not attrs.NOTHING:
            raise refused("found null, wanted a value; leave the key out for its default")
        return read(value)

    return hook


def _flat(error: cattrs.ClassValidationError, declared: list[str]) -> list[Refusal]:
    """What cattrs gathered about one class, as refusals."""
    found: list[Refusal] = []
    of_keys, others = error.group_exceptions()
    for cause, note in of_keys:
        if isinstance(cause, Refused):
            found += cause.below(note.name)
        else:  # a KeyError: our own hooks raise nothing else
            found.append(Refusal(f"found no key {note.name!r}, which is required; add it"))
    for other in others:
        if isinstance(other, cattrs.ForbiddenExtraKeysError):
            found += [_unknown(name, declared) for name in other.extra_fields]
    return found


def _unknown(name: Any, declared: list[str]) -> Refusal:
    hint = nearest(name, declared) if isinstance(name, str) else ""
    return Refusal(f"found an unknown key, wanted {_listed(declared)}{hint}", (name,), at_key=True)


def _listed(words: list[str]) -> str:
    *most, last = words or ["none"]
    return f"{', '.join(most)} or {last}" if most else last


def _without_none(cls: Any) -> Any:
    (wanted,) = (arm for arm in get_args(cls) if arm is not type(None))
    return wanted


def _is_union(cls: Any) -> bool:
    return get_origin(cls) is UnionType


def _is_tuple(cls: Any) -> bool:
    return get_origin(cls) is tuple


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    for cls, hook in ((bool, _boolean), (int, _integer), (str, _string), (Path, _path)):
        converter.register_structure_hook(cls, hook)
    converter.register_structure_hook_factory(attrs.has, _make_class)
    converter.register_structure_hook_factory(_is_tuple, _make_tuple)
    converter.register_structure_hook_factory(_is_union, _make_optional)
    return converter


_CONVERTER = _converter()


# --- JSON Schema -----------------------------------------------------------------------------------------

_SCHEMAS: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
    str: {"type": "string"},
    Path: {"type": "string", "pattern": "^[^\\u0000]+$"},
}


def schema(cls: type[Any]) -> dict[str, Any]:
    """The JSON Schema of what `structure` takes for a class: its keys, with what they are about."""
    required = [field.name for field in keys(cls) if field.default is attrs.NOTHING]
    made: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in keys(cls)},
        "additionalProperties": False,
    }
    return made | ({"required": required} if required else {})


def _field_schema(field: attrs.Attribute[Any]) -> dict[str, Any]:
    default: dict[str, Any] = {}
    if isinstance(field.default, bool | int | str | Path):
        default["default"] = str(field.default) if isinstance(field.default, Path) else field.default
    body = field.metadata["schema"] or _type_schema(field.type)
    if "$ref" in body:  # draft 7 passes over what stands beside a reference
        body = {"allOf": [body]}
    return {"description": field.metadata["about"]} | dict(body) | default


def _type_schema(cls: Any) -> dict[str, Any]:
    if _is_union(cls):
        return _type_schema(_without_none(cls))
    if _is_tuple(cls):
        return {"type": "array", "items": _type_schema(get_args(cls)[0])}
    return _SCHEMAS[cls]
