"""Long sums as balanced trees, so that no walk recurses as deep as a loop is long.

`cost += term` a thousand times nests a thousand sums; balanced, they nest ten deep.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from optlayers.compile.nodes import with_arguments
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.expressions import Expression
from optlayers.modeling.stages import intersection

# Shorter sums are left as they were written.
LONG = 16


def with_balanced_sums(declaration: Declaration) -> Declaration:
    """The same declaration, each of its long sums a balanced tree."""
    balanced = Chains().balanced
    return replace(
        declaration,
        objective=balanced(declaration.objective),
        constraints=tuple(
            replace(one, left=balanced(one.left), right=balanced(one.right))
            for one in declaration.constraints
        ),
    )


class Chains:
    """Balances the sums of one declaration, each once."""

    def __init__(self) -> None:
        self._known: dict[Expression, Expression] = {}

    def balanced(self, e: Expression) -> Expression:
        """The same expression, each of its long sums a balanced tree."""
        known = self._known.get(e)
        if known is None:
            known = self._known[e] = self._balanced(e)
        return known

    def _balanced(self, e: Expression) -> Expression:
        if not e.arguments or not e.depends_on_variables:
            return e
        terms = _terms(e)
        if len(terms) > LONG:
            return _tree([self.balanced(term) for term in terms], e)
        return with_arguments(e, tuple(map(self.balanced, e.arguments)))


def _terms(e: Expression) -> list[Expression]:
    """The terms of a sum of sums, from left to right."""
    found, pending = [], [e]
    while pending:
        one = pending.pop()
        if one.name == "add":
            pending.extend(reversed(one.arguments))
        else:
            found.append(one)
    return found


def _tree(terms: Sequence[Expression], whole: Expression) -> Expression:
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    left, right = _tree(terms[:half], whole), _tree(terms[half:], whole)
    return Expression(
        "add",
        (left, right),
        {},
        np.broadcast_shapes(left.shape, right.shape),
        intersection((left.stages, right.stages)),
        left.sign + right.sign,
        whole.origin,
    )
