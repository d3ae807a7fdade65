"""Step control: lengths of steps, options and their refusals."""

import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import ParameterError
from optlayers.solvers.ode import (
    Dopri5,
    Euler,
    FixedStep,
    IControl,
    PIControl,
    PIDControl,
)
from tests.solvers.ode.problems import program_of, smooth

RATIOS = torch.tensor([1.0, 32.0, 1e-30, torch.nan, torch.inf], dtype=torch.float64)


def test_the_classical_rule_allows_the_error_of_the_next_step():
    factor = IControl(safety=0.9).factor(RATIOS, (), 5)
    assert_close(factor[:2], torch.tensor([0.9, 0.45]).double(), rtol=1e-7, atol=0)


def test_steps_grow_and_shrink_within_their_bounds():
    factor = IControl(shrink=0.25, grow=4.0).factor(RATIOS, (), 5)
    assert factor[2] == 4
    assert factor[3] == factor[4] == 0.25


@pytest.mark.parametrize(
    ("control", "depth"), [(IControl(), 0), (PIControl(), 1), (PIDControl(), 2)]
)
def test_rules_remember_as_many_steps_as_they_weigh(control, depth):
    assert control.depth == depth


@pytest.mark.parametrize("control", [IControl(), PIControl(), PIDControl()])
@pytest.mark.parametrize("norm", ["rms", "max"])
def test_every_rule_keeps_the_tolerance(control, norm):
    program = program_of(smooth, [1.0, 0.5], [0.0, 2.0])
    found = Dopri5(rtol=1e-8, control=control, norm=norm).solve(program)
    exact = Dopri5(rtol=1e-12, atol=1e-13).solve(program)
    # Errors of some twenty steps add up.
    assert_close(found.value, exact.value, rtol=2e-7, atol=0)
    assert found.stats["rejected"] < found.stats["steps"] / 4


@pytest.mark.parametrize(
    "options", [{"safety": 1.0}, {"shrink": 0.0}, {"grow": 1.0}, {"shrink": 2.0}]
)
def test_options_of_a_rule_out_of_range_are_refused(options):
    with pytest.raises(ParameterError, match=rf"{next(iter(options))}="):
        IControl(**options)


@pytest.mark.parametrize("size", [0.0, -1.0])
def test_a_fixed_step_must_be_positive(size):
    with pytest.raises(ParameterError, match="size="):
        FixedStep(size=size)


@pytest.mark.parametrize(
    "options",
    [
        {"rtol": 0.0}, {"atol": -1.0}, {"first_step": 0.0}, {"max_step": 0.0},
        {"min_step": -1.0}, {"max_steps": 0}, {"max_steps": True}, {"norm": "l1"},
    ],
)  # fmt: skip
def test_options_of_a_solver_out_of_range_are_refused(options):
    with pytest.raises(ParameterError, match=rf"Dopri5\({next(iter(options))}="):
        Dopri5(**options)


def test_a_method_without_an_error_takes_no_adaptive_steps():
    with pytest.raises(ParameterError, match="FixedStep"):
        Euler(control=IControl())
