"""Minima of plain functions, differentiable in all they close over.

The functions are called on whole batches; their rows must be independent. A solver sees
them without derivatives in their parameters; the derivative of the found point is that
of the KKT conditions, by the implicit function theorem.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from optlayers.errors import ParameterError, ShapeError, TransformError
from optlayers.functional.minimize_choices import TOLERANCES
from optlayers.functional.minimize_gradients import Minimum, Parts, differentiated
from optlayers.functional.options import SolveOptions, check_starts
from optlayers.functional.plans import accepted_solver
from optlayers.functional.pytrees import Unknowns
from optlayers.implicit.failed import replace_failed
from optlayers.implicit.smoothed import Smoothed
from optlayers.implicit.transforms import hides_values
from optlayers.programs.minimize import BatchFunction, MinimizeProgram, leaf, recording
from optlayers.solution import Solution, Status
from optlayers.solvers.failure import report
from optlayers.solvers.minimize import central_path
from optlayers.solvers.minimize.run import Found
from optlayers.solvers.minimize.starts import best_in_turn, drawn
from optlayers.solvers.plan import OnFailure

_ADVICE = (
    "Start nearer to the minimum, scale unknowns and functions nearer to 1, or try "
    "another solver=."
)


def minimize(
    objective: Callable[[Any], Tensor],
    start: Any,
    *,
    equalities: Callable[[Any], Tensor] | None = None,
    inequalities: Callable[[Any], Tensor] | None = None,
    lower: Any = None,
    upper: Any = None,
    solver: Any = "auto",
    tolerance: float | None = None,
    on_failure: OnFailure = "raise",
    order: int = 1,
    gradient: str | Smoothed = "exact",
    starts: Any = None,
) -> Solution:
    """Find a point that satisfies the KKT conditions, which minima do.

    `solver="auto"` leaves maxima and saddle points where curvature shows a way down
    (up to 200 unknowns); other methods may stay at one where they begin. Failed samples
    have a gradient of zero. But the functions are evaluated for them too: where
    they multiply a shared parameter by NaN data of one sample, the gradient of that
    parameter is NaN. Replace such data first (`torch.nan_to_num`).

    Args:
        objective: smooth, [*batch, n] -> [*batch]; with a pytree as start, the same
            pytree in. Entry i of the result depends on row i alone.
        start: [*batch, n], or a pytree of tensors [B, ...]; where the search begins.
        equalities: h with h(x) = 0, [*batch, n] -> [*batch, me].
        inequalities: g with g(x) <= 0, [*batch, n] -> [*batch, mi].
        lower: bounds; a number, [n] or [*batch, n]; with a pytree as start also the
            same pytree, with or without the batch. Infinite entries stand for none.
            Another dtype is taken to that of start.
        upper: likewise.
        solver: a registered name of kind "minimize", "auto", or an instance.
        tolerance: the largest entry of the KKT residual that counts as zero; 1e-8 in
            float64, 1e-4 in float32 if None. The gradient counts relative to its
            largest term where that is above 1, and as it is below: scale the objective
            such that its slopes are of size 1 or more. An infimum that is not attained
            ends as solved where the slope falls below the tolerance.
        on_failure: "raise", "nan" or "keep".
        order: how often the result may be differentiated.
        gradient: "exact"; "least_squares", which takes the derivative of minimum norm
            where x has no other; "smoothed" or `Smoothed(strength=...)`, that of the
            minimum under a barrier, which changes smoothly where constraints become
            active.
        starts: how many starts are tried, or what they are, as start with an axis S in
            front; of each sample the lowest minimum found is kept. A number takes the
            same points in every call: `start` and others, between finite bounds or
            around it. They are solved one after another, as functions cannot be given
            more rows than they have data for.

    Returns:
        A `Solution`: `value` in the form of start; of those given,
        `duals["equalities"]` [*batch, me], `duals["inequalities"]` [*batch, mi],
        `duals["lower"]` and `duals["upper"]` [*batch, n], of the Lagrangian
        f + y'h + lam'g + mu'(lower - x) + nu'(x - upper); `status` and `stats`
        [*batch]. Value and duals are differentiable in every tensor that the functions
        close over, modules included, and in the bounds.

    Raises:
        ShapeError: a function, or a bound, does not have the form it must have.
        ParameterError: an option out of its range; a function that is none, has another
            dtype than start, or no graph to it; bounds that exclude each other or every
            number.
        SolverRefused: the solver does not take constraints, or this objective.
        SolveError: samples were not solved (`on_failure="raise"`).
        SingularError: a derivative is needed where x has none.
        TransformError: called inside `torch.func` or `torch.compile`.
    """
    refuse_transforms("minimize")
    unknowns = Unknowns.of(start)
    first = unknowns.rows(start).detach()
    f = _objective(objective, unknowns, first)
    h, me = rows_of("equalities", equalities, unknowns, first)
    g, mi = rows_of("inequalities", inequalities, unknowns, first)
    low, high = checked_bounds(unknowns, first, lower, upper)
    program = MinimizeProgram(
        f, unknowns.batch_size, unknowns.size,
        h, g, me, mi, low, high,
    )  # fmt: skip
    options = SolveOptions(
        solver=solver, tolerance=tolerance, on_failure=on_failure, order=order,
        gradient=gradient,
    )  # fmt: skip
    options.check_kind(program.kind)
    points = points_of(program, unknowns, first, starts)
    return solve_with(program, unknowns, points, options)


def solve_with(
    program: MinimizeProgram, unknowns: Unknowns, points: Tensor, options: SolveOptions
) -> Solution:
    """The lowest minimum from starts [B, S, n], with its derivative.

    Raises:
        SolverRefused, SolveError, SingularError: as of `minimize`.
    """
    limit = options.tolerance or TOLERANCES[points.dtype]
    solver = accepted_solver(program, options.solver, tolerance=limit)
    found = best_in_turn(program, solver, points, limit)
    ok = found.status == Status.SOLVED
    if options.on_failure == "raise" and not bool(ok.all()):
        raise _failure(found, limit, unknowns.batch_shape)
    stats = {"steps": found.steps, "residual": found.residual, "seconds": found.seconds}
    (x, y, lam), known = _attached(program, found, ok, options)
    stats |= known
    duals = _duals(program, y, lam)
    if options.on_failure == "nan":
        x = torch.where(ok.unsqueeze(1), x, torch.nan)
        duals = {
            key: torch.where(ok.unsqueeze(1), one, torch.nan)
            for key, one in duals.items()
        }
    batch = unknowns.batch_shape
    return Solution(
        value=unknowns.restore(x),
        duals={key: one.reshape(*batch, one.shape[1]) for key, one in duals.items()},
        status=found.status.reshape(batch),
        stats={key: one.reshape(batch) for key, one in stats.items()},
    )


def _attached(
    program: MinimizeProgram, found: Found, ok: Tensor, options: SolveOptions
) -> tuple[Parts, dict[str, Tensor]]:
    """The solutions with their derivative, and what is known of that."""
    value = Parts(*program.split(found.point)[:3])
    if not torch.is_grad_enabled() or not len(ok) or not bool(ok.any()):
        return value, {}
    # A failed row stands at a good row's point, where the functions are finite.
    (safe,) = replace_failed([found.point], ok)
    if not program.depends_on_parameters(safe[:, : program.size]):
        return value, {}
    centered = partial(central_path.centered, program, safe)
    minimum = Minimum("minimize", program, program, safe, ok, program.size, centered)
    new, _, stats = differentiated(minimum, options)
    pairs = zip(new, value, strict=True)
    return Parts(*(torch.where(ok.unsqueeze(1), a, b) for a, b in pairs)), stats


def points_of(
    program: MinimizeProgram, unknowns: Unknowns, first: Tensor, starts: Any
) -> Tensor:
    """Where the searches begin, [B, S, n].

    Raises:
        ShapeError: starts of another form than that of the unknowns.
        ParameterError: no start at all.
    """
    check_starts(starts)
    if starts is None:
        return first.unsqueeze(1)
    if isinstance(starts, int):
        return drawn(first, program.lower, program.upper, starts)
    leaves, structure = _pytree.tree_flatten(starts)
    shapes = [tuple(one.shape) for one in leaves if isinstance(one, Tensor)]
    counts = {shape[0] for shape in shapes if shape}
    wanted = [(*counts, *shape) for shape in unknowns.shapes]
    if structure != unknowns.structure or len(counts) != 1 or shapes != wanted:
        raise ShapeError(
            f"starts has tensors of shapes {[list(one) for one in shapes]}; give a "
            "number of starts, or the form of start with one axis S in front of "
            f"{[list(one) for one in unknowns.shapes]}."
        )
    if 0 in counts:
        raise ParameterError(
            f"starts has tensors of shapes {[list(one) for one in shapes]}, which hold "
            "no start; give at least one, or leave starts= out."
        )
    rows = zip(*(leaf.unbind(0) for leaf in leaves), strict=True)
    each = [unknowns.rows(_pytree.tree_unflatten(one, structure)) for one in rows]
    return torch.stack(each, 1).to(first).detach()


def _duals(program: MinimizeProgram, y: Tensor, lam: Tensor) -> dict[str, Tensor]:
    """The multipliers of what was given, by its name; of bounds one per unknown."""
    duals = {}
    if program.equalities is not None:
        duals["equalities"] = y
    if program.inequalities is not None:
        duals["inequalities"] = lam[:, : program.inequality_count]
    first = program.inequality_count
    none = lam.new_zeros(len(lam), program.size)
    given = {"lower": program.lower, "upper": program.upper}
    duals |= {name: none for name, bound in given.items() if bound is not None}
    for side in program.bounds:
        rows = lam[:, first : first + len(side.columns)]
        duals["lower" if side.sign < 0 else "upper"] = none.index_copy(
            1, side.columns, rows
        )
        first += len(side.columns)
    return duals


def _objective(
    objective: Callable[[Any], Tensor], unknowns: Unknowns, first: Tensor
) -> BatchFunction:
    """f of the user's form as one of matrices, [B, n] -> [B].

    Raises:
        ShapeError: it returns no number for each sample.
        ParameterError: it is no function, or its result has no graph to x.
    """
    _check_callable("objective", objective)

    def wrapped(rows: Tensor) -> Tensor:
        value = objective(unknowns.restore(rows))
        return _flat("objective", value, unknowns, ())

    _connected("objective", wrapped, first)
    return wrapped


def _check_callable(name: str, function: Any) -> None:
    if not callable(function):
        raise ParameterError(
            f"{name} is {type(function).__name__}; give a function of x, such as "
            "lambda x: ..."
        )


def _connected(name: str, function: BatchFunction, first: Tensor) -> Tensor:
    """The value at the start, once it is known that derivatives can be taken of it.

    Raises:
        ParameterError: no entry of x stands in its graph.
    """
    with recording():
        x = leaf(first)
        value = function(x)
        is_seen = value.requires_grad and (
            torch.autograd.grad(value.sum(), x, allow_unused=True)[0] is not None
        )
    if value.numel() and x.numel() and not is_seen:
        raise ParameterError(
            f"the {name} has no graph to x, so that its derivative is not known; "
            "leave out .detach(), .item(), numpy and torch.no_grad(). Where it is "
            "meant to be constant, add 0 * x.sum(-1)."
        )
    return value.detach()


def rows_of(
    name: str,
    function: Callable[[Any], Tensor] | None,
    unknowns: Unknowns,
    first: Tensor,
) -> tuple[BatchFunction | None, int]:
    """A function of the user's form as one of matrices, [B, n] -> [B, m], and its m.

    Raises:
        ShapeError: it returns no row for each sample.
        ParameterError: it is no function, or its result has no graph to x.
    """
    if function is None:
        return None, 0
    _check_callable(name, function)

    def wrapped(rows: Tensor) -> Tensor:
        value = function(unknowns.restore(rows))
        return _flat(name, value, unknowns, tuple(value.shape[-1:]))

    count = _connected(name, wrapped, first).shape[1]
    return wrapped, count


def _flat(name: str, value: Any, unknowns: Unknowns, tail: tuple[int, ...]) -> Tensor:
    shape = (*unknowns.batch_shape, *tail)
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        shown = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        wanted = [*unknowns.batch_shape, *(("m",) if name != "objective" else ())]
        hint = ", such as (...).sum(-1)" if name == "objective" else ""
        raise ShapeError(
            f"the {name} returned {shown}; it must be "
            f"{str(wanted).replace(chr(39), '')}, one row for each sample{hint}."
        )
    return value.reshape(unknowns.batch_size, *tail)


def checked_bounds(
    unknowns: Unknowns, like: Tensor, lower: Any, upper: Any
) -> tuple[Tensor | None, Tensor | None]:
    """Bounds as they lie in a row, [n] or [B, n], or None.

    Raises:
        ShapeError: bounds of another form than that of the unknowns.
        ParameterError: they exclude each other, hold NaN or an infinity of the wrong
            sign, or are no numbers.
    """
    low = _bound(unknowns, "lower", lower, like)
    high = _bound(unknowns, "upper", upper, like)
    if low is not None and high is not None and bool((low > high).any()):
        raise ParameterError(
            f"lower lies above upper, by up to {float((low - high).max()):.1e}; no "
            "point is within both."
        )
    return low, high


def _bound(unknowns: Unknowns, name: str, given: Any, like: Tensor) -> Tensor | None:
    if given is None:
        return None
    try:
        bound = unknowns.broadcast(given).to(like)
    except ShapeError as error:
        raise ShapeError(f"{name}: {error}") from None
    except (TypeError, ValueError, RuntimeError) as reason:
        raise ParameterError(
            f"{name} is {type(given).__name__}; give a number, a tensor, or the form "
            f"of start ({reason})."
        ) from None
    if bool(bound.isnan().any()):
        raise ParameterError(f"{name} holds NaN; give -inf or inf where none is meant.")
    side = torch.inf if name == "lower" else -torch.inf
    if bool((bound == side).any()):
        raise ParameterError(
            f"{name} holds {side}, which no number satisfies; "
            f"give {-side} where none is meant."
        )
    return bound


def refuse_transforms(name: str) -> None:
    """Refuse to be called where the values of closures cannot be seen.

    Raises:
        TransformError: inside `torch.func` or `torch.compile`.
    """
    if hides_values():
        raise TransformError(
            f"functional.{name} was called inside torch.func or torch.compile, which "
            "cannot see the tensors that its functions close over. Call it outside; "
            "give vmap's axis as one more batch axis of start."
        )


def _failure(found: Found, limit: float, batch: tuple[int, ...]) -> Exception:
    def detail(i: int) -> str:
        return (
            f"KKT residual {float(found.residual[i]):.1e} against a tolerance of "
            f"{limit:.1e}"
        )

    advice = dict.fromkeys(Status, _ADVICE)
    return report("minimize", found.status, {}, batch, detail, advice)
