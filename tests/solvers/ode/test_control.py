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
from optlayers.solvers.ode.pace import Pace
from optlayers.solvers.ode.stepper import Step
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


def test_pi_and_pid_steps_follow_their_formula():
    # h' = h safety r_n^(-b1/k) r_(n-1)^(-b2/k) r_(n-2)^(-b3/k), by hand for k = 5.
    newest, before, first = (torch.tensor([one]).double() for one in (0.5, 2.0, 0.1))
    found = PIControl(safety=0.9).factor(newest.clone(), (before,), 5)
    assert_close(found, torch.tensor([0.9 * 0.5**-0.14 * 2**0.08]).double())
    found = PIDControl(safety=0.9).factor(newest.clone(), (before, first), 5)
    exact = 0.9 * 0.5 ** (-1 / 90) * 2.0 ** (-1 / 45) * 0.1 ** (-1 / 90)
    assert_close(found, torch.tensor([exact]).double())


@pytest.mark.parametrize("control", [IControl(), PIControl(), PIDControl()])
def test_equal_errors_at_the_tolerance_keep_the_step_but_for_safety(control):
    ones = torch.ones(3, dtype=torch.float64)
    found = control.factor(ones.clone(), (ones,) * control.depth, 5)
    assert_close(found, control.safety * ones)


def test_earlier_ratios_without_bounds_leave_the_step_in_its_own():
    control = PIDControl()
    wild = torch.tensor([0.0, torch.inf, 1e-300], dtype=torch.float64)
    found = control.factor(torch.ones(3, dtype=torch.float64), (wild, wild), 5)
    assert bool(((found >= control.shrink) & (found <= control.grow)).all())


@pytest.mark.parametrize("control", [PIControl(), PIDControl()])
def test_only_accepted_steps_are_remembered(control):
    program = program_of(smooth, [1.0, 0.5], [0.0, 2.0], batch=2)
    state = program.initial
    pace = Pace(Dopri5.stepper, Dopri5(control=control), state)
    time = torch.zeros(2, dtype=torch.float64)
    pace.begin(program.rate, time, state, program.rate(time, state), time + 2)
    accepted = torch.tensor([True, False])
    ratio = torch.tensor([0.25, 4.0], dtype=torch.float64)
    factor = pace.factor(ratio, pace.earlier)
    pace.adapt(time + 0.1, ratio, factor, accepted, has_stops=False)
    assert pace.earlier[0].tolist() == [0.25, 1.0]
    assert len(pace.earlier) == control.depth


def test_samples_with_a_joint_step_share_the_largest_ratio_of_those_that_run():
    program = program_of(smooth, [1.0, 0.5], [0.0, 2.0], batch=3)
    pace = Pace(Dopri5.stepper, Dopri5(joint=True), program.initial)
    error = torch.tensor([1e-9, 1e-6, 1.0], dtype=torch.float64)[:, None].expand(3, 2)
    step = Step(program.initial, error, program.initial, program.initial)
    running = torch.tensor([True, True, False])
    shared = pace.ratio(step, program.initial, running)
    apart = Pace(Dopri5.stepper, Dopri5(), program.initial)
    assert torch.equal(shared, apart.ratio(step, program.initial, running)[1].expand(3))


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
