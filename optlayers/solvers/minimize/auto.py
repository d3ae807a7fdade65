"""What to try on a minimization, in which order, on the samples still unsolved.

Sums of squares: Levenberg-Marquardt. Few unknowns: Newton's method, many: those
without a Hessian. Constraints: the registered methods for these.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optlayers import registry
from optlayers.interfaces import Kind, Solver
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import start_or_zero
from optlayers.solvers.minimize.lbfgs import Lbfgs
from optlayers.solvers.minimize.levenberg_marquardt import LevenbergMarquardt
from optlayers.solvers.minimize.newton import Newton
from optlayers.solvers.minimize.newton_cg import NewtonCg
from optlayers.solvers.minimize.options import chosen
from optlayers.solvers.minimize.saddles import without_saddles
from optlayers.solvers.root.options import check_options

# Beyond this a Hessian costs more than the gradients that do without one: at n = 50, of
# 64 logistic regressions, twenty times as much; where structure gives it, the same.
DENSE_SIZE, SEPARABLE_SIZE = 20, 200
# Beyond this eigenvalues cost more than steps, and saddle points are not looked for.
CHECKED_SIZE = 200
# For programs with constraints, in the order in which they are tried.
CONSTRAINED = ("interior_point", "sqp")


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Falls back sample by sample; a solved sample is left alone if a minimum.

    Attributes:
        max_steps: most steps of each method tried; None for the method's own limit.
        tolerance: the KKT residual that counts as zero.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int | None = None
    tolerance: float = 1e-8
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        # Where no limit is given, each method has its own, which is in order.
        check_options(Newton(**self._limits()))

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Nothing, as long as one method takes it."""
        refusals = [solver.refuses(program) for solver in self._attempts(program)]
        if None in refusals:
            return None
        return "finds no registered method for it: " + " ".join(map(str, refusals))

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        start = start_or_zero(program, start)
        attempts = list(self._attempts(program))
        usable = [one for one in attempts if one.refuses(program) is None]
        best = None
        for solver in usable:
            if best is None:
                best = solver.solve(program, start)
            else:
                # A solved sample starts at its solution, where it is finished at once.
                first = chosen(best.ok, best.value, start)
                found = solver.solve(program, first)
                best = _better(best, found, program.is_constrained)
            if bool(best.ok.all()):
                break
        assert best is not None
        # Newton's method leaves saddle points by itself.
        if isinstance(usable[0], Newton) or not 0 < program.size <= CHECKED_SIZE:
            return best
        exact = [one for one in usable if not isinstance(one, LevenbergMarquardt)]
        return without_saddles(program, exact, best) if exact else best

    def _limits(self) -> dict[str, Any]:
        steps = {} if self.max_steps is None else {"max_steps": self.max_steps}
        return {"tolerance": self.tolerance, **steps}

    def _attempts(self, program: MinimizeProgram) -> Iterator[Solver]:
        limits = self._limits()
        if program.residuals is not None:
            yield LevenbergMarquardt(**limits)
        if program.is_constrained:
            known = registry.names(Kind.MINIMIZE.value)
            for name in CONSTRAINED:
                if name in known:
                    yield registry.create(Kind.MINIMIZE.value, name, **limits)
            return
        limit = DENSE_SIZE if program.separable is None else SEPARABLE_SIZE
        if program.size <= limit:
            yield Newton(**limits)
            yield Lbfgs(**limits)
        else:
            yield Lbfgs(**limits)
            yield NewtonCg(**limits)


def _better(old: Solution, new: Solution, is_constrained: bool) -> Solution:
    """The better of two for each sample, with the steps and time of both."""
    is_nearer = new.stats["residual"] < old.stats["residual"]
    # That f has no bound is worth more than a point at which a method gave up.
    is_open = old.status != Status.UNBOUNDED
    is_new = ~old.ok & (new.ok | (is_open & is_nearer))
    if not is_constrained:
        # What another method calls solved there is a saddle, or one of many minima.
        is_new &= is_open
    steps = old.stats["steps"] + torch.where(old.ok, 0, new.stats["steps"])
    residual = chosen(is_new, new.stats["residual"], old.stats["residual"])
    return Solution(
        chosen(is_new, new.value, old.value),
        {key: chosen(is_new, new.duals[key], old.duals[key]) for key in old.duals},
        chosen(is_new, new.status, old.status),
        {
            "steps": steps,
            "residual": residual,
            "seconds": old.stats["seconds"] + new.stats["seconds"],
        },
    )
