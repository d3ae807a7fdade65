"""Levenberg-Marquardt: least squares steps that shrink where the model fails.

The step d makes |F(z) + J d|^2 + mu |D d|^2 least. Source: D. Marquardt (1963); scaling
D and its growth from J. More, The Levenberg-Marquardt algorithm (1978), section 6;
update of mu from H. B. Nielsen, Damping parameter in Marquardt's method (1999).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.linalg.dense import times
from optlayers.programs.root import RootProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.iterative import RUNNING, Outcome, size_of
from optlayers.solvers.root.options import check_options, solved_by

# |J'F| below this share of |J| |F| is a local minimum of |F| that is no root.
STATIONARY = 1e-12
# Of a step that is taken: the decrease as a share of the one foreseen.
LEAST_GAIN = 1e-4
LARGEST_DAMPING = 1e16
SMALLEST_DAMPING = 1e-16


class MarquardtState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point, residual: z and F(z), [B, n].
        jacobian: J(z), [B, n, n].
        scale: D, the largest column lengths of J so far, [B, n].
        damping: mu, [B].
        growth: the factor of mu after the next failure, [B].
        fault: a status where the method gives up, int8 [B].
    """

    point: Tensor
    residual: Tensor
    jacobian: Tensor
    scale: Tensor
    damping: Tensor
    growth: Tensor
    fault: Tensor


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt:
    """For hard starts and singular Jacobians; dense, superlinear near a root.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the residual that counts as zero.
        damping: the first mu.

    Raises:
        ParameterError: an option out of its range.
    """

    max_steps: int = 200
    tolerance: float = 1e-10
    damping: float = 1e-3
    kind: ClassVar[Kind] = Kind.ROOT

    def __post_init__(self) -> None:
        check_options(self, "damping")

    def refuses(self, program: RootProgram) -> str | None:
        """Nothing: any square system will do."""
        return None

    def solve(self, program: RootProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        return solved_by(self, program, start)

    def init(self, program: RootProgram, start: Tensor) -> MarquardtState:
        """Value and Jacobian at the start."""
        point = program.clamp(start)
        residual, jacobian = program.residual_and_jacobian(point)
        damping = point.new_full(point.shape[:1], self.damping)
        fault = torch.full_like(damping, RUNNING, dtype=torch.int8)
        scale = _columns(jacobian)
        growth = torch.full_like(damping, 2.0)
        return MarquardtState(point, residual, jacobian, scale, damping, growth, fault)

    def step(
        self, program: RootProgram, state: MarquardtState, active: Tensor
    ) -> MarquardtState:
        """One trial step; a new Jacobian if any sample accepts it."""
        trial = program.clamp(state.point + _damped_step(state))
        with torch.no_grad():
            residual = program.residual(trial)
        gain = _gain(state, trial, residual)
        accepted = (gain > LEAST_GAIN) | (size_of(residual) <= self.tolerance)
        shrink = (1 - (2 * gain - 1) ** 3).clamp(0.1, 2.0)
        factor = torch.where(accepted, shrink, state.growth)
        damping = (state.damping * factor).clamp_min(SMALLEST_DAMPING)
        stalled = active & ~accepted & ~(damping < LARGEST_DAMPING)
        new = state._replace(
            damping=damping,
            growth=torch.where(accepted, 2.0, 2 * state.growth),
            fault=state.fault.masked_fill(stalled, int(Status.STALLED)),
        )
        if (active & accepted).any():
            point = torch.where(accepted.unsqueeze(1), trial, state.point)
            new = _moved(program, new, point, active)
        return new

    def outcome(self, state: MarquardtState) -> Outcome:
        """The last accepted point."""
        return Outcome(state.point, size_of(state.residual), state.fault)


def _damped_step(state: MarquardtState) -> Tensor:
    """-(J'J + mu D^2)^-1 J'F, by a QR factorization of [J ; sqrt(mu) D]."""
    D = state.scale * state.damping.sqrt().unsqueeze(1)
    stacked = torch.cat([state.jacobian, torch.diag_embed(D)], 1)
    Q, R = torch.linalg.qr(stacked)
    n = state.point.shape[1]
    right = times(Q[:, :n].mT, -state.residual).unsqueeze(2)
    return torch.linalg.solve_triangular(R, right, upper=True).squeeze(2)


def _gain(state: MarquardtState, trial: Tensor, residual: Tensor) -> Tensor:
    """How much |F|^2 fell, as a share of what the model foresaw; else 0, [B]."""
    model = state.residual + times(state.jacobian, trial - state.point)
    before = state.residual.square().sum(1)
    gained = before - residual.square().sum(1)
    gain = gained / (before - model.square().sum(1))
    return torch.where(gained > 0, gain, 0.0)


def _moved(
    program: RootProgram, state: MarquardtState, point: Tensor, active: Tensor
) -> MarquardtState:
    """Value and Jacobian at new points; a stationary point is a fault."""
    residual, jacobian = program.residual_and_jacobian(point)
    scale = torch.maximum(state.scale, _columns(jacobian))
    slope = times(jacobian.mT, residual).abs() / scale.clamp_min(1e-300)
    flat = active & (slope.amax(1) <= STATIONARY * residual.norm(dim=1))
    fault = state.fault.masked_fill(flat, int(Status.STALLED))
    return state._replace(
        point=point, residual=residual, jacobian=jacobian, scale=scale, fault=fault
    )


def _columns(jacobian: Tensor) -> Tensor:
    length = jacobian.norm(dim=1)
    return torch.where(length > 0, length, 1.0)
