"""A sign that is missing warns once, where the problem was declared."""

import warnings

import pytest

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import NotConvex, SignWarning, SolverRefused
from optlayers.interfaces import Kind


def declare(**options):
    @ol.problem(**options)
    def shrink(x=Variable("n"), y=Parameter("n"), w=Parameter()):
        return minimize(ol.sum_squares(x - y) + w * ol.norm(x, 1))

    return shrink


def test_it_warns_once_per_problem_and_not_per_size_or_call():
    shrink = declare()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert shrink.layer(n=2).kind is Kind.MINIMIZE
        assert shrink.layer(n=3).kind is Kind.MINIMIZE
        with pytest.raises(SolverRefused):
            shrink(y=[1.0, 2.0], w=1.0)
    (one,) = caught
    assert one.filename == __file__
    assert one.lineno == shrink.declared.function.__code__.co_firstlineno + 2
    assert "would be with that sign" in str(one.message)
    assert "w=Parameter(nonneg=True), or write ol.nonneg(w)" in str(one.message)


def test_every_problem_warns_for_itself():
    for _ in range(2):
        with pytest.warns(SignWarning):
            declare().layer(n=2)


def test_where_convexity_is_demanded_it_is_an_error_already():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotConvex, match="sign is unknown"):
            declare(convex=True).layer(n=2)


def test_what_no_sign_would_cure_does_not_warn():
    @ol.problem
    def saddle(x=Variable("2"), w=Parameter()):
        return minimize(w * x[0] * x[1])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert saddle.layer().kind is Kind.MINIMIZE
