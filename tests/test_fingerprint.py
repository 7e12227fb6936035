"""Fingerprints of code: what changes them, what does not, and when there is none."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import linecache
import math
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._fingerprint import READING, Fingerprint, Unknown, changed, fingerprint, note_imports
from tests.reached import NOT_REACHED, REACHED, Files


class Versions:
    """Versions of one project, each in a folder of its own and imported anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._modules = set(sys.modules)
        self._path = list(sys.path)
        self._count = 0

    def load(self, files: Files, module: str = "analysis") -> ModuleType:
        self.close()
        self._count += 1
        folder = self._folder / f"version{self._count}"
        for name, text in ({"analysis.py": files} if isinstance(files, str) else files).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        sys.path.insert(0, str(folder))
        return importlib.import_module(module)

    def take(self, files: Files, path: str = "analysis.metric") -> Fingerprint:
        module, _, name = path.rpartition(".")
        return known(getattr(self.load(files, module), name))

    def close(self) -> None:
        sys.path[:] = self._path
        new = {name: sys.modules[name] for name in set(sys.modules) - self._modules}
        places = {
            name: [vars(each).get("__file__"), *vars(each).get("__path__", ())] for name, each in new.items()
        }
        for name, files in places.items():
            if any(Path(file).is_relative_to(self._folder) for file in files if file):
                del sys.modules[name]
        importlib.invalidate_caches()


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    made = Versions(tmp_path)
    yield made
    made.close()


def known(function: Any) -> Fingerprint:
    found = fingerprint(function)
    assert isinstance(found, Fingerprint), found
    return found


def reason(function: Any) -> str:
    found = fingerprint(function)
    assert isinstance(found, Unknown), found
    return found.reason


def edited(files: dict[str, str], file: str, old: str, new: str) -> dict[str, str]:
    assert files[file].count(old) == 1, f"{old!r} is {files[file].count(old)} times in {file}"
    return files | {file: files[file].replace(old, new)}


# --- what counts ----------------------------------------------------------------------------------------

PROJECT = {
    "helpers.py": '''\
"""Helpers."""
import math
from math import sin as wave

SCALE = 2.0
LOW, HIGH = 1, 5
if HIGH > 3:
    MODE = "wide"
else:
    MODE = "narrow"
TOTAL: float = 1
TOTAL += 0.5
TABLE = {}
TABLE["a"] = 1


def far(x):
    return x * SCALE + math.floor(x)


def unused(x):
    return x


class Base:
    def fit(self):
        return far(self.order)


class Model(Base):
    """A model."""

    order: int = 3

    @property
    def width(self):
        return HIGH - LOW
''',
    "analysis.py": '''\
import helpers
from helpers import far as further, Model


def near(x, k=3):
    """Near by."""
    return further(x) + k


def metric(a, b=2, *, c: float = 0.0):
    """What it computes."""
    # with a comment
    rows = [near(row) for row in range(a)]
    fallback = lambda x: x + helpers.TOTAL
    def inner(y):
        return y + len(helpers.TABLE) if helpers.MODE == "wide" else fallback(y)
    return inner(sum(rows)) + Model().fit() * b + c
''',
}

UNCHANGED = {
    "a comment": ("analysis.py", "# with a comment", "# with another"),
    "no comment": ("analysis.py", "    # with a comment\n", ""),
    "a docstring": ("analysis.py", "What it computes.", "It computes."),
    "no docstring": ("analysis.py", '    """Near by."""\n', ""),
    "the docstring of a module": ("helpers.py", '"""Helpers."""', ""),
    "the docstring of a class": ("helpers.py", '"""A model."""', "pass"),
    "a blank line": ("analysis.py", "    rows =", "\n    rows ="),
    "layout": (
        "analysis.py",
        "(a, b=2, *, c: float = 0.0):",
        "(\n    a,\n    b = 2,\n    *,\n    c: float=0.0,\n):",
    ),
    "parentheses": ("analysis.py", "return further(x) + k", "return (further(x)) + (k)"),
    "quotes": ("analysis.py", '== "wide"', "== 'wide'"),
    "the writing of a number": ("helpers.py", "SCALE = 2.0", "SCALE = 2.00"),
    "a constant beside": ("helpers.py", "SCALE = 2.0", "OTHER = 1\nSCALE = 2.0"),
    "a function nobody calls": (
        "helpers.py",
        "def unused(x):\n    return x",
        "def unused(x):\n    return 2 * x",
    ),
    "a function moved within its file": ("analysis.py", "\n\ndef near", "\n\ndef other(): ...\n\n\ndef near"),
    "an import nobody uses": ("analysis.py", "import helpers\n", "import helpers\nimport json\n"),
    "an annotation of a parameter": ("analysis.py", "c: float", "c: int"),
    "annotations added": ("analysis.py", "def near(x, k=3):", "def near(x: int, k: int = 3) -> float:"),
    "an annotated local": ("analysis.py", "    rows =", "    rows: list[float] ="),
    "a constant that is annotated": ("helpers.py", "SCALE = 2.0", "SCALE: float = 2.0"),
    "a constant that is not any more": ("helpers.py", "TOTAL: float = 1", "TOTAL = 1"),
    "an import for type checkers": (
        "helpers.py",
        "import math\n",
        "import math\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    from analysis import metric as SCALE\n",
    ),
    "a statement that does nothing": ("analysis.py", "    rows =", "    'rows of a'\n    pass\n    rows ="),
}


@pytest.mark.parametrize("edit", UNCHANGED.values(), ids=UNCHANGED)
def test_what_does_not_count(versions: Versions, edit: tuple[str, str, str]) -> None:
    before = versions.take(PROJECT)
    after = versions.take(edited(PROJECT, *edit))
    assert after == before
    assert changed(before.parts, after.parts) == []
    assert dict(after.sources) == dict(before.sources)


CHANGED = {
    "a statement": ("analysis.py", "return inner(", "return 2 * inner(", ["analysis.metric"]),
    "a local name": (
        "analysis.py",
        "fallback = lambda x: x +",
        "fallback = lambda z: z +",
        ["analysis.metric"],
    ),
    "a default": ("analysis.py", "b=2", "b=3", ["analysis.metric"]),
    "a helper": ("analysis.py", "+ k", "- k", ["analysis.near"]),
    "the default of a helper": ("analysis.py", "k=3", "k=4", ["analysis.near"]),
    "a helper two calls away": ("helpers.py", "x * SCALE", "SCALE * x", ["helpers.far"]),
    "a constant": ("helpers.py", "SCALE = 2.0", "SCALE = 2.5", ["helpers.SCALE"]),
    "the type of a constant": ("helpers.py", "SCALE = 2.0", "SCALE = 2", ["helpers.SCALE"]),
    "a constant of several": ("helpers.py", "1, 5", "2, 5", ["helpers.HIGH", "helpers.LOW"]),
    "a constant in a branch": ("helpers.py", '"narrow"', '"tight"', ["helpers.MODE"]),
    "what a branch depends on": ("helpers.py", "HIGH > 3", "HIGH > 4", ["helpers.MODE"]),
    "an annotated constant": ("helpers.py", "TOTAL: float = 1", "TOTAL: float = 2", ["helpers.TOTAL"]),
    "an augmented constant": ("helpers.py", "TOTAL += 0.5", "TOTAL += 1.5", ["helpers.TOTAL"]),
    "what is put into a constant": ("helpers.py", '["a"]', '["b"]', ["helpers.TABLE"]),
    "a method of a base class": ("helpers.py", "far(self.order)", "far(self.order + 1)", ["helpers.Base"]),
    "an attribute of a class": ("helpers.py", "order: int = 3", "order: int = 4", ["helpers.Model"]),
    "a property": ("helpers.py", "HIGH - LOW", "HIGH + LOW", ["helpers.Model"]),
    "what a name means": ("analysis.py", "far as further", "unused as further", ["analysis.near"]),
    "what a library's name means": ("helpers.py", "import math", "import cmath as math", ["helpers.far"]),
}


@pytest.mark.parametrize("edit", CHANGED.values(), ids=CHANGED)
def test_what_counts(versions: Versions, edit: tuple[str, str, str, list[str]]) -> None:
    before = versions.take(PROJECT)
    after = versions.take(edited(PROJECT, *edit[:3]))
    assert after.digest != before.digest
    assert sorted(name for name, how in changed(before.parts, after.parts) if how == "changed") == edit[3]


# --- what a module does when it is imported --------------------------------------------------------------

CONF = "D = {'a': 1}\nclass Config: pass\ncfg = Config()\ndef configure(n):\n    cfg.k = n\n    D['n'] = n\n"
USE = "def metric(): return (D, conf.cfg)\n"
SETUPS = {
    "a key of an imported dict": ("from conf import D\n{}\n", 'D["a"] = 2', 'D["a"] = 3'),
    "the update of an imported dict": ("from conf import D\n{}\n", "D.update(a=2)", "D.update(a=3)"),
    "an attribute of an imported object": ("import conf\n{}\n", "conf.cfg.k = 2", "conf.cfg.k = 3"),
    "a name of an imported module": ("import conf\n{}\n", "conf.D = {}", "conf.D = {1: 2}"),
    "an imported function that sets": ("import conf\n{}\n", "conf.configure(1)", "conf.configure(2)"),
    "an imported function under another name": (
        "from conf import configure as setup\n{}\n",
        "setup(1)",
        "setup(2)",
    ),
    "a loop": ("from conf import D\n{}\n", "for x in range(2): D[x] = x", "for x in range(3): D[x] = x"),
}
OWN_SETUPS = {
    "a function that fills": (
        "TABLE = []\ndef fill(t, n=1): t.append(n)\n{}\n",
        "fill(TABLE)",
        "fill(TABLE, 2)",
    ),
    "a library's function": (
        "from heapq import heappush\nTABLE = []\n{}\n",
        "heappush(TABLE, 3)",
        "heappush(TABLE, 4)",
    ),
    "numpy": ("import numpy as np\nTABLE = np.zeros(3)\n{}\n", "np.copyto(TABLE, 5)", "np.copyto(TABLE, 6)"),
    "a function with global": (
        "TABLE = 0\ndef init(n):\n    global TABLE\n    TABLE = n\n{}\n",
        "init(1)",
        "init(2)",
    ),
    "a function that calls one with global": (
        "TABLE = 0\ndef init(n):\n    global TABLE\n    TABLE = n\ndef start(n): init(n)\n{}\n",
        "start(1)",
        "start(2)",
    ),
    "a value that is put in by the way": (
        "TABLE = {{}}\n{}\n",
        'x = TABLE.setdefault("b", 2)',
        'x = TABLE.setdefault("b", 3)',
    ),
    "a keyword": (
        "TABLE = {{}}\ndef fill(*, into, n): into[n] = n\n{}\n",
        "fill(into=TABLE, n=1)",
        "fill(into=TABLE, n=2)",
    ),
    "a class that registers": (
        "TABLE = []\nclass Entry:\n    def __init__(self, n): TABLE.append(n)\n{}\n",
        "Entry(1)",
        "Entry(2)",
    ),
}


@pytest.mark.parametrize("setup", OWN_SETUPS.values(), ids=OWN_SETUPS)
def test_what_a_module_does_to_its_own_names_counts(versions: Versions, setup: tuple[str, str, str]) -> None:
    text, old, new = setup
    after_it = "def metric(): return TABLE\n"
    before = versions.take(text.format(old) + after_it)
    assert versions.take(text.format(new) + after_it).digest != before.digest
    assert versions.take(text.format(f"{old}  # why") + after_it) == before
    unrelated = text.format(old) + "OTHER = len('abc')\nprint\n" + after_it
    assert versions.take(unrelated) == before


@pytest.mark.parametrize("where", ["own", "another"])
@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
def test_what_a_module_does_to_names_of_others_counts(
    versions: Versions, setup: tuple[str, str, str], where: str
) -> None:
    text, old, new = setup

    def project(statement: str) -> dict[str, str]:
        imports = "import conf\nfrom conf import D\n"
        if where == "own":
            return {"conf.py": CONF, "analysis.py": text.format(statement) + imports + USE}
        return {
            "conf.py": CONF,
            "settings.py": text.format(statement),
            "analysis.py": "import settings\n" + imports + USE,
        }

    before = versions.take(project(old))
    after = versions.take(project(new))
    assert after.digest != before.digest
    assert {name for name, _ in changed(before.parts, after.parts)} <= {
        f"{module}.{name}"
        for module in ("analysis", "settings")
        for name in ("D (statements)", "cfg (statements)", "x")
    }
    assert versions.take(project(f"{old}  # why")) == before


def test_a_module_that_nothing_imports_changes_nothing(versions: Versions) -> None:
    project = {"conf.py": CONF, "analysis.py": "from conf import D\ndef metric(): return D\n"}
    before = versions.take(project)
    assert versions.take(project | {"settings.py": "from conf import D\nD['a'] = 2\n"}) == before


def test_statements_of_a_package_count_for_its_modules(versions: Versions) -> None:
    def project(n: int) -> dict[str, str]:
        return {
            "pkg/__init__.py": f"from pkg import conf\nconf.D['a'] = {n}\n",
            "pkg/conf.py": "D = {}\n",
            "pkg/analysis.py": "from pkg.conf import D\ndef metric(): return D\n",
        }

    before = versions.take(project(1), "pkg.analysis.metric")
    assert versions.take(project(2), "pkg.analysis.metric").digest != before.digest


def test_an_implementation_that_another_module_registers_counts(versions: Versions) -> None:
    def project(n: int, annotation: str = "int") -> dict[str, str]:
        return {
            "base.py": "from functools import singledispatch\n@singledispatch\ndef shown(x): return 0\n",
            "ints.py": f"from base import shown\n@shown.register\ndef _(x: {annotation}): return {n}\n",
            "analysis.py": "import ints\nfrom base import shown\ndef metric(): return shown(1)\n",
        }

    before = versions.take(project(1))
    assert versions.take(project(2)).digest != before.digest
    assert versions.take(project(1, "float")).digest != before.digest, "the class that it is for"


@pytest.mark.parametrize("call", ["importlib.import_module('h').g()", "__import__('h').g()"])
def test_a_module_imported_by_a_literal_is_followed(versions: Versions, call: str) -> None:
    def project(n: int) -> dict[str, str]:
        analysis = f"import importlib\ndef metric(): return {call}\n"
        return {"h.py": f"def g(): return {n}\ndef unused(): return {n + 1}\n", "analysis.py": analysis}

    before = versions.take(project(1))
    assert "h.g" in before.parts
    assert "h.unused" not in before.parts
    assert versions.take(project(2)).digest != before.digest
    assert before.unseen == ()


HARMLESS = {
    "a function that reads": (
        "def show(n): return TABLE.get(n)\nx = show(1)\n",
        "= show(1)",
        "= show(2)",
    ),
    "print": ("print(TABLE)\n", "print(TABLE)", "print(TABLE, 1)"),
    "the length": ("n = len(TABLE)\n", "n = len(TABLE)", "n = len(TABLE) + 1"),
    "a method that reads": ("x = TABLE.get('a')\n", "TABLE.get('a')", "TABLE.get('b')"),
    "another table": ("OTHER = {}\nOTHER['a'] = 1\n", "OTHER['a'] = 1", "OTHER['a'] = 2"),
    "a metric that is declared": (
        "import smm\nCM = smm.DatedCacheManager(smm.MemoryStorageInterface())\nCM.collect()(metric)\n",
        "collect()",
        "collect(base_name='m')",
    ),
}


@pytest.mark.parametrize("edit", HARMLESS.values(), ids=HARMLESS)
def test_statements_that_change_nothing_do_not_count(versions: Versions, edit: tuple[str, str, str]) -> None:
    text, old, new = edit
    project = f"TABLE = {{}}\ndef metric(): return TABLE\n{text}"
    assert versions.take(project.replace(old, new)) == versions.take(project)


# --- what cannot be seen ---------------------------------------------------------------------------------

UNSEEN = {
    "exec": ("def metric(): exec('x = 1')", "analysis.metric calls exec"),
    "eval": ("def f(): return eval('1')\ndef metric(): return f()", "analysis.f calls eval"),
    "globals": ("def metric(): return globals()['x']", "analysis.metric calls globals"),
    "sys.modules": (
        "import sys\ndef metric(): return sys.modules['x'].y",
        "analysis.metric reads sys.modules",
    ),
    "sys.modules by an import inside": (
        "def metric():\n    from sys import modules\n    return modules['x'].y",
        "analysis.metric reads sys.modules",
    ),
    "exec in a module": (
        "exec('x = 1')\ndef metric(): return 3",
        "analysis calls exec when it is imported",
    ),
    "sys.modules in a module": (
        "import sys\nsys.modules['pretended'] = sys\ndef metric(): return 3",
        "analysis changes sys.modules when it is imported",
    ),
    "a computed import": (
        "import importlib\ndef metric(name='h'): return importlib.import_module(name).g()",
        "analysis.metric imports a module by a computed name",
    ),
}


@pytest.mark.parametrize("case", UNSEEN.values(), ids=UNSEEN)
def test_code_that_cannot_be_followed_is_named(versions: Versions, case: tuple[str, str]) -> None:
    text, clause = case
    found = versions.take(text)
    assert found.unseen == (clause,)
    assert versions.take(text).digest == found.digest


def test_a_lazy_package_is_named(versions: Versions) -> None:
    project = {
        "pkg/__init__.py": "def __getattr__(name): return 3\n",
        "analysis.py": "import pkg\ndef metric(): return pkg.rate\n",
    }
    assert versions.take(project).unseen == ("pkg gives names by its __getattr__",)


def test_names_of_the_projects_own_are_no_builtins(versions: Versions) -> None:
    assert versions.take("def exec(x): return x\ndef metric(): return exec(3)").unseen == ()


def test_a_fingerprint_is_the_same_before_and_after_its_modules_are_loaded(versions: Versions) -> None:
    project = {
        "conf.py": CONF,
        "settings.py": "import conf\nconf.configure(1)\nconf.cfg.k = 3\n",
        "analysis.py": "def metric():\n    import settings, conf\n    return conf.cfg, conf.D\n",
    }
    module = versions.load(project)
    before = known(module.metric)
    module.metric()  # imports both
    module.metric.__code__ = module.metric.__code__.replace()  # another function to look at
    assert known(module.metric) == before
    assert {"settings.cfg (statements)", "settings.D (statements)"} <= set(before.parts)


def test_this_reading_is_pinned(versions: Versions) -> None:
    """Whoever changes what is read, and so these digests, raises `READING`."""
    found = versions.take(PROJECT)
    assert (READING, found.digest) == (2, PINNED)


PINNED = "21a66452fff2f93e"


def test_the_parts_are_all_that_is_reached_and_nothing_of_libraries(versions: Versions) -> None:
    found = versions.take(PROJECT)
    assert next(iter(found.parts)) == "analysis.metric"
    assert set(found.parts) == {
        "analysis.metric",
        "analysis.near",
        "helpers.far",
        "helpers.SCALE",
        "helpers.Base",
        "helpers.Model",
        "helpers.HIGH",
        "helpers.LOW",
        "helpers.MODE",
        "helpers.TABLE",
        "helpers.TOTAL",
    }
    assert all(len(digest) == 16 for digest in (found.digest, *found.parts.values()))
    assert found.python == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_sources_are_what_counts(versions: Versions) -> None:
    sources = versions.take(PROJECT).sources
    assert sources["analysis.near"] == "further = far\ndef near(x, k=3):\n    return further(x) + k"
    assert sources["helpers.far"] == "import math\ndef far(x):\n    return x * SCALE + math.floor(x)"
    assert sources["helpers.MODE"].count("MODE = ") == 2
    assert not any(line.startswith("helpers.") for line in sources["analysis.metric"].splitlines())
    assert len(sources) == len(list(sources))


def test_a_moved_file_is_the_same_code(versions: Versions) -> None:
    before = versions.take(PROJECT)
    files = {"deep/tools.py": PROJECT["helpers.py"], "deep/__init__.py": ""}
    files["deep/analysis.py"] = PROJECT["analysis.py"].replace(
        "import helpers", "from deep import tools as helpers"
    )
    files["deep/analysis.py"] = files["deep/analysis.py"].replace("from helpers", "from .tools")
    after = versions.take(files, "deep.analysis.metric")
    assert after.digest == before.digest
    assert "deep.tools.SCALE" in after.parts
    assert changed(before.parts, after.parts) == []


def test_a_function_moved_to_another_module_is_the_same_code(versions: Versions) -> None:
    body = "def far(x): return x + 1\n"
    before = versions.take(
        {"analysis.py": "from helpers import far\ndef metric(): return far(2)", "helpers.py": body}
    )
    after = versions.take({"analysis.py": f"{body}def metric(): return far(2)"})
    assert after.digest == before.digest


def test_modules_that_change_places_do_not(versions: Versions) -> None:
    one, two = "def f(): return 1", "def f(): return 2"
    analysis = "import first, second\ndef metric(): return first.f() - second.f()"
    before = versions.take({"analysis.py": analysis, "first.py": one, "second.py": two})
    after = versions.take({"analysis.py": analysis, "first.py": two, "second.py": one})
    assert after.digest != before.digest
    assert changed(before.parts, after.parts) == [("first.f", "changed"), ("second.f", "changed")]


def test_which_module_a_name_is_from_counts_if_they_differ(versions: Versions) -> None:
    files = {"first.py": "def f(): return 1", "second.py": "def f(): return 2"}
    one = "from first import f\nfrom second import f as g\ndef metric(): return f() - g()"
    other = "from second import f\nfrom first import f as g\ndef metric(): return f() - g()"
    assert (
        versions.take(files | {"analysis.py": one}).digest
        != versions.take(files | {"analysis.py": other}).digest
    )


# --- what smm adds --------------------------------------------------------------------------------------

COLLECTED = """
    import functools
    from smm import MemoryStorageInterface, ParameterizedDatedCacheManager
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    ROWS = [[1], [2]]
    collect = functools.partial(CM.collect, params_list=ROWS)

    @CM.collect(params_list=ROWS)
    def other(a):
        return a

    @CM.collect
    def metric():
        return CM.other(1) + plain(2)

    def plain(x):
        return x
"""


@pytest.mark.parametrize(
    "decorator",
    [
        '@CM.collect("another_name")',
        "@CM.collect(params_list=[[]])",
        "@CM.collect(timeout='1 h', params_list=((),), retries=len(ROWS))",
        "@collect(params_list=((),))",
    ],
)
def test_how_it_is_collected_does_not_count(versions: Versions, decorator: str) -> None:
    before = versions.take(COLLECTED)
    after = versions.take(COLLECTED.replace("@CM.collect\n", f"{decorator}\n"))
    bare = versions.take(COLLECTED.replace("@CM.collect\n", "\n"))
    assert before == after == bare
    assert list(before.parts) == ["analysis.metric", "analysis.plain"]


def test_a_metric_that_is_read_is_no_code_but_one_that_is_called_is(versions: Versions) -> None:
    before = versions.take(COLLECTED)
    read = versions.take(COLLECTED.replace("        return a\n", "        return -a\n"))
    assert read == before
    called = versions.take(COLLECTED.replace("CM.other(1)", "other(1)"))
    assert "analysis.other" in called.parts
    assert "analysis.ROWS" not in called.parts


def test_every_form_of_a_collected_metric_has_one_fingerprint(versions: Versions) -> None:
    module = versions.load(COLLECTED)
    plain = known(module.metric.__wrapped__)
    assert known(module.metric) == known(module.CM.metric) == plain


def test_a_manager_of_another_module_is_not_followed(versions: Versions) -> None:
    store = """
        import smm
        CM = smm.ParameterizedDatedCacheManager(smm.MemoryStorageInterface(), verbose=False)
        @CM.collect
        def other(): return 1
    """
    analysis = """
        import store
        from store import CM
        read = CM.other
        def metric():
            from store import CM as manager
            return CM.other() + store.CM.other() + read() + manager.other() + metric.cache(CM.get("other"))
    """
    found = versions.take({"store.py": store, "analysis.py": analysis})
    assert list(found.parts) == ["analysis.metric"]
    # also before it has been imported, when only its source says what it is
    late = "def metric():\n    from store import CM\n    return CM.other()"
    assert list(versions.take({"store.py": store, "analysis.py": late}).parts) == ["analysis.metric"]
    assert "store" not in sys.modules


def test_another_collect_is_a_decorator_like_any(versions: Versions) -> None:
    files = """
        class Group:
            @staticmethod
            def collect(f): return f
        @Group.collect
        def metric(): return 1
    """
    assert list(versions.take(files).parts) == ["analysis.metric", "analysis.Group"]


# --- ways to reach --------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", REACHED.values(), ids=REACHED)
def test_it_is_reached(versions: Versions, files: Files) -> None:
    files = {"analysis.py": files} if isinstance(files, str) else files
    texts = "".join(files.values())
    before = versions.take(files)
    assert versions.take(files) == before
    for name, text in files.items():
        for at in [at for at, each in enumerate(text) if each == "1" and not text[at - 1 : at].isalnum()]:
            after = versions.take(files | {name: f"{text[:at]}2{text[at + 1 :]}"})
            assert after.digest != before.digest
            assert changed(before.parts, after.parts) != []
    assert "1" in texts


@pytest.mark.parametrize("text", NOT_REACHED.values(), ids=NOT_REACHED)
def test_it_is_not_reached(versions: Versions, text: str) -> None:
    assert text.count("1") == 1
    assert versions.take(text) == versions.take(text.replace("1", "2"))


def test_a_module_imported_inside_counts_the_same_before_and_after(versions: Versions) -> None:
    files = {
        "pkg/__init__.py": "from .sub import *\nfrom math import *",
        "pkg/sub.py": "import functools\n@functools.lru_cache\ndef f(): return g()\ng = lambda: N\n"
        "N = sum([1, 2])",
        "analysis.py": "def metric():\n    from pkg import f as h, sub\n    return h() + sub.g()",
    }
    module = versions.load(files)
    before = known(module.metric)
    assert "pkg" not in sys.modules
    module.metric()
    assert "pkg.sub" in sys.modules
    assert known(module.metric) == before
    assert set(before.parts) == {"analysis.metric", "pkg.sub.f", "pkg.sub.g", "pkg.sub.N"}


def test_what_runs_counts_where_it_is_not_what_the_source_says(versions: Versions) -> None:
    files = {
        "helpers.py": "def rate(x): return x\ndef faster(x): return 2 * x\nLIMIT = 5\nclass Model: n = 1",
        "analysis.py": "import helpers\nfrom helpers import rate, LIMIT\ndef metric():\n"
        "    return rate(LIMIT) + helpers.rate(helpers.LIMIT) + helpers.Model.n",
    }
    before = versions.take(files)
    seen = {before.digest}
    patches: list[tuple[str, str, Any]] = [
        ("helpers", "rate", "faster"),
        ("analysis", "rate", "faster"),
        ("helpers", "LIMIT", 6),
        ("helpers", "LIMIT", 6.0),
        ("helpers", "Model", "faster"),
        ("helpers", "rate", math.sin),
        ("analysis", "LIMIT", 7),
    ]
    for module, name, value in patches:
        analysis = versions.load(files)
        new = getattr(sys.modules["helpers"], value) if isinstance(value, str) else value
        setattr(sys.modules[module], name, new)
        after = known(analysis.metric)
        assert after.digest not in seen
        assert changed(before.parts, after.parts) != []
        seen.add(after.digest)


def test_the_definition_that_runs_counts_where_there_are_two(versions: Versions) -> None:
    text = """
        def metric(): return 1
        keep = lambda f: f
        first = keep(metric)
        def metric(): return 2
    """
    module = versions.load(text)
    before = known(module.first), known(module.metric)
    assert before[0].digest != before[1].digest
    module = versions.load(text.replace("return 1", "return 3"))
    assert known(module.first).digest != before[0].digest
    assert known(module.metric) == before[1]


def test_closures_made_by_one_function_are_told_apart(versions: Versions) -> None:
    text = """
        def make(n):
            def inner(): return n
            return inner
        def both(f, g):
            def inner(): return f() + g()
            return inner
        first, second = make(1), make(2)
        one, other = both(first, second), both(second, first)
    """
    module = versions.load(text)
    assert known(module.first).digest != known(module.second).digest
    assert known(module.one).digest != known(module.other).digest
    assert set(known(module.one).parts) == {
        "analysis.both.<locals>.inner",
        "analysis.make.<locals>.inner",
        "analysis.make.<locals>.inner#2",
    }


def test_lambdas_on_one_line_count_together(versions: Versions) -> None:
    module = versions.load("metrics = [lambda: 1, lambda: 2]")
    assert known(module.metrics[0]).digest == known(module.metrics[1]).digest
    other = versions.load("metrics = [lambda: 1, lambda: 3]")
    assert known(other.metrics[0]).digest != known(module.metrics[0]).digest


def test_a_wrapper_without_a_name_leads_to_what_it_wraps(versions: Versions) -> None:
    text = """
        import functools
        def f(): return 1
        def deco(g):
            @functools.wraps(g)
            def wrapper(): return g() + 0
            return wrapper
        metrics = [deco(f)]
    """
    parts = known(versions.load(text).metrics[0]).parts
    assert {"analysis.f", "analysis.deco.<locals>.wrapper"} <= set(parts)


def test_a_counter_in_an_instance_or_closure_does_not_change_a_metric_that_was_asked_before(
    versions: Versions,
) -> None:
    module = versions.load(
        """
        def make():
            seen = {}
            def inner(): return seen.setdefault(len(seen), 1)
            return inner
        metric = make()
        """
    )
    before = known(module.metric)
    module.metric()
    other = versions.load({"analysis.py": Path(module.__file__ or "").read_text(encoding="utf-8")})
    other.metric()
    assert known(other.metric) == before


def test_functions_of_libraries_count_by_themselves() -> None:
    found = known(textwrap.dedent)
    assert list(found.parts) == ["textwrap.dedent"]
    one, other = (known(functools.partial(copy.copy, each)) for each in (1, 2))
    assert one.digest != other.digest


# --- unknown --------------------------------------------------------------------------------------------


def test_without_source_it_is_unknown(versions: Versions) -> None:
    assert "sin has no source in Python" in reason(math.sin)
    assert reason(None) == "an object of class NoneType is no function"
    namespace: dict[str, Any] = {"__name__": "made_up"}
    exec(compile("def f(): return 1", "<made up>", "exec"), namespace)
    assert "<made up>, is kept nowhere" in reason(namespace["f"])
    module = versions.load("exec('def f(): return 1')\ndef metric(): return f()")
    assert "what runs as f is not what" in reason(module.metric)
    module = versions.load("def metric(): return DATA")
    module.DATA = object()  # type: ignore[attr-defined]
    assert "no statement of analysis says what DATA is" in reason(module.metric)


def test_a_file_that_is_gone_is_unknown(versions: Versions) -> None:
    module = versions.load("def metric(): return 1")
    Path(str(module.__file__)).unlink()
    linecache.clearcache()
    assert "not there any more" in reason(module.metric)


@pytest.mark.parametrize(
    "edit",
    [
        ("return f() + N", "return f() - N"),
        ("def metric", "\ndef metric"),
        ("N = sum([1])", "N = sum([2])"),
        ("return 3", "return 4"),
    ],
)
def test_a_file_that_was_edited_after_it_was_imported_is_unknown(
    versions: Versions, edit: tuple[str, str]
) -> None:
    text = "N = sum([1])\ndef f(): return 3\ndef metric(): return f() + N"
    module = versions.load(text)
    note_imports()
    path = Path(str(module.__file__))
    path.write_text(text.replace(*edit) + "\n\n", encoding="utf-8")
    assert "was edited after it was imported" in reason(module.metric)
    importlib.reload(module)
    assert isinstance(fingerprint(module.metric), Fingerprint)


def test_an_edit_that_nobody_noted_is_seen_by_the_code(versions: Versions) -> None:
    module = versions.load("def f(): return 3\ndef metric(): return f()")
    Path(str(module.__file__)).write_text("def f(): return 4\ndef metric(): return f()", encoding="utf-8")
    assert "what runs as f is not what" in reason(module.metric)
    module = versions.load("class C:\n    def m(self): return 3\ndef metric(): return C()")
    path = Path(str(module.__file__))
    path.write_text(path.read_text(encoding="utf-8").replace("3", "4"), encoding="utf-8")
    assert "what runs as C.m is not what" in reason(module.metric)
    module = versions.load("N = 3\ndef metric(): return N")
    path = Path(str(module.__file__))
    path.write_text("N = 4\ndef metric(): return N", encoding="utf-8")
    assert "N is 0x3" in known(module.metric).sources["analysis.N"]


def test_code_that_only_stands_on_other_lines_is_the_same(versions: Versions) -> None:
    text = "class C:\n    def m(self): return lambda: 3\ndef metric(): return C()"
    before = versions.take(text)
    module = versions.load(text)
    Path(str(module.__file__)).write_text(f"# Lines that\n# were added.\n{text}", encoding="utf-8")
    assert known(module.metric) == before


def test_new_code_put_into_a_loaded_module_is_seen(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As IPython's autoreload does: on lines of its own, and without an import.
    book = Notebook(monkeypatch)
    text = "def f(): return 3\ndef metric(): return f()"
    module = versions.load(text)
    before = known(module.metric)
    file = str(module.__file__)
    Path(file).write_text(text.replace("3", "44"), encoding="utf-8")
    exec(compile("\n\n\ndef f(): return 44\n\ndef metric(): return f()", file, "exec"), vars(module))
    book.run("pass")
    assert changed(before.parts, known(module.metric).parts) == [("analysis.f", "changed")]


def test_a_function_that_came_by_pickle_has_its_source_where_its_file_is(versions: Versions) -> None:
    module = versions.load("N = 3\ndef f(): return N\ndef metric(): return f()")
    before = known(module.metric)
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": module.__file__, "N": 3}
    for name in ("f", "metric"):  # as cloudpickle makes them
        code = getattr(module, name).__code__.replace(co_filename="<dynamic-code>")
        namespace[name] = FunctionType(code, namespace)
    assert known(namespace["metric"]) == before
    del namespace["__file__"]
    assert "<dynamic-code>, is kept nowhere" in reason(FunctionType(code, dict(namespace)))


def test_an_edit_after_it_was_asked_changes_nothing(versions: Versions) -> None:
    module = versions.load("def f(): return 3\ndef metric(): return f()\ndef other(): return f() + 1")
    before = known(module.metric)
    Path(str(module.__file__)).write_text("def f(): return 5\n", encoding="utf-8")
    assert known(module.metric) is before
    assert before.parts["analysis.f"] == known(module.other).parts["analysis.f"]


def test_a_reloaded_helper_is_seen(versions: Versions) -> None:
    module = versions.load(
        {"helpers.py": "def f(): return 3", "analysis.py": "import helpers\ndef metric(): return helpers.f()"}
    )
    before = known(module.metric)
    helpers = sys.modules["helpers"]
    Path(str(helpers.__file__)).write_text("def f(): return 3.5", encoding="utf-8")
    assert known(module.metric) is before
    importlib.reload(helpers)
    after = known(module.metric)
    assert changed(before.parts, after.parts) == [("helpers.f", "changed")]


def test_strange_objects_are_no_crash(versions: Versions) -> None:
    module = versions.load(
        """
        class Strange:
            __slots__ = ("n", "__dict__")
            __module__ = property(lambda self: 3)
            def __getattr__(self, name): raise KeyError(name)
            def __eq__(self, other): raise ValueError
            __hash__ = None
            def __call__(self): return N.x
        class Meta(type):
            def __getattr__(cls, name): raise KeyError(name)
        class Made(metaclass=Meta):
            __slots__ = ("n",)
            def m(self): return N
        N = Strange()
        circle = []
        circle.append(circle)
        N.itself = N
        N.circle = circle
        def make(n, *rest):
            def inner(): return n, rest
            return inner
        metrics = [N, Strange, Made, Made().m, Made.m, make(N), make(circle, Made()), lambda: (N, circle)]
        """
    )
    for metric in module.metrics:
        found = fingerprint(metric)
        assert isinstance(found, Fingerprint) or "has no source" in found.reason
        assert fingerprint(metric) == found


def test_code_nested_too_deep_is_no_crash(versions: Versions) -> None:
    for count in (300, 900, 2000):
        try:
            module = versions.load(f"def metric(x): return {' + '.join(['x'] * count)}")
        except RecursionError:
            continue  # Python itself cannot import it
        found = fingerprint(module.metric)
        assert isinstance(found, Fingerprint) or "nested too deep" in found.reason
    deep = "x" + "(x)" * 80 + "".join(f"[{'x'}]" for _ in range(80)) + ".a" * 80
    assert "analysis.metric" in versions.take(f"def metric(x): return {deep}").parts


def test_a_deep_stack_is_no_crash(versions: Versions) -> None:
    module = versions.load("def f(n): return n\ndef metric(): return f(1)")

    def down(levels: int) -> object:
        return fingerprint(module.metric) if levels == 0 else down(levels - 1)

    found = None
    for levels in range(sys.getrecursionlimit(), 0, -25):
        try:
            found = down(levels)
        except RecursionError:
            continue
        assert isinstance(found, Fingerprint | Unknown)
    assert known(module.metric) == found


def test_warnings_of_the_source_are_not_said_again(versions: Versions, tmp_path: Path) -> None:
    with pytest.warns((DeprecationWarning, SyntaxWarning)):
        module = versions.load("def metric(): return '\\d' is '\\d'")
    assert known(module.metric).parts  # warnings are errors here


# --- notebooks, scripts, threads -------------------------------------------------------------------------


class Notebook:
    """What a kernel does with cells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.namespace = ModuleType("__main__")
        vars(self.namespace)["In"] = [""]
        monkeypatch.setitem(sys.modules, "__main__", self.namespace)

    def run(self, text: str) -> None:
        text = textwrap.dedent(text)
        name = f"/tmp/ipykernel_1/{abs(hash(text))}.py"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        vars(self.namespace)["In"].append(text)
        exec(compile(text, name, "exec", dont_inherit=True), vars(self.namespace))

    def __getitem__(self, name: str) -> Any:
        return vars(self.namespace)[name]


def test_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Notebook(monkeypatch)
    book.run("import math\nALPHA = 0.5\n")
    book.run("def f(x):\n    return math.sin(x) * ALPHA\nclass C:\n    n = 3\n")
    book.run("# a comment\ndef metric():\n    return f(1) + C.n\n")
    before = known(book["metric"])
    assert set(before.parts) == {"__main__.metric", "__main__.f", "__main__.C", "__main__.ALPHA"}
    assert before.sources["__main__.f"].startswith("import math\n")
    book.run("def metric():\n    '''Doc.'''\n    return f(1) + C.n\n")
    assert known(book["metric"]) == before
    book.run("ALPHA = 0.7")
    assert changed(before.parts, known(book["metric"]).parts) == [("__main__.ALPHA", "changed")]
    book.run("import math\nALPHA = 0.5\n")
    assert known(book["metric"]) == before
    book.run("def f(x):\n    return x\n")
    after = known(book["metric"])
    assert changed(before.parts, after.parts) == [("__main__.f", "changed"), ("__main__.ALPHA", "removed")]


def test_a_notebook_and_a_module_have_one_digest(monkeypatch: pytest.MonkeyPatch, versions: Versions) -> None:
    text = "N = 3\ndef f(x): return x + N\ndef metric(): return f(1)\n"
    moved = versions.take(text)
    book = Notebook(monkeypatch)
    book.run(text)
    assert known(book["metric"]).digest == moved.digest


def test_a_script_is_called_by_its_file_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "nightly.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor
            from smm._fingerprint import fingerprint
            N = 3
            def f(): return N
            def metric(): return f()
            def string(): return str(fingerprint(metric))
            if __name__ == "__main__":
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                    print(pool.submit(string).result())
                print(string())
                import nightly
                print(nightly.string())
            """
        ),
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == second == third
    assert "'nightly.f'" in first


def test_it_is_the_same_in_every_process(versions: Versions, tmp_path: Path) -> None:
    here = versions.take(PROJECT)
    code = "import analysis; from smm._fingerprint import fingerprint; print(fingerprint(analysis.metric))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path / "version1",
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )
        assert done.stdout.strip() == str(here)


def test_digests_are_pinned(versions: Versions) -> None:
    # A change here makes every stored result of every user look as if its code had changed.
    found = versions.take("import math\nN = 3\ndef metric(x=1):\n    return math.sin(x) + N\n")
    assert found.parts == {"analysis.metric": "c0725b423bc51170", "analysis.N": "c2ccfb8b3eac05c5"}
    assert found.digest == "dcd6ccea58e27ef9"


def test_many_threads_find_the_same(versions: Versions) -> None:
    module = versions.load(PROJECT)
    found: list[Fingerprint | Unknown] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(fingerprint(module.metric))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(each == found[0] for each in found)


def test_nothing_is_imported_and_nothing_run(versions: Versions) -> None:
    module = versions.load(
        {
            "analysis.py": "class C:\n    def __getattr__(self, name): raise AssertionError(name)\n"
            "    def __eq__(self, other): raise AssertionError\n"
            "    __hash__ = None\nN = C()\ndef metric():\n    import late\n    return late.f, N.x\n",
            "late.py": "raise AssertionError\ndef f(): return 1",
        }
    )
    fingerprint(versions.take)  # whatever smm itself imports when it is first asked
    before = set(sys.modules)
    found = known(module.metric)
    assert set(sys.modules) == before
    assert set(found.parts) == {"analysis.metric", "analysis.C", "analysis.N", "late.f"}


# --- comparing ------------------------------------------------------------------------------------------


def test_changed_says_what_differs() -> None:
    noted = {"a.f": "1", "a.g": "2", "a.h": "3"}
    assert changed(noted, noted) == []
    assert changed(noted, {"a.f": "1", "a.g": "9", "a.k": "4"}) == [
        ("a.g", "changed"),
        ("a.k", "added"),
        ("a.h", "removed"),
    ]


def test_changed_knows_what_has_moved() -> None:
    noted = {"a.f": "1", "a.g": "2", "a.make.<locals>.inner": "3"}
    assert changed(noted, {"b.c.f": "1", "b.c.g": "2", "b.c.make.<locals>.inner": "3"}) == []
    assert changed(noted, {"b.f": "1", "b.g": "9", "b.make.<locals>.inner": "8"}) == [
        ("b.g", "changed"),
        ("b.make.<locals>.inner", "changed"),
    ]
    assert changed({"a.f": "1", "b.f": "2"}, {"c.f": "3"}) == [("c.f", "changed"), ("b.f", "removed")]
    assert changed({}, {"a.f": "1"}) == [("a.f", "added")]


# --- any project ----------------------------------------------------------------------------------------

Calls = list[set[int]]


@st.composite
def graphs(draw: st.DrawFn) -> Calls:
    """For each of some functions, which others it calls."""
    count = draw(st.integers(2, 7))
    return [draw(st.sets(st.integers(0, count - 1), max_size=3)) for _ in range(count)]


def project_of(calls: Calls, homes: list[int], constants: list[int], order: list[int]) -> dict[str, str]:
    """Functions `f0`... over modules, each with a constant of its own; all import from all that they call."""
    files = {"analysis.py": "import sys\n"}
    for home in sorted(set(homes)):
        files[f"home{home}.py"] = ""
    for each in order:
        called = " + ".join(f"f{other}(n - 1)" for other in sorted(calls[each])) or "0"
        files[f"home{homes[each]}.py"] += (
            f"N{each} = {constants[each]}\ndef f{each}(n):\n    return N{each} if n < 0 else {called}\n"
        )
    for each in range(len(calls)):
        for other in sorted(calls[each]):
            if homes[other] != homes[each]:
                files[f"home{homes[each]}.py"] += f"from home{homes[other]} import f{other}\n"
    files["analysis.py"] += f"import home{homes[0]}\nmetric = home{homes[0]}.f0\n"
    return files


def reached(calls: Calls) -> set[int]:
    found, waiting = {0}, [0]
    while waiting:
        for other in calls[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


@given(data=st.data(), calls=graphs())
def test_exactly_what_is_reached_counts_wherever_it_is(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, calls: Calls
) -> None:
    count = len(calls)
    homes, constants, order = [0] * count, list(range(100, 100 + count)), list(range(count))
    with contextlib.closing(Versions(tmp_path_factory.mktemp("any"))) as versions:
        before = versions.take(project_of(calls, homes, constants, order))
        expected = reached(calls)
        assert {name.rpartition(".")[2] for name in before.parts} == {
            name for each in expected for name in (f"f{each}", f"N{each}")
        }
        moved = versions.take(project_of(calls, homes, constants, data.draw(st.permutations(order))))
        assert moved == before
        edit = data.draw(st.integers(0, count - 1))
        constants[edit] = 7
        after = versions.take(project_of(calls, homes, constants, order))
    assert changed(before.parts, after.parts) == ([(f"home0.N{edit}", "changed")] if edit in expected else [])
    assert (after.digest != before.digest) == (edit in expected)


@given(data=st.data(), count=st.integers(2, 7))
def test_modules_do_not_count(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, count: int
) -> None:
    # Each calls later ones only, so that modules import in one direction.
    calls = [
        data.draw(st.sets(st.integers(each + 1, count - 1), max_size=3)) if each < count - 1 else set()
        for each in range(count)
    ]
    constants, order = [100] * count, list(range(count))
    one = sorted(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    with contextlib.closing(Versions(tmp_path_factory.mktemp("any"))) as versions:
        found = versions.take(project_of(calls, one, constants, order))
        assert found.digest == versions.take(project_of(calls, [0] * count, constants, order)).digest


def test_sources_may_be_read_by_many_threads_at_once(tmp_path: Path) -> None:
    """Python 3.11 fails now and then where two threads parse at once: that is no unknown code."""
    from concurrent.futures import ThreadPoolExecutor

    from smm._statements import Source

    texts = ["\n".join(f"def f{n}_{m}(x):\n    return [x + {n}] * {m}" for m in range(60)) for n in range(60)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            sources = list(pool.map(lambda text: Source("a file", text), texts))
    finally:
        sys.setswitchinterval(before)
    assert all(len(source.bound) == 60 for source in sources)
