"""Whether stored values still hold: random graphs of metrics; the CO2 example, edited as a person would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm import JsonStorageInterface, NpzStorageInterface, ParameterizedDatedCacheManager
from smm.errors import SmmWarning, StaleMetricError
from smm.metric import Input, Metric

CO2 = Path(__file__).resolve().parents[1] / "configs" / "co2"


# --- random graphs ---------------------------------------------------------------------------------------

# What a metric computes, in versions that differ in their code: each adds a number of its own.
VERSIONS: tuple[Callable[..., int], ...] = (
    lambda values: sum(values) + 1,
    lambda values: sum(values) + 2,
    lambda values: sum(values) + 3,
)


class World:
    """Metrics that read each other, with a version of the code for each, over one folder."""

    def __init__(self, folder: Path, reads: Mapping[str, tuple[str, ...]], declared: set[str]) -> None:
        self.folder = folder
        self.reads = reads
        self.declared = declared
        """Metrics whose reads are declared inputs; the others read in their code alone."""
        self.versions = dict.fromkeys(reads, 0)

    def manager(self, **options: Any) -> ParameterizedDatedCacheManager:
        """A new one, as a new process would make it."""
        cm = ParameterizedDatedCacheManager(
            NpzStorageInterface(self.folder), verbose=False, workers=1, **options
        )
        for name, read in self.reads.items():
            combine = VERSIONS[self.versions[name]]
            if name in self.declared:
                inputs = {f"x{number}": Input(metric=other) for number, other in enumerate(read)}
                cm.declare(Metric(base_name=name, function=_of_inputs(combine, len(read)), inputs=inputs))
            else:
                cm.collect(name)(_of_reads(cm, combine, read))
        return cm

    def value(self, name: str) -> int:
        """What it would be, computed from nothing."""
        return VERSIONS[self.versions[name]]([self.value(read) for read in self.reads[name]])


def _of_inputs(combine: Callable[..., int], count: int) -> Callable[..., int]:
    if count == 0:
        return lambda: combine([])
    if count == 1:
        return lambda x0: combine([x0])
    if count == 2:
        return lambda x0, x1: combine([x0, x1])
    return lambda x0, x1, x2: combine([x0, x1, x2])


def _of_reads(
    cm: ParameterizedDatedCacheManager, combine: Callable[..., int], read: tuple[str, ...]
) -> Callable[[], int]:
    return lambda: combine([cm[name] for name in read])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, tuple[str, ...]], set[str], list[tuple[str, int]]]:
    count = draw(st.integers(1, 7))
    names = [f"m{number}" for number in range(count)]
    reads = {
        name: tuple(sorted(draw(st.sets(st.sampled_from(names[:index]), max_size=3)))) if index else ()
        for index, name in enumerate(names)
    }
    edits = draw(st.lists(st.tuples(st.sampled_from(names), st.integers(0, 2)), max_size=4))
    return reads, draw(st.sets(st.sampled_from(names))), edits


@given(worlds())
def test_nothing_is_fresh_that_would_come_out_differently_and_one_run_mends_all(
    world: tuple[dict[str, tuple[str, ...]], set[str], list[tuple[str, int]]],
) -> None:
    reads, declared, edits = world
    with tempfile.TemporaryDirectory() as folder:
        made = World(Path(folder), reads, declared)
        made.manager().run()
        stored_by = dict(made.versions)
        for name, version in edits:
            made.versions[name] = version
        looking = made.manager(on_stale="serve")

        def changed(name: str) -> bool:
            """Whether its code, or that of anything it reads, is another than it was stored by."""
            return made.versions[name] != stored_by[name] or any(map(changed, reads[name]))

        for name in reads:
            stale = any(reason.is_stale for reason in looking.why(name))
            assert stale == changed(name), (name, looking.why(name))
            if looking[name] != made.value(name):
                assert stale

        mending = made.manager(on_stale="recompute")
        planned = mending.plan().plan
        assert set(planned.compute) == {name for name in reads if changed(name)}
        report = mending.run()
        assert {outcome.name for outcome in report.of("failed")} == set()
        again = made.manager(on_stale="recompute")
        assert {name: again.why(name) for name in reads} == dict.fromkeys(reads, ())
        assert again.run().of("computed") == ()
        assert {name: again[name] for name in reads} == {name: made.value(name) for name in reads}


@given(worlds())
def test_what_is_accepted_is_fresh_and_keeps_its_value(
    world: tuple[dict[str, tuple[str, ...]], set[str], list[tuple[str, int]]],
) -> None:
    reads, declared, edits = world
    with tempfile.TemporaryDirectory() as folder:
        made = World(Path(folder), reads, declared)
        first = made.manager()
        first.run()
        values = {name: first[name] for name in reads}
        for name, version in edits:
            made.versions[name] = version
        cm = made.manager(on_stale="error")
        cm.accept("*")
        assert {name: cm.why(name) for name in reads} == dict.fromkeys(reads, ())
        assert {name: cm[name] for name in reads} == values


def test_policies(tmp_path: Path) -> None:
    made = World(tmp_path, {"a": (), "b": ("a",)}, {"b"})
    made.manager().run()
    made.versions["a"] = 1
    with pytest.raises(StaleMetricError, match="its input a is stale itself"):
        made.manager(on_stale="error").get("b")
    with pytest.warns(SmmWarning, match="metric 'b' is stale"):
        assert made.manager().get("b") == 2
    assert made.manager(on_stale="serve").get("b") == 2
    assert made.manager(stale_on=("age",)).get("b") == 2
    assert made.manager(on_stale="recompute").get("b") == 3


def test_what_another_python_noted_is_unknown_and_not_changed(tmp_path: Path) -> None:
    made = World(tmp_path, {"a": ()}, set())
    made.manager().run()
    made.versions["a"] = 1
    assert [reason.kind for reason in made.manager().why("a")] == ["code"]
    side_car = tmp_path / "a_date.json"
    noted = json.loads(side_car.read_text())
    noted["code"]["python"] = "3.0"
    side_car.write_text(json.dumps(noted))
    (reason,) = made.manager().why("a")
    assert (reason.kind, reason.is_stale) == ("unknown", False)
    assert "noted by Python 3.0" in reason.detail


def test_a_record_that_notes_no_code_is_unknown(tmp_path: Path) -> None:
    made = World(tmp_path, {"a": ()}, set())
    made.manager().run()
    side_car = tmp_path / "a_date.json"
    noted = json.loads(side_car.read_text())
    del noted["code"], noted["inputs"]
    side_car.write_text(json.dumps(noted))
    assert [reason.kind for reason in made.manager(on_stale="error").why("a")] == ["unknown"]
    assert made.manager(on_stale="error").get("a") == 1
    assert made.manager().accept("a") == ["a"]
    assert made.manager().why("a") == ()


def test_age_and_policies_of_one_metric(tmp_path: Path) -> None:
    def manager() -> ParameterizedDatedCacheManager:
        cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False, max_age="7d")
        cm.collect("a", params_list=[1])(lambda a: a)
        cm.collect("kept", params_list=[1], stale_on=())(lambda a: a)
        cm.collect("young", params_list=[1], max_age="400d", on_stale="error")(lambda a: a)
        return cm

    manager().run()
    for name in ("a_1", "kept_1", "young_1"):
        side_car = tmp_path / f"{name}_date.json"
        noted = json.loads(side_car.read_text())
        noted["date"] = (datetime.now(UTC) - timedelta(days=30)).isoformat()
        side_car.write_text(json.dumps(noted))
    cm = manager()
    (reason,) = cm.why("a_1")
    assert (reason.kind, reason.detail) == ("age", "it is 30 d old, and may be 7 d")
    assert cm.why("kept_1") == cm.why("young_1") == ()
    with pytest.warns(SmmWarning, match="it is 30 d old"):
        assert cm.a(1) == 1
    assert (cm.kept(1), cm.young(1)) == (1, 1)


# --- the CO2 example, edited ----------------------------------------------------------------------------

QUICK = ("weekly", "monthly", "seasonal_cycle_2_1959_43", "deseasonalised_2")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with a few results."""
    folder = tmp_path_factory.mktemp("co2") / "co2"
    shutil.copytree(CO2, folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    done = smm("run", "metrics.yaml", *QUICK, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def example(computed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "co2"
    shutil.copytree(computed, folder)
    return folder


def smm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smm", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def why(folder: Path) -> dict[str, str]:
    """For each of the results, the kinds of its reasons, after an edit."""
    found = json.loads(smm("why", "metrics.yaml", *QUICK, "--json", cwd=folder).stdout)
    return {
        entry["name"]: " ".join(sorted({reason["kind"] for reason in entry["reasons"]}))
        for entry in found["metrics"]
    }


def edit(folder: Path, *pairs: tuple[str, str]) -> None:
    file = folder / "analysis.py"
    text = file.read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


FRESH = dict.fromkeys(QUICK, "")


def test_nothing_is_stale_before_an_edit(example: Path) -> None:
    assert why(example) == FRESH


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    number, co2 = np.genfromtxt(", "    # a comment\n    number, co2 = np.genfromtxt("),
        ('"""The weekly series, every week present.', '"""Every week.'),
        ("    number, co2 = np.genfromtxt(", "\n    number, co2 = np.genfromtxt("),
        ('return {"date": date, "year"', 'return {\n        "date": date, "year"'),
    ],
    ids=["comment", "docstring", "blank line", "layout"],
)
def test_edits_that_change_nothing(example: Path, old: str, new: str) -> None:
    edit(example, (old, new))
    assert why(example) == FRESH


def test_a_renamed_local_is_a_change(example: Path) -> None:
    edit(example, ("    number, co2 = np", "    digits, co2 = np"), ("number.astype", "digits.astype"))
    found = why(example)
    assert found["weekly"] == "code"
    assert found["monthly"] == found["deseasonalised_2"] == "input"


def test_a_helper_of_a_helper(example: Path) -> None:
    edit(example, ("    within: Floats = (", "    within: Floats = 1 * ("))  # in decimal_year
    found = why(example)
    assert found["weekly"] == "code"
    assert "code" in found["monthly"]
    assert "input" in found["deseasonalised_2"]
    text = smm("why", "metrics.yaml", "weekly", cwd=example).stdout
    assert "decimal_year" in text


def test_a_constant(example: Path) -> None:
    edit(example, ('with_name("co2_mauna_loa_weekly.csv")', 'with_name("co2_mauna_loa_weekly" + ".csv")'))
    found = why(example)
    assert found["weekly"] == "code"


def test_a_default(example: Path) -> None:
    text = (example / "analysis.py").read_text()
    start = text.index("def deseasonalise(")
    head = text[start : text.index(":\n", start)]
    assert "harmonics" in head
    edit(example, (head, head.replace("harmonics: int", "harmonics: int = 3")))
    assert why(example) == FRESH | {"deseasonalised_2": "code"}


def test_an_upgraded_helper_module(example: Path) -> None:
    text = (example / "analysis.py").read_text()
    start = text.index("def decimal_year(")
    helper = text[start : text.index("\n\n\n", start)]
    edit(example, (helper, "from dates import decimal_year"))
    (example / "dates.py").write_text(
        "from typing import Any\n\nimport numpy as np\nfrom numpy.typing import NDArray\n\n"
        f"Floats = NDArray[np.floating[Any]]\n\n\n{helper}\n"
    )
    done = smm("run", "metrics.yaml", *QUICK, "--force", cwd=example)
    assert done.returncode == 0, done.stderr
    assert why(example) == FRESH
    with (example / "dates.py").open("a") as file:
        file.write("\n\ndef unused():\n    return 1\n")
    assert why(example) == FRESH, "nothing reaches it"
    dates = (example / "dates.py").read_text()
    (example / "dates.py").write_text(dates.replace("1970 + within", "1970.0 + within"))
    found = why(example)
    assert found["weekly"] == "code"
    assert "dates.decimal_year" in smm("why", "metrics.yaml", "weekly", cwd=example).stdout


def test_a_run_tells_of_what_it_leaves_stale(tmp_path: Path) -> None:
    made = World(tmp_path, {"a": (), "b": ("a",), "c": ()}, {"b"})
    made.manager().run()
    made.versions["a"] = 1
    with pytest.warns(SmmWarning) as told:
        assert made.manager().run().of("computed") == ()
    assert sorted(str(each.message).partition(":")[0] for each in told) == [
        "metric 'a' is stale",
        "metric 'b' is stale",
    ]
    with pytest.raises(StaleMetricError):
        made.manager(on_stale="error").run()
    assert made.manager(on_stale="serve").run().of("computed") == ()
    assert len(made.manager(on_stale="recompute").run().of("computed")) == 2
    assert made.manager(on_stale="error").run().of("computed") == ()


@pytest.mark.parametrize("rows", [1, 2, 33, 63, 100])
@pytest.mark.parametrize("last", [False, True])
def test_a_run_looks_at_rows_from_the_first_to_the_last(tmp_path: Path, rows: int, last: bool) -> None:
    """A sweep that was broken off, and ended with other code, is stale at one of its ends."""

    def manager() -> ParameterizedDatedCacheManager:
        cm = ParameterizedDatedCacheManager(JsonStorageInterface(tmp_path), verbose=False)
        cm.collect("f", params_list=range(rows))(lambda a: a)
        return cm

    manager().run()
    side_car = tmp_path / f"f_{rows - 1 if last else 0}_date.json"
    record = json.loads(side_car.read_text())
    record["code"]["digest"] = "0" * 16
    side_car.write_text(json.dumps(record))
    with pytest.warns(SmmWarning, match="is stale") as told:
        assert len(manager().run().of("stored")) == rows
    assert len(told) == 1


def test_a_read_in_a_thread_of_the_metric_counts(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    cm.collect("up", params_list=[1, 2])(lambda a: a)

    @cm.collect
    def total() -> int:
        found: list[int] = []
        copied = threading.Thread(target=copy_context().run, args=(lambda: found.append(cm.up(1)),))
        bare = threading.Thread(target=lambda: found.append(cm.up(2)))
        for thread in (copied, bare):
            thread.start()
            thread.join()
        return sum(found)

    assert cm.total() == 3
    assert [read.name for read in cm.record("total").inputs or ()] == ["up_1", "up_2"]


def test_what_another_storage_gave_is_noted_with_its_folder(tmp_path: Path) -> None:
    other = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path / "other"), verbose=False)
    other.collect("up")(lambda: 1)
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path / "own"), verbose=False)
    cm.collect("down")(lambda: other.up() + 1)
    assert cm.down() == 2
    (read,) = cm.record("down").inputs or ()
    assert (read.name, read.date, read.store) == ("up", other.date("up"), str(tmp_path / "other"))


def test_a_new_upstream_value_and_then_a_run_that_mends_it(example: Path) -> None:
    assert smm("run", "metrics.yaml", "weekly", "--force", cwd=example).returncode == 0
    assert why(example) == FRESH, "it came out as it was"
    series = example / "co2_mauna_loa_weekly.csv"
    series.write_text(series.read_text().replace("19580405,317.3", "19580405,317.4"))
    assert smm("run", "metrics.yaml", "weekly", "--force", cwd=example).returncode == 0
    assert why(example) == {
        "weekly": "",
        "monthly": "input",
        "seasonal_cycle_2_1959_43": "input",
        "deseasonalised_2": "input",
    }
    done = smm("run", "metrics.yaml", *QUICK, "--set", "on_stale=recompute", cwd=example)
    assert done.returncode == 0, done.stderr
    assert why(example) == FRESH
    assert smm("status", "metrics.yaml", *QUICK, "--check", cwd=example).returncode == 0


def test_a_moved_module_is_no_change(example: Path) -> None:
    (example / "analysis.py").rename(example / "growth.py")
    config = example / "metrics.yaml"
    config.write_text(config.read_text().replace("function: analysis.", "function: growth."))
    assert why(example) == FRESH


def test_status_check_tells_scripts(example: Path) -> None:
    edit(example, ("    number, co2 = np", "    digits, co2 = np"), ("number.astype", "digits.astype"))
    done = smm("status", "metrics.yaml", *QUICK, "--check", cwd=example)
    assert done.returncode == 3
    assert smm("accept", "metrics.yaml", *QUICK, cwd=example).returncode == 0
    assert smm("status", "metrics.yaml", *QUICK, "--check", cwd=example).returncode == 0
