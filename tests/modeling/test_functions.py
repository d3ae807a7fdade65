"""The public functions: cvxpy's signatures, nodes on expressions, values on tensors."""

import inspect

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch.testing import assert_close

import optlayers.modeling.functions as ol
from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.expressions import Expression
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.verbs import minimize
from tests.modeling.atom_cases import CASES
from tests.modeling.traced import built, value_of

OPERATORS = {"add", "negate", "divide"}
LISTS = {"hstack", "vstack", "stack", "concatenate"}
TORCHS = {"sin", "cos", "tan", "tanh"}
# numpy's names, aliases, signals, and convolve, of which cvxpy's takes anything.
NOT_CVXPYS = TORCHS | {
    "triu", "tril", "expand_dims", "norm_nuc", "total_variation", "convolve",
    "hold", "interpolate",
}  # fmt: skip

functions = [case for case in CASES if case.name not in OPERATORS | {"perspective"}]


def call(case, arguments):
    function = getattr(ol, case.name)
    if case.name == "einsum":
        return function(case.options["subscripts"], *arguments)
    if case.name in LISTS:
        return function(list(arguments), **case.options)
    return function(*arguments, **case.options)


def test_every_atom_but_the_operators_has_a_function():
    assert set(ATOMS) - set(ol.__all__) == OPERATORS


@pytest.mark.parametrize("name", sorted(set(ol.__all__) - NOT_CVXPYS))
def test_arguments_are_cvxpys_by_name_order_and_default(name):
    def arguments(function):
        return [
            (one.name, one.kind, one.default)
            for one in inspect.signature(function).parameters.values()
        ]

    ours, theirs = arguments(getattr(ol, name)), arguments(getattr(cp, name))
    if name in ("reshape", "vec"):
        # cvxpy warns that its default order will change; ours must be said.
        *ours, (order, _, ours_default) = ours
        *theirs, (_, _, theirs_default) = theirs
        assert order == "order"
        assert ours_default is inspect.Parameter.empty
        assert theirs_default is None
    assert ours == theirs


@pytest.mark.parametrize("case", functions, ids=str)
def test_on_tensors_a_function_is_evaluated(case, generator):
    tensors = [torch.tensor(one) for one in case.point(generator)]
    value = call(case, tensors)
    assert isinstance(value, torch.Tensor)
    assert_close(value, ATOMS[case.name].torch_function(*tensors, **case.options))


@pytest.mark.parametrize("case", functions, ids=str)
def test_on_expressions_a_function_builds_a_node_of_that_value(case, generator):
    point = case.point(generator)
    names = [f"p{position}" for position in range(len(point))]

    def body(x, **fields):
        return minimize(x**2), call(case, [fields[name] for name in names])

    fields = {"x": Variable()} | {
        name: Parameter(shape) for name, shape in zip(names, case.shapes, strict=True)
    }
    body.__signature__ = inspect.Signature(
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=one)
        for name, one in fields.items()
    )
    node = built(body)
    assert isinstance(node, Expression)
    value = value_of(node, **dict(zip(names, point, strict=True)))
    assert tuple(value.shape) == node.shape
    assert_close(value, call(case, [torch.tensor(one) for one in point]))


def test_numbers_lists_and_arrays_are_tensors_too():
    assert_close(ol.norm([3.0, 4.0]), torch.tensor(5.0))
    assert_close(ol.sum(np.ones(3)), torch.tensor(3.0, dtype=torch.float64))
    assert_close(ol.maximum(1, torch.zeros(2)), torch.ones(2))
    assert_close(ol.abs(-2), torch.tensor(2.0))


def test_gradients_flow_through_a_function_of_tensors():
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    ol.norm(x).backward()
    assert_close(x.grad, torch.tensor([0.6, 0.8]))


def test_a_learned_parameter_inside_a_declaration_is_a_node():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))

    def body(x=Variable("2")):
        return minimize(ol.sum_squares(x)), ol.norm1(weight)

    node = built(body)
    assert isinstance(node, Expression)
    assert_close(ol.norm1(weight).item(), 3.0)


def test_blocks_make_a_matrix():
    A, B = torch.ones(2, 2), torch.zeros(2, 1)
    matrix = ol.bmat([[A, B], [B.T, 3.0 * torch.ones(1, 1)]])
    expected = cp.bmat(
        [[np.ones((2, 2)), np.zeros((2, 1))], [np.zeros((1, 2)), np.full((1, 1), 3.0)]]
    )
    assert_close(matrix.double(), torch.tensor(expected.value))


def test_a_power_of_a_parameter_to_a_parameter_is_evaluated():
    def body(x=Variable(), a=Parameter("2"), p=Parameter()):
        return minimize(x**2), ol.power(a, p)

    assert_close(
        value_of(built(body), a=[2.0, 3.0], p=2.0).double(),
        torch.tensor([4.0, 9.0], dtype=torch.float64),
    )


def test_shapes_that_do_not_fit_are_named_with_the_function():
    with pytest.raises(ShapeError, match=r"ol.quad_form: needs a vector .* \[3\]"):
        ol.quad_form(torch.ones(3), torch.ones(2, 2))


def test_one_term_where_a_list_is_meant_is_refused():
    with pytest.raises(DeclarationError, match=r"ol.hstack\(\[x, y\]\), not one term"):
        ol.hstack(torch.ones(3))
    with pytest.raises(DeclarationError, match="not an empty list"):
        ol.vstack([])


def test_smooth_functions_are_torchs():
    x = torch.tensor([0.3, -0.7])
    for name in TORCHS:
        assert_close(getattr(ol, name)(x), getattr(torch, name)(x))
    assert_close(ol.cos(0), torch.tensor(1.0))


def test_axes_are_moved_as_numpy_moves_them():
    cube = torch.arange(6.0).reshape(1, 2, 3)
    assert_close(ol.swapaxes(cube, 0, -1), cube.swapaxes(0, -1))
    assert_close(ol.moveaxis(cube, 0, 2), cube.movedim(0, 2))
    assert_close(ol.moveaxis(cube, (0, 1), (2, 0)), cube.movedim((0, 1), (2, 0)))
    assert_close(ol.permute_dims(cube, (2, 0, 1)), cube.permute(2, 0, 1))
    assert_close(ol.squeeze(cube), cube[0])
    assert_close(ol.squeeze(cube, 0), cube[0])
    assert_close(ol.expand_dims(cube, -1), cube.unsqueeze(-1))
    with pytest.raises(ShapeError, match=r"axis 1 of \[1, 2, 3\] is not of size 1"):
        ol.squeeze(cube, 1)


def test_columns_are_convolved_to_a_column():
    left, right = torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 4.0])
    assert_close(ol.conv(left, right), torch.tensor([[3.0], [10.0], [8.0]]))
    assert_close(ol.conv(left[:, 0], right), torch.tensor([3.0, 10.0, 8.0]))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, s: ol.perspective(ol.exp(x), s), "no perspective that is known"),
        (lambda x, s: ol.perspective(x**2, x[0]), "needs a nonnegative s"),
        (lambda x, s: ol.perspective(1.0, s), "needs a function of the variables"),
        (lambda x, s: ol.perspective(x**2, s, 0.0), "takes no f_recession"),
    ],
)
def test_perspectives_that_have_no_meaning_are_refused(function, words):
    def body(x=Variable("2"), s=Variable(nonneg=True)):
        return minimize(ol.sum(function(x, s)))

    with pytest.raises(DeclarationError, match=words):
        built(body)
