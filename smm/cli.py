"""The command line: text in, text and exit codes out.

0 is fine, 1 a metric failed, 2 wrong usage or configuration, 130 Ctrl-C. Only click is imported here; each
command imports what it needs, so that `smm --help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from smm import __version__
from smm._ending import FAILED, INTERRUPTED, WRONG, Commands, Failure

if TYPE_CHECKING:
    from smm.config import Config
    from smm.manager import DatedCacheManager
    from smm.run import Outcome, Plan, RunReport

C = TypeVar("C", bound=Callable[..., Any])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smm")
def main() -> None:
    """Named, expensive results: computed once, dated, kept where a person can find them.

    TARGET is a YAML file, or a manager in a module: analysis:CM. NAMES are metrics, base names (for all
    their rows) or globs such as 'trend_*'; without any, all declared metrics are meant.
    """


def _target(command: C) -> C:
    return click.argument("target")(command)


def _names(command: C) -> C:
    return click.argument("names", nargs=-1)(command)


def _settings(command: C) -> C:
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Use VALUE in place of what the file says: --set storage.metrics_dir=/tmp/try",
    )(command)


def _as_json(command: C) -> C:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@main.command()
@_target
@click.option("--no-import", is_flag=True, help="Check the file alone; import none of your code.")
@_settings
@_as_json
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

            manager = _open(target, settings, quiet=as_json)
            metrics = {name: len(names) for name, names in groups(manager).items()}
            metrics |= dict.fromkeys(manager.waiting)
    except ConfigError as error:
        if not as_json:
            raise
        import attrs

        _print_json({"ok": False, "metrics": [], "problems": [attrs.asdict(one) for one in error.problems]})
        raise SystemExit(WRONG) from error
    if as_json:
        listed = [{"name": name, "rows": rows} for name, rows in metrics.items()]
        _print_json({"ok": True, "metrics": listed, "problems": []})
    else:
        rows = sum(count or 0 for count in metrics.values())
        click.echo(f"{target} is fine: {_plural(len(metrics), 'metric')}, {_plural(rows, 'row')}")


def _rows_written(config: Config) -> dict[str, int | None]:
    """Rows of each metric by the file alone; None where only code can tell."""
    from smm import sweep

    return {
        name: None
        if metric.function is None or any(isinstance(item, sweep.RowsFrom) for item in metric.params_list)
        else sum(map(sweep.count, metric.params_list))
        for name, metric in config.metrics.items()
    }


@main.command()
@_target
@_names
@click.option("--force", is_flag=True, help="Compute again what is stored, and replace it.")
@click.option("-v", "--verbose", is_flag=True, help="Print what is done, and tracebacks of what fails.")
@_settings
@_as_json
def run(
    target: str,
    names: tuple[str, ...],
    force: bool,
    verbose: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compute and store what is missing, upstream first.

    A metric that fails does not stop the others. Exit code 1 says that one did. Ctrl-C keeps what is done.

    With --json: seconds, computed, stored, failed, interrupted, metrics (name, status, seconds, error: null,
    or type, message, where, upstream).
    """
    from smm import _render
    from smm.maintain import select, stored_names
    from smm.run import plan

    manager = _open(target, settings, quiet=as_json)
    manager.verbose = verbose
    chosen = select(manager, names)
    planned = plan(manager, chosen, force=force, stored=stored_names(manager))
    report, interrupted = _carried_out(manager, planned, chosen if force else (), quiet=as_json)
    if as_json:
        _print_json(_render.run_json(report, interrupted=interrupted))
    elif not interrupted:
        _print(*_render.run_tables(report, _base_names(manager)))
        if manager.waiting and not (names and chosen):
            _say(f"\nnot run, for want of @CM.collect in code: {', '.join(manager.waiting)}")
    if verbose:
        _print_tracebacks(report)
    if interrupted:
        done, left = len(report.of("computed")), len(planned.compute)
        click.echo(f"interrupted: {done} of {left} computed and stored; run again for the rest", err=True)
        raise SystemExit(INTERRUPTED)
    if report.of("failed"):
        raise SystemExit(FAILED)


def _carried_out(
    manager: DatedCacheManager, planned: Plan, force: Sequence[str], *, quiet: bool
) -> tuple[RunReport, bool]:
    """The report of a run, and whether Ctrl-C ended it early."""
    from smm._progress import waits_told, watched
    from smm.run import RunReport, execute

    outcomes: list[Outcome] = []
    started = time.perf_counter()
    interrupted = False
    try:
        with _stdout_for_json(quiet), waits_told():
            for outcome in watched(execute(manager, planned, force=frozenset(force)), planned):
                outcomes.append(outcome)  # noqa: PERF402 - one by one: Ctrl-C must not lose what is done
    except KeyboardInterrupt:
        interrupted = True
    return RunReport(outcomes=tuple(outcomes), seconds=time.perf_counter() - started), interrupted


def _print_tracebacks(report: RunReport) -> None:
    from smm._blame import user_traceback

    for outcome in report.of("failed"):
        if outcome.error is not None and outcome.upstream is None:
            click.echo(f"\n{outcome.name}:\n{user_traceback(outcome.error)}", err=True)


@main.command()
@_target
@_names
@_settings
@_as_json
def status(target: str, names: tuple[str, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Show what is stored and what is missing; compute nothing.

    With --json: metrics (name, declared, stored, missing, last, bytes, waiting), undeclared.
    """
    from smm import _render, maintain

    manager = _open(target, settings, quiet=as_json)
    found = maintain.status(manager, maintain.select(manager, names) if names else None)
    if as_json:
        _print_json(_render.status_json(found))
        return
    _print(_render.status_table(found))
    if found.undeclared and not names:
        click.echo(f"\n{_plural(found.undeclared, 'stored metric')} that nothing declares any more")


@main.command()
@_target
@click.argument("names", nargs=-1, required=True)
@_settings
@_as_json
def show(target: str, names: tuple[str, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Print stored values and their records; compute nothing.

    With --json: metrics (record, value). What JSON has no word for is an object with a type: array (dtype,
    shape, values), tuple, dict (items), bytes (in hexadecimal), complex, or numpy's scalars. nan and the
    infinities are text.
    """
    from smm import _render, maintain

    manager = _open(target, settings, quiet=as_json)
    chosen = maintain.select(manager, names, among=maintain.stored_names(manager))
    if as_json:
        several = len(chosen) > 1
        _print_json(
            {"metrics": [_shown(manager, name) for name in chosen if not several or manager.exists(name)]}
        )
    elif len(chosen) == 1:
        _show_one(manager, chosen[0])
    else:
        _print(_render.values_table(manager, chosen))


def _shown(manager: DatedCacheManager, name: str) -> dict[str, Any]:
    from smm._render import record_json
    from smm._values import value_json

    try:
        value = value_json(manager.load(name))
    except RecursionError:
        raise Failure(f"error: metric {name!r} is nested too deeply for JSON; leave --json out") from None
    return {"record": record_json(manager.record(name)), "value": value}


def _show_one(manager: DatedCacheManager, name: str) -> None:
    from smm import _render
    from smm._values import value_lines

    value = manager.load(name)
    _print(_render.title(name), _render.record_table(manager, manager.record(name)), "")
    for line in value_lines(value):
        _say(line)


@main.command()
@_target
@_names
@click.option("-y", "--yes", is_flag=True, help="Delete without asking.")
@_settings
@_as_json
def clear(target: str, names: tuple[str, ...], yes: bool, settings: tuple[str, ...], as_json: bool) -> None:
    """Delete stored values and their dates.

    With --json: cleared, the names.
    """
    from smm import maintain

    manager = _open(target, settings, quiet=as_json)
    stored = maintain.stored_names(manager)
    chosen = [name for name in maintain.select(manager, names, among=stored) if name in stored]
    if chosen and not yes:
        _confirm(f"Delete {_plural(len(chosen), 'stored metric')} ({_some(chosen)})?")
    cleared = list(maintain.clear(manager, chosen))
    if as_json:
        _print_json({"cleared": cleared})
    else:
        click.echo(f"{_plural(len(cleared), 'stored metric')} deleted")


def _confirm(question: str) -> None:
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise KeyboardInterrupt from None  # click takes Ctrl-C for an end of the input
        raise Failure("nothing deleted: nobody is there to ask; give --yes") from None
    if not agreed:
        click.echo("nothing deleted", err=True)
        raise SystemExit(0)


@main.command()
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors."""
    from smm.config import json_schema

    _print_json(json_schema())


# --- helpers ---------------------------------------------------------------------------------------------


def _open(target: str, settings: Sequence[str], *, quiet: bool) -> DatedCacheManager:
    from smm._target import open_manager

    with _stdout_for_json(quiet):
        manager = open_manager(target, settings)
    manager.verbose = False  # a command says itself what it does
    return manager


@contextlib.contextmanager
def _stdout_for_json(quiet: bool) -> Iterator[None]:
    """Keep what the user's code prints out of the JSON."""
    with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
        yield


def _base_names(manager: DatedCacheManager) -> dict[str, str]:
    from smm.maintain import groups

    return {name: base_name for base_name, names in groups(manager).items() for name in names}


def _print(*parts: Any) -> None:
    from smm._render import as_text

    _say(as_text(*parts))


def _say(text: str) -> None:
    """Print a text that may hold anything: names and values are the user's."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "replace").decode(encoding))


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, allow_nan=False))


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, ..., {names[-1]}"
