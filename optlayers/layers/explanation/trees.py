"""An outline as a tree for a rich console."""

from rich.text import Text
from rich.tree import Tree

from optlayers.layers.explanation.outline import Line
from optlayers.layers.explanation.text import shortened


def tree_of(line: Line) -> Tree:
    """The outline, sources in bold, faults in red."""
    tree = Tree(_label(line), guide_style="dim")
    _grow(tree, line)
    return tree


def _grow(tree: Tree, line: Line) -> None:
    for one in line.lines:
        _grow(tree.add(_label(one)), one)


def _label(line: Line) -> Text:
    label = Text(shortened(line.source), style="bold")
    if line.facts:
        label.append(f": {line.facts}", style="not bold dim")
    if line.fault:
        label.append(f"\n✗ {line.fault}", style="not bold red")
    return label
