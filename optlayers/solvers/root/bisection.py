"""Bisection: an interval with a change of sign is halved until it is a point."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.root.bracket import Bracket, bracket, refuse_systems
from optlayers.solvers.root.options import check_options, solved_by


@dataclass(frozen=True, kw_only=True)
class Bisection:
    """For one equation in one unknown that changes sign; one bit a step.

    The bounds of the unknown are the interval; where they are open it is grown from
    the start.

    Attributes:
        max_steps: most halvings.
        tolerance: size of the residual that counts as zero.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 200
    tolerance: float = 1e-10
    kind: ClassVar[Kind] = Kind.ROOT

    def __post_init__(self) -> None:
        check_options(self)

    def refuses(self, program: RootProgram) -> str | None:
        """Systems of more than one unknown."""
        return refuse_systems(program)

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: RootProgram, start: Tensor) -> Bracket:
        """An interval with a change of sign."""
        return bracket(program, start)

    def step(self, program: RootProgram, state: Bracket, active: Tensor) -> Bracket:
        """The half that keeps the change of sign."""
        middle = 0.5 * (state.left + state.right)
        with torch.no_grad():
            value = program.residual(middle)
        to_left = value.sign() * state.at_left.sign() <= 0
        return Bracket(
            torch.where(to_left, state.left, middle),
            torch.where(to_left, middle, state.right),
            torch.where(to_left, state.at_left, value),
            torch.where(to_left, value, state.at_right),
        )

    def outcome(self, state: Bracket) -> Outcome:
        """The better end."""
        return state.outcome()
