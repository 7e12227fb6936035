"""Sphinx configuration: `sphinx-build -W docs docs/_build`, with the `docs` extra installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import schema_page  # noqa: E402 - beside this file

import smm  # noqa: E402

project = "smm"
author = "the smm developers"
release = version = smm.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "_generated"]
nitpicky = False  # types of numpy and of protocols have no page to point at

html_theme = "furo"
html_title = f"smm {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
default_role = "code"  # docstrings write code in single backticks


def setup(app: Any) -> None:
    """Write the page of configuration keys before Sphinx looks for its sources."""
    app.connect("builder-inited", _write_schema_page)


def _write_schema_page(_app: Any) -> None:
    from smm.config import json_schema

    generated = HERE / "_generated"
    generated.mkdir(exist_ok=True)
    (generated / "configuration-keys.md").write_text(schema_page.render(json_schema()))
