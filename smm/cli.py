"""The command line: text in, text and exit codes out.

0 is fine, 1 a metric failed, 2 wrong usage or configuration, 3 something is not fresh (`status --check`), 130
Ctrl-C. Only click is imported here; each command imports what it needs, so that `smm --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from smm import __version__
from smm._command import (
    agrees,
    opened,
    plural,
    print_json,
    say,
    some,
    stdout_for_json,
    takes_json,
    takes_names,
    takes_settings,
    takes_some_names,
    takes_target,
    tell,
)
from smm._ending import FAILED, INTERRUPTED, STALE, WRONG, Commands, Failure, usual_collector
from smm._rename_command import rename
from smm._store_commands import COMMANDS as STORE_COMMANDS
from smm._trust_commands import COMMANDS as TRUST_COMMANDS

if TYPE_CHECKING:
    from smm.config import Config
    from smm.manager import DatedCacheManager
    from smm.run import Failed, RunReport

C = TypeVar("C", bound=Callable[..., Any])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smm")
def main() -> None:
    """Named, expensive results: computed once, dated, kept where a person can find them.

    TARGET is a YAML file, or a manager in a module: analysis:CM. NAMES are metrics, base names (for all
    their rows) or globs such as 'trend_*'; without any, all declared metrics are meant.
    """


@main.command()
@takes_target
@click.option("--no-import", is_flag=True, help="Check the file alone; import none of your code.")
@takes_settings
@takes_json
def check(target: str, no_import: bool, settings: tuple[str, ...], as_json: bool) -> None:
    """Check a configuration and the code it names; compute nothing.

    With --json: ok, metrics (name, rows: null where only code can tell), problems (file, line, column, path,
    message).
    """
    from smm._target import open_config
    from smm.errors import ConfigError

    try:
        if no_import:
            metrics = _rows_written(open_config(target, settings))
        else:
            from smm.maintain import groups

            manager = opened(target, settings, quiet=as_json)
            metrics = {name: len(names) for name, names in groups(manager).items()}
            metrics |= dict.fromkeys(manager.waiting)
    except ConfigError as error:
        if not as_json:
            raise
        import attrs

        print_json({"ok": False, "metrics": [], "problems": [attrs.asdict(one) for one in error.problems]})
        raise SystemExit(WRONG) from error
    if as_json:
        listed = [{"name": name, "rows": rows} for name, rows in metrics.items()]
        print_json({"ok": True, "metrics": listed, "problems": []})
    else:
        rows = sum(count or 0 for count in metrics.values())
        say(f"{target} is fine: {plural(len(metrics), 'metric')}, {plural(rows, 'row')}")
        if not no_import and manager.executor == "threads":
            say(_when_processes_pay(manager.workers))


def _when_processes_pay(workers: int | None) -> str:
    threads = "a thread per processor" if workers is None else plural(workers, "thread")
    return (
        f"runs on {threads}; --executor processes pays where time goes into Python code, not numpy or waiting"
    )


def _rows_written(config: Config) -> dict[str, int | None]:
    """Rows of each metric by the file alone; None where only code can tell."""
    from smm import sweep

    return {
        name: None
        if metric.function is None or any(isinstance(item, sweep.RowsFrom) for item in metric.params_list)
        else sum(map(sweep.count, metric.params_list))
        for name, metric in config.metrics.items()
    }


def _running(command: C) -> C:
    """The options that `run` and `plan` share."""
    options = [
        click.option("--force", is_flag=True, help="Compute again what is stored, and replace it."),
        click.option("--retry-failed", is_flag=True, help="Also try what failed in an earlier run."),
        click.option(
            "--executor",
            metavar="WHICH",
            help="threads, processes or dask, which starts a cluster here; in place of what the file says.",
        ),
        click.option("-j", "--jobs", type=click.IntRange(min=1), help="How many workers; one per processor."),
        click.option("--dask", "address", metavar="ADDRESS", help="Use this dask scheduler: tcp://host:8786"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@takes_target
@takes_names
@_running
@click.option("--fail-fast", is_flag=True, help="Begin nothing more once a metric has failed.")
@click.option("--keep-trying", is_flag=True, help="Go on with a metric's rows once the storage refused one.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be computed: the same as smm plan.")
@click.option("--no-progress", is_flag=True, help="Say nothing while it goes.")
@click.option("-v", "--verbose", is_flag=True, help="Print tracebacks of what fails.")
@takes_settings
@takes_json
def run(target: str, names: tuple[str, ...], dry_run: bool, settings: tuple[str, ...], **how: Any) -> None:
    """Compute and store what is missing, upstream first.

    A metric that fails does not stop the others, and is not tried again until its code or an input changes.
    Once the storage has refused the value of a row, the metric's other rows are held back. Exit code 1 says
    that one failed, now or before. Ctrl-C lets what is running end and be stored, and keeps what is done; a
    second one stops at once.

    With --json: seconds, computed, stored, failed, skipped, held, left, interrupted, executor, workers, log,
    metrics (name, status, seconds, worker, tries, error: null, or type, message, where, traceback, upstream).
    """
    as_json = how.pop("as_json")
    executor = _executor(how.pop("executor"), how.pop("address"))
    manager = opened(target, settings, quiet=as_json)
    if dry_run:
        _show_plan(manager, names, as_json, executor=executor, **_planning(how))
    else:
        _run(target, manager, names, as_json, executor=executor, **how)


def _run(
    target: str,
    manager: DatedCacheManager,
    names: tuple[str, ...],
    as_json: bool,
    *,
    verbose: bool,
    **how: Any,
) -> None:
    from smm import _render
    from smm.errors import RunInterrupted

    try:
        with stdout_for_json(as_json), usual_collector():
            report: RunReport = manager.run(
                names or None,
                executor=how["executor"],
                workers=how["jobs"],
                force=how["force"],
                retry_failed=how["retry_failed"],
                keep_going=not how["fail_fast"],
                keep_trying=how["keep_trying"],
                progress=not how["no_progress"],
            )
    except RunInterrupted as interrupted:
        report = interrupted.report
        say(str(interrupted), lines=True, err=True)
    if as_json:
        print_json(_render.run_json(report))
    else:
        tell(*_render.run_tables(report, _base_names(manager), target))
        if manager.waiting and not (names and report.outcomes):
            say()
            say(f"not run, for want of @CM.collect in code: {', '.join(manager.waiting)}")
    if verbose:
        _print_tracebacks(report)
    if report.interrupted:
        _leave(INTERRUPTED)
    if report.of("failed") or report.of("skipped") or report.of("held"):
        raise SystemExit(FAILED)


def _leave(code: int) -> None:
    """End the process without waiting for threads that a second Ctrl-C left at work."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name.startswith("smm-") for thread in threading.enumerate()):
        os._exit(code)
    raise SystemExit(code)


def _executor(executor: str | None, address: str | None) -> str | None:
    if executor is not None and address is not None:
        raise click.UsageError("--executor and --dask are two ways to say the same; give one of them")
    if address is not None and "://" not in address:
        raise click.UsageError(
            f"--dask takes the address of a scheduler, such as tcp://host:8786, not {address!r}"
        )
    executor = address or executor
    if executor is not None:
        from smm._executors import check_executor

        try:
            check_executor(executor)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    return executor


def _planning(how: dict[str, Any]) -> dict[str, Any]:
    return {"workers": how["jobs"], "force": how["force"], "retry_failed": how["retry_failed"]}


@main.command()
@takes_target
@takes_names
@_running
@takes_settings
@takes_json
def plan(target: str, names: tuple[str, ...], settings: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Show what a run would compute and why, how long it would take, and how much it would store.

    Times and sizes are those of rows that are stored. Computes nothing.

    With --json: rows, seconds, bytes, workers, unknown, metrics (name, rows, reasons, stored, skipped,
    seconds, bytes: of one row; null where no row has been stored).
    """
    executor = _executor(how["executor"], how["address"])
    manager = opened(target, settings, quiet=as_json)
    _show_plan(manager, names, as_json, executor=executor, **_planning(how))


def _show_plan(manager: DatedCacheManager, names: tuple[str, ...], as_json: bool, **how: Any) -> None:
    from smm import _render

    forecast = manager.plan(names or None, **how)
    if as_json:
        print_json(_render.plan_json(forecast))
    else:
        tell(*_render.plan_tables(forecast))


def _print_tracebacks(report: RunReport) -> None:
    for outcome in report.of("failed"):
        if outcome.traceback and outcome.upstream is None:
            say(err=True)
            say(f"{outcome.name}:", err=True)
            say(outcome.traceback, lines=True, err=True)


@main.command()
@takes_target
@takes_names
@click.option("--check", is_flag=True, help="End with exit code 3 if anything is stale, missing or failed.")
@takes_settings
@takes_json
def status(
    target: str, names: tuple[str, ...], check: bool, settings: tuple[str, ...], as_json: bool
) -> None:
    """Show what is fresh, stale, missing; compute nothing.

    Stale is what is stored but would be computed otherwise today: its code has changed, or what it read, or
    it is older than it may be; smm why says more. Failed is what is missing as an earlier run failed at it.

    With --json: metrics (name, declared, stored, fresh, stale, missing, failed, earlier, unseen, last, bytes,
    waiting), undeclared.
    """
    from smm import _render_trust, maintain

    manager = opened(target, settings, quiet=as_json)
    found = maintain.status(manager, maintain.select(manager, names) if names else None)
    if as_json:
        print_json(_render_trust.status_json(found))
    else:
        tell(_render_trust.status_table(found))
        if found.undeclared and not names:
            say()
            say(f"{plural(found.undeclared, 'stored metric')} that nothing declares any more")
        if lines := list(_render_trust.doubts(found)):
            tell("", *lines)
    if check and (unsettled := _render_trust.unsettled(found)):
        say(unsettled, err=True)
        raise SystemExit(STALE)


@main.command()
@takes_target
@takes_some_names
@takes_settings
@takes_json
def show(target: str, names: tuple[str, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Print stored values and their records; compute nothing.

    Of a metric that failed in an earlier run, what it failed with.

    With --json: metrics (record, value; or name, failed: type, message, where, when, traceback). What JSON
    has no word for is an object with a type: array (dtype, shape, values), tuple, dict (items), bytes (in
    hexadecimal), complex, or numpy's scalars. nan and the infinities are text.
    """
    from smm import _render, maintain

    manager = opened(target, settings, quiet=as_json)
    chosen = maintain.select(manager, names, among=maintain.stored_names(manager))
    manager._staleness.looking = True
    failed = manager._failed_before([name for name in chosen if not manager.exists(name)])
    if as_json:
        several = len(chosen) > 1
        known = [name for name in chosen if not several or name in failed or manager.exists(name)]
        shown = [
            _render.failed_json(failed[name]) if name in failed else _shown(manager, name) for name in known
        ]
        print_json({"metrics": shown})
    elif len(chosen) == 1 and chosen[0] in failed:
        _show_failed(target, failed[chosen[0]])
    elif len(chosen) == 1:
        _show_one(manager, chosen[0])
    else:
        tell(_render.values_table(manager, chosen))


def _shown(manager: DatedCacheManager, name: str) -> dict[str, Any]:
    from smm._render import record_json
    from smm._values import value_json

    try:
        value = value_json(manager.load(name))
    except RecursionError:
        raise Failure(f"error: metric {name!r} is nested too deeply for JSON; leave --json out") from None
    return {"record": record_json(manager.record(name)), "value": value}


def _show_failed(target: str, failed: Failed) -> None:
    from smm import _render

    tell(_render.title(failed.name), _render.failure_line(failed))
    say(f"on {_render.date(failed.when)}; smm why {target} {failed.name} shows the traceback")
    say(f"smm run {target} {failed.name} --retry-failed tries again")
    raise SystemExit(FAILED)


def _show_one(manager: DatedCacheManager, name: str) -> None:
    from smm import _render
    from smm._values import value_lines

    value = manager.load(name)
    tell(_render.title(name), _render.record_table(manager, manager.record(name)), "")
    for line in value_lines(value):
        say(line)


@main.command()
@takes_target
@takes_names
@click.option("-y", "--yes", is_flag=True, help="Delete without asking.")
@takes_settings
@takes_json
def clear(target: str, names: tuple[str, ...], yes: bool, settings: tuple[str, ...], as_json: bool) -> None:
    """Delete stored values and their dates.

    With --json: cleared, the names.
    """
    from smm import maintain

    manager = opened(target, settings, quiet=as_json)
    stored = maintain.stored_names(manager)
    chosen = [name for name in maintain.select(manager, names, among=stored) if name in stored]
    if chosen and not yes:
        _confirm(f"Delete {plural(len(chosen), 'stored metric')} ({some(chosen)})?")
    cleared = list(maintain.clear(manager, chosen))
    if as_json:
        print_json({"cleared": cleared})
    else:
        say(f"{plural(len(cleared), 'stored metric')} deleted")


def _confirm(question: str) -> None:
    try:
        agreed = agrees(question)
    except click.Abort:
        if sys.stdin.isatty():
            raise KeyboardInterrupt from None  # click takes Ctrl-C for an end of the input
        raise Failure("nothing deleted: nobody is there to ask; give --yes") from None
    if not agreed:
        say("nothing deleted", err=True)
        raise SystemExit(0)


@main.command()
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors."""
    from smm.config import json_schema

    print_json(json_schema())


for command in (*TRUST_COMMANDS, *STORE_COMMANDS, rename):
    main.add_command(command)


# --- helpers ---------------------------------------------------------------------------------------------


def _base_names(manager: DatedCacheManager) -> dict[str, str]:
    from smm.maintain import groups

    return {name: base_name for base_name, names in groups(manager).items() for name in names}
