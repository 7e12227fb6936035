"""How smm writes seconds and bytes for a person."""

from __future__ import annotations


def seconds(duration: float) -> str:
    """A duration, in seconds, to three digits: `412 µs`, `3.05 s`, `2 min 05 s`, `7 h 02 min`."""
    if duration < 1e-3:
        return f"{duration * 1e6:.0f} µs"
    if duration < 1:
        return f"{duration * 1e3:.3g} ms"
    if duration < 60:
        return f"{duration:.3g} s"
    minutes, rest = divmod(round(duration), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(count: float) -> str:
    """A number of bytes: `512 B`, `8.2 kB`, `1.5 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
