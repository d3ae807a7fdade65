"""Large terms, whose difference cannot fall below an absolute tolerance."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, solve
from optlayers.functional import fixed_point, root
from optlayers.programs.root import RootProgram
from optlayers.solution import Status
from optlayers.solvers.root.rounding import is_rounding


@pytest.mark.parametrize("solver", ["auto", "newton", "levenberg_marquardt"])
def test_large_terms_are_solved_to_the_last_bits(solver):
    a = torch.tensor([[1e12], [2e13]], dtype=torch.float64)
    found = root(lambda x: x**2 - a, torch.ones_like(a), solver=solver)
    assert found.ok.all()
    # Four roundings, as the criterion says.
    assert_close(found.value.abs(), a.sqrt(), rtol=1e-15, atol=0)


def test_declared_equations_of_large_terms_are_solved():
    @ol.problem
    def side(x=Variable(start=1.0), area=Parameter()):
        return solve(x**2 == area)

    area = torch.tensor([7e11, 4.0], dtype=torch.float64, requires_grad=True)
    out = side(area)
    out.x.sum().backward()
    assert out.ok.all()
    assert_close(area.grad, 0.5 / area.detach().sqrt())


def test_fixed_points_far_from_zero_are_solved():
    u = torch.tensor([[3e9, 1.0]], dtype=torch.float64)
    found = fixed_point(lambda z: 0.5 * z.sin() + u / 3 + 0.1 * z, torch.zeros_like(u))
    assert found.ok.all()


def test_equations_without_a_root_are_never_rounding():
    a = torch.tensor([[-1e12], [-1.0], [1e12]], dtype=torch.float64)
    found = root(lambda x: x**2 - a, torch.ones_like(a), on_failure="keep")
    assert found.ok.tolist() == [False, False, True]


def test_a_step_away_from_the_root_is_no_rounding():
    program = RootProgram(lambda x: x**2 - 1e12, 3, 1)
    away = torch.tensor([[1e-12], [1e-14], [0.0]], dtype=torch.float64)
    assert is_rounding(program, 1e6 * (1 + away)).tolist() == [False, False, True]


def test_a_residual_that_is_not_finite_is_no_rounding():
    program = RootProgram(lambda x: x.log(), 2, 1)
    point = torch.tensor([[0.0], [-1.0]], dtype=torch.float64)
    assert is_rounding(program, point).tolist() == [False, False]


def test_a_function_that_autograd_cannot_enter_fails_by_its_status():
    def outside(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() ** 2 + 1.0)

    start = torch.ones(1, 1, dtype=torch.float64)
    found = root(outside, start, solver="broyden", on_failure="keep")
    assert found.status.item() != Status.SOLVED
