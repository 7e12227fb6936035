"""Ways in which code leads to other code, and ways in which it does not."""

from __future__ import annotations

from typing import TypeAlias

Files: TypeAlias = dict[str, str] | str
"""By name; or the text of `analysis.py` alone."""

# For each the files of a project; every 1 in them is reached by `analysis.metric`.
REACHED: dict[str, Files] = {
    "recursion": """
        def metric(n): return odd(n)
        def odd(n): return even(n - 1)
        def even(n): return n == 1 or odd(n)
    """,
    "a lambda": "f = lambda x: x + 1\ndef metric(): return f(2)",
    "an alias": "def f(): return 1\ng = f\ndef metric(): return g()",
    "a table of functions": "def f(): return 1\nTABLE = {'f': f}\ndef metric(): return TABLE['f']()",
    "a nested function": "def f(): return 1\ndef metric():\n    def inner(): return f()\n    return inner()",
    "a comprehension": "N = 1\ndef metric(): return [N for _ in range(3)]",
    "its iterable": "x = [1]\ndef metric(): return [x for x in x]",
    "a generator in a lambda": "N = 1\ndef metric(): return (lambda: sum(N for _ in 'ab'))()",
    "a walrus": "N = 1\ndef metric(): return [y := N, y]",
    "a default": "N = 1\ndef metric(a=N): return a",
    "the default of a lambda": "N = 1\ndef metric(): return (lambda a=N: a)()",
    "a decorator": "def deco(f): return lambda: f() + 1\n@deco\ndef metric(): return 3",
    "the argument of a decorator": "N = 1\ndef deco(n): return lambda f: f\n@deco(N)\ndef metric(): return 3",
    "wraps": """
        import functools
        def deco(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args) + 1
            return wrapper
        @deco
        def metric(): return 3
    """,
    "what is wrapped": """
        import functools
        def deco(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args)
            return wrapper
        @deco
        def metric(): return 1
    """,
    "lru_cache": "import functools\n@functools.lru_cache\ndef f(): return 1\ndef metric(): return f()",
    "a partial": "import functools\ndef f(x): return 1\nmetric = functools.partial(f, 3)",
    "the argument of a partial": "import functools\ndef f(x): return 3\nmetric = functools.partial(f, [1])",
    "a function given to a partial": """
        import functools
        def g(): return 1
        def f(x): return x()
        metric = functools.partial(f, x=g)
    """,
    "a partial of a partial": """
        import functools
        def f(x, y): return x
        metric = functools.partial(functools.partial(f, 1), 3)
    """,
    "a closure's number": "def make(n):\n    def inner(): return n\n    return inner\nmetric = make(1)",
    "a default from around": """
        def make(n):
            def inner(k=n, *, m=3): return k
            return inner
        metric = make(1)
    """,
    "the default of a lambda in a loop": """
        found = []
        for n in [1]:
            found.append(lambda *, k=n: k)
        metric = found[0]
    """,
    "a function that is a default": """
        def f(): return 1
        def make(g):
            def inner(h=g): return h()
            return inner
        metric = make(f)
    """,
    "a closure's function": """
        def f(): return 1
        def make(g):
            def inner(): return g()
            return inner
        metric = make(f)
    """,
    "a closure's list": """
        def make():
            n = [1]
            def inner(): return n
            return inner
        metric = make()
    """,
    "a closure that counts": """
        def make():
            n = 1
            def inner():
                nonlocal n
                n += 0
                return n
            return inner
        metric = make()
    """,
    "a method": "class C:\n    def m(self): return 1\nmetric = C().m",
    "a method's own method": """
        class C:
            def m(self): return self.n()
            def n(self): return 1
        metric = C().m
    """,
    "a class method": "class C:\n    @classmethod\n    def m(cls): return 1\nmetric = C.m",
    "a static method": "class C:\n    @staticmethod\n    def m(): return 1\nmetric = C.m",
    "a plain method": "class C:\n    def m(): return 1\nmetric = C.m",
    "an instance": "class C:\n    def __call__(self): return 1\nmetric = C()",
    "what an instance holds": """
        class C:
            def __init__(self, n): self.n = n
            def __call__(self): return self.n
        metric = C(1)
    """,
    "what an instance holds in slots": """
        class C:
            __slots__ = ("n", "other")
            def __init__(self, n): self.n = n
            def __call__(self): return self.n
        metric = C(1)
    """,
    "a class": "class C:\n    def __init__(self): self.n = 1\nmetric = C",
    "a metaclass": """
        class Meta(type):
            def __call__(cls): return 1
        class C(metaclass=Meta): pass
        def metric(): return C()
    """,
    "a dataclass": """
        from dataclasses import dataclass
        @dataclass
        class C:
            n: int = 1
        def metric(): return C().n
    """,
    "a class in a dataclass": """
        from dataclasses import dataclass
        class Inner: n = 1
        @dataclass
        class C:
            inner: Inner
        def metric(): return C
    """,
    "a property": "class C:\n    @property\n    def n(self): return 1\ndef metric(): return C().n",
    "an inner class": "class C:\n    class D:\n        n = 1\ndef metric(): return C.D.n",
    "a class in a function": "def metric():\n    class C:\n        n = 1\n    return C.n",
    "a class attribute's source": "N = 1\nclass C:\n    n = N\ndef metric(): return C.n",
    "an enum": "import enum\nclass E(enum.Enum):\n    A = 1\ndef metric(): return E.A",
    "match": "N = 1\ndef metric(x):\n    match x:\n        case [y] if y == N: return y",
    "match on a class": """
        class C: __match_args__ = ("n",); n = 1
        def metric(x):
            match x:
                case C(n=n): return n
    """,
    "an exception": "class E(Exception): code = 1\ndef metric():\n    try: pass\n    except E as e: return e",
    "an f-string": "N = 1\ndef metric(): return f'{N:>{N}}'",
    "global": "def init():\n    global N\n    N = 1\ndef metric(): return N",
    "global in metric": "N = 1\ndef metric():\n    global N\n    N = N + 0\n    return N",
    "a function that is registered": """
        HANDLERS = {}
        def register(name): return lambda f: HANDLERS.setdefault(name, f)
        class Registry(dict):
            def add(self, f):
                self[f.__name__] = f
                return f
        registry = Registry()
        @registry.add
        def f(): return 1
        def metric(): return registry["f"]()
    """,
    "a function that a call registers": """
        HANDLERS = {}
        def register(name): return lambda f: HANDLERS.setdefault(name, f)
        @register("f")
        def f(): return 1
        def metric(): return HANDLERS["f"]()
    """,
    "a function registered from elsewhere": {
        "core.py": "HANDLERS = {'all': []}\ndef register(f): HANDLERS['all'].append(f)",
        "plugin.py": "from core import register\n@register\ndef f(): return 1",
        "analysis.py": """
            import plugin
            from core import HANDLERS
            def metric(): return [f() for f in HANDLERS["all"]]
        """,
    },
    "a function that an object keeps": {
        "core.py": """
            class Registry:
                def __init__(self): self.known = {}
                def add(self, f): self.known[f.__name__] = f
            registry = Registry()
        """,
        "plugin.py": "import core\n@core.registry.add\ndef f(): return 1",
        "analysis.py": "import plugin\nfrom core import registry\ndef metric(): return registry.known['f']()",
    },
    "a class that registers itself": {
        "core.py": """
            class Base:
                known = {}
                def __init_subclass__(cls): Base.known[cls.__name__] = cls
        """,
        "plugin.py": "import core\nclass C(core.Base): n = 1",
        "analysis.py": "import plugin\nfrom core import Base\ndef metric(): return Base.known['C'].n",
    },
    "a function in a closure's list": """
        def f(): return 1
        def make(*functions):
            def inner(): return [f() for f in functions]
            return inner
        metric = make(f, lambda: 3)
    """,
    "the class of a closure's object": """
        class C:
            def m(self): return 1
        def make(c):
            def inner(): return c.m()
            return inner
        metric = make(C())
    """,
    "a function in what a partial is given": """
        import functools
        def f(): return 1
        def g(functions): return [f() for f in functions]
        metric = functools.partial(g, [f])
    """,
    "singledispatch": """
        import functools
        @functools.singledispatch
        def area(x): return 0
        @area.register
        def _(x: int): return 1
        def metric(): return area(3)
    """,
    "a loop that fills": "T = {}\nfor key in 'ab':\n    T[key] = 1\ndef metric(): return T",
    "with": "from contextlib import nullcontext\nwith nullcontext(1) as N: pass\ndef metric(): return N",
    "a walrus at the level of the module": "if (N := 1) > 0: pass\ndef metric(): return N",
    "starred": "A, *N = [0, 1]\ndef metric(): return N",
    "unicode": "größe_µ = 1\ndef metric(): return größe_µ",
    "import module": {
        "helpers.py": "def f(): return 1",
        "analysis.py": "import helpers\ndef metric(): return helpers.f()",
    },
    "import as": {"helpers.py": "N = 1", "analysis.py": "import helpers as h\ndef metric(): return h.N"},
    "import package": {
        "pkg/__init__.py": "",
        "pkg/sub.py": "def f(): return 1",
        "analysis.py": "import pkg.sub\ndef metric(): return pkg.sub.f()",
    },
    "import package as": {
        "pkg/__init__.py": "",
        "pkg/sub.py": "def f(): return 1",
        "analysis.py": "import pkg.sub as s\ndef metric(): return s.f()",
    },
    "from package import module": {
        "pkg/sub.py": "def f(): return 1",
        "analysis.py": "from pkg import sub\ndef metric(): return sub.f()",
    },
    "relative imports": {
        "pkg/__init__.py": "from .sub import g\nfrom . import sub",
        "pkg/sub.py": "from .deep.leaf import f\ndef g(): return f()",
        "pkg/deep/leaf.py": "from ..other import N\ndef f(): return N",
        "pkg/other.py": "N = 1",
        "analysis.py": "from pkg import g\ndef metric(): return g()",
    },
    "handed on by a package": {
        "pkg/__init__.py": "from pkg.sub import sub",
        "pkg/sub.py": "def sub(): return 1",
        "analysis.py": "import pkg\ndef metric(): return pkg.sub()",
    },
    "star import": {"helpers.py": "N = 1", "analysis.py": "from helpers import *\ndef metric(): return N"},
    "star import of a star import": {
        "deep.py": "N = 1",
        "helpers.py": "from deep import *",
        "analysis.py": "from math import *\nfrom helpers import *\ndef metric(): return N",
    },
    "conditional import": {
        "helpers.py": "def f(): return 1",
        "analysis.py": """
            try:
                from not_there_at_all import f
            except ImportError:
                from helpers import f
            def metric(): return f()
        """,
    },
    "an import inside": {
        "helpers.py": "def f(): return 1",
        "analysis.py": "def metric():\n    from helpers import f\n    return f()",
    },
    "a module imported inside": {
        "pkg/__init__.py": "",
        "pkg/sub.py": "def f(): return 1",
        "analysis.py": """
            def metric():
                import pkg.sub
                def inner(): return pkg.sub.f()
                return inner()
        """,
    },
    "a module that is handed around": {
        "helpers.py": "def f(): return 1",
        "analysis.py": "import helpers\ndef metric(): return getattr(helpers, 'f')()",
    },
    "a module by name": {
        "helpers.py": "def f(): return 1",
        "analysis.py": "import importlib\nh = importlib.import_module('helpers')\ndef metric(): return h.f()",
    },
    "modules that import each other": {
        "analysis.py": "import other\ndef metric(): return other.f()\nN = 1",
        "other.py": "import analysis\ndef f(): return analysis.N",
    },
    "a lazy package": {
        "pkg/__init__.py": "def __getattr__(name):\n    from pkg import sub\n    return sub.f",
        "pkg/sub.py": "def f(): return 1",
        "analysis.py": "import pkg\ndef metric(): return pkg.f()",
    },
    "a builtin that is hidden": "def len(x): return 1\ndef metric(): return len('abc')",
    "what makes a constant": "def build(): return 1\nN = build()\ndef metric(): return N",
    "what is deleted later": "def build(): return 1\nN = build()\ndel build\ndef metric(): return N",
    "a builtin used as usual": "def metric(): return 1 + len('abc')",
}

# In each there is one 1, which is not.
NOT_REACHED: dict[str, str] = {
    "a local of the same name": "x = 1\ndef metric():\n    x = 3\n    return x",
    "a parameter of the same name": "x = 1\ndef metric(x): return [x, lambda: x]",
    "an attribute of the same name": "x = 1\ndef metric(y): return y.x",
    "a keyword of the same name": "x = 1\ndef metric(): return dict(x=3)",
    "the variable of a comprehension": "x = 1\ndef metric(): return [x for x in 'ab']",
    "the name of an exception": "x = 1\ndef metric():\n    try: pass\n    except ValueError as x: return x",
    "a captured name": "x = 1\ndef metric(y):\n    match y:\n        case [x, *_]: return x",
    "a nested function of the same name": """
        def x(): return 1
        def metric():
            def x(): return 3
            return x()
    """,
    "an annotation": "class C: n = 1\ndef metric(x: 'C', y: C = 3) -> C:\n    z: C = x\n    return z",
    "a method's class by a method's name": """
        def m(): return 1
        class C:
            def m(self): return 3
        metric = C().m
    """,
    "what is defined anew": "def f(): return 1\ndef f(): return 3\ndef metric(): return f()",
    "a constant given anew": "N = 1\nN = 3\ndef metric(): return N",
    "an attribute of a module that is asked for others": """
        def __getattr__(name): raise AttributeError(name, 1)
        def metric(): return len(str(3))
    """,
    "what only the main program does": "def metric(): return 3\nif __name__ == '__main__':\n    print(1)",
}
