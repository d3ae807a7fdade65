"""An outline as plain text with branches, 88 columns wide."""

import textwrap
from collections.abc import Iterator

from optlayers.layers.explanation.outline import Line

WIDTH = 88
SOURCE_WIDTH = 48


def text_of(line: Line) -> str:
    """The outline, a line each where it fits, else wrapped under itself."""
    return "\n".join(_lines(line, "", ""))


def shortened(source: str) -> str:
    """Source on one line, cut in the middle where it is long."""
    if len(source) <= SOURCE_WIDTH:
        return source
    half = (SOURCE_WIDTH - 3) // 2
    return f"{source[:half]} … {source[-half:]}"


def _lines(line: Line, first: str, rest: str) -> Iterator[str]:
    """Lines under a branch.

    Args:
        line: what to write.
        first: what stands before its first line.
        rest: what stands before everything under it.
    """
    text = shortened(line.source)
    if line.facts:
        text = f"{text}: {line.facts}"
    lead = "│ " if line.lines else "  "
    yield from _wrapped(text, first, rest + lead)
    if line.fault:
        yield from _wrapped(f"✗ {line.fault}", rest + lead, rest + lead + "  ")
    for position, one in enumerate(line.lines):
        is_last = position == len(line.lines) - 1
        branch, under = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield from _lines(one, rest + branch, rest + under)


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    # Deep trees keep a readable column, wider than the page if it must be.
    width = max(WIDTH, len(rest) + 32)
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
