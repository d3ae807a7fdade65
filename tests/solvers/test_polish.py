"""Newton steps from a solver's point to one at which derivatives can be taken."""

import pytest
import torch

from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from optlayers.solvers.certify import POLISH_REQUIRED, POLISH_TARGET, measure, polish
from tests.programs.known import known_program

SEMIDEFINITE = Cones(zero=1, psd=(3,))
CURVED = Cones(exp=2, power=(0.3, 0.6))


@pytest.mark.parametrize("cones", [SEMIDEFINITE, CURVED], ids=["psd", "curved"])
def test_points_near_a_solution_of_curved_cones_are_brought_to_rounding(cones):
    program, point = known_program(cones, batch=20, n=16)  # unique multipliers
    start = point + 1e-4 * torch.randn(point.shape).double()
    found, residual = polish(program, start, measure(program, start))
    assert float(residual.max()) <= POLISH_TARGET
    assert torch.equal(measure(program, found), residual)


def test_a_far_point_is_pursued_for_longer_than_a_near_one():
    program, point = known_program(SEMIDEFINITE, batch=20)
    start = point + 0.3 * torch.randn(point.shape).double()
    residual = polish(program, start, measure(program, start))[1]
    assert float((residual <= POLISH_REQUIRED).double().mean()) >= 0.9


def test_a_solution_and_its_neighbours_are_left_alone():
    program, point = known_program(SEMIDEFINITE, batch=3)
    start = point.clone()
    start[1] += 1e-3
    start[2] = torch.inf
    found, residual = polish(program, start, measure(program, start))
    assert torch.equal(found[0], point[0]) and torch.equal(found[2], start[2])
    assert float(residual[1]) <= POLISH_TARGET and bool(residual[2].isinf())


def test_a_singular_jacobian_gets_the_least_norm_step():
    # minimize 0 subject to the same semidefinite matrix twice: multipliers are free.
    eye = torch.eye(3).double()
    b = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0]]).double()
    cones = Cones(psd=(2, 2))
    program = ConeProgram(
        None, torch.zeros(1, 3).double(), torch.cat([eye, eye]), b, cones
    )
    start = torch.cat([torch.full((1, 3), 0.1), -b + 0.1], 1).double()
    residual = polish(program, start, measure(program, start))[1]
    assert float(residual.max()) <= POLISH_TARGET
