"""Initial value problems of plain functions, differentiable in all they close over.

The field is called on whole batches; its rows must be independent.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from optlayers.functional.differentiate_ode import differentiable_integral
from optlayers.functional.initial_value import TOLERANCES, check_rtol, problem_of
from optlayers.functional.observe import observed, with_kept_steps
from optlayers.functional.options import SolveOptions
from optlayers.functional.progress import ProgressBar
from optlayers.programs.initial_value import Event
from optlayers.solution import Solution
from optlayers.solvers.plan import OnFailure

__all__ = ["TOLERANCES", "integrate"]


def integrate(
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
    progress: bool = False,
) -> Solution:
    """Solve x'(t) = field(t, x) from x(times[0]) = start, at all given times.

    Args:
        field: (t [*batch], x [*batch, n]) -> [*batch, n]; row i of the result depends
            on row i alone. With a pytree as start, the same pytree in and out.
        start: [*batch, n], or a pytree of tensors [B, ...]; the initial value.
        times: [T] or [*batch, T], strictly increasing or decreasing; the first is the
            initial time.
        solver: a registered name of kind "ode", "auto", or an instance.
        rtol: allowed error of a step relative to the state, no unit; 1e-6 in float64,
            1e-5 in float32 if None.
        atol: allowed error besides, in units of the state; a thousandth of rtol if
            None.
        gradient: how the solution is differentiated. All but "steady_state" reach
            start, times and whatever `field` closes over.

            - "exact": the derivative of the steps; "sweep" where that is faster and
              possible (4 states or fewer, order 1, no events), else "direct".
            - "direct": the graph of all steps, any order; memory grows with them.
            - "sweep": all steps evaluated again at once, then one linear recursion;
              order 1, for few states.
            - "checkpoint": the derivative of the steps, any order, in memory that
              grows with the square root of their number; they are taken twice.
            - "backsolve": the adjoint equation, integrated backward; order 1, as
              accurate as that integration. In constant memory, unless the field
              contracts strongly: where an implicit method made the steps, or states
              come back elsewhere, the states between steps are kept and looked up.
            - "steady_state": of the last value alone, by f(t1, x) = 0, where it has
              come to rest; start has no influence. A gradient of values between the
              first and the last raises.
        events: what may happen on the way; their functions take t [*batch] and x, as
            `field` does. They need "exact" or "direct".
        on_failure: of samples that do not reach their last time: "raise", "nan" or
            "keep"; they have no gradient.
        order: how often the result may be differentiated.
        dense: whether the steps are kept, for `solution.at(t)`, t [M] or [*batch, M]
            between the first and the last time; needs "exact" or "direct".
        progress: whether a bar shows how far the slowest sample has come.

    Returns:
        A `Solution`: `value` [*batch, T, n] (of a pytree: each [B, T, ...]), `status`
        and `stats` [*batch]; differentiable in start, times and every tensor that
        `field` closes over, modules included. A sample that failed is NaN throughout
        ("nan"), or from where it stopped ("keep"). `events[i].times` [*batch, K] and
        `.states` [*batch, K, n] tell when the events were met, NaN where a sample has
        fewer.

    Raises:
        ShapeError: times do not fit start, or the field returns another shape.
        ParameterError: an option out of its range, or options that exclude each other.
        SolveError: samples did not reach their last time (`on_failure="raise"`), or
            are not at rest there ("steady_state").
        NotSupported: "checkpoint" or "backsolve" cannot find what the field closes
            over; or a solver of a third party returned values without a graph.
        TransformError: called inside `torch.func` or `torch.compile`.
    """
    check_rtol(rtol)
    options = SolveOptions(
        solver=solver, tolerance=rtol, gradient=gradient, on_failure=on_failure,
        order=order,
    )  # fmt: skip
    problem = problem_of(
        field, start, times, events, "integrate", atol=atol, options=options
    )
    if dense:
        options = with_kept_steps(options)
    with ProgressBar("integrate") if progress else nullcontext() as bar:
        watch = None if bar is None else bar.update
        chosen = observed(problem.solver, watch, dense=dense)
        solved = differentiable_integral(problem.program, chosen, options)
    return problem.told(solved, "integrate")
