"""The commands why, accept, graph, and what status, plan and show say of stale values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from smm import ParameterizedDatedCacheManager, _code_archive, from_config
from smm._render import as_text
from smm._render_trust import graph_dot, graph_mermaid, graph_tree, unsettled
from smm.errors import SmmWarning
from smm.graph import Edge, Graph, Node
from smm.maintain import MetricStatus, Status
from smm.metric import Code
from tests.commands import run_cli as smm
from tests.commands import run_process
from tests.projects import Project, project
from tests.stores import DictStorage

__all__ = ["project"]

CODE = """
    import trust_rates

    def source():
        return 10.0
    def scaled(a, x):
        # the comment counts for nothing
        return trust_rates.applied(a) * x
    def total(*, CM):
        return CM.scaled(1) + CM.scaled(2)
    def broken():
        raise ValueError("unlucky\\nsecond line")
"""

FROM_OUTSIDE = "import os\n" + dedent(CODE).replace("10.0", 'float(os.environ["TRUST_SOURCE"])')
"""The source depends on what no fingerprint covers."""

RATES = """
    RATE = 2

    def applied(value):
        return value * RATE
"""

CONFIG = """
    verbose: false
    metrics:
      source: {function: trust_code.source}
      scaled: {function: trust_code.scaled, inputs: {x: source}, params_list: [1, 2]}
      total: {function: trust_code.total}
"""

OLD_DATE = "2001-02-03T04:05:06.000007+00:00"


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("trust_code.py", CODE)
    project.write("trust_rates.py", RATES)
    project.write("metrics.yaml", CONFIG)
    monkeypatch.chdir(project.folder)
    return project


def edit(here: Project, file: str, text: str) -> None:
    """Change the code, as between two sessions."""
    here.write(file, text)
    for module in ("trust_code", "trust_rates"):
        sys.modules.pop(module, None)


def said(*arguments: str) -> list[str]:
    """The lines that a command prints, which ends well."""
    result = smm(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return [line.rstrip() for line in result.stdout.splitlines()]


def data(*arguments: str) -> Any:
    result = smm(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def states(*arguments: str) -> dict[str, tuple[int, int, int, int]]:
    """Of each metric: fresh, stale, missing, failed."""
    found = data("status", "metrics.yaml", *arguments)["metrics"]
    return {each["name"]: (each["fresh"], each["stale"], each["missing"], each["failed"]) for each in found}


def run() -> None:
    assert smm("run", "metrics.yaml", "--no-progress").exit_code in (0, 1)


def side_car(name: str) -> Path:
    return Path("results", f"{name}_date.json")


def rewritten(name: str, **fields: Any) -> None:
    """Another record in the side-car of a metric."""
    noted = json.loads(side_car(name).read_text())
    side_car(name).write_text(json.dumps(noted | fields))


# --- why ------------------------------------------------------------------------------------------------


def test_what_is_fresh_needs_no_reason(here: Project) -> None:
    run()
    assert said("why", "metrics.yaml", "total", "scaled") == [
        "scaled_1  fresh",
        "",
        "scaled_2  fresh",
        "",
        "total  fresh",
    ]
    assert data("why", "metrics.yaml", "source") == {
        "metrics": [{"name": "source", "state": "fresh", "reasons": []}]
    }


def test_a_change_that_changes_nothing(here: Project) -> None:
    run()
    text = CODE.replace("# the comment counts for nothing", "'nor does a text'").replace("(a, x)", "(a,  x)")
    edit(here, "trust_code.py", text)
    assert said("why", "metrics.yaml", "scaled_1") == ["scaled_1  fresh"]


def test_a_changed_definition_is_named_and_its_difference_shown(here: Project) -> None:
    run()
    edit(here, "trust_rates.py", RATES.replace("value * RATE", "value * RATE + 1"))
    lines = said("why", "metrics.yaml", "scaled_1")
    assert lines[:2] == ["scaled_1  stale", "  the code of trust_rates.applied changed"]
    assert [line.strip() for line in lines[2:5]] == [
        lines[2].strip(),
        "+++ trust_rates.applied, now",
        "@@ -1,2 +1,2 @@",
    ]
    assert lines[2].strip().startswith("--- trust_rates.applied, as of 20")
    assert [line.strip() for line in lines[5:]] == [
        "def applied(value):",
        "-    return value * RATE",
        "+    return value * RATE + 1",
    ]
    (metric,) = data("why", "metrics.yaml", "scaled_1")["metrics"]
    (reason,) = metric["reasons"]
    assert (metric["state"], reason["kind"], reason["about"]) == ("stale", "code", "trust_rates.applied")
    assert reason["text"] == "the code of trust_rates.applied changed"
    assert reason["difference"].splitlines() == [line[4:] for line in lines[2:]]


def test_a_difference_that_rows_have_in_common_is_shown_once(here: Project) -> None:
    run()
    edit(here, "trust_rates.py", RATES.replace("RATE = 2", "RATE = 3"))
    lines = said("why", "metrics.yaml", "scaled")
    assert [line.strip() for line in lines].count("+RATE = 3") == 1
    assert lines[-3:] == ["scaled_2  stale", "  the code of trust_rates.RATE changed", "    as above"]


def test_a_changed_constant(here: Project) -> None:
    run()
    edit(here, "trust_rates.py", RATES.replace("RATE = 2", "RATE = 3"))
    lines = said("why", "metrics.yaml", "scaled_2")
    assert lines[1] == "  the code of trust_rates.RATE changed"
    assert [line.strip() for line in lines[-2:]] == ["-RATE = 2", "+RATE = 3"]


def test_a_definition_that_is_moved_and_changed(here: Project) -> None:
    run()
    edit(here, "trust_more.py", "def applied(value):\n    return value * 3")
    edit(here, "trust_rates.py", "from trust_more import applied")
    lines = said("why", "metrics.yaml", "scaled_2")
    assert "  the code of trust_more.applied changed" in lines
    assert [line.strip() for line in lines if line.strip().startswith(("-  ", "+  "))] == [
        "-    return value * RATE",
        "+    return value * 3",
    ]
    assert lines[-1] == "  the code of trust_rates.RATE is not used any more"


def test_a_definition_that_is_only_moved(here: Project) -> None:
    run()
    edit(here, "trust_more.py", RATES)
    edit(here, "trust_rates.py", "from trust_more import RATE, applied")
    assert said("why", "metrics.yaml", "scaled_2") == ["scaled_2  fresh"]


def test_a_definition_that_is_new(here: Project) -> None:
    run()
    text = RATES.replace("value * RATE", "offset() + value * RATE") + "\n    def offset(): return 0\n"
    edit(here, "trust_rates.py", text)
    reasons = data("why", "metrics.yaml", "scaled_2")["metrics"][0]["reasons"]
    assert [(reason["about"], reason["detail"]) for reason in reasons] == [
        ("trust_rates.applied", "changed"),
        ("trust_rates.offset", "is used now, and was not then"),
    ]
    assert reasons[0]["difference"].splitlines()[-1] == "+    return offset() + value * RATE"
    assert reasons[1]["difference"] is None


def test_without_the_old_source_there_is_no_difference(here: Project) -> None:
    run()
    for kept in Path("results/.smm/code").iterdir():
        kept.unlink()
    edit(here, "trust_rates.py", RATES.replace("RATE = 2", "RATE = 3"))
    assert said("why", "metrics.yaml", "scaled_2") == [
        "scaled_2  stale",
        "  the code of trust_rates.RATE changed",
    ]
    (metric,) = data("why", "metrics.yaml", "scaled_2")["metrics"]
    assert metric["reasons"][0]["difference"] is None


def test_a_long_difference_is_cut_for_people_only(here: Project) -> None:
    run()
    edit(here, "trust_rates.py", RATES + "\n".join(f"    RATE = RATE + {n}" for n in range(100)))
    lines = said("why", "metrics.yaml", "scaled_2")
    assert lines[-1].strip().startswith("... and ")
    assert len(lines) < 70
    (metric,) = data("why", "metrics.yaml", "scaled_2")["metrics"]
    assert "+RATE = RATE + 99" in metric["reasons"][0]["difference"].splitlines()


def test_a_changed_input_and_what_reads_it_in_turn(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    here.write("trust_code.py", FROM_OUTSIDE)
    monkeypatch.setenv("TRUST_SOURCE", "10")
    run()
    assert smm("run", "metrics.yaml", "source", "--force", "--no-progress").exit_code == 0
    assert said("why", "metrics.yaml", "scaled_1") == ["scaled_1  fresh"], "the source came out as it was"
    monkeypatch.setenv("TRUST_SOURCE", "20")
    assert smm("run", "metrics.yaml", "source", "--force", "--no-progress").exit_code == 0
    (first, second) = said("why", "metrics.yaml", "scaled_1")
    assert first == "scaled_1  stale"
    assert second.startswith("  its input source was computed again on 20")
    assert said("why", "metrics.yaml", "total") == [
        "total  stale",
        "  its input scaled_1 is stale itself",
        "  its input scaled_2 is stale itself",
    ]


def test_age(here: Project) -> None:
    here.write("metrics.yaml", CONFIG + "      old: {function: trust_code.source, max_age: 7d}\n")
    run()
    rewritten("old", date=OLD_DATE)
    first, second = said("why", "metrics.yaml", "old")
    assert first == "old  stale"
    assert second.startswith("  it is ")
    assert second.endswith((" h old, and may be 7 d", " d old, and may be 7 d"))


def test_what_is_missing_and_what_failed(here: Project) -> None:
    here.write("metrics.yaml", CONFIG + "      broken: {function: trust_code.broken}\n")
    assert said("why", "metrics.yaml", "broken", "source") == ["source  missing", "", "broken  missing"]
    run()
    lines = said("why", "metrics.yaml", "broken")
    assert lines[:2] == ["broken  failed", "  failed in an earlier run with ValueError: unlucky"]
    (metric,) = data("why", "metrics.yaml", "broken")["metrics"]
    assert (metric["state"], [reason["kind"] for reason in metric["reasons"]]) == ("failed", ["failed"])


def test_what_cannot_be_told(here: Project) -> None:
    run()
    rewritten("source", code=None)
    assert said("why", "metrics.yaml", "source") == [
        "source  fresh, as far as it can be told",
        "  its record does not note by which code it was computed",
    ]
    assert states()["source"] == (1, 0, 0, 0)


def test_what_nothing_declares_any_more(here: Project) -> None:
    run()
    here.write("metrics.yaml", "metrics: {source: {function: trust_code.source}}")
    assert said("why", "metrics.yaml", "scaled_1") == [
        "scaled_1  fresh, as far as it can be told",
        "  nothing declares it any more",
    ]


def test_why_needs_a_name_that_is_known(here: Project) -> None:
    assert smm("why", "metrics.yaml").exit_code == 2
    result = smm("why", "metrics.yaml", "scald")
    assert (result.exit_code, "did you mean 'scaled'?" in result.stderr) == (2, True)
    assert not Path("results").exists()


# --- status ---------------------------------------------------------------------------------------------


def test_a_status_has_every_row_in_one_state(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    here.write("trust_code.py", FROM_OUTSIDE)
    monkeypatch.setenv("TRUST_SOURCE", "10")
    here.write("metrics.yaml", CONFIG + "      broken: {function: trust_code.broken}\n")
    assert smm("run", "metrics.yaml", "source", "scaled_1", "broken", "--no-progress").exit_code == 1
    monkeypatch.setenv("TRUST_SOURCE", "20")
    smm("run", "metrics.yaml", "source", "--force", "--no-progress")
    assert states() == {
        "source": (1, 0, 0, 0),
        "scaled": (0, 1, 1, 0),
        "total": (0, 0, 1, 0),
        "broken": (0, 0, 0, 1),
    }
    lines = [line.split() for line in said("status", "metrics.yaml")]
    assert lines[0] == ["metric", "rows", "fresh", "stale", "missing", "failed", "last", "size"]
    assert [line[:6] for line in lines[1:]] == [
        ["source", "1", "1", "-", "-", "-"],
        ["scaled", "2", "-", "1", "1", "-"],
        ["total", "1", "-", "-", "1", "-"],
        ["broken", "1", "-", "-", "-", "1"],
        ["in", "all", "5", "1", "1", "2"],
    ]
    found = data("status", "metrics.yaml", "scaled")["metrics"]
    assert [(each["declared"], each["stored"]) for each in found] == [(2, 1)]


def test_columns_that_nothing_needs_are_left_out(here: Project) -> None:
    run()
    assert said("status", "metrics.yaml")[0].split() == ["metric", "rows", "fresh", "missing", "last", "size"]


def test_status_check(here: Project) -> None:
    result = smm("status", "metrics.yaml", "--check")
    assert result.exit_code == 3
    assert result.stderr == "not fresh: source (1 missing), scaled (2 missing), total (1 missing)\n"
    run()
    assert smm("status", "metrics.yaml", "--check").exit_code == 0
    edit(here, "trust_rates.py", RATES.replace("RATE = 2", "RATE = 3"))
    result = smm("status", "metrics.yaml", "--check", "--json")
    assert result.exit_code == 3
    assert result.stderr == "not fresh: scaled (2 stale), total (1 stale)\n"
    assert json.loads(result.stdout)["metrics"][1]["stale"] == 2
    assert smm("status", "metrics.yaml", "source", "--check").exit_code == 0
    assert smm("status", "metrics.yaml").exit_code == 0


def test_the_line_of_a_check_is_one_line() -> None:
    def metric(number: int) -> MetricStatus:
        return MetricStatus(
            base_name=f"m{number}", declared=1234, stored=0, last=None, size=None, failed=number
        )

    line = unsettled(Status(metrics=tuple(map(metric, range(9))), undeclared=3))
    assert line.startswith("not fresh: m0 (1,234 missing), m1 (1,233 missing, 1 failed), ")
    assert line.endswith(", and 4 more")
    waiting = MetricStatus(base_name="later", declared=0, stored=0, last=None, size=None, waiting=True)
    assert unsettled(Status(metrics=(waiting,), undeclared=3)) == ""


# --- accept ---------------------------------------------------------------------------------------------


def test_accept_makes_fresh_again_and_keeps_value_and_date(here: Project) -> None:
    run()
    before = {name: data("show", "metrics.yaml", name) for name in ("scaled_1", "total")}
    edit(here, "trust_rates.py", RATES.replace("RATE = 2", "RATE = 3"))
    lines = said("accept", "metrics.yaml", "total", "scaled", "--dry-run")
    assert [line.split(maxsplit=1) for line in lines] == [
        ["metric", "why"],
        ["scaled_1", "the code of trust_rates.RATE changed"],
        ["scaled_2", "the code of trust_rates.RATE changed"],
        ["total", "its input scaled_1 is stale itself and 1 more"],
        [],
        ["3", "metrics to accept"],
    ]
    assert states()["scaled"] == (0, 2, 0, 0)
    assert said("accept", "metrics.yaml", "total", "scaled") == [
        "3 metrics accepted: scaled_1, scaled_2, total"
    ]
    assert set(states().values()) == {(1, 0, 0, 0), (2, 0, 0, 0)}
    for name, was in before.items():
        (now,), (then,) = data("show", "metrics.yaml", name)["metrics"], was["metrics"]
        assert (now["value"], now["record"]["date"]) == (then["value"], then["record"]["date"])
        assert now["record"]["accepted"]["digest"] == then["record"]["code"]["digest"]
    assert said("accept", "metrics.yaml", "scaled") == ["nothing to accept: all that is stored is fresh"]


def test_accept_says_what_stays_stale(here: Project) -> None:
    run()
    edit(here, "trust_rates.py", RATES.replace("RATE = 2", "RATE = 3"))
    lines = said("accept", "metrics.yaml", "total")
    assert lines[:3] == ["1 metric accepted: total", "", "still stale:"]
    assert lines[4].split(maxsplit=1) == ["total", "its input scaled_1 is stale itself and 1 more"]
    assert data("accept", "metrics.yaml", "total") == {"accepted": ["total"], "stale": ["total"]}


def test_accept_json(here: Project) -> None:
    run()
    edit(here, "trust_code.py", CODE.replace("10.0", "11.0"))
    would = data("accept", "metrics.yaml", "source", "--dry-run")
    assert would == {"accepted": ["source"], "stale": []}
    assert data("accept", "metrics.yaml", "source") == would
    assert data("accept", "metrics.yaml", "source") == {"accepted": [], "stale": []}


def test_accept_needs_a_name(here: Project) -> None:
    assert smm("accept", "metrics.yaml").exit_code == 2
    assert smm("accept", "metrics.yaml", "nothing").exit_code == 2
    assert data("accept", "metrics.yaml", "source") == {"accepted": [], "stale": []}
    assert not Path("results").exists()


# --- graph ----------------------------------------------------------------------------------------------


def test_a_graph_as_a_tree(here: Project) -> None:
    assert said("graph", "metrics.yaml") == ["scaled  2 missing", "└─ source  missing", "total  missing"]
    run()
    edit(here, "trust_rates.py", RATES.replace("RATE = 2", "RATE = 3"))
    assert said("graph", "metrics.yaml") == [
        "total  stale",
        "└─ scaled  2 stale *",
        "   └─ source  fresh",
        "",
        "* is no declared input: it was read when the value was computed",
    ]
    assert said("graph", "metrics.yaml", "--rows") == [
        "total  stale",
        "├─ scaled_1  stale *",
        "│  └─ source  fresh",
        "└─ scaled_2  stale *",
        "   └─ source  fresh",
        "",
        "* is no declared input: it was read when the value was computed",
    ]


def test_a_graph_as_json(here: Project) -> None:
    run()
    assert data("graph", "metrics.yaml") == {
        "nodes": [
            {"name": "source", "fresh": 1, "stale": 0, "missing": 0, "failed": 0},
            {"name": "scaled", "fresh": 2, "stale": 0, "missing": 0, "failed": 0},
            {"name": "total", "fresh": 1, "stale": 0, "missing": 0, "failed": 0},
        ],
        "edges": [
            {"reader": "scaled", "read": "source", "declared": True, "observed": True},
            {"reader": "total", "read": "scaled", "declared": False, "observed": True},
        ],
    }
    assert len(data("graph", "metrics.yaml", "--rows")["nodes"]) == 4


def test_a_graph_counts_what_nothing_declares(here: Project) -> None:
    run()
    here.write("metrics.yaml", "metrics: {source: {function: trust_code.source}, later: {}}")
    assert said("graph", "metrics.yaml") == [
        "source  fresh",
        "later  waits for @CM.collect",
        "",
        "3 stored metrics that nothing declares any more",
    ]


def test_one_way_to_print_a_graph(here: Project) -> None:
    result = smm("graph", "metrics.yaml", "--json", "--format", "dot")
    assert (result.exit_code, "give one of them" in result.stderr) == (2, True)
    assert smm("graph", "metrics.yaml", "--format", "svg").exit_code == 2


def graph_of(*edges: tuple[str, str], names: Iterable[str] = (), declared: bool = True) -> Graph:
    found = dict.fromkeys([*names, *(name for edge in edges for name in edge)])
    return Graph(
        nodes=tuple(Node(name=name, fresh=1) for name in found),
        edges=tuple(Edge(reader=reader, read=read, declared=declared) for reader, read in edges),
    )


def tree(graph: Graph) -> list[str]:
    return as_text(*graph_tree(graph, {node.name for node in graph.nodes})).splitlines()


def test_a_shared_part_of_a_tree_is_shown_once() -> None:
    diamond = graph_of(("d", "b"), ("d", "c"), ("b", "a"), ("c", "b"), ("e", "c"))
    assert tree(diamond) == [
        "d  fresh",
        "├─ b  fresh",
        "│  └─ a  fresh",
        "└─ c  fresh",
        "   └─ b  fresh  ...",
        "e  fresh",
        "└─ c  fresh  ...",
    ]


def test_circles_are_shown_too() -> None:
    assert tree(graph_of(("f", "f"))) == ["f  fresh", "└─ f  fresh  ..."]
    circle = graph_of(("a", "b"), ("b", "c"), ("c", "a"))
    assert tree(circle) == ["a  fresh", "└─ b  fresh", "   └─ c  fresh", "      └─ a  fresh  ..."]


def test_a_deep_graph_is_no_recursion() -> None:
    chain = graph_of(*((f"m{n}", f"m{n + 1}") for n in range(1_100)))
    lines = tree(chain)
    assert (len(lines), lines[-1].strip()) == (1_101, "└─ m1100  fresh")


def test_a_graph_of_nothing() -> None:
    nothing = Graph(nodes=(), edges=())
    assert tree(nothing) == ["no metrics"]
    assert graph_dot(nothing).splitlines()[0] == "digraph smm {"
    assert graph_mermaid(nothing).splitlines()[0] == "flowchart LR"


AWKWARD = ['say "x"', "back\\slash", "a#b;c&d<e>", "`md` **b**", "[x](y){z}|", "line\nbreak", "end", "é~1"]


def test_mermaid_takes_every_name() -> None:
    drawn = graph_mermaid(graph_of(("end", "é~1"), names=AWKWARD, declared=False)).splitlines()
    assert drawn[0] == "flowchart LR"
    labels = [line.partition("[")[2].partition("<br/>")[0] for line in drawn if "<br/>" in line]
    assert labels == [
        '"say #34;x#34;',
        '"back#92;slash',
        '"a#35;b#59;c#38;d#60;e#62;',
        '"#96;md#96; #42;#42;b#42;#42;',
        '"#91;x#93;#40;y#41;#123;z#125;#124;',
        '"line#92;nbreak',
        '"end',
        '"é~1',
    ]
    assert "    n7 -.-> n6" in drawn
    assert '    n6["end<br/>fresh"]:::fresh' in drawn
    assert "    n1 --> n0" in graph_mermaid(graph_of(("reader", "read"))).splitlines()


def test_dot_takes_every_name() -> None:
    drawn = graph_dot(graph_of(("end", "é~1"), names=AWKWARD, declared=False)).splitlines()
    labels = [line.partition('label="')[2].partition("\\nfresh")[0] for line in drawn if "label=" in line]
    assert labels == [
        'say \\"x\\"',
        "back\\\\slash",
        "a#b;c&amp;d<e>",
        "`md` **b**",
        "[x](y){z}|",
        "line\\\\nbreak",
        "end",
        "é~1",
    ]
    assert "    n7 -> n6 [style=dashed];" in drawn
    assert "    n1 -> n0;" in graph_dot(graph_of(("reader", "read"))).splitlines()


def test_drawings_show_the_worst_state_and_what_is_read_elsewhere(here: Project) -> None:
    nodes = (
        Node(name="a", fresh=1000, stale=1),
        Node(name="b", missing=2, failed=1),
        Node(name="c", missing=2),
    )
    graph = Graph(nodes=nodes, edges=(Edge(reader="a", read="x in /data", observed=True),))
    mermaid = graph_mermaid(graph)
    assert '"a<br/>1,000 fresh, 1 stale"]:::stale' in mermaid
    assert '"b<br/>2 missing, 1 failed"]:::failed' in mermaid
    assert '"x in #47;data<br/>not here"]:::missing' in mermaid
    assert 'label="x in /data\\nnot here"' in graph_dot(graph)
    assert as_text(*graph_tree(graph, {"a"})).splitlines()[1] == "└─ x in /data  not here *"


def test_drawings_come_from_the_command(here: Project) -> None:
    run()
    assert said("graph", "metrics.yaml", "--format", "mermaid")[0] == "flowchart LR"
    assert said("graph", "metrics.yaml", "--rows", "--format", "dot")[-1] == "}"


def test_a_tree_on_a_terminal_that_has_only_ascii(here: Project) -> None:
    run()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "smm", "graph", "metrics.yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert [line.rstrip() for line in done.stdout.splitlines()[:3]] == [
        "total  fresh",
        "`- scaled  2 fresh *",
        "   `- source  fresh",
    ]


# --- plan and show --------------------------------------------------------------------------------------


def test_a_plan_says_what_is_stale(here: Project) -> None:
    run()
    edit(here, "trust_rates.py", RATES.replace("RATE = 2", "RATE = 3"))
    assert said("plan", "metrics.yaml") == ["nothing to compute: 4 stored"]
    here.write("metrics.yaml", CONFIG + "    on_stale: recompute\n")
    lines = said("plan", "metrics.yaml")
    assert [(line.split()[0], line.rpartition("  ")[2]) for line in lines[2:4]] == [
        ("scaled", "stale: code"),
        ("total", "stale: input"),
    ]
    Path("results/scaled_1_date.json").unlink()
    assert said("plan", "metrics.yaml", "scaled")[1].endswith("1 missing; 1 stale: code")
    run()
    assert said("status", "metrics.yaml", "--check")[0].startswith("metric")


def test_show_tells_of_code_and_inputs(here: Project) -> None:
    run()
    fact = dict(line.split("  ", 1) for line in said("show", "metrics.yaml", "total")[1:] if "  " in line)
    code = json.loads(side_car("total").read_text())["code"]
    assert fact["code"].strip() == f"{code['digest'][:8]}, 1 definition"
    assert fact["read"].strip().startswith("scaled_1 of 20")
    assert ", scaled_2 of 20" in fact["read"]
    assert "accepted" not in fact
    edit(here, "trust_code.py", CODE.replace("CM.scaled(1) +", "CM.scaled(1) -"))
    assert said("accept", "metrics.yaml", "total") == ["1 metric accepted: total"]
    fact = dict(line.split("  ", 1) for line in said("show", "metrics.yaml", "total")[1:] if "  " in line)
    assert fact["accepted"].strip().endswith(f", computed by code {code['digest'][:8]}")


def test_show_tells_of_a_few_inputs(here: Project) -> None:
    run()
    read = [{"name": f"r{n}", "date": OLD_DATE, "store": "/data" if n else None} for n in range(9)]
    rewritten("source", inputs=read, accepted={"date": OLD_DATE, "digest": None})
    lines = [line.split(maxsplit=1) for line in said("show", "metrics.yaml", "source")]
    when = datetime.fromisoformat(OLD_DATE).astimezone().strftime("%Y-%m-%d %H:%M")
    shown = [f"r0 of {when}", *(f"r{n} in /data of {when}" for n in (1, 2, 3))]
    assert ["read", f"{', '.join(shown)} and 5 more"] in lines
    assert ["accepted", f"{when}, computed by code that was not noted"] in lines


@pytest.mark.parametrize("policy", ["warn", "error", "recompute"])
def test_show_shows_what_is_stale(here: Project, policy: str) -> None:
    run()
    edit(here, "trust_code.py", CODE.replace("10.0", "11.0"))
    here.write("metrics.yaml", CONFIG + f"    on_stale: {policy}\n")
    lines = said("show", "metrics.yaml", "source")
    assert ["stale", "the code of trust_code.source changed"] in [line.split(maxsplit=1) for line in lines]
    assert lines[-1] == "10.0"
    assert any(line.startswith("source") and "10.0" in line for line in said("show", "metrics.yaml", "s*"))
    assert data("show", "metrics.yaml", "source")["metrics"][0]["value"] == 10.0


# --- the archive of sources -----------------------------------------------------------------------------


def test_each_definition_is_kept_once(here: Project) -> None:
    run()
    kept = {path.stem: path.read_text() for path in Path("results/.smm/code").glob("*.py")}
    assert sorted(kept.values()) == sorted(
        [
            "RATE = 2",
            "def applied(value):\n    return value * RATE",
            "def scaled(a, x):\n    return trust_rates.applied(a) * x",
            "def source():\n    return 10.0",
            "def total(*, CM):\n    return CM.scaled(1) + CM.scaled(2)",
        ]
    )
    parts: set[str] = set()
    for name in ("source", "scaled_1", "total"):
        parts |= set(json.loads(side_car(name).read_text())["code"]["parts"].values())
    assert parts == set(kept)
    assert not list(Path("results/.smm/tmp").iterdir())


def code_of(**parts: str) -> Code:
    return Code(digest="fedcba9876543210", parts=parts, python="3.11")


def test_a_source_is_looked_for_once_a_process(tmp_path: Path) -> None:
    code = code_of(x="0123456789abcdef")
    assert not _code_archive.is_done(tmp_path, code)
    _code_archive.keep(tmp_path, code, {"x": "x = 1"})
    file = tmp_path / ".smm" / "code" / "0123456789abcdef.py"
    assert file.read_text() == "x = 1"
    assert _code_archive.is_done(tmp_path, code)
    file.unlink()
    _code_archive.keep(tmp_path, code, {"x": "x = 1"})
    assert not file.exists()
    assert _code_archive.kept(tmp_path, "0123456789abcdef") is None


def test_a_source_that_is_kept_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / ".smm" / "code"
    folder.mkdir(parents=True)
    (folder / "aaaaaaaaaaaaaaaa.py").write_text("there already")
    code = code_of(a="aaaaaaaaaaaaaaaa", b="bbbbbbbbbbbbbbbb")
    _code_archive.keep(tmp_path, code, {"b": "'\udcff'"})  # what is there is not even asked for
    assert _code_archive.kept(tmp_path, "aaaaaaaaaaaaaaaa") == "there already"
    assert _code_archive.kept(tmp_path, "bbbbbbbbbbbbbbbb") == "'\udcff'"


class TooDeep(dict[str, str]):
    def __getitem__(self, name: str) -> str:
        raise RecursionError


@pytest.mark.parametrize("sources", [{}, TooDeep(x="x")])
def test_a_source_that_cannot_be_written_is_left_out(tmp_path: Path, sources: dict[str, str]) -> None:
    _code_archive.keep(tmp_path, code_of(x="cccccccccccccccc"), sources)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("digest", ["../../secret", "", "0123", "0123456789ABCDEF", "a" * 65, "/etc/passwd"])
def test_a_digest_is_no_path(tmp_path: Path, digest: str) -> None:
    (tmp_path / "secret.py").write_text("x")
    _code_archive.keep(tmp_path / "results", code_of(x=digest), {"x": "x"})
    assert _code_archive.kept(tmp_path / "results", digest) is None
    assert {path.name for path in tmp_path.rglob("*.py")} == {"secret.py"}


def test_a_store_does_not_fail_for_want_of_an_archive(here: Project) -> None:
    folder = here.folder / "results" / ".smm"
    folder.mkdir(parents=True)
    (folder / "code").write_text("a file in its place")
    run()
    assert states()["total"] == (1, 0, 0, 0)


def test_storages_without_a_folder_keep_no_source(here: Project) -> None:
    CM = ParameterizedDatedCacheManager(DictStorage(), verbose=False)
    CM.set_functions_dict({"one": lambda: 1})
    assert CM.get("one") == 1
    in_memory = from_config("metrics.yaml", overrides={"storage": {"type": "memory"}})
    assert in_memory.get("total") == 60.0
    assert {path.name for path in here.folder.iterdir()} >= {"trust_code.py"}
    assert not list(here.folder.rglob(".smm"))


# --- doubts about stored values ----------------------------------------------------------------------------


def noted_by_an_earlier_smm(*names: str) -> None:
    """Take from records what an earlier smm did not note: the version of the reading of code."""
    for name in names:
        side_car = Path(f"results/{name}_date.json")
        noted = json.loads(side_car.read_text())
        del noted["code"]["reading"]
        noted["code"]["digest"] = "0" * 16
        side_car.write_text(json.dumps(noted))


def test_code_noted_by_an_earlier_smm_is_neither_fresh_nor_stale(here: Project) -> None:
    run()
    noted_by_an_earlier_smm("source", "scaled_1", "scaled_2")
    assert said("why", "metrics.yaml", "source") == [
        "source  fresh, as far as it can be told",
        "  its code was noted by an earlier smm, which read code differently; smm accept notes it anew",
    ]
    assert states() == {"source": (1, 0, 0, 0), "scaled": (2, 0, 0, 0), "total": (1, 0, 0, 0)}
    lines = said("status", "metrics.yaml")
    assert lines[-2:] == [
        "3 stored values were noted by an earlier smm, which read code differently: nobody can tell",
        "whether the code has changed since; smm accept notes it anew",
    ]
    found = {each["name"]: each["earlier"] for each in data("status", "metrics.yaml")["metrics"]}
    assert found == {"source": 1, "scaled": 2, "total": 0}


@pytest.mark.parametrize("policy", ["warn", "recompute", "error"])
def test_values_noted_by_an_earlier_smm_are_served_and_counted_once(here: Project, policy: str) -> None:
    run()
    noted_by_an_earlier_smm("source", "scaled_1", "scaled_2")
    manager = from_config("metrics.yaml", overrides={"on_stale": policy})
    with pytest.warns(SmmWarning, match="3 stored metrics were noted by an earlier smm") as caught:
        report = manager.run()
    assert len(caught) == 1
    assert report.counts()["stored"] == 4
    assert manager.get("scaled_1") == 20.0, "and no second warning"
    other = from_config("metrics.yaml", overrides={"on_stale": policy})
    with pytest.warns(SmmWarning, match="a stored metric was noted by an earlier smm"):
        assert other.get("source") == 10.0
    assert other.get("scaled_1") == 20.0


def test_accept_notes_the_code_of_an_earlier_smm_anew(here: Project) -> None:
    run()
    noted_by_an_earlier_smm("source", "scaled_1")
    assert data("accept", "metrics.yaml", "*") == {"accepted": ["source", "scaled_1"], "stale": []}
    assert said("why", "metrics.yaml", "source") == ["source  fresh"]
    assert from_config("metrics.yaml").get("scaled_1") == 20.0


def test_code_that_is_not_fully_seen_is_named(here: Project) -> None:
    run()
    for name in ("scaled_1", "total"):
        side_car = Path(f"results/{name}_date.json")
        noted = json.loads(side_car.read_text())
        noted["code"]["unseen"] = ["trust_code.scaled calls exec"]
        noted |= {"reads_unseen": "a thread was there before"} if name == "total" else {}
        side_car.write_text(json.dumps(noted))
    assert said("why", "metrics.yaml", "total") == [
        "total  fresh, as far as it can be told",
        "  code not fully seen: trust_code.scaled calls exec",
        "  reads not fully seen: a thread was there before",
    ]
    assert (
        said("status", "metrics.yaml")[-1] == "code or reads not fully seen: scaled, total; smm why says what"
    )
    assert data("accept", "metrics.yaml", "*") == {"accepted": [], "stale": []}, "there is nothing to accept"


# --- what failed -----------------------------------------------------------------------------------------


def test_show_and_why_of_a_row_that_failed(here: Project) -> None:
    here.write("metrics.yaml", CONFIG + "      broken: {function: trust_code.broken}\n")
    assert smm("run", "metrics.yaml", "broken", "source", "--no-progress").exit_code == 1
    shown = smm("show", "metrics.yaml", "broken")
    assert shown.exit_code == 1
    assert "failed: ValueError: unlucky second line (trust_code.py:" in shown.stdout
    assert "smm run metrics.yaml broken --retry-failed" in shown.stdout
    line = next(line for line in said("show", "metrics.yaml", "broken", "source") if "broken" in line)
    assert "failed: ValueError: unlucky second line" in line
    found = data("show", "metrics.yaml", "broken", "source")["metrics"]
    failed = next(each["failed"] for each in found if each.get("name") == "broken")
    assert (failed["type"], failed["message"]) == ("ValueError", "unlucky\nsecond line")
    why = "\n".join(said("why", "metrics.yaml", "broken"))
    assert "trust_code.py:" in why
    assert "raise ValueError(" in why, "the traceback"
    assert "in broken" in data("why", "metrics.yaml", "broken")["metrics"][0]["traceback"]


def test_the_command_line_recommends_commands(here: Project) -> None:
    run()
    edit(here, "trust_code.py", CODE.replace("10.0", "11.0"))
    told = run_process("run", "metrics.yaml", cwd=Path.cwd()).stderr
    assert "smm why metrics.yaml source says more" in told
    assert "CM." not in told
    refused = run_process("run", "metrics.yaml", "--set", "on_stale=error", cwd=Path.cwd())
    assert "smm run metrics.yaml source --force computes it again" in refused.stderr
    assert "CM." not in refused.stderr
    Path("results/source.npz").write_bytes(b"")
    damaged = smm("show", "metrics.yaml", "source")
    assert "smm run metrics.yaml source computes it again" in damaged.stderr
