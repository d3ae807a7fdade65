"""Begins with an explicit method, and goes on with a stiff one where that pays."""

from dataclasses import dataclass
from typing import ClassVar

from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solvers.ode.drive import Walk
from optlayers.solvers.ode.kvaerno5 import Kvaerno5
from optlayers.solvers.ode.rodas5p import Rodas5P
from optlayers.solvers.ode.solver import SteppingSolver
from optlayers.solvers.ode.stepper import Stepper
from optlayers.solvers.ode.stiffness import Handover
from optlayers.solvers.ode.tsit5 import TABLEAU, Tsit5

# Beyond this many states the graph of a Jacobian, which the derivative of a Rosenbrock
# step holds, takes more memory than all stages of an implicit one.
ROSENBROCK_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Auto(SteppingSolver):
    """Explicit (tsit5) until a sample is stiff, then rodas5p, or kvaerno5 if large.

    Each sample is judged by its own steps: it is handed over from where it stands when
    stability has limited them for long, when they have become too short, or when there
    were `max_steps` of them; the stiff method may then make as many. The statistic
    "is_stiff" tells which samples were. Fixed steps are explicit ones.
    """

    stepper: ClassVar[Stepper] = Tsit5.stepper

    @property
    def is_for_stiff(self) -> bool:
        """Yes, unless steps are fixed: those are not handed over."""
        return self.control.is_adaptive

    def walk(
        self,
        program: InitialValueProgram,
        *,
        records: bool = False,
        dense: bool = False,
    ) -> Walk:
        """The integration at its beginning, with the method that takes stiff samples.

        That is rodas5p up to `ROSENBROCK_SIZE` states and kvaerno5 beyond, at the same
        tolerances; fixed steps are not handed over.

        Args:
            program: of B samples.
            records: whether the steps are kept, for `Walk.grid` and `Walk.saves`.
            dense: whether the steps are kept for `Walk.at`.
        """
        stiff = Rodas5P.stepper
        if program.size > ROSENBROCK_SIZE:
            stiff = Kvaerno5(rtol=self.rtol, atol=self.absolute).stepper
        handover = Handover(TABLEAU, stiff) if self.control.is_adaptive else None
        return Walk(
            self.stepper, program, self, records=records, dense=dense, handover=handover
        )
