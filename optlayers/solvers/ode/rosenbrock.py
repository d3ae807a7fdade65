"""Rosenbrock methods: implicit steps that solve linear equations only.

(I - h g J) u_i = g h f(t + c_i h, x + sum_{j<i} a_ij u_j) + sum_{j<i} g c_ij u_j
                  + g d_i h^2 df/dt,      x(t + h) = x + sum_i b_i u_i
Source: Hairer, Wanner, Solving ODEs II (1996), IV.7, equation 7.25.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.programs.field_derivatives import linearization
from optlayers.programs.initial_value import FieldFunction
from optlayers.solvers.ode.continuous import weighted
from optlayers.solvers.ode.explicit import combined
from optlayers.solvers.ode.factor import Solve, factorized, shifted
from optlayers.solvers.ode.numbers import numbers_like
from optlayers.solvers.ode.stepper import Step

Row = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class RosenbrockTableau:
    """The numbers of a Rosenbrock method of S stages.

    Attributes:
        order: of the solution that is kept.
        error_order: order of the embedded method.
        gamma: g above.
        a, coupling: a_ij and c_ij above, S rows, of i numbers the i-th, from none on.
        c: where in the step each stage stands, S of them.
        drift: d_i above, S of them.
        b: weights of the solution, S of them.
        error: weights of the error estimate, S of them.
        dense: x(t + theta h) = x + sum_i u_i sum_p dense[i][p] theta^(p + 1).
    """

    order: int
    error_order: int
    gamma: float
    a: tuple[Row, ...]
    coupling: tuple[Row, ...]
    c: Row
    drift: Row
    b: Row
    error: Row
    dense: tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class _Weights:
    """The numbers of a tableau as tensors of one dtype and device.

    Attributes:
        pairs: of each stage the weights [2, 1 + i] of h^2 df/dt and the stages before,
            to the point where f is evaluated and to the right-hand side.
        ends: weights [2, S] of the solution and its error.
        c: [S, 1].
        dense: [P, S].
    """

    pairs: list[Tensor]
    ends: Tensor
    c: Tensor
    dense: Tensor


class _Begun(NamedTuple):
    """A step whose matrix is factorized.

    Attributes:
        field: f.
        times: of the stages, [B] each.
        shift: g h, [B, 1].
        solve: (I - h g J)^-1.
        state: x, [B, n].
        rate: f at the first stage, [B, n].
        drift: h^2 df/dt, [B, n], or None.
    """

    field: FieldFunction
    times: tuple[Tensor, ...]
    shift: Tensor
    solve: Solve
    state: Tensor
    rate: Tensor
    drift: Tensor | None

    def increment(self, i: int, sums: Tensor | None) -> Tensor:
        """u_i, [B, n].

        Args:
            i: the stage.
            sums: the two weighted sums of what is known, [2, B n]; None if nothing is.
        """
        if sums is None:
            return self.solve(self.shift * self.rate)
        offset, right = sums.view(2, *self.state.shape).unbind()
        rate = self.field(self.times[i], self.state + offset) if i else self.rate
        return self.solve(torch.addcmul(right, self.shift, rate))

    def chained(self, weights: _Weights) -> Tensor:
        """u of all stages, [S, B, n], in memory of its own."""
        if self.drift is None:
            known = self.state.new_empty(0, self.state.numel())
        else:
            known = self.drift.reshape(1, -1)
        skipped = 1 - len(known)
        for i, pair in enumerate(weights.pairs):
            sums = torch.mm(pair[:, skipped:], known) if len(known) else None
            known = torch.cat((known, self.increment(i, sums).view(1, -1)))
        return known[1 - skipped :].view(-1, *self.state.shape)

    def fused(self, tableau: RosenbrockTableau) -> list[Tensor]:
        """u of all stages as sums of scaled tensors, which a compiler fuses."""
        found: list[Tensor] = []
        for i, drift in enumerate(tableau.drift):
            rate = self.rate
            if i:
                point = combined(tableau.a[i], found, self.state)
                rate = self.field(self.times[i], point)
            row = [tableau.gamma * one for one in tableau.coupling[i]]
            right = combined(row, found, self.shift * rate)
            if self.drift is not None and drift:
                right = right + tableau.gamma * drift * self.drift
            found.append(self.solve(right))
        return found

    def in_place(self, weights: _Weights, room: Tensor) -> Tensor:
        """u of all stages, in the last S rows of a workspace [1 + S, B, n]."""
        first = 1
        if self.drift is not None:
            first = 0
            room[0] = self.drift
        known = room.view(len(room), -1)
        for i, pair in enumerate(weights.pairs):
            have = i + 1 - first
            sums = torch.mm(pair[:, first:], known[first : i + 1]) if have else None
            room[i + 1] = self.increment(i, sums)
        return room[1:]


@dataclass(frozen=True, eq=False)
class Rosenbrock:
    """A stepper made of a tableau; f must have derivatives that autograd can take.

    Attributes:
        tableau: the method.
    """

    tableau: RosenbrockTableau
    is_implicit: bool = True
    ends_at_saves: bool = False
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
        """One a stage; the first comes with the Jacobian."""
        return len(self.tableau.c)

    def begin(self, field: FieldFunction, time: Tensor, state: Tensor) -> Tensor:
        """f(t, x), [B, n], kept only to tell whether a graph is being made."""
        return field(time, state)

    def workspace(self, state: Tensor) -> Tensor:
        """Room for h^2 df/dt and the increments of one step, [1 + S, B, n]."""
        return state.new_zeros(len(self.tableau.c) + 1, *state.shape)

    def step(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        carry: Tensor,
        workspace: Tensor | None = None,
    ) -> Step:
        """One step; with a graph, its derivative is that of the discrete method."""
        has_graph = torch.is_grad_enabled() and (
            state.requires_grad or carry.requires_grad
        )
        own, column = self.tableau, size.unsqueeze(1)
        at = linearization(field, time, state, differentiable=has_graph)
        shift = own.gamma * size
        solve = factorized(shifted(at.jacobian, shift))
        begun = _Begun(
            field, self._times(time, size), shift.unsqueeze(1), solve, state, at.rate,
            None if at.drift is None else column * column * at.drift,
        )  # fmt: skip
        if torch.compiler.is_compiling():
            found = begun.fused(own)
            new = combined(own.b, found, state)
            return Step(new, combined(own.error, found), torch.stack(found), new)
        weights = self._weights(state)
        if has_graph or workspace is None:
            stages = begun.chained(weights)
        else:
            stages = begun.in_place(weights, workspace)
        ends = torch.mm(weights.ends, stages.flatten(1))
        increment, error = ends.unbind(0)
        new = state + increment.view_as(state)
        return Step(new, error.view_as(state), stages, new)

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
        """x + sum_i w_i(theta) u_i, [B, M, n]."""
        return weighted(self._weights(state).dense, state, step.stages, fraction)

    def _times(self, time: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Of the stages, [B] each."""
        if torch.compiler.is_compiling():
            return tuple(time + c * size for c in self.tableau.c)
        return torch.addcmul(time, self._weights(time).c, size).unbind(0)

    def _weights(self, like: Tensor) -> _Weights:
        key = (like.dtype, like.device)
        found = self._cache.get(key)
        if found is None:
            own, g = self.tableau, self.tableau.gamma
            tensor = numbers_like(like)
            rows = zip(own.a, own.coupling, own.drift, strict=True)
            found = self._cache[key] = _Weights(
                [
                    tensor([(0.0, *a), (g * drift, *(g * one for one in coupling))])
                    for a, coupling, drift in rows
                ],
                tensor([own.b, own.error]),
                tensor(own.c).unsqueeze(1),
                tensor(own.dense).t().contiguous(),
            )
        return found
