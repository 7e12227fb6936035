"""Dotted paths: what they name, what may be named, and which file a module should come from."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from smm._homes import homes
from smm._resolve import AlreadyReportedError, Resolver, UnresolvedError, allow_list
from tests.projects import Project, project

__all__ = ["project"]


def resolve(project: Project, path: str, allow: list[str] | None = None) -> Any:
    return Resolver([project.folder], allow).resolve(path)


def refusal(project: Project, path: str, allow: list[str] | None = None) -> str:
    with pytest.raises(UnresolvedError) as caught:
        resolve(project, path, allow)
    return str(caught.value)


# --- finding --------------------------------------------------------------------------------------------


def test_a_function_a_method_and_a_nested_attribute_are_found(project: Project) -> None:
    project.write(
        "find_me.py",
        """
        def f(): return 1
        class Group:
            @staticmethod
            def g(): return 2
            class Inner:
                @classmethod
                def h(cls): return 3
        one = Group()
        """,
    )
    assert resolve(project, "find_me.f")() == 1
    assert resolve(project, "find_me.Group.g")() == 2
    assert resolve(project, "find_me.Group.Inner.h")() == 3
    assert resolve(project, "find_me.one.g")() == 2


def test_a_submodule_is_imported_on_the_way(project: Project) -> None:
    project.write("pack_a/__init__.py", "")
    project.write("pack_a/deep/__init__.py", "")
    project.write("pack_a/deep/leaf.py", "def f(): return 4")
    assert resolve(project, "pack_a.deep.leaf.f")() == 4


def test_a_package_without_init_works(project: Project) -> None:
    project.write("spread/leaf.py", "def f(): return 5")
    assert resolve(project, "spread.leaf.f")() == 5


def test_a_function_may_have_the_name_of_its_module(project: Project) -> None:
    project.write("pack_b/__init__.py", "from pack_b.analysis import analysis")
    project.write("pack_b/analysis.py", "def analysis(): return 6\ndef other(): return 7")
    assert resolve(project, "pack_b.analysis")() == 6
    assert resolve(project, "pack_b.analysis.other")() == 7


def test_pythonpath_is_appended_once_and_stays(project: Project) -> None:
    project.write("once_a.py", "def f(): ...")
    project.write("once_b.py", "def f(): ...")
    before = list(sys.path)
    resolve(project, "once_a.f")
    resolve(project, "once_b.f")
    assert sys.path == [*before, str(project.folder)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("find_you.fun", "module 'find_you' ({folder}/find_you.py) has no 'fun'; did you mean 'func'?"),
        ("find_yuo.f", "no module 'find_yuo' in {folder}, nor installed; did you mean 'find_you'?"),
        (
            "pack_c.leef.f",
            "module 'pack_c' ({folder}/pack_c/__init__.py) has no 'leef'; did you mean 'leaf'?",
        ),
        ("find_you.Box.nope", "'find_you.Box' has no 'nope'"),
        ("pack_c.leaf", "'pack_c.leaf' is a module; name something in it"),
        ("f", "'f' names no module; write module.name, with the module it is in"),
        ("find_you.f()", "'find_you.f()' is no dotted path; write package.module.name"),
        ("find_you..f", "'find_you..f' is no dotted path; write package.module.name"),
        ("find_you.f.__globals__", "'find_you.f.__globals__' reaches for Python's inner workings; "),
        ("__main__.f", "'__main__.f': the running script cannot be imported; "),
    ],
)
def test_what_is_not_there_is_named_with_the_way_out(project: Project, path: str, message: str) -> None:
    project.write("find_you.py", "def f(): ...\ndef func(): ...\nclass Box: ...")
    project.write("pack_c/__init__.py", "from pack_c import leaf")
    project.write("pack_c/leaf.py", "")
    assert refusal(project, path).startswith(message.format(folder=project.folder))


# --- importing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import smm_needs_this", "ModuleNotFoundError: No module named 'smm_needs_this' ({file}:1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero ({file}:2)"),
        ("def f(:", "SyntaxError: invalid syntax ({file}:1)"),
        ("import sys\nsys.exit('no')", "SystemExit: no ({file}:2)"),
        ("raise ValueError", "ValueError ({file}:1)"),
        ("raise ValueError('one\\ntwo')", "ValueError: one ({file}:1)"),
    ],
)
def test_what_the_users_module_raises_is_shown_with_its_own_line(
    project: Project, code: str, message: str
) -> None:
    file = project.write("broken.py", code)
    assert refusal(project, "broken.f") == f"importing 'broken' failed: {message.format(file=file)}"


def test_the_users_exception_is_the_cause(project: Project) -> None:
    project.write("broken_too.py", "import smm_needs_this")
    with pytest.raises(UnresolvedError) as caught:
        resolve(project, "broken_too.f")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_module_that_failed_is_not_imported_again_for_the_next_path(project: Project) -> None:
    project.write("fails_once.py", "import builtins\nbuiltins.smm_tries = builtins.smm_tries + 1\n1 / 0")
    import builtins

    vars(builtins)["smm_tries"] = 0
    try:
        resolver = Resolver([project.folder], None)
        with pytest.raises(UnresolvedError):
            resolver.resolve("fails_once.f")
        with pytest.raises(AlreadyReportedError):
            resolver.resolve("fails_once.g")
        assert vars(builtins)["smm_tries"] == 1
    finally:
        del vars(builtins)["smm_tries"]


def test_a_lazy_module_that_raises_is_no_traceback(project: Project) -> None:
    file = project.write("lazy.py", "def __getattr__(name):\n    raise RuntimeError('not today')")
    assert refusal(project, "lazy.f") == f"reading 'lazy.f' failed: RuntimeError: not today ({file}:2)"


def test_a_module_still_being_imported_is_refused(project: Project) -> None:
    project.write(
        "in_progress.py",
        """
        import pathlib
        from smm._resolve import Resolver
        Resolver([pathlib.Path(__file__).parent], None).resolve("in_progress.f")
        def f(): ...
        """,
    )
    assert "module 'in_progress' is still being imported, and has no 'f' yet" in refusal(
        project, "in_progress.f"
    )


def test_a_package_being_imported_may_name_its_submodules(project: Project) -> None:
    project.write(
        "pack_d/__init__.py",
        """
        import pathlib
        from smm._resolve import Resolver
        resolver = Resolver([pathlib.Path(__file__).parent.parent], None)
        found = resolver.resolve("pack_d.leaf.f")
        """,
    )
    project.write("pack_d/leaf.py", "def f(): return 8")
    assert resolve(project, "pack_d.found")() == 8


def test_the_running_script_is_refused_under_its_other_name(project: Project) -> None:
    script = project.write(
        "script.py",
        """
        import pathlib
        from smm._resolve import Resolver, UnresolvedError
        def f(): ...
        if __name__ == "__main__":
            try:
                Resolver([pathlib.Path(__file__).parent], None).resolve("script.f")
            except UnresolvedError as error:
                print(error)
        else:
            print("imported")
        """,
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        f"module 'script' is the running script, {script}; importing it would run it"
    )


# --- another file than the one meant --------------------------------------------------------------------


def test_a_module_loaded_from_another_project_is_refused_naming_both(project: Project) -> None:
    one = project.write("one/twin.py", "def f(): return 1")
    two = project.write("two/twin.py", "def f(): return 2")
    assert Resolver([one.parent], None).resolve("twin.f")() == 1
    with pytest.raises(UnresolvedError) as caught:
        Resolver([two.parent], None).resolve("twin.f")
    assert f"'twin' should be {two}, but is already loaded from {one}; " in str(caught.value)


def test_a_module_that_an_earlier_folder_would_give_is_refused(project: Project) -> None:
    one = project.write("one/early.py", "raise RuntimeError('must not run')")
    two = project.write("two/early.py", "def f(): ...")
    sys.path.insert(0, str(one.parent))
    with pytest.raises(UnresolvedError) as caught:
        Resolver([two.parent], None).resolve("early.f")
    assert f"'early' should be {two}, but would be imported from {one}; " in str(caught.value)


@pytest.mark.parametrize(
    "importing",
    [
        "import helpers_x",
        "from helpers_x import value",
        "from helpers_x import *",
        "def f():\n    import helpers_x",
        "import between_x",
    ],
)
def test_a_helper_of_another_project_is_refused_naming_both(project: Project, importing: str) -> None:
    helper = project.write("one/helpers_x.py", "value = 1")
    project.write("one/first_x.py", "from helpers_x import value\ndef f(): ...")
    other = project.write("two/helpers_x.py", "value = 2")
    project.write("two/between_x.py", "import helpers_x")
    importer = project.write("two/second_x.py", f"{importing}\nraise RuntimeError('must not run')")
    Resolver([helper.parent], None).resolve("first_x.f")
    with pytest.raises(UnresolvedError) as caught:
        Resolver([other.parent], None).resolve("second_x.f")
    message = str(caught.value)
    assert f"imports 'helpers_x', which should be {other}, but is already loaded from {helper}" in message
    assert str(importer if "between" not in importing else other.with_name("between_x.py")) in message


def test_a_helper_in_a_package_of_folders_is_checked_too(project: Project) -> None:
    helper = project.write("one/shared_y/helpers.py", "")
    project.write("one/first_y.py", "import shared_y.helpers\ndef f(): ...")
    other = project.write("two/shared_y/helpers.py", "")
    project.write("two/second_y.py", "from shared_y import helpers\ndef f(): ...")
    Resolver([helper.parents[1]], None).resolve("first_y.f")
    with pytest.raises(UnresolvedError, match=r"imports 'shared_y\.helpers'") as caught:
        Resolver([other.parents[1]], None).resolve("second_y.f")
    assert str(helper) in str(caught.value)


def test_a_helper_found_earlier_on_the_path_is_refused(project: Project) -> None:
    earlier = project.write("one/helpers_z.py", "")
    other = project.write("two/helpers_z.py", "")
    project.write("two/second_z.py", "import helpers_z\ndef f(): ...")
    sys.path.insert(0, str(earlier.parent))
    with pytest.raises(UnresolvedError, match="imports 'helpers_z'"):
        Resolver([other.parent], None).resolve("second_z.f")


def test_equal_names_that_nobody_imports_do_not_matter(project: Project) -> None:
    project.write("one/unused_w.py", "")
    project.write("one/first_w.py", "import unused_w\ndef f(): ...")
    project.write("two/unused_w.py", "")
    project.write("two/second_w.py", "def f(): return 9")
    Resolver([project.folder / "one"], None).resolve("first_w.f")
    assert Resolver([project.folder / "two"], None).resolve("second_w.f")() == 9


def test_a_link_to_the_same_file_is_the_same_file(project: Project) -> None:
    project.write("real/linked.py", "def f(): return 10")
    (project.folder / "link").symlink_to(project.folder / "real")
    Resolver([project.folder / "real"], None).resolve("linked.f")
    assert Resolver([project.folder / "link"], None).resolve("linked.f")() == 10


# --- the standard library -------------------------------------------------------------------------------

TOOLBOX = """
    import builtins, contextlib, functools, logging, operator, os, pathlib, posixpath, shutil, subprocess, sys
    from os import system
    from functools import partial
    import numpy as np

    def own(x): return x
    renamed = os.system
    part = partial(os.system, "true")
    part_of_part = partial(partial(os.system), "true")
    disguised = functools.update_wrapper(partial(os.system), own)
    wrapped = functools.wraps(os.system)(lambda *args: 0)
    cached = functools.lru_cache(os.listdir)
    maker = operator.methodcaller("unlink")
    getter = operator.itemgetter(0)
    method = pathlib.Path("x").unlink
    slot = str.join
    bound_slot = "x".join
    wrapper_slot = (1).__add__
    items = []
    vector = np.vectorize(os.system)
    class Caller(contextlib.ContextDecorator): pass
    caller = Caller()
    class Shell(subprocess.Popen): pass
    communicate = Shell.communicate
    Path = pathlib.Path
    sys.modules["toolbox_os"] = os
    os_alias = os
"""


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "subprocess.run",
        "logging.os.system",
        "toolbox.system",
        "toolbox.renamed",
        "toolbox.os.system",
        "toolbox.os_alias.getcwd",
        "toolbox.logging.os.system",
        "toolbox.part",
        "toolbox.part_of_part",
        "toolbox.disguised",
        "toolbox.wrapped",
        "toolbox.cached",
        "toolbox.maker",
        "toolbox.getter",
        "toolbox.method",
        "toolbox.slot",
        "toolbox.bound_slot",
        "toolbox.wrapper_slot",
        "toolbox.items.append",
        "toolbox.vector",
        "toolbox.caller",
        "toolbox.communicate",
        "toolbox.Path",
        "toolbox.shutil.rmtree",
        "toolbox_os.system",
    ],
)
def test_the_standard_library_is_refused_wherever_it_hides(project: Project, path: str) -> None:
    project.write("toolbox.py", TOOLBOX)
    resolve(project, "toolbox.own")
    assert "is part of Python's standard library" in refusal(project, path)
    with pytest.raises(UnresolvedError):
        resolve(project, path, ["toolbox", "toolbox_os", "os", "posix", "builtins", "subprocess", "logging"])


def test_a_path_into_the_standard_library_imports_nothing(project: Project) -> None:
    code = (
        "import sys; from smm._resolve import Resolver; r = Resolver([], None); "
        "print(r.refusal('wave.open') is not None, 'wave' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_file_hidden_by_the_standard_library_is_named(project: Project) -> None:
    file = project.write("statistics.py", "def f(): ...")
    assert "which hides" in refusal(project, "statistics.f")
    assert str(file) in refusal(project, "statistics.f")


def test_wrappers_of_own_functions_are_own(project: Project) -> None:
    project.write(
        "wrappers.py",
        """
        import contextlib, functools
        def own(x): return x
        cached = functools.lru_cache(own)
        part = functools.partial(own, 1)
        manager = contextlib.contextmanager(own)
        class Callable:
            def __call__(self): return 1
            def method(self): return 2
        one = Callable()
        method = one.method
        class Table(dict):
            def rows(self): return 3
        table = Table()
        """,
    )
    for name in ("cached", "part", "manager", "one", "method", "Callable", "table.rows", "Table"):
        assert callable(resolve(project, f"wrappers.{name}", ["wrappers"]))


# --- what is inherited ----------------------------------------------------------------------------------

MANY = """
    import abc, collections, contextlib, ctypes, dataclasses, datetime, enum, functools, io, operator, os
    import sqlite3, subprocess, threading, typing
    import attrs
    import numpy as np
    import smm
    from smm import StorageInterface
    from outside_m import Base, Caller, Meta

    def own(x=1): return x

    # Methods in C, inherited from the standard library.
    class DB(sqlite3.Connection):
        def rows(self): return []
    class Quiet(DB):
        def __init__(self): super().__init__(":memory:")
        def executescript(self, text): return text
    quiet = db = Quiet()
    db.close()
    execute = db.execute
    loud = super(Quiet, quiet).executescript
    part_of_execute = functools.partial(db.execute)
    wrapped_execute = functools.update_wrapper(functools.partial(db.execute), own)
    class Table(dict):
        def rows(self): return list(self)
    table = Table()
    class Word(str): ...
    class Stamp(datetime.datetime):
        @classmethod
        def year_of(cls, text): return int(text)
    class File(io.BytesIO): ...
    file = File()
    type_of = type(table).mro

    # Constructors.
    class Proc(subprocess.Popen): ...
    class Again(Proc): ...
    class Echo(subprocess.Popen):
        def __init__(self, word): super().__init__(["echo", word])
    class Worker(threading.Thread): ...
    class MadeBy:
        __new__ = staticmethod(subprocess.Popen)
    class StartedBy:
        __init__ = subprocess.Popen.__init__
    class Runs(type):
        __call__ = staticmethod(subprocess.run)
    class Run(metaclass=Runs): ...
    class Single(type):
        def __call__(cls, *args): return super().__call__(*args)
    class One(metaclass=Single): ...
    part_of_proc = functools.partial(Proc)
    class Vector(np.ndarray): ...
    class Child(Base): ...
    class Grown(Base):
        def __init__(self, a): self.a = a
    class Foreign(metaclass=Meta): ...

    # Instances that can be called.
    class Shell:
        __call__ = staticmethod(os.system)
    shell = Shell()
    class Builtin:
        __call__ = os.system
    builtin = Builtin()
    class Part(functools.partial): ...
    part_of_system = Part(os.system)
    part_of_own = Part(own)
    class Loud(functools.partial):
        __call__ = staticmethod(os.system)
    loud_part = Loud(own)
    class Inherits(Caller): ...
    inherits = Inherits()
    class Called:
        def __call__(self): return 1
        method = functools.partialmethod(lambda self, x: x, 2)
        system = functools.partialmethod(os.system, "true")
        @functools.singledispatchmethod
        def by_type(self, x): return x
    called = Called()
    class Circle: ...
    circle = Circle()
    Circle.__call__ = circle
    methodcaller = operator.methodcaller("execute")
    libc = ctypes.CDLL(None)

    # What only builds a value.
    @dataclasses.dataclass
    class Data: a: int = 1
    @dataclasses.dataclass(frozen=True, slots=True)
    class Frozen: a: int = 1
    @attrs.define
    class Defined: a: int = 1
    @attrs.frozen(kw_only=True)
    class Strict: a: int = 1
    class Pair(typing.NamedTuple): a: int = 1
    class Peak(collections.namedtuple("Peak", "a b")): ...
    class Words(typing.TypedDict): a: int
    class Colour(enum.Enum): RED = 1
    class Level(enum.IntEnum): LOW = 1
    class Side(enum.StrEnum): LEFT = "left"
    class Flags(enum.Flag): A = 1
    class Mistake(Exception): ...
    class NoFile(FileNotFoundError): ...
    class Shape(abc.ABC): ...
    T = typing.TypeVar("T")
    class Box(typing.Generic[T]): ...
    class Area(typing.Protocol):
        def area(self): ...
    class Square(Area): ...
    class Folder(smm.JsonStorageInterface): ...
    class Memory(smm.MemoryStorageInterface): ...
    class Keeper(StorageInterface):
        def exists(self, name): return False

    static = staticmethod(own)
    vector = np.vectorize(own)
    dispatch = functools.singledispatch(own)
    context = contextlib.contextmanager(own)
    """

OUTSIDE = """
    class Base:
        def __init__(self, a=1): self.a = a
        def method(self): return 1
    class Caller:
        def __call__(self): return 1
    class Meta(type):
        def __call__(cls): return 1
    """


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("db.executescript", None),  # overridden
        ("db.execute", "sqlite3"),
        ("execute", "sqlite3"),
        ("loud", "sqlite3"),
        ("part_of_execute", "sqlite3"),
        ("wrapped_execute", "sqlite3"),
        ("DB.execute", "sqlite3"),
        ("DB.rows", None),
        ("db.rows", None),
        ("DB", "sqlite3"),
        ("db", "sqlite3"),
        ("Quiet", None),
        ("table.update", "builtins"),
        ("table.rows", None),
        ("Table.fromkeys", "builtins"),
        ("Table.mro", "builtins"),
        ("type_of", "builtins"),
        ("Word.maketrans", "builtins"),
        ("Stamp", "datetime"),
        ("Stamp.fromtimestamp", "datetime"),
        ("Stamp.year_of", None),
        ("File", "_io"),
        ("file.write", "_io"),
        ("Proc", "subprocess"),
        ("Again", "subprocess"),
        ("Proc.communicate", "subprocess"),
        ("Echo", None),
        ("Worker", "threading"),
        ("MadeBy", "subprocess"),
        ("StartedBy", "subprocess"),
        ("Run", "subprocess"),
        ("One", None),
        ("part_of_proc", "subprocess"),
        ("Vector", "numpy"),
        ("Child", "outside_m"),
        ("Child.method", "outside_m"),
        ("Grown", None),
        ("Foreign", "outside_m"),
        ("shell", "posix"),
        ("builtin", "posix"),
        ("part_of_system", "posix"),
        ("part_of_own", None),
        ("loud_part", "posix"),
        ("inherits", "outside_m"),
        ("called", None),
        ("Called.method", None),
        ("called.method", None),
        ("Called.system", "posix"),
        ("called.system", "posix"),
        ("called.by_type", None),
        ("circle", None),
        ("methodcaller", "operator"),
        ("libc.system", "_ctypes"),
        *((name, None) for name in ("Data", "Frozen", "Defined", "Strict", "Pair", "Peak", "Words")),
        *((name, None) for name in ("Colour", "Level", "Side", "Flags", "Mistake", "NoFile", "Shape")),
        *((name, None) for name in ("Box", "Square", "Folder", "Memory", "Keeper", "Table", "Word")),
        *((name, None) for name in ("own", "static", "vector", "dispatch", "context")),
    ],
)
def test_what_is_inherited_counts_where_it_is_defined(
    project: Project, name: str, module: str | None
) -> None:
    project.write("many.py", MANY)
    project.write("outside_m.py", OUTSIDE)
    path = f"many.{name}"
    if module is None:
        assert callable(resolve(project, path, ["many"]))
        assert callable(resolve(project, path))
        return
    message = refusal(project, path, ["many"])
    assert module in re.split(r"[^\w]", message)
    if module in sys.stdlib_module_names:
        assert "Python's standard library" in message
        assert refusal(project, path) == message
        assert refusal(project, path, ["many", module]) == message
    else:
        assert "outside of what the caller allows, many" in message
        assert callable(resolve(project, path))
        assert callable(resolve(project, path, ["many", module]))


def test_an_inherited_constructor_is_called_that(project: Project) -> None:
    project.write("many.py", MANY)
    project.write("outside_m.py", OUTSIDE)
    assert refusal(project, "many.Proc") == (
        "'many.Proc' inherits what makes it from Python's standard library (subprocess); "
        "name a function of your own, which may call it"
    )
    assert refusal(project, "many.Child", ["many"]) == (
        "'many.Child' inherits what makes it from outside_m, outside of what the caller allows, many"
    )


class CMethod(ctypes.Structure):
    """PyMethodDef of Python's C API."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


UNCALLED = CMethod(b"f", None, 0x0004, None)  # METH_NOARGS


@pytest.mark.parametrize(
    ("module", "wanted"), [("compiled_w", {"compiled_w"}), (None, {"tests.test_resolve", "builtins"})]
)
def test_a_function_in_c_that_no_class_has_is_its_modules(module: str | None, wanted: set[str]) -> None:
    class Owner(dict[str, int]): ...

    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    name = ctypes.c_void_p() if module is None else ctypes.py_object(module)
    function = make(ctypes.byref(UNCALLED), ctypes.py_object(Owner()), name)
    assert homes(function) == wanted


# --- allow ----------------------------------------------------------------------------------------------


def allowed_project(project: Project) -> None:
    project.write("mypkg/__init__.py", "import numpy as np\nfrom mypkg.inner import f\nrows = [[1]]")
    project.write("mypkg/inner.py", "def f(): return 1\nimport outside_v\nfrom outside_v import g, Thing")
    project.write("mypkg/liar.py", "__name__ = 'mypkg.liar'\nfrom outside_v import h")
    project.write(
        "outside_v.py",
        """
        def g(): ...
        class Thing:
            def method(self): ...
        thing = Thing()
        __name__ = "mypkg.fake"
        def h(): ...
        """,
    )


@pytest.mark.parametrize("allow", [["mypkg"], ["mypkg.*"], ["mypkg.inner"], ["other", "mypkg.inner"]])
def test_what_lies_below_an_allowed_module_is_found(project: Project, allow: list[str]) -> None:
    allowed_project(project)
    assert resolve(project, "mypkg.inner.f", allow)() == 1


@pytest.mark.parametrize(
    "path",
    [
        "mypkg.inner.g",  # re-exported
        "mypkg.inner.outside_v.g",
        "mypkg.inner.Thing",
        "mypkg.inner.Thing.method",
        "mypkg.inner.outside_v.thing",
        "mypkg.liar.h",  # its module says it is mypkg.fake
        "mypkg.np.save",
        "mypkg.np.load",
        "mypkg.np.mean",
        "mypkg.np.add",
        "mypkg.np.lib.format.open_memmap",
        "mypkg.np.random.default_rng",
        "mypkg.np.ndarray.tofile",
    ],
)
def test_what_is_defined_elsewhere_is_refused(project: Project, path: str) -> None:
    allowed_project(project)
    assert resolve(project, path) is not None
    assert "outside of what the caller allows, mypkg" in refusal(project, path, ["mypkg"])


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("danger_u.f", []),
        ("danger_u.f", ["mypkg"]),
        ("danger_u.f", ["danger"]),
        ("danger_u.f", ["danger_u.f.g"]),
        ("danger_u.f", ["danger_u_too"]),
        ("danger_u.sub.f", ["danger_u.other"]),
    ],
)
def test_nothing_outside_is_imported_even_on_the_way(project: Project, path: str, allow: list[str]) -> None:
    project.write("danger_u/__init__.py", "raise RuntimeError('must not run')")
    assert "outside of what the caller allows" in refusal(project, path, allow)
    assert "danger_u" not in sys.modules
    assert str(project.folder) not in sys.path


def test_an_allowed_module_does_not_open_its_parent(project: Project) -> None:
    allowed_project(project)
    assert "outside of what the caller allows" in refusal(project, "mypkg.f", ["mypkg.np"])


def test_rows_are_judged_by_the_module_they_are_in(project: Project) -> None:
    allowed_project(project)
    assert resolve(project, "mypkg.rows", ["mypkg"]) == [[1]]
    project.write("rows_t.py", "import sys\nfrom mypkg import np")
    assert "standard library" in refusal(project, "rows_t.sys.path", ["rows_t"])


@pytest.mark.parametrize(
    ("allow", "error"),
    [
        ("mypkg", TypeError),
        ([1], TypeError),
        (["my pkg"], ValueError),
        ([""], ValueError),
        (["*"], ValueError),
    ],
)
def test_an_allow_list_that_is_none_is_refused(allow: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="allow"):
        allow_list(allow)


def test_homes_of_a_module_made_by_hand() -> None:
    module = ModuleType("by_hand")
    assert homes(module) == {"by_hand"}


def test_homes_of_something_that_wraps_itself() -> None:
    def snake() -> None: ...

    vars(snake)["__wrapped__"] = snake
    assert homes(snake)


def test_paths_are_not_confused_by_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UnresolvedError, match="no module 'nowhere_s'"):
        Resolver([tmp_path / "missing"], None).resolve("nowhere_s.f")
