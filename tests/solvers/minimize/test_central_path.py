from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import SingularError
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Status
from optlayers.solvers.minimize.auto import Auto
from optlayers.solvers.minimize.central_path import centered, refuse_lost
from optlayers.solvers.minimize.run import certified
from tests.solvers.minimize.hock_schittkowski import PROBLEMS


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def interval(*ends):
    """min x over an interval [end, 1] for each sample."""
    return MinimizeProgram(
        lambda x: x[:, 0], len(ends), 1,
        lower=double(*([end] for end in ends)), upper=double(*[[1.0]] * len(ends)),
    )  # fmt: skip


def test_the_point_on_the_path_is_the_minimum_under_the_barrier():
    # 1 = mu / x - mu / (1 - x) on [0, 1].
    mu = 0.25
    found = centered(interval(0.0), double([0.0, 1.0, -1.0]), mu)
    x = (1 + 2 * mu - (1 + 4 * mu**2) ** 0.5) / 2
    assert found.is_reached.all()
    assert_close(found.point[0, 0], double(x)[0])
    program = replace(interval(0.0), barrier=mu)
    _, _, lam, s = program.split(found.point)
    assert_close(lam * s, torch.full_like(s, mu))
    assert_close(s, double([x, 1 - x]))


def test_a_sample_without_interior_is_lost_and_stays_where_it_was():
    program = interval(0.0, 1.0)
    point = double([0.0, 1.0, -1.0], [1.0, 1.0, 0.0])
    found = centered(program, point, 1e-2)
    assert found.is_reached.tolist() == [True, False]
    assert torch.equal(found.point[1], point[1])
    alone = centered(interval(0.0), point[:1], 1e-2)
    assert_close(found.point[:1], alone.point, rtol=0, atol=1e-12)
    with pytest.raises(SingularError, match=r"plan: .* sample 1 .*1.0e-02"):
        refuse_lost("plan", ~found.is_reached, 1e-2)


def test_multipliers_and_slacks_of_any_size_keep_their_product():
    v = torch.tensor([-1e9, -1.0, 0.0, 1.0, 1e9], dtype=torch.float64)
    v = v.requires_grad_()
    program = MinimizeProgram(
        lambda x: x.sum(1), 1, 0, inequalities=lambda x: x.new_zeros(len(x), 5),
        inequality_count=5, barrier=1e-4,
    )  # fmt: skip
    _, _, lam, s = program.split(v.unsqueeze(0))
    assert_close(lam * s, torch.full_like(s, 1e-4))
    (slope,) = torch.autograd.grad(lam.sum(), v)
    assert_close(slope, (lam / (lam + s))[0].detach())


@pytest.mark.slow
@pytest.mark.parametrize("strength", [1e-6, 1e-4, 1e-2])
def test_from_every_problem_of_the_book_the_path_is_followed(strength):
    solved = lost = 0
    for problem in PROBLEMS.values():
        program = MinimizeProgram(
            problem.objective, 1, len(problem.start), problem.equalities,
            problem.inequalities, *problem.counts(), problem.lower, problem.upper,
        )  # fmt: skip
        found = certified(program, Auto(), problem.start[None], 1e-8)
        if found.status == Status.SOLVED:
            solved += 1
            lost += int(~centered(program, found.point, strength).is_reached)
    assert solved >= 65
    assert lost == 0
