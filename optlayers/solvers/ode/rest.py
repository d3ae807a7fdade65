"""Keeps steps short near an equilibrium, where estimated errors say nothing of them.

There the derivative of a step, R(h J), is not that of the flow, exp(h J), unless h |J|
is small, however exact the value is; |J| by four power iterations with differences.
"""

import math

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction
from optlayers.solvers.ode.pace import Pace
from optlayers.solvers.ode.stepper import Stepper

# Ratios of estimated to allowed error from which on the error speaks for itself.
SPEAKING = 0.1
# A step that moves a sample by so many allowed errors does not begin at rest: where it
# does, |f| < |J| allowed errors, and h |J| is at most ten times `STABLE`.
MOVING = 100.0
# h |J| within the stability region of every explicit method here, and short of where
# the estimate of |J| may be too low.
STABLE = 1.5
PRODUCTS = 4
# Steps for which an estimate is good: at rest the Jacobian changes with time alone.
HOLD = 16


class RestWatch:
    """Bounds the steps of samples whose distance from rest is below the tolerance.

    A sample at rest since it began takes the steps that a deviation of the size of its
    state would need, so that derivatives are as exact as of any other; one that has
    come to rest takes stable steps, as its derivatives have decayed with it.

    Attributes:
        has_moved: which samples have not been at rest all the time, bool [B].
    """

    def __init__(
        self, stepper: Stepper, pace: Pace, rtol: float, state: Tensor
    ) -> None:
        """Before the first step.

        Args:
            stepper: the method.
            pace: measures errors.
            rtol: allowed error of a step relative to the state.
            state: x0, [B, n].
        """
        self._pace = pace
        power = (stepper.error_order or 0) + 1
        # At this h |J| the first term that an error estimate sees is rtol.
        self._exact = min(STABLE, (math.factorial(power) * rtol) ** (1 / power))
        self.has_moved = torch.zeros_like(state[:, 0], dtype=torch.bool)
        self._radius = torch.zeros_like(state[:, 0])
        self._due = torch.zeros_like(self._radius)
        # Any direction that no mode of a symmetric field is orthogonal to.
        index = torch.arange(1, state.shape[1] + 1, device=state.device)
        self._direction = index.square().cos().to(state.dtype).expand_as(state)

    def bound(
        self,
        field: FieldFunction,
        time: Tensor,
        state: Tensor,
        rate: Tensor,
        rows: Tensor,
        count: int,
    ) -> tuple[Tensor | None, Tensor]:
        """The longest step that each sample may make next, [B]; None if any.

        Args:
            field: f.
            time: t, [B].
            state: x, [B, n].
            rate: f(t, x), [B, n].
            rows: samples whose error was too small to speak, bool [B].
            count: steps made so far.

        Returns:
            The bound, infinite of samples not at rest, and the samples for which the
            field was evaluated `PRODUCTS` times, bool [B].
        """
        speed = self._pace.relative(rate, state.abs())
        still = rows & (speed * self._pace.proposed < MOVING)
        self.has_moved = self.has_moved | (rows & ~still)
        asked = still & (self._due <= count)
        if not bool(still.any()):
            return None, asked
        if bool(asked.any()):
            self._estimate(field, time, state, rate, asked)
            self._due = torch.where(asked, count + HOLD, self._due)
        at_rest = still & (speed <= self._radius)
        self.has_moved = self.has_moved | (still & ~at_rest)
        allowed = torch.where(self.has_moved, STABLE, self._exact)
        return torch.where(at_rest, allowed / self._radius, torch.inf), asked

    def _estimate(
        self,
        field: FieldFunction,
        time: Tensor,
        state: Tensor,
        rate: Tensor,
        asked: Tensor,
    ) -> None:
        """Find |J| where asked: the geometric mean of the growth by each product.

        A single product would see the norm of J, which of a spring is far larger than
        its frequency.
        """
        scale = self._pace.scale(state)
        step = torch.finfo(state.dtype).eps ** 0.5
        direction, growth = self._direction, torch.zeros_like(time)
        for _ in range(PRODUCTS):
            size = direction.square().mean(1, keepdim=True).sqrt()
            direction = direction / size.clamp_min(torch.finfo(state.dtype).tiny)
            moved = field(time, torch.addcmul(state, direction, step * scale))
            direction = (moved - rate) / (step * scale)
            growth += direction.square().mean(1).sqrt().log()
        radius = (growth / PRODUCTS).exp()
        # Where the field is not finite beside the state nothing is known.
        known = asked & radius.isfinite() & (radius > 0)
        self._radius = torch.where(asked, torch.where(known, radius, 0.0), self._radius)
        self._direction = torch.where(known.unsqueeze(1), direction, self._direction)
