"""What the commands share: their arguments, the manager they open, and how they print.

Only click is imported here, so that `smm --help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from smm._text import visible

if TYPE_CHECKING:
    from smm.manager import DatedCacheManager

C = TypeVar("C", bound=Callable[..., Any])


def takes_target(command: C) -> C:
    """The argument `target`."""
    return click.argument("target")(command)


def takes_names(command: C) -> C:
    """The argument `names`: any number of them."""
    return click.argument("names", nargs=-1)(command)


def takes_some_names(command: C) -> C:
    """The argument `names`: one or more."""
    return click.argument("names", nargs=-1, required=True)(command)


def takes_settings(command: C) -> C:
    """The option `--set`, given as `settings`."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Use VALUE in place of what the file says: --set storage.metrics_dir=/tmp/try",
    )(command)


def takes_json(command: C) -> C:
    """The option `--json`, given as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


# --- what a command works on -----------------------------------------------------------------------------


def opened(target: str, settings: Sequence[str], *, quiet: bool) -> DatedCacheManager:
    """The manager that a target names, for a command that prints by itself what it does.

    Args:
        target: path of a YAML file, or `module:CM`.
        settings: `key=value` in place of what the file says.
        quiet: keep what the user's code prints out of standard output.

    Raises:
        TargetError, ConfigError: as `smm._target.open_manager`.
    """
    from smm._target import open_manager

    click.get_current_context().find_root().obj = target  # for messages
    with stdout_for_json(quiet):
        manager = open_manager(target, settings)
    manager.verbose = False
    return manager


@contextlib.contextmanager
def stdout_for_json(quiet: bool) -> Iterator[None]:
    """Keep what the user's code prints out of the JSON, in this process and in those it starts."""
    if not quiet:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


# --- printing --------------------------------------------------------------------------------------------


def tell(*parts: Any) -> None:
    """Print texts and tables, one below the other."""
    from smm._render import as_text

    _echo(as_text(*parts))


def say(text: str = "", *, lines: bool = False, err: bool = False) -> None:
    """Print a text that may hold anything: names and values are the user's.

    Args:
        text: one line, in which control characters are made visible.
        lines: let its newlines and tabs stay.
        err: print to standard error.
    """
    _echo(visible(text, lines=lines), err=err)


def _echo(text: str, *, err: bool = False) -> None:
    if not err:  # standard error writes what its encoding lacks as an escape
        encoding = sys.stdout.encoding or "utf-8"
        text = text.encode(encoding, "replace").decode(encoding)
    click.echo(text, err=err)


def agrees(question: str) -> bool:
    """Ask a person on standard error.

    Raises:
        click.Abort: Ctrl-C, or there is nobody.
    """
    return click.confirm(visible(question), err=True)


def print_json(data: Any) -> None:
    """Print plain data as JSON."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


def plural(count: int, noun: str) -> str:
    """`1 metric`, `1,200 metrics`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    """A few of the names: `a, b, ..., z`."""
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, ..., {names[-1]}"
