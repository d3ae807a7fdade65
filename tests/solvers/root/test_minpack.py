import pytest
import torch

from optlayers.functional import root
from tests.solvers.root.minpack import SYSTEMS, System

TOLERANCE = 1e-10
BATCH = 12


def starts(system: System, factor: float) -> torch.Tensor:
    """The standard start, then random perturbations of it by a tenth, [B, n]."""
    generator = torch.Generator().manual_seed(7)
    start = factor * system.start
    if not start.any():
        # Watson's start is zero; far from it is then this far from zero.
        start = torch.full_like(start, factor if factor > 1 else 0.0)
    noise = torch.randn(BATCH, len(start), generator=generator, dtype=torch.float64)
    noise[0] = 0
    return start * (1 + 0.1 * noise)


def solved(system: System, factor: float) -> torch.Tensor:
    """Which samples are said to be solved; what is said is checked here."""
    with torch.no_grad():
        found = root(system.function, starts(system, factor), on_failure="keep")
        residual = system.function(found.value).abs().amax(1)
    assert (residual[found.ok] <= TOLERANCE).all()
    assert (residual[~found.ok] > TOLERANCE).all()
    return found.ok


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_solved_from_its_standard_start(name):
    assert solved(SYSTEMS[name], 1.0).all()


@pytest.mark.slow
def test_most_samples_are_solved_from_ten_and_a_hundred_times_as_far():
    share = [
        solved(system, factor).double().mean().item()
        for system in SYSTEMS.values()
        for factor in (1.0, 10.0, 100.0)
    ]
    assert sum(share) / len(share) >= 0.85
