"""The barrier path x(mu) = argmin f - mu sum(log(s)), followed from its end x(0).

F_mu(z) = 0, the KKT conditions with lam s = mu, is solved by Newton's method for mu
that grows tenfold from one stage to the next.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from optlayers.errors import SingularError
from optlayers.programs.minimize import MinimizeProgram

# The first stage has this share of the final mu; two stages are 10^4 apart.
STAGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MOST_STEPS = 20
# A step is halved so often before a sample is given up.
HALVINGS = 10
# Violations at which Newton's method ends, and those at which a point is on the path,
# in roundings. Its last step squares the violation, so that few points lie between.
FINISHED = 1e3
REACHED = 1e7
LISTED_SAMPLES = 5


class OnPath(NamedTuple):
    """Points of the barrier path.

    Attributes:
        point: z with F_mu(z) = 0, [B, n + me + m].
        is_reached: whether it is that, bool [B]; else it is the point given.
    """

    point: Tensor
    is_reached: Tensor


def centered(program: MinimizeProgram, point: Tensor, strength: float) -> OnPath:
    """The points of strength mu on the paths that end at given solutions.

    Args:
        program: of B samples.
        point: their KKT points, [B, n + me + m].
        strength: mu.
    """
    given, violation = point, torch.full_like(point[:, 0], torch.inf)
    for share in STAGES:
        stage = replace(program, barrier=share * strength)
        point, violation = _solved(stage, point)
    rounding = torch.finfo(point.dtype).eps
    is_reached = violation <= REACHED * rounding
    return OnPath(torch.where(is_reached.unsqueeze(1), point, given), is_reached)


def refuse_lost(name: str, is_lost: Tensor, strength: float) -> None:
    """Refuse samples whose path was lost, bool [B].

    Raises:
        SingularError: there are some.
    """
    if bool(is_lost.any()):
        numbers = is_lost.nonzero()[:LISTED_SAMPLES, 0].tolist()
        raise SingularError(
            f"{name}: the barrier path of sample {', '.join(map(str, numbers))} was "
            f"lost before strength={strength:.1e}, so that there is no smoothed "
            "derivative.\n  Take a smaller one, as in gradient=ol.Smoothed(strength="
            f'{strength / 100:.0e}), or gradient="exact".'
        )


def _solved(program: MinimizeProgram, point: Tensor) -> tuple[Tensor, Tensor]:
    """Damped Newton steps on F_mu(z) = 0, and the violation where they end."""
    target = FINISHED * torch.finfo(point.dtype).eps
    violation = program.violation(point)
    pending = violation > target
    for _ in range(MOST_STEPS):
        if not bool(pending.any()):
            break
        residual = program.residual(point).detach()
        step = program.linearize(point).solve(-residual).detach()
        size, share = residual.norm(dim=1), torch.ones_like(violation)
        trial, is_lower = point, torch.zeros_like(pending)
        for _ in range(HALVINGS):
            tried = point + share.unsqueeze(1) * step
            new = program.residual(tried).detach().norm(dim=1)
            fits = pending & ~is_lower & (new <= (1 - 1e-4 * share) * size)
            trial = torch.where(fits.unsqueeze(1), tried, trial)
            is_lower = is_lower | fits
            if bool((is_lower | ~pending).all()):
                break
            share = torch.where(is_lower, share, share / 2)
        point, pending = trial, is_lower
        violation = program.violation(point)
        pending = pending & (violation > target)
    return point, violation
