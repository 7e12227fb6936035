"""The commands that look after stores: gc, verify, diff. Registered in `smm.cli`.

Only click is imported here, so that `smm --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from smm._command import (
    agrees,
    opened,
    plural,
    print_json,
    say,
    takes_json,
    takes_names,
    takes_settings,
    takes_target,
    tell,
)
from smm._ending import FAILED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smm._stored import Store
    from smm.maintain import Garbage
    from smm.manager import DatedCacheManager


# --- gc --------------------------------------------------------------------------------------------------


@click.command()
@takes_target
@click.option(
    "--also",
    multiple=True,
    metavar="TARGET",
    help="Another file or manager that keeps its results in the same folder: what it declares stays.",
)
@click.option(
    "--keep-logs",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many logs of runs stay, the newest; those of the last 30 days stay too.",
)
@click.option(
    "--unknown",
    is_flag=True,
    help="Also what may not be smm's: files without a readable side-car, under names that are not declared.",
)
@click.option("-y", "--yes", is_flag=True, help="Remove it all without asking.")
@takes_settings
@takes_json
def gc(
    target: str,
    also: tuple[str, ...],
    keep_logs: int,
    unknown: bool,
    yes: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """List what nobody needs any more, and remove it with --yes.

    That is: stored metrics that nothing declares, data and side-cars without each other, temporary files
    that no living process writes, logs of old runs. On a terminal it asks; elsewhere, and with --json,
    nothing is removed without --yes.

    With --json: garbage (kind, name, path, bytes, date, removed), count, bytes, removed.
    """
    from smm import _render_stores, maintain

    manager = opened(target, settings, quiet=as_json)
    others = [opened(other, (), quiet=as_json) for other in also]
    found = maintain.gc(manager, also=others, keep_logs=keep_logs, unknown=unknown)
    if as_json:
        removed = list(maintain.remove(manager, found)) if yes else []
        print_json(_render_stores.garbage_json(found, removed))
        return
    if not found:
        say("nothing to remove")
        return
    tell(*_render_stores.garbage_tables(found), "")
    if yes or _agreed(f"Remove {plural(len(found), 'thing')}?"):
        _remove(manager, found)
    else:
        say("nothing removed" + ("" if sys.stdin.isatty() else "; --yes removes it"))


def _remove(manager: DatedCacheManager, found: Sequence[Garbage]) -> None:
    from smm import maintain
    from smm._render_stores import total_size
    from smm._text import size

    removed = list(maintain.remove(manager, found))
    total = total_size(removed)
    say(f"{len(removed):,} removed{'' if total is None else f', {size(total)}'}")
    if len(removed) < len(found):
        say(f"{len(found) - len(removed):,} left alone: in use, or changed meanwhile")


def _agreed(question: str) -> bool:
    """What a person says; no where there is none."""
    if not sys.stdin.isatty():
        return False
    try:
        return agrees(question)
    except click.Abort:
        raise KeyboardInterrupt from None


# --- verify ----------------------------------------------------------------------------------------------


@click.command()
@click.argument("target")
@takes_names
@takes_settings
@takes_json
def verify(target: str, names: tuple[str, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Read every stored value, and check every byte against record and format.

    TARGET may also be a folder of results. Names what is damaged, was replaced by hand, or cannot be read,
    and why; exit code 1 says that there is some. Computes and changes nothing.

    With --json: checked, damaged, metrics (name, trouble and problem: null where there is none, path, bytes,
    against: record, or format where no check sum was noted).
    """
    from smm import _render_stores, maintain
    from smm._verify import names_to_verify

    store = _opened(target, settings, quiet=as_json)
    chosen = names_to_verify(store, names or None)
    checked = maintain.verify(store, chosen)
    verdicts = list(_render_stores.watched(checked, len(chosen), "verify"))
    if as_json:
        print_json(_render_stores.verdicts_json(verdicts))
    else:
        tell(*_render_stores.verdict_tables(verdicts))
    if any(verdict.problem is not None for verdict in verdicts):
        raise SystemExit(FAILED)


# --- diff ------------------------------------------------------------------------------------------------


@click.command()
@click.argument("store_a")
@click.argument("store_b")
@takes_names
@click.option("--rtol", type=float, default=1e-9, show_default=True, help="Relative tolerance; 0 for none.")
@click.option("--atol", type=float, default=0.0, show_default=True, help="Absolute tolerance.")
@click.option("--all", "show_all", is_flag=True, help="Show all that changed, instead of 20.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["npz", "npy", "json"]),
    help="What folders hold results in, where their files do not tell.",
)
@takes_json
def diff(
    store_a: str,
    store_b: str,
    names: tuple[str, ...],
    rtol: float,
    atol: float,
    show_all: bool,
    form: str | None,
    as_json: bool,
) -> None:
    """Compare the results of two stores, and rank what changed.

    A store is a folder of results, a YAML file, or a manager in a module: analysis:CM. Numbers are the same
    if they differ by at most --rtol times the larger one, or by at most --atol; nan equals nan. All else
    must be equal. NAMES are metrics, base names or globs. Exit code 1 says that something is beyond the
    tolerance, different, unreadable, or missing on one side.

    With --json: rtol, atol, counts (by outcome), metrics (name, outcome, relative, absolute, place, a, b,
    count, reason, base_name, params). Infinite changes are text.
    """
    from smm import _render_stores, maintain
    from smm._compare import check_tolerance
    from smm._diff import names_to_compare

    try:
        check_tolerance(rtol, atol)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    a, b = (_compared(target, form, quiet=as_json) for target in (store_a, store_b))
    chosen = names_to_compare(a, b, names or None)
    compared = maintain.diff(a, b, rtol=rtol, atol=atol, names=chosen)
    differences = list(_render_stores.watched(compared, len(chosen), "diff"))
    if as_json:
        print_json(_render_stores.differences_json(differences, rtol=rtol, atol=atol))
    else:
        tell(*_render_stores.difference_tables(differences, show_all=show_all))
    if any(one.matters for one in differences):
        raise SystemExit(FAILED)


def _opened(target: str, settings: Sequence[str], *, quiet: bool) -> Store:
    """A folder's storage, or the manager that a target names."""
    from smm._stored import storage_in
    from smm.errors import TargetError

    if not os.path.isdir(target):
        return opened(target, settings, quiet=quiet)
    if settings:
        raise TargetError(target=target, reason="is a folder, where --set changes nothing; leave it out")
    return storage_in(target)


def _compared(target: str, form: str | None, *, quiet: bool) -> Store:
    """What a target has stored.

    Of a YAML file only the storage is made, where that needs none of the user's code: so two versions of a
    project, whose modules have the same names, can be compared.

    Raises:
        TargetError: there is no such thing, or nothing is stored there.
        ConfigError: the file cannot be used.
    """
    from smm._stored import configured, names_with_data, shelf_of, storage_in
    from smm._target import open_config
    from smm.errors import TargetError

    if os.path.isdir(target):
        return storage_in(target, form)
    if not os.path.exists(target) and ":" not in target:
        raise TargetError(target=target, reason="is no folder of results, no YAML file and no module:CM")
    storage = configured(open_config(target, ())) if os.path.isfile(target) else None
    store = opened(target, (), quiet=quiet) if storage is None else storage
    shelf = shelf_of(store)
    if not names_with_data(store, shelf):
        raise TargetError(target=target, reason=f"has nothing stored in {shelf.where}; run it first")
    return store


COMMANDS = (gc, verify, diff)
