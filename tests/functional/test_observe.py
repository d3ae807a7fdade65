"""Solvers of which someone watches the steps: the same steps, and a word at each."""

import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import ParameterError
from optlayers.functional.observe import observed, walking, with_kept_steps
from optlayers.functional.options import SolveOptions
from optlayers.solvers.ode import Auto, Dopri5, Leapfrog, Rodas5P
from tests.solvers.ode.problems import oscillator, program_of

PROGRAM = program_of(oscillator, [1.0, 0.0], [0.0, 1.0, 4.0], batch=2)


def test_nobody_beside_it_leaves_the_solver_as_it_is():
    solver = Dopri5()
    assert observed(solver, None, dense=False) is solver


@pytest.mark.parametrize("solver", [Dopri5(), Rodas5P(), Auto(), Leapfrog()])
def test_a_watched_solver_takes_its_usual_steps_and_tells_of_each(solver):
    seen = []
    watched = observed(solver, lambda walk: seen.append(walk.count), dense=False)
    found, usual = watched.solve(PROGRAM), solver.solve(PROGRAM)
    assert torch.equal(found.value, usual.value)
    assert seen == list(range(1, int(usual.stats["steps"].max()) + 1))
    assert found.dense is None


def test_a_watched_solver_has_the_traits_of_the_one_within():
    for solver in (Dopri5(), Rodas5P(), Auto(), Leapfrog()):
        watched = observed(solver, None, dense=True)
        assert watched.stepper is solver.stepper
        assert watched.is_for_stiff == solver.is_for_stiff
    odd = program_of(lambda time, state: -state, [1.0], [0.0, 1.0])
    assert watched.refuses(odd) == Leapfrog().refuses(odd) is not None


def test_dense_output_is_kept_on_request():
    solution = observed(Dopri5(rtol=1e-9), None, dense=True).solve(PROGRAM)
    times = torch.tensor([[0.5, 3.0], [2.0, 0.0]], dtype=torch.float64)
    exact = torch.stack((times.cos(), -times.sin()), 2)
    assert solution.dense is not None
    assert_close(solution.dense(times), exact, rtol=0, atol=1e-7)


def test_what_is_no_walking_solver_is_told_by_its_class():
    with pytest.raises(ParameterError, match="int does not take its steps one at"):
        walking(3)


@pytest.mark.parametrize("gradient", ["exact", "direct"])
def test_kept_steps_are_differentiated_directly(gradient):
    kept = with_kept_steps(SolveOptions(gradient=gradient))
    assert kept.gradient == "direct"


@pytest.mark.parametrize("gradient", ["backsolve", "sweep", "checkpoint"])
def test_gradients_that_keep_no_steps_are_refused(gradient):
    with pytest.raises(ParameterError, match=f'gradient="{gradient}" keeps no steps'):
        with_kept_steps(SolveOptions(gradient=gradient))
