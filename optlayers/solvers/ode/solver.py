"""What makes a stepper a solver: its options and the call of the walk."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from optlayers.errors import ParameterError
from optlayers.interfaces import Kind
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution
from optlayers.solvers.ode.drive import Walk
from optlayers.solvers.ode.options import StepOptions
from optlayers.solvers.ode.stepper import Stepper


@dataclass(frozen=True, kw_only=True)
class SteppingSolver(StepOptions):
    """A solver that takes steps of one method; each algorithm adds its stepper.

    The options are those of `StepOptions`.

    Raises:
        ParameterError: an option out of its range.
    """

    kind: ClassVar[Kind] = Kind.ODE
    stepper: ClassVar[Stepper]

    @property
    def is_for_stiff(self) -> bool:
        """Whether its method is implicit, or may be handed over to one that is."""
        return self.stepper.is_implicit

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control.is_adaptive and self.stepper.error_order is None:
            raise ParameterError(
                f"{type(self).__name__} estimates no error and takes fixed steps; give "
                "control=FixedStep(size=...)."
            )

    def refuses(self, program: InitialValueProgram) -> str | None:
        """Nothing: any field will do."""
        return None

    def walk(
        self,
        program: InitialValueProgram,
        *,
        records: bool = False,
        dense: bool = False,
    ) -> Walk:
        """The integration at its beginning, to be advanced a step at a time.

        Args:
            program: of B samples.
            records: whether the steps are kept, for `Walk.grid` and `Walk.saves`.
            dense: whether the steps are kept for `Walk.at`.
        """
        return Walk(self.stepper, program, self, records=records, dense=dense)

    def solve(
        self, program: InitialValueProgram, start: Tensor | None = None
    ) -> Solution:
        """Integrate every sample; failures are statuses.

        Args:
            program: B problems. Where grad mode is on, the values carry the graph of
                all steps.
            start: not used; initial values stand in the program.
        """
        walk = self.walk(program)
        while walk.is_running:
            walk.advance()
        return walk.solution()
