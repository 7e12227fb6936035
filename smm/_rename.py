"""Stored metrics under other names, or with other params.

A renaming that was interrupted, however it was, is finished by running it again: what is to be done is noted
beside the results before it begins. It goes on in three rounds, so that at every moment each result is whole,
and fresh if it was: all get their new names besides the old ones; the records of what read them follow; the
old names go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from smm._moving import JOURNAL, Journal, Pairs, following_text, renamed_text
from smm._new_names import NewParams
from smm._rename_plan import (
    Conflict,
    Move,
    Planner,
    RenameConflictError,
    RenamePlan,
    Step,
    new_names,
    steps_of,
)
from smm._select import stored_names
from smm.manager import DatedCacheManager


def plan_rename(manager: DatedCacheManager, old: str, new: str) -> RenamePlan:
    """What `rename` would do. Reads every side-car; changes nothing. Raises as `rename`, conflicts aside."""
    planner = Planner(manager, old, new, rows=False)
    return planner.resumed() or planner.by_name()


def rename(manager: DatedCacheManager, old: str, new: str, dry_run: bool = False) -> RenamePlan:
    """Give a stored metric another name; with a base name, all its stored rows.

    New names are those of the rows that the code declares under `new`, else the old ones with the other base
    name. Values, dates and fingerprints of code stay. The records of what was computed from them note the new
    names, so that nothing becomes stale. The manager's declarations are untouched. An interrupted renaming is
    finished by the same call.

    Args:
        manager: whose storage; what it has in memory of the renamed metrics leaves, unless it is unsaved.
        old: a base name; else the name of one stored metric.
        new: the same kind of name.
        dry_run: only tell.

    Returns:
        What was done; without moves if nothing is stored as `old` (any more).

    Raises:
        UnknownMetricError: `old` is neither stored nor declared, and nothing is stored as `new`.
        MetricNameError: `new` cannot be a metric's name.
        RenameConflictError: something is in the way, all of which it names. Nothing is done; unless others
            have changed the results meanwhile: then it is not finished.
        RenamePendingError: another renaming was interrupted.
        StorageAbilityError: the storage has no `delete`.
        OSError: files could not be changed; run it again.
    """
    return _carried_out(manager, lambda: plan_rename(manager, old, new), dry_run, rows=False)


def rename_rows(
    manager: DatedCacheManager,
    base_name: str,
    new_params: NewParams,
    *,
    new_base_name: str | None = None,
    dry_run: bool = False,
) -> RenamePlan:
    """Give stored rows other params, and the names that the declared function then gives them.

    For a function whose arguments were renamed, reordered, or became more; it must be declared as it is now.
    That the values are right for the new params is for you to know. An interrupted call is finished by the
    next one, which takes no notice then of its own `new_params`.

    Args:
        manager: whose storage, and whose declaration of the function.
        base_name: of the rows.
        new_params: new names of arguments, as a mapping from the old ones; or a function from the params of
            a row, by argument name, to its new ones. What a record only describes, such as an array, is given
            as a placeholder to be handed on; then the new row must be declared.
        new_base_name: another base name; the same by default.
        dry_run: only tell.

    Raises:
        ValueError: no stored row has an argument that `new_params` names.
        Exception: what `new_params` raised; nothing is done.
        RenameConflictError, RenamePendingError, StorageAbilityError, OSError: as `rename`.
        UnknownMetricError: `base_name` is neither stored nor declared.
    """

    def plan() -> RenamePlan:
        new = base_name if new_base_name is None else new_base_name
        planner = Planner(manager, base_name, new, rows=True)
        return planner.resumed() or planner.by_params(new_params)

    return _carried_out(manager, plan, dry_run, rows=True)


# --- doing it --------------------------------------------------------------------------------------------


def _carried_out(
    manager: DatedCacheManager, make_plan: Callable[[], RenamePlan], dry_run: bool, *, rows: bool
) -> RenamePlan:
    plan = make_plan()
    if dry_run:
        return plan
    _refuse_conflicts(plan)
    if not plan.moves and not plan.resumed:
        return plan
    with manager._flight(JOURNAL, None), manager._lock(JOURNAL, None):
        journal = Journal(manager._shelf)
        begun = journal.read() is not None
        if plan.resumed and not begun:
            return plan  # somebody else has finished it a moment ago
        if begun and not plan.resumed:
            plan = make_plan()
            _refuse_conflicts(plan)
        try:
            _Renaming(manager, plan, journal, rows=rows).carry_out()
        finally:
            _forget(manager, plan.moves)
    return plan


def _refuse_conflicts(plan: RenamePlan) -> None:
    if plan.conflicts:
        raise RenameConflictError(plan=plan, begun=plan.resumed)


def _forget(manager: DatedCacheManager, moves: Sequence[Move]) -> None:
    for move in moves:
        for name in (move.old, move.new):
            if name not in manager._unsaved:
                manager._drop(name)
    manager._drop_readers()


class _Renaming:
    """One plan on its way. Each step takes the locks of its metrics, and looks again."""

    def __init__(self, manager: DatedCacheManager, plan: RenamePlan, journal: Journal, *, rows: bool) -> None:
        self._manager = manager
        self._plan = plan
        self._journal = journal
        self._pairs = Pairs(manager._shelf)
        fields = attrs.fields(Move)
        without_size = attrs.filters.exclude(fields.size)
        moves = [attrs.asdict(move, recurse=False, filter=without_size) for move in plan.moves]
        self._noted = {"rows": rows, "old": plan.old, "new": plan.new, "moves": moves}

    def carry_out(self) -> None:
        """Do what is left to be done.

        Raises:
            RenameConflictError: somebody else has stored something since it was planned.
        """
        if self._plan.moves:
            noted = self._journal.read()
            wave = 1 if noted is None else int(noted["wave"])
            if noted is None:
                self._note(wave)
            self._do(wave)
            if wave == 1 and steps_of(self._plan.moves, 2):
                self._note(2)
                self._do(2)
        self._journal.remove()

    def _note(self, wave: int) -> None:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        self._journal.write(self._noted | {"wave": wave, "begun": when})

    def _do(self, wave: int) -> None:
        steps = steps_of(self._plan.moves, wave)
        names = new_names(steps)
        for step in steps:
            if step[0] == step[1]:
                self._rewrite(step, names)
            else:
                self._add(step, names)
        for name in sorted(self._readers() - names.keys()):
            self._follow(name, names)
        for step in steps:
            if step[0] != step[1]:
                self._take_away(step, names)

    def _readers(self) -> set[str]:
        """All that is stored; of a storage that cannot list that, what is declared or planned."""
        plan = self._plan
        known = {follower.name for follower in plan.followers}
        known |= {name for move in plan.moves for name in (move.by_way_of, move.new) if name is not None}
        return stored_names(self._manager, known | self._manager.functions_dict.keys())

    # Two names at once: first the new one, then the old one, as who computes the new one from the old would.

    def _add(self, step: Step, names: Mapping[str, str]) -> None:
        old, new, move = step
        with (
            self._manager._flight(new, None),
            self._manager._lock(new, None),
            self._manager._flight(old, None),
            self._manager._lock(old, None),
        ):
            whole = self._pairs.whole(old)
            if whole is None:
                return  # done before the interruption, or deleted since
            text = renamed_text(whole[0], new, move.base_name, move.params, names)
            reason = self._pairs.obstacle(old, new, text, begun=True)
            if reason is not None:
                raise self._stopped(move, reason)
            self._manager._say(None, f"Rename {old} to {new}")
            self._pairs.add(old, new, text)

    def _rewrite(self, step: Step, names: Mapping[str, str]) -> None:
        name, _, move = step
        with self._manager._flight(name, None), self._manager._lock(name, None):
            whole = self._pairs.whole(name)
            if whole is not None:
                self._write(name, whole[0], renamed_text(whole[0], name, move.base_name, move.params, names))

    def _follow(self, name: str, names: Mapping[str, str]) -> None:
        whole = self._pairs.whole(name)
        if whole is None or not any(read.name in names for read in whole[1].inputs or ()):
            return
        with self._manager._flight(name, None), self._manager._lock(name, None):
            whole = self._pairs.whole(name)
            if whole is not None:
                self._write(name, whole[0], following_text(whole[0], names))

    def _write(self, name: str, before: str, text: str) -> None:
        if text != before:
            self._pairs.write(name, text)

    def _take_away(self, step: Step, names: Mapping[str, str]) -> None:
        old, new, move = step
        with (
            self._manager._flight(new, None),
            self._manager._lock(new, None),
            self._manager._flight(old, None),
            self._manager._lock(old, None),
        ):
            sidecar = self._pairs.sidecar(old)
            wanted = None
            if sidecar is not None:
                wanted = renamed_text(sidecar[0], new, move.base_name, move.params, names)
            reason = self._pairs.remove(old, new, wanted)
        if reason is not None:
            raise self._stopped(move, reason)

    def _stopped(self, move: Move, reason: str) -> RenameConflictError:
        conflict = Conflict(old=move.old, new=move.new, reason=reason)
        return RenameConflictError(plan=attrs.evolve(self._plan, conflicts=(conflict,)), begun=True)
