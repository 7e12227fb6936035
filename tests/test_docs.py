"""README and docs say what the code does: every block runs, or says why it does not."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from smm.config import json_schema
from tests.pages import CHECKED, ROOT, Block, blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_CHECKED = ("text", "json", "")
"""What a page shows without its being code: outputs, files, and directives of Sphinx in braces."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_or_says_why_not(page: Path, tmp_path: Path) -> None:
    # A process of its own: the pages import modules of the same name from different folders.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-P", str(ROOT / "tests" / "pages.py"), str(page)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_has_a_language_we_know(page: Path) -> None:
    for block in blocks(page.read_text()):
        known = block.language in (*CHECKED, *NOT_CHECKED) or block.language.startswith("{")
        assert known, f"{page.name}:{block.line}: {block.language}"
        if "not run here" in block.said:
            assert len(block.said["not run here"]) > 10, f"{page.name}:{block.line} does not say why"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_configuration_page_has_every_key_and_its_description() -> None:
    spec = importlib.util.spec_from_file_location("schema_page", ROOT / "docs" / "schema_page.py")
    assert spec is not None
    assert spec.loader is not None
    schema_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schema_page)
    schema = json_schema()
    page = schema_page.render(schema)
    definitions = schema["definitions"]
    tables = [schema, definitions["run"], definitions["metric"], *definitions["storage"]["anyOf"]]
    for table in tables:
        for key, value in table["properties"].items():
            assert re.search(
                rf"^\| `{key}` \| .*{re.escape(value['description'])} \|$", page, re.MULTILINE
            ), key


def commands_under(heading: str) -> list[Block]:
    text = (ROOT / "README.md").read_text()
    section = re.search(rf"^## {heading}$(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert section is not None, heading
    return list(blocks(section[1]))


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("Try it", "python -m pip install . && smm run configs/co2/metrics.yaml\n"),
        ("Run the tests", "python -m pip install -e '.[test]' && python -m pytest\n"),
    ],
)
def test_readme_has_each_of_the_two_commands_where_a_script_finds_it(heading: str, command: str) -> None:
    assert [block.text for block in commands_under(heading)] == [command]
