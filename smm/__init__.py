"""smm: named metrics, computed once, dated, kept where a person can find them.

The door only. Each public name is imported from its room when it is first asked for, so that
`import smm` costs the standard library's import and nothing else.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # to type checkers as good as that of `typing`, which takes a while to import
if TYPE_CHECKING:
    from typing import Any

    from smm import errors as errors
    from smm import testing as testing
    from smm.build import from_config as from_config
    from smm.collected import CollectedMetric as CollectedMetric
    from smm.config import Config as Config
    from smm.config import load_config as load_config
    from smm.identity import legacy_metric_name as legacy_metric_name
    from smm.manager import DatedCacheManager as DatedCacheManager
    from smm.manager import ParameterizedDatedCacheManager as ParameterizedDatedCacheManager
    from smm.metric import Metric as Metric
    from smm.metric import Record as Record
    from smm.protocols import StorageInterface as StorageInterface
    from smm.run import RunReport as RunReport
    from smm.storage import FileBasedStorageInterface as FileBasedStorageInterface
    from smm.storage import JsonStorageInterface as JsonStorageInterface
    from smm.storage import MemoryStorageInterface as MemoryStorageInterface
    from smm.storage import NpyStorageInterface as NpyStorageInterface
    from smm.storage import NpzStorageInterface as NpzStorageInterface

    DataCacheManager = DatedCacheManager
    ParameterizedDataCacheManager = ParameterizedDatedCacheManager

_ROOMS = {
    "build": ("from_config",),
    "collected": ("CollectedMetric",),
    "config": ("Config", "load_config"),
    "identity": ("legacy_metric_name",),
    "manager": ("DatedCacheManager", "ParameterizedDatedCacheManager"),
    "metric": ("Metric", "Record"),
    "protocols": ("StorageInterface",),
    "run": ("RunReport",),
    "storage": (
        "FileBasedStorageInterface",
        "JsonStorageInterface",
        "MemoryStorageInterface",
        "NpyStorageInterface",
        "NpzStorageInterface",
    ),
}
# The names that the predecessor's README uses.
_ALIASES = {
    "DataCacheManager": "DatedCacheManager",
    "ParameterizedDataCacheManager": "ParameterizedDatedCacheManager",
}
_MODULES = ("errors", "testing")
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = ["__version__", *_HOME, *_ALIASES, *_MODULES]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    from smm._pause import collector_paused

    if name in _MODULES:
        return import_module(f"smm.{name}")
    real = _ALIASES.get(name, name)
    if real not in _HOME:
        raise AttributeError(f"module 'smm' has no attribute {name!r}")
    with collector_paused():  # all that importing makes stays
        value = globals()[name] = getattr(import_module(f"smm.{_HOME[real]}"), real)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
