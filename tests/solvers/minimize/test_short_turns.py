"""Rotations near a full turn are shortened, measured there, and searched on."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from optlayers.geometry.groups import SO3
from optlayers.interfaces import Kind
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.minimize.levenberg_marquardt import LevenbergMarquardt
from optlayers.solvers.minimize.short_turns import SEARCHES, ShortTurns

DOUBLE = {"dtype": torch.float64}
GOAL = torch.tensor([[0.2, -0.4, 0.3], [0.6, 0.9, -0.3]], **DOUBLE)


def nearest_to(goal):
    """Least squares over rotation vectors of which the rotation of `goal` is best."""

    def residuals(w):
        return (SO3.exp(w) - SO3.exp(goal)).flatten(1)

    return MinimizeProgram(
        lambda w: residuals(w).square().sum(1), len(goal), 3, residuals=residuals
    )


class Told:
    """Says what it was told, one answer a call, and remembers where it started."""

    kind = Kind.MINIMIZE

    def __init__(self, *answers: Tensor) -> None:
        self.answers = list(answers)
        self.starts: list[Tensor] = []

    def refuses(self, program):
        return None

    def solve(self, program, start=None):
        self.starts.append(start)
        value = self.answers.pop(0)
        none = value.new_zeros(len(value), 0)
        duals = {"equalities": none, "inequalities": none}
        status = torch.full((len(value),), int(Status.SOLVED), dtype=torch.int8)
        steps = torch.full((len(value),), 5)
        return Solution(value, duals, status, {"steps": steps})


def other_way(w):
    """The same rotation, the longer way round."""
    angle = w.norm(dim=1, keepdim=True)
    return w * (angle - 2 * math.pi) / angle


def solve(*answers, goal=GOAL):
    solver = Told(*answers)
    found = ShortTurns(solver, SO3.shortened, 1e-8).solve(nearest_to(goal))
    return found, solver


def test_what_is_no_full_turn_is_left_alone():
    found, solver = solve(GOAL)
    assert found.value is GOAL and len(solver.starts) == 1


def test_the_longer_way_round_is_shortened():
    """No second search: the shorter way is a solution as it stands."""
    found, solver = solve(other_way(GOAL))
    assert_close(found.value, GOAL, rtol=0, atol=1e-12)
    assert bool(found.ok.all()) and len(solver.starts) == 1


def test_a_rest_at_a_full_turn_is_searched_on_from_nearby():
    """One sample rests where the slope vanishes without reason, the other is solved."""
    far = torch.stack([2 * math.pi * torch.tensor([0.6, 0.8, 0.0], **DOUBLE), GOAL[1]])
    found, solver = solve(far, GOAL)
    assert_close(found.value, GOAL, rtol=0, atol=1e-12)
    assert solver.starts[0] is None
    assert_close(solver.starts[1][0], 0 * GOAL[0], rtol=0, atol=1e-12)
    assert found.stats["steps"].tolist() == [10, 5]


def test_a_search_that_never_rests_is_given_up():
    far = GOAL + torch.tensor([5.0, 0.0, 0.0], **DOUBLE)
    found, solver = solve(*[far] * SEARCHES)
    assert found.status.tolist() == [int(Status.STALLED)] * 2
    assert len(solver.starts) == SEARCHES
    assert float(found.value.norm(dim=1).max()) <= 1.5 * math.pi


@pytest.mark.parametrize("angle", [3.5, 5.0, 6.0])
def test_starts_near_a_full_turn_end_where_they_should(angle):
    start = angle * torch.nn.functional.normalize(GOAL.flip(1), dim=1)
    solver = ShortTurns(LevenbergMarquardt(), SO3.shortened, 1e-8)
    found = solver.solve(nearest_to(GOAL), start)
    assert bool(found.ok.all())
    assert_close(SO3.exp(found.value), SO3.exp(GOAL), rtol=0, atol=1e-6)
