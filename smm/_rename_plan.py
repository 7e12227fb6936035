"""What a renaming of stored metrics would do, found out before anything is done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from itertools import count
from typing import Any, Literal, TypeAlias

import attrs

from smm._moving import Journal, Pairs, renamed_text
from smm._names import check_name
from smm._new_names import (
    ByName,
    ByParams,
    NewParams,
    NoName,
    Target,
    is_declared,
    row_of,
    single,
    unknown_arguments,
)
from smm._text import visible
from smm.collect import Row
from smm.errors import MetricNameError, SmmError, UnknownMetricError, closest
from smm.manager import DatedCacheManager
from smm.metric import Record
from smm.protocols import CheckedStorage

Declared: TypeAlias = Literal["old", "new", "both", "neither"]
"""Which of the two names the code declares."""

Step: TypeAlias = "tuple[str, str, Move]"
"""A name that becomes another, and what it is part of."""


# --- what it comes to ------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Move:
    """One stored metric that gets another name, or only other params in its record."""

    old: str
    new: str
    base_name: str | None
    """As its record will have it."""
    params: Mapping[str, Any] | None
    """As its record will have them."""
    size: int | None = None
    """Bytes of the data; None where there are no files."""
    by_way_of: str | None = None
    """Its name for the time being, where another metric of the same plan still has the new one."""


@attrs.frozen(kw_only=True)
class Follower:
    """A stored metric that was computed from renamed ones: its record will note their new names."""

    name: str
    inputs: tuple[str, ...]
    """Their old names."""


@attrs.frozen(kw_only=True)
class Conflict:
    """Why one metric cannot get its new name."""

    old: str
    new: str
    """Empty where none can be told."""
    reason: str
    """What is in the way, and the way out."""

    def __str__(self) -> str:
        names = f"{self.old} -> {self.new}" if self.new else self.old
        return visible(f"{names}: {self.reason}")


@attrs.frozen(kw_only=True)
class RenamePlan:
    """What a renaming would do, or has done."""

    old: str
    new: str
    declared: Declared
    moves: tuple[Move, ...] = ()
    followers: tuple[Follower, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    """If there are any, nothing is done."""
    resumed: bool = False
    """Begun before, and interrupted: what is to be done was decided then."""


class RenameConflictError(SmmError, ValueError):
    """Stored metrics that cannot get their new names."""

    plan: RenamePlan
    """With its conflicts."""
    begun: bool = False
    """Whether some are renamed already."""

    def _sentence(self) -> str:
        count = len(self.plan.conflicts)
        listed = "".join(f"\n  {conflict}" for conflict in self.plan.conflicts)
        done = "it is not finished: run it again when that is settled" if self.begun else "nothing is renamed"
        conflicts = f"{count} conflict{'' if count == 1 else 's'}"
        return f"renaming {self.plan.old!r} to {self.plan.new!r} meets {conflicts}, and {done}{listed}"


class RenamePendingError(SmmError, ValueError):
    """An earlier renaming was interrupted, and has to be finished first."""

    where: str
    """What notes it."""
    reason: str
    """Which it is, and the way out."""

    def _sentence(self) -> str:
        return f"a renaming was interrupted, as {self.where} notes: {self.reason}"


def steps_of(moves: Iterable[Move], wave: int) -> list[Step]:
    """What is done in the first or the second of two waves; no name is both old and new in one of them."""
    if wave == 1:
        return [(move.old, move.by_way_of or move.new, move) for move in moves]
    return [(move.by_way_of, move.new, move) for move in moves if move.by_way_of is not None]


def new_names(steps: Iterable[Step]) -> dict[str, str]:
    """The names that change, by old name."""
    return {old: new for old, new, _ in steps if old != new}


# --- planning --------------------------------------------------------------------------------------------


class Planner:
    """Plans one renaming, by what is stored and declared now. Changes nothing.

    Raises:
        MetricNameError: `new` cannot be a metric's name.
        StorageAbilityError: the storage has no `delete`.
    """

    def __init__(self, manager: DatedCacheManager, old: str, new: str, *, rows: bool) -> None:
        check_name(new, "choose another new name")
        self._manager = manager
        self._old = old
        self._new = new
        self._rows = rows
        """Whether params change too."""
        self.pairs = Pairs(manager._shelf)
        self.journal = Journal(manager._shelf)
        self._by_name = ByName(manager, old, new)
        self._targets: dict[str, Target] = {}
        self._conflicts: list[Conflict] = []

    @cached_property
    def _declared(self) -> Declared:
        old, new = is_declared(self._manager, self._old), is_declared(self._manager, self._new)
        if old and self._old == self._new:
            return "new"
        new = new and row_of(self._manager, self._new, self._old) is None
        return "both" if old and new else "old" if old else "new" if new else "neither"

    @cached_property
    def _candidates(self) -> list[str]:
        """Names to ask for where a storage cannot list what it has."""
        names = (*self._manager.functions_dict, self._old, self._new, *self._by_name.names_then)
        return list(dict.fromkeys(names))

    @cached_property
    def _stored(self) -> dict[str, tuple[str, Record]]:
        return self.pairs.stored(self._candidates)

    # --- what was begun before --------------------------------------------------------------------------

    def resumed(self) -> RenamePlan | None:
        """The plan of this very renaming if it was interrupted; None if none was.

        Raises:
            RenamePendingError: another one was.
        """
        where = str(self.journal.path or type(self._manager.storage_interface).__name__)
        try:
            noted = self.journal.read()
            if noted is None:
                return None
            asked = noted["rows"], noted["old"], noted["new"]
            moves = tuple(Move(**move) for move in noted["moves"])
            wave = int(noted["wave"])
        except (ValueError, LookupError, TypeError) as error:
            reason = f"it cannot be read ({error}); finish it with the version of smm that began it"
            raise RenamePendingError(where=where, reason=reason) from None
        if asked != (self._rows, self._old, self._new):
            raise RenamePendingError(where=where, reason=_way_out(*asked))
        steps = steps_of(moves, wave)
        conflicts = tuple(self._in_the_way(steps, begun=True))
        return self._plan(moves, conflicts, resumed=True)

    def _plan(self, moves: tuple[Move, ...], conflicts: tuple[Conflict, ...], *, resumed: bool) -> RenamePlan:
        return RenamePlan(
            old=self._old,
            new=self._new,
            declared=self._declared,
            moves=tuple(attrs.evolve(move, size=self._size(move)) for move in moves),
            followers=tuple(self._followers(moves)),
            conflicts=conflicts,
            resumed=resumed,
        )

    def _size(self, move: Move) -> int | None:
        sizes = (self.pairs.size(name) for name in (move.old, move.by_way_of, move.new) if name)
        return next((size for size in sizes if size is not None), None)

    def _followers(self, moves: Iterable[Move]) -> Iterator[Follower]:
        old_names = {move.old for move in moves if move.old != move.new}
        own = old_names | {move.new for move in moves}
        for name in sorted(self._stored, key=self._place):
            record = self._stored[name][1]
            reads = (read.name for read in record.inputs or () if read.store is None)
            inputs = tuple(read for read in reads if read in old_names)
            if inputs and name not in own:
                yield Follower(name=name, inputs=inputs)

    # --- other names ------------------------------------------------------------------------------------

    def by_name(self) -> RenamePlan:
        """The plan of a renaming that leaves params as they are.

        Raises:
            UnknownMetricError: `old` is neither stored nor declared, and nothing is stored as `new`.
        """
        is_base = self._is_base()

        def is_meant(name: str, record: Record) -> bool:
            if not is_base:
                return name == self._old
            if record.base_name is None:
                return self._by_name.is_row(name)
            return record.base_name == self._old

        for name, (_, record) in self._stored.items():
            if is_meant(name, record):
                if is_base:
                    self._aim(name, partial(self._by_name.target, name, record))
                else:
                    self._aim(name, partial(single, self._manager, name, record, self._new))
        taken = {target.name for target in self._targets.values()}  # of those it is said what is in the way
        for name, record in self.pairs.alone(self._candidates).items():
            if is_meant(name, record) and name not in taken:
                self._refuse(name, "", "its side-car lies there without data; smm gc removes it")
        return self._finished()

    def _is_base(self) -> bool:
        """Whether `old` is a base name, by what is declared or by a stored record."""
        manager = self._manager
        if self._old in manager._rows or self._old in manager.waiting:
            return True
        records = {name: record for name, (_, record) in self._stored.items()}
        return any(
            record.base_name == self._old
            or (record.base_name is None and name != self._old and name in self._by_name.names_then)
            for name, record in records.items()
        )

    # --- other params -----------------------------------------------------------------------------------

    def by_params(self, new_params: NewParams) -> RenamePlan:
        """The plan of a renaming that changes params.

        Raises:
            UnknownMetricError: `old` is neither stored nor declared.
            ValueError: no row has an argument that is to be called otherwise.
            Exception: what the function of new params raised.
        """
        rows: dict[str, Mapping[str, Any]] = {}
        try:
            by_params = ByParams(self._manager, self._old, self._new, new_params)
        except NoName as error:
            self._refuse(self._old, self._new, str(error))
            return self._finished()
        for name, (_, record) in self._stored.items():
            try:
                noted = by_params.noted(name, record)
            except NoName as error:
                self._refuse(name, "", str(error))
                continue
            if noted is not None:
                rows[name] = noted
        if rows and (unknown := unknown_arguments(new_params, rows.values())):
            given = ", ".join(dict.fromkeys(argument for params in rows.values() for argument in params))
            raise ValueError(f"no stored row of {self._old!r} has {unknown[0]!r} among its params ({given})")
        for name, noted in rows.items():
            self._aim(name, partial(by_params.target, noted))
        return self._finished()

    # --- from targets to a plan -------------------------------------------------------------------------

    def _aim(self, name: str, target_of: Callable[[], Target]) -> None:
        """Set down what becomes of a stored metric, if that can be told, and is anything."""
        try:
            target = target_of()
        except (NoName, MetricNameError) as error:
            self._refuse(name, "", str(error))
            return
        except Exception as error:
            error.add_note(f"while finding a new name for {name!r}")
            raise
        record = self._stored[name][1]
        now = Target(name=name, base_name=record.base_name, params=record.params)
        if json.dumps(attrs.astuple(now, recurse=False)) != json.dumps(attrs.astuple(target, recurse=False)):
            self._targets[name] = target

    def _refuse(self, old: str, new: str, reason: str) -> None:
        self._conflicts.append(Conflict(old=old, new=new, reason=reason))

    def _finished(self) -> RenamePlan:
        if not self._targets and not self._conflicts:
            self._check_known()
        several = Counter(target.name for target in self._targets.values())
        for name, target in list(self._targets.items()):
            if target.name == name and several[name] > 1:  # in the way of the others, which look at it
                del self._targets[name]
                several[name] -= 1
        for name, target in list(self._targets.items()):
            reason = self._refusal(target)
            if reason is None and several[target.name] > 1:
                reason = "another one would get the same name; only one can have it"
            if reason is not None:
                self._refuse(name, target.name, reason)
                del self._targets[name]
        moves = tuple(self._moves())
        self._conflicts += self._in_the_way(steps_of(moves, 1), begun=False)
        return self._plan(moves, tuple(self._conflicts), resumed=False)

    def _check_known(self) -> None:
        base_names = {record.base_name for _, record in self._stored.values()}
        if is_declared(self._manager, self._old) or {self._old, self._new} & {*self._stored, *base_names}:
            return
        alike = (name for name in self._stored if name.startswith(f"{self._old}_"))
        bare = next((name for name in alike if self._stored[name][1].base_name is None), None)
        if bare is not None:
            hint = (
                f"; {bare!r} is stored, without a note of its base name: declare {self._old!r} with its rows"
            )
        else:
            known = {*self._stored, *self._manager.functions_dict, *self._manager._rows, *base_names}
            hint = closest(self._old, filter(None, known))
        raise UnknownMetricError(name=self._old, hint=hint)

    def _refusal(self, target: Target) -> str | None:
        """Why nothing can have this name, whatever is stored."""
        try:
            check_name(target.name, "choose another new name")
            storage = self._manager.storage_interface
            if isinstance(storage, CheckedStorage):
                storage.check(target.name)
        except MetricNameError as error:
            return f"the new name {error.reason}"
        except OSError:
            pass  # such as a folder that cannot be written, which is said when it has to be
        row = self._manager.functions_dict.get(target.name)
        if not isinstance(row, Row) or target.base_name is None:
            return None
        if row.rows.base_name == self._old != self._new:
            return None  # the code is to be renamed, too
        if row.rows.base_name != target.base_name or (
            target.params is not None and _values(row.noted_params()) != _values(target.params)
        ):
            return f"{row!r} is declared with this name; rename one of the two in the code"
        return None

    def _moves(self) -> Iterator[Move]:
        folded = {name.lower() for name in self._targets}
        numbers = count(1)
        for name, target in sorted(self._targets.items(), key=lambda item: self._place(*item)):
            new = target.name
            # Where a file system knows no case, the old file is in the way of its own new name.
            taken = new in self._targets or (new.lower() in folded and new not in self._stored)
            way = None
            if new != name and taken:
                way = next(free for number in numbers if not self.pairs.exists(free := f"renaming~{number}"))
            yield Move(old=name, new=new, base_name=target.base_name, params=target.params, by_way_of=way)

    def _place(self, name: str, target: Target | None = None) -> tuple[int, str]:
        """As declared, under the one name or the other; then what is not declared."""
        places = self._places
        return min(
            places.get(name, len(places)), places.get(target.name if target else name, len(places))
        ), name

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._manager.functions_dict)}

    def _in_the_way(self, steps: list[Step], *, begun: bool) -> Iterator[Conflict]:
        names = new_names(steps)
        for old, new, move in steps:
            whole = self.pairs.whole(old)
            if whole is None or old == new:
                continue
            text = renamed_text(whole[0], new, move.base_name, move.params, names)
            reason = self.pairs.obstacle(old, new, text, begun=begun)
            if reason is not None:
                yield Conflict(old=move.old, new=move.new, reason=reason)


def _values(params: Mapping[str, Any]) -> str:
    return json.dumps(list(params.values()))


def _way_out(rows: bool, old: str, new: str) -> str:
    if rows:
        return f"rows of {old!r} get other params; finish it with smm.maintain.rename_rows(CM, {old!r}, ...)"
    return f"{old!r} becomes {new!r}; finish it with smm rename TARGET {old} {new}"
