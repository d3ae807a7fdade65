"""The evaluator: shared work, dtypes, and torch's transforms around it."""

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from optlayers.errors import DeclarationError
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.field_kinds import Parameter, State, Variable
from optlayers.modeling.language import total
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import built

NET = nn.Linear(3, 3)


@pytest.fixture
def outputs():
    def body(x=Variable(3), A=Parameter("3 3"), p=Parameter(3)):
        shared = A @ p
        rows = (shared + 0.1, (A @ p) * 2 + NET(p), torch.sin(shared[[2, 0]]))
        return minimize(x @ x), rows

    return built(body)


def expected(A, p):
    shared = A @ p
    return [shared + 0.1, shared * 2 + NET(p), torch.sin(shared[[2, 0]])]


class CountedCalls(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_equal_subexpressions_are_computed_once(outputs):
    evaluator = Evaluator(outputs)
    A, p = torch.rand(3, 3), torch.rand(3)
    with CountedCalls() as calls:
        values = evaluator({"A": A, "p": p}, {"NET": NET})
    assert calls.names.count("matmul") == 1
    for found, wanted in zip(values, expected(A, p), strict=True):
        assert_close(found, wanted)


def test_it_names_what_it_reads(outputs):
    evaluator = Evaluator(outputs)
    assert sorted(evaluator.field_names) == ["A", "p"]
    assert evaluator.captured_names == ("NET",)
    assert Evaluator(outputs[:1]).captured_names == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_take_the_dtype_of_the_values(outputs, dtype):
    values = {"A": torch.rand(3, 3, dtype=dtype), "p": torch.rand(3, dtype=dtype)}
    (found,) = Evaluator(outputs[:1])(values, {})
    assert found.dtype == dtype


def test_it_maps_over_batches_with_shared_parameters(outputs):
    evaluator = Evaluator(outputs)
    A, p = torch.rand(3, 3), torch.rand(5, 3)
    mapped = torch.func.vmap(lambda p: evaluator({"A": A, "p": p}, {"NET": NET}))(p)
    apart = [expected(A, row) for row in p]
    for position, found in enumerate(mapped):
        assert_close(found, torch.stack([row[position] for row in apart]))


def test_it_compiles_whole(outputs):
    evaluator = Evaluator(outputs)

    @torch.compile(fullgraph=True, backend="eager")
    def compiled(A, p):
        run = torch.func.vmap(lambda p: evaluator({"A": A, "p": p}, {"NET": NET}))
        return run(p)

    A, p = torch.rand(3, 3), torch.rand(5, 3)
    for position, found in enumerate(compiled(A, p)):
        assert_close(found, torch.stack([expected(A, row)[position] for row in p]))


def test_gradients_reach_parameters_and_networks(outputs):
    A, p = torch.rand(3, 3, requires_grad=True), torch.rand(3, requires_grad=True)
    values = Evaluator(outputs)({"A": A, "p": p}, {"NET": NET})
    found = torch.autograd.grad(sum(v.sum() for v in values), (A, p, NET.weight))
    wanted = torch.autograd.grad(
        sum(v.sum() for v in expected(A, p)), (A, p, NET.weight)
    )
    assert_close(found, wanted)


def test_it_reads_the_captured_it_is_given_not_the_traced(outputs):
    other = nn.Linear(3, 3)
    A, p = torch.rand(3, 3), torch.rand(3)
    found = Evaluator(outputs[1:2])({"A": A, "p": p}, {"NET": other})[0]
    assert_close(found, A @ p * 2 + other(p))


def test_deep_sums_are_evaluated_without_recursion():
    def body(x=Variable(2), p=Parameter()):
        found = p
        for _ in range(3000):
            found = found + 1
        return minimize(x @ x), found

    (value,) = Evaluator([built(body)])({"p": torch.zeros(())}, {})
    assert value == 3000


def test_variables_have_no_value_before_the_solve():
    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ x), x + p

    def staged(x=State(2), p=Parameter(2)):
        return minimize(total(x @ x)), (x * p).last

    for one, steps in ((body, None), (staged, 2)):
        with pytest.raises(DeclarationError, match="no value before the solve"):
            Evaluator([built(one, steps)])
