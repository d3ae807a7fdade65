"""Every python block of the README and of the guide runs, in order, as printed."""

import linecache
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_of(page: Path) -> str:
    """The python blocks of a page, each at its own lines, and empty lines around them.

    So a traceback, and an error that quotes a declaration, point into the page itself.
    """
    text = page.read_text(encoding="utf-8")
    code = ""
    for block in BLOCK.finditer(text):
        code += "\n" * (text.count("\n", 0, block.start(1)) - code.count("\n"))
        code += block.group(1)
    return code


PAGES_WITH_CODE = [page for page in PAGES if code_of(page)]


def run(page: Path, monkeypatch) -> dict[str, Any]:
    """What the code of a page leaves behind, by name."""
    name, code = str(page), code_of(page)
    # What reads the source of this code should find the code, without the prose.
    lines = code.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, name, (len(code), None, lines, name))
    left: dict[str, Any] = {"__name__": page.stem}
    exec(compile(code, name, "exec"), left)
    return left


@pytest.mark.parametrize(
    "page", PAGES_WITH_CODE, ids=lambda page: str(page.relative_to(ROOT))
)
def test_code_of_the_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run(page, monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_readme_shows_what_print_would(monkeypatch):
    page = ROOT / "README.md"
    assert str(run(page, monkeypatch)["portfolio"]) in page.read_text(encoding="utf-8")


def test_readme_and_guide_have_code():
    names = {page.name for page in PAGES_WITH_CODE}
    assert {"README.md", "index.md", "declare.md", "embed.md", "failure.md"} <= names
