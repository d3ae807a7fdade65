"""cvxpy's expression trees in our words, node by node, what is shared once."""

from collections.abc import Mapping
from typing import Any

import cvxpy as cp
import numpy as np

from optlayers.compat.bridge.atoms import (
    OF_PARAMETERS,
    OTHER_ARGUMENTS,
    SYMMETRIC_ARGUMENTS,
    rule_for,
)
from optlayers.compat.bridge.naming import describe_leaf
from optlayers.errors import DeclarationError, NotSupported
from optlayers.modeling.expressions import Expression, apply, as_expression
from optlayers.modeling.origin import quoting

PLACE = "cvxpy problem"


class Translator:
    """Translates the expressions of one problem, each node once.

    Attributes:
        symmetric: matrices that have to equal their transposes: cvxpy adds that to the
            problem where an atom of symmetric matrices takes another.
    """

    def __init__(self, leaves: Mapping[int, Expression]) -> None:
        """Begin with what is known.

        Args:
            leaves: the expression of each variable and parameter, by cvxpy's id.
        """
        self._leaves = leaves
        self.symmetric: list[Expression] = []
        # Each node with its translation: an id is unique while the node lives.
        self._known: dict[int, tuple[cp.Expression, Expression]] = {}

    def __call__(self, expression: cp.Expression) -> Expression:
        """The same expression in our words.

        Raises:
            NotSupported: an atom that has no counterpart; names it and its place.
        """
        # Not by recursion: a loop over stages nests deeper than Python recurses.
        pending = [expression]
        while pending:
            node = pending[-1]
            unknown = [one for one in _arguments(node) if id(one) not in self._known]
            if unknown:
                pending += reversed(unknown)
                continue
            pending.pop()
            if id(node) not in self._known:
                with quoting(PLACE, node):
                    self._known[id(node)] = (node, self._translate(node, expression))
        return self._known[id(expression)][1]

    def _translate(self, node: Any, root: cp.Expression) -> Expression:
        if isinstance(node, cp.Variable | cp.Parameter):
            return self._leaf(node)
        if isinstance(node, cp.Constant):
            return as_expression(_array(node))
        rule = rule_for(type(node))
        if rule is None:
            raise NotSupported(_unknown_atom(node, root))
        arguments = [self._known[id(one)][1] for one in _arguments(node)]
        has_variables = any(one.depends_on_variables for one in arguments)
        if has_variables and type(node) in OF_PARAMETERS:
            raise NotSupported(_unknown_atom(node, root, "of variables "))
        position = SYMMETRIC_ARGUMENTS.get(type(node))
        if position is not None and not node.args[position].is_symmetric():
            self.symmetric.append(arguments[position])
        found = rule(node, arguments)
        if found.shape == node.shape:
            return found
        if _without_ones(found.shape) == _without_ones(node.shape):
            return apply("reshape", (found,), shape=node.shape)
        raise NotSupported(
            f"{PLACE}: {type(node).__name__} is {list(node.shape)} in cvxpy and "
            f"{list(found.shape)} here; write `{_quoted(node)}` in another way."
        )

    def _leaf(self, leaf: Any) -> Expression:
        known = self._leaves.get(leaf.id)
        if known is None:
            raise DeclarationError(f"{describe_leaf(leaf)} is not in the problem.")
        return known


def _arguments(node: Any) -> list[cp.Expression]:
    """What a node is applied to, expressions kept beside its arguments included."""
    if isinstance(node, cp.Variable | cp.Parameter | cp.Constant):
        return []
    others = OTHER_ARGUMENTS.get(type(node))
    return [*node.args, *(others(node) if others is not None else ())]


def _array(constant: cp.Constant) -> Any:
    value = constant.value
    if np.iscomplexobj(value):
        raise NotSupported(
            f"{PLACE}: the constant {_quoted(constant)} is complex; write real and "
            "imaginary parts apart."
        )
    return value


def _unknown_atom(node: Any, root: cp.Expression, of: str = "") -> str:
    name = type(node).__name__
    inside = "" if node is root else f", in `{_quoted(root)}`"
    return (
        f"{PLACE}: `{_quoted(node)}`{inside}: the atom {name} {of}has no counterpart "
        "here."
        "\n  Write it with other atoms, or declare the problem with @ol.problem."
    )


def _quoted(expression: cp.Expression) -> str:
    text = " ".join(str(expression).split())
    return text if len(text) <= 200 else text[:197] + "..."


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
