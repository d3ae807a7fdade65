"""How the linear system of the implicit function theorem is solved: one table.

J v = r and its transpose, with J = dF/dz at the solution: factorized, by a Krylov
method, or approximately.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from optlayers.errors import NotSupported, SingularError
from optlayers.linalg.dense import DenseOperator
from optlayers.linalg.krylov import (
    Krylov,
    Product,
    bicgstab,
    gmres,
    normal_cg,
    richardson,
)
from optlayers.linalg.matrix_free import MatrixFreeOperator
from optlayers.linalg.operators import Operator
from optlayers.programs.root import RootProgram

# Up to this many unknowns "exact" factorizes a dense Jacobian; of a map, whose Jacobian
# is near to the identity, only where a Krylov method is no faster: at n = 256 and
# batch 64 that takes 15 ms, and the factorization 110.
DENSE_LIMIT = 512
DENSE_MAP_LIMIT = 50
# Relative residual of the Krylov methods, and how many products they may take.
ACCURACY = 1e-12
MOST_PRODUCTS = 1000
# What "exact" gives them before it factorizes after all.
EXACT_PRODUCTS = 200

Linearization = Callable[[RootProgram, Tensor], Operator]


def linearize(program: RootProgram, point: Tensor, method: str) -> Operator:
    """dF/dz at a solution, with the chosen way to solve with it.

    Args:
        program: of B systems.
        point: the solutions, [B, n].
        method: a key of `LINEARIZATIONS`.

    Raises:
        NotSupported: "one_step" or "neumann" of a system that is no fixed point.
        SingularError: later, in the backward pass, where a Krylov method does not
            reach its accuracy.
    """
    return LINEARIZATIONS[method](program, point)


def _exact(program: RootProgram, point: Tensor) -> Operator:
    is_map = program.map is not None
    # A given derivative is one that `torch.func` must see through.
    if program.derivative is not None:
        return program.linearize(point)
    if program.size <= (DENSE_MAP_LIMIT if is_map else DENSE_LIMIT):
        return program.linearize(point)

    attempts = (
        *([_by_richardson] if is_map else []),
        _by_bicgstab,
        _by_columns if program.size <= DENSE_LIMIT else _by_gmres,
    )

    def solve(product: Product, _: Product, r: Tensor) -> Krylov:
        found = Krylov(torch.zeros_like(r), torch.full_like(r[:, 0], torch.inf))
        for attempt in attempts:
            poor = _poor(found, r)
            if not poor.any():
                break
            # Only of those samples: no answer depends on the company it is solved in.
            rows = poor.unsqueeze(1)
            new = attempt(product, torch.where(rows, r, 0.0))
            found = Krylov(
                torch.where(rows, new.value, found.value),
                torch.where(poor, new.residual, found.residual),
            )
        return _converged(found, r)

    return _matrix_free(program, point, solve)


def _dense(program: RootProgram, point: Tensor) -> Operator:
    return program.linearize(point)


def _gmres(program: RootProgram, point: Tensor) -> Operator:
    def solve(product: Product, _: Product, r: Tensor) -> Krylov:
        return _converged(_by_gmres(product, r), r)

    return _matrix_free(program, point, solve)


def _bicgstab(program: RootProgram, point: Tensor) -> Operator:
    def solve(product: Product, _: Product, r: Tensor) -> Krylov:
        found = bicgstab(product, r, tolerance=_reachable(r), max_steps=MOST_PRODUCTS)
        return _converged(found, r)

    return _matrix_free(program, point, solve)


def _normal_cg(program: RootProgram, point: Tensor) -> Operator:
    def solve(product: Product, transposed: Product, r: Tensor) -> Krylov:
        found = normal_cg(
            product, transposed, r, tolerance=_reachable(r), max_steps=MOST_PRODUCTS
        )
        return _converged(found, r)

    return _matrix_free(program, point, solve)


def _neumann(program: RootProgram, point: Tensor, terms: int = 10) -> Operator:
    """J^-1 = I + E + E^2 + ... with J = I - E, cut off; for maps that contract."""
    _must_be_map(program, "neumann")

    def solve(product: Product, __: Product, r: Tensor) -> Krylov:
        total = term = r
        for _ in range(terms):
            term = term - product(term)
            total = total + term
        return Krylov(total, (r - product(total)).norm(dim=1))

    return _matrix_free(program, point, solve)


def _one_step(program: RootProgram, point: Tensor) -> Operator:
    """J^-1 = I: the derivative of one more application of the map.

    Source: S. W. Fung et al., JFB: Jacobian-free backpropagation (2022).
    """
    _must_be_map(program, "one_step")

    def solve(_: Product, __: Product, r: Tensor) -> Krylov:
        return Krylov(r, r.new_full(r.shape[:1], torch.nan))

    return _matrix_free(program, point, solve)


def _matrix_free(program: RootProgram, point: Tensor, solver) -> Operator:
    return MatrixFreeOperator(
        program.products(point),
        program.transposed_products(point),
        solver,
        # No factor tells how far from singular J is.
        point.new_full(point.shape[:1], torch.nan),
    )


def _by_richardson(product: Product, r: Tensor) -> Krylov:
    return richardson(product, r, tolerance=_reachable(r))


def _by_bicgstab(product: Product, r: Tensor) -> Krylov:
    return bicgstab(product, r, tolerance=_reachable(r), max_steps=EXACT_PRODUCTS)


def _by_gmres(product: Product, r: Tensor) -> Krylov:
    return gmres(
        product, r, tolerance=_reachable(r), max_steps=MOST_PRODUCTS, restart=60
    )


def _by_columns(product: Product, r: Tensor) -> Krylov:
    """The solution by a dense matrix, made of its products with unit vectors."""
    unit = torch.eye(r.shape[1], dtype=r.dtype, device=r.device)
    columns = [product(one.expand_as(r).contiguous()) for one in unit]
    operator = DenseOperator.from_matrix(torch.stack(columns, 2))
    x, size = operator.solve(r), r.norm(dim=1)
    relative = (r - operator.matvec(x)).norm(dim=1) / size
    # Numbers that are not finite are passed on; they say nothing of J.
    is_free = (size == 0) | ~size.isfinite()
    return Krylov(x, torch.where(is_free, 0.0, relative))


def _poor(found: Krylov, r: Tensor) -> Tensor:
    """Which samples are too far from solved for a derivative, bool [B]."""
    return ~(found.residual <= torch.finfo(r.dtype).eps ** 0.5)


def _converged(found: Krylov, r: Tensor) -> Krylov:
    poor = _poor(found, r).nonzero()[:, 0].tolist()
    if poor:
        raise SingularError(
            "the linear system of the implicit function theorem was not solved for "
            f"sample {', '.join(map(str, poor[:5]))} (relative residual "
            f"{float(found.residual[poor[0]]):.1e}): the Jacobian is singular or too "
            'ill-conditioned at the solution. Use gradient="dense", or '
            '"least_squares" for the derivative of minimum norm.'
        )
    return found


def _reachable(r: Tensor) -> float:
    return max(ACCURACY, 100 * torch.finfo(r.dtype).eps)


def _must_be_map(program: RootProgram, method: str) -> None:
    if program.map is None:
        raise NotSupported(
            f'gradient="{method}" is for fixed points z = map(z); this is a system of '
            'equations. Use gradient="exact", or functional.fixed_point.'
        )


LINEARIZATIONS: Mapping[str, Linearization] = {
    "exact": _exact,
    "dense": _dense,
    "gmres": _gmres,
    "bicgstab": _bicgstab,
    "normal_cg": _normal_cg,
    "least_squares": _dense,
    "neumann": _neumann,
    "one_step": _one_step,
}
# Derivatives of these are not exact, and those of higher order mean nothing.
APPROXIMATE = frozenset(("neumann", "one_step"))
