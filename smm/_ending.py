"""How a command ends: with a message on standard error, and an exit code that says what happened."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from typing import IO, Any

import click

from smm._text import visible

FAILED = 1
WRONG = 2
STALE = 3
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program that writes to a closed pipe, as `head` leaves one."""


class Failure(click.ClickException):
    """Ends a command with a message on standard error."""

    exit_code = WRONG

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message; the problems of a file begin with its name, as editors like it."""
        click.echo(visible(self.message, lines=True), file=file, err=True)


class MetricFailure(Failure):
    """The same, for a metric that is at fault, and not the command."""

    exit_code = FAILED


class Commands(click.Group):
    """Turns what a command raises into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; smm's errors, Ctrl-C and a closed pipe end it without a traceback."""
        try:
            try:
                with _warnings_as_lines(ctx), _patient_collector():
                    return super().invoke(ctx)
            finally:
                sys.stdout.flush()  # here, where a closed pipe can still be told from other trouble
        except BrokenPipeError:
            _let_go_of_stdout()
            ctx.exit(BROKEN_PIPE)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            failure = _as_failure(error, _target_of(ctx))
            if failure is None:
                raise
            raise failure from error


def _target_of(ctx: click.Context) -> str:
    """The target that a command was given; FILE as long as none is known."""
    return ctx.obj if isinstance(ctx.obj, str) else "FILE"


def _as_failure(error: Exception, target: str) -> Failure | None:
    """The failure that an expected error is; None for mistakes of smm's own."""
    from smm.errors import ConfigError, CorruptMetricError, SmmError

    if isinstance(error, ConfigError):
        count = len(error.problems)
        return Failure(f"{error}\n{count} problem{'s' if count > 1 else ''}")
    if isinstance(error, CorruptMetricError):
        return MetricFailure(f"error: {error.for_command_line(target)}")
    if isinstance(error, SmmError):
        return Failure(f"error: {error.for_command_line(target)}")
    if isinstance(error, OSError) and error.filename is not None:
        return Failure(f"error: {error.filename}: {error.strerror}")
    return None


@contextlib.contextmanager
def _warnings_as_lines(ctx: click.Context) -> Iterator[None]:
    """Show smm's own warnings as one line, without the line of smm's code that gave them."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if category.__module__ == "smm.errors":
            text = getattr(message, "for_command_line", lambda _: str(message))(_target_of(ctx))
            click.echo(visible(f"warning: {text}", lines=True), err=True)
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


_usual = gc.get_threshold()
"""After how many new objects Python looks for garbage."""


@contextlib.contextmanager
def _patient_collector() -> Iterator[None]:
    """Look for garbage less often, and not when Python ends: what a command imports and declares stays."""
    gc.set_threshold(20 * _usual[0], *_usual[1:])
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*_usual)


@contextlib.contextmanager
def usual_collector() -> Iterator[None]:
    """Look for garbage as often as ever: what the user's functions leave may be large."""
    patient = gc.get_threshold()
    gc.set_threshold(*_usual)
    try:
        yield
    finally:
        gc.set_threshold(*patient)


def _let_go_of_stdout() -> None:
    """Send what is still buffered nowhere: Python would complain of the pipe once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
