"""Several starts of each sample: where they lie, and which minimum is kept."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from optlayers.interfaces import Solver
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.solvers.minimize.run import Found, certified

SEED = 0
# Minima whose values differ by less, relative to max(1, |f|), are equally good.
LEVEL = 1e-8


def drawn(
    start: Tensor, lower: Tensor | None, upper: Tensor | None, count: int
) -> Tensor:
    """The start of each sample and others around it, the same in every call.

    Scrambled Sobol points with a seed of their own: uniform between two finite bounds,
    else normal around the start with a deviation of max(1, |start|), where one bound
    mirrors what lies beyond it.

    Args:
        start: [B, n].
        lower: bounds, [n] or [B, n], or None.
        upper: likewise.
        count: S, how many in all.

    Returns:
        [B, S, n], of which the first is the start itself.
    """
    share = _shares(count - 1, start.shape[1]).to(start)
    own = start.unsqueeze(1)
    spread = own.abs().clamp_min(1.0)
    others = own + spread * torch.special.ndtri(share)
    infinite = start.new_full(start.shape[1:], torch.inf)
    low = (-infinite if lower is None else lower.to(start)).unsqueeze(-2)
    high = (infinite if upper is None else upper.to(start)).unsqueeze(-2)
    others = torch.where(others < low, 2 * low - others, others)
    others = torch.where(others > high, 2 * high - others, others)
    within = low + share * (high - low)
    others = torch.where(low.isfinite() & high.isfinite(), within, others)
    return torch.cat([own, others], 1)


def repeated(
    tensors: Sequence[Tensor], ndims: Sequence[int], count: int
) -> list[Tensor]:
    """Tensors of B samples as those of B * S starts, a sample's next to each other.

    Args:
        tensors: each [*shape] (shared) or [B, *shape].
        ndims: axes of one sample of each.
        count: S.
    """
    return [
        one.repeat_interleave(count, 0) if one.ndim > ndim else one
        for one, ndim in zip(tensors, ndims, strict=True)
    ]


def best_of_rows(
    program: MinimizeProgram, solver: Solver, starts: Tensor, tolerance: float
) -> Found:
    """The lowest minimum of each sample, found in one batch of all its starts.

    Args:
        program: of B * S problems, those of a sample next to each other.
        solver: of kind "minimize".
        starts: [B, S, n].
        tolerance: the KKT residual that counts as zero.
    """
    batch, count, size = starts.shape
    found = certified(program, solver, starts.reshape(batch * count, size), tolerance)
    values = _values(program, found).reshape(batch, count)
    return _best(Found(*(one.unflatten(0, (batch, count)) for one in found)), values)


def best_in_turn(
    program: MinimizeProgram, solver: Solver, starts: Tensor, tolerance: float
) -> Found:
    """The lowest minimum of each sample, found from one start after another.

    Args:
        program: of B problems.
        solver: of kind "minimize".
        starts: [B, S, n].
        tolerance: the KKT residual that counts as zero.
    """
    if starts.shape[1] == 1:
        return certified(program, solver, starts[:, 0], tolerance)
    each = [certified(program, solver, one, tolerance) for one in starts.unbind(1)]
    values = torch.stack([_values(program, one) for one in each], 1)
    return _best(
        Found(*(torch.stack(parts, 1) for parts in zip(*each, strict=True))), values
    )


def _best(found: Found, values: Tensor) -> Found:
    """One of the S solutions of each sample, [B, S, ...] -> [B, ...].

    The first of those with the least value among the solved; where none is solved, the
    first of all. `seconds` are those of all together.
    """
    value = torch.where(found.status == int(Status.SOLVED), values, torch.inf)
    least = value.amin(1, keepdim=True)
    margin = LEVEL * least.abs().clamp_min(1.0)
    # Of equal entries argmax takes the first.
    first = (value <= least + margin).to(torch.int8).argmax(1)
    rows = torch.arange(len(first), device=first.device)
    chosen = Found(*(one[rows, first] for one in found))
    return chosen._replace(seconds=found.seconds.sum(1))


def _values(program: MinimizeProgram, found: Found) -> Tensor:
    """f at the points found, [B]."""
    if not len(found.point):
        return found.residual
    with torch.no_grad():
        return program.value(found.point[:, : program.size])


@torch.compiler.assume_constant_result
def _shares(count: int, size: int) -> Tensor:
    # Dynamo runs this as it is, and cannot look into what caches.
    return _drawn_shares(count, size)


@cache
def _drawn_shares(count: int, size: int) -> Tensor:
    """Points of the unit cube, not on its sides, float64 [count, size]."""
    if not count:
        return torch.zeros(0, size, dtype=torch.float64)
    if size > SobolEngine.MAXDIM:
        generator = torch.Generator().manual_seed(SEED)
        share = torch.rand(count, size, generator=generator, dtype=torch.float64)
    else:
        engine = SobolEngine(size, scramble=True, seed=SEED)
        share = engine.draw(count, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).eps
    return share.clamp(tiny, 1 - tiny)
