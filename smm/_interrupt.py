"""Ctrl-C and SIGTERM while many metrics are computed: the first asks to stop, the second stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def asked_politely(first: Callable[[], None]) -> Iterator[None]:
    """Call `first` at the first Ctrl-C or SIGTERM; raise KeyboardInterrupt at the next, wherever the code is.

    Outside of the main thread, to which Python gives signals, nothing is changed; nor for a signal that is
    ignored, as shells have Ctrl-C ignored by what they run in the background.

    Args:
        first: called in the main thread, between any two instructions: it may set a flag or fill a
            `queue.SimpleQueue`, and print.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True
        first()

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            # None: one that was not set from Python, and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
