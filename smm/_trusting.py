"""Whether what is stored still holds, and what to do about it: `why`, `accept` and `graph` of a manager."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from smm._serving import Serving
from smm.collect import Row, Rows
from smm.metric import Accepted, OnStale, Read, Reason, Record, StaleOn

if TYPE_CHECKING:
    import attrs

    from smm._staleness import Look
    from smm.graph import Graph
    from smm.run import Failed
else:
    from smm import _attrs as attrs

_MOST_LOOKED_AT = 32
"""Stored rows of a metric that are looked at before a run, whether they are stale."""

_STATES = ("fresh", "stale", "missing", "failed")


class Trusting(Serving):
    """A manager that knows where its results come from."""

    dynamic_metric_creation: bool
    _rows: dict[str, Rows]

    @property
    def waiting(self) -> tuple[str, ...]:
        """Base names declared without a function."""
        raise NotImplementedError

    # --- policies ---------------------------------------------------------------------------------------

    @property
    def on_stale(self) -> str:  # as a Literal it would keep jedi from completing names of the manager
        """Policy for stale values: `serve`, `warn`, `recompute` or `error`."""
        return self._staleness.trust.on_stale or "warn"

    @on_stale.setter
    def on_stale(self, policy: OnStale) -> None:
        self._set_trust(on_stale=policy)

    @property
    def max_age_seconds(self) -> float | None:
        """How old a stored value may be; None for any age."""
        return self._staleness.trust.max_age_seconds

    @property
    def stale_on(self) -> tuple[StaleOn, ...]:
        """What makes a stored value stale: of `code`, `inputs` and `age`."""
        return self._staleness.trust.stale_on or ()

    def _set_trust(self, **changed: Any) -> None:
        self._staleness.trust = attrs.evolve(self._staleness.trust, **changed)
        for name in list(self.cache):  # what was served under another policy
            self._drop_saved(name)

    # --- why --------------------------------------------------------------------------------------------

    def why(self, name: str) -> tuple[Reason, ...]:
        """Why the metric would be computed again; empty if the stored value is fresh.

        Looks at the side-cars of the metric and of what it read, and at the source of its code. Answers for
        stored names that nothing declares any more, too.

        Raises:
            UnknownMetricError: neither stored nor declared.
        """
        reasons = self._staleness.reasons(name)
        if not any(reason.kind == "missing" for reason in reasons):
            return reasons
        if name not in self.functions_dict:
            raise self._unknown(name)
        failed = self._failed_before([name]).get(name)
        if failed is None:
            return reasons
        place = "" if failed.where is None else f" ({failed.where})"
        detail = f"failed in an earlier run with {failed.kind}: {failed.message}{place}"
        return (Reason(kind="failed", detail=detail),)

    def _failed_before(self, names: Collection[str]) -> Mapping[str, Failed]:
        """Of these, those that an earlier run failed at for a reason that still holds."""
        raise NotImplementedError

    def _warm_up(self, names: Iterable[str]) -> None:
        """Do now what the first computation of these would have to wait for: imports, a look at the code."""
        from smm import _code_archive, _locks  # noqa: F401

        functions = {id(self._staleness.function_of(name)): name for name in names}
        for name in functions.values():
            self._staleness.code(name)

    @property
    def _may_recompute(self) -> bool:
        """Whether there is a metric for which `_stale_for_a_run` may give a reason."""
        own = (rows.metric.trust.on_stale for rows in self._rows.values())
        return self.on_stale == "recompute" or "recompute" in own

    def _stale_for_a_run(self, name: str, look: Look | None = None) -> Reason | None:
        """Return the first reason why a run computes a stored metric again; None if it does not."""
        if not self._staleness.recomputes(name):
            return None
        reasons = (look or self._staleness.look()).reasons(name)
        return next((reason for reason in reasons if reason.is_stale), None)

    def _tell_of_stale(self, stored: Iterable[str]) -> set[str]:
        """Do what `on_stale` says about stored values that a run leaves as they are: warn, or refuse.

        Looks at no more than 32 rows of each metric, from the first to the last: what changes a code changes
        it for all of them.

        Returns:
            Those of them whose side-cars cannot be read, which count as not stored.

        Raises:
            StaleMetricError: one is stale, and the policy is `error`.
        """
        functions, look, earlier = self.functions_dict, self._staleness.look(), 0
        unreadable: set[str] = set()
        by_metric: dict[object, list[str]] = {}
        for name in stored:
            entry = functions.get(name)
            metric = entry.rows if isinstance(entry, Row) else name
            names = by_metric.get(metric)
            if names is None:
                names = by_metric[metric] = []
            names.append(name)
        for names in by_metric.values():
            count, last = min(len(names), _MOST_LOOKED_AT), len(names) - 1
            chosen = [names[number * last // max(1, count - 1)] for number in range(count)]
            found = {name: self._shelf.record(name) for name in chosen}
            unreadable |= {name for name, record in found.items() if record is None}
            noted = [record for record in found.values() if record is not None]
            if any(map(look.is_earlier, noted)):  # only until they are accepted or computed again
                sidecars = map(self._shelf.sidecar, names)
                earlier += sum(each is not None and look.is_earlier(each) for each in sidecars)
                continue
            for record in noted:
                self._staleness.serves(record.name, record, may_compute=False, look=look)
        if earlier:
            self._staleness.warn_of_earlier(earlier)
        return unreadable

    # --- accept -----------------------------------------------------------------------------------------

    def accept(self, names: str | Iterable[str], *, dry_run: bool = False) -> list[str]:
        """Take stored values as right though their code or inputs have changed since: they are fresh again.

        Their records note today's code and the dates of today's inputs, and when a value was accepted, and by
        which code it was computed. The values and their dates stay. An input that is stale itself stays so
        until it is accepted, too.

        Args:
            names: metric names, base names (for all their rows) or globs.
            dry_run: only tell.

        Returns:
            The metrics that were accepted, upstream first: those that were stale, or of unknown code.

        Raises:
            UnknownMetricError: a name means nothing.
        """
        from smm._select import select, stored_names

        stored = stored_names(self)
        patterns = [names] if isinstance(names, str) else list(names)
        chosen = [name for name in select(self, patterns, among=stored) if name in stored] if patterns else []
        look = self._staleness.look()
        accepted = [
            name
            for name in self._upstream_first(chosen)
            if any(reason.kind != "unseen" for reason in look.reasons(name))
        ]
        for name in accepted if not dry_run else ():
            self._accept(name)
        return accepted

    def _upstream_first(self, names: Iterable[str]) -> list[str]:
        from smm.graph import upstream_first

        noted = {name: self._shelf.record(name) for name in names}
        reads = {
            name: [read.name for read in (record.inputs or ()) if read.name in noted]
            for name, record in noted.items()
            if record is not None
        }
        return upstream_first(reads)

    def _accept(self, name: str) -> None:
        with self._flight(name, None), self._lock(name, None):
            record = self._shelf.record(name)
            if record is None:
                return  # deleted meanwhile
            code = self._staleness.code(name) or record.code
            noted = Accepted(
                date=datetime.now(UTC), digest=None if record.code is None else record.code.digest
            )
            inputs = tuple(self._inputs_of_now(name, record))
            record = attrs.evolve(record, code=code, inputs=inputs, accepted=noted)
            self._shelf.write_record(record)
            self._keep_sources(name, record)
            self._say(None, f"Accept {name}")

    def _inputs_of_now(self, name: str, record: Record) -> Iterator[Read]:
        row = self.functions_dict.get(name)
        declared = row.reads() if isinstance(row, Row) else []
        reads = {(read.name, read.store): read for read in record.inputs or ()}
        reads |= {
            (other, None): Read(name=other, date=record.changed)
            for other in declared
            if (other, None) not in reads
        }
        for read in reads.values():
            if read.store is not None:
                yield read
            elif (now := self._shelf.record(read.name)) is not None:
                yield attrs.evolve(read, date=now.changed)

    # --- graph ------------------------------------------------------------------------------------------

    def graph(self, *, rows: bool = False) -> Graph:
        """What reads what: by the declared inputs, and by what stored values have read.

        Reads every stored metric's side-car.

        Args:
            rows: a node for each row, in place of one for each metric.
        """
        from smm._select import base_names, groups, stored_names
        from smm.graph import Edge, Graph, Node

        look = self._staleness.look()
        stored = stored_names(self)
        declared = groups(self)
        base_of = base_names(self)
        failed = self._failed_before([name for name in self.functions_dict if name not in stored])

        def node_of(name: str) -> str:
            return name if rows else base_of.get(name, name)

        states: dict[str, dict[str, int]] = {}
        edges: dict[tuple[str, str], dict[str, bool]] = {}
        for name in (*self.functions_dict, *sorted(stored - self.functions_dict.keys())):
            counts = states.setdefault(
                node_of(name), dict.fromkeys(("fresh", "stale", "missing", "failed"), 0)
            )
            counts[_state(name, stored, failed, look)] += 1
            for read in self._declared_reads(name):
                edges.setdefault((node_of(name), node_of(read)), {})["declared"] = True
            record = self._shelf.record(name) if name in stored else None
            for noted in () if record is None else record.inputs or ():
                read = node_of(noted.name) if noted.store is None else f"{noted.name} in {noted.store}"
                edges.setdefault((node_of(name), read), {})["observed"] = True
        for base_name in self.waiting:
            if base_name not in declared:
                states.setdefault(base_name, dict.fromkeys(_STATES, 0))
        return Graph(
            nodes=tuple(Node(name=name, **counts) for name, counts in states.items()),
            edges=tuple(Edge(reader=reader, read=read, **how) for (reader, read), how in edges.items()),
        )

    def _declared_reads(self, name: str) -> list[str]:
        row = self.functions_dict.get(name)
        try:
            return row.reads() if isinstance(row, Row) else []
        except (TypeError, ValueError, LookupError):
            return []  # its run says what is wrong


def _state(name: str, stored: Collection[str], failed: Collection[str], look: Look) -> str:
    if name not in stored:
        return "failed" if name in failed else "missing"
    return "stale" if look.is_stale(name) else "fresh"
