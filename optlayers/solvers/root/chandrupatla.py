"""Chandrupatla's method: inverse quadratic interpolation where it is safe, else halves.

Source: T. R. Chandrupatla, A new hybrid quadratic/bisection algorithm for finding the
zero of a nonlinear function without using derivatives (1997).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.root.bracket import Bracket, bracket, refuse_systems
from optlayers.solvers.root.options import check_options, solved_by


class ChandrupatlaState(NamedTuple):
    """Points a, b, c of every sample, their values, and the next place t; [B, 1] each.

    The root lies between a, the newest point, and b; c is the point before.
    """

    a: Tensor
    b: Tensor
    c: Tensor
    at_a: Tensor
    at_b: Tensor
    at_c: Tensor
    place: Tensor


@dataclass(frozen=True, kw_only=True)
class Chandrupatla:
    """For one equation in one unknown that changes sign; superlinear and safe.

    The bounds of the unknown are the interval; where they are open it is grown from
    the start.

    Attributes:
        max_steps: most steps.
        tolerance: size of the residual that counts as zero.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 100
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

    def init(self, program: RootProgram, start: Tensor) -> ChandrupatlaState:
        """An interval with a change of sign, to be halved first."""
        left, right, at_left, at_right = bracket(program, start)
        half = torch.full_like(left, 0.5)
        return ChandrupatlaState(left, right, left, at_left, at_right, at_left, half)

    def step(
        self, program: RootProgram, state: ChandrupatlaState, active: Tensor
    ) -> ChandrupatlaState:
        """Evaluate at the chosen place and keep the change of sign."""
        a, b, _, at_a, at_b, _, place = state
        x = a + place * (b - a)
        with torch.no_grad():
            value = program.residual(x)
        is_same = value.sign() == at_a.sign()
        c, at_c = torch.where(is_same, a, b), torch.where(is_same, at_a, at_b)
        b, at_b = torch.where(is_same, b, a), torch.where(is_same, at_b, at_a)
        a, at_a = x, value
        return ChandrupatlaState(
            a, b, c, at_a, at_b, at_c, _next_place(a, b, c, at_a, at_b, at_c)
        )

    def outcome(self, state: ChandrupatlaState) -> Outcome:
        """The better end."""
        return Bracket(state.a, state.b, state.at_a, state.at_b).outcome()


def _next_place(
    a: Tensor, b: Tensor, c: Tensor, at_a: Tensor, at_b: Tensor, at_c: Tensor
) -> Tensor:
    """Where between a (0) and b (1) to evaluate next, the letters of the source."""
    xi = (a - b) / (c - b)
    phi = (at_a - at_b) / (at_c - at_b)
    is_safe = (1 - (1 - xi).sqrt() < phi) & (phi < xi.sqrt())
    alpha = (c - a) / (b - a)
    place = at_a / (at_b - at_a) * at_c / (at_b - at_c) + alpha * at_a / (
        at_c - at_a
    ) * at_b / (at_c - at_b)
    place = torch.where(is_safe & place.isfinite(), place, 0.5)
    # At least one rounding away from either end.
    near = 2 * torch.finfo(a.dtype).eps * a.abs() / (b - a).abs()
    near = near.nan_to_num(0.5).clamp(max=0.5)
    return torch.maximum(near, torch.minimum(place, 1 - near))
