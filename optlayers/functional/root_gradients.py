"""How the roots that were found get their derivative: one table for every face."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from optlayers.errors import NotSupported
from optlayers.functional.options import SolveOptions
from optlayers.functional.root_choices import refuse_singular
from optlayers.implicit.attach import attach
from optlayers.implicit.failed import replace_failed
from optlayers.implicit.linearizations import linearize
from optlayers.implicit.multiple_roots import at_multiple_root
from optlayers.implicit.transforms import is_transformed
from optlayers.implicit.unrolled import Unrollable, unroll
from optlayers.interfaces import Solver
from optlayers.linalg.dense import DenseOperator
from optlayers.programs.root import RootProgram


@dataclass(frozen=True)
class Search:
    """A search that is over, and what its derivative is taken of.

    Attributes:
        name: what the problem is called.
        program: differentiable in its tensors; the numbers of failed samples replaced.
        constant: the same, with tensors that need no derivative where possible.
        solver: what found the points.
        start: where it began, [B, n].
        steps: how many it took, int64 [B].
        point: z without derivative, [B, n]; of failed samples, a good one's.
        ok: which samples are solved, bool [B].
    """

    name: str
    program: RootProgram
    constant: RootProgram
    solver: Solver
    start: Tensor
    steps: Tensor
    point: Tensor
    ok: Tensor


def differentiated(search: Search, options: SolveOptions) -> tuple[Tensor, Tensor]:
    """The points, bitwise, with their derivative.

    Args:
        search: what was found.
        options: `gradient` is the key of the way, `order` how often it may be gone.

    Returns:
        The points [B, n], and the condition of the Jacobian there, [B]; NaN where it is
        not known.

    Raises:
        SingularError: there is no derivative, and failures raise.
        NotSupported: the way is none for this solver or program.
    """
    return _WAYS.get(options.gradient, _by_theorem)(search, options)


def check_solver(solver: Solver, options: SolveOptions) -> None:
    """Refuse a solver whose points cannot be differentiated in the way asked for.

    Raises:
        NotSupported: says which can.
    """
    _CHECKS.get(options.gradient, _any_solver)(solver)


def _by_theorem(search: Search, options: SolveOptions) -> tuple[Tensor, Tensor]:
    operator = linearize(search.constant, search.point, options.gradient)
    condition = torch.where(search.ok, operator.condition, torch.nan)
    if not is_transformed():
        if isinstance(operator, DenseOperator):
            multiple = at_multiple_root(search.constant, search.point, operator)
            condition = torch.where(multiple & search.ok, torch.inf, condition)
        refuse_singular(search.name, condition, options)
    attached = attach(search.point, search.program, options.order, operator)
    return attached.point, condition


def _by_steps(search: Search, options: SolveOptions) -> tuple[Tensor, Tensor]:
    method = _unrollable(search.solver)
    (start,) = replace_failed([search.start], search.ok)
    steps = torch.where(search.ok, search.steps, 0)
    traced = unroll(method, search.program, start, steps)
    unknown = torch.full_like(search.point[:, 0], torch.nan)
    return search.point + (traced - traced.detach()), unknown


def _any_solver(solver: Solver) -> None:
    """The theorem does not ask how a point was found."""


def _unrollable(solver: Solver) -> Unrollable:
    if isinstance(solver, Unrollable):
        return solver
    raise NotSupported(
        f'gradient="unrolled" differentiates the steps of a solver, and those of '
        f"{type(solver).__name__} are no smooth functions that it can take again.\n"
        '  Give solver="newton", or of fixed points z = map(z) "fixed_point" or '
        '"anderson"; or gradient="exact", which asks for no particular solver.'
    )


_WAYS: Mapping[str, Callable[[Search, SolveOptions], tuple[Tensor, Tensor]]] = {
    "unrolled": _by_steps
}
_CHECKS: Mapping[str, Callable[[Solver], object]] = {"unrolled": _unrollable}
