"""How the command line begins."""

from __future__ import annotations

from smm._pause import collector_paused


def start(prog_name: str | None = None) -> None:
    """Run the command that the process was started with."""
    with collector_paused():  # all that importing makes stays
        from smm.cli import main
    main(prog_name=prog_name)
