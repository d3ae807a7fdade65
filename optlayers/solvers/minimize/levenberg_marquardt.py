"""Levenberg-Marquardt for sums of squares or losses, with acceleration, within bounds.

The step v makes |A v + b|^2 + mu |D v|^2 least; a/2, half of what makes |A a + b''|^2 +
mu |D a|^2 least, follows the bend b'' of the residuals along v. Source: J. More, The
Levenberg-Marquardt algorithm (1978), section 6 for D; H. B. Nielsen, Damping parameter
in Marquardt's method (1999) for mu; M. Transtrum, J. Sethna, Improvements to the
Levenberg-Marquardt algorithm (2012), equations 13 to 15, for a.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.programs.squares import LocalModel, local_model, structure_of
from optlayers.solution import Solution
from optlayers.solvers.iterative import Outcome
from optlayers.solvers.minimize.bounded import bound_multipliers, is_pressed
from optlayers.solvers.minimize.options import (
    chosen,
    dot,
    fault_of,
    refuse_without_residuals,
    slope_size,
    solved_by,
)
from optlayers.solvers.root.options import check_options

# Of a step that is taken: the decrease as a share of the one foreseen.
LEAST_GAIN = 1e-4
LARGEST_DAMPING = 1e16
SMALLEST_DAMPING = 1e-16
# A decrease below this share of f is not measured by its values.
BLURRED = 1e-10
# Where along v the bend is measured, and how long 2 a may be for one of v.
PROBE, LONGEST_BEND = 0.1, 0.75


class MarquardtState(NamedTuple):
    """Where every sample stands.

    Attributes:
        point: x, [B, n].
        residual, value, root, right, matrix: of the `LocalModel` there.
        slope: the gradient of f, [B, n].
        terms: how large what it is the sum of is, [B, n].
        scale: D, the largest column lengths of A so far, [B, n].
        damping: mu, [B].
        growth: the factor of mu after the next failure, [B].
        stalled: whether mu has grown beyond use, bool [B].
    """

    point: Tensor
    residual: Tensor
    value: Tensor
    root: Tensor
    right: Tensor
    matrix: Tensor
    slope: Tensor
    terms: Tensor
    scale: Tensor
    damping: Tensor
    growth: Tensor
    stalled: Tensor


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt:
    """For sums of squares, or of robust losses, and far starts; bounds are allowed.

    Dense where nothing is known of the residuals; where their pattern is, the normal
    matrix is formed by blocks and separable unknowns are eliminated.

    Attributes:
        max_steps: most trial steps, accepted or not.
        tolerance: largest entry of the gradient that counts as zero, relative to the
            terms it is the sum of where these are above 1.
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
        """Objectives that are no sums of squares or losses; constraints."""
        return refuse_without_residuals(program)

    def solve(self, program: MinimizeProgram, start: Tensor | None = None) -> Solution:
        """Solve every sample; failures are statuses."""
        found = solved_by(self, program, start)
        lam = bound_multipliers(program, found.value)
        return replace(found, duals={**found.duals, "inequalities": lam})

    def init(self, program: MinimizeProgram, start: Tensor) -> MarquardtState:
        """The local model at the start."""
        damping = start.new_full(start.shape[:1], self.damping)
        return _state(
            program, start, local_model(program, start), None, damping,
            torch.full_like(damping, 2.0), torch.zeros_like(damping, dtype=torch.bool),
        )  # fmt: skip

    def step(
        self, program: MinimizeProgram, state: MarquardtState, active: Tensor
    ) -> MarquardtState:
        """One trial step; a new local model if any sample accepts it."""
        trial, foreseen = _trial(program, state)
        found = local_model(program, trial)
        new = _state(program, trial, found, state.scale, *state[-3:])
        gain = _gain(state, new, foreseen)
        accepted = active & (gain > LEAST_GAIN)
        shrink = (1 - (2 * gain - 1) ** 3).clamp(1 / 3, 2.0)
        factor = torch.where(accepted, shrink, state.growth)
        damping = (state.damping * factor).clamp_min(SMALLEST_DAMPING)
        stalled = active & ~accepted & ~(damping < LARGEST_DAMPING)
        growth = torch.where(accepted, 2.0, 2 * state.growth)
        if accepted.any():
            merged = (chosen(accepted, a, b) for a, b in zip(new, state, strict=True))
            state = MarquardtState(*merged)
        return state._replace(damping=damping, growth=growth, stalled=stalled)

    def outcome(self, state: MarquardtState) -> Outcome:
        """The last accepted point."""
        size = slope_size(state.value, state.slope / state.terms.clamp_min(1))
        return Outcome(state.point, size, fault_of(state.value, state.stalled))


def _state(
    program: MinimizeProgram,
    point: Tensor,
    found: LocalModel,
    scale: Tensor | None,
    damping: Tensor,
    growth: Tensor,
    stalled: Tensor,
) -> MarquardtState:
    structure = structure_of(program, point)
    slope = 2 * structure.transposed(found.matrix, found.right)
    terms = 2 * structure.transposed(found.matrix.abs(), found.right.abs())
    lengths = structure.lengths(found.matrix)
    if scale is None:
        scale = torch.where(lengths > 0, lengths, 1.0)
    matrix = found.matrix
    if program.bounds:
        # An unknown that its bound holds back stands still: its column counts as zero.
        pressed = is_pressed(program, point, slope)
        slope = slope.masked_fill(pressed, 0.0)
        matrix = structure.scaled(matrix, None, (~pressed).to(matrix.dtype))
    return MarquardtState(
        point, found.residual, found.value, found.root, found.right, matrix, slope,
        terms, torch.maximum(scale, lengths), damping, growth, stalled,
    )  # fmt: skip


def _trial(program: MinimizeProgram, state: MarquardtState) -> tuple[Tensor, Tensor]:
    """The next point, [B, n], and the decrease of |A v + b|^2 that v foresees, [B]."""
    structure = structure_of(program, state.point)
    system = structure.damped(
        state.matrix, state.scale * state.damping.sqrt().unsqueeze(1)
    )
    v = system.solve(state.right)
    along = structure.product(state.matrix, v)
    foreseen = -(along * (2 * state.right + along)).sum(1)
    bend = _bend(program, state, v, along)
    a = torch.where(bend.isfinite().all(1, keepdim=True), system.solve(bend), torch.inf)
    length = (state.scale * v).norm(dim=1)
    is_short = 2 * (state.scale * a).norm(dim=1) <= LONGEST_BEND * length
    # Of so short a step, what is measured of the bend is rounding.
    is_seen = foreseen > BLURRED * state.value
    move = torch.where((is_short & is_seen).unsqueeze(1), v + a / 2, v)
    trial = program.clamp(state.point + move)
    if program.bounds:
        v = program.clamp(state.point + v) - state.point
        along = structure.product(state.matrix, v)
        foreseen = -(along * (2 * state.right + along)).sum(1)
    return trial, foreseen


def _gain(state: MarquardtState, new: MarquardtState, foreseen: Tensor) -> Tensor:
    """The decrease of f as a share of the one foreseen, [B]; -inf if not finite."""
    fall = state.value - new.value
    # Where residuals are small differences of large numbers, so small a decrease is
    # lost in rounding; the slopes at both ends still tell it (the trapezoid rule).
    by_slopes = -dot(state.slope + new.slope, new.point - state.point) / 2
    fall = torch.where(foreseen <= BLURRED * state.value, by_slopes, fall)
    gain = fall / foreseen.clamp_min(torch.finfo(fall.dtype).tiny)
    is_finite = new.value.isfinite() & new.slope.isfinite().all(1) & gain.isfinite()
    return torch.where(is_finite, gain, -torch.inf)


def _bend(
    program: MinimizeProgram, state: MarquardtState, v: Tensor, along: Tensor
) -> Tensor:
    """The second derivative of the weighted residuals along v, [B, k]."""
    assert program.residuals is not None
    with torch.no_grad():
        probe = program.residuals(state.point + PROBE * v)
    change = state.root * (probe - state.residual) / PROBE
    return 2 / PROBE * (change - along)
