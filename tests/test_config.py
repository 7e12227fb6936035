"""What a configuration means, what is refused and with which words, overrides, variables, limits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm import sweep
from smm._executors import WANTED
from smm._text import SIZE
from smm.config import (
    Config,
    CustomStorage,
    JsonStorage,
    MemoryStorage,
    MetricConfig,
    NpyStorage,
    NpzStorage,
    RunConfig,
    load_config,
    parse_override,
    read_config,
)
from smm.errors import ConfigError, Problem
from smm.metric import Argument, Input, Literal
from tests import yaml_text

FOLDER = Path("/somewhere/project")
FILE = FOLDER / "metrics.yaml"


def read(text: str | bytes, **overrides: Any) -> Config:
    raw = text if isinstance(text, bytes) else text.encode()
    return read_config(raw, FILE, overrides=overrides.get("overrides"))


def problems(text: str, overrides: Mapping[str, Any] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_config(text.encode(), "metrics.yaml", overrides=overrides)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return str(caught.value).split("\n")


# --- good files ------------------------------------------------------------------------------------------

EVERYTHING = """\
# yaml-language-server: $schema=./smm.schema.json
smm: 1
pythonpath: [., ../shared, /opt/lib]
storage: {type: npy, metrics_dir: out, fsync: true, allow_pickle: true}
verbose: false
dynamic_metric_creation: true
on_stale: recompute
max_age: 30d
stale_on: [age, code]
run: {executor: processes, workers: 4}
memory_limit: 2 GiB
metrics:
  weekly: {function: analysis.load_weekly, ignore: [path], name_generation_function: names.short}
  poly_X: {function: analysis.poly_X, params_list: [[1], 4, no, {a: 2}, []]}
  poly_Y:
    function: analysis.poly_Y
    inputs:
      w: weekly
      x: {metric: poly_X, params: [a, {value: lo}, 3]}
      z: {metric: poly_X, params: {a: b, k: {value: [1]}}}
    params_list:
      - [1, [2, 3]]
      - grid: {a: [1, 4], b: {range: [4, 10, 2]}}
      - zip: {a: [1, 4], b: {linspace: [0, 1, 2]}}
      - rows_from: analysis.more_rows
      - range: [3, 0, -1]
      - {range: 1, linspace: 2}
  later: {timeout: 1.5h, retries: 2, on_stale: serve, max_age: 12h, stale_on: []}
"""


def test_everything() -> None:
    x = Input(metric="poly_X", params=(Argument(name="a"), Literal(value="lo"), Literal(value=3)))
    z = Input(metric="poly_X", params={"a": Argument(name="b"), "k": Literal(value=[1])})
    assert read(EVERYTHING) == Config(
        smm=1,
        pythonpath=(FOLDER, FOLDER / "../shared", Path("/opt/lib")),
        storage=NpyStorage(metrics_dir=FOLDER / "out", fsync=True, allow_pickle=True),
        verbose=False,
        dynamic_metric_creation=True,
        on_stale="recompute",
        max_age=2_592_000.0,
        stale_on=("age", "code"),
        run=RunConfig(executor="processes", workers=4),
        memory_limit=2 * 2**30,
        metrics={
            "weekly": MetricConfig(
                function="analysis.load_weekly", ignore=("path",), name_generation_function="names.short"
            ),
            "poly_X": MetricConfig(function="analysis.poly_X", params_list=((1,), 4, "no", {"a": 2}, ())),
            "poly_Y": MetricConfig(
                function="analysis.poly_Y",
                inputs={"w": Input(metric="weekly"), "x": x, "z": z},
                params_list=(
                    (1, [2, 3]),
                    sweep.Grid(axes={"a": (1, 4), "b": sweep.Range(start=4, stop=10, step=2)}),
                    sweep.Zip(axes={"a": (1, 4), "b": sweep.Linspace(start=0, stop=1, count=2)}),
                    sweep.RowsFrom(path="analysis.more_rows"),
                    sweep.Range(start=3, stop=0, step=-1),
                    {"range": 1, "linspace": 2},
                ),
            ),
            "later": MetricConfig(timeout=5400.0, retries=2, on_stale="serve", max_age=43_200.0, stale_on=()),
        },
    )


def test_defaults() -> None:
    config = read("metrics: {}")
    assert config == Config(
        pythonpath=(FOLDER,), storage=NpzStorage(metrics_dir=FOLDER / "results"), metrics={}
    )
    assert (config.path, config.folder) == (FILE, FOLDER)
    assert (config.on_stale, config.max_age, config.stale_on) == ("warn", None, ("code", "inputs", "age"))
    assert read("metrics: {}\nstorage: {metrics_dir: results}") == config
    assert read("metrics: {}\nstorage: {}") == config


@pytest.mark.parametrize(
    ("storage", "wanted"),
    [
        ("{type: json}", JsonStorage(metrics_dir=FOLDER / "results")),
        ("{type: npz, compress: true, list_limit: 9}",
         NpzStorage(metrics_dir=FOLDER / "results", compress=True, list_limit=9)),
        ("{type: memory}", MemoryStorage()),
        ("{type: a.B, n: [1], x: ~}", CustomStorage(type="a.B", keywords={"n": [1], "x": None})),
        ("{type: a.B, metrics_dir: x}", CustomStorage(type="a.B", keywords={"metrics_dir": f"{FOLDER}/x"})),
    ],
)  # fmt: skip
def test_storages(storage: str, wanted: object) -> None:
    assert read(f"metrics: {{}}\nstorage: {storage}").storage == wanted


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        ("{}", RunConfig()),
        ("{executor: threads}", RunConfig()),
        ("{workers: 1}", RunConfig(executor="threads", workers=1)),
        ("{executor: dask}", RunConfig(executor="dask", workers=None)),
        ("{executor: tcp://host:8786}", RunConfig(executor="tcp://host:8786")),
        ("{executor: 'inproc://1/2'}", RunConfig(executor="inproc://1/2")),
    ],
)
def test_runs(run: str, wanted: RunConfig) -> None:
    assert read(f"metrics: {{}}\nrun: {run}").run == wanted


def test_a_file_and_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.yaml").write_text("metrics: {}")
    monkeypatch.chdir(tmp_path)
    for path in ("sub/m.yaml", Path("sub/m.yaml")):
        config = load_config(path)
        assert config.path == tmp_path / "sub/m.yaml"
        assert config.pythonpath == (tmp_path / "sub",)
        assert config.storage == NpzStorage(metrics_dir=tmp_path / "sub/results")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(IsADirectoryError):
        load_config(tmp_path)


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = read("metrics: {}\npythonpath: [~/lib]\nstorage: {metrics_dir: ~/out}")
    assert config.pythonpath == (Path("/home/me/lib"),)
    assert config.storage == NpzStorage(metrics_dir=Path("/home/me/out"))


# --- bad files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "wanted"), yaml_text.table("bad_configs.txt"))
def test_bad_configurations(text: str, wanted: list[str]) -> None:
    assert problems(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), yaml_text.table("bad_yaml.txt"))
def test_bad_yaml(text: str, wanted: list[str]) -> None:
    said = problems(text)
    assert {line.removeprefix("m.yaml") for line in wanted} <= {
        line.removeprefix("metrics.yaml") for line in said
    }


def test_problems_are_data() -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(b"metrics:\n  a.b: {function: 3}\n", "metrics.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == ("metrics.yaml", 2, 19)
    assert problem.path == "metrics.'a.b'.function"


def test_many_problems_are_counted() -> None:
    said = problems("metrics: {a: {params_list: [" + "null, " * 5_000 + "]}}")
    assert len(said) == 1_001
    assert said[-1] == "metrics.yaml: 4,000 more problems"


def test_problems_found_later_know_their_place() -> None:
    config = read(EVERYTHING, overrides={"metrics.later.function": "a.b"})
    assert str(config.problem(("metrics", "poly_Y", "params_list", 1), "no")) == (
        f"{FILE}:23:9: metrics.poly_Y.params_list[1]: no"
    )
    assert str(config.problem(("metrics", "weekly", "params_list"), "no")) == (
        f"{FILE}:13:11: metrics.weekly.params_list: no"
    )
    assert str(config.problem(("metrics", "later", "function"), "no")) == (
        "overrides: metrics.later.function: no"
    )


def test_a_long_circle_is_cut() -> None:
    links = "\n".join(f"  m{i}: {{inputs: {{x: m{(i + 1) % 1000}}}}}" for i in range(1000))
    (said,) = problems(f"metrics:\n{links}")
    assert " -> ... -> " in said
    assert len(said) < 300


# --- overrides -------------------------------------------------------------------------------------------


def test_overrides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = read(
        "metrics: {poly: {function: a.b}}\nstorage: {metrics_dir: out}",
        overrides={
            "storage.metrics_dir": "elsewhere",
            "storage.compress": True,
            "metrics.poly.params_list": [(1, 2), {"a": (1, 2)}, [[3]]],
            "metrics.'a.b'.function": "a.b",
            "pythonpath": ["lib", Path("/abs")],
            "verbose": False,
        },
    )
    assert config.storage == NpzStorage(metrics_dir=tmp_path / "elsewhere", compress=True)
    assert config.metrics["poly"].params_list == ((1, 2), {"a": [1, 2]}, ([3],))
    assert config.metrics["a.b"] == MetricConfig(function="a.b")
    assert config.pythonpath == (tmp_path / "lib", Path("/abs"))
    assert not config.verbose


def test_overrides_change_only_what_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read(
        "metrics: {a: &m {ignore: [x]}, b: *m}", overrides={"metrics.a.ignore": [], "storage.fsync": True}
    )
    assert config.metrics == {"a": MetricConfig(), "b": MetricConfig(ignore=("x",))}
    # The folder was not overridden: it is the file's, though the section is the caller's.
    assert config.storage == NpzStorage(metrics_dir=FOLDER / "results", fsync=True)


def test_overrides_can_be_everything() -> None:
    assert read("", overrides={"metrics": {"a": {}}}).metrics == {"a": MetricConfig()}
    assert read("smm: 1", overrides={"metrics.a": {}}).metrics == {"a": MetricConfig()}


def test_overrides_in_order() -> None:
    config = read("metrics: {}", overrides={"storage.fsync": True, "storage": {"type": "memory"}})
    assert config.storage == MemoryStorage()


def test_paths_as_overrides_are_taken_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "a${b}$"
    config = read("metrics: {}", overrides={"storage.metrics_dir": folder})
    assert config.storage == NpzStorage(metrics_dir=folder)


def test_what_a_caller_changes_later_changes_nothing() -> None:
    rows = [[1, [2]]]
    config = read("metrics: {}", overrides={"metrics.a.params_list": rows})
    rows[0][1].append(3)  # type: ignore[attr-defined]
    assert config.metrics["a"].params_list == ((1, [2]),)


NO_KEY = (
    "wanted names joined by dots, such as storage.metrics_dir; a name that holds a dot is quoted: "
    "metrics.'a.b'.function"
)
NO_DATA = "wanted a value as YAML has them: a text, number, list, mapping ..."
STORAGE_KEYS = "metrics_dir, fsync, compress, allow_pickle, list_limit or mmap"


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        (
            "storage.fsink",
            "x",
            f"storage.fsink: found an unknown key, wanted {STORAGE_KEYS}; did you mean 'fsync'?",
        ),
        ("verbose", "no", "verbose: found 'no', wanted true or false, without quotes"),
        ("verbose", None, "verbose: found null, wanted a value; leave the key out for its default"),
        ("verbose.x", 1, "verbose.x: found true as verbose, wanted a mapping to put this key in"),
        ("metrics.a[0]", 1, f"metrics.a[0]: found the key 'metrics.a[0]', {NO_KEY}"),
        ("metrics.a", {1, 2}, f"metrics.a: found an object of class set, {NO_DATA}"),
        (3, 1, "3: found the key 3, wanted a text such as 'storage.metrics_dir'"),
    ],
)
def test_bad_overrides(key: Any, value: Any, wanted: str) -> None:
    assert problems("verbose: true\nmetrics: {a: {}}", {key: value}) == [f"overrides: {wanted}"]


def test_overrides_that_contain_themselves() -> None:
    loop: list[Any] = []
    loop.append(loop)
    (said,) = problems("metrics: {}", {"metrics": {"a": {"params_list": loop}}})
    assert said.endswith("does it contain itself?")


def test_bad_overrides_are_reported_with_the_files_problems() -> None:
    assert len(problems("verbose: 1\nmetrics: {}", {"storage.x": 1, "a b": 2})) == 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("storage.metrics_dir=out", ("storage.metrics_dir", "out")),
        ("verbose=false", ("verbose", False)),
        ("a.b=1e-3", ("a.b", 0.001)),
        ("a=no", ("a", "no")),
        ("a='1'", ("a", "1")),
        ("a=[1, {b: x}]", ("a", [1, {"b": "x"}])),
        ("a=x=y", ("a", "x=y")),
        ("a=", ("a", None)),
    ],
)
def test_overrides_of_the_command_line(text: str, wanted: tuple[str, Any]) -> None:
    assert parse_override(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("verbose", "overrides: found 'verbose', wanted key=value, such as storage.metrics_dir=results"),
        ("a='1", "overrides: a: these quotes are not closed; close them"),
        ("a=!x 1", "overrides: a: found the tag '!x', which is not read; leave it out"),
        (
            "a=\udcff",
            "overrides: a: found the byte 0xed, wanted text in UTF-8; save the file in that encoding",
        ),
    ],
)
def test_bad_overrides_of_the_command_line(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    assert str(caught.value) == wanted


# --- environment variables -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("${SMM_A}", "alpha"),
        ("x/${SMM_A}/${SMM_A}", "x/alpha/alpha"),
        ("${SMM_NONE:-default/x}", "default/x"),
        ("${SMM_EMPTY:-default}", "default"),
        ("${SMM_A:-default}", "alpha"),
        ("a$$b", "a$b"),
        ("$${SMM_A}", "${SMM_A}"),
        ("${SMM_DOLLAR}", "$${SMM_A}"),
        ("x${SMM_NONE:-}", "x"),
    ],
)
def test_variables(text: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMM_A", "alpha")
    monkeypatch.setenv("SMM_EMPTY", "")
    monkeypatch.setenv("SMM_DOLLAR", "$${SMM_A}")
    monkeypatch.delenv("SMM_NONE", raising=False)
    written = yaml_text.quoted(text)
    config = read(f"metrics: {{}}\npythonpath: [{written}]\nstorage: {{metrics_dir: {written}}}")
    assert config.pythonpath == (FOLDER / wanted,)
    assert config.storage == NpzStorage(metrics_dir=FOLDER / wanted)


def test_variables_stand_for_switches_and_numbers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMM_FSYNC", "true")
    monkeypatch.setenv("SMM_YEAR", "2024")
    config = read(
        "metrics: {}\nstorage: {fsync: '${SMM_FSYNC}', list_limit: '${SMM_N:-7}', metrics_dir: '${SMM_YEAR}'}"
    )
    assert config.storage == NpzStorage(metrics_dir=FOLDER / "2024", fsync=True, list_limit=7)


def test_variables_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMM_HOST", "node7")
    monkeypatch.setenv("SMM_CORES", "32")
    text = "metrics: {}\nrun: {executor: 'tcp://${SMM_HOST}:${SMM_PORT:-8786}', workers: '${SMM_CORES}'}"
    assert read(text).run == RunConfig(executor="tcp://node7:8786", workers=32)
    monkeypatch.setenv("SMM_CORES", "all")
    assert problems(text) == [
        "metrics.yaml:2:65: run.workers: found 'all', wanted a whole number of workers from 1"
    ]
    monkeypatch.setenv("SMM_CORES", "")
    assert problems(text) == [
        "metrics.yaml:2:65: run.workers: found null, wanted a whole number of workers from 1"
    ]


def test_a_run_as_override() -> None:
    config = read("metrics: {a: {}}", overrides={"run.workers": 3, "metrics.a.timeout": "90s"})
    assert (config.run, config.metrics["a"].timeout) == (RunConfig(workers=3), 90.0)
    config = read("metrics: {a: {}}", overrides={"stale_on": ("code",), "metrics.a.on_stale": "error"})
    assert (config.stale_on, config.metrics["a"].on_stale) == (("code",), "error")
    assert problems("metrics: {}", {"memory_limit": 10**9, "run.executor": "proceses"}) == [
        f"overrides: run.executor: found 'proceses', wanted {WANTED}; did you mean 'processes'?",
        f"overrides: memory_limit: found 1000000000, wanted {SIZE}",
    ]


def test_variables_in_the_arguments_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMM_A", "alpha")
    config = read(
        "metrics: {}\nstorage: {type: a.B, url: ['x/${SMM_A}', {k: '${SMM_A}'}], metrics_dir: '${SMM_A}'}"
    )
    keywords = {"url": ["x/alpha", {"k": "alpha"}], "metrics_dir": f"{FOLDER}/alpha"}
    assert config.storage == CustomStorage(type="a.B", keywords=keywords)


def test_no_row_depends_on_the_environment() -> None:
    config = read("metrics: {a: {params_list: ['${HOME}', ['$$x']]}}")
    assert config.metrics["a"].params_list == ("${HOME}", ("$$x",))


# --- limits ----------------------------------------------------------------------------------------------

LONG_AXES = ", ".join(f"a{i}: {{range: [0, 9{'0' * 4000}]}}" for i in range(500))


@pytest.mark.parametrize(
    "text",
    [
        "metrics: {a: {params_list: [{range: [0, 1" + "0" * 4000 + "]}]}}",
        "metrics: {a: {params_list: [{grid: {" + LONG_AXES + "}}]}}",
        "metrics: {a: {params_list: [{linspace: [0, 1, 1000000000000]}]}}",
        "metrics: {a: {params_list: [{zip: {a: {range: [0, 10000000000]}, b: {range: [1, 10000000001]}}}]}}",
        "metrics: {a: {params_list: [" + "{range: [0, 900000]}, " * 2_000 + "]}}",
        "a: &a [" + ", ".join(f"&x{i} {i}" for i in range(50_000)) + "]\n" + "*x: 1",
        "metrics: {" + ", ".join(f"m{i}: {{inputs: {{x: n{i}}}}}" for i in range(20_000)) + "}",
        "{" + ", ".join(f"k{i}: 1" for i in range(50_000)) + "}",
        "metrics: {a: {params_list: [[" + "[" * 990 + "]" * 990 + "]]}, b: 3}",
        "storage: {type: a.B, x: " + "[" * 990 + "'$'" + "]" * 990 + "}\nmetrics: {}",
    ],
    ids=lambda text: text[:50],
)  # fmt: skip
def test_what_would_take_forever_is_refused_at_once(text: str) -> None:
    started = time.process_time()
    assert problems(text)
    assert time.process_time() - started < 10


def test_deep_rows_are_read() -> None:
    deep: Any = 1
    for _ in range(990):
        deep = [deep]
    config = read("metrics: {a: {params_list: [[" + "[" * 990 + "1" + "]" * 990 + "]]}}")
    (row,) = config.metrics["a"].params_list
    for _ in range(990):
        (row,) = row
    assert row == (1,) or row == [1]


# --- sweeps ----------------------------------------------------------------------------------------------


def rows(params_list: str) -> list[Any]:
    made = read(f"metrics: {{a: {{params_list: {params_list}}}}}").metrics["a"].params_list
    return [row for _, row in sweep.expand(made, lambda item: [item.path])]


def test_sweeps_are_expanded_in_order() -> None:
    assert rows("[{grid: {b: [1, 2], a: {range: [0, 2]}}}]") == [
        {"b": 1, "a": 0}, {"b": 1, "a": 1}, {"b": 2, "a": 0}, {"b": 2, "a": 1},
    ]  # fmt: skip
    assert rows("[{zip: {a: [x, y], b: {linspace: [0, 1, 2]}}}]") == [
        {"a": "x", "b": 0.0},
        {"a": "y", "b": 1.0},
    ]
    assert rows("[{range: [3]}]".replace("[3]", "[10, 3, -3]")) == [10, 7, 4]
    assert rows("[1, [2, 3], {a: 4}, [], {rows_from: a.b}]") == [1, (2, 3), {"a": 4}, (), "a.b"]
    assert rows("[]") == []


def test_expanding_is_lazy_and_tells_the_entry() -> None:
    big = sweep.Grid(axes={"a": sweep.Range(start=0, stop=1000), "b": sweep.Range(start=0, stop=1000)})
    expanded = sweep.expand(((1,), big), lambda item: [])
    assert next(expanded) == (0, (1,))
    assert next(expanded) == (1, {"a": 0, "b": 0})


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-7, 7).filter(bool))
def test_ranges_are_counted_as_python_counts(start: int, stop: int, step: int) -> None:
    made = sweep.Range(start=start, stop=stop, step=step)
    assert made.count == len(range(start, stop, step)) == len(list(made.values()))


def test_linspaces_are_numpys() -> None:
    np = pytest.importorskip("numpy")
    assert rows("[{linspace: [-1, 1, 7]}]") == np.linspace(-1, 1, 7).tolist()
    assert rows("[{linspace: [3, 5, 1]}]") == [3.0]


# --- whatever bytes --------------------------------------------------------------------------------------


def refused(reading: Callable[[], Config]) -> Sequence[Problem]:
    """The problems of a configuration that cannot be read; none if it can. Any other exception passes."""
    try:
        assert isinstance(reading(), Config)
    except ConfigError as error:
        return error.problems
    return []


@given(raw=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_configuration_or_a_config_error(raw: bytes) -> None:
    refused(lambda: read(raw))


@given(data=st.data())
def test_any_spoilt_file_is_a_configuration_or_a_config_error(data: st.DataObject) -> None:
    raw = EVERYTHING.encode()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 20)))
    piece = data.draw(
        st.binary(max_size=5) | st.sampled_from([b"[", b"{", b": ", b"\n", b"*a", b"&a ", b"!!str ", b"null"])
    )
    refused(lambda: read(raw[:start] + piece + raw[end:]))


@given(
    value=yaml_text.plain,
    key=st.sampled_from(["metrics", "storage", "metrics.a", "pythonpath", "verbose", "smm"]),
)
def test_any_override_is_a_configuration_or_a_config_error(value: Any, key: str) -> None:
    refusal = refused(lambda: read("metrics: {a: {}}", overrides={key: value}))
    assert all(problem.file == "overrides" for problem in refusal)


def test_loading_imports_nothing_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "analysis.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "m.yaml").write_text("metrics: {a: {function: analysis.f}}\nstorage: {type: analysis.S}")
    assert load_config(os.fspath(tmp_path / "m.yaml")).metrics["a"].function == "analysis.f"
