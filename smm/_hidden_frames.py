"""The switch that hides smm's own frames where IPython and pytest show an exception."""

from __future__ import annotations


class HiddenFrames:
    """The value of `__tracebackhide__` in the frames between a call of a manager and the user's function.

    IPython and pytest leave out the frames in which it is true when they print a traceback, so that a change
    of `shown` also holds for an exception that was raised before. Python itself prints all frames.
    """

    __slots__ = ("shown",)

    def __init__(self) -> None:
        self.shown = False

    def __bool__(self) -> bool:
        return not self.shown
