import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacfwd, jacrev, vmap
from torch.testing import assert_close

from optlayers.errors import OrderError
from optlayers.implicit.attach import attach_gradient
from optlayers.implicit.guard import limit_derivatives
from optlayers.programs.cone_program import ConeProgram
from tests.programs.known import QP, known_program

ORDERS = pytest.mark.parametrize("order", [1, 2, 3])


def cube(order):
    return lambda x: limit_derivatives(x**3, order)


def nested(function, transforms):
    for transform in transforms:
        function = transform(function)
    return function


@ORDERS
def test_value_and_derivatives_up_to_the_order_pass_unchanged(order):
    x = torch.randn(3).double()
    assert torch.equal(cube(order)(x), x**3)
    for transform in (jacrev, jacfwd):
        guarded = nested(cube(order), [transform] * order)
        assert_close(guarded(x), nested(lambda x: x**3, [transform] * order)(x))


def test_it_passes_gradcheck_within_its_order():
    x = torch.randn(3).double().requires_grad_()
    assert gradcheck(cube(1), x, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(cube(2), x, check_batched_grad=True)


@ORDERS
def test_one_derivative_more_than_the_order_raises_and_names_the_option(order):
    x = torch.randn(3).double().requires_grad_()
    slope = cube(order)(x).sum()
    for _ in range(order):
        slope = torch.autograd.grad(slope, x, create_graph=True)[0].sum()
    message = f"order={order} was differentiated {order + 1} times.*order={order + 1}"
    with pytest.raises(OrderError, match=message):
        torch.autograd.grad(slope, x, retain_graph=True)
    with pytest.raises(OrderError, match=message):
        torch.autograd.grad(slope, x, create_graph=True)


@ORDERS
@pytest.mark.parametrize("last", [jacrev, jacfwd])
@pytest.mark.parametrize("first", [jacrev, jacfwd])
def test_every_nesting_of_transforms_raises(order, first, last):
    with pytest.raises(OrderError, match=f"order={order} "):
        nested(cube(order), [first] * order + [last])(torch.randn(3).double())


def test_eager_forward_mode_over_reverse_raises():
    x = torch.randn(3).double()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(
            x.requires_grad_(), torch.ones(3).double()
        )
        with pytest.raises(OrderError):
            torch.autograd.grad(cube(1)(dual).sum(), dual)


def test_gradgradcheck_raises_at_order_one():
    x = torch.randn(3).double().requires_grad_()
    with pytest.raises(OrderError):
        gradgradcheck(cube(1), x)


def test_a_gradient_penalty_on_another_path_is_allowed():
    # Differentiating twice is fine where the guarded value enters only once.
    x = torch.randn(3).double().requires_grad_()
    weight = torch.randn(3).double().requires_grad_()
    (slope,) = torch.autograd.grad((cube(1)(x) * weight).sum(), x, create_graph=True)
    (again,) = torch.autograd.grad(slope.sum(), weight)
    assert_close(again, 3 * x.detach() ** 2)


def test_vmapped_gradients_pass_and_vmapped_hessians_raise():
    x = torch.randn(4, 3).double()
    slope = vmap(grad(lambda row: cube(1)(row).sum()))
    assert_close(slope(x), 3 * x**2)
    with pytest.raises(OrderError):
        vmap(jacrev(jacrev(lambda row: cube(1)(row).sum())))(x)


@ORDERS
def test_inside_compile_one_derivative_too_many_is_not_finite(order):
    scalar = nested(lambda x: cube(order)(x), [grad] * order)
    beyond = nested(lambda x: cube(order)(x), [grad] * (order + 1))
    x = torch.tensor(0.7).double()
    expected = nested(lambda x: x**3, [grad] * order)(x)
    compiled = torch.compile(scalar, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), expected)
    surplus = torch.compile(beyond, fullgraph=True, backend="aot_eager")(x)
    assert not bool(surplus.isfinite())


def solved(order):
    program, point = known_program(QP, batch=1)
    P, q, A, b = program.tensors()

    def solve(q):
        return attach_gradient(point, ConeProgram(P, q, A, b, QP), order).sin().sum()

    return solve, q


def test_attached_points_carry_the_guard():
    solve, q = solved(order=1)
    q.requires_grad_()
    (slope,) = torch.autograd.grad(solve(q), q, create_graph=True)
    with pytest.raises(OrderError, match="order=1 was differentiated 2 times"):
        slope.sum().backward()
    for outer in (jacrev, jacfwd):
        for inner in (jacrev, jacfwd):
            with pytest.raises(OrderError):
                outer(inner(solve))(q.detach())


@ORDERS
def test_a_loss_linear_in_the_point_is_guarded_too(order):
    program, point = known_program(QP, batch=1)
    P, q, A, b = program.tensors()
    A.requires_grad_()
    attached = attach_gradient(point, ConeProgram(P, q, A, b, QP), order)
    slope = attached.sum()
    for _ in range(order):
        slope = torch.autograd.grad(slope, A, create_graph=True)[0].sum()
    assert bool(slope.isfinite())
    with pytest.raises(OrderError, match=f"order={order} "):
        torch.autograd.grad(slope, A)


def test_compiled_attached_points_are_not_finite_beyond_their_order():
    solve, q = solved(order=1)
    hessian = jacrev(jacrev(solve))
    surplus = torch.compile(hessian, fullgraph=True, backend="aot_eager")(q)
    assert not bool(surplus.isfinite().all())


@pytest.mark.parametrize("order", [0, -1, 1.0, True, "2", None])
def test_orders_that_are_no_positive_integer_are_refused(order):
    program, point = known_program(QP)
    with pytest.raises(OrderError, match="1 or more"):
        attach_gradient(point, program, order)
