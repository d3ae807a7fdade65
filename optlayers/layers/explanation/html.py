"""An outline as HTML that folds; no script, and nothing from elsewhere."""

from collections.abc import Iterator
from html import escape

from optlayers.layers.explanation.outline import Line

# Deeper branches start folded, unless something is wrong in them.
OPEN_DEPTH = 3


def html_of(line: Line) -> str:
    """The outline as nested <details>, every text escaped."""
    body = "\n".join(_parts(line, 0))
    return f'<div style="font-family: monospace; line-height: 1.5">\n{body}\n</div>'


def _parts(line: Line, depth: int) -> Iterator[str]:
    label = f"<b>{escape(line.source)}</b>"
    if line.facts:
        label += f" <span>{escape(line.facts)}</span>"
    if line.fault:
        label += f'<div style="color: #b00020">&#10007; {escape(line.fault)}</div>'
    if not line.lines:
        yield f'<div style="margin-left: 1.2em">{label}</div>'
        return
    is_open = " open" if depth < OPEN_DEPTH or _is_faulty(line) else ""
    yield f'<details style="margin-left: 1.2em"{is_open}><summary>{label}</summary>'
    for one in line.lines:
        yield from _parts(one, depth + 1)
    yield "</details>"


def _is_faulty(line: Line) -> bool:
    return bool(line.fault) or any(map(_is_faulty, line.lines))
