"""Newton's method with conjugate gradients in a trust region; no matrix is formed.

Each step solves H p = -g by conjugate gradients until the accuracy suffices, curvature
is negative or the region ends. Source: T. Steihaug (1983); J. Nocedal, S. Wright,
Numerical Optimization (2006), algorithm 7.2.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.minimize import BatchFunction, MinimizeProgram
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

LEAST_GAIN = 1e-4
SMALLEST_RADIUS = 1e-16


class CgState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point, gradient: x and grad f, [B, n].
        value: f(x), [B].
        radius: the largest length of the next step, [B].
        stalled: whether the radius has become too small to move, bool [B].
    """

    point: Tensor
    value: Tensor
    gradient: Tensor
    radius: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class NewtonCg:
    """Matrix-free trust-region Newton method, superlinear; for many unknowns.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the gradient that counts as zero.
        max_products: most products with the Hessian in one step.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 500
    tolerance: float = 1e-8
    max_products: int = 200
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self, "max_products")

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Constraints and bounds."""
        return refuse_constraints(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: MinimizeProgram, start: Tensor) -> CgState:
        """Value and gradient at the start."""
        value, gradient = program.value_and_gradient(start)
        radius = start.norm(dim=1).clamp_min(1.0)
        stalled = torch.zeros_like(radius, dtype=torch.bool)
        return CgState(start, value, gradient, radius, stalled)

    def step(self, program: MinimizeProgram, state: CgState, active: Tensor) -> CgState:
        """One trial step."""
        product = program.products(state.point)
        p, Hp = _steihaug(product, state.gradient, state.radius, self.max_products)
        trial = state.point + p
        value, gradient = program.value_and_gradient(trial)
        foreseen = -(dot(state.gradient, p) + dot(p, Hp) / 2)
        gain = gain_of((state.value, state.gradient), (value, gradient), foreseen)
        accepted = active & (gain > LEAST_GAIN)
        length = p.norm(dim=1)
        radius = torch.where(gain < 0.25, 0.25 * length, state.radius)
        reaches = length >= 0.99 * state.radius
        radius = torch.where((gain > 0.75) & reaches, 3 * radius, radius)
        least = SMALLEST_RADIUS * state.point.norm(dim=1).clamp_min(1e-10)
        stalled = active & ~accepted & (radius < least)
        new = CgState(trial, value, gradient, radius, stalled)
        state = state._replace(radius=radius, stalled=stalled)
        merged = (chosen(accepted, a, b) for a, b in zip(new, state, strict=True))
        return CgState(*merged)

    def outcome(self, state: CgState) -> Outcome:
        """The last accepted point."""
        size = slope_size(state.value, state.gradient)
        return Outcome(state.point, size, fault_of(state.value, state.stalled))


def _steihaug(
    product: BatchFunction, gradient: Tensor, radius: Tensor, max_products: int
) -> tuple[Tensor, Tensor]:
    """A step p within the radius and H p, both [B, n]."""
    size = gradient.norm(dim=1)
    goal = size * size.sqrt().clamp_max(0.5)
    p, Hp = torch.zeros_like(gradient), torch.zeros_like(gradient)
    r, d = gradient, -gradient
    running = size > 0
    for _ in range(min(max_products, 2 * gradient.shape[1] + 10)):
        if not running.any():
            break
        Hd = product(d)
        curvature, squared = dot(d, Hd), dot(r, r)
        share = squared / curvature
        longer = p + share.unsqueeze(1) * d
        leaves = ~(curvature > 0) | ~(longer.norm(dim=1) < radius)
        share = torch.where(leaves, _to_boundary(p, d, radius), share)
        share = torch.where(running & share.isfinite(), share, 0.0).unsqueeze(1)
        p, Hp = p + share * d, Hp + share * Hd
        new = r + share * Hd
        running = running & ~leaves & (new.norm(dim=1) > goal)
        beta = (dot(new, new) / squared).unsqueeze(1)
        d = chosen(running, beta * d - new, d)
        r = chosen(running, new, r)
    return p, Hp


def _to_boundary(p: Tensor, d: Tensor, radius: Tensor) -> Tensor:
    """The t >= 0 with |p + t d| = radius, [B]."""
    a, b, c = dot(d, d), dot(p, d), (dot(p, p) - radius.square()).clamp_max(0.0)
    root = (b.square() - a * c).sqrt()
    # The form without cancellation, by the sign of b.
    return torch.where(b > 0, -c / (b + root), (root - b) / a)
