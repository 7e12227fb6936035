"""Python's garbage collector, kept from looking at what is only just being made."""

from __future__ import annotations

import gc


class collector_paused:  # noqa: N801 - read as a verb: `with collector_paused():`
    """No garbage collection in the whole process meanwhile, for what makes many objects that all stay.

    The collector comes by for every 700 new objects, looks through all there are again and again, and finds
    nothing: half the time of declaring 100,000 rows. What threads lose in cycles meanwhile is found later.
    """

    __slots__ = ("_was_on",)

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()  # else whoever switched it off, perhaps another thread, switches it on
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()
