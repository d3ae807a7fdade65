"""Variables and parameters of cvxpy as fields, and what their attributes imply."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np

from optlayers.compat.bridge.naming import Leaf, describe_leaf
from optlayers.errors import NotSupported
from optlayers.modeling.expressions import Expression, apply, relate
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.fields import Field
from optlayers.modeling.language import psd_matrix

# Attributes without a continuous meaning, and why they have none here.
_REFUSED = {
    "integer": "integers are no convex set, and a solution that jumps has no gradient",
    "boolean": "0 and 1 are no convex set, and a solution that jumps has no gradient",
    "complex": "write real and imaginary parts as two real ones",
    "imag": "write the imaginary part as a real one",
    "hermitian": "write real and imaginary parts as two real ones",
}

_UNCHECKED = (
    "values are not checked for it, and a gradient passes between such values; leave "
    "the attribute out and give what values you like"
)

Translate = Callable[[Any], Expression]


@dataclass(frozen=True, eq=False)
class TranslatedLeaf:
    """One variable or parameter of cvxpy.

    Attributes:
        leaf: the cvxpy object.
        field: what it is declared as.
    """

    leaf: Leaf
    field: Field

    def expression(self, whole: Expression) -> Expression:
        """What stands for it in expressions, zeros outside its sparsity pattern."""
        attributes = self.leaf.attributes
        mask = _mask(self.leaf)
        if mask is not None:
            return apply("multiply", (mask.astype(float), whole))
        if attributes["NSD"] and isinstance(self.leaf, cp.Parameter):
            return apply("negate", (psd_matrix(apply("negate", (whole,))),))
        return whole

    def constraints(
        self, name: str, whole: Expression, translate: Translate
    ) -> dict[str, Any]:
        """What its attributes demand beyond those of the field, by name.

        Args:
            name: the field's name.
            whole: the field's expression.
            translate: from cvxpy's expressions to ours.
        """
        if isinstance(self.leaf, cp.Parameter):
            return {}
        found: dict[str, Any] = {}
        mask = _mask(self.leaf)
        if mask is not None and not mask.all():
            found[f"{name}.sparsity"] = whole[~mask] == 0.0
        if self.leaf.attributes["NSD"]:
            found[f"{name}.nsd"] = relate("<<", whole, np.zeros(self.leaf.shape))
        for side, bound in zip(("lower", "upper"), _bounds(self.leaf), strict=True):
            relation = ">=" if side == "lower" else "<="
            if isinstance(bound, cp.Expression):
                found[f"{name}.{side}"] = relate(relation, whole, translate(bound))
            elif getattr(self.field, side) is None and np.isfinite(bound).any():
                held = np.isfinite(np.broadcast_to(bound, self.leaf.shape))
                limits = np.broadcast_to(bound, self.leaf.shape)[held]
                found[f"{name}.{side}"] = relate(relation, whole[held], limits)
        return found


def translate_leaf(leaf: Leaf) -> TranslatedLeaf:
    """The field of a cvxpy variable or parameter.

    Raises:
        NotSupported: an integer, boolean or complex variable or parameter, or a stack
            of symmetric matrices.
    """
    _refuse(leaf)
    given = leaf.attributes
    lower, upper = (_plain_bound(leaf, bound) for bound in _bounds(leaf))
    declare = Variable if isinstance(leaf, cp.Variable) else Parameter
    field = declare(
        tuple(leaf.shape),
        nonneg=bool(given["nonneg"] or given["pos"]),
        nonpos=bool(given["nonpos"] or given["neg"]),
        symmetric=bool(given["symmetric"] or given["NSD"]),
        psd=bool(given["PSD"]),
        lower=lower,
        upper=upper,
    )
    return TranslatedLeaf(leaf, field)


def _refuse(leaf: Leaf) -> None:
    is_parameter = isinstance(leaf, cp.Parameter)
    for attribute, reason in _REFUSED.items():
        if not _is_set(leaf.attributes[attribute]):
            continue
        if is_parameter and attribute in ("integer", "boolean"):
            reason = _UNCHECKED
        raise NotSupported(f"{describe_leaf(leaf)} is {attribute}: {reason}.")
    for attribute in ("symmetric", "PSD", "NSD"):
        if leaf.attributes[attribute] and leaf.ndim != 2:
            raise NotSupported(
                f"{describe_leaf(leaf)} is a stack of {attribute} matrices; declare "
                "one variable for each."
            )


def _is_set(attribute: Any) -> bool:
    return attribute is True or (attribute is not False and len(attribute) > 0)


def _mask(leaf: Leaf) -> np.ndarray | None:
    """Which entries may differ from zero; None if all may."""
    if leaf.attributes["diag"]:
        return np.eye(leaf.shape[0], dtype=bool)
    if leaf.sparse_idx is None:
        return None
    mask = np.zeros(leaf.shape, dtype=bool)
    mask[leaf.sparse_idx] = True
    return mask


def _bounds(leaf: Leaf) -> tuple[Any, Any]:
    """Lower and upper bound: arrays or expressions, infinite where there is none."""
    bounds = leaf.attributes["bounds"]
    if bounds is None:
        return np.asarray(-np.inf), np.asarray(np.inf)
    lower, upper = (
        one if isinstance(one, cp.Expression) else np.asarray(one, dtype=float)
        for one in bounds
    )
    return lower, upper


def _plain_bound(leaf: Leaf, bound: Any) -> Any:
    """The bound as a field takes it: a number or array, finite everywhere; or None."""
    if isinstance(bound, cp.Expression):
        return None
    if isinstance(leaf, cp.Parameter):
        # Only checked, never part of a program: the largest number is no bound.
        largest = np.finfo(np.float64).max
        if not np.isfinite(bound).any():
            return None
        bound = np.clip(bound, -largest, largest)
    if not np.isfinite(bound).all():
        return None
    first = bound.flat[0] if bound.size else 0.0
    return float(first) if np.all(bound == first) else bound
