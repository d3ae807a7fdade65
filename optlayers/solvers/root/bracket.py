"""An interval for every sample at whose ends one equation has opposite signs."""

from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.programs.root import RootProgram
from optlayers.solution import Status
from optlayers.solvers.iterative import RUNNING, Outcome, size_of

EXPANSIONS = 60


class Bracket(NamedTuple):
    """Ends of the intervals and the values there, [B, 1] each.

    Attributes:
        left, right: the ends.
        at_left, at_right: F there.
    """

    left: Tensor
    right: Tensor
    at_left: Tensor
    at_right: Tensor

    def outcome(self) -> Outcome:
        """The end with the smaller residual; stalled where nothing is left to halve."""
        is_left = self.at_left.abs() <= self.at_right.abs()
        point = torch.where(is_left, self.left, self.right)
        residual = torch.where(is_left, self.at_left, self.at_right)
        # Neighbours in floating point, or no change of sign at all.
        middle = 0.5 * (self.left + self.right)
        is_point = ((middle == self.left) | (middle == self.right)).squeeze(1)
        stalled = is_point | ~self.is_valid
        fault = torch.where(stalled, int(Status.STALLED), RUNNING).to(torch.int8)
        return Outcome(point, size_of(residual), fault)

    @property
    def is_valid(self) -> Tensor:
        """Where the signs differ, or an end is a root, bool [B]."""
        return (self.at_left.sign() * self.at_right.sign() <= 0).squeeze(1)


def refuse_systems(program: RootProgram) -> str | None:
    """The refusal of methods that halve an interval."""
    if program.size != 1:
        return f"brackets one unknown, and the program has {program.size}."
    return None


def bracket(program: RootProgram, start: Tensor) -> Bracket:
    """The bounds of the unknown; where there are none, an interval grown about start.

    Args:
        program: of one unknown.
        start: [B, 1].
    """

    def value(point: Tensor) -> Tensor:
        with torch.no_grad():
            return program.residual(point)

    width = 0.1 * start.abs().clamp_min(1.0)
    left = _end(program.lower, start, start - width)
    right = _end(program.upper, start, start + width)
    at_left, at_right = value(left), value(right)
    for _ in range(EXPANSIONS):
        found = Bracket(left, right, at_left, at_right)
        growing = ~found.is_valid.unsqueeze(1)
        if not growing.any():
            break
        # Towards the end where |F| is smaller; the left behind end closes up.
        to_left = growing & (at_left.abs() < at_right.abs())
        to_right = growing & ~to_left
        span = 1.6 * (right - left)
        new_left = torch.where(to_left, program.clamp(left - span), left)
        new_right = torch.where(to_right, program.clamp(right + span), right)
        if torch.equal(new_left, left) and torch.equal(new_right, right):
            break
        left, right = new_left, new_right
        at_left, at_right = value(left), value(right)
    return Bracket(left, right, at_left, at_right)


def _end(bound: Tensor | None, start: Tensor, default: Tensor) -> Tensor:
    if bound is None:
        return default
    given = bound.to(start).expand_as(start)
    return torch.where(given.isfinite(), given, default)
