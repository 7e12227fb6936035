"""Environment variables in the text of a configuration: `${VAR}`, `${VAR:-default}`, `$$`."""

from __future__ import annotations

import os
import re
from typing import Any

from smm._keys import refused, shown

_DOLLAR = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^{}$]*))?\})?", re.ASCII)


def holds_variable(value: Any) -> bool:
    """True for a text in which an environment variable is to be filled in."""
    return isinstance(value, str) and "${" in value


def filled(text: str) -> str:
    """The text with its variables filled in; a default also stands for an empty variable, as in a shell.

    Raises:
        Refused: a variable without default is not set, or a dollar sign means nothing.
    """
    return _DOLLAR.sub(_replacement, text)


def _replacement(found: re.Match[str]) -> str:
    if found["dollar"]:
        return "$"
    name, default = found["name"], found["default"]
    if name is None:
        raise refused(
            f"found a $ without meaning in {shown(found.string)}, wanted ${{NAME}} or ${{NAME:-default}} "
            "for a variable (without $, { or } in the default), or $$ for a dollar sign"
        )
    value = os.environ.get(name)
    if value or (value is not None and default is None):
        return value
    if default is None:
        raise refused(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return str(default)


def filled_throughout(value: Any) -> Any:
    """Plain data with the variables of every text in it filled in; keys stay as they are.

    Raises:
        Refused: as `filled`.
    """
    # Data may be nested deeper than Python calls may be.
    root = [value]
    todo: list[tuple[Any, Any]] = [(root, 0)]
    while todo:
        holder, key = todo.pop()
        value = holder[key]
        if isinstance(value, str):
            holder[key] = filled(value)
        elif isinstance(value, list):
            holder[key] = made = list(value)
            todo += [(made, index) for index in range(len(made))]
        elif isinstance(value, dict):
            holder[key] = by_name = dict(value)
            todo += [(by_name, name) for name in by_name]
    return root[0]
