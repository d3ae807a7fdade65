"""How one operation is prepared for cvxpy's rules on parameters: a rule for each.

A rule is given the node, its arguments prepared, and returns one of the same value in
which no parameter multiplies another, or as few as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from optlayers.compile.coefficients import matrix_of
from optlayers.compile.nodes import Place, parameter_first, with_arguments
from optlayers.compile.parametric import constant, same
from optlayers.compile.semidefinite import symmetric_root
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.expressions import Expression, Sign

if TYPE_CHECKING:
    from optlayers.compile.lifting import Lifter


def _multiply(lifter: Lifter, e: Expression) -> Expression:
    if same(*e.arguments):
        return _power_node(e, e.arguments[0])
    mine, other = parameter_first(e)
    return e if mine is None else lifter.scale(mine, other, e)


def _divide(lifter: Lifter, e: Expression) -> Expression:
    top, bottom = e.arguments
    if bottom.depends_on_variables or not lifter.parametrics.is_parametric(bottom):
        return e
    return lifter.scale(lifter.parametrics.reciprocal(bottom), top, e)


def _matmul(lifter: Lifter, e: Expression) -> Expression:
    left, right = e.arguments
    if e.shape == () and same(left, right):
        return Expression(
            "sum_squares", (left,), {}, (), e.stages, Sign.NONNEG, e.origin
        )
    if not left.depends_on_variables:
        return lifter.multiply_left(left, right, e)
    if not right.depends_on_variables:
        return lifter.multiply_right(left, right, e)
    return e


def _bilinear(lifter: Lifter, e: Expression) -> Expression:
    if sum(map(lifter.parametrics.is_parametric, e.arguments)) < 2:
        return e
    arguments = (
        lifter.freed(one) if one.depends_on_variables else one for one in e.arguments
    )
    return with_arguments(e, tuple(arguments))


def _kron(lifter: Lifter, e: Expression) -> Expression:
    """A product of all pairs of entries, for cvxpy's kron takes no parameters."""
    factor, other = parameter_first(e)
    if factor is None or not lifter.parametrics.is_parametric(factor):
        return e
    pieces = [torch.ones(one.shape) for one in (factor, other)]
    ones, other_ones = map(constant, pieces)
    is_left = factor is e.arguments[0]
    pair = (factor, other_ones) if is_left else (other_ones, factor)
    spread = lifter.parametrics.derive(
        torch.kron, *pair, shape=e.shape, sign=factor.sign
    )
    other = lifter.freed(other)
    repeated = (ones, other) if is_left else (other, ones)
    return lifter.scale(spread, with_arguments(e, repeated, sign=other.sign), e)


def _multilinear(lifter: Lifter, e: Expression) -> Expression:
    """The matrix of the map of the one argument with variables, times its entries."""
    moving = [k for k, one in enumerate(e.arguments) if one.depends_on_variables]
    if len(moving) != 1:
        return e
    (place,) = moving
    argument = e.arguments[place]
    fixed = tuple(one for k, one in enumerate(e.arguments) if k != place)
    if not any(map(lifter.parametrics.is_parametric, fixed)):
        return e
    sizes = [int(np.prod(one.shape, dtype=int)) for one in (e, argument)]
    matrix = lifter.parametrics.derive(
        partial(matrix_of, function=ATOMS[e.name].torch_function, place=place,
                shape=argument.shape, options=tuple(e.options.items())),
        *fixed, shape=(sizes[0], sizes[1]),
        sign=ATOMS[e.name].sign([one.sign for one in fixed], e.options),
    )  # fmt: skip
    flat = _reshaped(argument, (sizes[1],))
    image = Place((sizes[0],), e.stages, e.origin)
    return _reshaped(lifter.multiply_left(matrix, flat, image), e.shape)


def _reshaped(e: Expression, shape: tuple[int, ...]) -> Expression:
    if e.shape == shape:
        return e
    options = {"shape": shape, "order": "C"}
    return Expression("reshape", (e,), options, shape, e.stages, e.sign, e.origin)


def _scalene(lifter: Lifter, e: Expression) -> Expression:
    """Slopes that are parameters stand outside of the two parts."""
    x, *slopes = e.arguments
    if any(one.depends_on_variables for one in slopes):
        return e
    terms = []
    for name, slope in zip(("pos", "neg"), slopes, strict=True):
        part = Expression(name, (x,), {}, x.shape, x.stages, Sign.NONNEG, e.origin)
        terms.append(lifter.scale(slope, part, e))
    return Expression("add", tuple(terms), {}, e.shape, e.stages, e.sign, e.origin)


def _dotsort(lifter: Lifter, e: Expression) -> Expression:
    """cvxpy takes parameters in the weights or in the vector, not in both."""
    vector, weights = e.arguments
    if not lifter.parametrics.is_parametric(weights):
        return e
    return with_arguments(e, (lifter.freed(vector), weights))


def _quad_form(lifter: Lifter, e: Expression) -> Expression:
    """x'Q x with a parametric Q is |R x|^2 with R R = Q."""
    argument, Q = e.arguments[0], lifter.parametrics.semidefinite(e)
    if Q is None:
        return e
    root = lifter.parametrics.derive(symmetric_root, Q, shape=Q.shape, origin=Q.origin)
    image = Expression(
        "matmul", (root, argument), {}, argument.shape, e.stages, Sign.UNKNOWN, e.origin
    )
    image = lifter.multiply_left(root, argument, image)
    return Expression("sum_squares", (image,), {}, (), e.stages, Sign.NONNEG, e.origin)


def _power_node(e: Expression, base: Expression) -> Expression:
    return Expression(
        "power", (base,), {"p": 2}, e.shape, e.stages, Sign.NONNEG, e.origin
    )


RULES: Mapping[str, Callable[[Lifter, Expression], Expression]] = {
    "multiply": _multiply,
    "divide": _divide,
    "matmul": _matmul,
    "vdot": _bilinear,
    "outer": _bilinear,
    "kron": _kron,
    "convolve": _multilinear,
    "einsum": _multilinear,
    "scalene": _scalene,
    "dotsort": _dotsort,
    "quad_form": _quad_form,
}
