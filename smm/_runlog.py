"""A run's log, `<folder>/.smm/runs/<start>.jsonl`: one JSON object a line for each row that a run came to.

    outcome   computed, failed or skipped; first, so that lines can be sorted out without being parsed
    name      the metric's
    params    by argument name, as in its record; null where it has none
    seconds   that a worker was busy with it
    worker    host:process, and the thread
    tries     how often it was tried
    at        when it ended, UTC, ISO 8601
    error     null, or: type, message, where, traceback, upstream, lasting, files, declared

`lasting` says whether another try would end the same, as far as can be told: not if the disk was full, the
memory short, a library or an upstream metric missing. `files` are the check sums of the user's own files that
the error came through, and of the function's; `declared` is what the row reads, its timeout, and the class of
the storage: when one of these changes, the row is tried again.

Deleting the logs loses no result; rows that failed are then tried again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smm._blame import message
from smm._dates import moment
from smm._folders import OWN_FOLDER, make_own_folder, open_own_folder
from smm._pieces import json_text, object_text, parsed
from smm._reading import LOG_LIMIT, crc32_of_file, warn_of
from smm._warn import warn_user
from smm.errors import (
    SmmError,
    StoreFileError,
    TimedOutError,
    UnstorableError,
    WorkerDiedError,
    WorkerError,
)
from smm.run import Failed, Outcome

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

_DEEPEST = 500
"""How deep a line may be nested, of what is compared with what is declared now: params are in it."""
_LINE = re.compile(rb'^\{"outcome": "(\w+)", "name": ("(?:[^"\\\n]|\\.)*").*$', re.MULTILINE)


@attrs.frozen(kw_only=True)
class Source:
    """Where the code of a metric's function is."""

    file: str
    declared: float
    """When this process first declared the function, seconds since 1970: what changed later did not run."""


class RunLog:
    """One run's log. The file is made by the first line; lines are written whole.

    Args:
        folder: of the results.
        started: when the run did, UTC.
        source_of: where a metric's function is; None for one without a file.
        params_of: a metric's params as its record has them.
        declared_of: what else is declared of a metric, in JSON's types.
    """

    def __init__(
        self,
        folder: Path,
        started: datetime,
        *,
        source_of: Callable[[str], Source | None],
        params_of: Callable[[str], Mapping[str, Any] | None],
        declared_of: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self.path: Path | None = None
        """None before the first line."""
        self._folder = folder
        self._started = started
        self._source_of = source_of
        self._params_of = params_of
        self._declared_of = declared_of
        self._descriptor = -1
        self._held: list[str] = []
        self._at = ""  # when those have ended that came to this process together
        self._is_due = False  # a run that only skips leaves no log: lines of skipped rows wait for others
        self._given_up = False

    def add(self, outcome: Outcome) -> None:
        """Write a row's line. What was stored before is no news.

        Warns:
            SmmWarning: once, if it cannot be written; a night of computing does not end for want of its log.
        """
        self.hold(outcome)
        self.flush()

    def hold(self, outcome: Outcome) -> None:
        """The same with the next `flush`: a hundred lines are written in the time of a few."""
        if outcome.status == "stored" or self._given_up:
            return
        self._is_due = self._is_due or outcome.status != "skipped"
        try:
            self._held.append(self._line(outcome))
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Write the lines that are held; warns as `add`."""
        self._at = ""
        if not self._is_due or not self._held or self._given_up:
            return
        held, self._held = "".join(self._held).encode(), []
        try:
            if self.path is None:
                self._begin()
            while held:  # a disk that becomes full takes a part
                held = held[os.write(self._descriptor, held) :]
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._given_up = True
        where = _runs(self._folder)
        warn_user(f"the run goes on without its log, {where}: {error}")

    def _line(self, outcome: Outcome) -> str:
        self._at = self._at or datetime.now(UTC).isoformat(timespec="microseconds")
        return (
            f'{{"outcome": "{outcome.status}", "name": {json_text(outcome.name)}, '
            f'"params": {object_text(self._params_of(outcome.name))}, '
            f'"seconds": {json_text(round(outcome.seconds, 6))}, "worker": {json_text(outcome.worker)}, '
            f'"tries": {outcome.tries}, "at": "{self._at}", "error": {json_text(self._error(outcome))}}}\n'
        )

    def close(self) -> None:
        """Nothing more is written, but for what is held."""
        self.flush()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin(self) -> None:
        start = self._started.strftime("%Y-%m-%dT%H-%M-%S.%f")
        with make_own_folder(str(self._folder), RUNS) as runs:
            for number in range(1_000):  # another run may have begun in the same microsecond
                name = f"{start}{f'-{number}' if number else ''}.jsonl"
                with contextlib.suppress(FileExistsError):
                    self._descriptor = runs.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
                    self.path = Path(runs.path) / name
                    return
            raise FileExistsError(errno.EEXIST, "it is full of logs of this very moment", runs.path)

    def _error(self, outcome: Outcome) -> dict[str, Any] | None:
        error = outcome.error
        if error is None:
            return None
        lasting = outcome.status == "failed" and outcome.upstream is None and _is_lasting(error)
        files = self._files(outcome) if lasting else {}
        return {
            "type": type(error).__qualname__,
            "message": message(error),
            "where": outcome.where,
            "traceback": outcome.traceback,
            "upstream": outcome.upstream,
            "lasting": lasting and files is not None,
            "files": files or {},
            "declared": self._declared_of(outcome.name),
        }

    def _files(self, outcome: Outcome) -> dict[str, int] | None:
        """Check sums of the code that failed; None if it cannot be told whether that has changed."""
        source = self._source_of(outcome.name)
        if source is None:
            return None
        known: dict[str, int] = {}
        # Functions that went by value have no file there; the metric's own has one here.
        for file in dict.fromkeys((*outcome.files, source.file)):
            if file[:1] == "<":
                continue
            total = _check_sum(file)
            # A module that was edited and not loaded again is not the code that ran.
            if total is None or os.stat(file).st_mtime > min(source.declared, self._started.timestamp()):
                return None
            known[file] = total
        return known if source.file in known else None


def _is_lasting(error: BaseException) -> bool:
    """Whether an error belongs to the row, and not to the machine, the moment or another declaration."""
    if isinstance(error, SmmError):
        return isinstance(error, TimedOutError | UnstorableError | WorkerDiedError | WorkerError)
    return isinstance(error, Exception) and not isinstance(error, OSError | MemoryError | ImportError)


def _check_sum(file: str) -> int | None:
    try:
        return crc32_of_file(file)
    except OSError:
        return None


RUNS = "runs"
"""The folder in `.smm` where logs lie."""


def _runs(folder: Path) -> Path:
    return folder / OWN_FOLDER / RUNS


# --- reading ---------------------------------------------------------------------------------------------


def failures(
    folder: Path,
    names: Collection[str],
    declared_of: Callable[[str], Mapping[str, Any]] | None = None,
) -> dict[str, Failed]:
    """Of these metrics, those whose last logged try failed for a reason that still holds.

    Args:
        folder: of the results.
        names: metrics that are missing.
        declared_of: what is declared of a metric now, as for `RunLog`; None to take that as unchanged.
    """
    wanted = set(names)
    if not wanted:
        return {}
    found: dict[str, Failed] = {}
    changed: dict[tuple[str, int], bool] = {}
    for log, content in _logs(folder):
        last: dict[str, tuple[str, bytes]] = {}
        for line in _LINE.finditer(content):
            with contextlib.suppress(ValueError):  # not smm's own
                name = line[2][1:-1].decode() if b"\\" not in line[2] else json.loads(line[2])
                if name in wanted:
                    last[name] = line[1].decode(), line[0]
        for name, (outcome, text) in last.items():
            if outcome == "skipped":
                continue  # says nothing new: an older log has the failure itself
            wanted.discard(name)
            if outcome == "failed" and (failed := _still_failed(text, log, changed)) is not None:
                declared, noted = failed
                if declared_of is None or declared == declared_of(name):
                    found[name] = noted
        if not wanted:
            break
    return found


def _still_failed(
    text: bytes, log: Path, changed: dict[tuple[str, int], bool]
) -> tuple[Mapping[str, Any], Failed] | None:
    """What was declared then, and the failure, if it lasts and its files are as they were."""
    try:
        line = parsed(text.decode(), _DEEPEST)
        error = line["error"]
        for file in error["files"].items():
            if file not in changed:
                changed[file] = _check_sum(file[0]) != file[1]
        if not error["lasting"] or any(changed[file] for file in error["files"].items()):
            return None
        return error["declared"], Failed(
            name=line["name"],
            kind=error["type"],
            message=error["message"],
            where=error["where"],
            when=moment(line["at"]),
            log=log,
            traceback=str(error.get("traceback") or ""),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # cut off by a full disk, or of another version: tried again


def _logs(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every log and its content, the newest first. What cannot be read is passed over.

    Warns:
        SmmWarning: something else is in a log's place, once a process; or `.smm` is a link.
    """
    try:
        with open_own_folder(str(folder), RUNS) as runs:
            names = [entry.name for entry in runs.entries() if entry.name.endswith(".jsonl")]
            for name in sorted(names, key=lambda name: name.removesuffix(".jsonl"), reverse=True):
                try:
                    content = runs.read(name, LOG_LIMIT)
                except StoreFileError as error:
                    warn_of(error, "no log of a run, and passed over")
                except OSError:
                    continue  # removed a moment ago, or another person's who keeps it private
                else:
                    yield Path(runs.path) / name, content
    except StoreFileError as error:
        warn_of(error, "the logs of runs are not read")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
