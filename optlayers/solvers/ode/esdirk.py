"""Diagonally implicit Runge-Kutta methods with an explicit first stage.

k_i = h f(t + c_i h, x + sum_{j<i} a_ij k_j + g k_i),  k_1 = h f(t, x),
x(t + h) = x + sum_i b_i k_i, the last stage standing at x(t + h)
Source: Hairer, Wanner, Solving ODEs II (1996), IV.6 and IV.8.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.implicit.attach import attach
from optlayers.interfaces import Solver
from optlayers.linalg.dense import DenseOperator
from optlayers.programs.field_derivatives import linearization
from optlayers.programs.initial_value import FieldFunction
from optlayers.programs.root import RootProgram
from optlayers.solution import Status
from optlayers.solvers.ode.continuous import weighted
from optlayers.solvers.ode.factor import Solve, factorized, shifted
from optlayers.solvers.ode.numbers import numbers_like
from optlayers.solvers.ode.stepper import Step

Row = tuple[float, ...]

# Stage equations are not solved beyond so many roundings of state and increment, times
# the tolerance of the root solver.
ROUNDINGS = 1000
# How often a step with a graph may be differentiated: each time more costs one more
# evaluation of each stage.
DERIVATIVES = 2


@dataclass(frozen=True, eq=False)
class ImplicitTableau:
    """The numbers of a method of S stages, the first explicit, the last at t + h.

    Attributes:
        order: of the solution that is kept.
        error_order: order of the embedded method.
        gamma: g above.
        a: a_ij above, S rows, of i numbers the i-th, from none on.
        guess: rows like those of `a`: weights of the increments before in the first
            guess of each one.
        c: where in the step each stage stands, S of them.
        error: weights of the error estimate, S of them.
        dense: x(t + theta h) = x + sum_i k_i sum_p dense[i][p] theta^(p + 1).
    """

    order: int
    error_order: int
    gamma: float
    a: tuple[Row, ...]
    guess: tuple[Row, ...]
    c: Row
    error: Row
    dense: tuple[Row, ...]


class _Weights(NamedTuple):
    """The numbers of a tableau as tensors of one dtype and device.

    Attributes:
        pairs: weights [2, i] of the increments before stage i, to its offset from x and
            to its first guess.
        error: [S].
        c: [S, 1].
        dense: [P, S].
    """

    pairs: list[Tensor]
    error: Tensor
    c: Tensor
    dense: Tensor


@dataclass(frozen=True, eq=False)
class DiagonallyImplicit:
    """A stepper made of a tableau; a root solver solves its stages.

    The unknown of a stage is w in k = guess + u w, u the unit in which errors are
    measured; the root solver sees a fixed point of the simplified Newton iteration
    w - (I - h g J)^-1 (k - h f(t + c h, x + offset + g k)) / u, with one J a step.

    Attributes:
        tableau: the method.
        root: of kind "root"; its tolerance is a share of the allowed error of a step.
        rtol, atol: of the steps.
    """

    tableau: ImplicitTableau
    root: Solver
    rtol: float
    atol: float
    is_implicit: bool = True
    # Within steps stiff components have no more than the order of the stages: at rtol
    # 1e-8 kvaerno5 was 1.7e-5 off on Robertson's problem, 5e-9 at the ends of steps.
    ends_at_saves: bool = True
    _cache: dict[tuple[torch.dtype, torch.device], _Weights] = field(
        default_factory=dict, repr=False
    )

    @property
    def order(self) -> int:
        """Of the tableau."""
        return self.tableau.order

    @property
    def error_order(self) -> int:
        """Of the tableau."""
        return self.tableau.error_order

    @property
    def evaluations(self) -> int:
        """Two a stage, which is what most take."""
        return 1 + 2 * (len(self.tableau.c) - 1)

    def begin(self, field: FieldFunction, time: Tensor, state: Tensor) -> Tensor:
        """f(t, x), [B, n]."""
        return field(time, state)

    def workspace(self, state: Tensor) -> None:
        """No memory is shared."""

    def step(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        carry: Tensor,
        workspace: None = None,
    ) -> Step:
        """One step; with a graph, by the implicit function theorem in each stage."""
        weights, column = self._weights(state), size.unsqueeze(1)
        with torch.no_grad():
            jacobian = linearization(field, time, state).jacobian
            solve = factorized(shifted(jacobian, self.tableau.gamma * size))
            allowed = max(self.rtol, ROUNDINGS * torch.finfo(state.dtype).eps)
            unit = torch.add(state.new_full((), self.atol), state.abs(), alpha=allowed)
        times = torch.addcmul(time, weights.c, size).unbind(0)
        stages = (column * carry).view(1, -1)
        has_graph = torch.is_grad_enabled() and stages.requires_grad
        is_solved, point, increment = None, state, state
        for pair, at in zip(weights.pairs[1:], times[1:], strict=True):
            offset, guess = torch.mm(pair, stages).view(2, *state.shape).unbind()
            stage = _Stage(field, at, column, self.tableau.gamma, state + offset)
            increment, found = stage.solved(self.root, solve, guess.detach(), unit)
            is_solved = found if is_solved is None else is_solved & found
            if has_graph:
                increment = stage.attached(increment, size)
            point = stage.point(increment)
            stages = torch.cat((stages, increment.reshape(1, -1)))
        error = torch.mv(stages.detach().t(), weights.error).view_as(state)
        # The rate at the end, of samples that move.
        rate = increment / column.clamp_min(torch.finfo(size.dtype).tiny)
        stages = stages.view(-1, *state.shape)
        return Step(point, error, stages, rate, is_solved)

    def complete(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        step: Step,
    ) -> Step:
        """The step as it is."""
        return step

    def interpolate(
        self, state: Tensor, size: Tensor, step: Step, fraction: Tensor
    ) -> Tensor:
        """x + sum_i w_i(theta) k_i, [B, M, n]."""
        return weighted(self._weights(state).dense, state, step.stages, fraction)

    def _weights(self, like: Tensor) -> _Weights:
        key = (like.dtype, like.device)
        found = self._cache.get(key)
        if found is None:
            own = self.tableau
            tensor = numbers_like(like)
            found = self._cache[key] = _Weights(
                [tensor(pair) for pair in zip(own.a, own.guess, strict=True)],
                tensor(own.error),
                tensor(own.c).unsqueeze(1),
                tensor(own.dense).t().contiguous(),
            )
        return found


class _Stage(NamedTuple):
    """One equation k = h f(s, base + g k).

    Attributes:
        field: f.
        time: s, [B].
        column: h, [B, 1].
        gamma: g.
        base: [B, n].
    """

    field: FieldFunction
    time: Tensor
    column: Tensor
    gamma: float
    base: Tensor

    def point(self, increment: Tensor) -> Tensor:
        """Where f is evaluated, [B, n]."""
        return torch.add(self.base, increment, alpha=self.gamma)

    def residual(self, increment: Tensor) -> Tensor:
        """k - h f(s, base + g k), [B, n]."""
        rate = self.field(self.time, self.point(increment))
        return torch.addcmul(increment, self.column, rate, value=-1)

    @torch.no_grad()
    def solved(
        self, root: Solver, solve: Solve, guess: Tensor, unit: Tensor
    ) -> tuple[Tensor, Tensor]:
        """k, [B, n], and where it was found, bool [B].

        Args:
            root: solves for (k - guess) / unit, from zero.
            solve: (I - h g J)^-1.
            guess: [B, n].
            unit: [B, n].
        """
        roundings = ROUNDINGS * torch.finfo(guess.dtype).eps
        unit = torch.add(unit, guess.abs(), alpha=roundings)

        def improved(scaled: Tensor) -> Tensor:
            residual = self.residual(torch.addcmul(guess, scaled, unit))
            return scaled - solve(residual) / unit

        program = RootProgram.from_map(improved, *guess.shape)
        found = root.solve(program, torch.zeros_like(guess))
        return torch.addcmul(guess, found.value, unit), found.status == Status.SOLVED

    def attached(self, increment: Tensor, size: Tensor) -> Tensor:
        """k with its derivative in all that the equation depends on."""
        with torch.no_grad():
            point = self.point(increment)
            jacobian = linearization(self.field, self.time, point).jacobian
            matrix = shifted(jacobian, self.gamma * size)
            operator = DenseOperator.from_matrix(matrix)
        batch, count = increment.shape
        program = RootProgram(self.residual, batch, count)
        return attach(increment, program, DERIVATIVES, operator).point
