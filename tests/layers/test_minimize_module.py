"""Minimize layers as modules: precisions, batches, bound and learned parameters."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import InvalidDataError, ParameterError

DOUBLE = {"dtype": torch.float64}
# A KKT residual of 1e-8 at a condition of some tens.
CLOSE = {"rtol": 0, "atol": 1e-6}


@ol.problem
def pulled(
    x=Variable("n", start=0.1, upper=0.9), t=Parameter("n"), r=Parameter(nonneg=True)
):
    """Near t under a bend, within a disk and a bound."""
    return minimize(
        ol.sum_squares(x - t) + 0.1 * torch.sin(x[0]), disk=ol.sum_squares(x) <= r**2
    )


def double(*numbers):
    return torch.tensor(numbers, **DOUBLE)


def parts(out):
    return out.x, *out.dual.values(), out.objective


def slopes(out, *inputs):
    return torch.autograd.grad(sum(one.sum() for one in parts(out)), inputs)


def test_single_precision_in_gives_values_and_gradients_of_single_precision():
    t, r = double([2.0, 1.0], [0.2, 0.1]), double(1.0, 2.0)
    given = [one.float().requires_grad_() for one in (t, r)]
    exact = [one.requires_grad_() for one in (t, r)]
    out, expected = pulled(*given), pulled(*exact)
    for own, other in zip(parts(out), parts(expected), strict=True):
        assert own.dtype == torch.float32
        # Solved in double precision, rounded once.
        assert_close(own, other.float(), rtol=1e-5, atol=1e-6)
    for own, other in zip(slopes(out, *given), slopes(expected, *exact), strict=True):
        assert own.dtype == torch.float32
        assert_close(own, other.float(), rtol=1e-4, atol=1e-5)


def test_precisions_are_not_mixed_in_silence_but_numbers_take_that_of_tensors():
    t = double(2.0, 1.0)
    assert pulled(t.float(), 1).x.dtype == torch.float32
    assert pulled([2.0, 1.0], double(1.0)[0]).x.dtype == torch.float64
    with pytest.raises(ParameterError, match=r"float32.*float64|float64.*float32"):
        pulled(t.float(), double(1.0)[0])


def test_a_batch_may_have_two_axes_that_parameters_share_between_them():
    t = double([2.0, 1.0], [0.2, 0.1], [-1.0, 2.0]).requires_grad_()
    r = double([1.0], [0.5]).requires_grad_()
    out = pulled(t, r)
    assert out.x.shape == (2, 3, 2) and out.dual.disk.shape == (2, 3)
    assert out.status.shape == out.stats["residual"].shape == (2, 3)
    assert out.stats["is_minimum"].shape == (2, 3)
    found = slopes(out, t, r)
    flat_t, flat_r = t.detach().repeat(2, 1), r.detach().repeat(1, 3).flatten()
    flat = flat_t.requires_grad_(), flat_r.requires_grad_()
    apart = slopes(pulled(*flat), *flat)
    assert_close(found[0], apart[0].view(2, 3, 2).sum(0), **CLOSE)
    assert_close(found[1], apart[1].view(2, 3).sum(1, keepdim=True), **CLOSE)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_a_batch_of_none_has_results_and_gradients_of_none(shape):
    t = torch.zeros(*shape, 2, **DOUBLE, requires_grad=True)
    r = double(1.0).requires_grad_()
    out = pulled(t, r[0])
    assert out.x.shape == (*shape, 2) and out.objective.shape == shape
    found = slopes(out, t, r)
    assert found[0].shape == t.shape and found[1].tolist() == [0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_no_gradient_is_wanted_the_values_are_the_same(mode):
    t, r = double([2.0, 1.0], [0.2, 0.1]), double(1.0, 2.0).requires_grad_()
    with mode():
        out = pulled(t, r)
    assert not out.x.requires_grad and "gradient_condition" not in out.stats
    for own, other in zip(parts(out), parts(pulled(t, r)), strict=True):
        assert torch.equal(own, other)


def test_what_is_bound_is_kept_learned_and_saved():
    t = double(2.0, 1.0)
    layer = pulled.layer(n=2, t=t, r=nn.Parameter(double(0.5)[0]))
    assert len(layer.state_dict()) == 2
    (learned,) = layer.parameters()
    assert_close(layer().x.norm(), double(0.5)[0], **CLOSE)
    # The disk shall hold the point at the distance 0.7.
    optimizer, losses = torch.optim.Adam([learned], lr=0.05), []
    for _ in range(12):
        optimizer.zero_grad()
        loss = (layer().x.square().sum() - 0.49) ** 2
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    other = pulled.layer(n=2, t=0 * t, r=nn.Parameter(double(0.1)[0]))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other().x, layer().x)


def test_a_copy_is_a_layer_of_its_own():
    layer = pulled.layer(n=2, r=nn.Parameter(double(0.5)[0]), gradient="smoothed")
    t = double(2.0, 1.0)
    before = layer(t).x
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(t).x, before)
        assert torch.equal(
            torch.func.vmap(lambda t, of=other: of(t).x)(t[None])[0], before
        )
        with torch.no_grad():
            next(other.parameters()).add_(0.1)
        assert not torch.equal(other(t).x, before)
        assert torch.equal(layer(t).x, before)


def test_a_module_moves_with_its_layer_to_single_precision():
    layer = pulled.layer(n=2, t=double(2.0, 1.0)).float()
    assert layer(torch.tensor(1.0)).x.dtype == torch.float32


def test_a_broken_sample_gives_shared_parameters_nothing():
    t = double([2.0, 1.0], [torch.nan, 1.0], [1.0, 1.0]).requires_grad_()
    r = double(1.0).requires_grad_()
    with pytest.raises(InvalidDataError, match="sample 1"):
        pulled(t, r[0])
    for on_failure in ("nan", "keep"):
        for gradient in ("exact", "least_squares", "smoothed"):
            options = {"on_failure": on_failure, "gradient": gradient}
            out = pulled(t, r[0], **options)
            total = sum(one.nan_to_num().sum() for one in parts(out))
            found = torch.autograd.grad(total, (t, r))
            good = t.detach()[[0, 2]].requires_grad_()
            alone = slopes(pulled(good, r[0], **options), good, r)
            assert found[0][1].tolist() == [0, 0]
            assert_close(found[0][[0, 2]], alone[0], **CLOSE)
            assert_close(found[1], alone[1], **CLOSE)


@pytest.mark.gpu
@pytest.mark.parametrize("gradient", ["exact", "smoothed"])
def test_where_tensors_are_the_results_are(gradient):
    t, r = double([2.0, 1.0], [0.2, 0.1]).requires_grad_(), double(1.0, 2.0)
    on_host = pulled(t, r, gradient=gradient)
    there = t.detach().cuda().requires_grad_()
    out = pulled(there, r.cuda(), gradient=gradient)
    assert {one.device.type for one in (*parts(out), *out.stats.values())} == {"cuda"}
    assert_close(out.x.cpu(), on_host.x, **CLOSE)
    assert_close(slopes(out, there)[0].cpu(), slopes(on_host, t)[0], **CLOSE)
    mapped = torch.func.vmap(lambda t, r: pulled(t, r, gradient=gradient).x)
    assert_close(mapped(there, r.cuda()).cpu(), on_host.x, **CLOSE)
