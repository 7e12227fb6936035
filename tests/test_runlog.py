"""The log of a run: what stands in it, and which failures a later run finds there."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._runlog import RunLog, Source, failures
from smm._worker import failed
from smm.errors import (
    CircularMetricError,
    FailedBeforeError,
    NameClashError,
    SmmWarning,
    TimedOutError,
    UndeclaredParamsError,
    UnknownMetricError,
    UnstorableError,
    WorkerDiedError,
    WorkerError,
)
from smm.run import Outcome

START = datetime(2026, 3, 1, 12, 30, 5, 123456, tzinfo=UTC)
OLD = START.timestamp() - 86400
NAMES = ["x", "a 'b' \"c\"", "größe_λ", "\\", "two\nlines", "\ud800", '", "name": "x', "\U0001d518", "{", ""]


class Place:
    """A folder of results, and a module with the metrics' functions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "results"
        self.module = folder / "analysis.py"
        self.helper = folder / "helper.py"
        self.declared: dict[str, Any] = {"reads": ["u_1"], "timeout_seconds": None}
        self.declared_at = OLD + 100
        for file in (self.module, self.helper):
            self.write(file, f"# {file.stem}\n")

    def write(self, file: Path, text: str, when: float = OLD) -> None:
        file.write_text(text, encoding="utf-8")
        os.utime(file, (when, when))

    def log(self, started: datetime = START) -> RunLog:
        return RunLog(
            self.folder,
            started,
            source_of=lambda name: Source(file=str(self.module), declared=self.declared_at),
            params_of=lambda name: {"a": 1},
            declared_of=lambda name: self.declared,
        )

    def note(self, *outcomes: Outcome, started: datetime = START) -> Path | None:
        """Write a whole log."""
        log = self.log(started)
        for outcome in outcomes:
            log.add(outcome)
        log.close()
        return log.path

    def failures(self, *names: str) -> list[str]:
        return sorted(failures(self.folder, names, lambda name: self.declared))

    def runs(self) -> list[Path]:
        return sorted((self.folder / ".smm" / "runs").glob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def bad(name: str, error: BaseException | None = None, *files: Path, **fields: Any) -> Outcome:
    outcome = {"status": "failed", "error": error or ValueError("no"), "files": tuple(map(str, files))}
    return Outcome(name=name, **{**outcome, **fields})


def good(name: str) -> Outcome:
    return Outcome(name=name, status="computed", seconds=0.5, worker="host:1")


def skipped(name: str) -> Outcome:
    return Outcome(name=name, status="skipped", error=FailedBeforeError(name=name, kind="E", text="no"))


def lines(path: Path | None) -> list[dict[str, Any]]:
    assert path is not None
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


# --- what stands in it -----------------------------------------------------------------------------------


def test_a_line_of_a_computed_row(place: Place) -> None:
    before = datetime.now(UTC)
    path = place.note(
        Outcome(name="x_1", status="computed", seconds=1.23456789, worker="node:7:smm-1", tries=2)
    )
    assert path == place.folder / ".smm" / "runs" / "2026-03-01T12-30-05.123456.jsonl"
    (line,) = lines(path)
    assert list(line) == ["outcome", "name", "params", "seconds", "worker", "tries", "at", "error"]
    at = datetime.fromisoformat(line.pop("at"))
    assert before <= at <= datetime.now(UTC)
    assert at.utcoffset() == timedelta(0)
    assert line == {
        "outcome": "computed",
        "name": "x_1",
        "params": {"a": 1},
        "seconds": 1.234568,
        "worker": "node:7:smm-1",
        "tries": 2,
        "error": None,
    }


def test_a_line_of_a_failed_row(place: Place) -> None:
    def function() -> None:
        raise KeyError("key")

    try:
        function()
    except KeyError as error:
        outcome = failed("x", error, seconds=2.0, worker="w")
    (line,) = lines(place.note(outcome))
    noted = line["error"]
    assert list(noted) == [
        "type",
        "message",
        "where",
        "traceback",
        "upstream",
        "lasting",
        "files",
        "declared",
    ]
    assert (noted["type"], noted["message"], noted["upstream"]) == ("KeyError", "'key'", None)
    assert noted["where"].startswith(f"{__file__}:")
    assert noted["traceback"].startswith("Traceback")
    assert noted["traceback"].rstrip().endswith("KeyError: 'key'")
    assert noted["declared"] == place.declared


def test_the_check_sums_of_the_files(place: Place) -> None:
    (line,) = lines(place.note(bad("x", None, place.helper)))
    assert line["error"]["lasting"] is True
    assert line["error"]["files"] == {
        str(file): crc32(file.read_bytes()) for file in (place.helper, place.module)
    }


def test_what_was_stored_is_no_news(place: Place) -> None:
    assert place.note(Outcome(name="x", status="stored")) is None
    assert not place.folder.exists()


def test_a_run_that_computes_nothing_leaves_nothing(place: Place) -> None:
    assert place.note() is None
    assert place.note(skipped("x"), skipped("y")) is None
    assert not place.folder.exists()


def test_skipped_rows_are_noted_where_there_is_news(place: Place) -> None:
    path = place.note(skipped("x"), skipped("y"), good("z"), skipped("w"))
    assert [(line["outcome"], line["name"]) for line in lines(path)] == [
        ("skipped", "x"),
        ("skipped", "y"),
        ("computed", "z"),
        ("skipped", "w"),
    ]


def test_each_line_is_there_at_once(place: Place) -> None:
    log = place.log()
    for number in range(3):
        log.add(good(f"x{number}"))
        assert len(lines(log.path)) == number + 1
    log.close()
    log.close()


def test_held_lines_are_written_together(place: Place) -> None:
    log = place.log()
    for outcome in (skipped("x"), bad("y"), good("z")):
        log.hold(outcome)
        assert not place.runs()
    log.flush()
    assert [line["name"] for line in lines(log.path)] == ["x", "y", "z"]
    log.hold(skipped("w"))
    log.close()
    assert len(lines(log.path)) == 4, "what is held at the end is written, too"


def test_what_is_held_of_skipped_rows_alone_makes_no_log(place: Place) -> None:
    log = place.log()
    log.hold(skipped("x"))
    log.flush()
    log.close()
    assert not place.runs()


@pytest.mark.parametrize("name", NAMES)
def test_any_name(place: Place, name: str) -> None:
    (line,) = lines(place.note(bad(name)))
    assert line["name"] == name
    assert place.failures(name, "other") == [name]


def test_an_exception_that_cannot_say_anything(place: Place) -> None:
    odd = type("Odd", (Exception,), {"__str__": lambda self: 1 / 0})
    (line,) = lines(place.note(bad("x", odd())))
    assert (line["error"]["type"], line["error"]["message"]) == ("Odd", "")


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_modes_are_those_of_the_folder(place: Place, umask: int) -> None:
    place.folder.mkdir()
    place.folder.chmod(0o2770)
    path = place.note(good("x"))
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o2770
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o2770


def test_two_runs_of_one_microsecond(place: Place) -> None:
    first, second = place.log(), place.log()
    first.add(bad("x"))
    second.add(good("x"))
    first.close()
    second.close()
    assert [path.name for path in place.runs()] == sorted(
        ["2026-03-01T12-30-05.123456.jsonl", "2026-03-01T12-30-05.123456-1.jsonl"]
    )
    assert place.failures("x") == [], "the one that began last says what holds"


def test_a_log_that_cannot_be_written_ends_no_run(place: Place) -> None:
    place.folder.write_text("a file in the folder's place")
    log = place.log()
    with pytest.warns(SmmWarning, match="goes on without its log") as caught:
        log.add(good("x"))
    log.add(good("y"))
    log.close()
    assert (log.path, len(caught)) == (None, 1)


def test_a_moment_full_of_logs(place: Place) -> None:
    place.note(good("x"))
    (first,) = place.runs()
    for number in range(1, 1000):
        first.with_name(f"{first.stem}-{number}.jsonl").touch()
    with pytest.warns(SmmWarning, match="full of logs"):
        place.note(good("x"))


# --- what a later run finds ------------------------------------------------------------------------------


def test_a_failure_as_it_was(place: Place) -> None:
    path = place.note(bad("x", ValueError("one\ntwo"), where="a.py:3"))
    found = failures(place.folder, ["x"], lambda name: place.declared)["x"]
    assert (found.name, found.kind, found.message, found.where) == ("x", "ValueError", "one\ntwo", "a.py:3")
    assert found.log == path
    assert found.when == datetime.fromisoformat(lines(path)[0]["at"])
    assert found.when.tzinfo is not None


def test_only_what_is_asked_for(place: Place) -> None:
    place.note(bad("x"), bad("y"))
    assert place.failures("y", "z") == ["y"]
    assert place.failures() == []


def test_without_logs(place: Place) -> None:
    assert place.failures("x") == []
    assert not place.folder.exists()


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("runs", "holds"),
    [
        ([bad("x")], True),
        ([bad("x"), good("x")], False),
        ([good("x"), bad("x")], True),
        ([bad("x"), skipped("x")], True),
        ([bad("x"), skipped("x"), good("y"), skipped("x")], True),
        ([good("x"), skipped("x")], False),
        ([bad("x"), good("x"), skipped("x")], False),
        ([bad("x"), bad("x", OSError("disk full"))], False),
        ([bad("x", OSError("disk full")), bad("x")], True),
        ([bad("x"), bad("x", upstream="u")], False),
        ([bad("x"), good("y")], True),
    ],
)
def test_the_newest_log_says_what_holds(place: Place, runs: Sequence[Outcome], holds: bool) -> None:
    for number, outcome in enumerate(runs):
        place.note(outcome, good("other"), started=START + number * DAY)
    assert place.failures("x", "y") == (["x"] if holds else [])


def test_the_last_line_of_a_log_says_what_holds(place: Place) -> None:
    place.note(bad("x"), good("x"), good("y"), bad("y"))
    assert place.failures("x", "y") == ["y"]


def unlucky(name: str) -> Outcome:
    return bad(name, MemoryError())


KINDS: dict[str, Callable[[str], Outcome]] = {
    "good": good,
    "bad": bad,
    "skipped": skipped,
    "unlucky": unlucky,
}
STEPS = st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(NAMES[:4]))


@given(history=st.lists(st.lists(STEPS, max_size=4), max_size=4))
def test_any_history(history: list[list[tuple[str, str]]], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Place(tmp_path_factory.mktemp("any"))
    holds: dict[str, str] = {}
    for number, run in enumerate(history):
        place.note(*(KINDS[kind](name) for kind, name in run), started=START + number * DAY)
        # Within a run a row ends once: its last line counts, be it a skip.
        last = {name: kind for kind, name in run}
        writes = any(kind != "skipped" for kind, _ in run)
        holds |= {name: kind for name, kind in last.items() if kind != "skipped" and writes}
    assert place.failures(*NAMES) == sorted(name for name, kind in holds.items() if kind == "bad")


# --- which failures last ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        ZeroDivisionError(),
        KeyError("x"),
        RecursionError(),
        TimedOutError(name="x", seconds=3.0),
        WorkerDiedError(name="x", tries=3),
        WorkerError(kind="Odd", text="no"),
        UnstorableError(name="x", storage="S", place="", found="a set", way_out="save a list"),
    ],
)
def test_errors_that_last(place: Place, error: Exception) -> None:
    place.note(bad("x", error))
    assert place.failures("x") == ["x"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        FileNotFoundError("data.csv"),
        ConnectionResetError(),
        TimeoutError(),
        MemoryError(),
        ModuleNotFoundError("torch"),
        ImportError(),
        SystemExit(1),
        GeneratorExit(),
        UnknownMetricError(name="u"),
        UndeclaredParamsError(base_name="u", call="u(3)"),
        NameClashError(base_name="x", reason="taken"),
        CircularMetricError(chain=("x", "x")),
    ],
)
def test_errors_of_the_moment_the_machine_or_the_declaration(place: Place, error: BaseException) -> None:
    (line,) = lines(place.note(bad("x", error)))
    assert line["error"]["lasting"] is False
    assert line["error"]["files"] == {}
    assert place.failures("x") == []


def test_an_upstream_that_failed_is_not_this_rows_failure(place: Place) -> None:
    place.note(bad("x", upstream="u"))
    assert place.failures("x") == []


def test_a_function_without_a_file(place: Place) -> None:
    log = RunLog(
        place.folder,
        START,
        source_of=lambda name: None,
        params_of=lambda name: None,
        declared_of=lambda name: {},
    )
    log.add(bad("x", None, place.helper))
    log.close()
    (line,) = lines(log.path)
    assert (line["params"], line["error"]["lasting"]) == (None, False)
    assert place.failures("x") == []


@pytest.mark.parametrize("which", ["module", "helper"])
def test_code_that_changes_is_tried_again(place: Place, which: str) -> None:
    file: Path = getattr(place, which)
    place.note(bad("x", None, place.helper))
    assert place.failures("x") == ["x"]
    text = file.read_text()
    place.write(file, text + "# mended\n")
    assert place.failures("x") == []
    place.write(file, text, when=START.timestamp() + 9000)
    assert place.failures("x") == ["x"], "what counts is the content"
    file.unlink()
    assert place.failures("x") == []


@pytest.mark.parametrize("declared", [-10, 10])
def test_code_that_was_changed_during_the_run_did_not_run(place: Place, declared: int) -> None:
    place.declared_at = START.timestamp() + declared
    place.write(place.helper, "# new\n", when=START.timestamp() + 1)
    place.note(bad("x", None, place.helper))
    place.note(bad("y"))
    assert place.failures("x", "y") == ["y"]


@pytest.mark.parametrize("which", ["module", "helper"])
def test_code_that_was_changed_since_it_was_loaded_did_not_run(place: Place, which: str) -> None:
    place.declared_at = START.timestamp() - 3600
    place.write(getattr(place, which), "# edited, and not loaded again\n", when=START.timestamp() - 1800)
    (line,) = lines(place.note(bad("x", None, place.helper)))
    assert line["error"]["lasting"] is False
    place.declared_at = START.timestamp() - 900
    place.note(bad("x", None, place.helper), started=START + DAY)
    assert place.failures("x") == ["x"]


def test_a_file_that_is_none_is_passed_over(place: Place) -> None:
    (line,) = lines(place.note(bad("x", None, Path("<string>"), Path("<ipython-input-3>"))))
    assert (line["error"]["lasting"], list(line["error"]["files"])) == (True, [str(place.module)])


def test_a_file_that_is_gone_may_have_changed(place: Place) -> None:
    (line,) = lines(place.note(bad("x", None, place.folder / "ipykernel_7" / "3.py")))
    assert line["error"]["lasting"] is False


@pytest.mark.parametrize(
    "now",
    [
        {"reads": ["u_2"], "timeout_seconds": None},
        {"reads": ["u_1"], "timeout_seconds": 60.0},
        {"reads": ["u_1"], "timeout_seconds": None, "storage": "Other"},
    ],
)
def test_another_declaration_is_tried_again(place: Place, now: dict[str, Any]) -> None:
    place.note(bad("x"))
    place.declared = now
    assert place.failures("x") == []


# --- logs that are not as they should be -----------------------------------------------------------------


def test_a_line_that_was_cut_off(place: Place) -> None:
    path = place.note(bad("x"), bad("y"))
    assert path is not None
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert set(place.failures("x", "y")) <= {"x", "y"}
    second = whole.index(b"\n") + 1
    path.write_bytes(whole[:second])
    assert place.failures("x", "y") == ["x"]
    path.write_bytes(whole[:-2])
    assert place.failures("x", "y") == ["x"], "what is not whole is tried again"


def test_a_line_that_was_cut_off_hides_no_other(place: Place) -> None:
    path = place.note(bad("x"), bad("y"))
    assert path is not None
    first, second = path.read_bytes().splitlines()
    for length in range(0, len(first), 7):
        path.write_bytes(first[:length] + b"\n" + second + b"\n")
        assert place.failures("x", "y") == ["y"]


def test_a_line_that_was_cut_off_is_news_all_the_same(place: Place) -> None:
    place.note(bad("x"))
    path = place.note(good("x"), started=START + DAY)
    assert path is not None
    path.write_bytes(path.read_bytes()[:40])
    assert place.failures("x") == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 100,
        b"\xff\xfe" * 50,
        b"[" * 100_000,
        b'{"outcome": "failed", "name": "x"',
        b'{"outcome": "failed", "name": "x"}',
        b'{"outcome": "failed", "name": "x", "error": null, "at": "2026-01-01"}',
        b'{"outcome": "failed", "name": "x", "error": 3}',
        b'{"outcome": "failed", "name": "x", "error": {"files": [], "lasting": true}}',
        b'{"outcome": "failed", "name": "x", "error": {"files": {"\\u0000": 1}, "lasting": true}}',
        b'{"outcome": "failed", "name": "x", "error": {"files": {"a": []}, "lasting": true}}',
        b'{"outcome": "failed", "name": "x", "error": ' + b"[" * 100_000,
        b'{"outcome": "failed", "name": "\\x"}',
        b'{"outcome": "failed", "name": "\xff"}',
        b'{"outcome": "failed", "name": "\\ud8',
        b'{"outcome": "invented", "name": "x"}',
        b'{"name": "x", "outcome": "failed"}',
        b'{"outcome": "failed", "name": "x", "at": "never", "error": {"files": {}, "lasting": true}}',
    ],
)
def test_what_is_not_smms_own(place: Place, garbage: bytes) -> None:
    path = place.note(bad("y"))
    assert path is not None
    path.write_bytes(garbage + b"\n" + path.read_bytes() + garbage + b"\n" + garbage)
    assert place.failures("x", "y") == ["y"]


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    place = Place(tmp_path_factory.mktemp("any"))
    path = place.note(bad("y"))
    assert path is not None
    path.write_bytes(garbage + b"\n" + path.read_bytes() + garbage)
    assert place.failures("y") == ["y"]


def test_files_that_are_no_logs(place: Place) -> None:
    path = place.note(bad("x"))
    assert path is not None
    path.with_name("9999.jsonl").symlink_to("nowhere")
    path.with_name("9998.jsonl").mkdir()
    path.with_name("notes.txt").write_text("mine")
    with pytest.warns(SmmWarning) as told:
        assert place.failures("x") == ["x"]
    assert [str(one.message) for one in told] == [
        (
            f"{path.parent}/9999.jsonl is a link, which smm does not follow: no log of a run, and passed "
            "over; remove it"
        ),
        f"{path.parent}/9998.jsonl is a folder: no log of a run, and passed over; move it away",
    ]
    assert place.failures("x") == ["x"], "said once"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_log_that_another_person_keeps_private(place: Place) -> None:
    place.note(bad("x"))
    path = place.note(good("y"), started=START + DAY)
    assert path is not None
    path.chmod(0)
    assert place.failures("x") == ["x"]
