"""What is not convex says so: which subexpression, where, and what to write instead."""

import pytest
import torch

from optlayers.compile.convex import compile_convex, explain_not_convex
from optlayers.compile.explain import sentence_on_convexity
from optlayers.errors import NotConvex
from optlayers.modeling.language import in_cone
from optlayers.programs.cones import Cones
from tests.compile.declarations import CASES
from tests.compile.words import (
    Parameter,
    Variable,
    declared,
    maximize,
    minimize,
    ol,
)


def product_of_variables(x=Variable("n")):
    return minimize(x[0] * x[1] + ol.sum_squares(x))


def unsigned_weight(x=Variable("n"), w=Parameter()):
    return minimize(w * ol.sum_squares(x))


def unsigned_norm(x=Variable("n"), w=Parameter("n")):
    return minimize(ol.sum_squares(x), ball=(w[0] + 1) * ol.norm(x) <= 1)


def root_of_squares(x=Variable("n"), y=Parameter("n")):
    return minimize(ol.sqrt(ol.sum_squares(x - y)))


def equal_norm(x=Variable("n")):
    return minimize(ol.sum(x), sphere=ol.norm(x) == 1)


def norm_from_below(x=Variable("n")):
    return minimize(ol.sum(x), outside=ol.norm(x) >= 1)


def root_from_above(x=Variable("n", nonneg=True)):
    return minimize(ol.sum(x), low=ol.sqrt(x[0]) <= 1)


def maximized_norm(x=Variable("n")):
    return maximize(ol.norm(x))


def minimized_root(x=Variable("n", nonneg=True)):
    return minimize(ol.sum(ol.sqrt(x)))


def unknown_function(x=Variable("n")):
    return minimize(torch.sin(x).sum())


def division(x=Variable("n"), a=Parameter("n", nonneg=True)):
    return minimize(ol.sum(a / x))


def unsigned_cube(x=Variable("n")):
    return minimize(ol.sum(x**3))


def composition(x=Variable("n")):
    return minimize(ol.sum(ol.square(x**2 - 1)))


def mixed_sum(x=Variable("n", nonneg=True)):
    return minimize(ol.norm(x) + ol.sqrt(x[0]))


def indefinite_form(x=Variable("n"), Q=Parameter("n n")):
    return minimize(ol.quad_form(x, Q))


def module_of_variables(x=Variable("n")):
    return minimize(NET(x).sum())


NET = torch.nn.Linear(3, 1)


def convex_matrix(X=Variable("n n"), A=Parameter("n n")):
    return minimize(ol.trace(X), lmi=ol.abs(X) << A)


def convex_triple(x=Variable("n")):
    return minimize(ol.sum(x), limit=in_cone(ol.exp(x[:3]), "exp"))


def bounded_below(x=Variable("n")):
    return minimize(ol.sum(x), limit=in_cone(ol.square(x), "nonneg"))


EXPECTED = {
    convex_matrix: [
        "in constraint lmi is convex",
        "only affine expressions can be compared with <<",
        "ol.bmat",
    ],
    convex_triple: ["in constraint limit", "only affine expressions can lie in a cone"],
    bounded_below: ["in constraint limit is convex", "can lie in a cone"],
    product_of_variables: ["`x[0] * x[1]`", "product of two expressions", "square"],
    unsigned_weight: ["by `w`, whose sign is unknown", "ol.nonneg(w)"],
    unsigned_norm: ["by `w[0] + 1`, whose sign is unknown", "ol.nonneg(w[0] + 1)"],
    root_of_squares: ["root of a convex sum of squares", "Write ol.norm(x - y)"],
    equal_norm: ["constraint sphere", "only affine expressions can be equal", "<="],
    norm_from_below: ["constraint outside is bounded below", "it is convex"],
    root_from_above: ["constraint low is bounded above", "it is concave"],
    maximized_norm: ["is maximized, but it is convex"],
    minimized_root: ["is minimized, but it is concave"],
    unknown_function: ["`torch.sin(x)`", "no convexity is known"],
    division: ["`a / x` divides by an expression", "ol.inv_pos(x)"],
    unsigned_cube: ["`x**3`", "declare it nonneg"],
    composition: ["square, which is convex", "`x**2 - 1`, which is convex"],
    mixed_sum: ["adds a convex and a concave term"],
    indefinite_form: ["`Q` is positive semidefinite", "psd=True", "ol.psd_matrix(Q)"],
    module_of_variables: ["calls a module on variables"],
}


@pytest.mark.parametrize("function", EXPECTED, ids=lambda one: one.__name__)
def test_the_culprit_is_named_with_its_place(function):
    declaration = declared(function, n=3)
    text = explain_not_convex(declaration)
    for part in EXPECTED[function]:
        assert part in text
    with pytest.raises(NotConvex) as caught:
        compile_convex(declaration)
    assert str(caught.value) == text


def test_operators_are_placed_by_file_and_line():
    text = explain_not_convex(declared(product_of_variables, n=3))
    line = product_of_variables.__code__.co_firstlineno + 1
    assert text.startswith(f"test_explain.py:{line}: ")


@pytest.mark.parametrize("name", CASES)
def test_what_is_convex_has_nothing_to_explain(name):
    case = CASES[name]
    assert (
        explain_not_convex(declared(case.declaration, case.steps, **case.sizes)) == ""
    )


@pytest.mark.parametrize(
    ("cones", "has_quadratic", "expected"),
    [
        (Cones(exp=1), False, "an exponential cone program of 3 variables"),
        (Cones(exp=1), True, "a quadratic exponential cone program of"),
        (Cones(psd=(2,)), False, "a semidefinite program of"),
        (Cones(nonneg=1), False, "a linear program of"),
    ],
)
def test_a_program_has_its_kind_and_the_article_of_it(cones, has_quadratic, expected):
    declaration = declared(mixed_sum, n=3)
    text = sentence_on_convexity(declaration, cones, 3, has_quadratic)
    assert f"disciplined convex programming: {expected}" in text


def indefinite_quad_form(x=Variable("2")):
    return minimize(ol.quad_form(x, torch.tensor([[1.0, 2.0], [2.0, 1.0]])))


def test_a_constant_indefinite_matrix_is_told_by_its_lowest_eigenvalue():
    with pytest.raises(NotConvex, match=r"has the negative eigenvalue -1\."):
        compile_convex(declared(indefinite_quad_form))
