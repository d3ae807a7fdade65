"""Cone programs and the residual whose zero is their solution.

minimize x'Px/2 + q'x subject to A x + s = b, s in K. A solution is a zero z = [x, v] of
F(z) = [P x + q + A'y ; b - A x - s] with y = proj_{K*}(v) and s = y - v.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.errors import ShapeError
from optlayers.interfaces import Kind
from optlayers.linalg.dense import DenseOperator
from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cones import Cones

Matrix = Tensor | PatternMatrix


@dataclass(frozen=True, eq=False)
class Positions:
    """Where a `PatternMatrix` has entries; equal if they are the same tensors."""

    rows: Tensor
    cols: Tensor
    shape: tuple[int, int]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Positions)
            and self.rows is other.rows
            and self.cols is other.cols
            and self.shape == other.shape
        )

    def __hash__(self) -> int:
        return hash((id(self.rows), id(self.cols), self.shape))


@dataclass(frozen=True)
class ConeProgramStructure:
    """What of a cone program is no number: hashable, the same for every call.

    Attributes:
        cones: the cone K.
        has_quadratic: whether there is a P.
        P_positions: where P has entries; None if P is a tensor or absent.
        A_positions: where A has entries; None if A is a tensor.
    """

    cones: Cones
    has_quadratic: bool
    P_positions: Positions | None
    A_positions: Positions | None


@dataclass(frozen=True, eq=False)
class ConeProgram:
    """B cone programs of one size; P and A may be shared by all (no batch axis).

    Attributes:
        P: symmetric positive semidefinite and full (both triangles), [n, n], [B, n, n]
            or a pattern; None for zero.
        q: [B, n].
        A: [m, n], [B, m, n] or a pattern.
        b: [B, m].
        cones: the cone K, with m rows.

    Raises:
        ShapeError: the sizes do not fit.
    """

    P: Matrix | None
    q: Tensor
    A: Matrix
    b: Tensor
    cones: Cones
    kind: ClassVar[Kind] = Kind.CONVEX

    def __post_init__(self) -> None:
        if self.q.ndim != 2 or self.b.ndim != 2 or self.q.shape[0] != self.b.shape[0]:
            raise ShapeError(
                f"ConeProgram: q {list(self.q.shape)} and b {list(self.b.shape)} must "
                "be [B, n] and [B, m] with one B."
            )
        _check_matrix("P", self.P, (self.size, self.size), self.batch_size)
        _check_matrix("A", self.A, (self.rows, self.size), self.batch_size)
        if self.cones.size != self.rows:
            raise ShapeError(
                f"ConeProgram: {self.cones} has {self.cones.size} rows, b has "
                f"{self.rows}; give one row of A and b per row of the cones."
            )

    @property
    def batch_size(self) -> int:
        """The number of samples B."""
        return self.q.shape[0]

    @property
    def size(self) -> int:
        """The number of variables n."""
        return self.q.shape[1]

    @property
    def rows(self) -> int:
        """The number of constraint rows m."""
        return self.b.shape[1]

    @property
    def highest_order(self) -> int | None:
        """How often the residual may be differentiated; None if there is no limit."""
        return self.cones.highest_order

    def residual(self, point: Tensor) -> Tensor:
        """F(z), [B, n + m] -> [B, n + m], zero exactly at a solution."""
        x, v = self._halves(point)
        y = self.cones.project_dual(v)
        stationarity = self.q + transposed_times(self.A, y)
        if self.P is not None:
            stationarity = stationarity + times(self.P, x)
        return torch.cat([stationarity, self.b - times(self.A, x) - (y - v)], 1)

    def linearize(self, point: Tensor) -> DenseOperator:
        """dF/dz at `point`, cut from every derivative.

        Its condition is inf also where a semidefinite cone has no single derivative.
        """
        operator = DenseOperator.from_matrix(self.jacobian(point))
        has_kink = self.cones.has_kink(self._halves(point.detach())[1])
        if has_kink is None:
            return operator
        condition = operator.condition.masked_fill(has_kink, torch.inf)
        return replace(operator, condition=condition)

    def jacobian(self, point: Tensor) -> Tensor:
        """dF/dz = [P A'D ; -A I - D] at `point`, [B, n + m, n + m], detached.

        D is the element of the generalized derivative that autograd takes through
        `residual`, also at the kinks of the projection.
        """
        n, m = self.size, self.rows
        v = point.detach().narrow(1, n, m)
        A = dense(self.A.detach())
        P = v.new_zeros(n, n) if self.P is None else dense(self.P.detach())
        identity = torch.eye(n + m, dtype=v.dtype, device=v.device).narrow(1, n, m)
        # J = [P A'D ; -A -D] + [0 0 ; 0 I]: the first is linear in D.
        in_y = _stack(A.mT, -identity[n:], -2)
        in_v = self.cones.times_derivative(in_y, v) + identity
        return _stack(_stack(P, -A, -2), in_v, -1)

    def objective(self, x: Tensor) -> Tensor:
        """x'Px/2 + q'x, [B, n] -> [B]."""
        gradient = self.q
        if self.P is not None:
            gradient = gradient + 0.5 * times(self.P, x)
        return (gradient * x).sum(1)

    def lagrangian(self, point: Tensor) -> Tensor:
        """x'Px/2 + q'x + y'(A x - b), [B, n + m] -> [B].

        Its derivative in P, q, A, b at a solution is that of the minimal value.
        """
        x, v = self._halves(point)
        excess = times(self.A, x) - self.b
        return self.objective(x) + (self.cones.project_dual(v) * excess).sum(1)

    def split(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The solution x [B, n], dual y [B, m] and slack s [B, m] of a point."""
        x, v = self._halves(point)
        y = self.cones.project_dual(v)
        return x, y, y - v

    def pack(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """The point z = [x, y - s], [B, n + m]."""
        return torch.cat([x, y - s], 1)

    def scale(self, point: Tensor) -> Tensor:
        """The magnitudes that make the residual relative, [B, n + m].

        1 + the largest entry of P x, q, A'y in the first n rows, of A x, b, s in the
        others: residuals below rounding of these cannot be reached. Apart, because
        along a ray A x and s grow until any residual of the gradient looks small.
        """
        x, y, s = self.split(point)
        gradients = [self.q, transposed_times(self.A, y)]
        if self.P is not None:
            gradients.append(times(self.P, x))
        return torch.cat(
            [
                _magnitude(gradients).expand(-1, self.size),
                _magnitude([self.b, times(self.A, x), s]).expand(-1, self.rows),
            ],
            1,
        )

    def tensors(self) -> list[Tensor]:
        """The numbers, in the order `rebuild` takes them: P (if any), q, A, b."""
        head = [] if self.P is None else [_numbers(self.P)]
        return [*head, self.q, _numbers(self.A), self.b]

    def structure(self) -> ConeProgramStructure:
        """The static rest, hashable."""
        return ConeProgramStructure(
            self.cones, self.P is not None, _positions(self.P), _positions(self.A)
        )

    @classmethod
    def rebuild(
        cls, tensors: Sequence[Tensor], structure: ConeProgramStructure
    ) -> "ConeProgram":
        """The program with these `tensors()` and this `structure()`."""
        *head, q, A, b = tensors
        P = _matrix(head[0], structure.P_positions) if head else None
        return cls(P, q, _matrix(A, structure.A_positions), b, structure.cones)

    def detach(self) -> "ConeProgram":
        """The same program, cut from every derivative."""
        return self.rebuild([t.detach() for t in self.tensors()], self.structure())

    def select(self, index: Tensor) -> "ConeProgram":
        """The program of some samples; `index` is int64 [k] or bool [B]."""
        batched = {id(self.q), id(self.b)}
        for matrix in (self.P, self.A):
            if matrix is not None and _is_batched(matrix):
                batched.add(id(_numbers(matrix)))
        chosen = [t[index] if id(t) in batched else t for t in self.tensors()]
        return self.rebuild(chosen, self.structure())

    def _halves(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """The parts x [B, n] and v [B, m] of a point."""
        n = self.size
        return point.narrow(1, 0, n), point.narrow(1, n, self.rows)


def _check_matrix(
    name: str, matrix: Matrix | None, shape: tuple[int, int], batch_size: int
) -> None:
    if matrix is None:
        return
    numbers = _numbers(matrix)
    given = tuple(matrix.shape)
    fits = given[-2:] == shape and given[:-2] in ((), (batch_size,))
    if isinstance(matrix, PatternMatrix):
        fits = fits and numbers.shape[:-1] in ((), (batch_size,))
    if not fits:
        raise ShapeError(
            f"ConeProgram: {name} is {list(given)}; q and b ask for {list(shape)} or "
            f"{[batch_size, *shape]}."
        )


def times(matrix: Matrix, x: Tensor) -> Tensor:
    """M x, [B, n] -> [B, m]."""
    if isinstance(matrix, PatternMatrix):
        return matrix.matvec(x)
    if matrix.ndim == 2:
        return x @ matrix.mT
    return torch.bmm(matrix, x.unsqueeze(2)).squeeze(2)


def transposed_times(matrix: Matrix, y: Tensor) -> Tensor:
    """M' y, [B, m] -> [B, n]."""
    if isinstance(matrix, PatternMatrix):
        return matrix.transposed_matvec(y)
    if matrix.ndim == 2:
        return y @ matrix
    return torch.bmm(y.unsqueeze(1), matrix).squeeze(1)


def _stack(first: Tensor, second: Tensor, dim: int) -> Tensor:
    """Concatenate two matrices of which one may have a batch axis more."""
    if first.ndim < second.ndim:
        first = first.expand(second.shape[0], *first.shape)
    elif second.ndim < first.ndim:
        second = second.expand(first.shape[0], *second.shape)
    return torch.cat([first, second], dim)


def _magnitude(terms: list[Tensor]) -> Tensor:
    """1 + the largest entry of all terms, each [B, k] -> [B, 1]."""
    every = torch.cat(terms, 1).abs()
    if every.shape[1] == 0:
        return every.new_ones(every.shape[0], 1)
    return 1 + every.amax(1, keepdim=True)


def dense(matrix: Matrix) -> Tensor:
    """The matrix as a tensor, [m, n] or [B, m, n]."""
    return matrix.to_dense() if isinstance(matrix, PatternMatrix) else matrix


def _numbers(matrix: Matrix) -> Tensor:
    return matrix.values if isinstance(matrix, PatternMatrix) else matrix


def _is_batched(matrix: Matrix) -> bool:
    return matrix.is_batched if isinstance(matrix, PatternMatrix) else matrix.ndim == 3


def _positions(matrix: Matrix | None) -> Positions | None:
    if not isinstance(matrix, PatternMatrix):
        return None
    return Positions(matrix.rows, matrix.cols, matrix.shape)


def _matrix(numbers: Tensor, positions: Positions | None) -> Matrix:
    if positions is None:
        return numbers
    return PatternMatrix(numbers, positions.rows, positions.cols, positions.shape)
