"""What a manager or a metric may be told about stale values, as a person writes it in code."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from smm._text import parse_time
from smm.errors import closest
from smm.metric import ON_STALE, STALE_ON, OnStale, StaleOn, Trust


def parse_trust(
    on_stale: OnStale | None, max_age: str | timedelta | None, stale_on: Iterable[StaleOn] | None
) -> Trust:
    """The policy that these three arguments of a metric make; None leaves one open.

    Raises:
        ValueError: `on_stale` or a word of `stale_on` is none that is known; `max_age` is no time.
    """
    return Trust(
        on_stale=None if on_stale is None else _known("on_stale", on_stale, ON_STALE),
        max_age_seconds=parse_time("max_age", max_age),
        stale_on=None if stale_on is None else _causes(stale_on),
    )


def parse_manager_trust(
    on_stale: OnStale, max_age: str | timedelta | None, stale_on: Iterable[StaleOn]
) -> Trust:
    """The same for a manager, which leaves nothing open; no `max_age` lets values have any age.

    Raises:
        ValueError: as `parse_trust`, and for None.
    """
    _known("on_stale", on_stale, ON_STALE)
    return parse_trust(on_stale, max_age, _causes(stale_on))


def written_age(seconds: float | None) -> timedelta | None:
    """What a `max_age` argument may be for so many seconds."""
    return None if seconds is None else timedelta(seconds=max(seconds, 1e-6))


def _causes(stale_on: Any) -> tuple[StaleOn, ...]:
    words = (stale_on,) if isinstance(stale_on, str) else stale_on
    if not isinstance(words, Iterable):
        raise ValueError(
            f"stale_on is {words!r}; it must be a list of {', '.join(STALE_ON)}, or an empty one"
        )
    return tuple(dict.fromkeys(_known("stale_on", word, STALE_ON) for word in words))


def _known(argument: str, word: Any, words: tuple[Any, ...]) -> Any:
    if word in words:
        return word
    hint = closest(word, words) if isinstance(word, str) else ""
    raise ValueError(f"{argument} is {word!r}; it must be one of {', '.join(words)}{hint}")
