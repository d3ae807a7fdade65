"""A solver's own word is not believed: every answer is measured here, in one place.

A point is SOLVED when its relative residual |F(z)| / scale(z) is within the tolerance;
"infeasible" and "unbounded" are believed when their certificates hold.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram, times, transposed_times
from optlayers.solution import Status
from optlayers.solvers.sparse_newton import count_entries, sparse_step

Step = Callable[[ConeProgram, Tensor], Tensor]

# A relative residual of 1e-8 is a hundred times what an interior-point method reaches
# in float64 on a well-scaled program, and leaves a solution exact to float32.
DEFAULT_TOLERANCE = 1e-8
# One Newton step brings an answer from interior-point accuracy to rounding, and so its
# derivative to the right piece of the projection; a second follows a change of piece.
POLISH_TARGET = 1e-11
POLISH_STEPS = 2
# A sample above this is pursued for longer, and with shorter steps: curved cones may
# need several, and derivatives are taken at the point that is found.
POLISH_REQUIRED = 1e-9
POLISH_MOST_STEPS = 15
POLISH_GAIN = 0.1  # below it, only while each step gains a digit
POLISH_LENGTHS = (0.5, 0.25, 0.1, 0.02)
# Sparse steps are taken beyond this order n + m where J has no more than this share of
# entries: there they are as fast as dense ones, at a third of it 3 to 8 times as fast.
SPARSE_ORDER = 400
SPARSE_SHARE = 0.01
# Dense steps end at this order (4.5 s and 550 MB a step), sparse ones at so many
# entries; beyond, points stay as the solver left them.
DENSE_ORDER = 4000
SPARSE_ENTRIES = 2_000_000
# A singular J beyond this order is not searched for its least-norm step, a singular
# value decomposition.
LEAST_NORM_ORDER = 1500
# Batches are cut into pieces of so many numbers.
POLISH_NUMBERS = 4_000_000
# A certificate of infeasibility must exclude every x with |x|_1 below this.
EXCLUDED_RADIUS = 1e5
# A ray may bend the objective or break the constraints by this share of its descent.
RAY_TOLERANCE = 1e-6


def measure(program: ConeProgram, point: Tensor) -> Tensor:
    """The residual of each sample, [B, n + m] -> [B]; inf where not finite.

    Relative to the scale of each equation; absolute, which is larger, where even that
    is below `POLISH_TARGET`: the scale, at least 1, need not be computed then.
    """
    residual = program.residual(point).abs()
    if residual.shape[1] == 0:
        return residual.new_zeros(residual.shape[0])
    largest = residual.amax(1)
    if are_all_below(largest, POLISH_TARGET):
        return largest
    relative = (residual / program.scale(point)).amax(1)
    relative = torch.where(largest <= POLISH_TARGET, largest, relative)
    return relative.nan_to_num(nan=torch.inf)


def are_all_below(values: Tensor, limit: float) -> bool:
    """Whether every entry is at most `limit`; NaN is not, an empty tensor is."""
    return values.numel() == 0 or values.max().item() <= limit


def polish(
    program: ConeProgram, point: Tensor, residual: Tensor, target: float = POLISH_TARGET
) -> tuple[Tensor, Tensor]:
    """Newton steps on F(z) = 0 for the samples whose residual exceeds `target`.

    A step is kept only where it lowers the residual, so nothing gets worse.

    Args:
        program: of B samples.
        point: [B, n + m].
        residual: what `measure` says of it, [B].
        target: the relative residual below which a sample is left alone.

    Returns:
        The better points [B, n + m] and their residuals [B].
    """
    order = point.shape[1]
    pending = (residual > target) & residual.isfinite()
    if not pending.any():
        return point, residual
    newton_step, numbers = _newton_step(program, order)
    if newton_step is None:
        return point, residual
    for number in range(POLISH_MOST_STEPS):
        indices = (pending & (residual > target)).nonzero()[:, 0]
        if len(indices) == 0:
            break
        for some in indices.split(1 + POLISH_NUMBERS // (1 + numbers)):
            part = program.select(some)
            better, lower = _improved(part, point[some], residual[some], newton_step)
            # Past the first steps what is good enough is only pursued while it pays.
            is_coasting = (lower <= POLISH_REQUIRED) & (number + 1 >= POLISH_STEPS)
            worth = torch.where(is_coasting, POLISH_GAIN, 1.0) * residual[some]
            pending[some] = lower < worth
            point = point.index_copy(0, some, better)
            residual = residual.index_copy(0, some, lower)
    return point, residual


def _newton_step(program: ConeProgram, order: int) -> tuple[Step | None, int]:
    """How to find a step, None if not at all, and the numbers that a sample takes."""
    if order <= SPARSE_ORDER:
        return _regular_step, order**2
    # Dense data of moderate order are not searched for zeros.
    if order > LEAST_NORM_ORDER or _is_patterned(program):
        entries = count_entries(program)
        if entries <= SPARSE_SHARE * order**2 or order > DENSE_ORDER:
            return (sparse_step if entries <= SPARSE_ENTRIES else None), entries
    return _regular_step, order**2


def _is_patterned(program: ConeProgram) -> bool:
    return all(
        matrix is None or isinstance(matrix, PatternMatrix)
        for matrix in (program.P, program.A)
    )


def _improved(
    program: ConeProgram, point: Tensor, residual: Tensor, newton_step: Step
) -> tuple[Tensor, Tensor]:
    """The points after one step, or as they were where none lowers the residual."""
    step = newton_step(program, point)
    found, lower = _lowest(program, (point, residual), point + step)
    stuck = (~(lower < residual)).nonzero()[:, 0]
    if len(stuck):
        part, origin = program.select(stuck), point[stuck]
        short = step[stuck].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        if point.shape[1] <= LEAST_NORM_ORDER:
            short = _least_norm_step(part, origin)
        freed, lowered = _freed(part, origin, residual[stuck], short)
        found = found.index_copy(0, stuck, freed)
        lower = lower.index_copy(0, stuck, lowered)
    return found, lower


def _freed(
    program: ConeProgram, point: Tensor, residual: Tensor, step: Tensor
) -> tuple[Tensor, Tensor]:
    """The step, or as long as that helps a part of it."""
    best = _lowest(program, (point, residual), point + step)
    for length in POLISH_LENGTHS:
        if bool(((best[1] < residual) | (residual <= POLISH_REQUIRED)).all()):
            break
        best = _lowest(program, best, point + length * step)
    return best


def _lowest(
    program: ConeProgram, best: tuple[Tensor, Tensor], trial: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the points so far and of other ones those of lower residual, and that."""
    residual = measure(program, trial)
    is_lower = residual < best[1]
    point = torch.where(is_lower.unsqueeze(1), trial, best[0])
    return point, torch.where(is_lower, residual, best[1])


def proves_infeasible(program: ConeProgram, y: Tensor) -> Tensor:
    """Whether each y [B, m] proves that its sample has no feasible point, bool [B].

    Any feasible x has 0 <= y's = b'y - (A'y)'x, so with b'y < 0 every feasible x has
    |x|_1 >= -b'y / |A'y|_inf.
    """
    y = program.cones.project_dual(y)
    descent = -(program.b * y).sum(1)
    leftover = _largest(transposed_times(program.A, y))
    return (descent > 0) & (descent >= EXCLUDED_RADIUS * leftover)


def proves_unbounded(program: ConeProgram, ray: Tensor) -> Tensor:
    """Whether each ray [B, n] lowers its objective forever, bool [B].

    The ray has q'x < 0, P x = 0 and s = -A x in K, up to `RAY_TOLERANCE`.
    """
    descent = -(program.q * ray).sum(1)
    bend = _largest(times(program.P, ray)) if program.P is not None else 0 * descent
    # s in K if and only if the projection of -s onto K* is zero.
    outside = _largest(program.cones.project_dual(times(program.A, ray)))
    size = _largest(ray)
    allowed = RAY_TOLERANCE * torch.minimum(descent, size)
    return (descent > 0) & (bend <= allowed) & (outside <= allowed)


def believed_status(claimed: Tensor, residual: Tensor, tolerance: float) -> Tensor:
    """A status per sample from what was claimed and what was measured, int8 [B]."""
    is_solved = residual <= tolerance
    unproven = torch.where(claimed == Status.SOLVED, int(Status.STALLED), claimed)
    return torch.where(is_solved, int(Status.SOLVED), unproven).to(torch.int8)


def _regular_step(program: ConeProgram, point: Tensor) -> Tensor:
    """-J^-1 F, useless numbers where J is singular."""
    right = -program.residual(point).unsqueeze(2)
    return torch.linalg.solve_ex(program.jacobian(point), right)[0].squeeze(2)


def _least_norm_step(program: ConeProgram, point: Tensor) -> Tensor:
    """The shortest of the steps that make J d + F least."""
    return program.linearize(point).solve(-program.residual(point))


def _largest(rows: Tensor) -> Tensor:
    return rows.abs().amax(1) if rows.shape[1] else rows.new_zeros(rows.shape[0])
