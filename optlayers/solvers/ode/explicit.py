"""Explicit Runge-Kutta methods, given by their tableau.

k_i = h f(t + c_i h, x + sum_{j<i} a_ij k_j),   x(t + h) = x + sum_i b_i k_i
Source: Hairer, Norsett, Wanner, Solving ODEs I (1993), II.1 and II.6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction
from optlayers.solvers.ode.continuous import weighted
from optlayers.solvers.ode.numbers import numbers_like
from optlayers.solvers.ode.stepper import Step

Row = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Tableau:
    """The numbers of an explicit Runge-Kutta method of S stages.

    Attributes:
        order: of the solution that is kept.
        a: row i has the i weights of stage i, S rows, the first empty.
        b: weights of the solution, S of them.
        c: where in the step each stage stands, S of them.
        error: weights of the error estimate (b minus the embedded b), or None.
        error_order: order of the embedded method, or None.
        coarse_error: weights of a second estimate e2 of lower order; the error is
            then e |e| / hypot(e, e2 / 10).
        dense: x(t + theta h) = x + sum_i k_i sum_p dense[i][p] theta^(p + 1), over all
            stages, late ones included.
        late_a: rows of stages that only dense output needs.
        late_c: where these stand.
    """

    order: int
    a: tuple[Row, ...]
    b: Row
    c: Row
    dense: tuple[Row, ...]
    error: Row | None = None
    error_order: int | None = None
    coarse_error: Row | None = None
    late_a: tuple[Row, ...] = ()
    late_c: Row = ()

    @property
    def reuses_last(self) -> bool:
        """Whether the last stage is f at the end of the step, as the next begins."""
        return self.c[-1] == 1 and self.a[-1] == self.b[:-1] and self.b[-1] == 0


class _Weights(NamedTuple):
    """The numbers of a tableau as tensors of one dtype and device."""

    a: list[Tensor]
    b: Tensor
    c: Tensor
    errors: Tensor | None
    dense: Tensor
    late_a: list[Tensor]


class _Workspace(NamedTuple):
    """Increments of the present step, and the views of it that stages need."""

    stages: Tensor
    rows: list[Tensor]
    before: list[Tensor]
    all: Tensor


@dataclass(frozen=True, eq=False)
class ExplicitRungeKutta:
    """A stepper made of a tableau.

    Attributes:
        tableau: the method.
    """

    tableau: Tableau
    is_implicit: bool = False
    ends_at_saves: bool = False
    _cache: dict[tuple[torch.dtype, torch.device], _Weights] = field(
        default_factory=dict, repr=False
    )

    @property
    def order(self) -> int:
        """Of the tableau."""
        return self.tableau.order

    @property
    def error_order(self) -> int | None:
        """Of the tableau."""
        return self.tableau.error_order

    @property
    def evaluations(self) -> int:
        """One a stage; the first stage is known where the last one is reused."""
        return len(self.tableau.c) - self.tableau.reuses_last

    def begin(self, field: FieldFunction, time: Tensor, state: Tensor) -> Tensor:
        """f(t, x), [B, n]; of methods that do not reuse it, a placeholder."""
        return field(time, state) if self.tableau.reuses_last else state

    def workspace(self, state: Tensor) -> _Workspace:
        """Room for the increments of one step."""
        count = len(self.tableau.c)
        stages = state.new_empty(count, *state.shape)
        columns = stages.view(count, -1).t()
        return _Workspace(
            stages, list(stages.unbind(0)), [columns[:, :i] for i in range(count)],
            columns,
        )  # fmt: skip

    def step(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        carry: Tensor,
        workspace: _Workspace | None = None,
    ) -> Step:
        """One step; in place in the workspace if there is one and no graph is made."""
        if torch.compiler.is_compiling():
            return self._run_fused(field, time, size, state, carry)
        in_place = workspace is not None and not torch.is_grad_enabled()
        run = self._run_in_place if in_place else self._run
        weights = self._weights(state)
        times = torch.addcmul(time, weights.c, size).unbind(0)
        return run(field, times, size.unsqueeze(1), state, carry, weights, workspace)

    def complete(
        self,
        field: FieldFunction,
        time: Tensor,
        size: Tensor,
        state: Tensor,
        step: Step,
    ) -> Step:
        """The step with its late stages, if the tableau has any."""
        late = self._weights(state).late_a
        if not late:
            return step
        stages, column = step.stages, size.unsqueeze(1)
        for row, c in zip(late, self.tableau.late_c, strict=True):
            columns = stages.flatten(1).t()
            point = torch.addmv(state.reshape(-1), columns, row).view_as(state)
            rate = field(torch.add(time, size, alpha=c), point)
            stages = torch.cat((stages, (rate * column).unsqueeze(0)))
        return step._replace(stages=stages)

    def interpolate(
        self, state: Tensor, size: Tensor, step: Step, fraction: Tensor
    ) -> Tensor:
        """x + sum_i w_i(theta) k_i, [B, M, n]."""
        return weighted(self._weights(state).dense, state, step.stages, fraction)

    def _run_in_place(
        self, field, times, column, state, carry, weights, workspace
    ) -> Step:
        rows, before = workspace.rows, workspace.before
        start, rate, flat, point = 0, carry, state.reshape(-1), state
        if self.tableau.reuses_last:
            torch.mul(carry, column, out=rows[0])
            start = 1
        for i in range(start, len(times)):
            if i:
                point = torch.addmv(flat, before[i], weights.a[i]).view_as(state)
            rate = field(times[i], point)
            torch.mul(rate, column, out=rows[i])
        if not self.tableau.reuses_last:
            point = torch.addmv(flat, workspace.all, weights.b).view_as(state)
            rate = point
        return Step(
            point, _error(workspace.all, weights, state), workspace.stages, rate
        )

    def _run(self, field, times, column, state, carry, weights, workspace) -> Step:
        flat, point, rate = state.reshape(-1), state, carry
        columns = state.new_empty(state.numel(), 0)
        for i, time in enumerate(times):
            if i:
                point = torch.addmv(flat, columns, weights.a[i]).view_as(state)
            if i or not self.tableau.reuses_last:
                rate = field(time, point)
            new = (rate * column).view(-1, 1)
            columns = torch.cat((columns, new), 1) if i else new
        stages = columns.view(*state.shape, -1).movedim(-1, 0)
        if not self.tableau.reuses_last:
            point = torch.addmv(flat, columns, weights.b).view_as(state)
            rate = point
        return Step(point, _error(columns.detach(), weights, state), stages, rate)

    def _run_fused(self, field, time, size, state, carry) -> Step:
        """The step as sums of scaled tensors, which a compiler makes one loop."""
        own, column = self.tableau, size.unsqueeze(1)
        stages: list[Tensor] = []
        point, rate = state, carry
        for i, c in enumerate(own.c):
            if i:
                point = combined(own.a[i], stages, state)
            if i or not own.reuses_last:
                rate = field(time + c * size, point)
            stages.append(rate * column)
        if not own.reuses_last:
            point = combined(own.b, stages, state)
            rate = point
        error = None
        if own.error is not None:
            error = combined(own.error, stages)
        if error is not None and own.coarse_error is not None:
            coarse = combined(own.coarse_error, stages)
            error = _lessened(error, coarse)
        return Step(point, error, torch.stack(stages), rate)

    def _weights(self, like: Tensor) -> _Weights:
        key = (like.dtype, like.device)
        found = self._cache.get(key)
        if found is None:
            own = self.tableau
            tensor = numbers_like(like)
            found = self._cache[key] = _Weights(
                [tensor(row) for row in own.a],
                tensor(own.b),
                tensor(own.c).unsqueeze(1),
                None if own.error is None else _stacked(tensor, own),
                tensor(own.dense).t().contiguous(),
                [tensor(row) for row in own.late_a],
            )
        return found


def _stacked(tensor: Callable[[object], Tensor], tableau: Tableau) -> Tensor:
    rows = [one for one in (tableau.error, tableau.coarse_error) if one is not None]
    return tensor(rows).t().squeeze(1).contiguous()


def _error(columns: Tensor, weights: _Weights, like: Tensor) -> Tensor | None:
    """The estimated error, [B, n], of increments [B n, S]."""
    if weights.errors is None:
        return None
    if weights.errors.ndim == 1:
        return torch.mv(columns, weights.errors).view_as(like)
    fine, coarse = torch.mm(columns, weights.errors).unbind(1)
    return _lessened(fine, coarse).view_as(like)


def _lessened(fine: Tensor, coarse: Tensor) -> Tensor:
    """An estimate made smaller where the coarse one is much larger."""
    size = torch.hypot(fine, 0.1 * coarse).clamp_min_(torch.finfo(fine.dtype).tiny)
    return fine * fine / size


def combined(
    row: Sequence[float], stages: Sequence[Tensor], start: Tensor | None = None
) -> Tensor:
    """start + sum_j row_j k_j, term by term."""
    total = torch.zeros_like(stages[0]) if start is None else start
    for weight, stage in zip(row, stages, strict=True):
        if weight:
            total = total + weight * stage
    return total
