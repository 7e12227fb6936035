"""Code that is edited while a manager is at work: in cells of IPython's own shell, and in modules.

Run as a script in a process of its own, with the way of editing and a folder: `cells`, `reload` (of modules,
by importlib) or `autoreload` (of modules, by IPython). Prints a JSON object: for each combination of policy,
look and edit, the outcome of calling the metrics again.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import warnings
from pathlib import Path
from typing import Any

SETUP = """
import smm
STORAGE = smm.NpzStorageInterface({folder!r})
CM = smm.ParameterizedDatedCacheManager(STORAGE, verbose=False, on_stale={policy!r})
FACTOR = 10

def helper(x):
    return x * FACTOR

@CM.collect(params_list=[[1], [2]])
def base(x):
    return x + 1

@CM.collect(params_list=[[1], [2]])
def f(x):
    return helper(x)

@CM.collect(params_list=[[1], [2]])
def g(x):
    return helper(CM.base(x))

@CM.collect(params_list=[[1], [2]])
def h(x):
    return CM.g(x) + 1

report = CM.run()
CM.f(1), CM.g(1), CM.h(1)
"""
LOOKS = {
    "none": "",
    "call": "CM.f(1), CM.g(1), CM.h(1)",
    "why": "CM.why('f_1'), CM.why('g_1'), CM.why('h_1')",
    "plan": "CM.plan()",
    "graph": "CM.graph()",
    "get_all": "CM.f.get_all(), CM.g.get_all(), CM.h.get_all()",
    "run": "CM.run()",
    "status": "from smm import maintain; maintain.status(CM)",
}
OWN = """
@CM.collect(params_list=[[1], [2]])
def {name}(x):
    return helper({argument}) + 1000
"""
HELPER = "def helper(x):\n    return x * FACTOR + 1000"
UPSTREAM = "@CM.collect(params_list=[[1], [2]])\ndef base(x):\n    return x + 101"
# By edit: the cell, and what f, g and h of 1 and 2 are afterwards.
EDITS = {
    "own": (
        OWN.format(name="f", argument="x") + OWN.format(name="g", argument="CM.base(x)"),
        {"f": [1010, 1020], "g": [1020, 1030], "h": [1021, 1031]},
    ),
    "helper": (HELPER, {"f": [1010, 1020], "g": [1020, 1030], "h": [1021, 1031]}),
    "constant": ("FACTOR = 100", {"f": [100, 200], "g": [200, 300], "h": [201, 301]}),
    "upstream": (UPSTREAM, {"f": [10, 20], "g": [1020, 1030], "h": [1021, 1031]}),
    "helper in the cell that asks": (HELPER, {"f": [1010, 1020], "g": [1020, 1030], "h": [1021, 1031]}),
}
BEFORE = {"f": [10, 20], "g": [20, 30], "h": [21, 31]}
POLICIES = ("serve", "warn", "recompute", "error")


MODULES = {
    "store_{n}": """
import smm
CM = smm.ParameterizedDatedCacheManager(smm.MemoryStorageInterface(), verbose=False)
""",
    "tool_{n}": "FACTOR = 10\n\ndef helper(x):\n    return x * FACTOR\n",
    "below_{n}": """
from store_{n} import CM

@CM.collect(params_list=[[1], [2]])
def base(x):
    return x + 1
""",
    "study_{n}": """
import tool_{n} as tool
from store_{n} import CM

@CM.collect(params_list=[[1], [2]])
def f(x):
    return tool.helper(x)

@CM.collect(params_list=[[1], [2]])
def g(x):
    return tool.helper(CM.base(x))

@CM.collect(params_list=[[1], [2]])
def h(x):
    return CM.g(x) + 1
""",
}
# By edit: the module, what is replaced in it, and by what.
MODULE_EDITS = {
    "own": (
        "study",
        {"tool.helper(x)": "tool.helper(x) + 1000", "helper(CM.base(x))": "helper(CM.base(x)) + 1000"},
    ),
    "helper": ("tool", {"x * FACTOR": "x * FACTOR + 1000"}),
    "constant": ("tool", {"FACTOR = 10": "FACTOR = 100"}),
    "upstream": ("below", {"x + 1": "x + 101"}),
}


def edit_cells(folder: Path) -> dict[str, Any]:
    """Run every combination in cells, each in a folder and on a manager of its own."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    outcomes = {}
    for number, (policy, look, edit) in enumerate(itertools.product(POLICIES, LOOKS, EDITS)):
        run(shell, SETUP.format(folder=str(folder / str(number)), policy=policy))
        run(shell, LOOKS[look])
        cell = EDITS[edit][0]
        if edit.endswith("that asks"):
            run(shell, f"CM.f(1), CM.g(1), CM.h(1)\n{cell}\nOUTCOMES = " + ASK, OUTCOMES=None)
        else:
            run(shell, cell)
            run(shell, f"OUTCOMES = {ASK}", OUTCOMES=None)
        outcomes[f"{policy}, {look}, {edit}"] = shell.user_ns["OUTCOMES"]
    return outcomes


def edit_modules(folder: Path, *, autoreload: bool) -> dict[str, Any]:
    """Run every combination with modules in files, which are edited and reloaded."""
    shell = None
    if autoreload:
        from IPython.core.interactiveshell import InteractiveShell

        shell = InteractiveShell.instance()
        run(shell, "%load_ext autoreload")
        run(shell, "%autoreload 2")
    sys.path.insert(0, str(folder))
    outcomes = {}
    for number, (policy, look, edit) in enumerate(itertools.product(POLICIES, LOOKS, MODULE_EDITS)):
        # Modules of one name that come and go would confuse autoreload.
        texts = {name.format(n=number): text.format(n=number) for name, text in MODULES.items()}
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        importlib.import_module(f"study_{number}")
        importlib.import_module(f"below_{number}")
        manager = importlib.import_module(f"store_{number}").CM
        manager.on_stale = policy
        manager.run()
        if shell is not None:
            run(shell, "None")  # after the first cell, autoreload knows how the files look
        names = {"CM": manager, "ask": ask}
        exec("CM.f(1), CM.g(1), CM.h(1)", names)  # values are in memory
        exec(LOOKS[look], names)
        module, replaced = MODULE_EDITS[edit]
        module = f"{module}_{number}"
        for old, new in replaced.items():
            texts[module] = texts[module].replace(old, new)
        (folder / f"{module}.py").write_text(texts[module])
        if shell is None:
            importlib.reload(sys.modules[module])
        else:
            run(shell, "None")  # autoreload looks for edited files before each cell
        outcomes[f"{policy}, {look}, {edit}"] = eval(ASK, names)
    return outcomes


ASK = "{name: [ask(getattr(CM, name), x) for x in (1, 2)] for name in ('f', 'g', 'h')}"


def ask(metric: Any, x: int) -> tuple[Any, int]:
    """Return the value, or the name of the error; and how many warnings came."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value: Any = metric(x)
        except Exception as error:  # noqa: BLE001 - its name is the outcome
            value = type(error).__name__
    return value, len(caught)


def run(shell: Any, cell: str, **names: Any) -> None:
    """Run a cell as a person does; an error in it ends the process."""
    shell.user_ns.update(names, ask=ask)
    result = shell.run_cell(cell, store_history=True, silent=False)
    result.raise_error()


if __name__ == "__main__":
    way, where = sys.argv[1], Path(sys.argv[2])
    found = edit_cells(where) if way == "cells" else edit_modules(where, autoreload=way == "autoreload")
    print("\n" + json.dumps(found))
