"""Which kinks give way to variables, by the direction in which they enter."""

import pytest
import torch

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize
from optlayers.errors import NotConvex
from tests.compile.test_minimize import compiled

# Each makes the goal of a problem in x and y with y >= 0, w >= 0 and any a.
TAKEN = {
    "sum": lambda x, y, w, a: minimize(x[0] * x[1] + 2 * ol.norm1(x) - 3),
    "weight": lambda x, y, w, a: minimize(x[0] * x[1] + w * ol.max(x) / 2),
    "negative": lambda x, y, w, a: minimize(x[0] * x[1] - ol.min(x)),
    "power of a magnitude": lambda x, y, w, a: minimize(
        x[0] * x[1] + ol.abs(x[0]) ** 3
    ),
    "square of a sum": lambda x, y, w, a: minimize(
        ol.square(1 + ol.norm1(x)) * x[0] ** 2
    ),
    "exponential": lambda x, y, w, a: minimize(x[0] * x[1] + ol.exp(ol.maximum(*x))),
    "factor of known sign": lambda x, y, w, a: minimize(y * ol.abs(x[0])),
    "product of magnitudes": lambda x, y, w, a: minimize(ol.abs(x[0]) * ol.abs(x[1])),
    "quotient": lambda x, y, w, a: minimize(ol.norm(x) / (1 + y)),
    "weighted": lambda x, y, w, a: minimize(x[0] * x[1] + [1.0, 2.0] @ ol.pos(x)),
    "nested": lambda x, y, w, a: minimize(ol.maximum(ol.abs(x[0]), x[1] ** 3)),
    "bounded above": lambda x, y, w, a: minimize(x[0] * x[1], ol.norm_inf(x) <= 1),
    "bounded below": lambda x, y, w, a: minimize(x[0] * x[1], ol.min(x) >= a),
    "maximized": lambda x, y, w, a: maximize(x[0] * x[1] + ol.minimum(*x)),
    "subtracted": lambda x, y, w, a: maximize(x[0] * x[1] - ol.norm(x, 1)),
    "matrix": lambda x, y, w, a: minimize(x[0] * x[1] + ol.norm(ol.outer(x, x), "fro")),
}
REFUSED = {
    "maximized": lambda x, y, w, a: maximize(x[0] * x[1] + ol.norm1(x)),
    "equation": lambda x, y, w, a: minimize(x[0] * x[1], ol.norm1(x) == 1),
    "bounded below": lambda x, y, w, a: minimize(x[0] * x[1], ol.norm1(x) >= 1),
    "unknown weight": lambda x, y, w, a: minimize(x[0] * x[1] + a * ol.abs(x[0])),
    "unknown factor": lambda x, y, w, a: minimize(x[1] * ol.abs(x[0])),
    "square of what may be negative": lambda x, y, w, a: minimize(
        ol.square(ol.max(x) - 1)
    ),
    # A variable below the minimum may be negative, and its square large.
    "square of a minimum": lambda x, y, w, a: maximize(
        ol.square(ol.minimum(y, 2.0)) - y
    ),
    "other torch function": lambda x, y, w, a: minimize(torch.sin(ol.abs(x[0]))),
    "magnitude of a kink": lambda x, y, w, a: minimize(ol.abs(ol.max(x)) * y),
    "quotient": lambda x, y, w, a: minimize(y / ol.norm1(x)),
    "norm of order three": lambda x, y, w, a: minimize(x[0] * x[1] + ol.norm(x, 3)),
    "spectral": lambda x, y, w, a: minimize(x[0] * x[1] + ol.norm(ol.outer(x, x), 2)),
}


def bodied(goal):
    def body(
        x=Variable("2"),
        y=Variable(nonneg=True),
        w=Parameter(nonneg=True),
        a=Parameter(),
    ):
        return goal(x, y, w, a)

    return body


@pytest.mark.parametrize("case", TAKEN)
def test_a_kink_that_enters_in_the_right_direction_gives_way(case):
    template = compiled(bodied(TAKEN[case]))
    assert template.auxiliary_count > 0
    assert set(template.auxiliary_names).isdisjoint({"x", "y"})


@pytest.mark.parametrize("case", REFUSED)
def test_a_kink_that_does_not_is_refused_by_name(case):
    with pytest.raises(NotConvex, match="is not smooth"):
        compiled(bodied(REFUSED[case]))


def test_a_smooth_problem_has_no_more_variables_than_declared():
    template = compiled(bodied(lambda x, y, w, a: minimize(x[0] * x[1] + a * y)))
    assert template.auxiliary_names == () and template.auxiliary_count == 0
    assert template.auxiliary_starts is None


def test_variables_begin_beyond_the_values_of_their_atoms():
    def body(x=Variable("2")):
        return minimize(x[0] * x[1] + ol.max(x) - ol.min(x))

    template = compiled(body)
    x = torch.tensor([[3.0, -1.0]], dtype=torch.float64)
    begin = template.auxiliary_starts(x, [], {})
    torch.testing.assert_close(begin, torch.tensor([[3.1, -1.1]]).double())


def test_two_kinks_of_one_text_are_two_variables():
    def body(x=Variable("3")):
        return minimize(ol.prod(x) + sum(ol.abs(one) for one in x))

    template = compiled(body)
    assert template.auxiliary_count == len(template.auxiliary_names) == 3
