"""Least squares of plain functions, with robust losses, differentiable as `minimize`.

minimize sum_i phi(r_i(x)) subject to lower <= x <= upper, where phi(r) is r^2 or grows
more slowly: C^2 rho(r^2 / C^2).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import ParameterError, ShapeError
from optlayers.functional.minimize import (
    checked_bounds,
    points_of,
    refuse_transforms,
    rows_of,
    solve_with,
)
from optlayers.functional.options import SolveOptions
from optlayers.functional.pytrees import Unknowns
from optlayers.linalg.pattern import Pattern
from optlayers.programs.losses import loss_named
from optlayers.programs.minimize import BatchFunction, MinimizeProgram
from optlayers.solution import Solution
from optlayers.solvers.plan import OnFailure

Loss = str | Callable[[Tensor], Tensor]


def least_squares(
    residuals: Callable[[Any], Tensor],
    start: Any,
    *,
    lower: Any = None,
    upper: Any = None,
    loss: Loss = "linear",
    scale: Tensor | float = 1.0,
    sparsity: Tensor | None = None,
    starts: Any = None,
    solver: Any = "auto",
    tolerance: float | None = None,
    on_failure: OnFailure = "raise",
    order: int = 1,
    gradient: str = "exact",
) -> Solution:
    """Find the x whose residuals have the least sum of squares, or of a loss.

    As `minimize` of that sum, but methods see the residuals: Levenberg-Marquardt by
    default, within bounds too. The derivative is that of the sum itself.

    Args:
        residuals: smooth, [*batch, n] -> [*batch, k]; with a pytree as start, the same
            pytree in. Row i of the result depends on row i alone.
        start: [*batch, n], or a pytree of tensors [B, ...]; where the search begins.
        lower: bounds; a number, [n] or [*batch, n]; with a pytree as start also the
            same pytree, with or without the batch. Infinite entries stand for none.
        upper: likewise.
        loss: of each residual r: "linear" (r^2), "soft_l1", "huber", "cauchy",
            "arctan" (as SciPy's, without its half), "geman_mcclure", "welsch",
            "tukey"; or a function phi of residuals [*batch, k], entry by entry, which
            grows with |r|.
        scale: C, how large a residual must be to count less, a number or [*batch]; of
            named losses.
        sparsity: which residual depends on which unknown, [k, n], not zero where one
            may; dense or sparse. The Jacobian is then found and factorized by it.
        starts: as of `minimize`.
        solver: a registered name of kind "minimize" ("levenberg_marquardt",
            "gauss_newton", ...), "auto", or an instance.
        tolerance: the largest entry of the KKT residual that counts as zero, each entry
            of the gradient relative to the terms that it is the sum of where these are
            above 1; 1e-8 in float64, 1e-4 in float32 if None.
        on_failure: "raise", "nan" or "keep".
        order: how often the result may be differentiated.
        gradient: as of `minimize`.

    Returns:
        A `Solution`: `value` in the form of start; `duals["lower"]` and
        `duals["upper"]` [*batch, n] of the bounds given; `status` and `stats` [*batch].
        Value and duals are differentiable in every tensor that `residuals` closes over,
        modules included, in the bounds and in the scale.

    Raises:
        ShapeError: residuals, scale, sparsity or a bound do not have the form they
            must have.
        UnknownName: no loss, or no solver, has that name.
        ParameterError: an option out of its range, another dtype than that of start,
            a scale that is not positive, or bounds that exclude each other.
        SolverRefused: the solver does not take this.
        SolveError: samples were not solved (`on_failure="raise"`).
        SingularError: a derivative is needed where the Hessian is singular.
        TransformError: called inside `torch.func` or `torch.compile`.
    """
    refuse_transforms("least_squares")
    unknowns = Unknowns.of(start)
    first = unknowns.rows(start).detach()
    r, count = rows_of("residuals", residuals, unknowns, first)
    low, high = checked_bounds(unknowns, first, lower, upper)
    assert r is not None
    phi = _loss(loss, scale, unknowns, first)
    program = MinimizeProgram(
        _sum_of(r, phi), unknowns.batch_size, unknowns.size, lower=low, upper=high,
        residuals=r, loss=phi, pattern=_pattern(sparsity, count, unknowns.size),
    )  # fmt: skip
    options = SolveOptions(
        solver=solver, tolerance=tolerance, on_failure=on_failure, order=order,
        gradient=gradient,
    )  # fmt: skip
    options.check_kind(program.kind)
    points = points_of(program, unknowns, first, starts)
    return solve_with(program, unknowns, points, options)


def _sum_of(residuals: BatchFunction, phi: BatchFunction | None) -> BatchFunction:
    if phi is None:
        return lambda x: residuals(x).square().sum(1)
    return lambda x: phi(residuals(x)).sum(1)


def _pattern(sparsity: Tensor | None, k: int, n: int) -> Pattern | None:
    if sparsity is None:
        return None
    if tuple(sparsity.shape) != (k, n):
        raise ShapeError(
            f"sparsity is {list(sparsity.shape)}; there are {k} residuals of {n} "
            f"unknowns, so give [{k}, {n}]."
        )
    places = sparsity.detach().cpu()
    places = places.to_sparse() if places.layout == torch.strided else places
    rows, cols = places.to_sparse_coo().coalesce().indices().numpy()
    return Pattern.row_major(rows, cols, (k, n))


def _loss(
    loss: Loss, scale: Tensor | float, unknowns: Unknowns, like: Tensor
) -> BatchFunction | None:
    """phi of residuals [B, k]; None where it is the square."""
    if callable(loss):
        return _own_loss(loss, unknowns)
    own = torch.as_tensor(scale, dtype=like.dtype, device=like.device)
    if own.ndim and own.shape != unknowns.batch_shape:
        raise ShapeError(
            f"scale is {list(own.shape)}; give a number, or one for each sample, "
            f"{list(unknowns.batch_shape)}."
        )
    if not bool((own > 0).all()):
        raise ParameterError(
            f"scale={float(own.min()):g}: give positive numbers, as large as residuals "
            "that are no outliers."
        )
    phi = loss_named(loss, own.reshape(-1, 1) if own.ndim else own)
    return None if loss == "linear" else phi


def _own_loss(
    loss: Callable[[Tensor], Tensor], unknowns: Unknowns
) -> Callable[[Tensor], Tensor]:
    def wrapped(r: Tensor) -> Tensor:
        given = r.reshape(*unknowns.batch_shape, r.shape[1])
        value = loss(given)
        if not isinstance(value, Tensor) or value.shape != given.shape:
            shown = getattr(value, "shape", type(value).__name__)
            shown = list(shown) if isinstance(shown, torch.Size) else shown
            raise ShapeError(
                f"the loss of residuals {list(given.shape)} returned {shown}; it must "
                "keep the shape, one number for each residual."
            )
        return value.reshape(r.shape)

    return wrapped
