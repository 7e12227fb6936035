"""The commands about where results come from and whether they hold: why, accept, graph.

Only click is imported here; each command imports what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from smm._command import (
    opened,
    plural,
    print_json,
    say,
    some,
    stdout_for_json,
    takes_json,
    takes_settings,
    takes_some_names,
    takes_target,
    tell,
)

if TYPE_CHECKING:
    from smm._render_trust import Answer
    from smm.manager import DatedCacheManager
    from smm.metric import Reason


@click.command()
@takes_target
@takes_some_names
@takes_settings
@takes_json
def why(target: str, names: tuple[str, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Say why metrics would be computed again; compute nothing.

    Of a definition that has changed since, the difference is shown where the old source was kept. NAMES may
    also be stored metrics that nothing declares any more.

    With --json: metrics (name, state: fresh, stale, missing or failed, reasons: kind, about, detail, text,
    difference, and for a failure traceback).
    """
    from smm import _render_trust

    manager = opened(target, settings, quiet=as_json)
    with stdout_for_json(as_json):
        answers = list(_answers(manager, names))
    if as_json:
        print_json({"metrics": [_render_trust.answer_json(answer) for answer in answers]})
        return
    shown: set[str] = set()
    for index, answer in enumerate(answers):
        tell(*([""] if index else []), *_render_trust.answer_lines(answer, shown))


def _answers(manager: DatedCacheManager, names: Sequence[str]) -> Iterator[Answer]:
    from smm._render_trust import Answer
    from smm._select import select, stored_names
    from smm.metric import Reason

    stored = stored_names(manager)
    chosen = select(manager, names, among=stored)
    failed = manager._failed_before([name for name in chosen if name not in stored])  # all logs once
    for name in chosen:
        if name in stored or name in failed:
            reasons = manager.why(name)
        else:
            reasons = (Reason(kind="missing", detail="is not stored"),)
        yield Answer(
            name=name,
            reasons=reasons,
            differences=dict(_differences(manager, name, reasons)),
            traceback=failed[name].traceback if name in failed else "",
        )


def _differences(
    manager: DatedCacheManager, name: str, reasons: Sequence[Reason]
) -> Iterator[tuple[Reason, str]]:
    """How each changed definition differs from what it was, where that is known."""
    from smm._code_archive import difference, kept
    from smm._render import date
    from smm.protocols import FolderStorage

    changed = {reason.about: reason for reason in reasons if reason.kind == "code" and reason.about}
    storage = manager.storage_interface
    if not changed or not isinstance(storage, FolderStorage):
        return
    record, now = manager._shelf.record(name), manager._staleness.fingerprint_of(name)
    if record is None or record.code is None or now is None:
        return
    noted = record.date if record.accepted is None else record.accepted.date
    for about, reason in changed.items():
        digest = _digest_then(about, record.code.parts, now.parts)
        before = None if digest is None else kept(storage.metrics_dir, digest)
        if before is not None and about in now.sources:
            when = f"as of {date(noted)}"
            yield reason, difference(before, now.sources[about], name=about, when=when)


def _digest_then(name: str, noted: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Of a definition of now, the digest that it had; it may have moved from another module since."""
    if name in noted or name not in now:
        return noted.get(name)
    own = name.rpartition(".")[2]
    moved = [then for then in noted if then not in now and then.rpartition(".")[2] == own]
    return noted[moved[0]] if len(moved) == 1 else None


@click.command()
@takes_target
@takes_some_names
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be accepted.")
@takes_settings
@takes_json
def accept(
    target: str, names: tuple[str, ...], dry_run: bool, settings: tuple[str, ...], as_json: bool
) -> None:
    """Take stored values as right though they are stale; compute nothing.

    Their records note today's code and inputs, and that they were accepted. Values and dates stay.

    With --json: accepted, the names; stale, those of them that are stale for another reason.
    """
    from smm import _render_trust

    manager = opened(target, settings, quiet=as_json)
    with stdout_for_json(as_json):
        accepted = manager.accept(names, dry_run=dry_run)
        reasons = {name: manager.why(name) for name in accepted}
    stale = {name: why for name, why in reasons.items() if any(reason.is_stale for reason in why)}
    if as_json:
        print_json({"accepted": accepted, "stale": [] if dry_run else list(stale)})
    elif not accepted:
        say("nothing to accept: all that is stored is fresh")
    elif dry_run:
        tell(_render_trust.acceptable_table(reasons), "", f"{plural(len(accepted), 'metric')} to accept")
    else:
        say(f"{plural(len(accepted), 'metric')} accepted: {some(accepted)}")
        if stale:
            tell("", "still stale:", _render_trust.acceptable_table(stale))


@click.command()
@takes_target
@click.option("--rows", is_flag=True, help="Show every row, in place of every metric.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "mermaid", "dot"]),
    help="A tree of text, the default, or a drawing's source: for Mermaid, or for dot of Graphviz.",
)
@takes_settings
@takes_json
def graph(target: str, rows: bool, form: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Show what reads what, and what of it is stale or missing.

    By the declared inputs, and by what stored values have read when they were computed.

    With --json: nodes (name, fresh, stale, missing, failed), edges (reader, read, declared, observed).
    """
    from smm import _render_trust
    from smm._select import groups

    if as_json and form is not None:
        raise click.UsageError("--json and --format are two ways to print; give one of them")
    quiet = as_json or form in ("mermaid", "dot")
    manager = opened(target, settings, quiet=quiet)
    with stdout_for_json(quiet):
        found = manager.graph(rows=rows)
    if as_json:
        print_json(_render_trust.graph_json(found))
    elif form == "mermaid":
        say(_render_trust.graph_mermaid(found), lines=True)
    elif form == "dot":
        say(_render_trust.graph_dot(found), lines=True)
    else:
        declared = {*(manager.functions_dict if rows else groups(manager)), *manager.waiting}
        tell(*_render_trust.graph_tree(found, declared))


COMMANDS = (why, accept, graph)
