"""What is fresh, what is not and why, and what reads what: for a person, as JSON, as a drawing."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from smm._render import count_cell, date, new_table
from smm._terminal import Text
from smm._text import size, visible
from smm.maintain import MetricStatus, Status
from smm.metric import Reason

if TYPE_CHECKING:
    import attrs

    from smm.graph import Edge, Graph, Node
else:
    from smm import _attrs as attrs

STYLES = {"fresh": "green", "stale": "yellow", "missing": "cyan", "failed": "bold red"}
"""The states that a row can be in, and their colours."""

_MOST_NAMES = 5
"""Metrics that one line names."""

_MOST_DIFFERENCES = 60
"""Lines of a difference that are shown."""

# --- status ----------------------------------------------------------------------------------------------


def status_table(status: Status) -> Table:
    """One line a metric, and the sums; a column that no metric needs is left out."""
    states = [
        state
        for state in STYLES
        if state in ("fresh", "missing") or any(getattr(metric, state) for metric in status.metrics)
    ]
    numbers = ("rows", *states, "size")
    table = new_table("metric", "rows", *states, "last", "size", numbers=numbers)
    for metric in status.metrics:
        table.add_row(Text(metric.base_name), *_status_cells(metric, states))
    if len(status.metrics) > 1:
        table.add_section()
        table.add_row(Text("in all", style="bold"), *_status_cells(_sum(status.metrics), states))
    return table


def _sum(metrics: Sequence[MetricStatus]) -> MetricStatus:
    sizes = [metric.size for metric in metrics if metric.size is not None]
    return MetricStatus(
        base_name="in all",
        declared=sum(metric.declared for metric in metrics),
        stored=sum(metric.stored for metric in metrics),
        stale=sum(metric.stale for metric in metrics),
        failed=sum(metric.failed for metric in metrics),
        last=max((metric.last for metric in metrics if metric.last), default=None),
        size=sum(sizes) if sizes else None,
    )


def _status_cells(metric: MetricStatus, states: Iterable[str]) -> list[RenderableType]:
    counts = [count_cell(getattr(metric, state), STYLES[state]) for state in states]
    if metric.waiting:
        return [count_cell(0), *counts, Text("waits for @CM.collect", style="yellow"), ""]
    there = metric.size is not None and metric.stored
    return [count_cell(metric.declared), *counts, date(metric.last), size(metric.size or 0) if there else ""]


def status_json(status: Status) -> dict[str, Any]:
    """What `smm status --json` prints."""
    return {
        "metrics": [
            {
                "name": metric.base_name,
                "declared": metric.declared,
                "stored": metric.stored,
                "fresh": metric.fresh,
                "stale": metric.stale,
                "missing": metric.missing,
                "failed": metric.failed,
                "earlier": metric.earlier,
                "unseen": metric.unseen,
                "last": None if metric.last is None else metric.last.isoformat(),
                "bytes": metric.size,
                "waiting": metric.waiting,
            }
            for metric in status.metrics
        ],
        "undeclared": status.undeclared,
    }


def doubts(status: Status) -> Iterator[str]:
    """Give a line for each kind of doubt about stored values that count as fresh."""
    earlier = sum(metric.earlier for metric in status.metrics)
    if earlier:
        noun = "stored value was" if earlier == 1 else "stored values were"
        yield f"{earlier:,} {noun} noted by an earlier smm, which read code differently: nobody can tell"
        yield "whether the code has changed since; smm accept notes it anew"
    unseen = [(metric.base_name, metric.unseen) for metric in status.metrics if metric.unseen]
    if unseen:
        shown = [f"{name} ({count:,})" if count > 1 else name for name, count in unseen[:_MOST_NAMES]]
        more = [f"and {len(unseen) - len(shown):,} more"] if len(unseen) > len(shown) else []
        yield f"code or reads not fully seen: {', '.join(shown + more)}; smm why says what"


def unsettled(status: Status) -> str:
    """What is not fresh, in one line; empty if all is."""
    found = [metric for metric in status.metrics if not metric.is_settled]
    shown = [f"{metric.base_name} ({_counts(metric)})" for metric in found[:_MOST_NAMES]]
    more = [f"and {len(found) - len(shown):,} more"] if len(found) > len(shown) else []
    return f"not fresh: {', '.join(shown + more)}" if found else ""


def _counts(metric: MetricStatus | Node) -> str:
    states = {state: getattr(metric, state) for state in ("stale", "missing", "failed")}
    return ", ".join(f"{count:,} {state}" for state, count in states.items() if count)


# --- why -------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Answer:
    """Why a metric would be computed again."""

    name: str
    reasons: tuple[Reason, ...]
    differences: Mapping[Reason, str]
    """For reasons of kind `code`, as far as the old source is known: how the two differ."""
    traceback: str = ""
    """Of the failure of an earlier run; empty if there was none."""

    @property
    def state(self) -> str:
        """`fresh`, `stale`, `missing` or `failed`."""
        kinds = {reason.kind for reason in self.reasons}
        for kind in ("missing", "failed"):
            if kind in kinds:
                return kind
        return "stale" if any(reason.is_stale for reason in self.reasons) else "fresh"


def answer_lines(answer: Answer, shown: set[str]) -> Iterator[RenderableType]:
    """A metric's state, then a line for each reason, and the difference behind it.

    Args:
        answer: to be shown.
        shown: differences that stand above, as the rows of a metric have them in common; is added to.
    """
    state = answer.state
    said = state if state != "fresh" or not answer.reasons else "fresh, as far as it can be told"
    yield Text.assemble((answer.name, "bold"), "  ", (said, STYLES[state]))
    for reason in answer.reasons:
        if reason.kind != "missing":
            yield from (Text(f"  {line}") for line in str(reason).splitlines())
        difference = answer.differences.get(reason, "")
        if difference in shown:
            yield Text("    as above", style="dim")
            continue
        shown |= {difference} if difference else set()
        lines = difference.expandtabs().splitlines()
        for line in lines[:_MOST_DIFFERENCES]:
            yield Text(f"    {line}", style=_style_of(line))
        if len(lines) > _MOST_DIFFERENCES:
            yield Text(f"    ... and {len(lines) - _MOST_DIFFERENCES:,} more lines", style="dim")
    for line in answer.traceback.splitlines():
        yield Text(f"    {line}", style="dim")


def _style_of(line: str) -> str:
    if line.startswith(("---", "+++", "@@")):
        return "dim"
    return {"-": "red", "+": "green"}.get(line[:1], "")


def answer_json(answer: Answer) -> dict[str, Any]:
    """One entry of what `smm why --json` prints."""
    reasons = [
        {
            "kind": reason.kind,
            "about": reason.about,
            "detail": reason.detail,
            "text": str(reason),
            "difference": answer.differences.get(reason),
        }
        for reason in answer.reasons
    ]
    found = {"name": answer.name, "state": answer.state, "reasons": reasons}
    return found | ({"traceback": answer.traceback} if answer.traceback else {})


# --- accept ----------------------------------------------------------------------------------------------


def acceptable_table(reasons: Mapping[str, Sequence[Reason]]) -> Table:
    """What would be accepted, and why it needs that."""
    table = new_table("metric", "why")
    for name, why in reasons.items():
        more = f" and {len(why) - 1:,} more" if len(why) > 1 else ""
        table.add_row(Text(name), Text(f"{why[0]}{more}"))
    return table


# --- graph: a tree ---------------------------------------------------------------------------------------

_SEEN = " *"
_SEEN_MEANS = "* is no declared input: it was read when the value was computed"


def graph_tree(graph: Graph, declared: Collection[str]) -> list[RenderableType]:
    """Each metric with what it reads below it; what has been shown before is only named.

    Args:
        graph: to be shown.
        declared: nodes that are shown even if nothing reads them; others are counted.
    """
    nodes = {node.name: node for node in graph.nodes}
    reads: dict[str, list[Edge]] = {}
    for edge in graph.edges:
        reads.setdefault(edge.reader, []).append(edge)
    lines: list[RenderableType] = []
    shown: set[str] = set()
    for root in _roots(graph, declared):
        if root not in shown:
            lines += _branches(root, nodes, reads, shown)
    if any(edge.reader in shown and not edge.declared for edge in graph.edges):
        lines += ["", Text(_SEEN_MEANS, style="dim")]
    others = len(nodes.keys() - shown)
    if others:
        noun = "stored metric" if others == 1 else "stored metrics"
        lines += ["", f"{others:,} {noun} that nothing declares any more"]
    return lines or ["no metrics"]


def _roots(graph: Graph, declared: Collection[str]) -> list[str]:
    """What nobody else reads, then whatever reads itself in a circle."""
    read = {edge.read for edge in graph.edges if edge.reader != edge.read and edge.reader in declared}
    known = [node.name for node in graph.nodes if node.name in declared]
    return [name for name in known if name not in read] + [name for name in known if name in read]


def _branches(
    root: str, nodes: Mapping[str, Node], reads: Mapping[str, Sequence[Edge]], shown: set[str]
) -> Iterator[RenderableType]:
    """The lines of one tree, by a stack of its own: what reads what may be thousands of rows deep."""
    fork, end, line_down = _guides()
    # What is left to show: a name, what stands before it, before what it reads, and after it.
    todo: list[tuple[str, str, str, str]] = [(root, "", "", "")]
    while todo:
        name, before, below, mark = todo.pop()
        again = name in shown and bool(reads.get(name))
        shown.add(name)
        line = Text.assemble((before, "dim"), name, "  ", *_state_words(nodes.get(name)), (mark, "dim"))
        yield line.append("  ...", style="dim") if again else line
        if again:
            continue
        edges = reads.get(name, ())
        for index, edge in reversed(list(enumerate(edges))):
            last = index == len(edges) - 1
            todo.append(
                (
                    edge.read,
                    below + (end if last else fork),
                    below + ("   " if last else line_down),
                    "" if edge.declared else _SEEN,
                )
            )


def _guides() -> tuple[str, str, str]:
    """The lines of a tree: a fork, an end, what goes on below; in ASCII where that is all there is."""
    try:
        "├└│─".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return "|- ", "`- ", "|  "
    return "├─ ", "└─ ", "│  "


def _state_words(node: Node | None) -> list[tuple[str, str]]:
    """`80 fresh, 3 stale`, in colours; for a single row the word alone."""
    if node is None:
        return [("not here", "dim")]
    counts = {state: getattr(node, state) for state in STYLES if getattr(node, state)}
    if not counts:
        return [("waits for @CM.collect", "yellow")]
    if sum(counts.values()) == 1:
        return [(state, STYLES[state]) for state in counts]
    words: list[tuple[str, str]] = []
    for state, count in counts.items():
        words += [(", ", "")] if words else []
        words.append((f"{count:,} {state}", STYLES[state]))
    return words


# --- graph: JSON and drawings ----------------------------------------------------------------------------

_FILLS = {"fresh": "#d3f0d9", "stale": "#ffe8a3", "missing": "#e8eaed", "failed": "#f7c6c6"}


def graph_json(graph: Graph) -> dict[str, Any]:
    """What `smm graph --json` prints."""
    return {
        "nodes": [attrs.asdict(node) for node in graph.nodes],
        "edges": [attrs.asdict(edge) for edge in graph.edges],
    }


def graph_mermaid(graph: Graph) -> str:
    """A flowchart of Mermaid, from what is read to what reads it; dashed where no input is declared."""
    ids = _ids(graph)
    lines = ["flowchart LR"]
    for name, node in _all_nodes(graph).items():
        label = f"{_mermaid_text(name)}<br/>{_mermaid_text(_words(node))}"
        lines.append(f'    {ids[name]}["{label}"]:::{_worst(node)}')
    for edge in graph.edges:
        arrow = "-->" if edge.declared else "-.->"
        lines.append(f"    {ids[edge.read]} {arrow} {ids[edge.reader]}")
    lines += [f"    classDef {state} fill:{fill},stroke:#555,color:#000" for state, fill in _FILLS.items()]
    return "\n".join(lines)


def graph_dot(graph: Graph) -> str:
    """A digraph for Graphviz, drawn as Mermaid's."""
    ids = _ids(graph)
    lines = ["digraph smm {", "    rankdir=LR;", '    node [shape=box, style="rounded,filled"];']
    for name, node in _all_nodes(graph).items():
        label = f"{_dot_text(name)}\\n{_dot_text(_words(node))}"
        lines.append(f'    {ids[name]} [label="{label}", fillcolor="{_FILLS[_worst(node)]}"];')
    for edge in graph.edges:
        style = "" if edge.declared else " [style=dashed]"
        lines.append(f"    {ids[edge.read]} -> {ids[edge.reader]}{style};")
    return "\n".join([*lines, "}"])


def _all_nodes(graph: Graph) -> dict[str, Node | None]:
    """The nodes by name, with those that only edges name."""
    found: dict[str, Node | None] = {node.name: node for node in graph.nodes}
    for edge in graph.edges:
        found.setdefault(edge.read, None)
    return found


def _ids(graph: Graph) -> dict[str, str]:
    return {name: f"n{number}" for number, name in enumerate(_all_nodes(graph))}


def _words(node: Node | None) -> str:
    return "".join(word for word, _ in _state_words(node))


def _worst(node: Node | None) -> str:
    if node is None:
        return "missing"
    for state in ("failed", "stale", "missing"):
        if getattr(node, state):
            return state
    return "fresh" if node.fresh else "missing"


def _mermaid_text(text: str) -> str:
    """A text for a quoted label: whatever Mermaid could take for its own is written as a number."""
    return re.sub(r"[^\w .,=+~-]", lambda found: f"#{ord(found[0])};", visible(text))


def _dot_text(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
