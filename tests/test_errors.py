"""Every error: its data, its sentence, the builtin it also is, and its way through pickle."""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from smm import errors
from smm.errors import Problem, SmmError, closest, require
from smm.run import RunReport

WHERE = Path("results/x.npz")
EVERY: list[tuple[type[SmmError], dict[str, Any], tuple[type[BaseException], ...]]] = [
    (
        errors.UnstorableError,
        {"name": "x", "storage": "S", "place": "['a'][3]", "found": "set", "way_out": "save list(x)"},
        (TypeError,),
    ),
    (errors.CorruptMetricError, {"name": "x", "path": WHERE, "reason": "it is empty"}, (ValueError,)),
    (errors.ChangedInMemoryError, {"name": "x"}, (ValueError,)),
    (errors.StoreFileError, {"path": WHERE, "found": "a link", "way_out": "remove it"}, (OSError,)),
    (errors.PickleRefusedError, {"name": "x", "path": WHERE}, (ValueError,)),
    (errors.NewerFormatError, {"name": "x", "path": WHERE, "found": "2", "known": "1"}, (ValueError,)),
    (errors.MetricNotStoredError, {"name": "x", "where": "results"}, (KeyError, FileNotFoundError)),
    (errors.StaleMetricError, {"name": "x", "reasons": ("the code of a.f changed",)}, (ValueError,)),
    (errors.StorageAbilityError, {"storage": "S", "method": "delete", "purpose": "deleting"}, (TypeError,)),
    (
        errors.NotTabularError,
        {
            "name": "x",
            "table": "a frame",
            "place": "['a']",
            "found": "list of 2",
            "way_out": "ask for to_dict",
        },
        (TypeError,),
    ),
    (errors.UnknownMetricError, {"name": "x"}, (KeyError, ValueError)),
    (errors.MetricNameError, {"name": "x" * 300, "reason": "is too long; shorten it"}, (ValueError,)),
    (errors.NameTypeError, {"name": "5", "reason": "is of class int; give a str"}, (ValueError, TypeError)),
    (errors.DeclarationError, {"base_name": "x", "reason": "it is async"}, (ValueError,)),
    (errors.NameClashError, {"base_name": "x", "reason": "another has it"}, (ValueError,)),
    (errors.UndeclaredParamsError, {"base_name": "x", "call": "x(2)", "nearest": "x(1)"}, (ValueError,)),
    (
        errors.UnsupportedParamError,
        {"base_name": "x", "argument": "b[0]", "found": "an object"},
        (TypeError,),
    ),
    (errors.CircularMetricError, {"chain": ("a", "b", "a")}, (RuntimeError,)),
    (errors.RunRefusedError, {"executor": "dask", "reason": "no scheduler answers"}, (ValueError,)),
    (errors.TravelError, {"reason": "it has a lambda; use a function"}, (TypeError,)),
    (errors.TimedOutError, {"name": "x", "seconds": 600.0}, (TimeoutError, OSError)),
    (errors.WorkerDiedError, {"name": "x", "tries": 3}, (RuntimeError,)),
    (
        errors.WorkersLostError,
        {"executor": "processes", "reason": "they died", "names": ("x", "y")},
        (RuntimeError,),
    ),
    (errors.WorkerError, {"kind": "OddError", "text": "no"}, (RuntimeError,)),
    (errors.HeldBackError, {"name": "x_1", "refusal": "S cannot keep it"}, (RuntimeError,)),
    (errors.FailedBeforeError, {"name": "x", "kind": "OddError", "text": "no"}, (RuntimeError,)),
    (
        errors.ConfigError,
        {"problems": (Problem(file="m.yaml", line=2, column=3, path="metrics", message="found 1"),)},
        (ValueError,),
    ),
    (errors.TargetError, {"target": "m.yml", "reason": "is no file; did you mean 'm.yaml'?"}, (ValueError,)),
    (errors.MissingExtraError, {"module": "dask", "extra": "dask"}, (ImportError,)),
]


def test_the_table_has_every_error() -> None:
    public = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SmmError)
    }
    assert {kind for kind, _, _ in EVERY} == public - {SmmError}


@pytest.mark.parametrize(("kind", "data", "builtins"), EVERY)
def test_an_error_keeps_its_data_through_pickle(
    kind: type[SmmError], data: dict[str, Any], builtins: tuple[type[BaseException], ...]
) -> None:
    error = kind(**data)
    error.add_note("while computing metric 'y'")
    again = pickle.loads(pickle.dumps(error))
    for each in (error, again):
        assert type(each) is kind
        assert all(isinstance(each, builtin) for builtin in builtins)
        assert {key: getattr(each, key) for key in data} == data
        assert each.__notes__ == ["while computing metric 'y'"]
        assert str(each) == str(error)
    assert len(str(error)) < 300
    assert not str(error).startswith('"'), "KeyError would print it in quotes"


def test_an_interrupted_run_is_a_keyboard_interrupt_with_its_report() -> None:
    report = RunReport(outcomes=(), seconds=1.0, left=3, interrupted=True)
    error = errors.RunInterrupted("interrupted: 3 left", report)
    assert isinstance(error, KeyboardInterrupt)
    assert not isinstance(error, Exception), "what looks after failures must not take it for one"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (errors.RunInterrupted, "interrupted: 3 left")
    assert again.report == report
    assert errors.RunInterrupted("interrupted").report is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.TimedOutError(name="x", seconds=90.5), "after its timeout of 90.5 s"),
        (errors.WorkerError(kind="OddError", text=""), "OddError"),
        (
            errors.WorkersLostError(executor="dask", reason="gone", names=("a", "b", "c", "d")),
            "over 'a', 'b', 'c', ...: gone",
        ),
        (errors.WorkersLostError(executor="dask", reason="gone"), "has lost its workers: gone"),
        (errors.FailedBeforeError(name="x", kind="E", text="no"), "CM.run(retry_failed=True) tries it again"),
        (errors.WorkerDiedError(name="x", tries=3), "died, 3 times in a row"),
    ],
)
def test_what_runs_say(error: SmmError, sentence: str) -> None:
    assert sentence in str(error)


def test_the_closest_word() -> None:
    assert closest("verbos", ["storage", "verbose"]) == "; did you mean 'verbose'?"
    assert closest("zzz", ["storage", "verbose"]) == ""
    assert closest("poly_99999", (f"poly_{n}" for n in range(100_000))).startswith("; did you mean 'poly_")


def test_a_missing_library_names_its_extra() -> None:
    assert require("json", "test") is sys.modules["json"]
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'smm-metrics\[dask\]'"):
        require("no_such_library_here", "dask")


def test_what_a_library_itself_lacks_is_said_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_a_library.py").write_text("import its_missing_half\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_missing_half") as caught:
        require("half_a_library", "dask")
    assert not isinstance(caught.value, SmmError)


@pytest.mark.parametrize(("kind", "data", "builtins"), EVERY)
def test_the_command_line_is_told_of_no_python(
    kind: type[SmmError], data: dict[str, Any], builtins: Any
) -> None:
    error = kind(**data)
    said = error.for_command_line("m.yaml")
    assert re.search(r"(?<!@)CM\.", said) is None, "declarations are written in Python"
    assert said.startswith(error.what())
    assert error.what() in str(error)


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (errors.CorruptMetricError(name="x", path=WHERE, reason="it is empty"), "smm run m.yaml x computes"),
        (errors.MetricNotStoredError(name="x", where="results"), "smm run m.yaml x computes"),
        (errors.MetricNotStoredError(name="a b", where="results"), "smm run m.yaml 'a b' computes"),
        (errors.StaleMetricError(name="x", reasons=("old",)), "smm run m.yaml x --force computes it again"),
        (errors.StaleMetricError(name="x", reasons=("old",)), "smm accept m.yaml x takes"),
        (errors.UnknownMetricError(name="x", stored=True), "smm show m.yaml x prints the stored value"),
        (errors.UnknownMetricError(name="f", rows=("f_1", "f_2")), "smm status m.yaml f shows which are"),
        (errors.FailedBeforeError(name="x", kind="E", text="no"), "smm run m.yaml x --retry-failed tries"),
        (errors.ChangedInMemoryError(name="x"), "smm run m.yaml x computes it again"),
        (errors.UndeclaredParamsError(base_name="x", call="x(2)"), "in m.yaml, add it to the params list"),
    ],
)
def test_the_command_line_is_told_of_commands(error: SmmError, way_out: str) -> None:
    assert way_out in error.for_command_line("m.yaml")


def test_what_nothing_declares_is_not_recommended_to_be_computed() -> None:
    error = errors.MetricNotStoredError(name="y", where="results", detail="did you mean 'x'?", declared=False)
    expected = "metric 'y' is not stored in results, and nothing declares it (did you mean 'x'?)"
    assert str(error) == error.for_command_line("m.yaml") == expected
    saved = errors.MetricNotStoredError(name="y", where="results", detail="it is in memory", in_memory=True)
    assert str(saved).endswith("(it is in memory); CM.save('y') stores that value")
