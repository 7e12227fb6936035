"""Dotted paths of a configuration to the objects they name, and which objects may be named.

Three questions, asked in this order: may this path be written at all (`refusal`, nothing is imported); what
does it name (`resolve`, which imports); may that object be used (judged by where it is defined).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from smm._blame import shown
from smm._homes import homes, is_standard, lies_below, module_names
from smm._projects import Mixup, loaded_file, meant_file, mixups, same_file
from smm.errors import closest

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")

_RENAME = "one of the two needs another name, or a process of its own"
_APART = "put CM in a module of its own, or leave `function` out and use @CM.collect"


class UnresolvedError(Exception):
    """A dotted path that names nothing usable; the sentence says why and what to do.

    The exception that the user's own module raised, if that is why, is its `__cause__`.
    """


class AlreadyReportedError(UnresolvedError):
    """The module of this path failed before, for another path of the file."""


class Resolver:
    """Finds what the dotted paths of one configuration name.

    Args:
        pythonpath: absolute folders; appended to `sys.path` on the first import, once a process.
        allow: modules that, with what lies below them, are all that may be named; None allows every
            module outside Python's own.

    Raises:
        TypeError, ValueError: `allow` is no list of dotted module names.
    """

    def __init__(self, pythonpath: Sequence[Path], allow: Iterable[str] | None) -> None:
        self._pythonpath = tuple(pythonpath)
        self._allow = None if allow is None else allow_list(allow)
        self._modules: dict[str, ModuleType] = {}
        self._failed: set[str] = set()
        # What has been answered, by dotted path: a thousand metrics may share a module, or a function.
        self._refusals: dict[str, str | None] = {}
        self._found: dict[str, Any] = {}
        self._fine: set[str] = set()  # modules that may be used

    # --- before anything is imported ---------------------------------------------------------------------

    def refusal(self, path: str) -> str | None:
        """Why `path` may not be written, or None. Imports nothing."""
        if path not in self._refusals:
            self._refusals[path] = self._judged(path)
        return self._refusals[path]

    def _judged(self, path: str) -> str | None:
        parts = path.split(".")
        if not _DOTTED.fullmatch(path):
            return f"{path!r} is no dotted path; write package.module.name"
        if len(parts) == 1:
            return f"{path!r} names no module; write module.name, with the module it is in"
        if parts[0] == "__main__":
            return (
                f"{path!r}: the running script cannot be imported; put its functions in a module of their "
                "own, or leave `function` out and use @CM.collect"
            )
        if any(part.startswith("__") for part in parts):
            return f"{path!r} reaches for Python's inner workings; name a function of a module"
        if self._allow is not None and not lies_below(path, self._allow):
            return f"{path!r} is outside of what the caller allows, {self._allowed()}"
        if is_standard(path):
            return self._standard(path, parts[0])
        return None

    def _allowed(self) -> str:
        return ", ".join(self._allow) if self._allow else "which is nothing (allow=[])"

    def _standard(self, path: str, module: str) -> str:
        hidden = meant_file(module.partition(".")[0], self._pythonpath)
        if hidden is not None:
            return (
                f"{path!r}: Python has a module {module!r} of its own, which hides {hidden}; rename that file"
            )
        return (
            f"{path!r} is part of Python's standard library ({module}), which has no metrics; "
            "name a function of your own, which may call it"
        )

    # --- importing ---------------------------------------------------------------------------------------

    def resolve(self, path: str) -> Any:
        """The object that `path` names, imported if need be.

        Raises:
            UnresolvedError: it may not be named, is not there, or its module could not be imported.
        """
        if path in self._found:
            return self._found[path]
        refused = self.refusal(path)
        if refused is not None:
            raise UnresolvedError(refused)
        thing: Any = None
        parts = path.split(".")
        for depth, part in enumerate(parts):
            here, last = ".".join(parts[: depth + 1]), depth == len(parts) - 1
            thing = self._step(thing, part, here, last) if depth else self._module(here)
            if isinstance(thing, ModuleType) and here not in self._fine:
                self._check_modules(path, here, thing)
                self._fine.add(here)
        if isinstance(thing, ModuleType):
            raise UnresolvedError(f"{path!r} is a module; name something in it{_example(thing, path)}")
        if callable(thing):
            self._check_homes(path, thing)
        self._found[path] = thing
        return thing

    def _step(self, owner: object, part: str, here: str, last: bool) -> Any:
        """One name further: a submodule, or an attribute.

        A function may have the name of the submodule it is in; then a path that ends here means the
        function, and a path that goes on the submodule.
        """
        submodule = isinstance(owner, ModuleType) and "__path__" in vars(owner) and _is_module(here)
        if submodule and not last:
            return self._module(here)
        above = here.rpartition(".")[0]
        if isinstance(owner, ModuleType) and _is_initializing(owner):
            raise UnresolvedError(
                f"module {above!r} is still being imported, and has no {part!r} yet; {_APART}"
            )
        try:
            return getattr(owner, part)
        except AttributeError:
            if submodule:
                return self._module(here)
            raise UnresolvedError(_missing(owner, part, above)) from None
        except Exception as error:  # a lazy module, or a property
            raise UnresolvedError(f"reading {here!r} failed: {shown(error)}") from error

    def _module(self, name: str) -> ModuleType:
        if name in self._failed:
            raise AlreadyReportedError(f"module {name!r} could not be imported")
        if name not in self._modules:
            try:
                self._modules[name] = self._import(name)
            except UnresolvedError:
                self._failed.add(name)
                raise
        return self._modules[name]

    def _import(self, name: str) -> ModuleType:
        self._extend_path()
        self._check_file(name)
        self._check_helpers(name)
        if not _is_module(name):
            raise UnresolvedError(self._no_module(name))
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise UnresolvedError(f"importing {name!r} failed: {shown(error)}") from error
        self._check_helpers(name)  # again: an import may just have found one earlier on sys.path
        return module

    def _extend_path(self) -> None:
        sys.path += [folder for folder in map(str, self._pythonpath) if folder not in sys.path]
        importlib.invalidate_caches()  # the module may have been written a moment ago

    def _check_file(self, name: str) -> None:
        """Refuse a module that is, or would be, imported from another file than the one meant."""
        meant = meant_file(name, self._pythonpath)
        module = sys.modules.get(name)
        found = _file_to_come(name) if module is None else loaded_file(module)
        if meant is not None and not same_file(found, meant):
            how = "would be imported" if module is None else "is already loaded"
            raise UnresolvedError(
                f"module {name!r} should be {meant}, but {how} from {found or 'no file'}; {_RENAME}"
            )
        main = sys.modules.get("__main__")
        if found is not None and main is not None and same_file(loaded_file(main), found):
            raise UnresolvedError(
                f"module {name!r} is the running script, {found}; importing it would run it again; {_APART}"
            )

    def _check_helpers(self, name: str) -> None:
        """Refuse a module whose own imports are, or would be, served from another project."""
        found = [_mixed_up(mixup) for mixup in mixups([name], self._pythonpath)]
        if found:
            raise UnresolvedError("; ".join(found) + f"; {_RENAME}")

    # --- judging what was found --------------------------------------------------------------------------

    def _check_modules(self, path: str, here: str, module: ModuleType) -> None:
        names = module_names(module)
        for name in sorted(names):
            if is_standard(name):
                raise UnresolvedError(self._standard(path, name))
            if self._allow is not None and not lies_below(name, self._allow) and not self._leads_to(here):
                raise UnresolvedError(
                    f"{path!r}: {here} is the module {name}, outside of what the caller allows, "
                    f"{self._allowed()}"
                )

    def _leads_to(self, here: str) -> bool:
        """Whether `here` is a package on the way to an allowed module: it must be imported first."""
        return self._allow is not None and any(entry.startswith(here + ".") for entry in self._allow)

    def _check_homes(self, path: str, thing: object) -> None:
        for home in sorted(homes(thing)):
            inherited = isinstance(thing, type) and home != thing.__module__
            if is_standard(home):
                raise UnresolvedError(
                    f"{path!r} inherits what makes it from Python's standard library ({home}); "
                    "name a function of your own, which may call it"
                    if inherited
                    else self._standard(path, home)
                )
            if self._allow is not None and not lies_below(home, self._allow):
                how = "inherits what makes it from" if inherited else "is defined in"
                raise UnresolvedError(
                    f"{path!r} {how} {home}, outside of what the caller allows, {self._allowed()}"
                )

    # --- sentences ---------------------------------------------------------------------------------------

    def _no_module(self, name: str) -> str:
        parent, _, last = name.rpartition(".")
        if parent:
            known = {info.name for info in pkgutil.iter_modules(sys.modules[parent].__path__)}
            return f"package {parent!r} has no module {last!r}{closest(last, known)}"
        if self._allow is not None and not self._pythonpath:
            return (
                f"no module {name!r} where this process finds modules, and under `allow` the file adds no "
                "folder; give one to from_config(..., pythonpath=[...]), or install the package"
            )
        folders = [str(folder) for folder in self._pythonpath]
        known = {info.name for info in pkgutil.iter_modules(folders)}
        hint = closest(name, known) or "; set `pythonpath`, or install the package"
        return f"no module {name!r} in {' or '.join(folders) or 'pythonpath'}, nor installed{hint}"


def allow_list(allow: Iterable[str]) -> tuple[str, ...]:
    """The modules of an allow-list, without the `.*` that some may end in.

    Raises:
        TypeError, ValueError: it is no list of dotted module names.
    """
    if isinstance(allow, str):
        raise TypeError(f"allow is the str {allow!r}; give a list: allow=[{allow!r}]")
    entries = []
    for entry in allow:
        if not isinstance(entry, str):
            raise TypeError(f"allow has {entry!r}; it must be module names, such as 'mypkg'")
        name = entry.removesuffix(".*")
        if not _DOTTED.fullmatch(name):
            raise ValueError(
                f"allow has {entry!r}, which is no module name; write 'mypkg' or 'mypkg.metrics'"
            )
        entries.append(name)
    return tuple(entries)


def _is_module(name: str) -> bool:
    """Whether `name`, whose package is imported, is loaded or could be found."""
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False


def _file_to_come(name: str) -> Path | None:
    spec = importlib.util.find_spec(name) if _is_module(name) else None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _is_initializing(module: ModuleType) -> bool:
    return bool(getattr(vars(module).get("__spec__"), "_initializing", False))


def _missing(owner: object, part: str, above: str) -> str:
    if isinstance(owner, ModuleType):
        file = loaded_file(owner)
        at = f" ({file})" if file else ""
        return f"module {above!r}{at} has no {part!r}{closest(part, _offered(owner))}"
    return f"{above!r} has no {part!r}{closest(part, dir(owner))}"


def _mixed_up(mixup: Mixup) -> str:
    return (
        f"{mixup.importer} imports {mixup.module!r}, which should be {mixup.meant}, but is already loaded "
        f"from {mixup.loaded or 'no file'}"
    )


def _offered(module: ModuleType) -> list[str]:
    return [name for name in dir(module) if not name.startswith("_")]


def _example(module: ModuleType, path: str) -> str:
    last = path.rpartition(".")[2]
    names = difflib.get_close_matches(last, _offered(module), n=1)
    return f", such as {path}.{names[0]}" if names else ""
