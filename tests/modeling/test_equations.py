"""solve: names of equations, what is counted, and what is refused."""

import pytest
import torch
from torch import nn

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.capture import lookup
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.field_kinds import Parameter, State, Variable
from optlayers.modeling.language import between, in_cone
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import solve
from tests.modeling.traced import trace

net = nn.Linear(2, 2, dtype=torch.float64)


def circle(x=Variable(), y=Variable(lower=0), r=Parameter(nonneg=True)):
    return solve(x**2 + y**2 == r**2, diagonal=x == y)


def test_equations_are_named_by_keyword_or_counted_and_bounds_follow():
    declaration = trace(circle)
    assert declaration.sense == "solve" and not declaration.is_feasibility
    names = [one.name for one in declaration.constraints]
    assert names == ["equation_0", "diagonal", "y.lower"]


def test_lists_of_equations_are_counted_under_their_name():
    def body(x=Variable(3)):
        return solve([x[0] == 1], rest=[x[k] == x[k - 1] for k in (1, 2)])

    names = [one.name for one in trace(body).constraints]
    assert names == ["equation_0", "rest.0", "rest.1"]


def test_a_system_reads_as_in_a_textbook():
    assert str(declare(circle)) == (
        "circle: solve for x ∈ ℝ, y ∈ ℝ\n"
        "    equation_0: x² + y² = r²\n"
        "    diagonal:   x = y\n"
        "    y.lower:    0 ≤ y\n"
        "  given r ∈ ℝ₊"
    )
    latex = declare(circle)._repr_latex_()
    assert r"\mathrm{solve\ for}" in latex and "subject" not in latex


def test_a_system_that_is_not_square_is_counted():
    def body(x=Variable(3), w=Parameter()):
        return solve(x[0] == w, pair=x[:1] == 2 * x[1:2])

    with pytest.raises(ShapeError) as refused:
        trace(body)
    message = str(refused.value)
    assert "2 equations for 3 unknowns" in message
    assert "equation_0 []: `x[0] == w`" in message
    assert "pair [1]: `x[:1] == 2 * x[1:2]`" in message
    assert "unknowns: x [3]" in message


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (lambda x=Variable(): solve(), DeclarationError, "at least one equation"),
        (lambda x=Variable(): solve(x <= 1), DeclarationError, "Variable\\(lower=0\\)"),
        (
            lambda x=Variable(): solve(b=between(0, x, 1)),
            DeclarationError,
            "b.lower is an inequality",
        ),
        (
            lambda x=Variable(2): solve(in_cone(x, "soc")),
            DeclarationError,
            "membership in a cone",
        ),
        (lambda x=Variable(): solve(x), DeclarationError, "as in x == 0"),
        (lambda x=Variable(): solve(3), DeclarationError, "is made with =="),
        (
            lambda x=Variable(), w=Parameter(): solve(w == 1, x == 1),
            DeclarationError,
            "no variable enters equation_0",
        ),
        (
            lambda x=Variable(), y=Variable(): solve(x == 1, x**2 == 1),
            DeclarationError,
            "y = Variable\\(\\) enters no equation",
        ),
        (
            lambda x=Variable("2 2", symmetric=True): solve(x == 1),
            DeclarationError,
            "leave out symmetric=True",
        ),
        (
            lambda x=Variable(2): solve(x[0] == 1, x == 1),
            ShapeError,
            "3 equations for 2",
        ),
    ],
)
def test_what_is_no_system_says_why(body, error, words):
    with pytest.raises(error, match=words):
        trace(body)


def test_equations_and_unknowns_are_counted_over_their_stages():
    def open_at_the_start(x=State("2")):
        return solve(step=x.next == x)

    def closed(x=State("2")):
        return solve(start=x.first == 1, step=x.next == x)

    with pytest.raises(ShapeError, match=r"has 6 equations for 8 unknowns") as refused:
        trace(open_at_the_start, steps=3)
    assert "step [3, 2] at stages 0 to 2" in str(refused.value)
    assert trace(closed, steps=3).sense == "solve"


@pytest.mark.parametrize("word", ["convex", "geometric"])
def test_words_of_other_kinds_are_refused(word):
    with pytest.raises(DeclarationError, match=f"{word}=True says nothing of"):
        declare(circle, **{word: True})


def test_given_variables_are_evaluated_like_parameters():
    def body(x=Variable(2), w=Parameter()):
        return solve(torch.sin(w * x) == net(x))

    declaration = trace(body)
    (equation,) = declaration.constraints
    sides = (equation.left, equation.right)
    with pytest.raises(DeclarationError, match="no value before the solve"):
        Evaluator(sides)
    evaluator = Evaluator(sides, variables=["x"])
    assert evaluator.field_names == ("w", "x")
    x, w = torch.rand(2, dtype=torch.float64), torch.rand((), dtype=torch.float64)
    left, right = evaluator({"x": x, "w": w}, declaration.captured)
    assert torch.equal(left, torch.sin(w * x)) and torch.equal(right, net(x))


def test_a_part_of_a_module_may_be_given_by_its_dotted_name():
    other = torch.ones(2)
    assert lookup({"net": net, "net.bias": other}, "net.bias") is other
    assert lookup({"net": net}, "net.bias") is net.bias
