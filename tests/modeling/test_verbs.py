"""minimize and maximize: names of constraints, and goals that make no sense."""

import pytest
import torch

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.language import between, nonneg, nonpos, psd_matrix
from optlayers.modeling.signs import Sign
from optlayers.modeling.verbs import maximize, minimize
from tests.modeling.traced import built, trace


def names(body):
    return [one.name for one in trace(body).constraints]


def test_constraints_are_named_by_keyword_or_counted():
    def body(x=Variable(2), y=Parameter(2)):
        rows = [x >= -y, x[0] == x[1]]
        return minimize(x @ x, x <= y, *rows, cap=x[0] <= 1)

    assert names(body) == ["constraint_0", "constraint_1", "constraint_2", "cap"]


def test_lists_of_constraints_are_counted_under_their_name():
    def body(x=Variable(3)):
        rows = [x[k] <= k for k in range(2)]
        return minimize(x @ x, rows, x[2] <= 5, more=rows)

    expected = ["constraint_0", "constraint_1", "constraint_2", "more.0", "more.1"]
    assert names(body) == expected


def test_between_is_two_constraints_under_one_name():
    def body(x=Variable(2), y=Parameter()):
        return minimize(x @ x, between(0, x, 1), box=between(-y, x[0], y))

    declaration = trace(body)
    assert [one.name for one in declaration.constraints] == [
        "constraint_0.lower",
        "constraint_0.upper",
        "box.lower",
        "box.upper",
    ]
    assert [one.shape for one in declaration.constraints] == [(2,), (2,), (), ()]


def test_greater_is_less_the_other_way():
    def body(x=Variable(2), y=Parameter(2)):
        return minimize(x @ x, x >= y, y >= x, x == y)

    below, above, equal = trace(body).constraints
    assert (below.left.options["field"].name, below.relation) == ("y", "<=")
    assert (above.left.options["field"].name, above.relation) == ("x", "<=")
    assert (equal.left.options["field"].name, equal.relation) == ("x", "==")


def test_names_of_constraints_may_be_names_of_fields_but_not_twice():
    def fine(x=Variable(2), y=Parameter(2)):
        return minimize(x @ x, x=x <= y)

    def twice(x=Variable(2, lower=0)):
        return minimize(x @ x, **{"x.lower": x >= 1})

    assert names(fine) == ["x"]
    with pytest.raises(DeclarationError, match=r"two constraints .* named x\.lower"):
        trace(twice)


def test_maximize_keeps_its_sense():
    def body(x=Variable(2), y=Parameter(2)):
        return maximize(y @ x, x @ x <= 1)

    assert trace(body).sense == "maximize"


def test_an_objective_must_be_a_scalar():
    def body(x=Variable(2)):
        return minimize(x)

    with pytest.raises(ShapeError, match=r"x has shape \[2\], it must be a scalar"):
        trace(body)


def test_an_objective_may_be_nothing_but_a_number_if_there_are_constraints():
    def feasible(x=Variable(2)):
        return minimize(0, x == 1)

    def empty(x=Variable(2)):
        return minimize(0)

    assert trace(feasible).objective.name == "constant"
    with pytest.raises(DeclarationError, match="nothing here depends on a variable"):
        trace(empty)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (lambda x, y: x, r"cap is an expression, x; .* x <= 0"),
        (lambda x, y: 1 <= 2, "cap is the plain value True"),
        (lambda x, y: "x <= y", "cap is a str"),
        (lambda x, y: y <= 1, "no variable enters cap"),
        (lambda x, y: between(0, y, 1), "no variable enters cap"),
    ],
)
def test_what_is_no_constraint_is_refused_by_its_name(one, words):
    def body(x=Variable(), y=Parameter()):
        return minimize(x, cap=one(x, y))

    with pytest.raises(DeclarationError, match=words):
        trace(body)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda x: None, "forget `return`"),
        (lambda x: x, "returns an Expression"),
        (lambda x: (x, x <= 1), "returns a tuple"),
        (lambda x: minimize(x <= 1), "takes the objective first"),
    ],
)
def test_returning_something_else_is_explained(result, words):
    def body(x=Variable()):
        return result(x)

    with pytest.raises(DeclarationError, match=words):
        trace(body)


def test_a_constraint_is_no_term():
    def body(x=Variable()):
        return minimize(x, (x <= 1) + x <= 3)

    def compared(x=Variable()):
        return minimize(x, (0 <= x) <= 1)

    with pytest.raises(DeclarationError, match="a constraint is no term"):
        trace(body)
    with pytest.raises(DeclarationError, match="is a constraint already"):
        trace(compared)


def test_assertions_change_what_is_known_of_a_parameter_expression():
    def body(x=Variable(2), p=Parameter("2 2"), q=Parameter()):
        goal = minimize(x @ x)
        return goal, (nonneg(q - 1), nonpos(q), psd_matrix(p), nonneg(3.0))

    above, below, matrix, number = built(body)
    assert [one.options["attribute"] for one in (above, below, matrix)] == [
        "nonneg",
        "nonpos",
        "psd",
    ]
    assert (above.sign, below.sign) == (Sign.NONNEG, Sign.NONPOS)
    assert matrix.shape == (2, 2)
    assert number.shape == ()


def test_assertions_on_variables_are_told_to_be_constraints():
    def body(x=Variable(2)):
        return minimize(nonneg(x).sum())

    with pytest.raises(DeclarationError, match=r"depends on variables.* x >= 0"):
        trace(body)


def test_psd_needs_a_square_matrix():
    def body(x=Variable(2), p=Parameter("2 3")):
        return minimize(x @ x), psd_matrix(p)

    with pytest.raises(ShapeError, match="needs a square matrix"):
        built(body)


def test_tensors_compare_with_expressions_from_the_left():
    ones = torch.ones(2)

    def body(x=Variable(2)):
        return minimize(x @ x, ones <= x, ones >= x, ones == x)

    relations = [one.relation for one in trace(body).constraints]
    assert relations == ["<=", "<=", "=="]
