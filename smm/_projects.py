"""Which file a module should come from: two projects may both have an `analysis.py`.

A configuration's `pythonpath` says where its modules are meant to be found, but Python imports each name
once a process, and earlier entries of `sys.path` win. Nothing here imports anything.
"""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import all_suffixes
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs


def meant_file(module: str, folders: Sequence[Path]) -> Path | None:
    """The file that `module` would be imported from if `folders` were all there is; None if it is not there.

    A package is its `__init__` file. Packages without one span all folders, as in Python.
    """
    found: Path | None = None
    for part in module.split("."):
        found = next((file for folder in folders for file in _files(folder / part)), None)
        if found is None:
            folders = [folder / part for folder in folders if (folder / part).is_dir()]
        else:
            folders = [found.parent] if _is_package(found) else []
    return found


def _files(stem: Path) -> Iterator[Path]:
    for base in (stem / "__init__", stem):
        for suffix in all_suffixes():
            file = base.with_name(base.name + suffix)
            if file.is_file():
                yield file


def _is_package(file: Path) -> bool:
    return file.name.startswith("__init__.")


def loaded_file(module: ModuleType) -> Path | None:
    """The file a module was imported from; None for what has none: built-in, made by hand."""
    # Not by attribute, which a lazy module would make up; and any object may stand in `sys.modules`.
    file = getattr(module, "__dict__", {}).get("__file__")
    return Path(file) if isinstance(file, str) else None


def same_file(one: Path | None, other: Path | None) -> bool:
    """Whether both are there and one file, whatever links lead to it."""
    if one is None or other is None:
        return one is other
    return os.path.realpath(one) == os.path.realpath(other)


@attrs.frozen(kw_only=True)
class Mixup:
    """A module that is loaded from another file than the one meant."""

    module: str
    meant: Path
    loaded: Path | None
    importer: Path
    """The file of the project that imports it."""


def mixups(modules: Sequence[str], folders: Sequence[Path]) -> Iterator[Mixup]:
    """Modules that a project's own files import, and that are loaded from somewhere else.

    Args:
        modules: the modules to begin with; what they import from `folders` is followed.
        folders: the project's `pythonpath`.
    """
    suspects = _loaded_elsewhere(folders)
    if not suspects:
        return  # nearly always: then no source is read
    waiting = [file for name in modules if (file := meant_file(name, folders)) is not None]
    seen: set[Path] = set()
    reported: set[str] = set()
    while waiting:
        importer = waiting.pop()
        if importer in seen:
            continue
        seen.add(importer)
        for name in _imports(importer, _package_of(importer, folders)):
            meant = meant_file(name, folders)
            if meant is None:
                continue
            waiting.append(meant)
            module = sys.modules.get(name)
            if module is None or name.partition(".")[0] not in suspects or name in reported:
                continue
            if not same_file(loaded_file(module), meant):
                reported.add(name)
                yield Mixup(module=name, meant=meant, loaded=loaded_file(module), importer=importer)


def _loaded_elsewhere(folders: Sequence[Path]) -> set[str]:
    """Top-level names in `folders` under which something else is loaded, or something spread over folders."""
    entries = (entry.name for folder in folders if folder.is_dir() for entry in os.scandir(folder))
    here = {name.partition(".")[0] for name in entries} - {"smm"}  # the smm that runs this is the right one
    elsewhere = set()
    for name in here & sys.modules.keys():
        meant = meant_file(name, folders)
        if meant is None or not same_file(loaded_file(sys.modules[name]), meant):
            elsewhere.add(name)
    return elsewhere


def _package_of(file: Path, folders: Sequence[Path]) -> str:
    """The dotted name that relative imports in `file` start from."""
    for folder in folders:
        if file.is_relative_to(folder):
            return ".".join(file.relative_to(folder).parent.parts)
    return ""


def _imports(file: Path, package: str) -> tuple[str, ...]:
    if file.suffix != ".py":
        return ()
    status = file.stat()
    return _read_imports(file, package, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _read_imports(file: Path, package: str, _mtime_ns: int, _size: int) -> tuple[str, ...]:
    """Dotted names of everything a source file may import; `from a import b` may mean the module `a.b`."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ()  # importing it will say so
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(dict.fromkeys(prefix for alias in node.names for prefix in _prefixes(alias.name)))
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            tried = [base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)]
            names.update(dict.fromkeys(prefix for name in tried if name for prefix in _prefixes(name)))
    return tuple(names)


def _absolute(module: str, level: int, package: str) -> str:
    if level == 0:
        return module
    parts = package.split(".")
    return ".".join(part for part in (*parts[: len(parts) - level + 1], module) if part)


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))
