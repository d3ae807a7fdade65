"""One problem of a batch as functions of a numpy vector, for solvers of one problem.

Functions of a batch know no single sample: each is called with the point in every row,
and the row in question is read.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import start_or_zero
from optlayers.solvers.minimize.finish import finished
from optlayers.solvers.per_instance import per_instance

Array = NDArray[Any]


class Single:
    """Sample `number` of a program; every method takes x [n] in float64.

    Attributes:
        program: of B samples.
        number: which of them.
        start: where its search begins, [n].
    """

    def __init__(self, program: MinimizeProgram, number: int, start: Tensor) -> None:
        self.program = program
        self.number = number
        self.start = start[number].double().cpu().numpy()
        self._like = start
        self._last: tuple[bytes, dict[str, Any]] = (b"", {})

    def value(self, x: Array) -> float:
        """f(x)."""
        return float(self._values(x)[0])

    def gradient(self, x: Array) -> Array:
        """grad f, [n]."""
        return self._values(x)[1]

    def constraints(self, x: Array) -> Array:
        """h(x), then g(x) without the bounds, [me + mi]."""
        return self._values(x)[2]

    def jacobian(self, x: Array) -> Array:
        """Derivative of `constraints`, [me + mi, n]."""

        def taken() -> Array:
            Jh, Jr = self.program.jacobians(self._rows(x))
            return self._own(torch.cat([Jh, Jr[:, : self.program.inequality_count]], 1))

        return self._kept("jacobian", x, taken)

    def hessian(self, x: Array, weight: float, multipliers: Array) -> Array:
        """The second derivative of weight * f + multipliers'(h, g), [n, n]."""
        program = self.program
        rows = self._rows(x)
        given = rows.new_tensor(np.append(multipliers, weight)).expand(len(rows), -1)
        y, lam, _ = given.split(
            (program.equality_count, program.inequality_count, 1), 1
        )
        none = rows.new_zeros(len(rows), program.row_count - lam.shape[1])
        whole = self._own(
            program.hessian_of_lagrangian(rows, y, torch.cat([lam, none], 1))
        )
        if weight == 1:
            return whole
        return whole + (weight - 1) * self._own(program.hessian_of_lagrangian(rows))

    def limits(self) -> tuple[Array, Array]:
        """Lower and upper bounds, infinite where there is none, [n] each."""
        found = []
        for bound, default in (
            (self.program.lower, -np.inf),
            (self.program.upper, np.inf),
        ):
            whole = np.full(self.program.size, default)
            if bound is not None:
                own = bound if bound.ndim == 1 else bound[self.number]
                whole[:] = own.detach().cpu().numpy()
            found.append(whole)
        return found[0], found[1]

    def rows_of(self, below: Array, bounds: Array) -> Array:
        """Multipliers of all rows r(x) <= 0, [m], none negative.

        Args:
            below: of g(x) <= 0, [mi].
            bounds: of x, [n]; positive at an upper bound, negative at a lower one.
        """
        parts = [below]
        for side in self.program.bounds:
            columns = side.columns.cpu().numpy()
            has = side.is_finite
            has = (has if has.ndim == 1 else has[self.number]).cpu().numpy()
            parts.append(np.where(has, side.sign * bounds[columns], 0.0))
        return np.concatenate(parts).clip(min=0)

    def _values(self, x: Array) -> tuple[Array, Array, Array]:
        def taken() -> tuple[Array, Array, Array]:
            program, rows = self.program, self._rows(x)
            with torch.no_grad():
                own = program.rows(rows)[:, : program.inequality_count]
                both = torch.cat([program.equality(rows), own], 1)
            value, gradient = program.value_and_gradient(rows)
            return self._own(value), self._own(gradient), self._own(both)

        return self._kept("values", x, taken)

    def _kept(self, what: str, x: Array, taken: Callable[[], Any]) -> Any:
        """What was found at the last point asked for, or is found now."""
        key = x.tobytes()
        if self._last[0] != key:
            self._last = (key, {})
        if what not in self._last[1]:
            self._last[1][what] = taken()
        return self._last[1][what]

    def _rows(self, x: Array) -> Tensor:
        return torch.from_numpy(x.copy()).to(self._like).expand_as(self._like).clone()

    def _own(self, of_batch: Tensor) -> Array:
        return of_batch[self.number].detach().double().cpu().numpy()


class Answer(NamedTuple):
    """What a solver says of one problem.

    Attributes:
        x: [n].
        y: multipliers of h, [me], of the Lagrangian f + y'h + lam'r.
        lam: multipliers of all rows r, [m], none negative.
        status: what it claims.
        steps: how many it took.
    """

    x: Array
    y: Array
    lam: Array
    status: Status
    steps: int


def solve_each(
    program: MinimizeProgram,
    start: Tensor | None,
    solve: Callable[[Single], Answer],
    tolerance: float,
) -> Solution:
    """Solve sample after sample; the measured KKT residual says which are solved.

    Args:
        program: of B samples.
        start: [B, n] or None.
        solve: a solver of one problem.
        tolerance: the KKT residual that counts as zero.

    Raises:
        ShapeError: a start of another shape.
    """
    start = start_or_zero(program, start)
    batch, n = start.shape
    began = time.perf_counter()
    point = np.zeros((batch, n + program.equality_count + program.row_count))
    status, steps = np.zeros(batch, np.int8), np.zeros(batch, np.int64)

    def prepare() -> Callable[[int], None]:
        def one(i: int) -> None:
            found = solve(Single(program, i, start))
            # The slacks are those of x, and known once the multipliers are.
            point[i] = np.concatenate([found.x, found.y, found.lam])
            status[i], steps[i] = int(found.status), found.steps

        return one

    per_instance(prepare, batch)
    parts = torch.from_numpy(point).to(start).nan_to_num()
    x, y, lam = parts.split((n, program.equality_count, program.row_count), 1)
    spent = (time.perf_counter() - began) / max(1, batch)
    device = start.device
    found = Solution(
        program.point_at(x, y, lam),
        {},
        torch.from_numpy(status).to(device),
        {
            "steps": torch.from_numpy(steps).to(device),
            "residual": start.new_full((batch,), torch.inf),
            "seconds": start.new_full((batch,), spent, dtype=torch.float64),
        },
    )
    return finished(program, found, tolerance)
