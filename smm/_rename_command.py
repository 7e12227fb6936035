"""The command `smm rename`. Registered in `smm.cli`.

Only click is imported here, so that `smm --help` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from smm._command import opened, plural, print_json, say, takes_json, takes_settings, takes_target
from smm._ending import INTERRUPTED, WRONG, Failure

if TYPE_CHECKING:
    from smm.maintain import RenamePlan

_MOST_LINES = 20
"""Metrics that are shown one by one."""


@click.command()
@takes_target
@click.argument("old")
@click.argument("new")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be renamed; change nothing.")
@takes_settings
@takes_json
def rename(target: str, old: str, new: str, dry_run: bool, settings: tuple[str, ...], as_json: bool) -> None:
    """Give a stored metric another name, or all its rows.

    OLD and NEW are base names, or names of single metrics. Values and dates stay, and what was computed from
    them stays fresh. Rename the metric in the code or in the file, too, before or after. If anything is in
    the way, all of it is listed and nothing is done. What was interrupted is finished by the same command.

    With --json: old, new, declared (old, new, both or neither: what the code has), done, resumed, moves (old,
    new, bytes), followers (name, inputs: metrics that read the renamed ones), conflicts (old, new, reason).
    """
    from smm import maintain

    manager = opened(target, settings, quiet=as_json)
    try:
        plan = maintain.rename(manager, old, new, dry_run)
    except maintain.RenameConflictError as error:
        if not as_json:
            raise
        print_json(_json(error.plan, done=False))
        raise SystemExit(WRONG) from error
    except KeyboardInterrupt:
        say("interrupted; the same command finishes what was begun", err=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        print_json(_json(plan, done=not dry_run))
    else:
        _show(plan, done=not dry_run)
    if plan.conflicts:
        if not as_json:
            raise Failure(f"error: {maintain.RenameConflictError(plan=plan, begun=plan.resumed)}")
        raise SystemExit(WRONG)


def _show(plan: RenamePlan, *, done: bool) -> None:
    from smm._text import size

    if not plan.moves:
        if not plan.conflicts:
            say(f"nothing to do: nothing is stored as {plan.old!r}")
        return
    width = max(len(move.old) for move in plan.moves[:_MOST_LINES])
    for move in plan.moves[:_MOST_LINES]:
        length = "" if move.size is None else f"  {size(move.size)}"
        say(f"{move.old:<{width}} -> {move.new}{length}")
    if len(plan.moves) > _MOST_LINES:
        say(f"and {len(plan.moves) - _MOST_LINES:,} more; --json lists them all")
    say("")
    sizes = [move.size for move in plan.moves if move.size is not None]
    total = f", {size(sum(sizes))}" if sizes else ""
    say(
        f"{plural(len(plan.moves), 'stored metric')} {'renamed' if done else 'to rename'}{total}{_more(plan)}"
    )
    if plan.declared == "old" and plan.old != plan.new:
        say(f"the code still declares {plan.old!r}; call it {plan.new!r} there, or it is computed again")


def _more(plan: RenamePlan) -> str:
    readers = len(plan.followers)
    more = (
        f"; {plural(readers, 'metric')} that read {'it' if len(plan.moves) == 1 else 'them'}"
        if readers
        else ""
    )
    more += f" {'follows' if readers == 1 else 'follow'}" if readers else ""
    return f"{more}; begun before, and interrupted" if plan.resumed else more


def _json(plan: RenamePlan, *, done: bool) -> dict[str, Any]:
    return {
        "old": plan.old,
        "new": plan.new,
        "declared": plan.declared,
        "done": done,
        "resumed": plan.resumed,
        "moves": [{"old": move.old, "new": move.new, "bytes": move.size} for move in plan.moves],
        "followers": [{"name": each.name, "inputs": list(each.inputs)} for each in plan.followers],
        "conflicts": [{"old": each.old, "new": each.new, "reason": each.reason} for each in plan.conflicts],
    }
