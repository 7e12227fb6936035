"""Hypothesis profiles, and what every test gets."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# Tests edit modules twice within a second; Python would run the bytecode of the first edit, also in children.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

# `dev` is the default suite; a time bound would make a slow machine look like a wrong answer.
_QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "dev", max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=_QUIET
)
settings.register_profile("ci", parent=settings.get_profile("dev"), max_examples=80, derandomize=True)
settings.register_profile(
    "nightly", parent=settings.get_profile("dev"), max_examples=3000, stateful_step_count=80
)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")
settings.load_profile(_PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long variants")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or _PROFILE == "nightly":
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="a long variant: --slow or HYPOTHESIS_PROFILE=nightly"))
