"""Sums of functions of affine expressions: what is one, and its Hessian."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize

B, M, N = 3, 7, 4


def logistic(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    return minimize(ol.sum(ol.logistic(A @ x) - y * (A @ x)) + 0.5 * ol.sum_squares(x))


def poisson(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    rate = A @ x + 0.1
    return minimize(ol.mean(ol.exp(rate) - y * rate) + ol.sum(x**4) / 4)


def likelihood(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    return maximize(-(y**2 @ ol.logistic(-(A @ x))) - x @ x + x[0])


def of_a_loop(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    total = 0.0
    for i in range(7):
        total = total + ol.exp(A[i] @ x - y[i]) + (x[i % 4] - y[i]) ** 2
    return minimize(total)


def of_products(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    u = A @ x
    return minimize(ol.sum(u * ol.exp(-u)) + 5 * ol.sum_squares(x - 1) + y @ u)


def of_matrices(X=Variable("2 2"), A=Parameter("7 4"), y=Parameter("7")):
    C = A[:2, :2]
    return minimize(ol.sum(ol.exp(C @ X.T)) + ol.sum_squares(X) + y[0] * X[0, 1])


SEPARABLE = (logistic, poisson, likelihood, of_a_loop, of_products, of_matrices)


def rosenbrock(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    return minimize(ol.sum((x[1:] - x[:-1] ** 2) ** 2) + (1 - x[0]) ** 2)


def of_a_product(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    return minimize(x[0] * x[1] + ol.sum(x**4))


def of_a_sum(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    return minimize(ol.log_sum_exp(A @ x) + ol.sum_squares(x))


def of_two(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    return minimize(ol.sum(ol.exp(A @ x) * (A @ (x - 1))) + ol.sum(x**4))


def crossed(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
    return minimize(x[:2] @ x[2:] + ol.sum(x**4))


def values():
    generator = torch.Generator().manual_seed(0)
    wide = {"dtype": torch.float64, "generator": generator}
    return torch.randn(B, M, N, **wide), torch.rand(B, M, **wide)


def layer_of(function, **options):
    return ol.problem(function).layer(solver="minimize.newton", **options)


def program_of(function, A, y):
    layer = layer_of(function)
    route = layer._route_for({"A": A, "y": y}, layer.options)
    plan = route._plan(layer.options, torch.float64)
    names = route.template.inputs.parameter_ndims
    given = [{"A": A, "y": y}[name] for name in names]
    return plan.program(given, {}, torch.zeros(B, N, dtype=torch.float64))


@pytest.mark.parametrize("function", SEPARABLE)
def test_its_hessian_is_that_of_autograd(function):
    program = program_of(function, *values())
    assert program.separable is not None
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(B, N, dtype=torch.float64, generator=generator)
    whole = torch.autograd.functional.hessian(lambda x: program.value(x).sum(), x)
    of_samples = torch.stack([whole[i, :, i] for i in range(B)])
    # Sums of a dozen products of numbers around one, in another order.
    assert_close(program.hessian_of_lagrangian(x), of_samples, atol=1e-12, rtol=1e-12)
    assert_close(program.separable.hessian(x), of_samples, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    "function", [rosenbrock, of_a_product, of_a_sum, of_two, crossed]
)
def test_entries_that_meet_are_none(function):
    assert program_of(function, *values()).separable is None


def test_products_with_the_hessian_are_the_same_without_it():
    program = program_of(logistic, *values())
    x, v = torch.randn(2, B, N, dtype=torch.float64)
    H = program.hessian_of_lagrangian(x)
    assert_close(program.products(x)(v), (H @ v.unsqueeze(2)).squeeze(2))


def test_constraints_add_their_curvature():
    @ol.problem
    def inside(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
        fit = ol.sum(ol.logistic(A @ x) - y * (A @ x))
        return minimize(fit, ball=ol.sum_squares(x) <= 0.25)

    A, y = values()
    out = inside(A=A, y=y, solver="minimize.interior_point")
    assert_close(out.x, inside(A=A, y=y).x, atol=1e-6, rtol=0)
    lam = out.dual.ball.reshape(-1, 1)
    slope = (A.mT @ (torch.sigmoid(A @ out.x.unsqueeze(2)) - y.unsqueeze(2))).squeeze(2)
    assert_close(slope + 2 * lam * out.x, torch.zeros(B, N).double(), atol=1e-6, rtol=0)


def test_the_layer_passes_gradcheck():
    layer = layer_of(logistic)
    A, y = (one[:2].clone().requires_grad_() for one in values())
    assert torch.autograd.gradcheck(lambda A, y: layer(A=A, y=y).x, (A, y), atol=1e-5)


def test_modules_may_make_its_parameters():
    torch.manual_seed(0)
    net = torch.nn.Linear(7, 7).double()

    @ol.problem
    def fitted(x=Variable("4"), A=Parameter("7 4"), y=Parameter("7")):
        return minimize(ol.sum(ol.logistic(A @ x) - net(y) * (A @ x)) + x @ x)

    A, y = values()
    out = fitted(A=A, y=y, solver="minimize.newton")
    by_gradients = fitted(A=A, y=y, solver="minimize.lbfgs")
    assert_close(out.x, by_gradients.x, atol=1e-7, rtol=0)
    out.x.sum().backward()
    assert net.weight.grad is not None
