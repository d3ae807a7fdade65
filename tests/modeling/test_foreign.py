"""Torch functions and modules in a body: recorded, shaped by torch, evaluated later."""

import logging

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.field_kinds import Parameter, Variable
from optlayers.modeling.language import smooth
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import built, trace, value_of

P = torch.arange(6.0, dtype=torch.float64).reshape(2, 3) - 2.5

FUNCTIONS = {
    "sin": lambda p: torch.sin(p),
    "softmax method": lambda p: p.softmax(-1),
    "einsum": lambda p: torch.einsum("ij,kj->ik", p, p),
    "where": lambda p: torch.where(torch.gt(p, 0), p, 0 * p),
    "indexed mask": lambda p: torch.where(torch.gt(p, 0)[0], p[0], p[1]),
    "gather": lambda p: torch.gather(p, 1, torch.tensor([[0], [2]])),
    "linear": lambda p: nn.functional.linear(p, torch.ones(4, 3).double()),
    "clamp": lambda p: torch.clamp(p, -1, 1),
    "unsqueeze": lambda p: p.unsqueeze(0).squeeze(0),
    "part of a tuple": lambda p: torch.linalg.qr(p)[1].abs(),
    "sum of outputs": lambda p: sum(torch.unbind(p, 1)),
    "exp": lambda p: torch.exp(p),
    "sum over dim": lambda p: torch.sum(p, dim=1),
    "mean": lambda p: p.mean(dim=0, keepdim=True),
    "stack": lambda p: torch.stack([p[0], p[1]]),
    "cat": lambda p: torch.cat([p, p], dim=1),
    "maximum": lambda p: torch.maximum(p, 0 * p),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_torch_functions_keep_their_shape_and_value(function):
    def body(x=Variable(2), p=Parameter("2 3")):
        return minimize(x @ x), function(p)

    expression = built(body)
    expected = function(P)
    assert expression.shape == tuple(expected.shape)
    assert_close(value_of(expression, p=P), expected)


def test_several_outputs_come_from_one_call():
    calls = []

    def split(p):
        calls.append(p.shape)
        return p[:, 0], p[:, 1]

    def body(x=Variable(2), p=Parameter("2 3")):
        return minimize(x @ x), smooth(split)(p)

    first, second = built(body)
    calls.clear()
    values = Evaluator([first, second])({"p": P}, {})
    assert calls == [(1, 2, 3)]
    assert_close(torch.stack(values), P)


def test_smooth_functions_may_branch_on_shapes_and_take_constants():
    def padded(p, width):
        missing = width - p.shape[1]
        return torch.cat([p, p.new_zeros(len(p), missing)], 1) if missing else p

    def body(x=Variable(4), p=Parameter(2)):
        assert padded is not smooth(padded)
        return minimize(x @ x), smooth(padded)(p, 4)

    assert_close(value_of(built(body), p=P[0, :2]), torch.cat([P[0, :2], 0 * P[0, :2]]))
    with pytest.raises(DeclarationError, match="takes a function or module, not int"):
        smooth(3)


def test_smooth_functions_and_modules_see_the_whole_batch_once():
    seen = []

    def scaled(p, q):
        seen.append((p.shape, q.shape))
        return p * q.norm(dim=1, keepdim=True)

    net = nn.BatchNorm1d(3, affine=False).double()

    def body(x=Variable(2), p=Parameter(3), q=Parameter(2)):
        return minimize(x @ x), (smooth(scaled)(p, q), smooth(net)(p))

    evaluator = Evaluator(built(body))
    seen.clear()
    p, q = torch.randn(5, 3, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    value, normalized = evaluator.batched({"p": p, "q": q}, {"net": net}).values
    assert seen == [((5, 3), (5, 2))]
    assert_close(value, p * 2**0.5)
    # Of the batch, which no sample alone could tell.
    assert_close(normalized.mean(0), torch.zeros_like(q[:1]).expand(3))


def test_a_smooth_function_that_forgets_the_batch_is_refused():
    def body(x=Variable(2), p=Parameter(3)):
        return minimize(x @ x), smooth(lambda v: v.sum())(p)

    with pytest.raises(ShapeError, match=r"returns \[\] for a batch of 2 samples"):
        built(body)


def test_a_smooth_module_is_called_with_a_batch_of_one_for_a_sample():
    net = nn.BatchNorm1d(3).double().eval()
    held = smooth(net)

    def body(x=Variable(2), p=Parameter(3)):
        return minimize(x @ x), held(p)

    node = built(body)
    assert (node.options["name"], node.shape) == ("held.module", (3,))
    value = value_of(node, {"held": held}, p=P[0])
    assert_close(value, net(P[:1])[0])
    assert_close(held(P[0]), value)


def test_modules_are_recorded_whole_under_their_name():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()

    def body(x=Variable("2 2"), p=Parameter("2 3")):
        return minimize(x.sum()), net(p)

    node = built(body)
    assert (node.name, node.options["name"], node.shape) == ("module", "net", (2, 2))
    assert_close(value_of(node, {"net": net}, p=P), net(P))


def test_a_network_that_two_outputs_share_runs_once():
    net = nn.Linear(3, 2).double()
    runs = []
    net.register_forward_hook(lambda *_: runs.append(1))

    def body(x=Variable(2), p=Parameter(3)):
        y = net(p)
        return minimize(x @ x), (y.sum(), y * 2, net(p))

    outputs = built(body)
    runs.clear()
    Evaluator(outputs[:2])({"p": P[0]}, {"net": net})
    assert len(runs) == 1
    Evaluator(outputs)({"p": P[0]}, {"net": net})
    assert len(runs) == 3


def test_tracing_leaves_modules_as_they_were():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    before = {name: one.clone() for name, one in net.state_dict().items()}
    call = nn.Module.__call__

    def body(x=Variable("2 2"), p=Parameter("4 3")):
        return minimize(x.sum()), net(p)

    built(body)
    assert nn.Module.__call__ is call
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


def test_modules_of_plain_tensors_run_as_functions_of_what_is_learned():
    net = nn.Linear(3, 2)

    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ x), net(torch.ones(3)) + p

    node = built(body)
    net.weight.data.fill_(2.0)
    value = value_of(node, {"net": net}, p=torch.zeros(2))
    assert_close(value, net(torch.ones(3)))


def test_torch_functions_of_a_learned_parameter_stay_learned():
    weight = nn.Parameter(torch.zeros(2, 3))

    def body(x=Variable(2), p=Parameter(3)):
        rows = nn.functional.softplus(weight) @ p
        return minimize(x @ x), rows + weight.T[0, 0] + weight.shape[0]

    node = built(body)
    value = value_of(node, {"weight": weight}, p=torch.ones(3))
    assert_close(value, torch.full((2,), 3 * torch.log(torch.tensor(2.0)).item() + 2))
    value.sum().backward()
    assert weight.grad is not None


def test_detach_freezes_a_learned_parameter_on_purpose():
    weight = nn.Parameter(torch.ones(2))

    def body(x=Variable(2), p=Parameter(2)):
        return minimize(x @ x), p * weight.detach()

    assert built(body).arguments[1].name == "constant"


@pytest.mark.parametrize("read", [float, lambda w: w.item(), lambda w: bool(w)])
def test_reading_the_value_of_a_learned_parameter_is_refused(read):
    weight = nn.Parameter(torch.tensor(2.0))

    def body(x=Variable(2)):
        return minimize(x @ x * read(weight))

    with pytest.raises(DeclarationError, match="would freeze what is learned"):
        trace(body)


def test_a_refusal_of_torch_names_file_source_and_declaration(caplog):
    net = nn.Linear(3, 2)

    def body(x=Variable(2), p=Parameter(4)):
        return minimize(x @ net(p))

    with caplog.at_level(logging.DEBUG), pytest.raises(ShapeError) as caught:
        trace(body)
    message = str(caught.value)
    assert message.startswith("test_foreign.py:")
    assert "`net(p)`: Linear does not take p [4]: " in message
    assert 'p was declared Parameter("4")' in message
    assert caplog.records == []


def test_options_that_depend_on_fields_are_refused_by_name():
    def body(x=Variable(2), p=Parameter()):
        return minimize(x.sum(axis=p))

    with pytest.raises(DeclarationError, match="axis= of sum depends on p"):
        trace(body)


def test_a_batch_norm_of_one_sample_says_how_to_call_it():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    def body(x=Variable(3)):
        return minimize(net(x).sum())

    with pytest.raises(
        ShapeError, match=r"does not take x(.|\n)*ol\.smooth\(.*eval\(\)"
    ):
        trace(body)
