"""The units of an objective change its multipliers, and nothing else."""

import pytest
import torch
from torch.testing import assert_close

from optlayers import functional

DOUBLE = {"dtype": torch.float64}


def solve(unit: torch.Tensor | float, solver: str, batch: int = 3):
    generator = torch.Generator().manual_seed(0)
    L = torch.randn(batch, 4, 4, generator=generator, **DOUBLE)
    q = torch.randn(batch, 4, generator=generator, **DOUBLE)
    Q = L @ L.mT + 0.1 * torch.eye(4, **DOUBLE)
    unit = torch.as_tensor(unit, **DOUBLE).expand(batch)
    ceiling = torch.full((4,), 0.1, **DOUBLE)
    return functional.quadratic_program(
        Q * unit[:, None, None],
        q * unit[:, None],
        torch.eye(4, **DOUBLE),
        ceiling,
        solver=solver,
    )


@pytest.mark.parametrize("solver", ["auto", "clarabel", "daqp"])
@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e6, 1e12])
def test_solutions_do_not_depend_on_the_unit_of_the_objective(solver, unit):
    found, expected = solve(unit, solver), solve(1.0, solver)
    assert_close(found.value, expected.value, rtol=1e-8, atol=1e-8)
    multipliers = found.duals["inequalities"] / unit
    assert_close(multipliers, expected.duals["inequalities"], rtol=1e-7, atol=1e-7)


def test_a_sample_of_good_size_is_untouched_by_a_small_one_beside_it():
    mixed = solve(torch.tensor([1.0, 1e-9, 1.0], **DOUBLE), "auto")
    alone = solve(1.0, "auto")
    assert_close(mixed.value, alone.value, rtol=1e-9, atol=1e-9)
    assert torch.equal(mixed.value[[0, 2]], alone.value[[0, 2]])
