"""Problems that cvxpylayers refuses are solved and differentiated here."""

from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest
import torch
from cvxpylayers.torch import CvxpyLayer
from torch.testing import assert_close

from tests.nondpp.engineering import ENGINEERING
from tests.nondpp.entry import table
from tests.nondpp.finance import FINANCE
from tests.nondpp.statistics import STATISTICS

ENTRIES = STATISTICS + FINANCE + ENGINEERING
PAGE = Path(__file__).parents[2] / "docs" / "guide" / "parameters.md"

TIGHT = {"solver": cp.CLARABEL} | dict.fromkeys(
    ("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-9
)
VALUE_TOLERANCE = 1e-6  # the reference's own gap, of values near one
SOLUTION_TOLERANCE = 1e-4  # the reference where the objective is flat
GRADIENT_TOLERANCE = 1e-5
STEP = 1e-5

entries = pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)


def test_there_are_thirty():
    assert len({one.name for one in ENTRIES}) == 30


@entries
def test_cvxpylayers_refuses_it(entry):
    numbers = entry.draw(np.random.default_rng(0))
    parameters = entry.parameters(numbers)
    problem, variables = entry.by_hand(parameters)
    with pytest.raises(ValueError, match="Problem must be DPP"):
        CvxpyLayer(problem, list(parameters.values()), list(variables.values()))


@entries
def test_it_is_solved_as_cvxpy_solves_it_at_fixed_numbers(entry):
    numbers = entry.draw(np.random.default_rng(0))
    problem, variables = entry.by_hand(numbers)
    problem.solve(**TIGHT)
    out = entry.problem.layer(**entry.sizes)(**tensors(numbers))
    value = torch.tensor(problem.value, dtype=torch.float64)
    assert_close(out.objective, value, rtol=VALUE_TOLERANCE, atol=VALUE_TOLERANCE)
    for name, variable in variables.items():
        expected = torch.as_tensor(np.asarray(variable.value))
        assert_close(out[name], expected, rtol=0, atol=SOLUTION_TOLERANCE)


@entries
def test_its_gradients_agree_with_central_differences(entry):
    numbers = entry.draw(np.random.default_rng(1))
    layer = entry.problem.layer(**entry.sizes)
    given = {name: one.requires_grad_() for name, one in tensors(numbers).items()}
    gradients = torch.autograd.grad(functional(entry, layer(**given)), given.values())
    directions = {
        name: direction(entry.problem.declared.fields[name], one, seed)
        for seed, (name, one) in enumerate(given.items())
    }
    analytic = torch.stack(
        [(g * d).sum() for g, d in zip(gradients, directions.values(), strict=True)]
    )
    # One batch: a row for each parameter moved forward, then one for each moved back.
    count = len(given)
    moved = {}
    for position, (name, one) in enumerate(given.items()):
        rows = one.detach().repeat(2 * count, *(1 for _ in one.shape))
        rows[position] += STEP * directions[name]
        rows[count + position] -= STEP * directions[name]
        moved[name] = rows
    values = functional(entry, layer(**moved)).detach()
    numeric = (values[:count] - values[count:]) / (2 * STEP)
    scale = 1 + numeric.abs().max().item()
    tolerance = GRADIENT_TOLERANCE
    assert_close(analytic, numeric, rtol=tolerance, atol=tolerance * scale)
    assert numeric.abs().max() > 1e-2  # else nothing would be compared


def test_the_page_shows_the_table_and_its_forms_are_those_of_the_declarations():
    for one in ENTRIES:
        assert " ".join(one.ours.split()) in one.source, one.name
    assert table(ENTRIES) in PAGE.read_text(encoding="utf-8")


def tensors(numbers):
    return {name: torch.as_tensor(one).clone() for name, one in numbers.items()}


def functional(entry, out):
    """A fixed random functional of all that is solved for, a number per sample."""
    total = out.objective
    for seed, name in enumerate(entry.problem.declared.variable_names):
        batch = out.objective.shape
        flat = out[name].reshape(*batch, -1)
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(flat.shape[-1], generator=generator, dtype=torch.float64)
        total = total + flat @ weights
    return total


def direction(field, one, seed):
    """Where a parameter is moved: symmetric for a semidefinite one."""
    generator = torch.Generator().manual_seed(100 + seed)
    found = torch.randn(one.shape, generator=generator, dtype=torch.float64)
    return (found + found.mT) / 2 if field.psd else found
