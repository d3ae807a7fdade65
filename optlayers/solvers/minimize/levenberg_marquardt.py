"""Levenberg-Marquardt for sums of squares: steps that shrink where the model fails.

The step d makes |r(x) + J d|^2 + mu |D d|^2 least. Source: J. More, The
Levenberg-Marquardt algorithm (1978), section 6 for D; update of mu from H. B. Nielsen,
Damping parameter in Marquardt's method (1999).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram, leaf, recording
from optlayers.programs.root import Evaluation
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.minimize.options import (
    chosen,
    fault_of,
    gain_of,
    refuse_without_residuals,
    slope_size,
    solved_by,
    times,
)
from optlayers.solvers.root.options import check_options

# Of a step that is taken: the decrease as a share of the one foreseen.
LEAST_GAIN = 1e-4
LARGEST_DAMPING = 1e16
SMALLEST_DAMPING = 1e-16


class MarquardtState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point: x, [B, n].
        residual: r(x), [B, k].
        value: its sum of squares, [B].
        jacobian: J = dr/dx, [B, k, n].
        scale: D, the largest column lengths of J so far, [B, n].
        damping: mu, [B].
        growth: the factor of mu after the next failure, [B].
        stalled: whether mu has grown beyond use, bool [B].
    """

    point: Tensor
    residual: Tensor
    value: Tensor
    jacobian: Tensor
    scale: Tensor
    damping: Tensor
    growth: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt:
    """For sums of squares and far starts; dense, superlinear where residuals are small.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the gradient 2 J'r that counts as zero.
        damping: the first mu.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 200
    tolerance: float = 1e-8
    damping: float = 1e-3
    kind: ClassVar[Kind] = Kind.MINIMIZE

    def __post_init__(self) -> None:
        check_options(self, "damping")

    def refuses(self, program: MinimizeProgram) -> str | None:
        """Objectives that are no sums of squares; constraints and bounds."""
        return refuse_without_residuals(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: MinimizeProgram, start: Tensor) -> MarquardtState:
        """Residuals and their Jacobian at the start."""
        residual, jacobian = linearized(program, start)
        damping = start.new_full(start.shape[:1], self.damping)
        stalled = torch.zeros_like(damping, dtype=torch.bool)
        value = residual.square().sum(1)
        return MarquardtState(
            start, residual, value, jacobian, _columns(jacobian), damping,
            torch.full_like(damping, 2.0), stalled,
        )  # fmt: skip

    def step(
        self, program: MinimizeProgram, state: MarquardtState, active: Tensor
    ) -> MarquardtState:
        """One trial step; a new Jacobian if any sample accepts it."""
        move = _damped_step(state)
        trial = state.point + move
        residual, jacobian = linearized(program, trial)
        gain = _gain(state, move, residual, jacobian)
        accepted = active & (gain > LEAST_GAIN)
        shrink = (1 - (2 * gain - 1) ** 3).clamp(1 / 3, 2.0)
        factor = torch.where(accepted, shrink, state.growth)
        damping = (state.damping * factor).clamp_min(SMALLEST_DAMPING)
        stalled = active & ~accepted & ~(damping < LARGEST_DAMPING)
        growth = torch.where(accepted, 2.0, 2 * state.growth)
        new = MarquardtState(
            trial, residual, residual.square().sum(1), jacobian,
            torch.maximum(state.scale, _columns(jacobian)), damping, growth, stalled,
        )  # fmt: skip
        merged = (chosen(accepted, a, b) for a, b in zip(new, state, strict=True))
        kept = MarquardtState(*merged)
        return kept._replace(damping=damping, growth=growth, stalled=stalled)

    def outcome(self, state: MarquardtState) -> Outcome:
        """The last accepted point."""
        slope = 2 * times(state.jacobian.mT, state.residual)
        size = slope_size(state.value, slope)
        return Outcome(state.point, size, fault_of(state.value, state.stalled))


def linearized(program: MinimizeProgram, point: Tensor) -> tuple[Tensor, Tensor]:
    """r(x) and dr/dx, [B, k] and [B, k, n], both detached."""
    assert program.residuals is not None
    with recording():
        x = leaf(point)
        found = Evaluation(x, program.residuals(x))
        return found.residual, found.jacobian()


def _damped_step(state: MarquardtState) -> Tensor:
    """-(J'J + mu D^2)^-1 J'r, by a QR factorization of [J ; sqrt(mu) D]."""
    D = state.scale * state.damping.sqrt().unsqueeze(1)
    Q, R = torch.linalg.qr(torch.cat([state.jacobian, torch.diag_embed(D)], 1))
    count = state.residual.shape[1]
    right = times(Q[:, :count].mT, -state.residual).unsqueeze(2)
    return torch.linalg.solve_triangular(R, right, upper=True).squeeze(2)


def _gain(
    state: MarquardtState, move: Tensor, residual: Tensor, jacobian: Tensor
) -> Tensor:
    """The decrease of |r|^2 as a share of the one foreseen, [B]; -inf if not finite."""
    model = (state.residual + times(state.jacobian, move)).square().sum(1)
    old = (state.value, times(state.jacobian.mT, state.residual))
    new = (residual.square().sum(1), times(jacobian.mT, residual))
    return gain_of(old, new, state.value - model)


def _columns(jacobian: Tensor) -> Tensor:
    length = jacobian.norm(dim=1)
    return torch.where(length > 0, length, 1.0)
