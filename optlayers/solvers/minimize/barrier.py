"""The barrier problem of a nonlinear program, and Newton's step on its conditions.

minimize f(x) - mu sum(log s) subject to h(x) = 0, r(x) + s = 0. Source: A. Waechter,
L. Biegler, On the implementation of an interior-point filter line-search algorithm
(2006), equations 11-13 and algorithm IC.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.linalg.dense import times
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solvers.iterative import size_of

# Gradients longer than this at the start are scaled down to it.
LARGEST_GRADIENT = 100.0
LEAST_SCALE = 1e-8
# The shift of the Hessian: first tried, growth, decay, and where it is given up.
FIRST_SHIFT, LEAST_SHIFT, MOST_SHIFT = 1e-4, 1e-20, 1e40
SHIFT_GROWTH, FIRST_GROWTH, SHIFT_DECAY = 8.0, 100.0, 1 / 3
# Eigenvalues of the equilibrated matrix below so many roundings count as zero.
ZERO_ROUNDINGS = 50
DUAL_SHIFT = 1e-8
# Bounds nearer to each other than this are moved apart by this.
NARROW, ROOM = 1e-6, 1e-8
# First multipliers above this are not believed.
MOST_MULTIPLIER = 1e3


class Scales(NamedTuple):
    """What f [B], h [B, me] and r [B, m] are multiplied by.

    `slack`, [B, m], is subtracted from r before: bounds that leave no room get some.
    """

    objective: Tensor
    equalities: Tensor
    rows: Tensor
    slack: Tensor


class Values(NamedTuple):
    """f [B], h [B, me] and r [B, m] at a point, scaled."""

    objective: Tensor
    equalities: Tensor
    rows: Tensor

    @property
    def is_finite(self) -> Tensor:
        """Whether all are numbers, bool [B]."""
        together = [self.objective.unsqueeze(1), self.equalities, self.rows]
        return torch.cat(together, 1).isfinite().all(1)

    def violation(self, s: Tensor) -> Tensor:
        """theta = |h|_1 + |r + s|_1, [B]."""
        return self.equalities.abs().sum(1) + (self.rows + s).abs().sum(1)

    def barrier(self, s: Tensor, mu: Tensor) -> Tensor:
        """phi = f - mu sum(log s), [B]."""
        return self.objective - mu * s.log().sum(1)


class Slopes(NamedTuple):
    """df/dx [B, n], dh/dx [B, me, n] and dr/dx [B, m, n] at a point, scaled."""

    gradient: Tensor
    equalities: Tensor
    rows: Tensor


class Model(NamedTuple):
    """Values, slopes and the Hessian of the Lagrangian, [B, n, n], at a point."""

    values: Values
    slopes: Slopes
    hessian: Tensor


class Direction(NamedTuple):
    """A step in x [B, n], s [B, m], y [B, me] and lam [B, m]."""

    x: Tensor
    s: Tensor
    y: Tensor
    lam: Tensor


def values_at(program: MinimizeProgram, x: Tensor, scales: Scales) -> Values:
    """The scaled functions at x, [B, n], without derivatives."""
    with torch.no_grad():
        return Values(
            program.value(x) * scales.objective,
            program.equality(x) * scales.equalities,
            (program.rows(x) - scales.slack) * scales.rows,
        )


def model_at(
    program: MinimizeProgram, x: Tensor, y: Tensor, lam: Tensor, scales: Scales
) -> Model:
    """The scaled functions and derivatives at x, [B, n].

    Args:
        program: of B samples.
        x: [B, n].
        y: scaled multipliers of the equalities, [B, me].
        lam: scaled multipliers of the rows, [B, m].
        scales: what to multiply by.
    """
    a, b, c, slack = scales
    true = unscaled(scales, y, lam)
    found = program.evaluate(x, *true)
    rows = (found.rows.detach() - slack) * c
    values = Values(found.value.detach() * a, found.equality.detach() * b, rows)
    gradient = found.gradient.detach() * a.unsqueeze(1)
    H, Jh, Jr = found.derivatives()
    slopes = Slopes(gradient, Jh * b.unsqueeze(2), Jr * c.unsqueeze(2))
    return Model(values, slopes, H * a.view(-1, 1, 1))


def scaled_jacobians(
    program: MinimizeProgram, x: Tensor, scales: Scales
) -> tuple[Tensor, Tensor]:
    """dh/dx and dr/dx at x, [B, me, n] and [B, m, n], scaled."""
    equalities, rows = program.jacobians(x)
    return (
        equalities * scales.equalities.unsqueeze(2),
        rows * scales.rows.unsqueeze(2),
    )


def slopes_at(program: MinimizeProgram, x: Tensor, scales: Scales) -> Slopes:
    """The scaled first derivatives at x, [B, n]."""
    gradient = program.gradient(x) * scales.objective.unsqueeze(1)
    return Slopes(gradient, *scaled_jacobians(program, x, scales))


def unscaled(scales: Scales, y: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """The multipliers of the program itself."""
    a = scales.objective.unsqueeze(1)
    return y * scales.equalities / a, lam * scales.rows / a


def scales_at(program: MinimizeProgram, x: Tensor) -> Scales:
    """Factors that leave no gradient longer than `LARGEST_GRADIENT` at x."""

    def factor(gradient: Tensor) -> Tensor:
        largest = gradient.abs().amax(-1).nan_to_num(1.0, 1.0, 1.0)
        wanted = LARGEST_GRADIENT / largest.clamp_min(LARGEST_GRADIENT)
        return wanted.clamp_min(LEAST_SCALE)

    equalities, rows = program.jacobians(x)
    factors = factor(program.gradient(x)), factor(equalities), factor(rows)
    return Scales(*factors, _room(program, rows[:, :, 0]))


def _room(program: MinimizeProgram, like: Tensor) -> Tensor:
    """What the bounds of nearly fixed unknowns are moved out by, [B, m]."""
    slack = torch.zeros_like(like)
    if program.lower is None or program.upper is None:
        return slack
    narrow = program.upper - program.lower <= NARROW
    first = program.inequality_count
    for side in program.bounds:
        last = first + len(side.columns)
        slack[:, first:last] = ROOM * narrow[..., side.columns]
        first = last
    return slack


def least_squares_multipliers(
    program: MinimizeProgram, x: Tensor, lam: Tensor, scales: Scales
) -> Tensor:
    """The y [B, me] that make the Lagrangian's gradient shortest; zero if large."""
    gradient, J, rows = slopes_at(program, x, scales)
    right = -(gradient + transposed(rows, lam)).nan_to_num(0.0, 0.0, 0.0)
    if J.shape[1] == 0:
        return x.new_zeros(x.shape[0], 0)
    y = times(torch.linalg.pinv(J.nan_to_num(0.0, 0.0, 0.0).mT), right)
    return torch.where(size_of(y).unsqueeze(1) <= MOST_MULTIPLIER, y, 0.0)


def stationarity(slopes: Slopes, y: Tensor, lam: Tensor) -> Tensor:
    """The gradient of the Lagrangian, [B, n]."""
    pulled = transposed(slopes.equalities, y) + transposed(slopes.rows, lam)
    return slopes.gradient + pulled


class BarrierError(NamedTuple):
    """How far a point is from solving the barrier problems, equation 5.

    Attributes:
        others: the part that no mu changes, [B].
        products: s lam, [B, m].
        scale: what their distance from mu is divided by, [B].
    """

    others: Tensor
    products: Tensor
    scale: Tensor

    @classmethod
    def of(
        cls, slopes: Slopes, values: Values, s: Tensor, y: Tensor, lam: Tensor
    ) -> "BarrierError":
        """At a point with slacks s, [B, m], and multipliers y, [B, me], and lam."""
        m, total = lam.shape[1], lam.shape[1] + y.shape[1]
        sums = lam.abs().sum(1)
        joint = (sums + y.abs().sum(1)) / max(1, total)
        constraints = torch.cat([values.equalities, values.rows + s], 1)
        slope = size_of(stationarity(slopes, y, lam)) / (joint.clamp_min(100.0) / 100)
        others = torch.maximum(slope, size_of(constraints))
        return cls(others, s * lam, (sums / max(1, m)).clamp_min(100.0) / 100)

    def at(self, mu: Tensor) -> Tensor:
        """The error of the problem of barrier parameter mu, [B] -> [B]."""
        apart = size_of(self.products - mu.unsqueeze(1)) / self.scale
        return torch.maximum(self.others, apart)


@dataclass(frozen=True)
class NewtonSystem:
    """K = [W + Jr' S^-1 L Jr + shift, Jh' ; Jh, -dual shift], factorized.

    Attributes:
        factors: of D K D, [B, n + me, n + me]; L of L L' if there are no equalities,
            as K is positive definite then, L and U in one otherwise.
        pivots: the rows that L U has exchanged, or None.
        scale: D, [B, n + me].
        shift: what was added to the Hessian, [B].
    """

    factors: Tensor
    pivots: Tensor | None
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(
        cls, hessian: Tensor, slopes: Slopes, weights: Tensor, mu: Tensor, last: Tensor
    ) -> "NewtonSystem":
        """Factorize, shifted until n eigenvalues are positive and me negative.

        Args:
            hessian: W, [B, n, n].
            slopes: at the same point.
            weights: lam / s, [B, m].
            mu: the barrier parameter, [B].
            last: the shift that the step before needed, [B], or zero.
        """
        J = slopes.rows
        H = hessian + J.mT @ (weights.unsqueeze(2) * J)
        zero = torch.zeros_like(mu)
        matrix, scale, good, singular = _examined(H, slopes.equalities, zero, zero)
        shift, dual = zero, zero
        while not good.all():
            dual = torch.where(singular & ~good, DUAL_SHIFT * mu**0.25, dual)
            shift = torch.where(good, shift, _next_shift(shift, last))
            matrix, scale, fits, _ = _examined(H, slopes.equalities, shift, dual)
            good = good | fits | (shift > MOST_SHIFT)
        if slopes.equalities.shape[1]:
            factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
            return cls(factors, pivots, scale, shift)
        return cls(torch.linalg.cholesky_ex(matrix).L, None, scale, shift)

    def solve(self, right: Tensor) -> Tensor:
        """K^-1 right, [B, n + me]."""
        scaled = (self.scale * right).unsqueeze(2)
        if self.pivots is None:
            found = torch.cholesky_solve(scaled, self.factors)
        else:
            found = torch.linalg.lu_solve(self.factors, self.pivots, scaled)
        return self.scale * found.squeeze(2)

    def direction(
        self,
        slopes: Slopes,
        duals: tuple[Tensor, Tensor],
        s: Tensor,
        mu: Tensor,
        h: Tensor,
        c: Tensor,
    ) -> Direction:
        """Newton's step, also with other values of the constraints.

        Args:
            slopes: at the point.
            duals: y [B, me] and lam [B, m].
            s: the slack, [B, m].
            mu: the barrier parameter, [B].
            h: what stands for h(x), [B, me].
            c: what stands for r(x) + s, [B, m].
        """
        y, lam = duals
        weights = lam / s
        centered = mu.unsqueeze(1) / s
        top = stationarity(slopes, y, centered + weights * c)
        found = self.solve(-torch.cat([top, h], 1))
        n = top.shape[1]
        dx, dy = found[:, :n], found[:, n:]
        ds = -c - times(slopes.rows, dx)
        return Direction(dx, ds, dy, centered - lam - weights * ds)


def _examined(
    H: Tensor, J: Tensor, shift: Tensor, dual: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """D K D, D, whether its inertia is right, and whether it is singular."""
    n, me = H.shape[1], J.shape[1]
    K = H + torch.diag_embed(shift.unsqueeze(1).expand(-1, n))
    if me:
        corner = torch.diag_embed(-dual.unsqueeze(1).expand(-1, me))
        K = torch.cat([torch.cat([K, J.mT], 2), torch.cat([J, corner], 2)], 1)
    identity = torch.eye(n + me, dtype=K.dtype, device=K.device)
    largest = K.abs().amax(2)
    is_finite = largest.isfinite().all(1)
    if not is_finite.all():
        K = torch.where(is_finite.view(-1, 1, 1), K, identity)
        largest = K.abs().amax(2)
    # A congruence keeps the inertia, and equal rows make small eigenvalues exact.
    scale = torch.where(largest > 0, largest, 1.0).rsqrt()
    scaled = scale.unsqueeze(2) * K * scale.unsqueeze(1)
    zero = ZERO_ROUNDINGS * torch.finfo(K.dtype).eps
    if not me:
        # All above zero: ten times as fast to see as the eigenvalues.
        fails = torch.linalg.cholesky_ex(scaled - zero * identity).info
        return scaled, scale, (fails == 0) | ~is_finite, torch.zeros_like(is_finite)
    values = torch.linalg.eigvalsh(scaled)
    positive, negative = (values > zero).sum(1), (values < -zero).sum(1)
    fits = ((positive == n) & (negative == me)) | ~is_finite
    return scaled, scale, fits, positive + negative < n + me


def _next_shift(shift: Tensor, last: Tensor) -> Tensor:
    """The shift to try next: near what the step before needed, then larger."""
    first = torch.where(
        last > 0, (last * SHIFT_DECAY).clamp_min(LEAST_SHIFT), FIRST_SHIFT
    )
    growth = torch.where(last > 0, SHIFT_GROWTH, FIRST_GROWTH)
    return torch.where(shift > 0, shift * growth, first)


def transposed(matrix: Tensor, vector: Tensor) -> Tensor:
    """M' v, [B, m, n] and [B, m] -> [B, n]."""
    return torch.bmm(vector.unsqueeze(1), matrix).squeeze(1)
