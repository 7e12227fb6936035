"""The modules of a user's project, loaded or not: what a name of one means, by its source and as it runs."""

from __future__ import annotations

import ast
import importlib.machinery
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

from smm._imported import is_project_file, mark_of
from smm._project_files import file_source, module_source, text_source
from smm._statements import Bound, Source, UnreadError
from smm._syntax_dump import Chain, chain_of


class Missing:
    """The class of `MISSING`."""


MISSING = Missing()
"""In place of the value of a name that has none, or whose module is not loaded."""

Mark: TypeAlias = tuple[str, Mapping[str, Any] | None, object]
"""A module's name, its globals if it is loaded, and what `mark_of` says of them."""


class Place:
    """A module.

    Args:
        name: its dotted name.
        file: its source; None for a notebook, and for a package without a file.
        namespace: its globals, if it is loaded.
        package: what its relative imports start from.
        is_registered: whether the module is to be found by its name.
    """

    def __init__(
        self,
        name: str,
        file: str | None,
        namespace: Mapping[str, Any] | None,
        package: str,
        *,
        is_registered: bool = True,
    ) -> None:
        self.name = name
        self.file = file
        self.namespace = namespace
        self.package = package
        self._is_registered = is_registered
        self._read_here: dict[str, FunctionType | type] = {}
        self.mark: Mark = name, namespace, None if namespace is None else mark_of(namespace)
        """To know later whether its name still means this module, as it was when it was looked at."""
        self.shown = _shown(name, file, namespace)
        """The name by which a person knows it: a script by its file's."""
        self._source: Source | None = None
        self._known_bounds: dict[str, tuple[Source | None, Sequence[Bound]]] = {}
        self.is_package = package == name or (namespace is not None and "__path__" in namespace)

    # --- as it runs -------------------------------------------------------------------------------------

    def value(self, name: str) -> Any:
        """Return the value that a name of it has now; `MISSING` if it has none, or is not loaded."""
        value = MISSING if self.namespace is None else self.namespace.get(name, MISSING)
        if self.file is None and isinstance(value, FunctionType | type):
            self._read_here[name] = value
        return value

    def defines_the_same(self) -> bool:
        """Return whether the functions and classes of a notebook are still those that were looked at.

        A module in a file is defined again by an import, which its mark tells.
        """
        namespace = self.namespace or {}
        return all(namespace.get(name) is value for name, value in self._read_here.items())

    def read(self, chain: Chain) -> Any:
        """What a name and further names of modules mean now; of nothing but modules are attributes read."""
        value = self.value(chain[0])
        for attribute in chain[1:]:
            if not isinstance(value, ModuleType):
                return MISSING
            value = vars(value).get(attribute, MISSING)
        return value

    # --- by its source ----------------------------------------------------------------------------------

    @property
    def source(self) -> Source:
        """Its source.

        Raises:
            UnreadError: it cannot be had, or is not what was imported.
        """
        if self._source is None:
            if self.file is None:
                raise UnreadError(f"the module {self.name} has no file")
            if self.namespace is not None and self._is_registered:
                self._source = module_source(self.namespace, self.file)
            else:
                self._source = file_source(self.file)
        return self._source

    def source_of(self, code: CodeType) -> Source:
        """The source of code that runs in it.

        Raises:
            UnreadError: it cannot be had, or is not what was imported.
        """
        if self.holds(code):
            return self.source
        if self.file is not None and not is_project_file(code.co_filename):
            # IPython's autoreload compiles a decorated function anew under the file name of its decorator.
            return self.source
        try:
            return file_source(code.co_filename)  # a cell
        except UnreadError:
            if self.file is None:
                raise
            return self.source  # cloudpickle forgets where code is from

    def holds(self, code: CodeType) -> bool:
        """Whether code is written in its file; a decorator may have made up other methods of a class."""
        return self.file is not None and os.path.abspath(code.co_filename) == os.path.abspath(self.file)

    def runs(self, function: FunctionType) -> bool:
        """Whether a function is of this module. In a process of multiprocessing a script's is two of them."""
        return function.__globals__ is self.namespace or self.holds(function.__code__)

    def absolute(self, module: str, level: int) -> str:
        """The name of a module that one of its imports means, with so many dots before it."""
        if level == 0:
            return module
        above = self.package.split(".")
        return ".".join(part for part in (*above[: len(above) - level + 1], module) if part)

    def sources(self) -> Iterator[Source]:
        """Its source, or the cells of a notebook, the last one first, that can be read."""
        if self.file is not None:
            yield self.source
        for text in reversed(self._cells()):
            try:
                yield text_source("a cell", text)
            except UnreadError:  # it failed when it was run, too
                continue

    def _cells(self) -> Sequence[str]:
        cells = self.value("In") if self.file is None else None
        return cells if isinstance(cells, list) and all(isinstance(each, str) for each in cells) else ()

    def bounds(self, name: str) -> Sequence[Bound]:
        """The statements by which a name of it has its meaning.

        In a notebook those of one cell: the one that the function comes from, else the last that has some.
        """
        return self._bound(name)[1]

    def setters(self, name: str) -> Sequence[str]:
        """Names of functions of it that give `name` another value, by `global`."""
        source = self._bound(name)[0]
        sources = self.sources() if source is None else iter((source,))
        return [setter for each in sources for setter in each.setters.get(name, ())]

    def _bound(self, name: str) -> tuple[Source | None, Sequence[Bound]]:
        known = self._known_bounds.get(name)
        if known is None:
            found = ((source, source.bound[name]) for source in self._likely(name) if name in source.bound)
            known = self._known_bounds[name] = next(found, (None, ()))
        return known

    def _likely(self, name: str) -> Iterator[Source]:
        if self.file is None:
            for function in wrapped(self.value(name)):
                if isinstance(function, FunctionType) and function.__globals__ is self.namespace:
                    yield file_source(function.__code__.co_filename)
        yield from self.sources()

    def own_names(self) -> list[str]:
        """All names it defines itself."""
        return [
            name
            for source in self.sources()
            for name, bounds in source.bound.items()
            if any(each.alias is None and each.binds for each in bounds)
        ]

    def stars(self) -> Iterator[ast.ImportFrom]:
        """Its `from module import *`, the last one first."""
        for source in self.sources():
            yield from reversed(source.stars)

    def provides(self, name: str) -> bool:
        """Whether `from this import *` could give a name."""
        return self.value(name) is not MISSING or bool(self.bounds(name))

    # --- what smm adds ----------------------------------------------------------------------------------

    def is_collecting(self, decorator: ast.expr) -> bool:
        """Whether a decorator is `CM.collect`, bare or called, as far as can be told what `CM` is."""
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        chain = chain_of(called)
        if chain is None:
            return isinstance(called, ast.Attribute) and called.attr == "collect"
        if len(chain) > 1:
            owner = self.read(chain[:-1])
            return chain[-1] == "collect" and (owner is MISSING or is_smm(owner))
        value = self.value(chain[0])
        while isinstance(value, partial):
            value = value.func
        return isinstance(value, MethodType) and value.__name__ == "collect" and is_smm(value.__self__)


def _shown(name: str, file: str | None, namespace: Mapping[str, Any] | None) -> str:
    if name not in ("__main__", "__mp_main__") or namespace is None:
        return name
    spec = namespace.get("__spec__")
    if isinstance(spec, ModuleSpec):  # python -m
        return spec.name
    return name if file is None else os.path.splitext(os.path.basename(file))[0]


# --- finding modules --------------------------------------------------------------------------------------


def loaded_namespace(name: str) -> Mapping[str, Any] | None:
    """The globals of a module that is loaded; None if it is not."""
    namespace = getattr(sys.modules.get(name), "__dict__", None)  # any object may stand there
    return namespace if isinstance(namespace, dict) else None


def are_current(marks: Iterable[Mark]) -> bool:
    """Whether all these names still mean these modules, as they were when they were looked at."""
    modules = sys.modules
    for name, namespace, mark in marks:
        now = getattr(modules.get(name), "__dict__", None)
        if now is not namespace and not (namespace is None and not isinstance(now, dict)):
            return False
        if namespace is not None and mark_of(namespace) is not mark:
            return False
    return True


def find(name: str) -> Place | None:
    """The module of a dotted name; None if it is not of the user's project, or nowhere. Imports nothing."""
    namespace = loaded_namespace(name)
    if namespace is not None:
        return _loaded(name, namespace)
    spec = _spec(name)
    if spec is None or not _is_project(spec.origin, spec.submodule_search_locations):
        return None
    is_package = spec.submodule_search_locations is not None
    file = spec.origin if spec.has_location else None
    return Place(name, file, None, name if is_package else name.rpartition(".")[0])


def _loaded(name: str, namespace: Mapping[str, Any]) -> Place | None:
    file, path = namespace.get("__file__"), namespace.get("__path__")
    is_main = name == "__main__"
    made_by_hand = namespace.get("__spec__") is None and name not in sys.stdlib_module_names
    if not (_is_project(file, path) or (file is None and path is None and (is_main or made_by_hand))):
        return None
    package = namespace.get("__package__")
    if not isinstance(package, str):
        package = name if path is not None else name.rpartition(".")[0]
    return Place(name, file if isinstance(file, str) else None, namespace, package)


def unregistered(namespace: Mapping[str, Any], file: str) -> Place | None:
    """The globals of a function whose module is not found by its name: it came by pickle, or by `exec`."""
    own = namespace.get("__file__")
    file = own if isinstance(own, str) else file
    if not _is_project(file, None):
        return None
    package = namespace.get("__package__")
    known = file if os.path.isfile(file) else None
    name = str(namespace.get("__name__", "__main__"))
    return Place(name, known, namespace, package if isinstance(package, str) else "", is_registered=False)


def _is_project(file: object, path: object) -> bool:
    if isinstance(file, str) and file != "namespace":
        return is_project_file(file)
    folders = list(path) if isinstance(path, list | tuple) or hasattr(path, "__iter__") else []
    return any(is_project_file(os.path.join(folder, "__init__.py")) for folder in folders)


def _spec(name: str) -> ModuleSpec | None:
    """Where a module would be imported from, as `importlib` would find it, but without importing packages."""
    spec: ModuleSpec | None = None
    path: Sequence[str] | None = None
    parts = name.split(".")
    for depth in range(len(parts)):
        if depth and path is None:
            return None
        here = ".".join(parts[: depth + 1])
        found = (finder.find_spec(here, path) for finder in _finders())
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def _finders() -> list[Any]:
    """What finds modules in folders, and in those of packages that are installed to be edited."""
    editable = [
        each for each in sys.meta_path if str(getattr(each, "__module__", "")).startswith("__editable__")
    ]
    return [importlib.machinery.PathFinder, *editable]


# --- looking at values ------------------------------------------------------------------------------------

_OWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def is_smm(value: object) -> bool:
    """Whether a value is a manager, a storage or another object of smm's, also of a class derived from one.

    So is `CM.<name>`: what it gives is read as a metric, and is no code.
    """
    if isinstance(value, FunctionType):
        return _is_of_smm(value) and "original_function" in vars(value)
    if isinstance(value, MethodType):
        return is_smm(value.__self__)
    if value is MISSING or isinstance(value, type | ModuleType):
        return False
    return any(module_of(base).partition(".")[0] == "smm" for base in type(value).__mro__)


def module_of(kind: type) -> str:
    """The name of the module that a class says it is from; empty if it says nothing of the kind."""
    module: Any = kind.__module__
    return module if isinstance(module, str) else ""


def undecorated(value: Any) -> Any:
    """A function without what `@CM.collect` put around it."""
    while isinstance(value, FunctionType) and _is_of_smm(value) and "__wrapped__" in vars(value):
        value = vars(value)["__wrapped__"]
    return value


def _is_of_smm(function: FunctionType) -> bool:
    return function.__code__.co_filename.startswith(_OWN)


def own_dict(value: Any) -> dict[str, Any]:
    """The attributes that an object holds in its `__dict__`; its class is not asked for it."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return own if isinstance(own, dict) else {}


def wrapped(value: Any) -> Iterator[Any]:
    """A value, and what it says it wraps, and what that does: `functools.wraps`, numba, `numpy.vectorize`."""
    seen: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if id(here) in seen:
            continue
        seen[id(here)] = here
        yield here
        if isinstance(here, MethodType | staticmethod | classmethod):
            waiting.append(here.__func__)
        elif isinstance(here, partial):
            waiting.append(here.func)
        elif isinstance(here, property):
            waiting += [each for each in (here.fget, here.fset, here.fdel) if each is not None]
        elif not isinstance(here, type | ModuleType):
            own = own_dict(here)
            waiting += [own[key] for key in _WRAPPED_AS if callable(own.get(key))]


_WRAPPED_AS = ("__wrapped__", "py_func", "pyfunc", "func")
