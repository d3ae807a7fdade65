"""How the minima that were found get their derivative: one table for every face."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.errors import SingularError
from optlayers.functional.options import SolveOptions
from optlayers.functional.root_choices import listed
from optlayers.functional.settled_minima import settled
from optlayers.implicit.attach import attach
from optlayers.implicit.linearizations import DENSE_LIMIT, linearize
from optlayers.implicit.smoothed import Smoothed
from optlayers.implicit.transforms import is_transformed
from optlayers.implicit.trust import complementarity, trust
from optlayers.interfaces import ImplicitProgram
from optlayers.linalg.dense import DenseOperator
from optlayers.linalg.operators import Operator
from optlayers.programs.minimize import MinimizeProgram
from optlayers.programs.root import RootProgram
from optlayers.programs.visible_minimum import VisibleMinimum
from optlayers.solvers.minimize.central_path import OnPath, refuse_lost

Stats = dict[str, Tensor]


@dataclass(frozen=True)
class Minimum:
    """A search that is over, and what its derivative is taken of.

    Attributes:
        name: what the problem is called.
        program: differentiable in its tensors; the numbers of failed samples replaced.
        constant: the same, with tensors that need no derivative where possible.
        point: z without derivative, [B, n + me + m]; of failed samples, a good one's.
        ok: which samples are solved, bool [B].
        declared: how many of the unknowns are the user's; those after them stand for
            kinks, and may be undetermined where these are of no account.
        centered: finds the points of the barrier path of a strength.
    """

    name: str
    program: MinimizeProgram
    constant: MinimizeProgram
    point: Tensor
    ok: Tensor
    declared: int
    centered: Callable[[float], OnPath]


class Parts(NamedTuple):
    """Unknowns and multipliers with derivatives: [B, n], [B, me] and [B, m]."""

    x: Tensor
    y: Tensor
    lam: Tensor


class Differentiated(NamedTuple):
    """Solutions, bitwise, with their derivative; failed samples' mean nothing.

    Attributes:
        parts: differentiable as often as was asked for.
        previous: the same, once less: enough where they enter stationarily.
        stats: how far the derivative can be trusted, by name, each [B].
    """

    parts: Parts
    previous: Parts
    stats: Stats


def differentiated(minimum: Minimum, options: SolveOptions) -> Differentiated:
    """Give the solutions the derivative that was asked for.

    Args:
        minimum: what was found.
        options: `gradient` is the key of the way, `order` how often it may be gone.

    Raises:
        SingularError: there is no derivative, and failures raise.
    """
    is_smoothed = isinstance(options.gradient, Smoothed)
    way = _WAYS["smoothed" if is_smoothed else options.gradient]
    return way(minimum, options)


def _by_theorem(minimum: Minimum, options: SolveOptions) -> Differentiated:
    program, point = minimum.program, minimum.point
    operator, conditions = _linearized(program, minimum.constant, point)
    is_flat = torch.zeros_like(minimum.ok)
    if isinstance(operator, DenseOperator) and not is_transformed():
        point, operator, is_flat = settled(minimum.constant, point, operator)
    stats = _stats(minimum, operator)
    if isinstance(operator, DenseOperator):
        found = trust(minimum.constant, operator, minimum.declared)
        if _refuses(options) and options.gradient != "least_squares":
            _refuse_undetermined(minimum, ~found.is_determined & minimum.ok)
        condition = torch.where(is_flat, torch.inf, found.condition)
        stats["gradient_condition"] = torch.where(minimum.ok, condition, torch.nan)
        stats["multipliers_unique"] = found.are_multipliers_unique & minimum.ok
        stats["is_minimum"] = found.is_minimum & ~is_flat & minimum.ok
    attached = attach(point, conditions, options.order, operator)
    parts, previous = (
        _parts(program, attached.point),
        _parts(program, attached.previous),
    )
    if point is not minimum.point:
        given, known = _parts(program, minimum.point), torch.ones_like(minimum.ok)
        parts, previous = (_moved_to(given, one, known) for one in (parts, previous))
    return Differentiated(parts, previous, stats)


def _by_barrier(minimum: Minimum, options: SolveOptions) -> Differentiated:
    """The derivative of the minimum of f - mu sum(log(s)), at the value of that of f.

    Source: A. V. Fiacco, G. P. McCormick, Nonlinear programming (1968), section 2.4:
    near a regular solution the path is smooth in mu and in the data.
    """
    mu = options.gradient if isinstance(options.gradient, Smoothed) else Smoothed()
    center, is_reached = minimum.centered(mu.strength)
    if _refuses(options):
        refuse_lost(minimum.name, ~is_reached & minimum.ok, mu.strength)
    program = replace(minimum.program, barrier=mu.strength)
    constant = replace(minimum.constant, barrier=mu.strength)
    operator, conditions = _linearized(program, constant, center)
    attached = attach(center, conditions, options.order, operator)
    given = _parts(minimum.constant, minimum.point)
    parts, previous = (
        _moved_to(given, _parts(program, one), is_reached)
        for one in (attached.point, attached.previous)
    )
    stats = _stats(minimum, operator)
    known = torch.where(is_reached, stats["gradient_condition"], torch.nan)
    return Differentiated(parts, previous, {**stats, "gradient_condition": known})


_WAYS: Mapping[str, Callable[[Minimum, SolveOptions], Differentiated]] = {
    "exact": _by_theorem,
    "least_squares": _by_theorem,
    "smoothed": _by_barrier,
}


def _stats(minimum: Minimum, operator: Operator) -> Stats:
    ok = minimum.ok
    return {
        "gradient_condition": torch.where(ok, operator.condition, torch.nan),
        "complementarity": complementarity(minimum.constant, minimum.point, ok),
    }


def _parts(program: MinimizeProgram, point: Tensor) -> Parts:
    return Parts(*program.split(point)[:3])


def _moved_to(given: Parts, other: Parts, is_known: Tensor) -> Parts:
    """The numbers given with the derivative of others; with none where not known."""
    rows = is_known.unsqueeze(1)
    pairs = zip(given, other, strict=True)
    moves = (old + torch.where(rows, new - new.detach(), 0.0) for old, new in pairs)
    return Parts(*moves)


def _linearized(
    program: MinimizeProgram, constant: MinimizeProgram, point: Tensor
) -> tuple[Operator, ImplicitProgram]:
    """The derivative of the KKT residual, and the residual to be differentiated."""
    if is_transformed():
        # The matrix at the solutions is cut from every derivative.
        return VisibleMinimum(constant).linearize(point), VisibleMinimum(program)
    return kkt_operator(constant, point), program


def kkt_operator(program: MinimizeProgram, point: Tensor) -> Operator:
    """The derivative of the KKT residual; beyond some hundred rows without a matrix.

    Args:
        program: of B problems.
        point: their solutions, [B, n + me + m].
    """
    if point.shape[1] <= DENSE_LIMIT:
        return program.linearize(point)
    system = RootProgram(program.residual, len(point), point.shape[1])
    return linearize(system, point, "exact")


def _refuses(options: SolveOptions) -> bool:
    """Whether numbers may be looked at, and what has no derivative is an error."""
    return options.on_failure == "raise" and not is_transformed()


def _refuse_undetermined(minimum: Minimum, which: Tensor) -> None:
    if bool(which.any()):
        raise SingularError(
            f"{minimum.name}: the KKT matrix is singular at the solution of sample "
            f"{listed(which)}, which is not alone and therefore has no derivative in "
            "the parameters.\n"
            '  gradient="least_squares" takes the derivative of minimum norm; where '
            "none is needed, call it under torch.no_grad()."
        )
