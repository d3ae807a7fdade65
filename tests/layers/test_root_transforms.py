"""Layers of systems of equations under torch.func, torch.compile and vmap."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, solve
from optlayers.errors import OrderError, TransformError
from tests.layers.test_root import CLOSE, DOUBLE, equilibrium, learned, net, weights


def test_vmap_and_jacobians_see_through_the_solve():
    u, W = weights()

    def z(u):
        return equilibrium(u, W).z

    assert_close(torch.func.vmap(z)(u), z(u))
    forward, reverse = torch.func.jacfwd(z)(u[0]), torch.func.jacrev(z)(u[0])
    expected = torch.autograd.functional.jacobian(z, u[0])
    assert_close(reverse, expected)
    assert_close(forward, expected)
    over_W = torch.func.vmap(lambda W: equilibrium(u, W).z)(torch.stack([W, -W]))
    assert_close(over_W[1], equilibrium(u, -W).z)


def test_hessians_obey_the_order():
    u, W = weights()

    def total(u, order=2):
        return equilibrium(u, W, order=order).z.square().sum()

    expected = torch.autograd.functional.hessian(total, u[0])
    assert_close(torch.func.hessian(total)(u[0]), expected)
    with pytest.raises(OrderError):
        torch.func.hessian(lambda u: total(u, 1))(u[0])


@pytest.mark.parametrize("on_failure", ["raise", "nan"])
def test_compiled_code_gives_the_same_values_and_gradients(on_failure):
    layer = equilibrium.layer(d=3, on_failure=on_failure)
    u, W = (one.requires_grad_() for one in weights())

    def loss(u, W):
        return layer(u, W).z.square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        value = compiled(u, W)
        gradients = torch.autograd.grad(value, (u, W))
        assert_close(value, loss(u, W))
        assert_close(gradients, torch.autograd.grad(loss(u, W), (u, W)))


def test_the_way_of_a_gradient_that_looks_at_numbers_is_refused_under_transforms():
    u, W = weights()
    with pytest.raises(TransformError, match="gmres"):
        torch.func.vmap(lambda u: equilibrium(u, W, gradient="gmres").z)(u)


def test_vmap_and_jacobians_see_through_a_solve_that_calls_modules():
    layer, u = learned.layer(), weights()[0]

    def z(u):
        return layer(u).z

    assert_close(torch.func.vmap(z)(u), z(u))
    expected = torch.autograd.functional.jacobian(z, u[0])
    assert_close(torch.func.jacrev(z)(u[0]), expected)
    assert_close(torch.func.jacfwd(z)(u[0]), expected)


def functional(layer, u, **options):
    """The root as a function of the tensors of its layer."""
    tensors = {name: one.detach() for name, one in layer.named_parameters()}

    def z(tensors):
        return torch.func.functional_call(layer, tensors, (u,), options).z

    return z, tensors


def test_transforms_differentiate_by_the_weights_of_modules():
    layer, u = learned.layer(), weights(2)[0]
    z, tensors = functional(layer, u)
    slopes = torch.func.jacrev(z)(tensors)
    forward = torch.func.jacfwd(z)(tensors)
    out = layer(u).z
    for name, parameter in layer.named_parameters():
        assert_close(forward[name], slopes[name])
        (row,) = torch.autograd.grad(out[1, 2], parameter, retain_graph=True)
        assert_close(slopes[name][1, 2], row)


def test_the_hessian_by_the_weights_of_a_module_is_that_of_autograd():
    layer, u = learned.layer(), weights(1)[0]
    z, tensors = functional(layer, u, order=2)

    def total(bias):
        return z({**tensors, "net.0.bias": bias}).square().sum()

    bias = tensors["net.0.bias"]
    expected = torch.autograd.functional.hessian(total, bias)
    assert_close(torch.func.hessian(total)(bias), expected)


def test_every_sample_of_vmap_may_have_weights_of_its_own():
    layer, u = learned.layer(), weights(2)[0]
    z, tensors = functional(layer, u)
    scales = torch.tensor([1.0, 0.5, -0.5], **DOUBLE)
    stacked = {n: torch.stack([k * one for k in scales]) for n, one in tensors.items()}
    together = torch.func.vmap(z)(stacked)
    for row, scale in zip(together, scales, strict=True):
        assert_close(row, z({n: scale * one for n, one in tensors.items()}), **CLOSE)


@pytest.mark.parametrize("on_failure", ["raise", "nan"])
def test_compiled_code_calls_modules_and_trains_them(on_failure):
    layer, u = copy.deepcopy(learned.layer(on_failure=on_failure)), weights()[0]

    def loss(u):
        return layer(u).z.square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        found = torch.autograd.grad(compiled(u), list(layer.parameters()))
        expected = torch.autograd.grad(loss(u), list(layer.parameters()))
        assert_close(found, expected)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(0.9)


def test_compiled_code_calls_modules_of_single_precision():
    single = copy.deepcopy(net).float()

    def body(z=Variable("3"), u=Parameter("3")):
        return solve(z == single(z) + u)

    layer, u = ol.problem(body).layer(), weights(dtype=torch.float32)[0]
    compiled = torch.compile(lambda u: layer(u).z, fullgraph=True, backend="aot_eager")
    assert_close(compiled(u), layer(u).z)


def test_buffers_and_tied_weights_are_inputs_of_a_transformed_solve():
    linear = nn.Linear(3, 3, **DOUBLE)
    tied = nn.Sequential(linear, nn.Tanh(), linear, nn.BatchNorm1d(3, **DOUBLE))
    tied.eval()
    with torch.no_grad():
        linear.weight.mul_(0.5)
        tied[3].running_mean.copy_(torch.tensor([0.1, 0.2, 0.3]))

    def body(z=Variable("3"), u=Parameter("3")):
        return solve(z == ol.smooth(tied)(z) + u)

    layer, u = ol.problem(body).layer(), weights()[0]
    assert_close(torch.func.vmap(lambda u: layer(u).z)(u), layer(u).z, **CLOSE)
    half = {n: one.detach() / 2 for n, one in layer.named_parameters()}
    z = torch.func.functional_call(layer, half, (u,)).z
    mapped = torch.func.vmap(lambda u: torch.func.functional_call(layer, half, (u,)).z)
    assert_close(mapped(u), z, **CLOSE)


def test_no_samples_are_mapped_to_none_with_gradients_of_none():
    def value(w):
        return shifted(w).x

    @ol.problem
    def shifted(x=Variable(start=1.0), w=Parameter()):
        return solve(x**3 == w)

    none = torch.zeros(0, **DOUBLE)
    assert torch.func.vmap(value)(none).shape == (0,)
    assert torch.func.vmap(torch.func.grad(value))(none).shape == (0,)
