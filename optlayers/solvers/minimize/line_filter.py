"""A line search that accepts a step if it lowers the violation or the objective.

Pairs (theta, phi) of violation and barrier objective that were left behind form the
filter. Source: A. Waechter, L. Biegler, On the implementation of an interior-point
filter line-search algorithm (2006), section 2.3 and algorithm A.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

VIOLATION_MARGIN, OBJECTIVE_MARGIN = 1e-5, 1e-8
ARMIJO = 1e-4
SWITCH_POWER, VIOLATION_POWER = 2.3, 1.1
MOST_HALVINGS = 30
ROUNDINGS = 10


class Merit(NamedTuple):
    """The violation theta and the barrier objective phi of a point, each [B]."""

    violation: Tensor
    barrier: Tensor


class Filter(NamedTuple):
    """What the line search remembers.

    Attributes:
        violations, barriers: the corners no later point may be behind, [B, F].
        least, most: a small violation, and one that is never accepted, [B].
    """

    violations: Tensor
    barriers: Tensor
    least: Tensor
    most: Tensor

    @classmethod
    def empty(cls, violation: Tensor) -> "Filter":
        """Nothing yet, at a start of this violation, [B]."""
        none = violation.new_zeros(violation.shape[0], 0)
        size = violation.clamp_min(1.0)
        return cls(none, none, 1e-4 * size, 1e4 * size)

    def accepts(self, merit: Merit) -> Tensor:
        """Whether a point is behind no corner, bool [B]; NaN is."""
        theta, phi = merit.violation.unsqueeze(1), merit.barrier.unsqueeze(1)
        before = (theta < self.violations) | (phi < self.barriers)
        return before.all(1) & (merit.violation <= self.most)

    def extended(self, merit: Merit, chosen: Tensor) -> "Filter":
        """With the corner of the chosen samples, bool [B]."""
        if not chosen.any():
            return self
        theta = (1 - VIOLATION_MARGIN) * merit.violation
        phi = merit.barrier - OBJECTIVE_MARGIN * merit.violation
        violations = theta.masked_fill(~chosen, torch.inf).unsqueeze(1)
        barriers = phi.masked_fill(~chosen, torch.inf).unsqueeze(1)
        return self._replace(
            violations=torch.cat([self.violations, violations], 1),
            barriers=torch.cat([self.barriers, barriers], 1),
        )

    def cleared(self, chosen: Tensor) -> "Filter":
        """Without the corners of the chosen samples, bool [B]."""
        rows = chosen.unsqueeze(1)
        violations = self.violations.masked_fill(rows, torch.inf)
        kept = (violations < torch.inf).any(0)
        barriers = self.barriers.masked_fill(rows, torch.inf)
        return self._replace(violations=violations[:, kept], barriers=barriers[:, kept])


class Judge(NamedTuple):
    """What decides on the trial points of one search.

    Attributes:
        filter: as it stands.
        merit: of the point where the search begins.
        slope: the derivative of phi along the step, [B].
    """

    filter: Filter
    merit: Merit
    slope: Tensor

    def accepts(self, trial: Merit, length: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a trial is taken, and whether that is for the sake of phi alone."""
        theta, phi = self.merit
        gain = (-self.slope).clamp_min(0.0)
        switches = length * gain**SWITCH_POWER > theta**VIOLATION_POWER
        slack = ROUNDINGS * torch.finfo(phi.dtype).eps * phi.abs()
        falls = trial.barrier <= phi + ARMIJO * length * self.slope + slack
        improves = (trial.violation <= (1 - VIOLATION_MARGIN) * theta) | (
            trial.barrier <= phi - OBJECTIVE_MARGIN * theta + slack
        )
        by_phi = switches & (self.slope < 0) & (theta <= self.filter.least)
        taken = torch.where(by_phi, falls, improves) & self.filter.accepts(trial)
        return taken, switches & (self.slope < 0) & falls


class Searched(NamedTuple):
    """What a search found.

    Attributes:
        length: the share of the step that is taken, [B]; 0 where none is.
        extends: where the filter gets a new corner, bool [B].
        corrected: where the second-order correction is taken in its place, bool [B].
    """

    length: Tensor
    extends: Tensor
    corrected: Tensor


def search(
    judge: Judge,
    longest: Tensor,
    active: Tensor,
    trial: Callable[[Tensor], Merit],
    correct: Callable[[Tensor], Merit],
) -> Searched:
    """Halve the steps of the active samples until they are acceptable.

    Args:
        judge: what decides.
        longest: the largest share of the step, [B].
        active: the samples to search for, bool [B].
        trial: the merit after such a share of the step, [B] -> Merit.
        correct: the merit after the second-order correction of the full share.
    """
    length = longest
    pending = active
    extends = torch.zeros_like(active)
    corrected = torch.zeros_like(active)
    for count in range(MOST_HALVINGS):
        merit = trial(length)
        taken, by_phi = judge.accepts(merit, length)
        extends = torch.where(pending & taken, ~by_phi, extends)
        pending = pending & ~taken
        worse = pending & (merit.violation >= judge.merit.violation)
        if count == 0 and worse.any():
            taken, by_phi = judge.accepts(correct(length), length)
            corrected = worse & taken
            extends = torch.where(corrected, ~by_phi, extends)
            pending = pending & ~corrected
        if not pending.any():
            break
        length = torch.where(pending, length / 2, length)
    return Searched(length.masked_fill(pending, 0.0), extends, corrected)
