"""The poly-algorithm: what to try, in which order, on the samples still unsolved.

Systems: methods with a Jacobian while it can be afforded, then those without. Fixed
points of many unknowns: the other way round. Few unknowns: again from other starts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import start_or_zero
from optlayers.solvers.root.anderson import Anderson
from optlayers.solvers.root.broyden import Broyden
from optlayers.solvers.root.chandrupatla import Chandrupatla
from optlayers.solvers.root.fixed_point import FixedPoint
from optlayers.solvers.root.levenberg_marquardt import LevenbergMarquardt
from optlayers.solvers.root.newton import Newton
from optlayers.solvers.root.newton_krylov import NewtonKrylov
from optlayers.solvers.root.options import check_options
from optlayers.solvers.root.rounding import can_be_dense, is_rounding

# Beyond this a Jacobian costs more than the evaluations that a map's methods take; up
# to this the search begins again from other starts.
FEW_UNKNOWNS = 50
# A map that contracts well is solved by then, at a third of the time of Anderson's
# method (n = 256, batch 64); of one that does not these are lost.
PLAIN_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Falls back sample by sample; a solved sample is never touched again.

    Up to 50 unknowns: Newton; Chandrupatla of one unknown; Anderson and Broyden of a
    fixed point; Levenberg-Marquardt; then Newton and it from `restarts` other starts.
    More unknowns of a fixed point: plain steps, Anderson, Broyden, Newton-Krylov,
    Newton. Of other systems: Newton, Broyden, Newton-Krylov. Newton with its dense
    Jacobians is left out beyond 1024 unknowns, or 2**25 entries in a batch's matrices.

    Attributes:
        max_steps: most steps of each method tried.
        tolerance: largest entry of the residual that counts as zero; one that is no
            more than rounding of the unknowns counts too.
        restarts: how many starts are tried beside the given one.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 100
    tolerance: float = 1e-10
    restarts: int = 8
    kind: ClassVar[Kind] = Kind.ROOT

    def __post_init__(self) -> None:
        check_options(self)

    def refuses(self, program: RootProgram) -> str | None:
        """Nothing: any square system will do."""
        return None

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        start = start_or_zero(program, start)
        best = None
        for solver, first in self._attempts(program, start):
            if best is None:
                best = solver.solve(program, first)
            else:
                # A solved sample starts at its solution, where it is finished at once.
                first = torch.where(best.ok.unsqueeze(1), best.value, first)
                best = _better(best, solver.solve(program, first))
            if bool(best.ok.all()):
                break
            best = _settled(program, best)
            if bool(best.ok.all()):
                break
        assert best is not None
        return best

    def _attempts(
        self, program: RootProgram, start: Tensor
    ) -> Iterator[tuple[Any, Tensor]]:
        limits = {"max_steps": self.max_steps, "tolerance": self.tolerance}
        if program.size > FEW_UNKNOWNS:
            yield from ((solver, start) for solver in self._of_many(program))
            return
        newton, marquardt = Newton(**limits), LevenbergMarquardt(**limits)
        yield newton, start
        if program.size == 1:
            yield Chandrupatla(**limits), start
        if program.map is not None:
            # Newton's method cannot cross points where I - dG/dz is singular.
            yield Anderson(**limits), start
            yield Broyden(**limits), start
        yield marquardt, start
        for number in range(self.restarts):
            moved = program.clamp(_moved(start, number))
            yield newton, moved
            yield marquardt, moved

    def _of_many(self, program: RootProgram) -> Iterator[Any]:
        limits = {"max_steps": self.max_steps, "tolerance": self.tolerance}
        # Written-out trajectories and discretized equations are hard for methods
        # without a Jacobian, and Newton's takes a few steps.
        is_dense = can_be_dense(program)
        if program.map is not None:
            plain = min(PLAIN_STEPS, self.max_steps)
            yield FixedPoint(max_steps=plain, tolerance=self.tolerance)
            yield Anderson(**limits)
        elif is_dense:
            yield Newton(**limits)
        yield Broyden(**limits)
        yield NewtonKrylov(**limits)
        if program.map is not None and is_dense:
            yield Newton(**limits)


def _moved(start: Tensor, number: int) -> Tensor:
    """Another start, the same way for every sample: nearer to or around the first."""
    generator = torch.Generator().manual_seed(number)
    noise = torch.randn(start.shape[1], generator=generator, dtype=torch.float64)
    nearer = (1.0, 0.1, 0.01)[number % 3]
    spread = 0.3 * (1 + number // 3)
    size = start.abs().amax(1, keepdim=True).clamp_min(1.0)
    return nearer * (start + spread * size * noise.to(start))


def _settled(program: RootProgram, found: Solution) -> Solution:
    """Samples at the level of rounding are solved, as no method can do better."""
    is_done = found.ok | is_rounding(program, found.value)
    status = found.status.masked_fill(is_done, int(Status.SOLVED))
    return Solution(found.value, found.duals, status, found.stats)


def _better(old: Solution, new: Solution) -> Solution:
    """The better of two for each sample, with the steps and time of both."""
    is_new = new.ok & ~old.ok
    is_new = is_new | (~old.ok & (new.stats["residual"] < old.stats["residual"]))
    steps = old.stats["steps"] + torch.where(old.ok, 0, new.stats["steps"])
    return Solution(
        torch.where(is_new.unsqueeze(1), new.value, old.value),
        {},
        torch.where(is_new, new.status, old.status),
        {
            "steps": steps,
            "residual": torch.where(
                is_new, new.stats["residual"], old.stats["residual"]
            ),
            "seconds": old.stats["seconds"] + new.stats["seconds"],
        },
    )
