"""Fields: dimensions, attributes, and what a signature may declare."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.dimensions import Dimension, parse_dimensions
from optlayers.modeling.field_kinds import Control, Parameter, State, Time, Variable
from optlayers.modeling.fields import RESERVED, Role
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import trace


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ((), ""),
        ("", ""),
        ("n", "n"),
        ("k n", "k n"),
        ("T+1 n", "T+1 n"),
        ("T + 1  n", "T+1 n"),
        ("T-1", "T-1"),
        ("2*n", "2*n"),
        ("2 3", "2 3"),
        (3, "3"),
        ((2, "n"), "2 n"),
        ((np.int64(2),), "2"),
    ],
)
def test_dimensions_are_read_as_they_are_written(declared, text):
    assert " ".join(str(one) for one in parse_dimensions(declared)) == text


@pytest.mark.parametrize("declared", ["n!", "1.5", 1.5, -1, True, None, "n/2", "0*n"])
def test_what_is_no_dimension_is_refused(declared):
    with pytest.raises(DeclarationError, match='"T\\+1 n"'):
        parse_dimensions(declared)


@given(factor=st.integers(1, 4), offset=st.integers(-3, 3), size=st.integers(0, 50))
def test_a_dimension_solves_for_the_size_it_was_made_of(factor, offset, size):
    dimension = Dimension("n", offset, factor)
    assert dimension.solve(dimension.size({"n": size})) == size


def test_a_dimension_that_no_size_makes_has_no_solution():
    assert Dimension("n", 1).solve(0) is None
    assert Dimension("n", 0, 2).solve(3) is None


@pytest.mark.parametrize(
    ("declare_wrongly", "words"),
    [
        (lambda: Variable("n", nonneg=True, nonpos=True), "drop one"),
        (lambda: Variable("n k", psd=True), "square matrix"),
        (lambda: Parameter("n", symmetric=True), "square matrix"),
        (lambda: Variable("n", lower=1, upper=0), "lower is above upper"),
        (lambda: Variable("n", upper="big"), "neither number nor array"),
        (lambda: Variable("n", lower=Variable()), "neither number nor array"),
        (lambda: Variable("2", lower=(0, -np.inf)), "not finite everywhere"),
        (lambda: Variable("2", start=np.nan), "not finite everywhere"),
    ],
)
def test_attributes_that_make_no_sense_are_refused_where_they_stand(
    declare_wrongly, words
):
    with pytest.raises(DeclarationError, match=words) as caught:
        declare_wrongly()
    assert str(caught.value).startswith("test_fields.py:")


def test_a_field_reads_as_it_was_declared():
    assert Variable("n", nonneg=True).text == 'Variable("n", nonneg=True)'
    assert Control("m", lower=-1, upper=1).text == 'Control("m", lower=-1, upper=1)'
    assert Variable("2", start=(0.5, 1)).text == 'Variable("2", start=(0.5, 1))'
    assert State().text == "State()"
    assert Time().text == "Time()"


def test_infinite_bounds_are_no_bounds():
    field = Variable("2", lower=-np.inf, upper=(np.inf, np.inf))
    assert (field.lower, field.upper) == (None, None)


def test_bound_fields_carry_shapes_knots_and_attributes():
    def body(
        x=State("n", lower=(0, 1), doc="where it is"),
        u=Control("m", nonneg=True),
        q=Parameter("T+1 n", nonneg=True),
    ):
        return minimize(x.last @ x.last + u.first.sum())

    fields = trace(body, 3, n=2, m=1, T=5).fields
    assert list(fields) == ["x", "u", "q"]
    x, u, q = fields.values()
    assert (x.role, x.shape, x.knots, x.doc) == (Role.STATE, (2,), 4, "where it is")
    assert (u.role, u.shape, u.knots, u.nonneg) == (Role.CONTROL, (1,), 3, True)
    assert (q.role, q.shape, q.knots, q.nonneg) == (Role.PARAMETER, (6, 2), None, True)
    assert torch.equal(x.lower, torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_attributes_of_variables_are_named_constraints_after_the_users():
    def body(
        x=Variable("2", nonneg=True, upper=3),
        y=Variable("2", nonpos=True, lower=(-1, -2)),
        p=Parameter("2", nonneg=True),
    ):
        return minimize(x @ p, sum=x + y == p)

    constraints = trace(body).constraints
    names = [one.name for one in constraints]
    assert names == ["sum", "x.nonneg", "x.upper", "y.nonpos", "y.lower"]
    nonneg, upper, nonpos, lower = constraints[1:]
    assert (nonneg.left.name, nonneg.right.name) == ("constant", "field")
    assert (upper.left.name, upper.right.name) == ("field", "constant")
    assert (nonpos.left.name, nonpos.right.name) == ("field", "constant")
    assert (lower.left.name, lower.right.name) == ("constant", "field")
    assert all(one.shape == (2,) and one.relation == "<=" for one in constraints[1:])


def test_a_bound_that_does_not_fit_the_sizes_is_refused():
    def body(x=Variable("n", upper=(1, 2))):
        return minimize(x.sum())

    with pytest.raises(ShapeError, match=r"upper has shape \[2\], x has \[3\]"):
        trace(body, n=3)


def test_a_first_guess_may_be_a_whole_trajectory():
    def body(x=State("2", start=np.zeros((4, 2)))):
        return minimize(x.last.sum())

    assert trace(body, 3).fields["x"].start.shape == (4, 2)
    with pytest.raises(ShapeError, match="start has shape"):
        trace(body, 5)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names_are_refused_for_fields_and_dimensions(name):
    namespace = {"Variable": Variable, "Parameter": Parameter}
    exec(f"def field({name}=Variable()): ...", namespace)
    exec(f'def size(x=Variable("{name}")): ...', namespace)
    for function in (namespace["field"], namespace["size"]):
        with pytest.raises(DeclarationError, match=rf"{name}.*reserved name"):
            declare(function)


def test_a_dimension_named_like_a_field_is_refused():
    def body(x=Variable("n"), n=Parameter()):
        return minimize(x @ x)

    with pytest.raises(DeclarationError, match="has the name of a field"):
        declare(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda x: minimize(x), "declares nothing"),
        (lambda x=3: minimize(x), "is no field"),
        (lambda x=Variable: minimize(x), r"not called; write x=Variable\(\)"),
        (lambda *x: minimize(x), "cannot be a field"),
        (lambda p=Parameter(): minimize(p), "nothing to solve for"),
        (lambda: minimize(0), "nothing to solve for"),
    ],
)
def test_a_signature_of_anything_but_fields_is_refused(body, words):
    with pytest.raises(DeclarationError, match=words):
        declare(body)
