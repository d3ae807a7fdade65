import torch
from torch.testing import assert_close

from optlayers.implicit.trust import complementarity, trust
from optlayers.programs.minimize import MinimizeProgram


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def on_circle(x):
    return x.square().sum(1, keepdim=True) - 2


def judged(program, point):
    return [one.tolist() for one in trust(program, program.linearize(point))[:3]]


def test_of_two_points_with_the_same_conditions_one_is_a_minimum():
    # x + y on a circle: the lowest point and the highest, L = x + y + lam (x'x - 2).
    program = MinimizeProgram(
        lambda x: x.sum(1), 2, 2, equalities=on_circle, equality_count=1
    )
    point = double([-1, -1, 0.5], [1, 1, -0.5])
    assert_close(program.violation(point), double(0.0, 0.0))
    assert judged(program, point) == [[True, True], [True, True], [True, False]]


def test_a_saddle_is_none_unless_constraints_close_its_way_down():
    def saddle(x):
        return x[:, 0] ** 2 - x[:, 1] ** 2

    free = MinimizeProgram(saddle, 1, 2)
    assert judged(free, double([0, 0])) == [[True], [True], [False]]
    held = MinimizeProgram(
        saddle, 1, 2, equalities=lambda x: x[:, 1:], equality_count=1
    )
    assert judged(held, double([0, 0, 0])) == [[True], [True], [True]]
    # An inactive constraint closes nothing: v = lam - s = -1.
    near = MinimizeProgram(
        saddle, 1, 2, inequalities=lambda x: x[:, 1:] - 1, inequality_count=1
    )
    assert judged(near, double([0, 0, -1])) == [[True], [True], [False]]


def test_curvatures_of_any_size_are_seen():
    scales = double(1e-6, 1.0, 1e6)
    for sign in (1.0, -1.0):
        curved = MinimizeProgram(
            lambda x, sign=sign: sign * scales * x[:, 0] ** 2 + x[:, 1] ** 2, 3, 2
        )
        found = trust(curved, curved.linearize(torch.zeros(3, 2).double()))
        assert found.is_minimum.tolist() == [sign > 0] * 3


def test_dependent_constraints_leave_the_point_determined_and_their_prices_not():
    # x >= 0 twice, of (x + 1)^2: the prices share 2.
    program = MinimizeProgram(
        lambda x: (x[:, 0] + 1) ** 2, 1, 1,
        inequalities=lambda x: -x.expand(-1, 2), inequality_count=2,
    )  # fmt: skip
    assert judged(program, double([0, 0.5, 1.5])) == [[True], [False], [True]]


def test_a_valley_leaves_the_point_undetermined():
    program = MinimizeProgram(lambda x: x.sum(1) ** 2, 1, 2)
    assert judged(program, double([1, -1])) == [[False], [True], [False]]


def test_the_margin_is_the_smallest_of_all_rows_and_relative():
    program = MinimizeProgram(
        lambda x: x.sum(1), 3, 2, inequalities=lambda x: -x, inequality_count=2
    )
    # v = lam - s beside x: an idle row with slack 4 at x = 8; a price of 3 among 6.
    point = double([0, 4, 1, -4], [8, 4, -8, -4], [0, 0, 6, 3])
    ok = torch.tensor([True, True, True])
    assert_close(complementarity(program, point, ok), double(1.0, 0.5, 0.5))
    failed = complementarity(program, point, ~ok)
    assert failed.isnan().all()
