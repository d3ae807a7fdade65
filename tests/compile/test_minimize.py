"""Compiled problems that are not convex: functions, squares, bounds, refusals."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, State, Variable, maximize, minimize
from optlayers.compile.minimize import compile_minimize
from optlayers.compile.multipliers import Found
from optlayers.compile.smoothness import roughness
from optlayers.errors import NotConvex
from optlayers.modeling.problem import declare

DOUBLE = {"dtype": torch.float64}


def traced(body, steps=None):
    return declare(body, convex=False).trace({}, steps)


def compiled(body, steps=None):
    return compile_minimize(traced(body, steps), "it is not convex")


def test_functions_are_those_that_were_declared():
    def body(x=Variable("2"), a=Parameter()):
        return maximize(
            a * x[0] * x[1], ring=ol.sum_squares(x) == a, above=x >= a, below=x[0] <= 3
        )

    template = compiled(body)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], **DOUBLE)
    inputs = [torch.tensor([5.0, 6.0], **DOUBLE)]
    value = template.objective(x, inputs, {})
    assert value.tolist() == [[10.0], [72.0]] and template.maximize
    assert template.equalities is not None and template.inequalities is not None
    assert template.equalities(x, inputs, {}).tolist() == [[0.0], [19.0]]
    rows = template.inequalities(x, inputs, {}).tolist()
    assert rows == [[4.0, 3.0, -2.0], [3.0, 2.0, 0.0]]
    assert template.equality_names == ("ring",)
    assert template.inequality_names == ("above", "above", "below")


def test_sums_of_squares_give_their_residuals():
    def body(x=Variable("2"), w=Parameter(nonneg=True), y=Parameter("3")):
        return minimize(
            100 * (x[1] - x[0] ** 2) ** 2
            + w * ol.sum_squares(x[0] * y - 1) / 2
            + ol.mean((x - 1) ** 2)
            + (x - 2) @ (x - 2)
        )

    template = compiled(body)
    assert template.residuals is not None
    x = torch.tensor([[0.3, -1.2]], **DOUBLE)
    inputs = [torch.tensor(0.7, **DOUBLE), torch.tensor([1.0, 2.0, 3.0], **DOUBLE)]
    residuals = template.residuals(x, inputs, {})
    assert residuals.shape == (1, 8)
    objective = template.objective(x, inputs, {})
    assert_close(residuals.square().sum(1, keepdim=True), objective)


@pytest.mark.parametrize(
    "other",
    [
        lambda x, w: x[0],
        lambda x, w: w * x[0] ** 2,
        lambda x, w: -ol.sum_squares(x),
        lambda x, w: x[0] ** 4,
    ],
)
def test_squares_and_something_else_are_no_sum_of_squares(other):
    def body(x=Variable("2"), w=Parameter()):
        return minimize((x[1] - x[0] ** 2) ** 2 + other(x, w))

    assert compiled(body).residuals is None


def test_what_is_maximized_is_no_sum_of_squares():
    def body(x=Variable("2", lower=-1, upper=1)):
        return maximize(ol.sum_squares(x))

    assert compiled(body).residuals is None


def test_bounds_are_those_of_all_attributes_and_the_start_lies_within():
    def body(
        x=Variable("2", nonneg=True, lower=torch.tensor([-1.0, 2.0])),
        y=Variable(upper=-1),
    ):
        return minimize(x[0] * x[1] * y)

    template = compiled(body)
    assert template.box.lower is not None and template.box.upper is not None
    assert template.box.lower.tolist() == [0.0, 2.0, -torch.inf]
    assert template.box.upper.tolist() == [torch.inf, torch.inf, -1.0]
    assert template.box.start.tolist() == [0.0, 2.0, -1.0]
    assert template.bound_names == ("x.lower", "x.lower", "y.upper")


def test_every_attribute_reads_the_multipliers_of_the_entries_it_bounds():
    def body(
        x=Variable("2", nonneg=True, lower=torch.tensor([-1.0, 2.0])),
        y=Variable(upper=-1),
    ):
        return minimize(x[0] * x[1] * y, free=x[0] <= y)

    duals = compiled(body).duals
    assert list(duals) == ["free", "x.nonneg", "x.lower", "y.upper"]
    found = Found(torch.zeros(1, 0), torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    read = {name: one(found).tolist() for name, one in duals.items()}
    assert read == {
        "free": [1.0], "x.nonneg": [[2.0, 0.0]], "x.lower": [[0.0, 3.0]],
        "y.upper": [4.0],
    }  # fmt: skip


def test_a_constraint_named_as_a_bound_is_not_taken_for_one():
    def body(x=Variable("2"), y=Variable(upper=3)):
        return minimize(x[0] * x[1] * y, x=ol.between(-1, x, 1))

    template = compiled(body)
    assert template.inequality_names == ("x.lower", "x.lower", "x.upper", "x.upper")
    assert template.bound_names == ("y.upper",)


def test_constraints_at_stages_follow_one_another():
    def body(x=State("2", lower=0), a=Parameter()):
        return minimize(
            ol.total(ol.prod(x)), begin=x.first == a, step=x.next == x**2, cap=x <= a
        )

    template = compiled(body, steps=2)
    assert template.unknowns.shapes == {"x": (3, 2)}
    assert template.equality_names[:2] == ("begin", "begin")
    assert template.equality_names[2] == "step at stage 0"
    assert len(template.equality_names) == 6 and len(template.inequality_names) == 6
    assert template.duals["step"].shape == (2, 2)
    assert template.duals["cap"].shape == template.duals["x.lower"].shape == (3, 2)
    x = torch.arange(6.0, **DOUBLE)[None]
    value = template.objective(x, [torch.tensor(1.0, **DOUBLE)], {})
    assert value.tolist() == [[0 * 1 + 2 * 3 + 4 * 5]]


@pytest.mark.parametrize(
    ("atom", "remedy"),
    [
        (ol.abs, "t >= e and t >= -e"),
        (lambda x: ol.norm(x, 1), "t >= e and t >= -e"),
        (ol.norm, "ol.sum_squares(e)"),
        (ol.max, "epigraph"),
        (ol.min, "hypograph"),
        (lambda x: ol.lambda_max(ol.diag(x)), "smooth functions"),
    ],
)
def test_kinks_are_named_with_their_remedy(atom, remedy):
    def body(x=Variable("2")):
        return minimize(x[0] * x[1], bound=ol.sum(atom(x)) == 1)

    with pytest.raises(NotConvex, match=r"it is not convex\n.*is not smooth") as found:
        compiled(body)
    assert remedy in str(found.value)


def test_kinks_of_parameters_do_no_harm():
    def body(x=Variable("2"), a=Parameter("2")):
        return minimize(x[0] * x[1] * ol.norm1(a), ol.sum_squares(x) <= ol.max(a))

    assert compiled(body).auxiliary_count == 0


def test_symmetric_variables_are_refused_with_the_remedy():
    def body(X=Variable("2 2", symmetric=True)):
        return minimize(X[0, 0] * X[1, 1])

    assert "(L + L.T) / 2" in roughness(traced(body))
