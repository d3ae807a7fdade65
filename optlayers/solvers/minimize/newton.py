"""Newton's method in a trust region, with the exact Hessian at every accepted point.

The step makes g'p + p'Hp/2 least over |p| <= radius: by Cholesky's factors of H where
that is Newton's step, else by its eigenvalues, so that negative curvature is used.
Source: J. Nocedal, S. Wright, Numerical Optimization (2006), algorithms 4.1 and 4.3;
J. More, D. Sorensen, Computing a trust region step (1983), for hard cases.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.linalg.dense import times
from optlayers.programs.minimize import Evaluation, MinimizeProgram
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.minimize.options import (
    chosen,
    dot,
    fault_of,
    gain_of,
    refuse_constraints,
    slope_size,
    solved_by,
)
from optlayers.solvers.root.options import check_options

# Steps on the equation |p| = radius, which converge from one side; five are the rule.
SECULAR_STEPS = 20
LEAST_GAIN = 1e-4
# The search for the shift begins with one that may give so many times the radius.
LONGEST = 1e6
# Pivots below so many roundings of the diagonal say nothing of their sign.
PIVOT = 100
# A radius below this share of the point cannot move it.
SMALLEST_RADIUS = 1e-16


class NewtonState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point, gradient: x and grad f, [B, n].
        value: f(x), [B].
        hessian: of f; of zero where it is not finite, [B, n, n].
        newton: the step to where the model is stationary, [B, n].
        is_convex: whether the Hessian is positive definite beyond rounding, bool [B].
        radius: the largest length of the next step, [B].
        stalled: whether the radius has become too small to move, bool [B].
    """

    point: Tensor
    value: Tensor
    gradient: Tensor
    hessian: Tensor
    newton: Tensor
    is_convex: Tensor
    radius: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class Newton:
    """Dense trust-region Newton method, quadratically convergent; for few unknowns.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the gradient that counts as zero.
        radius: the first trust radius, relative to max(1, |start|).

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 200
    tolerance: float = 1e-8
    radius: float = 1.0
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self, "radius")

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Constraints and bounds."""
        return refuse_constraints(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: MinimizeProgram, start: Tensor) -> NewtonState:
        """Value and both derivatives at the start."""
        found = program.evaluate(start)
        value, gradient = found.value.detach(), found.gradient.detach()
        radius = self.radius * start.norm(dim=1).clamp_min(1.0)
        stalled = torch.zeros_like(radius, dtype=torch.bool)
        model = _model(found, gradient)
        return NewtonState(start, value, gradient, *model, radius, stalled)

    def step(
        self, program: MinimizeProgram, state: NewtonState, active: Tensor
    ) -> NewtonState:
        """One trial step; a new Hessian if any sample accepts it."""
        p, foreseen = _step(state, active)
        trial = state.point + p
        found = program.evaluate(trial)
        value, gradient = found.value.detach(), found.gradient.detach()
        gain = gain_of((state.value, state.gradient), (value, gradient), foreseen)
        accepted = active & (gain > LEAST_GAIN)
        length = p.norm(dim=1)
        radius = torch.where(gain < 0.25, 0.25 * length, state.radius)
        reaches = length >= 0.8 * state.radius
        radius = torch.where((gain > 0.75) & reaches, 3 * radius, radius)
        least = SMALLEST_RADIUS * state.point.norm(dim=1).clamp_min(1e-10)
        state = state._replace(radius=radius, stalled=~accepted & (radius < least))
        if not accepted.any():
            return state
        model = _model(found, gradient)
        new = NewtonState(trial, value, gradient, *model, radius, state.stalled)
        return NewtonState(
            *(chosen(accepted, a, b) for a, b in zip(new, state, strict=True))
        )

    def outcome(self, state: NewtonState) -> Outcome:
        """The last accepted point; one with negative curvature is not finished."""
        size = slope_size(state.value, state.gradient)
        near = ((size <= self.tolerance) & ~state.is_convex & ~state.stalled).nonzero()
        if len(near):
            eigenvalues = torch.linalg.eigvalsh(state.hessian[near[:, 0]])
            largest = eigenvalues.abs().amax(1)
            downward = -eigenvalues[:, 0]
            is_saddle = downward > torch.finfo(size.dtype).eps ** 0.5 * largest
            saddles = near[is_saddle, 0]
            size[saddles] = torch.maximum(size[saddles], downward[is_saddle])
        return Outcome(state.point, size, fault_of(state.value, state.stalled))


def _model(found: Evaluation, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The Hessian, the stationary step of its model, and whether that is a minimum."""
    H = found.derivatives()[0]
    lost = ~H.isfinite().all(2).all(1)
    H = H.masked_fill(lost.view(-1, 1, 1), 0.0)
    if H.shape[1] == 0:
        return H, torch.zeros_like(gradient), ~lost
    # Where it is not definite, the factors end early and are not used.
    L, fault = torch.linalg.cholesky_ex(H)
    diagonal = H.diagonal(dim1=1, dim2=2)
    least = PIVOT * torch.finfo(H.dtype).eps * diagonal.amax(1)
    pivots = L.diagonal(dim1=1, dim2=2).square().amin(1)
    is_convex = (fault == 0) & (pivots > least)
    newton = torch.cholesky_solve(-gradient.unsqueeze(2), L).squeeze(2)
    return H, newton, is_convex & newton.isfinite().all(1)


def _step(state: NewtonState, active: Tensor) -> tuple[Tensor, Tensor]:
    """The step of least model value, [B, n], and the decrease it foresees, [B]."""
    H, g, p = state.hessian, state.gradient, state.newton
    is_inside = state.is_convex & (p.norm(dim=1) <= state.radius)
    rows = (active & ~is_inside).nonzero()[:, 0]
    if len(rows):
        p = p.masked_fill(~is_inside.unsqueeze(1), 0.0)
        p[rows] = _trust_region_step(*_spectrum(H[rows]), g[rows], state.radius[rows])
    return p, -(dot(g, p) + dot(p, times(H, p)) / 2)


def _spectrum(H: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, [B, n] and [B, n, n]."""
    if H.shape[1] == 0:
        return H.new_zeros(H.shape[:2]), H
    # LAPACK may not converge where entries overflow when multiplied.
    size = H.abs().amax((1, 2)).clamp_min(torch.finfo(H.dtype).tiny).view(-1, 1, 1)
    eigenvalues, eigenvectors = torch.linalg.eigh(H / size)
    return eigenvalues * size.squeeze(2), eigenvectors


def _trust_region_step(
    lam: Tensor, Q: Tensor, gradient: Tensor, radius: Tensor
) -> Tensor:
    """The step of least model value by the spectrum of the Hessian, [B, n]."""
    a = times(Q.mT, gradient)
    zero = 4 * torch.finfo(lam.dtype).eps * lam.abs().amax(1, keepdim=True)
    # A shift that is too small by far is as good a beginning as zero, and divides.
    longest = LONGEST * radius.unsqueeze(1)
    floor = (-lam[:, :1]).clamp_min(0.0) + zero
    floor = floor + (a.norm(dim=1, keepdim=True) / longest)
    floor = floor.clamp_min(torch.finfo(lam.dtype).tiny)
    # Where the Newton step lies within the region, no shift is needed.
    is_convex = lam[:, :1] > zero
    shift = torch.where(is_convex, 0.0, floor)
    for _ in range(SECULAR_STEPS):
        w = a / (lam + shift)
        length = w.norm(dim=1, keepdim=True)
        # Newton on 1/|p| - 1/radius = 0, from the left: Nocedal and Wright, 4.44.
        down = (w.square() / (lam + shift)).sum(1, keepdim=True)
        step = length.square() / down * (length / radius.unsqueeze(1) - 1)
        step = torch.where(step.isfinite(), step, 0.0)
        longer = shift + step.clamp_min(0.0)
        if torch.equal(longer, shift):
            break
        shift = longer
    w = -a / (lam + shift)
    length = w.norm(dim=1, keepdim=True)
    # The hard case: along the lowest eigenvector up to the boundary.
    missing = (radius.unsqueeze(1).square() - length.square()).clamp_min(0.0).sqrt()
    hard = (~is_convex & (lam[:, :1] < 0) & (shift == floor)).squeeze(1)
    lowest = torch.where(a[:, :1] > 0, -missing, missing)
    w = torch.cat([w[:, :1] + torch.where(hard.unsqueeze(1), lowest, 0.0), w[:, 1:]], 1)
    return times(Q, w)
