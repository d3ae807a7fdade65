"""Membership in cones as cvxpy constraints, and where their multipliers stand.

Leading axes are several cones; they are lowered side by side, in C order.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.constraints.nonpos import Inequality
from cvxpy.constraints.zero import Equality

from optlayers.modeling.cones import Cone, ConeName, Stack


class Piece(NamedTuple):
    """One cvxpy constraint, and how to read the multiplier off its rows.

    Attributes:
        constraint: the constraint.
        rows: the row of `constraint` that holds each entry, in the shape of the
            multiplier (of a stack: of its part along the last axis).
        scale: what each of these rows is multiplied with, of the same shape.
    """

    constraint: cp.Constraint
    rows: np.ndarray
    scale: np.ndarray


def entrywise(constraint: cp.Constraint, shape: tuple[int, ...]) -> Piece:
    """The piece of an equation or inequality, whose rows are its entries in F order."""
    rows = np.arange(np.prod(shape, dtype=int)).reshape(shape, order="F")
    return Piece(constraint, rows, np.ones(shape))


def conic(cone: Cone | Stack, e: cp.Expression) -> list[Piece]:
    """An expression [*lead, *shape of the cone], stages first, held in a cone.

    Args:
        cone: which cone, or the cones along the last axis.
        e: affine; of "nonneg" it may be concave.
    """
    if isinstance(cone, Stack):
        return list(_stacked(cone, e))
    return [_CONES[cone.name](cone, e)]


def svec_numbers(order: int) -> np.ndarray:
    """The place in the scaled upper triangle of each entry of a symmetric matrix.

    cvxpy hands a semidefinite cone to Clarabel as the upper triangle column by column,
    off-diagonal entries times sqrt 2.
    """
    columns, rows = np.tril_indices(order)
    numbers = np.zeros((order, order), dtype=np.int64)
    numbers[rows, columns] = numbers[columns, rows] = np.arange(len(rows))
    return numbers


def _stacked(stack: Stack, e: cp.Expression) -> Iterator[Piece]:
    first, whole = 0, (slice(None),) * (e.ndim - 1)
    for cone in stack.cones:
        part = e[(*whole, slice(first, first + cone.rows))]
        first += cone.rows
        if cone.name != "psd":
            yield _CONES[cone.name](cone, part)
            continue
        rows = _separate(part, cone.rows)
        matrices = cp.reshape(
            rows @ _matrix_from_triangle(cone.size).T,
            (rows.shape[0], cone.size, cone.size),
            order="C",
        )
        yield _one_by_one(_semidefinite(matrices), part.shape)


def _zero(_: Cone, e: cp.Expression) -> Piece:
    return entrywise(Equality(cp.Constant(0.0), e), e.shape)


def _nonneg(_: Cone, e: cp.Expression) -> Piece:
    return entrywise(Inequality(cp.Constant(0.0), e), e.shape)


def _soc(cone: Cone, e: cp.Expression) -> Piece:
    if cone.size == 1:
        return _nonneg(cone, e)
    rows = _separate(e, cone.size)
    return _one_by_one(cp.SOC(rows[:, 0], rows[:, 1:], axis=1), e.shape)


def _psd(cone: Cone, e: cp.Expression) -> Piece:
    order = cone.size
    number = e.size // order**2
    matrices = cp.reshape(e, (number, order, order), order="C")
    inside = svec_numbers(order)
    first = np.arange(number)[:, None, None] * (order * (order + 1) // 2)
    scale = np.where(np.eye(order, dtype=bool), 1.0, np.sqrt(0.5))
    return Piece(
        _semidefinite(matrices),
        (first + inside).reshape(e.shape),
        np.broadcast_to(scale, e.shape),
    )


def _exp(cone: Cone, e: cp.Expression) -> Piece:
    x, y, z = _columns(e)
    return _one_by_one(cp.ExpCone(x, y, z), e.shape)


def _power(cone: Cone, e: cp.Expression) -> Piece:
    x, y, z = _columns(e)
    exponents = np.tile(cone.exponents, x.size // len(cone.exponents))
    return _one_by_one(cp.PowCone3D(x, y, z, exponents), e.shape)


def _semidefinite(matrices: cp.Expression) -> cp.Constraint:
    """One cone a matrix; without the first axis, which few solvers need to know."""
    return cp.PSD(matrices[0] if matrices.shape[0] == 1 else matrices)


def _columns(e: cp.Expression) -> tuple[cp.Expression, cp.Expression, cp.Expression]:
    rows = _separate(e, 3)
    return rows[:, 0], rows[:, 1], rows[:, 2]


def _separate(e: cp.Expression, size: int) -> cp.Expression:
    """One row a cone, [number, size]."""
    return cp.reshape(e, (e.size // size, size), order="C")


def _one_by_one(constraint: cp.Constraint, shape: tuple[int, ...]) -> Piece:
    """The piece of cones whose rows follow each other, one cone after another."""
    rows = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return Piece(constraint, rows, np.ones(shape))


def _matrix_from_triangle(order: int) -> sp.csr_array:
    """The map from the scaled triangle to the entries of the matrix, row by row."""
    numbers = svec_numbers(order).ravel()
    scale = np.where(np.eye(order, dtype=bool), 1.0, np.sqrt(0.5)).ravel()
    places = (np.arange(order**2), numbers)
    return sp.csr_array((scale, places), (order**2, order * (order + 1) // 2))


_CONES: Mapping[ConeName, Callable[[Cone, cp.Expression], Piece]] = {
    "zero": _zero,
    "nonneg": _nonneg,
    "soc": _soc,
    "psd": _psd,
    "exp": _exp,
    "power": _power,
}
