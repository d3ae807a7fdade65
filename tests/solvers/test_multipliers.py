"""Shortest multipliers where the constraints do not determine them."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from optlayers import registry
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from optlayers.solvers.multipliers import least_norm
from optlayers.solvers.opaque import Opaque, solve
from optlayers.solvers.plan import Plan
from tests.solvers.programs import random_program


def solve_with(name: str, program: ConeProgram) -> tuple[Opaque, torch.Tensor]:
    """Everything known, and the multipliers, [B, m]."""
    solver = registry.create("convex", name)
    found = solve(program, Plan(structure=program.structure(), solvers=(solver,)))
    return found, program.split(found.point)[1]


def projection(c: list[list[float]], A, b, zero: int) -> ConeProgram:
    """Minimize |x - c|^2/2 subject to `zero` rows A x = b, then A x <= b."""
    c = torch.tensor(c, dtype=torch.float64)
    A = torch.tensor(A, dtype=torch.float64)
    b = torch.tensor(b, dtype=torch.float64).expand(len(c), -1)
    one = torch.eye(c.shape[1], dtype=torch.float64)
    return ConeProgram(one, -c, A, b, Cones(zero=zero, nonneg=len(A) - zero))


both = pytest.mark.parametrize("name", ["daqp", "clarabel"])


@both
def test_a_repeated_equality_shares_its_multiplier_by_row_length(name):
    # x = c - A'y with A = (1, 2)': y_1 + 2 y_2 = c, shortest at y = c (1, 2)/5.
    program = projection([[5.0], [-10.0]], [[1.0], [2.0]], [0.0, 0.0], zero=2)
    found, y = solve_with(name, program)
    assert_close(y, torch.tensor([[1.0, 2.0], [-2.0, -4.0]]).double())
    assert found.unique.tolist() == [False, False]


@both
def test_a_repeated_inequality_shares_its_multiplier_where_it_is_active(name):
    program = projection([[3.0], [0.0]], [[1.0], [1.0]], [1.0, 1.0], zero=0)
    found, y = solve_with(name, program)
    assert_close(y, torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double())
    assert found.unique.tolist() == [False, True]


@both
def test_three_constraints_at_a_corner_of_the_plane_share_as_little_as_possible(name):
    # x_0 <= 0, x_1 <= 0, x_0 + x_1 <= 0 at the origin: y_0 + y_2 = 3, y_1 + y_2 = 1;
    # |y|^2 is least at y_2 = 4/3, beyond what y_1 >= 0 allows, hence y = (2, 0, 1).
    program = projection(
        [[3.0, 1.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.0] * 3, zero=0
    )
    found, y = solve_with(name, program)
    assert_close(y, torch.tensor([[2.0, 0.0, 1.0]]).double(), atol=1e-9, rtol=0)
    assert found.unique.tolist() == [False]


@both
def test_dependent_rows_that_leave_one_multiplier_are_not_flagged(name):
    # The second row repeats the first but has slack in every direction that counts:
    # x_0 <= 0 and -x_0 <= 0 with c = 0 have y = (t, t), also many; with only one row
    # active there is one.
    program = projection([[2.0, 0.0]], [[1.0, 0.0], [2.0, 0.0]], [1.0, 5.0], zero=0)
    found, y = solve_with(name, program)
    assert_close(y, torch.tensor([[1.0, 0.0]]).double(), atol=1e-9, rtol=0)
    assert found.unique.tolist() == [True]


def test_zero_is_the_shortest_multiplier_of_opposite_constraints():
    program = projection([[0.0]], [[1.0], [-1.0]], [0.0, 0.0], zero=0)
    found, y = solve_with("clarabel", program)
    assert_close(y, torch.zeros(1, 2).double(), atol=1e-9, rtol=0)
    assert found.unique.tolist() == [False]


@both
def test_ordinary_programs_are_not_touched(name):
    program = random_program(8, 10, 3, 12, is_shared=False)
    found, _ = solve_with(name, program)
    assert bool(found.unique.all())


def test_a_third_equality_of_rank_two_gets_the_least_norm_solution():
    program = random_program(5, 8, 2, 0, is_shared=True)
    weights = torch.tensor([0.6, -1.7]).double()
    A = torch.cat([program.A, (weights @ program.A)[None]])
    b = torch.cat([program.b, (program.b @ weights)[:, None]], 1)
    more = ConeProgram(program.P, program.q, A, b, Cones(zero=3))
    found, y = solve_with("daqp", more)
    assert not bool(found.unique.any())
    x = found.point[:, :8]
    gradient = program.q + x @ program.P
    expected = -gradient @ torch.linalg.pinv(A)
    assert_close(y, expected, atol=1e-8, rtol=0)


def test_least_norm_says_none_when_the_multiplier_is_the_only_one():
    # Rows (1), (1) with y = (0, 0): any other needs a negative entry.
    A, y = np.array([[1.0], [1.0]]), np.zeros(2)
    assert least_norm(A, y, np.zeros(2, bool)) is None
    free = least_norm(A, y, np.ones(2, bool))
    assert free is not None
    assert np.abs(free).max() == 0
