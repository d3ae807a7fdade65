"""Python's operators on expressions, with every kind of operand on either side."""

import operator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.signs import Sign
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import built, trace

VALUE = [0.5, -2.0, 3.0]
OPERANDS = {
    "number": 2.0,
    "integer": 2,
    "numpy number": np.float64(2.0),
    "numpy integer": np.int64(2),
    "list": VALUE,
    "array": np.array(VALUE),
    "float32 array": np.array(VALUE, dtype=np.float32),
    "tensor": torch.tensor(VALUE, dtype=torch.float64),
    "float32 tensor": torch.tensor(VALUE),
}
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]


def evaluated(expression, p):
    captured = {"learned": LEARNED}
    (value,) = Evaluator([expression])({"p": p}, captured)
    return value


LEARNED = nn.Parameter(torch.tensor(VALUE, dtype=torch.float64))


@pytest.mark.parametrize("operand", OPERANDS.values(), ids=OPERANDS)
@pytest.mark.parametrize("operate", OPERATORS, ids=lambda one: one.__name__)
def test_an_operand_stands_on_either_side(operate, operand):
    def body(x=Variable(3), p=Parameter(3)):
        return minimize(x @ x), (operate(operand, p), operate(p, operand))

    left, right = built(body)
    p = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    plain = torch.as_tensor(operand, dtype=torch.float64)
    assert_close(evaluated(left, p), operate(plain, p))
    assert_close(evaluated(right, p), operate(p, plain))


@pytest.mark.parametrize("operate", OPERATORS, ids=lambda one: one.__name__)
def test_a_learned_parameter_stands_on_either_side(operate):
    learned = LEARNED

    def body(x=Variable(3), p=Parameter(3)):
        return minimize(x @ x), (operate(learned, p), operate(p, learned))

    left, right = built(body)
    p = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert left.arguments[0].options["name"] == "learned"
    assert_close(evaluated(left, p), operate(learned, p))
    assert_close(evaluated(right, p), operate(p, learned))


@pytest.mark.parametrize(
    "make", [np.array, torch.tensor, lambda rows: rows], ids=["numpy", "torch", "list"]
)
def test_products_follow_matmul_on_both_sides(make):
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    matrix, vector = make(rows), make(rows[0])

    def body(x=Variable(3), p=Parameter(3)):
        products = (matrix @ p, vector @ p, p @ vector, p @ torch.tensor(rows).T)
        return minimize(x @ x), products

    p = torch.tensor([1.0, -1.0, 2.0])
    expected = torch.tensor(rows) @ p
    first, second, third, fourth = (evaluated(one, p) for one in built(body))
    assert_close(first, expected)
    assert_close(second, expected[0])
    assert_close(third, expected[0])
    assert_close(fourth, expected)


@given(
    left=st.sampled_from([(), (1,), (3,), (2, 1), (2, 3), (1, 3)]),
    right=st.sampled_from([(), (1,), (3,), (2, 1), (2, 3), (4,)]),
)
def test_shapes_broadcast_as_in_torch(left, right):
    def body(x=Variable(left), y=Variable(right)):
        return minimize(0 * x.sum()), ((x + y).shape, (x <= y).shape)

    try:
        expected = tuple(torch.broadcast_shapes(left, right))
    except RuntimeError:
        with pytest.raises(ShapeError, match="cannot add x"):
            built(body)
        return
    assert built(body) == (expected, expected)


def test_powers_take_numbers_and_a_number_to_a_variable_power_is_an_exponential():
    def body(x=Variable(3), p=Parameter(3, nonneg=True)):
        return minimize(x @ x), (p**2, p**0.5, 2**p, p**p, 2**x)

    p = torch.tensor([1.0, 2.0, 3.0])
    *found, exponential = built(body)
    for one, expected in zip(found, (p**2, p**0.5, 2**p, p**p), strict=True):
        assert_close(evaluated(one, p), expected)
    assert exponential.name == "exp"
    assert exponential.depends_on_variables


@pytest.mark.parametrize(
    ("sign", "text"),
    [
        (Sign.NONNEG, "p + q**2 + 1"),
        (Sign.NONPOS, "-p - 2 * q**2"),
        (Sign.ZERO, "0 * q"),
        (Sign.UNKNOWN, "p - 1"),
        (Sign.NONNEG, "abs(q) * p"),
        (Sign.NONPOS, "-(p.sum())"),
        (Sign.NONNEG, "p[1:]"),
    ],
)
def test_signs_are_inferred_from_declarations_and_constants(sign, text):
    def body(x=Variable(3), p=Parameter(3, nonneg=True), q=Parameter(3)):
        return minimize(x @ x), eval(text, {"p": p, "q": q, "abs": abs})

    assert built(body).sign is sign


def test_transposes_lengths_and_iteration_read_like_tensors():
    def body(x=Variable("2 3"), v=Variable(3)):
        assert len(x) == 2
        assert [row.shape for row in x] == [(3,), (3,)]
        assert x.T.shape == (3, 2)
        assert v.T is v
        assert (x.ndim, x.dim(), x.size(), x.numel()) == (2, 2, torch.Size([2, 3]), 6)
        assert x.dtype == torch.get_default_dtype()
        assert sum(v).shape == ()
        return minimize(v @ v + x.sum())

    assert trace(body).objective.shape == ()


def test_nested_lists_of_expressions_become_a_stack():
    def body(x=Variable(2), p=Parameter()):
        return minimize(x @ x, x == [p, 2 * p])

    right = trace(body).constraints[0].right
    assert_close(evaluated(right, torch.tensor(3.0)), torch.tensor([3.0, 6.0]))


def test_constants_are_copied_when_the_body_runs():
    array = np.ones(3)

    def body(x=Variable(3), p=Parameter(3)):
        return minimize(x @ x, x <= array * p)

    right = trace(body).constraints[0].right
    array[:] = 7.0
    assert_close(evaluated(right, torch.ones(3)), torch.ones(3))


def test_a_tensor_that_requires_grad_is_refused_not_frozen():
    frozen = torch.ones(2, requires_grad=True)

    def body(x=Variable(2)):
        return minimize(x @ x, x <= frozen)

    with pytest.raises(DeclarationError, match=r"nn\.Parameter to learn it"):
        trace(body)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (None, "did a function forget to return"),
        ("two", "no number, array or tensor"),
        (nn.Linear(2, 2), r"call it, as in net\(x\)"),
        (torch.sin, r"call it, as in sin\(x\)"),
        (float("nan"), "NaN"),
        (np.array([np.nan, 1.0]), "NaN"),
        (Variable(2), "declare it in the signature"),
        (torch.ones(2, dtype=torch.complex64), "complex"),
    ],
)
def test_what_is_no_term_is_refused_with_a_remedy(term, words):
    def body(x=Variable(2)):
        return minimize(x @ x, x <= term)

    with pytest.raises(DeclarationError, match=words):
        trace(body)
