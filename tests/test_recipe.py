"""How a manager is made again in another process: by name, by configuration, by value; never its memory."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import smm
from smm import DatedCacheManager, MemoryStorageInterface, NpzStorageInterface, ParameterizedDatedCacheManager
from smm._recipe import packed
from smm.errors import TravelError
from smm.identity import Binder
from tests.projects import Project, project

__all__ = ["project"]

BLOB = b"a value of this process"


@pytest.fixture
def elsewhere(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Any]:
    """Unpickles as another process would: with none of the project's modules, in another folder."""
    before = list(sys.path)

    def load(sent: bytes) -> Any:
        assert BLOB not in sent
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(project.folder):
                del sys.modules[name]
        sys.path[:] = before
        os.chdir(tmp_path_factory.mktemp("elsewhere"))
        return pickle.loads(sent)

    return load


@pytest.fixture(autouse=True)
def here() -> Any:
    before = Path.cwd()
    yield
    os.chdir(before)


def imported(project: Project, name: str, text: str, folder: str = "") -> ModuleType:
    project.write(f"{folder}{name.replace('.', '/')}.py", text)
    path = str(project.folder / folder)
    if path not in sys.path:
        sys.path.insert(0, path)
    return importlib.import_module(name)


def fill(manager: DatedCacheManager) -> None:
    """Put into memory what must not travel: a stored value, and an unsaved one."""
    manager.cache["stored"] = manager.cache["unsaved"] = BLOB
    manager._unsaved.add("unsaved")


def check_made_again(manager: DatedCacheManager, again: Any) -> None:
    assert again is not manager
    assert type(again).__qualname__ == type(manager).__qualname__
    assert list(again) == list(manager)
    assert again.cache == {}
    assert again._unsaved == set()
    assert again._place == manager._place
    assert repr(again.storage_interface) == repr(manager.storage_interface)
    assert again._options() == manager._options()
    for metric in manager.parameterized_metrics:
        other = getattr(again, metric.base_name)
        assert other.names() == metric.names()


# --- by name ---------------------------------------------------------------------------------------------

NAMED = """
    import smm

    CM = smm.ParameterizedDatedCacheManager(
        smm.NpzStorageInterface({folder!r}), verbose=False, read_only=False, workers=3,
    )

    @CM.collect(params_list=[[1], [2]], timeout="10min", retries=2)
    def f(a):
        return a

    @CM.collect
    def g():
        return f(1, cache=True)
"""


def test_a_manager_that_a_module_has(project: Project, elsewhere: Callable[[bytes], Any]) -> None:
    module = imported(project, "named", NAMED.format(folder=str(project.folder / "results")))
    manager = module.CM
    fill(manager)
    sent = pickle.dumps(manager)
    assert pickle.loads(sent) is manager, "the process has it already"
    again = elsewhere(sent)
    check_made_again(manager, again)
    assert again is sys.modules["named"].CM
    assert again is not manager
    rows = again.rows_of("f")
    assert (rows.timeout_seconds, rows.retries) == (600.0, 2)
    assert again.g() == 1


def test_metrics_that_another_module_declares(project: Project, elsewhere: Callable[[bytes], Any]) -> None:
    imported(project, "core", NAMED.format(folder=str(project.folder / "results")))
    more = imported(
        project,
        "more",
        """
        from core import CM

        @CM.collect
        def h():
            return 3
        """,
        folder="lib/",
    )
    imported(project, "aaa", "from core import CM")
    manager = more.CM
    sent = pickle.dumps(manager)
    again = elsewhere(sent)
    check_made_again(manager, again)
    assert again is sys.modules["core"].CM, "where it is made, not whoever has imported it"
    assert "aaa" not in sys.modules
    assert again.h() == 3


def test_a_manager_of_a_package(project: Project, elsewhere: Callable[[bytes], Any]) -> None:
    project.write("src/lab/__init__.py", "")
    text = NAMED.format(folder=str(project.folder / "results"))
    manager = imported(project, "lab.metrics", text, folder="src/").CM
    again = elsewhere(pickle.dumps(manager))
    check_made_again(manager, again)
    assert str(project.folder / "src") in sys.path
    assert str(project.folder / "src" / "lab") not in sys.path


def test_functions_in_a_dict_of_a_module(project: Project, elsewhere: Callable[[bytes], Any]) -> None:
    manager = imported(
        project,
        "plain",
        f"""
        import smm

        CM = smm.DatedCacheManager(smm.JsonStorageInterface({str(project.folder)!r}), verbose=False)
        CM.set_functions_dict({{"one": lambda: 1, "two": lambda CM: 1 + CM.get("one")}})
        """,
    ).CM
    again = elsewhere(pickle.dumps(manager))
    check_made_again(manager, again)
    assert again.get("two") == 2, "lambdas too, where the module makes them again"


def test_an_attribute_is_not_a_name(project: Project) -> None:
    module = imported(
        project,
        "hidden",
        f"""
        import smm

        class Lab:
            CM = smm.DatedCacheManager(smm.JsonStorageInterface({str(project.folder)!r}), verbose=False)
            CM.set_functions_dict({{"one": lambda: 1}})
        """,
    )
    with pytest.raises(TravelError, match="a name in a module"):
        packed(module.Lab.CM, False)


# --- by configuration ------------------------------------------------------------------------------------

CONFIG = """
    storage: {type: json, metrics_dir: results}
    verbose: false
    pythonpath: [lib]
    run: {workers: 3}
    metrics:
      f:
        function: functions.f
        params_list: [[1], [2]]
        timeout: 10min
      g:
        function: functions.g
        inputs: {x: {metric: f, params: [{value: 1}]}}
"""

FUNCTIONS = """
    def f(a):
        return a

    def g(x):
        return 10 * x

    def late(b):
        return b
"""


@pytest.fixture
def config(project: Project) -> Path:
    project.write("lib/functions.py", FUNCTIONS)
    return project.write("metrics.yaml", CONFIG)


def test_a_manager_of_a_configuration(
    project: Project, config: Path, elsewhere: Callable[[bytes], Any]
) -> None:
    os.chdir(project.folder)
    manager = smm.from_config("metrics.yaml")
    fill(manager)
    again = elsewhere(pickle.dumps(manager))
    check_made_again(manager, again)
    assert again._place == str(project.folder / "results")
    assert again.get("g") == 10
    assert again.rows_of("f").timeout_seconds == 600.0


@pytest.mark.parametrize(
    "overrides",
    [
        {"storage.metrics_dir": "other"},
        {"storage": {"type": "npz", "metrics_dir": "other"}},
        {"storage.type": "npz"},
        {"pythonpath": ["lib"]},
        {"run.workers": 2, "metrics.f.params_list": [[1], [7]]},
    ],
)
def test_overrides_travel_and_mean_the_same_there(
    project: Project, config: Path, elsewhere: Callable[[bytes], Any], overrides: dict[str, Any]
) -> None:
    os.chdir(project.folder)
    given = dict(overrides)
    manager = smm.from_config("metrics.yaml", overrides=overrides)
    again = elsewhere(pickle.dumps(manager))
    check_made_again(manager, again)
    assert overrides == given


@pytest.mark.parametrize("allow", [None, ["functions"], ("functions.*",), iter(["functions"])])
def test_what_was_allowed_is_allowed_there(
    project: Project, config: Path, elsewhere: Callable[[bytes], Any], allow: Any
) -> None:
    os.chdir(project.folder)
    manager = smm.from_config(config, allow=allow, pythonpath=["lib"])
    again = elsewhere(pickle.dumps(manager))
    check_made_again(manager, again)


def test_what_code_adds_is_not_in_the_configuration(
    project: Project, config: Path, elsewhere: Callable[[bytes], Any]
) -> None:
    manager = smm.from_config(config)
    assert isinstance(manager, ParameterizedDatedCacheManager)
    manager.collect(params_list=[[5]])(sys.modules["functions"].late)
    sent = pickle.dumps(manager)
    again = pickle.loads(sent)
    check_made_again(manager, again)
    assert again.late(5) == 5


# --- by value --------------------------------------------------------------------------------------------


def one() -> int:
    return 1


def two(CM: DatedCacheManager) -> int:  # noqa: N803 - the name that asks for the manager
    return 1 + int(CM.get("one"))


def named(base_name: str, params: tuple[Any, ...]) -> str:
    return f"{base_name}-{params[0]}"


def power(a: float, b: int = 2) -> float:
    return float(a**b)


class Lab(ParameterizedDatedCacheManager):
    """A manager of a user's, whose constructor takes other things."""

    def __init__(self, folder: Path) -> None:
        super().__init__(NpzStorageInterface(folder), verbose=False)


def test_a_dict_of_functions(tmp_path: Path) -> None:
    manager = DatedCacheManager(NpzStorageInterface(tmp_path, compress=True), verbose=False)
    manager.set_functions_dict({"one": one, "two": two})
    fill(manager)
    sent = pickle.dumps(manager)
    assert BLOB not in sent
    again = pickle.loads(sent)
    check_made_again(manager, again)
    assert again.storage_interface.compress is True
    assert again.get("two") == 2
    assert sorted(again.cache) == ["one", "two"]
    assert "one" not in manager.cache, "what is given the manager is given the new one"
    again.set_functions_dict({"three": one})
    assert list(again) == ["three"], "it knows which names a dict gave"


@pytest.mark.parametrize("dynamic", [False, True])
def test_collected_metrics_and_all_that_is_said_of_them(tmp_path: Path, dynamic: bool) -> None:
    manager = ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path),
        verbose=False,
        dynamic_metric_creation=dynamic,
        executor="processes",
        workers=7,
        memory_limit="1 MB",
        read_only=False,
    )
    collect = manager.collect("p", [[np.float64(2)], {"a": 3, "b": 1}], named, timeout="1 min", retries=3)
    collect(power)
    manager.collect("other", [[1, 2]], ignore=("b",))(power)
    again = pickle.loads(pickle.dumps(manager))
    check_made_again(manager, again)
    rows = again.rows_of("p")
    assert (rows.timeout_seconds, rows.retries, rows.names) == (60.0, 3, ["p-2.0", "p-3"])
    assert again.rows_of("other").binder.ignore == Binder(power, base_name="other", ignore=("b",)).ignore
    assert again.p(2.0) == 4.0
    assert again.rows_of("p").manager is again
    assert (again.executor, again.workers, again.dynamic_metric_creation) == ("processes", 7, dynamic)


def test_rows_that_calls_have_added_come_with_their_calls(tmp_path: Path) -> None:
    manager = ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path), verbose=False, dynamic_metric_creation=True
    )
    manager.collect(power)
    manager.power(5)
    again = pickle.loads(pickle.dumps(manager))
    assert (list(manager), list(again)) == (["power_5_2"], [])
    assert again.power(5) == 25.0


def test_a_class_of_the_users(tmp_path: Path) -> None:
    manager = Lab(tmp_path)
    manager.collect(params_list=[[1.5]])(power)
    again = pickle.loads(pickle.dumps(manager))
    assert type(again) is Lab
    check_made_again(manager, again)
    assert again.power(1.5) == 2.25


def test_metrics_that_wait_for_their_function(tmp_path: Path) -> None:
    manager = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    manager.declare(smm.Metric(base_name="power", params_list=[[3.0]]))
    manager.declare(smm.Metric(base_name="later", params_list=[[1]]))
    manager.collect(power)
    again = pickle.loads(pickle.dumps(manager))
    check_made_again(manager, again)
    assert again.waiting == ("later",)
    again.collect("later")(lambda a: a)
    assert again.later.get_all() == [1]


def test_an_executor_stays_behind(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        manager = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False, executor=pool)
        manager.set_functions_dict({"one": one})
        again = pickle.loads(pickle.dumps(manager))
    assert again.executor == "threads"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    manager = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    manager.set_functions_dict({"one": one, "two": two})
    check_made_again(manager, pickle.loads(pickle.dumps(manager, protocol)))


# --- what cannot travel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("local", [False, True])
def test_a_function_without_a_name_to_import_it_by(tmp_path: Path, local: bool) -> None:
    manager = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)

    def inner() -> int:
        return 1

    manager.set_functions_dict({"one": inner if local else lambda: 1})
    with pytest.raises(TravelError) as caught:
        packed(manager, False)
    said = str(caught.value)
    assert "functions in modules" in said
    assert "executor='threads'" in said
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("by_value", [False, True])
def test_a_storage_in_memory(by_value: bool) -> None:
    manager = DatedCacheManager(MemoryStorageInterface(), verbose=False)
    manager.set_functions_dict({"one": one})
    with pytest.raises(
        TravelError, match=r"MemoryStorageInterface.*executor='threads', or a storage in a folder"
    ):
        packed(manager, by_value)


def test_a_storage_that_cannot_be_pickled(tmp_path: Path) -> None:
    manager = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    manager.storage_interface.connection = open(__file__)  # type: ignore[attr-defined]  # noqa: SIM115
    manager.set_functions_dict({"one": one})
    with pytest.raises(TravelError, match="TypeError"):
        packed(manager, False)
    manager.storage_interface.connection.close()  # type: ignore[attr-defined]


# --- by value, with functions of a script or a notebook --------------------------------------------------

NOTEBOOK = """
    import numpy as np
    import smm

    CM = smm.ParameterizedDatedCacheManager(smm.NpzStorageInterface(FOLDER), verbose=False)
    FACTOR = 3

    def helper(x):
        return FACTOR * x

    @CM.collect(params_list=[[1], [2]])
    def f(a):
        return helper(a)

    @CM.collect
    def through_the_manager():
        return CM.f(1) + 1

    @CM.collect
    def through_the_decorated_name():
        return f(2, cache=True) + 1

    @CM.collect
    def plain():
        return f(1) + 100

    class Odd(Exception):
        pass

    @CM.collect
    def failing():
        raise Odd("no")

    CM.functions_dict["by_hand"] = lambda: CM.get("plain") + 1
"""


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a notebook's cells have defined, in a `__main__` without a file."""
    main = ModuleType("__main__")
    vars(main)["FOLDER"] = str(tmp_path / "results")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(textwrap.dedent(NOTEBOOK), vars(main))
    return vars(main)


def test_a_notebook_travels_by_value(notebook: dict[str, Any]) -> None:
    pytest.importorskip("cloudpickle")
    manager = notebook["CM"]
    fill(manager)
    sent = packed(manager, True)
    assert BLOB not in sent
    manager._unsaved.clear()
    manager.cache.clear()
    again = pickle.loads(sent)
    check_made_again(manager, again)
    inside = again.f.original_function.__globals__
    assert inside is not notebook
    assert again.through_the_manager.original_function.__globals__["CM"] is again
    assert again.through_the_decorated_name() == 7
    assert again.through_the_manager() == 4
    assert again.plain() == 103
    assert again.get("by_hand") == 104
    assert sorted(again.cache) == [
        "by_hand",
        "f_1",
        "f_2",
        "plain",
        "through_the_decorated_name",
        "through_the_manager",
    ]
    assert manager.cache == {}, "nothing went through the manager that was sent"
    with pytest.raises(Exception, match="no"):
        again.failing()


def test_a_notebook_is_refused_where_functions_go_by_name(notebook: dict[str, Any]) -> None:
    with pytest.raises(TravelError, match=r"'f' is defined in a notebook.*'threads' or 'dask'"):
        packed(notebook["CM"], False)


def test_without_cloudpickle_a_notebook_does_not_travel(
    notebook: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smm._recipe._by_value", lambda: None)
    with pytest.raises(TravelError, match="executor='threads'"):
        packed(notebook["CM"], True)


def test_a_script_is_run_again_by_processes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__file__ = str(project.write("script.py", NOTEBOOK))
    vars(main)["FOLDER"] = str(project.folder / "results")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(textwrap.dedent(NOTEBOOK), vars(main))
    manager = vars(main)["CM"]
    sent = packed(manager, False)
    assert len(sent) < 1000
    again = ModuleType("__main__")  # what a process of multiprocessing has made of the script
    vars(again)["FOLDER"] = vars(main)["FOLDER"]
    exec(textwrap.dedent(NOTEBOOK), vars(again))
    monkeypatch.setitem(sys.modules, "__main__", again)
    assert pickle.loads(sent) is vars(again)["CM"]


def test_a_configuration_is_enough_where_functions_may_go_by_value(
    config: Path, elsewhere: Callable[[bytes], Any]
) -> None:
    pytest.importorskip("cloudpickle")
    manager = smm.from_config(config)
    again = elsewhere(packed(manager, True))
    check_made_again(manager, again)
