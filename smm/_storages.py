"""The storage section of a configuration: a frozen class for each kind, its fields the class's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from smm._keys import nearest, read_at, read_mapping, refused, shown
from smm._strict import key, schema, structure
from smm._variables import filled, filled_throughout, holds_variable
from smm._yaml import scalar
from smm.sweep import is_dotted_path

# --- values in which environment variables are filled in -------------------------------------------------


def read_folder(value: Any) -> Path:
    """A path with variables filled in and `~` expanded, relative as it may be written.

    Raises:
        Refused: it is none.
    """
    return structure(filled(value) if isinstance(value, str) else value, Path)


def _read_switch(value: Any) -> bool:
    return structure(typed(value), bool)


def _read_limit(value: Any) -> int:
    return structure(typed(value), int)


def typed(value: Any) -> Any:
    """What YAML would read where the variable stands.

    Raises:
        Refused: as `filled`, or it is a number that Python cannot hold.
    """
    if not holds_variable(value):
        return value
    try:
        return scalar(filled(value))
    except ValueError as error:
        raise refused(str(error)) from None


# --- the classes -----------------------------------------------------------------------------------------

VARIABLE = {"type": "string", "pattern": "\\$\\{"}
"""The JSON Schema of a text that may hold any value in the end."""

_FOLDER = key("The folder of the results, made on the first save; relative to this file.", read=read_folder)


def _switch(about: str) -> dict[str, Any]:
    return key(about, read=_read_switch, schema={"anyOf": [{"type": "boolean"}, VARIABLE]})


_FSYNC = _switch("Survive a power loss too: flush every file and its folder to the disk.")
_ALLOW_PICKLE = _switch("Keep object arrays, as pickles, which run code when they are read.")
_COMPRESS = _switch("Compress the data with zlib.")
_MMAP = _switch("Map files into memory, so that arrays are read from the disk where they are touched.")
_LIST_LIMIT = key(
    "Refuse lists of more items than this at save.",
    read=_read_limit,
    schema={"anyOf": [{"type": "integer", "minimum": 0}, VARIABLE]},
)


@attrs.frozen(kw_only=True)
class JsonStorage:
    """`type: json`; the arguments of JsonStorageInterface."""

    metrics_dir: Path = attrs.field(default=Path("results"), metadata=_FOLDER)
    fsync: bool = attrs.field(default=False, metadata=_FSYNC)


@attrs.frozen(kw_only=True)
class NpyStorage:
    """`type: npy`; the arguments of NpyStorageInterface."""

    metrics_dir: Path = attrs.field(default=Path("results"), metadata=_FOLDER)
    fsync: bool = attrs.field(default=False, metadata=_FSYNC)
    allow_pickle: bool = attrs.field(default=False, metadata=_ALLOW_PICKLE)
    mmap: bool = attrs.field(default=False, metadata=_MMAP)


@attrs.frozen(kw_only=True)
class NpzStorage:
    """`type: npz`; the arguments of NpzStorageInterface."""

    metrics_dir: Path = attrs.field(default=Path("results"), metadata=_FOLDER)
    fsync: bool = attrs.field(default=False, metadata=_FSYNC)
    compress: bool = attrs.field(default=False, metadata=_COMPRESS)
    allow_pickle: bool = attrs.field(default=False, metadata=_ALLOW_PICKLE)
    list_limit: int | None = attrs.field(default=None, metadata=_LIST_LIMIT)
    mmap: bool = attrs.field(default=False, metadata=_MMAP)


@attrs.frozen(kw_only=True)
class MemoryStorage:
    """`type: memory`; MemoryStorageInterface takes no arguments."""


@attrs.frozen(kw_only=True)
class CustomStorage:
    """`type: package.module.Class`: a storage class of the user's."""

    type: str
    """Dotted path."""
    keywords: Mapping[str, Any] = attrs.field(factory=dict)
    """What the class is called with: plain values, `metrics_dir` as a str."""


Storage: TypeAlias = JsonStorage | NpyStorage | NpzStorage | MemoryStorage | CustomStorage
"""For all but CustomStorage, `attrs.asdict(storage, recurse=False)` are the class's keyword arguments."""

_BUILT_IN: dict[str, type[Any]] = {
    "json": JsonStorage,
    "npy": NpyStorage,
    "npz": NpzStorage,
    "memory": MemoryStorage,
}


def read_storage(value: Any) -> Storage:
    """The storage section from plain data, environment variables filled in, paths relative as written.

    Raises:
        Refused: with everything that is wrong in it.
    """
    if type(value) is not dict:
        raise refused(f"found {shown(value)}, wanted a mapping such as {{type: npz, metrics_dir: results}}")
    kind = read_at("type", _read_kind, {"type": "npz"} | value)
    arguments = {name: each for name, each in value.items() if name != "type"}
    if kind in _BUILT_IN:
        made: Storage = structure(arguments, _BUILT_IN[kind])
        if isinstance(made, NpzStorage) and made.compress and made.mmap:
            raise refused("what is compressed cannot be mapped into memory: leave compress or mmap out")
        return made
    keywords = read_mapping(arguments, filled_throughout, key="the name of an argument")
    if isinstance(keywords.get("metrics_dir"), str | Path):
        keywords["metrics_dir"] = str(read_at("metrics_dir", read_folder, arguments))
    return CustomStorage(type=kind, keywords=keywords)


def _read_kind(value: Any) -> str:
    kind = filled(value) if isinstance(value, str) else value
    if isinstance(kind, str) and (kind in _BUILT_IN or is_dotted_path(kind)):
        return kind
    hint = nearest(kind, _BUILT_IN) if isinstance(kind, str) else ""
    raise refused(f"found {shown(kind)}, wanted json, npy, npz, memory or the dotted path of a class{hint}")


def resolved(storage: Storage, folder: Path) -> Storage:
    """The same storage with a relative `metrics_dir` taken from `folder`."""
    if isinstance(storage, CustomStorage):
        if not isinstance(written := storage.keywords.get("metrics_dir"), str):
            return storage
        return attrs.evolve(storage, keywords={**storage.keywords, "metrics_dir": str(folder / written)})
    if isinstance(storage, MemoryStorage):
        return storage
    return attrs.evolve(storage, metrics_dir=folder / storage.metrics_dir)


def storage_schema() -> dict[str, Any]:
    """The JSON Schema of what `read_storage` takes."""
    built_in = [_kind_schema(name, cls) for name, cls in _BUILT_IN.items()]
    about = "The storage class, by its dotted path; the other keys are its arguments."
    kind = {"description": about, "anyOf": [{"$ref": "#/definitions/dotted_path"}, VARIABLE]}
    custom = {"type": "object", "properties": {"type": kind}, "required": ["type"]}
    return {"anyOf": [*built_in, custom]}


def _kind_schema(name: str, cls: type[Any]) -> dict[str, Any]:
    made = schema(cls)
    kind = {"description": "The kind of storage.", "const": name}
    if name != "npz":
        made["required"] = ["type"]
    return made | {"properties": {"type": kind} | made["properties"]}
