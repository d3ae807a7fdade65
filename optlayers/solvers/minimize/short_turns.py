"""A method whose unknowns contain rotations, kept away from a full turn.

A rotation R Exp(w) is a regular function of w up to a full turn, |w| = 2 pi, where a
search may come to rest at what is no solution. The same rotation, the shorter way
round, is measured anew, and searched on from there if need be.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.interfaces import Kind, Solver
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.minimize.options import chosen

# A rotation that is near a full turn again after so many searches is given up.
SEARCHES = 4


@dataclass(frozen=True, eq=False)
class ShortTurns:
    """Any solver of minimizations, for unknowns some of which are rotations.

    Attributes:
        solver: searches, each time from rotations that are no full turn.
        shortened: x of the same poses, rotations the shorter way round, [B, n].
        tolerance: the KKT residual that counts as zero.
    """

    solver: Solver
    shortened: Callable[[Tensor], Tensor]
    tolerance: float
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def refuses(self, program: MinimizeProgram) -> str | None:
        """What the solver refuses."""
        return self.solver.refuses(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        found, far = self._measured(program, self.solver.solve(program, start))
        for _ in range(SEARCHES - 1):
            pending = far & ~found.ok
            if not bool(pending.any()):
                break
            again = self.solver.solve(program, found.value)
            again, far = self._measured(program, again)
            far = pending & far
            found = _merged(pending, again, found)
        return found

    def _measured(
        self, program: MinimizeProgram, found: Solution
    ) -> tuple[Solution, Tensor]:
        """The same poses the shorter way, measured there; which were not so, [B]."""
        x = self.shortened(found.value)
        far = (x != found.value).any(1)
        if not bool(far.any()):
            return found, far
        y, lam = found.duals["equalities"], found.duals["inequalities"]
        violation = program.violation(program.point_at(x, y, lam.clamp_min(0)))
        claimed = found.status.masked_fill(found.ok, int(Status.STALLED))
        status = torch.where(violation <= self.tolerance, int(Status.SOLVED), claimed)
        moved = replace(
            found,
            value=x,
            status=torch.where(far, status, found.status).to(found.status.dtype),
            operator=None,
        )
        return moved, far


def _merged(is_new: Tensor, new: Solution, old: Solution) -> Solution:
    """The new of some samples, with the steps and time of both; the old of the rest."""
    spent = {
        key: old.stats[key] + torch.where(is_new, new.stats[key], 0)
        for key in ("steps", "seconds")
        if key in old.stats
    }
    return replace(
        old,
        value=chosen(is_new, new.value, old.value),
        duals={
            key: chosen(is_new, new.duals[key], old.duals[key]) for key in old.duals
        },
        status=chosen(is_new, new.status, old.status),
        stats={**old.stats, **spent},
    )
