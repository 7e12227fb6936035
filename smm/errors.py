"""Every exception of smm: data first, a sentence that ends in a way out, and a builtin they also are.

An error is raised with its data as keyword arguments; each class writes its own sentence from them, so
that a mistake reads the same wherever it is found. All pickle, with data and notes: workers' errors travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from smm._text import visible

if TYPE_CHECKING:
    from pathlib import Path

    import attrs
else:
    from smm import _attrs as attrs


class SmmWarning(UserWarning):
    """Something smm put right by itself and a person should know of.

    Args:
        message: the sentence, with a way out for a person who writes Python.
        command: the same for a person at the command line, where it is another one; `{target}` in it stands
            for the file.
    """

    def __init__(self, message: str, command: str | None = None) -> None:
        super().__init__(message)
        self._command = command

    def for_command_line(self, target: str) -> str:
        """Return the sentence with the way out for a person at the command line."""
        return str(self) if self._command is None else self._command.replace("{target}", target)

    def __str__(self) -> str:
        return visible(super().__str__(), lines=True)


class SmmError(Exception):
    """The base of every exception smm raises on purpose.

    Subclasses take keyword arguments, keep each as an attribute of the same name, and write their
    sentence in `_sentence`.
    """

    def __init__(self, **data: Any) -> None:
        super().__init__()
        self.__dict__.update(data)
        self.args = (self._sentence(),)

    def _sentence(self) -> str:
        return str(self.__dict__.get("message", ""))

    def for_command_line(self, target: str) -> str:
        """Return the sentence with a way out for a person at the command line: a command, no Python.

        Args:
            target: the file or `module:CM` that the command was given.
        """
        del target  # most sentences are the same for both
        return str(self)

    def what(self) -> str:
        """Return the sentence without the way out, where that is another one for each reader."""
        return str(self)

    def __str__(self) -> str:
        # KeyError and OSError would print their arguments in a form of their own.
        return visible(str(self.args[0]), lines=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), dict(self.__dict__))


def _restore(kind: type[SmmError], data: dict[str, Any]) -> SmmError:
    notes = data.pop("__notes__", ())
    error = kind(**data)
    for note in notes:
        error.add_note(note)
    return error


def closest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to `word`, else an empty string.

    Looks at no more than 2,000 of the known words, first at those that begin alike: it takes milliseconds.
    """
    import difflib

    known = list(known)
    alike = [name for name in known if name[:2] == word[:2]][:1000]
    found = difflib.get_close_matches(word, alike + known[:1000], n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def command(verb: str, target: str, name: str, *options: str) -> str:
    """Return a command as it is typed: `smm run metrics.yaml f_1`."""
    import shlex

    return shlex.join(["smm", verb, target, name, *options])


def has_rows(base_name: str, rows: Sequence[str], target: str | None = None) -> str:
    """Return the sentence for a base name in the place of one of its rows' metric names.

    `target` is what a command was given; None for a person who writes Python.
    """
    if not rows:
        return f"{base_name!r} is the base name of a metric without rows; declare some with params_list"
    shown = ", ".join(map(repr, rows[:3])) + (", ..." if len(rows) > 3 else "")
    what = (
        f"{base_name!r} is the base name of {len(rows):,} {'row' if len(rows) == 1 else 'rows'}, each with a "
        f"metric name of its own: {shown}"
    )
    if target is not None:
        return f"{what}; name one of these, and {command('status', target, base_name)} shows which are stored"
    calls = f"CM.{base_name}(...) for one row and CM.{base_name}.get_all() for all"
    return f"{what}; ask for one of these, or call {calls}"


# --- stored data -----------------------------------------------------------------------------------------


class UnstorableError(SmmError, TypeError):
    """A storage refused a value at save, leaving everything as it was."""

    name: str
    """The metric."""
    storage: str
    """Class name of the storage that refused."""
    place: str
    """Where inside the value: `['a'][3]`, empty for the value itself."""
    found: str
    """What is there: `bytes`, `a list that contains itself`."""
    way_out: str
    """What to do instead: `save dict(x)`."""
    value: Any = None
    """The computed value, when a manager computed it: it is not lost."""

    def _sentence(self) -> str:
        where = f"{self.place}: {self.found}" if self.place else self.found
        return f"{self.storage} cannot keep metric {self.name!r}: {where}; {self.way_out}"


class StoreFileError(SmmError, OSError):
    """Something in a store that is no regular file or folder where one should be, or a file too large."""

    path: Path
    found: str
    """What it is: `a link`, `a named pipe`."""
    way_out: str

    def __init__(self, **data: Any) -> None:
        super().__init__(**data)
        self.filename = str(data["path"])

    def _sentence(self) -> str:
        return f"{self.path} is {self.found}; {self.way_out}"


class CorruptMetricError(SmmError, ValueError):
    """The stored bytes themselves show that they are damaged."""

    name: str
    path: Path
    reason: str

    def _sentence(self) -> str:
        return f"{self.what()}; CM.get({self.name!r}) computes it again and replaces the file"

    def for_command_line(self, target: str) -> str:
        """As of SmmError."""
        return f"{self.what()}; {command('run', target, self.name)} computes it again and replaces the file"

    def what(self) -> str:
        """As of SmmError."""
        return f"metric {self.name!r} is damaged: {self.path}: {self.reason}"


class ChangedInMemoryError(SmmError, ValueError):
    """Something has written into the read-only arrays of a value in memory that no storage holds."""

    name: str

    def _sentence(self) -> str:
        return (
            f"{self.what()}; CM.compute({self.name!r}, force=True) computes it again. numpy before 2.5 lets "
            "np.add.at and the like write into read-only arrays: give these functions a .copy()"
        )

    def for_command_line(self, target: str) -> str:
        """As of SmmError."""
        return (
            f"{self.what()}; numpy before 2.5 lets np.add.at and the like write into read-only arrays: give "
            f"these functions a .copy(), and {command('run', target, self.name)} computes it again"
        )

    def what(self) -> str:
        """As of SmmError."""
        return (
            f"the value of metric {self.name!r} in memory was changed in its place, though its arrays are "
            "read-only, and no storage holds it as it was"
        )


class PickleRefusedError(SmmError, ValueError):
    """A stored file holds pickled objects and the storage was not told to allow them."""

    name: str
    path: Path

    def _sentence(self) -> str:
        return (
            f"metric {self.name!r} holds pickled objects, which run code when they are read: {self.path}; "
            "if you trust whoever wrote it, give the storage allow_pickle=True"
        )


class NewerFormatError(SmmError, ValueError):
    """A stored file was written by a later version of smm."""

    name: str
    path: Path
    found: str
    known: str

    def _sentence(self) -> str:
        return (
            f"metric {self.name!r} was written in {self.found}, this smm reads up to {self.known}: "
            f"{self.path}; update smm-metrics"
        )


class MetricNotStoredError(SmmError, KeyError, FileNotFoundError):
    """The metric is neither in memory nor stored."""

    name: str
    where: str
    """The storage, as a person would name it: its folder, or its class."""
    detail: str = ""
    """What there is instead, if anything."""
    in_memory: bool = False
    """True if the value is in memory."""
    declared: bool = True
    """True if something computes it."""
    rows: Sequence[str] | None = None
    """The metric names of its rows, if it is the base name of a metric that has params."""

    def _sentence(self) -> str:
        if self.rows is not None:
            return has_rows(self.name, self.rows)
        if self.in_memory:
            return f"{self.what()}; CM.save({self.name!r}) stores that value"
        return (
            f"{self.what()}; CM.get({self.name!r}) computes and stores it" if self.declared else self.what()
        )

    def for_command_line(self, target: str) -> str:
        """As of SmmError."""
        if self.rows is not None:
            return has_rows(self.name, self.rows, target)
        if not self.declared:
            return self.what()
        return f"{self.what()}; {command('run', target, self.name)} computes and stores it"

    def what(self) -> str:
        """As of SmmError."""
        detail = f" ({self.detail})" if self.detail else ""
        undeclared = "" if self.declared or self.in_memory else ", and nothing declares it"
        return f"metric {self.name!r} is not stored in {self.where}{undeclared}{detail}"


class StaleMetricError(SmmError, ValueError):
    """A stored value is not what would be computed now, and `on_stale` is `error`."""

    name: str
    reasons: Sequence[str]

    def _sentence(self) -> str:
        return (
            f"{self.what()}. CM.get({self.name!r}, use_stored=False) computes it again, "
            f"CM.accept({self.name!r}) takes the stored value as it is, on_stale='serve' or 'warn' gives it "
            "out"
        )

    def for_command_line(self, target: str) -> str:
        """As of SmmError."""
        return (
            f"{self.what()}. {command('run', target, self.name, '--force')} computes it again, "
            f"{command('accept', target, self.name)} takes the stored value as it is, "
            "--set on_stale=warn gives it out"
        )

    def what(self) -> str:
        """As of SmmError."""
        return f"metric {self.name!r} is stale: {'; '.join(self.reasons)}"


class StorageAbilityError(SmmError, TypeError):
    """A storage class lacks a method that this call needs."""

    storage: str
    method: str
    purpose: str

    def _sentence(self) -> str:
        return (
            f"{self.storage} has no method {self.method!r}, which {self.purpose} needs; add it to the class"
        )


class NotTabularError(SmmError, TypeError):
    """A value, or the values of all rows together, that a frame or a labelled array has no place for."""

    name: str
    """The metric; the base name for what is about all rows."""
    table: str
    """`a frame`, `an array`."""
    place: str = ""
    """Where inside the value: `['a']`, empty for the value itself."""
    found: str
    """What is there: `array of float64, shape 3`."""
    way_out: str

    def _sentence(self) -> str:
        where = f"{self.place}: {self.found}" if self.place else self.found
        return f"metric {self.name!r} does not go into {self.table}: {where}; {self.way_out}"


# --- names, params and declarations ---------------------------------------------------------------------


class UnknownMetricError(SmmError, KeyError, ValueError):
    """No metric of this name is declared or stored."""

    name: str
    hint: str = ""
    """What `closest` says of the declared names."""
    stored: bool = False
    """True if it is stored, and only what computes it is missing."""
    rows: Sequence[str] | None = None
    """The metric names of its rows, if it is the base name of a metric that has params."""

    def _sentence(self) -> str:
        if self.rows is not None:
            return has_rows(self.name, self.rows)
        if self.stored:
            return (
                f"metric {self.name!r} is stored, but nothing is declared that could compute it again; "
                f"CM.load({self.name!r}) gives the stored value"
            )
        hint = self.hint or "; declare it with @CM.collect or in the configuration"
        return f"no metric {self.name!r}: it is neither stored nor declared{hint}"

    def for_command_line(self, target: str) -> str:
        """As of SmmError."""
        if self.rows is not None:
            return has_rows(self.name, self.rows, target)
        if self.stored:
            return (
                f"metric {self.name!r} is stored, but nothing is declared that could compute it again; "
                f"{command('show', target, self.name)} prints the stored value"
            )
        return str(self)


class MetricNameError(SmmError, ValueError):
    """A name that cannot be a metric's."""

    name: str
    reason: str
    """What is wrong and what to do: `is empty; give it a base_name`."""

    def _sentence(self) -> str:
        cut = "" if len(self.name) <= 60 else f"... ({len(self.name)} characters)"
        return f"metric name {self.name[:60]!r}{cut} {self.reason}"


class NameTypeError(MetricNameError, TypeError):
    """A metric name that is no str."""


class DeclarationError(SmmError, ValueError):
    """A metric that cannot be declared as it is."""

    base_name: str
    reason: str

    def _sentence(self) -> str:
        return f"metric {self.base_name!r} cannot be declared: {self.reason}"


class NameClashError(DeclarationError):
    """Two different metrics would share one name, and so one file."""


class UndeclaredParamsError(SmmError, ValueError):
    """A call with params that no row of the params list has."""

    base_name: str
    call: str
    """The call as written: `poly_Y(2, 4)`."""
    nearest: str = ""
    """The closest declared call, if any."""

    def _sentence(self) -> str:
        return (
            f"{self.what()}; add it to the params list, or make the manager with dynamic_metric_creation=True"
        )

    def for_command_line(self, target: str) -> str:
        """As of SmmError."""
        return f"{self.what()}; in {target}, add it to the params list, or set dynamic_metric_creation"

    def what(self) -> str:
        """As of SmmError."""
        nearest = f" (the closest is {self.nearest})" if self.nearest else " (none is)"
        return f"{self.call} is not among the declared params of {self.base_name!r}{nearest}"


class UnsupportedParamError(SmmError, TypeError):
    """A param of a type that has no lasting identity."""

    base_name: str
    argument: str
    """The argument, with the place inside it: `b[0]`."""
    found: str

    def _sentence(self) -> str:
        return (
            f"argument {self.argument!r} of metric {self.base_name!r} is {self.found}, which has no identity "
            "that lasts; pass a plain key instead (a str, number, tuple, path ...), or leave it out of the "
            f"metric's identity with ignore=({self.argument.partition('[')[0]!r},)"
        )


class CircularMetricError(SmmError, RuntimeError):
    """A metric needs its own value."""

    chain: Sequence[str]
    """The names, first and last the same."""

    def _sentence(self) -> str:
        return (
            f"{' -> '.join(self.chain)}: a metric cannot read itself; break the chain at one of these names"
        )


# --- runs -------------------------------------------------------------------------------------------------


class RunRefusedError(SmmError, ValueError):
    """A run that could not work as it is asked for; nothing was computed."""

    executor: str
    reason: str

    def _sentence(self) -> str:
        return f"cannot run with executor={self.executor!r}: {self.reason}"


class TravelError(SmmError, TypeError):
    """A manager that no other process can make again."""

    reason: str

    def _sentence(self) -> str:
        return f"this manager cannot go to another process: {self.reason}"


class TimedOutError(SmmError, TimeoutError):
    """A metric's row computed for longer than its `timeout`, and was stopped."""

    name: str
    seconds: float

    def _sentence(self) -> str:
        return (
            f"metric {self.name!r} was stopped after its timeout of {self.seconds:g} s; give it a longer "
            "one, or less to do"
        )


class WorkerDiedError(SmmError, RuntimeError):
    """The process that computed a metric ended without an answer, each time it was tried."""

    name: str
    tries: int

    def _sentence(self) -> str:
        return (
            f"the worker that computed {self.name!r} died, {self.tries} times in a row: out of memory, or a "
            "crash in compiled code? compute it alone, with executor='threads', to see more"
        )


class WorkersLostError(SmmError, RuntimeError):
    """A run ended because it had no workers any more; what they had computed by then is stored."""

    executor: str
    reason: str
    names: tuple[str, ...] = ()
    """What workers were computing when they died, and is not stored."""

    def _sentence(self) -> str:
        shown = ", ".join(map(repr, self.names[:3])) + (", ..." if len(self.names) > 3 else "")
        over = f" over {shown}" if shown else ""
        return (
            f"executor={self.executor!r} has lost its workers{over}: {self.reason}; what they had computed "
            "is stored, run again for the rest"
        )


class WorkerError(SmmError, RuntimeError):
    """Stands for an exception of a worker that cannot be pickled."""

    kind: str
    text: str

    def _sentence(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


class FailedBeforeError(SmmError, RuntimeError):
    """A metric was not tried, since it failed in an earlier run and nothing about it has changed."""

    name: str
    kind: str
    text: str

    def _sentence(self) -> str:
        return f"{self.what()}; CM.run(retry_failed=True) tries it again"

    def for_command_line(self, target: str) -> str:
        """As of SmmError."""
        return f"{self.what()}; {command('run', target, self.name, '--retry-failed')} tries it again"

    def what(self) -> str:
        """As of SmmError."""
        return f"metric {self.name!r} failed in an earlier run with {self.kind}: {self.text}"


class HeldBackError(SmmError, RuntimeError):
    """A row was not computed, because the storage refused the value of another row of the metric."""

    name: str
    """The row that was refused."""
    refusal: str
    """The sentence of the refusal."""

    def _sentence(self) -> str:
        return f"{self.what()}; CM.run(keep_trying=True) computes the other rows as well"

    def for_command_line(self, target: str) -> str:
        """As of SmmError."""
        return f"{self.what()}; smm run {target} --keep-trying computes the other rows as well"

    def what(self) -> str:
        """As of SmmError."""
        return f"not computed, since the storage refused {self.name!r} of the same metric: {self.refusal}"


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a run; what was running then has been finished and stored.

    A `KeyboardInterrupt`, so that a script ends as without smm; `report` says what was done.
    """

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


# --- configuration --------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Problem:
    """One thing wrong with a configuration."""

    file: str
    """As the caller wrote it; `overrides` for what came from there."""
    line: int
    """From 1; 0 where there is no line to point at."""
    column: int
    """From 1, in characters."""
    path: str
    """The key: `metrics.poly_Y.params_list[1]`, empty for the whole file."""
    message: str
    """What was found, what is wanted, what to do."""

    def __str__(self) -> str:
        at = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        return visible(f"{at}{self.path + ': ' if self.path else ''}{self.message}")


class ConfigError(SmmError, ValueError):
    """A configuration that cannot be used, with all its problems at once."""

    problems: Sequence[Problem]

    def _sentence(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


# --- optional extras ------------------------------------------------------------------------------------


class MissingExtraError(SmmError, ImportError):
    """A library that an optional part needs is not installed."""

    module: str
    extra: str

    def _sentence(self) -> str:
        return f"this needs {self.module}, which is not installed; pip install 'smm-metrics[{self.extra}]'"


def require(module: str, extra: str) -> Any:
    """Import an optional library, or say which extra brings it.

    Raises:
        MissingExtraError: `module` is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise  # the library is there; something it needs is not
        raise MissingExtraError(module=module, extra=extra) from error


# --- command line -----------------------------------------------------------------------------------------


class TargetError(SmmError, ValueError):
    """What a command was given to work on is no configuration file and no manager."""

    target: str
    reason: str
    """What is wrong and what to do."""

    def _sentence(self) -> str:
        return f"{self.target!r} {self.reason}"
