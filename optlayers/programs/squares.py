"""Sums f(x) = sum phi_i(r_i(x)) of squares, or of losses, and their local models.

Near x, f is about |A d + b|^2 + constant, where A = sqrt(w) J, b = phi' / (2 sqrt(w)),
so that 2 A'b is the gradient of f; w = max(phi' / (2 r), phi'' / 2). Of squares, A = J
and b = r. Source: P. Holland, R. Welsch, Robust regression using iteratively reweighted
least-squares (1977), for the first of the two weights, which robust losses have.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.linalg.least_squares import DENSE, Structure
from optlayers.linalg.schur import SchurStructure, schur_structure
from optlayers.programs.minimize import BatchFunction, MinimizeProgram, leaf, recording
from optlayers.programs.root import Evaluation


class LocalModel(NamedTuple):
    """A sum of losses near a point, detached.

    Attributes:
        residual: r(x), [B, k].
        value: f(x), [B].
        root: sqrt(w), [B, k].
        right: b, [B, k].
        matrix: A, as the structure of the program holds it, [B, ...].
    """

    residual: Tensor
    value: Tensor
    root: Tensor
    right: Tensor
    matrix: Tensor


def structure_of(program: MinimizeProgram, point: Tensor) -> Structure:
    """How the Jacobian of the residuals of a program is held, where x [B, n] is."""
    if program.pattern is None:
        return DENSE
    return schur_structure(program.pattern, point.device)


def local_model(program: MinimizeProgram, point: Tensor) -> LocalModel:
    """The local model of a program with residuals, at [B, n]."""
    residual, jacobian = _linearized(program, point)
    value, root, right = _curvature(program.loss, residual)
    if program.loss is not None:
        jacobian = structure_of(program, point).scaled(jacobian, root, None)
    return LocalModel(residual, value, root, right, jacobian)


def slope_terms(program: MinimizeProgram, point: Tensor) -> Tensor:
    """How large the terms are that each entry of grad f is the sum of, [B, n]."""
    found = local_model(program, point)
    return 2 * structure_of(program, point).transposed(
        found.matrix.abs(), found.right.abs()
    )


def _linearized(program: MinimizeProgram, point: Tensor) -> tuple[Tensor, Tensor]:
    """r(x) and dr/dx, [B, k] and, as the structure holds it, [B, k, n] or [B, nnz]."""
    assert program.residuals is not None
    with recording():
        x = leaf(point)
        found = Evaluation(x, program.residuals(x))
        if program.pattern is None:
            return found.residual, found.jacobian()
        return found.residual, _entries(
            found, schur_structure(program.pattern, x.device)
        )


def _entries(found: Evaluation, structure: SchurStructure) -> Tensor:
    """The entries of the Jacobian on its pattern, [B, nnz], from one product a colour.

    Columns of one colour share no row, so that the derivative along their sum holds
    the entries of all. Source: A. Curtis, M. Powell, J. Reid, On the estimation of
    sparse Jacobian matrices (1974).
    """
    x, value = found
    pattern, colours = structure.pattern, structure.colours
    if not value.requires_grad or not pattern.size:
        return x.new_zeros(len(x), pattern.size)
    along = torch.nn.functional.one_hot(colours).mT.to(x)
    along = along.unsqueeze(1).expand(-1, len(x), -1)
    # J'w is linear in w, so that its derivative along v is J v.
    w = torch.zeros_like(value).requires_grad_()
    (image,) = torch.autograd.grad(
        value, x, w, create_graph=True, materialize_grads=True
    )
    if not image.requires_grad:
        return x.new_zeros(len(x), pattern.size)
    (products,) = torch.autograd.grad(
        image, w, along, is_grads_batched=True, materialize_grads=True
    )
    return products.movedim(0, 1)[:, colours[pattern.cols], pattern.rows]


def _curvature(
    loss: BatchFunction | None, residual: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of phi(r), [B], sqrt(w) and phi' / (2 sqrt(w)), [B, k]."""
    if loss is None:
        return residual.square().sum(1), torch.ones_like(residual), residual
    with recording():
        r = leaf(residual)
        phi = loss(r)
        slope = _entrywise(phi, r, create_graph=True)
        bend = _entrywise(slope, r, create_graph=False) / 2
    slope = slope.detach() / 2
    secant = torch.where(residual == 0, bend, slope / residual)
    # With phi'' alone, as in Gauss-Newton, fits to outliers took two to three times
    # the steps: of those, phi bends down, and a model that follows is not convex.
    root = torch.maximum(bend, secant).clamp_min(0).sqrt()
    right = torch.where(root > 0, slope / root, 0.0)
    return phi.detach().sum(1), root, right


def _entrywise(value: Tensor, r: Tensor, *, create_graph: bool) -> Tensor:
    """The derivative of each entry in its own residual, [B, k]."""
    if not value.requires_grad:
        return torch.zeros_like(r)
    (slope,) = torch.autograd.grad(
        value.sum(), r, create_graph=create_graph, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return slope
