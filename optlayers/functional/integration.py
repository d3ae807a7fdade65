"""An integration that is watched from a loop, one step at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import ParameterError
from optlayers.functional.differentiate_ode import stepwise_integral
from optlayers.functional.initial_value import Problem, check_rtol, problem_of
from optlayers.functional.observe import Observed, walking, with_kept_steps
from optlayers.functional.options import SolveOptions
from optlayers.programs.initial_value import Event
from optlayers.solution import Solution
from optlayers.solvers.plan import OnFailure


@dataclass(frozen=True)
class Moment:
    """Where an integration stands after a step; nothing of it carries a gradient.

    Attributes:
        time: of each sample, [*batch].
        state: of each sample, [*batch, n], or the user's pytree.
        is_running: which samples have not arrived, bool [*batch].
        fraction: the share of its time that the slowest sample has covered.
    """

    time: Tensor
    state: Any
    is_running: Tensor
    fraction: float


class Integration:
    """Steps to loop over, and the solution after the last one."""

    def __init__(self, problem: Problem, *, dense: bool) -> None:
        self._problem = problem
        self._dense = dense
        self._solution: Solution | None = None

    def __iter__(self) -> Iterator[Moment]:
        """Begin, and yield after each step; anew for each loop.

        Raises:
            SolveError: after the last step, if samples did not reach their last time
                (`on_failure="raise"`).
        """
        problem, self._solution = self._problem, None
        solver = Observed(walking(problem.solver), dense=self._dense)
        options = with_kept_steps(problem.options)
        steps = stepwise_integral(problem.program, solver, options)
        while True:
            try:
                walk = next(steps)
            except StopIteration as end:
                self._solution = problem.told(end.value, "integration")
                return
            yield self._moment(walk)

    @property
    def solution(self) -> Solution:
        """As `integrate` returns it.

        Raises:
            ParameterError: the loop has not come to its end.
        """
        if self._solution is None:
            raise ParameterError(
                "the integration has no solution yet: loop over it to its end first."
            )
        return self._solution

    def _moment(self, walk: Any) -> Moment:
        problem = self._problem
        batch = problem.unknowns.batch_shape
        with torch.no_grad():
            state = problem.unknowns.restore(walk.state.detach().clone())
            time = walk.elapsed.reshape(batch)
            return Moment(time, state, walk.running.reshape(batch), walk.fraction)


def integration(
    field: Callable[[Tensor, Any], Any],
    start: Any,
    times: Tensor,
    *,
    solver: Any = "auto",
    rtol: float | None = None,
    atol: float | None = None,
    gradient: str = "exact",
    events: Event | Sequence[Event] | None = None,
    on_failure: OnFailure = "raise",
    order: int = 1,
    dense: bool = False,
) -> Integration:
    """`integrate`, to be watched from a loop.

    Args:
        field: (t [*batch], x [*batch, n]) -> [*batch, n].
        start: the initial value, [*batch, n] or a pytree.
        times: [T] or [*batch, T], the first the initial time.
        solver: a registered name of kind "ode", "auto", or an instance.
        rtol: allowed error of a step relative to the state, no unit.
        atol: allowed error besides, in units of the state.
        gradient: "exact" or "direct", which are the same here.
        events: what may happen on the way.
        on_failure: "raise", "nan" or "keep", as of `integrate`.
        order: how often the result may be differentiated.
        dense: whether the steps are kept, for `solution.at(t)`.

    Returns:
        An `Integration`; each turn of a loop over it takes a step of every sample and
        gives a `Moment`.

    Raises:
        ShapeError: times do not fit start, or the field returns another shape.
        ParameterError: an option out of its range.
        TransformError: called inside `torch.func` or `torch.compile`.

    Example:
        steps = integration(field, start, times)
        for moment in steps:
            plot(moment.time, moment.state)
        steps.solution.value
    """
    check_rtol(rtol)
    options = SolveOptions(
        solver=solver, tolerance=rtol, gradient=gradient, on_failure=on_failure,
        order=order,
    )  # fmt: skip
    with_kept_steps(options)
    problem = problem_of(
        field, start, times, events, "integration", atol=atol, options=options
    )
    walking(problem.solver)
    return Integration(problem, dense=dense)
