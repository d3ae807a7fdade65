"""Layers of minimizations under torch.func, torch.compile, vmap and forward mode."""

import copy

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize
from optlayers.errors import OrderError, SolveError
from optlayers.solution import Status
from tests.layers.nonconvex import double, learned, ring

DOUBLE = {"dtype": torch.float64}
# Two KKT residuals of 1e-8 at a condition of some tens.
CLOSE = {"rtol": 0, "atol": 1e-6}


@ol.problem
def everything(
    x=Variable("3", start=0.1, lower=-1, upper=(0.3, 9, 9)),
    c=Parameter("3"),
    radius=Parameter(),
):
    """An equality, an inequality and a bound, all of them active."""
    return maximize(
        -ol.sum_squares(x - c),
        curve=x[1] - x[2] ** 2 == 0.1,
        ball=ol.sum_squares(x) * torch.cos(x[0]) <= radius,
    )


def outputs(out):
    """Point, multipliers and value."""
    return out.x, *out.dual.values(), out.objective


def solve_everything(c, radius, **options):
    return outputs(everything(c, radius, **options))


@pytest.fixture
def given():
    return double([1.0, 0.5, -1.0], [0.9, 0.4, -0.8]), double(0.5, 0.55)


def test_every_constraint_of_the_example_is_active(given):
    dual = everything(*given).dual
    assert bool((dual.ball > 0.1).all()) and bool((dual["x.upper"][:, 0] > 0.1).all())


def test_vmap_is_the_batch(given):
    mapped = torch.func.vmap(solve_everything)(*given)
    shared = torch.func.vmap(solve_everything, (0, None))(given[0], given[1][0])
    assert_close(mapped, solve_everything(*given), **CLOSE)
    assert_close(shared, solve_everything(given[0], given[1][0]), **CLOSE)
    inner = torch.func.vmap(lambda r: solve_everything(given[0], r))(given[1])
    assert_close(inner[0][1], solve_everything(given[0], given[1][1])[0], **CLOSE)


def test_jacobians_forward_and_reverse_are_those_of_autograd(given):
    one = tuple(tensor[0] for tensor in given)
    reverse = torch.func.jacrev(solve_everything, (0, 1))(*one)
    forward = torch.func.jacfwd(solve_everything, (0, 1))(*one)
    expected = torch.autograd.functional.jacobian(solve_everything, one)
    assert_close(reverse, expected)
    assert_close(forward, expected)


def test_a_push_forward_is_the_product_with_the_jacobian(given):
    one, tangents = (t[0] for t in given), (double(0.1, -0.2, 0.3), double(0.5)[0])
    c, radius = one
    _, moved = torch.func.jvp(solve_everything, (c, radius), tangents)
    x = torch.autograd.functional.jacobian(
        lambda *t: solve_everything(*t)[0], (c, radius)
    )
    assert_close(moved[0], x[0] @ tangents[0] + x[1] * tangents[1])


def test_forward_mode_agrees_with_differences(given):
    inputs = tuple(tensor[0].requires_grad_() for tensor in given)
    assert gradcheck(
        solve_everything, inputs, check_forward_ad=True, check_backward_ad=False
    )


def test_hessians_obey_the_order(given):
    c, radius = given[0][0], given[1][0]

    def total(c, order=2):
        out = everything(c, radius, order=order)
        return out.x.square().sum() + out.objective + out.dual.ball**2

    expected = torch.autograd.functional.hessian(total, c)
    assert_close(torch.func.hessian(total)(c), expected)
    assert_close(torch.func.jacrev(torch.func.jacrev(total))(c), expected)
    with pytest.raises(OrderError):
        torch.func.hessian(lambda c: total(c, 1))(c)


@pytest.mark.parametrize(
    "on_failure", ["raise", pytest.param("nan", marks=pytest.mark.slow)]
)
def test_compiled_code_gives_the_same_values_and_gradients(given, on_failure):
    layer = everything.layer(on_failure=on_failure)
    c, radius = (tensor.requires_grad_() for tensor in given)

    def loss(c, radius):
        out = layer(c, radius)
        return out.x.square().sum() + out.objective.sum() + out.dual.ball.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        value = compiled(c, radius)
        gradients = torch.autograd.grad(value, (c, radius))
        assert_close(value, loss(c, radius))
        expected = torch.autograd.grad(loss(c, radius), (c, radius))
        assert_close(gradients, expected)


@pytest.mark.slow
def test_compiled_code_raises_where_a_sample_fails():
    @ol.problem
    def nowhere(x=Variable("2", start=1), r=Parameter()):
        return minimize(
            torch.sin(x[0]), disk=ol.sum_squares(x) <= r, beyond=x[0] * x[1] >= 9
        )

    layer = nowhere.layer()
    compiled = torch.compile(lambda r: layer(r).x, fullgraph=True, backend="aot_eager")
    with pytest.raises(SolveError, match="nowhere"):
        compiled(double(40.0, 1.0))


def test_a_failed_sample_of_vmap_has_nan_rows_and_no_gradient():
    a, r = double(20.0), double(0.8, -1.0, 2.0)

    def x(a, r):
        return ring(a, r, on_failure="nan").x[0]

    found = torch.func.vmap(x, (None, 0))(a[0], r)
    assert found.isnan().tolist() == [False, True, False]
    slopes = torch.func.vmap(torch.func.grad(x), (None, 0))(a[0], r)
    assert slopes[1] == 0
    assert_close(slopes[2], torch.func.grad(x)(a[0], r[2]), **CLOSE)


def test_vmap_and_jacobians_see_through_modules():
    layer, u = learned.layer(), double([0.3, -0.2], [1.0, 0.5])

    def x(u):
        return layer(u).x

    assert_close(torch.func.vmap(x)(u), x(u), **CLOSE)
    expected = torch.autograd.functional.jacobian(x, u[0])
    assert_close(torch.func.jacrev(x)(u[0]), expected)
    assert_close(torch.func.jacfwd(x)(u[0]), expected)


def functional(layer, u):
    """The minimum as a function of the tensors of its layer."""
    tensors = {name: one.detach() for name, one in layer.named_parameters()}

    def x(tensors):
        return torch.func.functional_call(layer, tensors, (u,)).x

    return x, tensors


def test_transforms_differentiate_by_the_weights_of_modules():
    layer, u = learned.layer(), double(0.3, -0.2)
    x, tensors = functional(layer, u)
    slopes, forward = torch.func.jacrev(x)(tensors), torch.func.jacfwd(x)(tensors)
    for name, parameter in layer.named_parameters():
        assert_close(forward[name], slopes[name])
        (row,) = torch.autograd.grad(
            layer(u).x[1], parameter, allow_unused=True, materialize_grads=True
        )
        assert_close(slopes[name][1], row)


def test_every_sample_of_vmap_may_have_weights_of_its_own():
    layer, u = learned.layer(), double(0.3, -0.2)
    x, tensors = functional(layer, u)
    stacked = {name: torch.stack([one, one / 2]) for name, one in tensors.items()}
    together = torch.func.vmap(x)(stacked)
    half = {name: one / 2 for name, one in tensors.items()}
    assert_close(together, torch.stack([x(tensors), x(half)]), **CLOSE)


@pytest.mark.slow
def test_compiled_code_calls_modules_and_trains_them():
    layer, u = copy.deepcopy(learned.layer()), double([0.3, -0.2], [1.0, 0.5])

    def loss(u):
        return layer(u).x.square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        found, expected = (
            torch.autograd.grad(
                value, list(layer.parameters()), allow_unused=True,
                materialize_grads=True,
            )
            for value in (compiled(u), loss(u))
        )  # fmt: skip
        assert_close(found, expected, **CLOSE)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(0.9)


def test_no_samples_are_mapped_to_none_with_gradients_of_none():
    def value(r):
        return ring(double(20.0)[0], r).x.sum()

    none = torch.zeros(0, **DOUBLE)
    assert torch.func.vmap(value)(none).shape == (0,)
    assert torch.func.vmap(torch.func.grad(value))(none).shape == (0,)


def test_where_all_samples_fail_the_gradient_is_zero():
    r = double(-1.0, -2.0).requires_grad_()
    a = double(20.0).requires_grad_()
    out = ring(a, r, on_failure="keep")
    assert out.status.tolist() == [Status.INVALID_DATA] * 2
    (out.x.sum() + out.objective.sum()).backward()
    assert r.grad.tolist() == [0, 0] and a.grad.tolist() == [0]


@pytest.mark.parametrize("is_convex", [True, False])
def test_the_first_call_of_a_problem_may_be_transformed(is_convex):
    @ol.problem
    def fresh(x=Variable("2", start=1), c=Parameter()):
        bent = ol.sum(x) if is_convex else ol.sum(torch.sin(x))
        return minimize(bent, x >= 0.5 * c, x <= 2)

    def value(c):
        return fresh(c).objective

    # The sum is smallest at the lower bounds.
    c = double(1.0)[0]
    slope = c / c if is_convex else torch.cos(c / 2)
    assert_close(torch.func.jacfwd(value)(c), slope, **CLOSE)
