"""From a file and the user's code to a manager, and every problem between the two."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smm
from smm import (
    DatedCacheManager,
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
    from_config,
)
from smm.errors import ConfigError
from smm.metric import Trust
from tests.projects import Project, project

__all__ = ["project"]

CODE = """
    import functools
    import numpy as np

    calls = []
    def one(): calls.append("one"); return 1
    def add(a, b=10): return a + b
    def scale(a, x): return [a * value for value in x]
    def series(a): return [a, a + 1]
    def lonely(CM): return CM.one() + 1
    def more(): return [[1, 2], {"a": 3}, (4,)]
    async def soon(): ...
    def stream(): yield 1
    def hidden(cache): ...
    def short(base_name, params): return f"{base_name}-{len(params)}"
    def broken(base_name, params): raise RuntimeError("cannot name")
    rows = [[5], [6]]
    table = np.array([[7, 8], [9, 10]])
    used_up = iter([[1]])
    number = 3.5
    def no_rows(): return 3
    def bad_rows(): raise RuntimeError("no rows today")
    def needs(n): return [[n]]
    def endless(): return iter(int, 1)

    class Dict:
        def __init__(self, size=1): self.data, self.size = {}, size
        def exists(self, name): return name in self.data
        def save(self, name, data): self.data[name] = data
        def load(self, name): return self.data[name]
    class Half:
        def exists(self, name): return False
"""


def configured(project: Project, text: str, **more: Any) -> DatedCacheManager:
    project.write("code_under_test.py", CODE)
    text = textwrap.dedent(text).replace("code.", "code_under_test.")
    return from_config(project.write("metrics.yaml", text), **more)


def problems(project: Project, text: str, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configured(project, text, **more)
    file = f"{project.folder}/metrics.yaml:"
    return [str(problem).removeprefix(file) for problem in caught.value.problems]


# --- what it makes --------------------------------------------------------------------------------------


def test_without_params_it_is_the_plain_manager(project: Project) -> None:
    CM = configured(project, "metrics: {one: {function: code.one}}")
    assert type(CM) is DatedCacheManager
    assert CM.get("one", verbose=False) == 1


@pytest.mark.parametrize(
    "text",
    [
        "metrics: {add: {function: code.add, params_list: [[1]]}}",
        "metrics: {later: {params_list: [[1]]}}",
        "{dynamic_metric_creation: true, metrics: {one: {function: code.one}}}",
        "metrics: {add: {function: code.add, params_list: [{rows_from: code.rows}]}}",
    ],
)
def test_with_params_it_is_the_parameterized_manager(project: Project, text: str) -> None:
    assert type(configured(project, text)) is ParameterizedDatedCacheManager


def test_all_forms_of_rows(project: Project) -> None:
    CM = configured(
        project,
        """
        storage: {type: memory}
        verbose: false
        metrics:
          add:
            function: code.add
            params_list:
              - [1, 2]
              - {b: 3, a: 1}
              - 4
              - grid: {a: [1, 2], b: {range: [0, 2]}}
              - zip: {a: [7, 8], b: {linspace: [0, 1, 2]}}
              - rows_from: code.rows
              - rows_from: code.more
              - rows_from: code.table
        """,
    )
    assert CM.add.get_all() == [3, 4, 14, 1, 2, 2, 3, 7.0, 9.0, 15, 16, 3, 13, 14, 15, 19]
    assert CM.add.name(1, 2) == "add_1_2"


def test_inputs_are_fetched_from_other_metrics(project: Project) -> None:
    CM = configured(
        project,
        """
        storage: {type: memory}
        verbose: false
        metrics:
          scale:
            function: code.scale
            inputs: {x: {metric: series, params: [a]}}
            params_list: [[1], [2]]
          series: {function: code.series, params_list: [[1], [2]]}
        """,
    )
    assert CM.scale.get_all() == [[1, 2], [4, 6]]


def test_nothing_is_computed_and_no_folder_is_made(project: Project) -> None:
    CM = configured(project, "metrics: {one: {function: code.one}}")
    assert sys.modules["code_under_test"].calls == []
    assert not (project.folder / "results").exists()
    assert isinstance(CM.storage_interface, NpzStorageInterface)
    assert CM.storage_interface.metrics_dir == project.folder / "results"


def test_a_metric_without_function_waits_for_collect(project: Project) -> None:
    CM = configured(
        project, "{storage: {type: memory}, verbose: false, metrics: {later: {params_list: [[1], [2]]}}}"
    )
    assert CM.waiting == ("later",)

    @CM.collect
    def later(a: int) -> int:
        return a * 10

    assert CM.later.get_all() == [10, 20]
    assert not CM.waiting


@pytest.mark.parametrize("function", ["function: code.one", "params_list: [[1]]"])
def test_what_the_file_says_of_runs(project: Project, function: str) -> None:
    CM = configured(
        project,
        f"""
        run: {{executor: processes, workers: 3}}
        metrics:
          one: {{{function}, timeout: 10min, retries: 2}}
          two: {{function: code.one}}
        """,
    )
    assert (CM.executor, CM.workers) == ("processes", 3)
    if CM.waiting:
        CM.collect("one")(lambda a: a)
    assert [(CM.rows_of(name).timeout_seconds, CM.rows_of(name).retries) for name in ("one", "two")] == [
        (600.0, 2),
        (None, 0),
    ]


def test_what_a_file_need_not_say_of_runs(project: Project) -> None:
    CM = configured(project, "metrics: {one: {function: code.one}}")
    assert (CM.executor, CM.workers) == ("threads", None)


@pytest.mark.parametrize("function", ["function: code.one", "params_list: [[1]]"])
def test_what_the_file_says_of_stale_values(project: Project, function: str) -> None:
    CM = configured(
        project,
        f"""
        on_stale: recompute
        max_age: 30d
        stale_on: [age, code]
        metrics:
          one: {{{function}, on_stale: error, max_age: 500ms, stale_on: []}}
          two: {{function: code.one}}
        """,
    )
    assert (CM.on_stale, CM.max_age_seconds, CM.stale_on) == ("recompute", 2_592_000.0, ("age", "code"))
    if CM.waiting:
        CM.collect("one")(lambda a: a)
    own = Trust(on_stale="error", max_age_seconds=0.5, stale_on=())
    assert [CM.rows_of(name).metric.trust for name in ("one", "two")] == [own, Trust()]


def test_what_a_file_need_not_say_of_stale_values(project: Project) -> None:
    CM = configured(project, "metrics: {one: {function: code.one}}")
    assert (CM.on_stale, CM.max_age_seconds, CM.stale_on) == ("warn", None, ("code", "inputs", "age"))


def test_either_manager_can_be_collected_into(project: Project) -> None:
    CM = configured(
        project, "{storage: {type: memory}, verbose: false, metrics: {one: {function: code.one}}}"
    )

    @CM.collect
    def two() -> int:
        return 2

    assert CM.get("two") == 2


def test_a_function_may_be_given_the_manager(project: Project) -> None:
    CM = configured(
        project,
        """
        {storage: {type: memory}, verbose: false,
         metrics: {one: {function: code.one}, lonely: {function: code.lonely}}}
        """,
    )
    assert CM.get("lonely") == 2


def test_ignore_and_name_generation_function(project: Project) -> None:
    CM = configured(
        project,
        """
        storage: {type: memory}
        metrics:
          add:
            function: code.add
            params_list: [[1, 2]]
            ignore: [b]
            name_generation_function: code.short
        """,
    )
    assert CM.add.names() == ["add-1"]


@pytest.mark.parametrize(
    ("storage", "kind", "attributes"),
    [
        ("{type: json}", JsonStorageInterface, {}),
        ("{type: npy, allow_pickle: true}", NpyStorageInterface, {"allow_pickle": True}),
        (
            "{type: npz, compress: true, list_limit: 3}",
            NpzStorageInterface,
            {"compress": True, "list_limit": 3},
        ),
        ("{type: npz, fsync: true, metrics_dir: here}", NpzStorageInterface, {"fsync": True}),
        ("{type: memory}", MemoryStorageInterface, {}),
    ],
)
def test_each_storage_is_made_with_its_arguments(
    project: Project, storage: str, kind: type, attributes: dict[str, Any]
) -> None:
    CM = configured(project, f"{{storage: {storage}, metrics: {{one: {{function: code.one}}}}}}")
    assert type(CM.storage_interface) is kind
    assert {key: getattr(CM.storage_interface, key) for key in attributes} == attributes


def test_a_storage_class_of_the_users(project: Project) -> None:
    CM = configured(
        project,
        "{storage: {type: code.Dict, size: 3}, verbose: false, metrics: {one: {function: code.one}}}",
    )
    assert vars(CM.storage_interface)["size"] == 3
    assert CM.get("one") == 1


def test_overrides_replace_what_the_file_says(project: Project) -> None:
    CM = configured(
        project,
        "metrics: {one: {function: code.one}}",
        overrides={
            "storage.type": "json",
            "storage.metrics_dir": str(project.folder / "else"),
            "verbose": False,
        },
    )
    assert isinstance(CM.storage_interface, JsonStorageInterface)
    assert CM.storage_interface.metrics_dir == project.folder / "else"
    assert CM.verbose is False


def test_a_list_of_rows_is_the_managers_own(project: Project) -> None:
    text = """
        storage: {type: memory}
        metrics: {add: {function: code.add, params_list: [{rows_from: code.rows}]}}
    """
    one = configured(project, text)
    sys.modules["code_under_test"].rows.append([7])
    try:
        two = configured(project, text)
        assert (len(one.add.names()), len(two.add.names())) == (2, 3)
    finally:
        sys.modules["code_under_test"].rows.pop()


# --- problems -------------------------------------------------------------------------------------------

METRIC = "metrics:\n  m:\n    "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            METRIC + "function: code.nope",
            "3:15: metrics.m.function: module 'code_under_test' ({folder}/code_under_test.py) has no 'nope'",
        ),
        (
            METRIC + "function: coed.one",
            "3:15: metrics.m.function: no module 'coed' in {folder}, nor installed; ",
        ),
        (
            METRIC + "function: os.system",
            "3:15: metrics.m.function: 'os.system' is part of Python's standard",
        ),
        (
            METRIC + "function: code.functools.partial",
            "3:15: metrics.m.function: 'code_under_test.functools.par",
        ),
        (
            METRIC + "function: __main__.f",
            "3:15: metrics.m.function: '__main__.f': the running script cannot",
        ),
        (
            METRIC + "function: code.number",
            "3:15: metrics.m.function: 'code_under_test.number' is a float, which cannot be called; name a",
        ),
        (METRIC + "function: code.soon", "3:15: metrics.m.function: "),
        (METRIC + "function: code.stream", "3:15: metrics.m.function: "),
        (METRIC + "function: code.hidden\n    params_list: [[1]]", "3:15: metrics.m.function: "),
        (
            METRIC + "function: code.add",
            "3:5: metrics.m: m() missing 1 required positional argument: 'a'; give its rows",
        ),
        (METRIC + "function: code.add\n    params_list: [[1, 2, 3]]", "4:19: metrics.m.params_list[0]: "),
        (METRIC + "function: code.add\n    params_list: [[1], {c: 3}]", "4:24: metrics.m.params_list[1]: "),
        (METRIC + "function: code.add\n    params_list: [[1]]\n    ignore: [c]", "5:13: metrics.m.ignore: "),
        (METRIC + "function: code.one\n    inputs: {x: other}\n  other:\n    function: code.one", "4:13: "),
        (
            METRIC + "function: code.add\n    params_list: [{rows_from: code.used_up}]",
            "4:31: metrics.m.params_list[0].rows_from: 'code_under_test.used_up' is a list_iterator, used up",
        ),
        (
            METRIC + "function: code.add\n    params_list: [{rows_from: code.number}]",
            "4:31: metrics.m.params_list[0].rows_from: 'code_under_test.number' is a float; it must be an",
        ),
        (
            METRIC + "function: code.add\n    params_list: [{rows_from: code.no_rows}]",
            "4:31: metrics.m.params_list[0].rows_from: 'code_under_test.no_rows' returned an int; it must be",
        ),
        (
            METRIC + "function: code.add\n    params_list: [{rows_from: code.bad_rows}]",
            "4:31: metrics.m.params_list[0].rows_from: 'code_under_test.bad_rows' raised RuntimeError: no",
        ),
        (
            METRIC + "function: code.add\n    params_list: [{rows_from: code.needs}]",
            "4:31: metrics.m.params_list[0].rows_from: 'code_under_test.needs' raised TypeError: needs() m",
        ),
        (
            METRIC + "function: code.add\n    params_list: [{rows_from: code.endless}]",
            "4:31: metrics.m.params_list[0].rows_from: 'code_under_test.endless' gives more than 1,000,",
        ),
        (
            METRIC + "function: code.add\n    params_list: [[1]]\n    name_generation_function: code.broken",
            "4:19: metrics.m.params_list[0]: RuntimeError: cannot name ({folder}/code_under_test.py:16)",
        ),
        (
            "storage: {type: code.Nope}\n" + METRIC + "function: code.one",
            "1:17: storage.type: module 'code_under_test' ({folder}/code_under_test.py) has no 'Nope'",
        ),
        (
            "storage: {type: code.Half}\n" + METRIC + "function: code.one",
            "1:17: storage.type: code_under_test.Half makes no storage; one needs exists(name), save(",
        ),
        (
            "storage: {type: code.Dict, colour: red}\n" + METRIC + "function: code.one",
            "1:10: storage: code_under_test.Dict could not be made: TypeError: ",
        ),
        (
            "pythonpath: [., missing]\n" + METRIC + "function: code.one",
            "1:17: pythonpath[1]: there is no folder {folder}/missing; correct or remove it",
        ),
        (
            METRIC.replace("m:", "get:") + "function: code.one",
            "3:5: metrics.get: the manager has an attribute",
        ),
        (
            METRIC
            + "function: code.scale\n    inputs: {x: {metric: s, params: [a]}}\n    params_list: [[3]]\n"
            "  s:\n    function: code.series\n    params_list: [[1]]",
            "4:13: metrics.m.inputs: <row m(3)> cannot read its inputs: s(3) is not among the declared",
        ),
    ],
)
def test_each_problem_says_where_and_what(project: Project, text: str, message: str) -> None:
    found = problems(project, text)
    assert len(found) == 1
    assert found[0].startswith(message.format(folder=project.folder)), found[0]


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(project: Project) -> None:
    found = problems(
        project,
        """
        storage: {type: code.Half}
        metrics:
          a: {function: code.nope}
          b: {function: code.add, params_list: [[1, 2, 3], [1], [], {z: 1}]}
          c: {function: nowhere_at_all.f}
          d: {function: code.soon}
          e: {function: code.one}
          f: {function: code.add, params_list: [{rows_from: code.bad_rows}]}
          run: {function: code.one}
        """,
    )
    places = [re.match(r"(\d+):\d+: ([^:]+):", problem) for problem in found]
    assert [place.groups() for place in places if place] == [
        ("2", "storage.type"),
        ("4", "metrics.a.function"),
        ("5", "metrics.b.params_list[0]"),
        ("5", "metrics.b.params_list[2]"),
        ("5", "metrics.b.params_list[3]"),
        ("6", "metrics.c.function"),
        ("7", "metrics.d.function"),
        ("9", "metrics.f.params_list[0].rows_from"),
        ("10", "metrics.run"),
    ]


def test_a_broken_module_is_one_problem_however_often_it_is_named(project: Project) -> None:
    file = project.write("broken_mod.py", "import numpy\nimport smm_needs_this")
    found = problems(
        project,
        "metrics: {a: {function: broken_mod.a}, b: {function: broken_mod.b}, c: {function: code.one}}",
    )
    why = f"ModuleNotFoundError: No module named 'smm_needs_this' ({file}:2)"
    assert found == [f"1:25: metrics.a.function: importing 'broken_mod' failed: {why}"]


def test_the_exception_of_a_broken_module_is_the_cause(project: Project) -> None:
    project.write("broken_mod.py", "1 / 0")
    with pytest.raises(ConfigError) as caught:
        configured(project, "metrics: {a: {function: broken_mod.a}}")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_many_bad_rows_do_not_fill_the_screen(project: Project) -> None:
    rows = "[" + ", ".join(["[1, 2, 3]"] * 50) + "]"
    found = problems(project, f"metrics: {{m: {{function: code.add, params_list: {rows}}}}}")
    assert len(found) == 21
    assert found[-1].endswith("metrics.m.params_list[20]: and 30 more rows like these")


def test_two_rows_of_one_name_are_named_both(project: Project) -> None:
    (found,) = problems(
        project,
        """
        metrics:
          add:
            function: code.add
            params_list: [[1, 2], [3, 4]]
            name_generation_function: code.short
        """,
    )
    assert "add(1, 2)" in found
    assert "add(3, 4)" in found


def test_rows_that_read_each_other_in_a_circle(project: Project) -> None:
    (found,) = problems(
        project,
        """
        metrics:
          p: {function: code.scale, inputs: {x: {metric: q, params: [a]}}, params_list: [[1]]}
          q: {function: code.scale, inputs: {x: {metric: p, params: [a]}}, params_list: [[1]]}
        """,
    )
    assert "p" in found
    assert " -> " in found


def test_a_module_that_reads_its_own_configuration_is_refused(project: Project) -> None:
    file = project.write("metrics.yaml", "metrics: {f: {function: own_config.f}}")
    project.write("own_config.py", f"import smm\nCM = smm.from_config({str(file)!r})\ndef f(): ...")
    with pytest.raises(ConfigError, match="module 'own_config' is still being imported, and has no 'f' yet"):
        from_config(file)


# --- allow ----------------------------------------------------------------------------------------------


def test_allow_restricts_every_dotted_path(project: Project) -> None:
    project.write("other_mod.py", "raise RuntimeError('must not run')")
    found = problems(
        project,
        """
        storage: {type: other_mod.Storage}
        metrics:
          a: {function: other_mod.f}
          b: {function: code.add, params_list: [{rows_from: other_mod.rows}]}
          c: {function: code.add, params_list: [[1]], name_generation_function: other_mod.name}
          d: {function: code.one}
        """,
        allow=["code_under_test"],
    )
    assert [problem.partition(": ")[2].partition(": ")[0] for problem in found] == [
        "storage.type",
        "metrics.a.function",
        "metrics.b.params_list[0].rows_from",
        "metrics.c.name_generation_function",
    ]
    assert "other_mod" not in sys.modules
    assert "code_under_test" not in sys.modules


def test_what_is_allowed_is_judged_again_on_the_object(project: Project) -> None:
    (found,) = problems(
        project,
        "metrics: {a: {function: code.np.zeros}}",
        allow=["code_under_test"],
        pythonpath=[project.folder],
    )
    assert "is the module numpy, outside of what the caller allows, code_under_test" in found


def test_what_is_allowed_works(project: Project) -> None:
    CM = configured(
        project,
        "{verbose: false, storage: {type: memory}, metrics: {a: {function: code.one}}}",
        allow=["code_under_test.*"],
        pythonpath=[project.folder],
    )
    assert CM.get("a") == 1


def test_an_empty_allow_list_allows_nothing(project: Project) -> None:
    (found,) = problems(project, "metrics: {a: {function: code.one}}", allow=[])
    assert "allow=[]" in found
    configured(project, "metrics: {a: {params_list: [[1]]}}", allow=[])


def test_an_allow_list_that_is_none_is_a_type_error(project: Project) -> None:
    with pytest.raises(TypeError, match="allow"):
        configured(project, "metrics: {a: {function: code.one}}", allow="code_under_test")


# --- where modules are found ----------------------------------------------------------------------------

TRUSTED = """
    try:
        import extras_k
    except ImportError:
        extras_k = None

    def f(a):
        try:
            import later_k
        except ImportError:
            return a
        return -a
    """
HOSTILE = "import pathlib\npathlib.Path({mark!r}).touch()"


@pytest.fixture
def download(project: Project) -> Path:
    """A configuration of somebody else's, beside modules that a trusted package looks for."""
    project.write("site/trusted_k/__init__.py", TRUSTED)
    for name in ("extras_k", "later_k"):
        project.write(f"download/{name}.py", HOSTILE.format(mark=str(project.folder / f"{name}-ran")))
    return project.write(
        "download/metrics.yaml",
        """
        verbose: false
        storage: {type: npz, metrics_dir: ../results}
        metrics: {f: {function: trusted_k.f, params_list: [[1], [2]]}}
        """,
    )


def computed_apart(project: Project, arguments: str, executor: str = "threads") -> list[str]:
    """What a process prints that has the trusted package, and runs all metrics of the download."""
    work = project.folder / "work"
    script = project.write(
        "work/script.py",
        f"""
        import sys
        import smm

        if __name__ == "__main__":
            before = list(sys.path)
            CM = smm.from_config("../download/metrics.yaml", allow=["trusted_k"], {arguments})
            report = CM.run(executor={executor!r}, workers=2, progress=False)
            print([outcome.status for outcome in report.outcomes], CM.f.get_all())
            print([folder for folder in sys.path if folder not in before])
            print(sorted(name for name in sys.modules if name.endswith("_k")))
        """,
    )
    path = os.pathsep.join([str(project.folder / "site"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script.name],
        capture_output=True,
        text=True,
        cwd=work,
        env=os.environ | {"PYTHONPATH": path},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def marks(project: Project) -> list[str]:
    return sorted(file.name for file in project.folder.glob("*-ran"))


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_what_lies_beside_a_file_is_not_imported_under_allow(
    project: Project, download: Path, executor: str
) -> None:
    assert computed_apart(project, "", executor) == [
        "['computed', 'computed'] [1, 2]",
        "[]",
        "['trusted_k']",
    ]
    assert marks(project) == []


def test_what_lies_beside_a_file_is_imported_without_allow(project: Project, download: Path) -> None:
    sys.path.insert(0, str(project.folder / "site"))
    from_config(download)
    assert marks(project) == ["extras_k-ran"], "the test above would see it"


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize(
    "arguments",
    ["pythonpath=['../own']", "pythonpath=(Path('../own'),)", "overrides={'pythonpath': ['../own']}"],
)
def test_the_caller_says_where_modules_are(
    project: Project, download: Path, arguments: str, executor: str
) -> None:
    project.write("own/later_k.py", "")
    project.write("download/metrics.yaml", "pythonpath: [.]\n" + download.read_text())
    assert computed_apart(project, arguments.replace("Path", "__import__('pathlib').Path"), executor) == [
        "['computed', 'computed'] [-1, -2]",
        f"[{str(project.folder / 'work' / '../own')!r}]",
        "['later_k', 'trusted_k']" if executor == "threads" else "['trusted_k']",
    ]
    assert marks(project) == []


@pytest.mark.parametrize("written", ["[.]", "[lib]", "[]"])
def test_a_pythonpath_of_the_file_is_a_problem_under_allow(project: Project, written: str) -> None:
    before = list(sys.path)
    text = f"metrics: {{a: {{function: code.one}}}}\npythonpath: {written}"
    (found,) = problems(project, text, allow=["code_under_test"])
    assert found == (
        "2:13: pythonpath: under `allow` a file may not say where modules are found; remove it, or give the "
        "folders to from_config(..., pythonpath=[...]), which replaces it"
    )
    assert sys.path == before
    assert "code_under_test" not in sys.modules


def test_a_module_that_only_the_file_had_is_not_found_under_allow(project: Project) -> None:
    (found,) = problems(project, "metrics: {a: {function: code.one}}", allow=["code_under_test"])
    assert found.endswith(
        "no module 'code_under_test' where this process finds modules, and under `allow` the file adds no "
        "folder; give one to from_config(..., pythonpath=[...]), or install the package"
    )


def test_the_argument_pythonpath_is_in_place_of_the_files(project: Project) -> None:
    project.write("src/found_k.py", "def f(): return 5")
    file = project.write("metrics.yaml", "pythonpath: [missing]\nmetrics: {f: {function: found_k.f}}")
    before = list(sys.path)
    CM = from_config(file, pythonpath=[project.folder / "src"])
    assert CM.functions_dict["f"]() == 5
    assert sys.path == [*before, str(project.folder / "src")]


def test_a_dollar_in_the_argument_pythonpath_is_a_dollar(project: Project) -> None:
    project.write("$src/dollar_k.py", "def f(): return 6")
    file = project.write("metrics.yaml", "metrics: {f: {function: dollar_k.f}}")
    CM = from_config(file, pythonpath=[str(project.folder / "$src")])
    assert pickle.loads(pickle.dumps(CM)).functions_dict["f"]() == 6


def test_a_folder_of_the_argument_that_is_not_there_is_a_problem(project: Project) -> None:
    project.write("code_under_test.py", CODE)
    file = project.write("metrics.yaml", "metrics: {a: {function: code_under_test.one}}")
    with pytest.raises(ConfigError) as caught:
        from_config(file, pythonpath=[project.folder, project.folder / "none"])
    assert str(caught.value) == (
        f"overrides: pythonpath[1]: there is no folder {project.folder}/none; correct or remove it"
    )


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"pythonpath": "src"}, TypeError, "pythonpath is the folder 'src'; give a list: ['src']"),
        ({"pythonpath": Path("src")}, TypeError, "pythonpath is the folder 'src'; give a list: ['src']"),
        (
            {"pythonpath": ["a"], "overrides": {"pythonpath": ["b"]}},
            ValueError,
            "pythonpath is given as an argument and in overrides; leave one of them out",
        ),
    ],
)
def test_a_pythonpath_that_is_no_list_or_given_twice_is_refused(
    project: Project, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        configured(project, "metrics: {a: {function: code.one}}", **more)


# --- the whole way --------------------------------------------------------------------------------------


def test_a_second_process_reads_what_the_first_has_stored(project: Project, tmp_path: Path) -> None:
    project.write("stored_mod.py", "import numpy as np\ndef f(a): print('computing'); return np.arange(a)")
    file = project.write("metrics.yaml", "metrics: {f: {function: stored_mod.f, params_list: [[3]]}}")
    script = f"import smm; CM = smm.from_config({str(file)!r}); print(CM.f(3).tolist())"
    first, second = (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert "computing" in first
    assert "computing" not in second
    assert first[-1] == second[-1] == "[0, 1, 2]"


def test_a_sweep_of_many_rows(project: Project) -> None:
    CM = configured(
        project,
        """
        storage: {type: memory}
        verbose: false
        metrics:
          add: {function: code.add, params_list: [{grid: {a: {range: [0, 100]}, b: {range: [0, 50]}}}]}
        """,
    )
    assert len(CM.add.names()) == 5000
    assert np.isclose(CM.add(99, 49), 148)


def test_it_is_on_the_door() -> None:
    assert smm.from_config is from_config


def test_what_rows_of_a_sweep_have_in_common_is_said_once(project: Project) -> None:
    rows = "[{grid: {b: {range: [0, 50]}}}]"
    found = problems(project, f"metrics: {{m: {{function: code.add, params_list: {rows}}}}}")
    assert len(found) == 1
    assert found[0].endswith("(50 rows)")


def test_an_input_of_an_argument_that_is_none(project: Project) -> None:
    project.write("two.py", "def up(a): return a\ndef f(a, x): return a + x\n")
    text = """
        metrics:
          up: {function: two.up, params_list: [1, 2]}
          f: {function: two.f, inputs: {x: {metric: up, params: [z]}}, params_list: [1, 2]}
        """
    (found,) = problems(project, text)
    assert (
        "metrics.f.inputs: its input 'x' takes the argument 'z' for up, and its function has the argument a"
        in found
    )
    assert "{value: z}" in found


def test_rows_that_read_what_another_metric_does_not_have_are_one_problem(project: Project) -> None:
    project.write("two.py", "def up(a): return a\ndef f(a, x): return a + x\n")
    text = """
        metrics:
          up: {function: two.up, params_list: [1, 2]}
          f:
            function: two.f
            inputs: {x: {metric: up, params: [a]}}
            params_list: [{range: [1, 500]}]
        """
    (found,) = problems(project, text)
    assert found.endswith(
        "metrics.f.inputs: 497 rows cannot read their inputs: up(3), up(4), up(5) and 494 more are not among "
        "the declared params of 'up'; add them to the params list, or set dynamic_metric_creation: true"
    )
