"""Which subexpressions are written out once, as variables of their own.

cvxpy expands a declaration as a tree. In a loop x = x + h * (A @ x) every state is used
twice, and after T steps the tree has 2^T copies of the first.
"""

from collections import Counter
from collections.abc import Iterable

from optlayers.modeling.expressions import Expression

# Copies of a subexpression may take so many nodes together before a variable, which
# costs a column and a row for each of its entries, stands for it.
COPIED_NODES = 300


def shared(roots: Iterable[Expression]) -> frozenset[Expression]:
    """The subexpressions whose copies would make the tree of the roots too large.

    Args:
        roots: objective terms and sides of constraints.
    """
    order = _arguments_first(roots)
    uses = Counter(one for e in order for one in e.arguments)
    nodes: dict[Expression, int] = {}
    found = set()
    for e in order:
        size = 1 + sum(nodes[one] for one in e.arguments)
        if e.depends_on_variables and (uses[e] - 1) * size > COPIED_NODES:
            found.add(e)
            size = 1
        nodes[e] = size
    return frozenset(found)


def _arguments_first(roots: Iterable[Expression]) -> list[Expression]:
    """Every expression once, after its arguments."""
    order: list[Expression] = []
    seen: set[Expression] = set()
    pending = [(one, False) for one in roots]
    while pending:
        e, is_entered = pending.pop()
        if is_entered:
            order.append(e)
        elif e not in seen:
            seen.add(e)
            pending.append((e, True))
            pending.extend((one, False) for one in e.arguments)
    return order
