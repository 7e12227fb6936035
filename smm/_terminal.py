"""The console and the texts that smm draws with rich: what others have written stays text on a terminal.

The only module of smm that takes Console and Text from rich.
"""

from __future__ import annotations

from typing import Any

import rich.console
import rich.text
from rich.style import Style

from smm._text import visible


class Text(rich.text.Text):
    """A text in one line; characters that would change what a terminal does are visible in it."""

    def __init__(self, text: str = "", style: str | Style = "", **how: Any) -> None:
        # Rich drops some control characters without a word, and lets others pass.
        super().__init__(visible(text), style, **how)

    def append(self, text: rich.text.Text | str, style: str | Style | None = None) -> rich.text.Text:
        """Append a text, by which `assemble` makes one of several parts."""
        return super().append(visible(text) if isinstance(text, str) else text, style)


class Console(rich.console.Console):
    """A console that takes a str as it is: without markup, emoji codes and highlighting."""

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)

    def render_str(self, text: str, **how: Any) -> rich.text.Text:
        """Make a text of a str that is printed, or that stands in a table; its lines stay lines."""
        return super().render_str(visible(text, lines=True), **how)
