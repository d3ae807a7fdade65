"""Every python block of the README and of the guide runs, in order, as printed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    """The blocks of a page, each moved down to the line where it stands in it.

    So a traceback, and an error that quotes a declaration, point into the page itself.
    """
    text = page.read_text(encoding="utf-8")
    return [
        "\n" * text.count("\n", 0, match.start(1)) + match.group(1)
        for match in BLOCK.finditer(text)
    ]


PAGES_WITH_CODE = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize(
    "page", PAGES_WITH_CODE, ids=lambda page: str(page.relative_to(ROOT))
)
def test_code_of_the_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    reader = {"__name__": page.stem}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), reader)
    assert list(tmp_path.iterdir()) == []


def test_readme_and_guide_have_code():
    names = {page.name for page in PAGES_WITH_CODE}
    assert {"README.md", "index.md", "declare.md", "embed.md", "failure.md"} <= names
