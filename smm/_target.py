"""What a command works on: a YAML file, or a manager in a module, `module:CM`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from smm._blame import shown
from smm.build import from_config
from smm.config import Config, load_config, parse_override
from smm.errors import TargetError, closest
from smm.manager import DatedCacheManager

_YAML = (".yaml", ".yml")


def open_manager(target: str, settings: Sequence[str]) -> DatedCacheManager:
    """The manager a target names; imports the user's code.

    Args:
        target: path of a YAML file, or `module:CM`; the module is also looked for in the working directory.
        settings: `key=value` in place of what the file says.

    Raises:
        TargetError: there is no such thing, or it is no manager; with what there is.
        ConfigError: the file cannot be used.
    """
    if os.path.isfile(target):
        return from_config(target, overrides=_overrides(settings))
    module, colon, name = target.partition(":")
    if not colon or _is_path(module):
        raise TargetError(target=target, reason=_no_file(target))
    if settings:
        raise TargetError(target=target, reason="is code, where --set changes nothing; it is for YAML files")
    return _manager_in(target, _imported(target, module), name)


def open_config(target: str, settings: Sequence[str]) -> Config:
    """The configuration a target names; imports nothing.

    Raises:
        TargetError: it is no file.
        ConfigError: the file cannot be used.
    """
    if not os.path.isfile(target):
        module, colon, _ = target.partition(":")
        code = bool(colon) and not _is_path(module)
        reason = "is code, which can only be imported; leave --no-import out" if code else _no_file(target)
        raise TargetError(target=target, reason=reason)
    return load_config(target, overrides=_overrides(settings))


def _overrides(settings: Sequence[str]) -> dict[str, Any]:
    return dict(parse_override(setting) for setting in settings)


def _is_path(text: str) -> bool:
    return os.sep in text or text.endswith(_YAML)


def _no_file(target: str) -> str:
    """Why a target that should be a file is none, and what it could be."""
    path = Path(target)
    if target and path.is_dir():
        files = _yaml_files(path)
        inside = f"; give a file in it: {path / files[0]}" if files else ", with no YAML file in it"
        return f"is a folder{inside}"
    if not _is_path(target):
        if all(part.isidentifier() for part in target.split(".")) and _is_importable(target):
            return f"is a module; which manager in it? write {target}:CM"
        if not _yaml_files(Path()):
            return "is no file; give a YAML file, or a manager as module:CM"
    folder = path.parent
    if not folder.is_dir():
        return f"is no file: there is no folder {folder}"
    return f"is no file{closest(path.name, _yaml_files(folder))}"


def _yaml_files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.suffix in _YAML and file.is_file())


def _is_importable(module: str) -> bool:
    _look_here()
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _look_here() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does


def _imported(target: str, module: str) -> ModuleType:
    if not all(part.isidentifier() for part in module.split(".")):
        raise TargetError(target=target, reason=f"is no file, and {module!r} is no module name")
    _look_here()
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            reason = f"is no file, and there is no module {error.name!r} here or installed"
        else:
            reason = f"cannot be imported: {shown(error)}"
        raise TargetError(target=target, reason=reason) from error


def _manager_in(target: str, module: ModuleType, name: str) -> DatedCacheManager:
    found: Any = module
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    if isinstance(found, DatedCacheManager):
        return found
    managers = [key for key, value in vars(module).items() if isinstance(value, DatedCacheManager)]
    if managers:
        there = f"the module has {' and '.join(f'{module.__name__}:{manager}' for manager in managers)}"
    else:
        there = "the module has no manager; make one with smm.from_config or smm.DatedCacheManager"
    if not name:
        raise TargetError(target=target, reason=f"names no manager: {there}")
    if found is None or found is module:
        raise TargetError(target=target, reason=f"has no {name!r}: {there}")
    raise TargetError(target=target, reason=f"is no manager but of type {type(found).__name__!r}: {there}")
