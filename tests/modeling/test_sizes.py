"""Sizes are read off the trailing axes of parameters, and contradictions explained."""

import pytest

from optlayers.errors import DeclarationError, ShapeError, UnknownName
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import minimize


@pytest.fixture
def problem():
    @declare
    def project(
        x=Variable("n"),
        A=Parameter("k n"),
        b=Parameter("k"),
        path=Parameter("T+1 2"),
    ):
        return minimize(x @ x, A @ x <= b)

    return project


def test_trailing_axes_tell_sizes_whatever_the_batch(problem):
    for batch in ((), (7,), (5, 1)):
        shapes = {"A": (*batch, 3, 4), "b": (3,), "path": (*batch, 21, 2)}
        assert problem.infer_sizes(shapes, {}) == {"k": 3, "n": 4, "T": 20}


def test_known_sizes_stay_and_unknown_ones_stay_unknown(problem):
    assert problem.infer_sizes({"b": (3,)}, {"n": 4}) == {"n": 4, "k": 3}


def test_contradictions_name_who_said_what(problem):
    with pytest.raises(ShapeError) as caught:
        problem.infer_sizes({"A": (3, 4), "b": (9, 2)}, {})
    assert str(caught.value) == (
        'project: b was declared Parameter("k"), given [9, 2], so k=2, but A '
        '(Parameter("k n"), given [3, 4]) makes it 3.\n  Its last axis must be [3]; '
        "batch dimensions come first."
    )
    with pytest.raises(ShapeError, match=r"n=4, but n=5 was given"):
        problem.infer_sizes({"A": (3, 4)}, {"n": 5})


def test_too_few_axes_name_the_axes_that_are_needed(problem):
    with pytest.raises(ShapeError, match=r"at least 2 dimensions, \[\*batch, k, n\]"):
        problem.infer_sizes({"A": (4,)}, {})


def test_numbers_in_the_declaration_must_be_met(problem):
    with pytest.raises(ShapeError, match=r"last 2 axes must be \[5, 2\]"):
        problem.infer_sizes({"path": (5, 3)}, {})


def test_lengths_that_no_size_makes_are_refused(problem):
    with pytest.raises(ShapeError, match=r"no size T makes T\+1 equal 0"):
        problem.infer_sizes({"path": (0, 2)}, {})


def test_tracing_needs_every_size_and_only_sizes(problem):
    with pytest.raises(
        DeclarationError, match=r"size of k, T is not known.*layer\(k=3"
    ):
        problem.trace({"n": 3})
    with pytest.raises(UnknownName, match="no dimension 'm'; there are n, k, T"):
        problem.trace({"m": 3})
    with pytest.raises(DeclarationError, match="n=-1 is no size"):
        problem.trace({"n": -1, "k": 1, "T": 1})
