"""A declaration at given parameter values as a plain cvxpy problem, for reading.

Every atom is its cvxpy twin and every parameter a number: nothing is lifted. Attributes
of variables stay attributes; the other constraints keep their order.
"""

from collections.abc import Iterator, Mapping, Sequence

import cvxpy as cp
import numpy as np
import torch
from cvxpy.constraints.nonpos import Inequality
from cvxpy.constraints.zero import Equality
from torch import Tensor, nn

from optlayers.compile.chains import with_balanced_sums
from optlayers.compile.columns import full_shape
from optlayers.compile.cvxpy_private import CVXPY_LOCK, problem_of
from optlayers.compile.explain import describe_pose
from optlayers.compile.leaves import LeafTable
from optlayers.compile.lowering import Lowering
from optlayers.compile.parametric import Parametrics
from optlayers.errors import NotConvex
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField

_ATTRIBUTES = ("nonneg", "nonpos", "psd", "lower", "upper")


def declared_in_cvxpy(
    declaration: Declaration,
    values: Mapping[str, Tensor],
    captured: Mapping[str, nn.Module | Tensor],
    is_geometric: bool = False,
) -> cp.Problem:
    """The problem of one sample, its variables by their names in `var_dict`.

    Args:
        declaration: of known sizes.
        values: tensor of every parameter, of its declared shape.
        captured: parameters and modules met in the declaration, by name.
        is_geometric: whether variables are positive, for cvxpy's `solve(gp=True)`.

    Raises:
        NotConvex: an atom without a cvxpy twin, or what cvxpy takes for another one.
    """
    with CVXPY_LOCK:
        declaration = with_balanced_sums(declaration)
        parametrics = Parametrics()
        lowering = Lowering(LeafTable(parametrics), parametrics)
        wanted = [
            one
            for one in declaration.constraints
            if not _is_attribute(one, declaration)
        ]
        roots = [declaration.objective]
        roots += [side for one in wanted for side in (one.left, one.right)]
        _assume_values(lowering, roots, values, captured)
        for e in _fields(roots):
            lowering.assume(e, _variable(e.options["field"], is_geometric))
        constraints = [
            constraint for one in wanted for constraint in _lowered(lowering, one)
        ]
        objective = lowering.lower(declaration.objective)
        sense = cp.Maximize if declaration.sense == "maximize" else cp.Minimize
        return problem_of(sense(objective), constraints)


def _assume_values(
    lowering: Lowering,
    roots: Sequence[Expression],
    values: Mapping[str, Tensor],
    captured: Mapping[str, nn.Module | Tensor],
) -> None:
    """Put a number in the place of every subexpression without variables."""
    known = [one for one in _walk(roots) if not one.depends_on_variables]
    with torch.no_grad():
        numbers = Evaluator(known)(values, captured)
    for one, number in zip(known, numbers, strict=True):
        array = number.detach().cpu().double().numpy()
        lowering.assume(one, cp.Constant(np.array(array)))


def _fields(roots: Sequence[Expression]) -> Iterator[Expression]:
    return (one for one in _walk(roots) if one.name == "field" and _is_variable(one))


def _walk(roots: Sequence[Expression]) -> Iterator[Expression]:
    """Every subexpression once, not into those without variables."""
    seen: set[Expression] = set()
    pending = list(reversed(roots))
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        if one.depends_on_variables:
            pending.extend(reversed(one.arguments))


def _is_variable(field: Expression) -> bool:
    return field.options["field"].is_variable


def _is_attribute(one: Constraint, declaration: Declaration) -> bool:
    name, _, attribute = one.name.rpartition(".")
    return name in declaration.fields and attribute in _ATTRIBUTES


def _variable(field: BoundField, is_geometric: bool) -> cp.Variable:
    if field.group is not None:
        raise NotConvex(describe_pose(field))
    shape = full_shape(field)
    bounds = None
    if field.lower is not None or field.upper is not None:
        sides = ((field.lower, -np.inf), (field.upper, np.inf))
        bounds = [_bound(side, absent, shape) for side, absent in sides]
    return cp.Variable(
        shape,
        name=field.name,
        nonneg=field.nonneg,
        nonpos=field.nonpos,
        pos=is_geometric,
        symmetric=field.symmetric and not field.psd,
        PSD=field.psd,
        bounds=bounds,
    )


def _bound(
    side: float | Tensor | None, absent: float, shape: tuple[int, ...]
) -> float | np.ndarray:
    if side is None:
        return absent
    return np.broadcast_to(np.asarray(side, dtype=float), shape).copy()


def _lowered(lowering: Lowering, one: Constraint) -> Iterator[cp.Constraint]:
    """A relation of two sides as it is written; cones as cvxpy's own."""
    if one.relation not in ("==", "<=") or one.stages is not None:
        pieces = lowering.constraint(one, one.left, one.right)
        found = [piece.constraint for piece in pieces]
    else:
        sides = (lowering.lower(one.left), lowering.lower(one.right))
        found = [Equality(*sides) if one.relation == "==" else Inequality(*sides)]
    if len(found) == 1:
        found[0].set_label(one.name)
    yield from found
