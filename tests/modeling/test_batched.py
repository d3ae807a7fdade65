"""Batches evaluated at once: the values and derivatives of torch.func.vmap."""

from itertools import product

import hypothesis.extra.numpy as shaped
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.testing import assert_close

from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.atoms.batch_rules import BATCH_RULES
from optlayers.modeling.batch_calls import acts_on_last_axes
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.lines import AtomLine, Operands, Scope
from optlayers.modeling.verbs import minimize
from tests.modeling.atom_cases import CASES, Case
from tests.modeling.traced import built

ROWS = 3
DOUBLE = {"dtype": torch.float64}
SCOPE = Scope({}, {}, torch.zeros((), **DOUBLE))


def choices(count):
    """All ways in which some of the operands are batched, at least one."""
    return [one for one in product([True, False], repeat=count) if any(one)]


def slopes(value, leaves):
    """The gradient of a sum of entries with weights that tell them apart."""
    weights = torch.linspace(1, 2, max(value.numel(), 2), **DOUBLE)[: value.numel()]
    total = (value * weights.reshape(value.shape)).sum()
    return torch.autograd.grad(
        total, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def agree(ours, by_rows, leaves):
    """Same values and first derivatives; both round, in another order."""
    assert_close(ours, by_rows)
    if by_rows.requires_grad:
        assert_close(slopes(ours, leaves), slopes(by_rows, leaves))


def agree_with_vmap(name, options, points, batched):
    """A line of one atom against the mapped function of one sample.

    Args:
        points: arrays [ROWS, *shape]; the first row is that of a shared operand.
    """
    tensors = [
        torch.tensor(one if own else one[0], **DOUBLE, requires_grad=True)
        for one, own in zip(points, batched, strict=True)
    ]
    shapes = tuple(one.shape[1:] for one in points)
    line = line_of(name, options, len(points))
    shape = shape_of(line, shapes)
    ours = line.for_batch(Operands(shapes, batched), shape)(SCOPE, tensors)
    axes = tuple(0 if own else None for own in batched)
    by_rows = torch.func.vmap(lambda *one: line.run(SCOPE, one), axes)(*tensors)
    assert ours.shape == (ROWS, *shape)
    agree(ours, by_rows, tensors)


def agree_in_all_ways(case, generator):
    """`agree_with_vmap`, whichever of the operands are batched."""
    points = [case.point(generator) for _ in range(ROWS)]
    columns = [np.stack(column) for column in zip(*points, strict=True)]
    for batched in choices(len(columns)):
        agree_with_vmap(case.name, case.options, columns, batched)


def line_of(name, options, count):
    if name == "index":
        return AtomLine(name, lambda x, index: x[index], options, (0,))
    return AtomLine(name, ATOMS[name].torch_function, options, tuple(range(count)))


def shape_of(line, shapes):
    if line.name == "index":
        return tuple(torch.empty(shapes[0])[line.options["index"]].shape)
    return ATOMS[line.name].shape(shapes, line.options)


# ---- atoms -----------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_atom_of_a_batch_is_the_mapped_atom(case, generator):
    agree_in_all_ways(case, generator)


MORE = [
    Case("matmul", ("any 2 3 4", "any 4")),
    Case("matmul", ("any 4", "any 2 4 3")),
    Case("matmul", ("any 3 4", "any 2 4 3")),
    Case("matmul", ("any 2 1 3 4", "any 5 4 3")),
    Case("sum", ("any",)),
    Case("sum_largest", ("any",), {"k": 1}),
    Case("pnorm", ("any",), {"p": 3, "keepdims": True}),
    Case("mean", ("any 2 3",), {"keepdims": True}),
    Case("norm", ("any 2 3 2",), {"axis": -2}),
    Case("transpose", ("any 2 3 4",), {"axes": (-1, 0, 1)}),
    Case("transpose", ("any",)),
    Case("concatenate", ("any 2", "any"), {"axis": None}),
    Case("concatenate", ("any 2 3", "any 2 3"), {"axis": -2}),
    Case("stack", ("any", "any")),
    Case("vstack", ("any", "any 1", "any 2 1")),
    Case("hstack", ("any 2 3", "any 2 1", "any 2 2")),
    Case("vdot", ("any", "any 1")),
    Case("outer", ("any", "any 3")),
    Case("einsum", ("any 2 3", "any 3"), {"subscripts": "ij, j"}),
    Case("einsum", ("any 2 3", "any 3 2"), {"subscripts": "i...,...i->..."}),
    Case("reshape", ("any",), {"shape": (1, 1), "order": "F"}),
    Case("reshape", ("any 1",), {"shape": ()}),
    Case("cumsum", ("any 2 3 2",), {"axis": -2}),
    Case("diag", ("any 3 3",), {"k": -1}),
]


@pytest.mark.parametrize("case", MORE, ids=str)
def test_rules_hold_for_scalars_and_many_axes(case, generator):
    agree_in_all_ways(case, generator)


def test_every_rule_is_of_an_atom_or_a_structural_node():
    structural = {"index", "pattern", "output"}
    assert set(BATCH_RULES) - structural <= set(ATOMS)
    assert structural <= set(BATCH_RULES)


@given(shaped.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
def test_entry_by_entry_all_shapes_broadcast(found):
    points = [np.random.default_rng(0).normal(size=(ROWS, *s)) for s in found[0]]
    for batched in choices(2):
        agree_with_vmap("multiply", {}, points, batched)


@given(
    shaped.mutually_broadcastable_shapes(
        signature=np.matmul.signature, max_dims=2, max_side=3
    )
)
def test_products_of_all_shapes_broadcast(found):
    points = [np.random.default_rng(0).normal(size=(ROWS, *s)) for s in found[0]]
    for batched in choices(2):
        agree_with_vmap("matmul", {}, points, batched)


def entries(size):
    one = st.integers(-size, size - 1)
    lists = st.lists(one, min_size=2, max_size=2).map(torch.tensor)
    starts, stops, steps = st.integers(0, size), st.integers(0, size), st.integers(1, 2)
    slices = st.builds(slice, starts, stops, steps)
    masks = st.just(torch.arange(size) < 2)
    return one | lists | slices | masks | st.just(slice(None))


@given(st.tuples(entries(3), entries(2), entries(4)), st.integers(0, 4))
def test_an_index_never_reaches_the_batch(chosen, place):
    extra = [*chosen]
    if place < 4:
        extra.insert(place, None)
    points = [np.random.default_rng(0).normal(size=(ROWS, 3, 2, 4))]
    agree_with_vmap("index", {"index": tuple(extra)}, points, (True,))


@given(st.permutations(range(3)), st.sampled_from(["C", "F"]))
def test_entries_move_as_they_do_in_a_sample(axes, order):
    points = [np.random.default_rng(0).normal(size=(ROWS, 2, 3, 4))]
    agree_with_vmap("transpose", {"axes": tuple(axes)}, points, (True,))
    shape = tuple((2, 3, 4)[axis] for axis in axes)
    options = {"shape": (shape[0] * shape[1], -1), "order": order}
    agree_with_vmap("reshape", options, points, (True,))


# ---- torch functions and modules -------------------------------------------------


def evaluated(function, *shapes):
    """The evaluator of a function of parameters a, b, c of these shapes."""
    fields = dict(zip("abc", shapes, strict=False))

    def body(x=Variable(2), a=Parameter(), b=Parameter(), c=Parameter()):
        return minimize(x @ x), function(*(a, b, c)[: len(fields)])

    body.__defaults__ = (Variable(2), *(Parameter(fields.get(n, ())) for n in "abc"))
    found = built(body)
    return Evaluator(found if isinstance(found, tuple) else [found])


def agree_for_batches(function, *shapes, captured=None):
    """The evaluator's batch against the evaluator's sample, mapped."""
    captured, evaluator = captured or {}, evaluated(function, *shapes)
    generator = torch.Generator().manual_seed(1)
    for batched in choices(len(shapes)):
        values, axes = {}, {}
        for name, shape, own in zip("abc", shapes, batched, strict=False):
            size = (ROWS, *shape) if own else shape
            value = 0.2 + 0.6 * torch.rand(size, generator=generator, **DOUBLE)
            values[name], axes[name] = value.requires_grad_(), 0 if own else None
        ours = evaluator.batched(values, captured)
        assert all(ours.is_batched)
        by_rows = torch.func.vmap(
            lambda one: evaluator(one, captured), (axes,), randomness="different"
        )(values)
        for one, other in zip(ours.values, by_rows, strict=True):
            agree(one, other, list(values.values()))


# Of numbers between 0.2 and 0.8; shapes of one to three operands.
FUNCTIONS = {
    "tanh": (torch.tanh, (3,)),
    "method": (lambda a: a.sigmoid(), ()),
    "where": (lambda a, b, c: torch.where(torch.gt(a, b), b, c), (2, 3), (3,), ()),
    "where of a number": (lambda a: torch.where(torch.lt(a, 0.5), a, 0.0), (3,)),
    "atan2": (torch.atan2, (2, 3), (3,)),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.25), (3,), (2, 1)),
    "clone": (lambda a: a.clone(), (3,)),
    "leaky_relu": (lambda a: nn.functional.leaky_relu(a - 0.5, 0.1), (3,)),
    "gelu": (lambda a: nn.functional.gelu(a, approximate="tanh"), (3,)),
    "power": (lambda a, b: a**b, (3,), (2, 3)),
    "softmax": (lambda a: torch.softmax(a, 0), (2, 3)),
    "softmax from the end": (lambda a: a.softmax(dim=-2), (2, 3)),
    "log_softmax": (lambda a: nn.functional.log_softmax(a, dim=1), (2, 3)),
    "softmax of a scalar": (lambda a: torch.softmax(a, -1), ()),
    "softmax of a dtype": (lambda a: torch.softmax(a, -1, torch.float64), (3,)),
    "gather": (lambda a: torch.gather(a, 1, torch.tensor([[0], [2]])), (2, 3)),
    "linear": (nn.functional.linear, (3,), (2, 3), (2,)),
    "several outputs": (lambda a: torch.linalg.qr(a), (3, 3)),
    "unbound": (lambda a, b: sum(torch.unbind(a, 1)) * b, (2, 3), ()),
    "flip": (lambda a: a.flip(0), (3, 2)),
    "layer_norm": (lambda a: nn.functional.layer_norm(a, (3,)), (2, 3)),
    "constant": (lambda a: a + torch.tensor([[1.0], [2.0]]), (3,)),
}


@pytest.mark.parametrize("case", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_torch_function_of_a_batch_is_the_mapped_function(case):
    agree_for_batches(*case)


torch.manual_seed(0)
MODULES = {
    "linear": nn.Linear(3, 2),
    "network": nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
    "normalized": nn.Sequential(nn.LayerNorm(3), nn.Dropout().eval()),
    "softmax of the last axis": nn.Softmax(-1),
    "softmax of the first axis": nn.Softmax(0),
    "convolution": nn.Conv1d(1, 2, 2),
    "norm of a batch": nn.BatchNorm1d(3).eval(),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_a_module_of_a_batch_is_the_mapped_module(name, shape):
    net = MODULES[name].double()
    if name in ("convolution", "norm of a batch") and len(shape) == 1:
        shape = (2, 1, 3) if name == "convolution" else (4, 3)
    agree_for_batches(lambda a: net(a), shape, captured={"net": net})


def test_a_module_of_several_operands_is_mapped():
    class Product(nn.Module):
        def forward(self, x, y):
            return torch.outer(x, y)

    net = Product()
    agree_for_batches(lambda a, b: net(a, b), (2,), (3,), captured={"net": net})


@pytest.mark.parametrize("kind", [nn.Linear, nn.Tanh, nn.Dropout])
def test_a_subclass_may_do_anything_and_is_mapped(kind):
    class Own(kind):
        pass

    made = Own(3, 3) if kind is nn.Linear else Own()
    assert not acts_on_last_axes(nn.Sequential(made.eval()))


def test_dropout_draws_anew_for_every_sample_while_it_trains():
    net = nn.Dropout()
    assert not acts_on_last_axes(net) and acts_on_last_axes(nn.Dropout().eval())
    evaluator = evaluated(lambda a: net(a), (64,))
    (value,) = evaluator.batched({"a": torch.ones(2, 64)}, {"net": net}).values
    assert not torch.equal(value[0], value[1])


# ---- lines of several calls ------------------------------------------------------


def test_what_no_batched_value_reaches_stays_shared():
    evaluator = evaluated(lambda a, b: (a * 2, a + b, b.sum()), (3,), (3,))
    a, b = torch.rand(3), torch.rand(4, 3)
    found = evaluator.batched({"a": a, "b": b, "c": a}, {})
    assert found.is_batched == (False, True, True)
    assert [tuple(one.shape) for one in found.values] == [(3,), (4, 3), (4,)]


def test_learned_parameters_may_be_batched_too():
    weight = nn.Parameter(torch.rand(3))
    evaluator = evaluated(lambda a: a * weight, (3,))
    rows = torch.rand(4, 3)
    (name,) = evaluator.captured_names
    found = evaluator.batched({"a": rows[0]}, {name: rows})
    assert found.is_batched == (True,)
    assert_close(found.values[0], rows[0] * rows)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_of_one_keeps_its_axis(rows):
    evaluator = evaluated(lambda a: torch.linalg.qr(a)[1].abs().sum(0), (2, 2))
    value = torch.rand(rows, 2, 2)
    found = evaluator.batched({"a": value}, {})
    assert_close(found.values[0], torch.linalg.qr(value)[1].abs().sum(1))


def test_it_compiles_whole_and_maps():
    net = nn.Linear(3, 3)
    evaluator = evaluated(lambda a, b: torch.tanh(a @ net(b)) + b.flip(0), (3, 3), (3,))
    a, b = torch.rand(3, 3), torch.rand(5, 3)

    def run(a, b):
        return evaluator.batched({"a": a, "b": b}, {"net": net}).values[0]

    expected = torch.tanh(net(b) @ a.T) + b.flip(1)
    compiled = torch.compile(run, fullgraph=True, backend="eager")
    assert_close(compiled(a, b), expected)
    assert_close(compiled(a, b), expected)
    both = torch.func.vmap(run, (0, None))(torch.stack([a, a]), b)
    assert_close(both, torch.stack([expected, expected]))
