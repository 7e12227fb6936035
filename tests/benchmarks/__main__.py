"""`python -m tests.benchmarks`: measure, and say how it went."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from tests.benchmarks import machine, measure, report
from tests.benchmarks.areas import AREAS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"


@click.command()
@click.argument("areas", nargs=-1, metavar="[AREA]...", type=click.Choice(list(AREAS)))
@click.option(
    "--quick", is_flag=True, help="Few short rounds, and nothing very large: minutes instead of many."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the figures go; a new file under .benchmarks/ by default.",
)
@click.option("--docs", is_flag=True, help="Renew the tables in docs/performance.md; needs all areas.")
@click.option("--check", is_flag=True, help="Exit with 1 if a goal is missed or could not be measured.")
def main(areas: tuple[str, ...], quick: bool, json_file: Path | None, docs: bool, check: bool) -> None:
    """Measure smm, its peers and the plain limit in turn, and show the ratios.

    AREA is one of those below, all of them by default. Files go to a temporary folder, which TMPDIR moves to
    the disk that you want to know about; they are removed at the end.

    \b
    warm     what is in memory          cold     what is on the disk
    store    computed and stored        sweep    thousands of rows
    look     which of them are stored   declare  rows and configurations
    start    new processes
    """
    chosen = [area for name, area in AREAS.items() if name in areas or not areas]
    if docs:
        if len(chosen) < len(AREAS):
            raise click.UsageError("--docs renews all tables: leave the areas out, or leave --docs out")
        report.around(PAGE.read_text(encoding="utf-8"))  # said before the minutes of measuring
    results = _measured(chosen, quick)
    kept = _keep(results, json_file)
    missed = results.missed
    click.echo(f"{missed} goal{'' if missed == 1 else 's'} not met; all figures: {kept}")
    if docs:
        PAGE.write_text(report.renewed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    if check and missed:
        sys.exit(1)


def _measured(chosen: Sequence[measure.Area], quick: bool) -> report.Results:
    """Measure areas, and print the table of each when it is ready."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    found: dict[measure.Area, list[measure.Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix="smm-benchmarks-") as folder:
        described = machine.described(Path(folder))
        room = measure.Room(Path(folder), quick=quick)
        for area in chosen:
            found[area] = []
            for count, race in enumerate(area.races, 1):
                click.echo(f"measuring: {area.name}, {count} of {len(area.races)}", err=True)
                found[area] += measure.run(race, room)
            console.print(report.table(area, found[area]), "")
    return report.Results(machine=described, quick=quick, areas=found)


def _keep(results: report.Results, path: Path | None) -> Path:
    if path is None:
        path = ROOT / ".benchmarks" / f"{datetime.now():%Y-%m-%d-%H%M%S}.json"
        path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report.as_json(results), indent=1), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
