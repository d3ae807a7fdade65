"""A weight whose sign is all that is missing is found, and only if its sign cures."""

import pytest

from optlayers.compile.convex import compile_convex
from optlayers.compile.missing_signs import missing_signs
from optlayers.errors import NotConvex
from tests.compile.words import (
    Control,
    Parameter,
    State,
    Variable,
    declared,
    maximize,
    minimize,
    ol,
)


def scaled_squares(x=Variable("n"), w=Parameter()):
    return minimize(w * ol.sum_squares(x))


def staged_weights(x=State("n"), u=Control("n"), q=Parameter("n"), r=Parameter("n")):
    return minimize(
        ol.total(q @ x**2 + ol.nonneg(r) @ u**2),
        start=x.first == 1,
        dynamics=x.next == x + u,
    )


def weighted_sizes(x=Variable("n"), w=Parameter("n")):
    return minimize(w @ ol.abs(x))


def scaled_by_one_entry(x=Variable("n"), w=Parameter("n")):
    return minimize(2 * w[0] * ol.norm(x))


def in_a_limit(x=Variable("n"), c=Parameter("n"), w=Parameter()):
    return minimize(c @ x, ball=ol.norm(x) / w <= 1)


def under_another_function(x=Variable("n"), w=Parameter()):
    return minimize(ol.sum(x), ball=ol.square(w * ol.norm(x)) <= 1)


def of_a_difference(x=Variable("n"), a=Parameter(), b=Parameter()):
    return minimize((a - b) * ol.norm(x))


def maximized(x=Variable("n"), w=Parameter()):
    return maximize(w * ol.norm(x), box=ol.norm(x) <= 1)


def of_either_sign(x=Variable("n"), a=Parameter(), b=Parameter()):
    return minimize(a * ol.norm(x) - b * ol.sum_squares(x))


def quadratic_form(x=Variable("n"), Q=Parameter("n n")):
    return minimize(ol.quad_form(x, Q) + ol.sum(x))


def one_of_two(x=Variable("n"), a=Parameter(), b=Parameter()):
    return minimize(a * ol.norm(x) + (b * ol.sum(x)) ** 2)


CURED = {
    scaled_squares: [("w", "nonneg")],
    staged_weights: [("q", "nonneg")],
    weighted_sizes: [("w", "nonneg")],
    scaled_by_one_entry: [("w", "nonneg")],
    in_a_limit: [("w", "nonneg")],
    under_another_function: [("w", "nonneg")],
    of_a_difference: [("a - b", "nonneg")],
    maximized: [("w", "nonpos")],
    of_either_sign: [("a", "nonneg"), ("b", "nonpos")],
    quadratic_form: [("Q", "psd")],
    one_of_two: [("a", "nonneg")],
}


def sizes_of(function):
    return {"steps": 3, "n": 3} if function is staged_weights else {"n": 3}


@pytest.mark.parametrize("function", CURED, ids=lambda one: one.__name__)
def test_the_weight_and_the_sign_that_cures_are_found(function):
    found = missing_signs(declared(function, **sizes_of(function)))
    assert [
        (one.sentence.split("needs `")[1].split("`")[0], one.attribute) for one in found
    ] == CURED[function]


def signed_squares(x=Variable("n"), w=Parameter(nonneg=True)):
    return minimize(w * ol.sum_squares(x))


def signed_stages(
    x=State("n"), u=Control("n"), q=Parameter("n", nonneg=True), r=Parameter("n")
):
    return staged_weights(x, u, q, r)


def signed_entry(x=Variable("n"), w=Parameter("n", nonneg=True)):
    return scaled_by_one_entry(x, w)


def signed_limit(x=Variable("n"), c=Parameter("n"), w=Parameter(nonneg=True)):
    return in_a_limit(x, c, w)


def signed_inner(x=Variable("n"), w=Parameter(nonneg=True)):
    return under_another_function(x, w)


def signed_difference(x=Variable("n"), a=Parameter(), b=Parameter()):
    return minimize(ol.nonneg(a - b) * ol.norm(x))


def signed_maximum(x=Variable("n"), w=Parameter(nonpos=True)):
    return maximized(x, w)


FOLLOWED = {
    scaled_squares: signed_squares,
    staged_weights: signed_stages,
    scaled_by_one_entry: signed_entry,
    in_a_limit: signed_limit,
    under_another_function: signed_inner,
    of_a_difference: signed_difference,
    maximized: signed_maximum,
}


@pytest.mark.parametrize("function", FOLLOWED, ids=lambda one: one.__name__)
def test_whoever_follows_the_advice_has_a_convex_problem(function):
    with pytest.raises(NotConvex):
        compile_convex(declared(function, **sizes_of(function)))
    compile_convex(declared(FOLLOWED[function], **sizes_of(function)))


def product_of_variables(x=Variable("n"), w=Parameter()):
    return minimize(w * x[0] * x[1])


def on_both_sides(x=Variable("n"), w=Parameter()):
    return minimize(w * ol.norm(x) - w * ol.sum_squares(x))


def norm_from_below(x=Variable("n"), w=Parameter()):
    return minimize(w * ol.norm(x), ball=ol.norm(x) >= 1)


def weight_of_an_affine_term(x=Variable("n"), w=Parameter()):
    return minimize(w * ol.sum(x) - ol.sum_squares(x))


@pytest.mark.parametrize(
    "function",
    [product_of_variables, on_both_sides, norm_from_below, weight_of_an_affine_term],
    ids=lambda one: one.__name__,
)
def test_where_no_sign_cures_nothing_is_said(function):
    with pytest.raises(NotConvex):
        compile_convex(declared(function, n=3))
    assert missing_signs(declared(function, n=3)) == ()


def test_the_sentence_names_place_expression_and_both_remedies():
    (one,) = missing_signs(declared(weighted_sizes, n=3))
    line = weighted_sizes.__code__.co_firstlineno + 1
    assert one.sentence == (
        f"test_missing_signs.py:{line}: `w @ ol.abs(x)` needs `w` to be nonnegative, "
        'which is not known. Declare w=Parameter("n", nonneg=True), or write '
        "ol.nonneg(w)."
    )


def test_an_expression_is_promised_where_no_field_alone_could_be():
    (one,) = missing_signs(declared(of_a_difference, n=3))
    assert one.sentence.endswith("which is not known. Write ol.nonneg(a - b).")


def test_a_loop_of_a_thousand_terms_is_walked():
    def looped(x=Variable("n"), w=Parameter()):
        total = w * ol.norm(x)
        for _ in range(2000):
            total = total + x[0]
        return minimize(total)

    (one,) = missing_signs(declared(looped, n=2))
    assert one.attribute == "nonneg"
