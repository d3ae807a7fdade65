import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.testing import assert_close

from optlayers.implicit.attach import attach, attach_gradient
from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from tests.programs.known import (
    QP,
    SOCP,
    known_program,
    newton,
    numbers_of,
    program_at,
    symmetric,
)

CONES = pytest.mark.parametrize("cones", [QP, SOCP], ids=["QP", "SOCP"])
SHARED = pytest.mark.parametrize("is_shared", [False, True], ids=["own", "shared"])
# Products of inverses of condition about 100.
ROUNDING = {"rtol": 1e-8, "atol": 1e-9}


def built(numbers, cones):
    P, q, A, b = numbers
    return ConeProgram(symmetric(P), q, A, b, cones)


def solution_map(cones, start, order=1):
    """(P, q, A, b) -> z: solved anew at each call, so central differences see it."""

    def solve(*numbers):
        program = built(numbers, cones)
        return attach_gradient(newton(program, start), program, order)

    return solve


def map_at(cones, value, order=1):
    """(P, q, A, b) -> z for the numbers that `value` solves: traceable everywhere."""
    return lambda *numbers: attach_gradient(value, built(numbers, cones), order)


def test_equality_constrained_programs_have_the_derivative_of_their_linear_system():
    program, point = known_program(Cones(zero=2), batch=1, n=3)
    q = program.q.requires_grad_()
    P, A, b = program.P, program.A, program.b
    program = ConeProgram(P, q, A, b, program.cones)
    x = attach_gradient(point, program)[0, :3]
    rows = [torch.autograd.grad(x[i], q, retain_graph=True)[0][0] for i in range(3)]
    system = torch.cat(
        [
            torch.cat([P[0], A[0].mT], 1),
            torch.cat([A[0], torch.zeros(2, 2).double()], 1),
        ]
    )
    assert_close(torch.stack(rows), -torch.linalg.inv(system)[:3, :3])


def test_projection_onto_the_nonnegative_orthant_is_relu():
    y = torch.tensor([[1.5, -0.5, 2.0]]).double().requires_grad_()
    identity = torch.eye(3).double()
    x = y.detach().relu()
    point = torch.cat([x, x - y.detach() - x], 1)
    b = torch.zeros(1, 3).double()
    program = ConeProgram(identity, -y, -identity, b, Cones(nonneg=3))
    x = attach_gradient(point, program)[:, :3]
    (gradient,) = torch.autograd.grad(x.sum(), y)
    assert_close(gradient, torch.tensor([[1.0, 0.0, 1.0]]).double())


def test_projection_onto_the_unit_ball_turns_its_argument():
    # minimize |x - c|^2 / 2 subject to (1, x) in the cone: x = c / |c| outside.
    c = torch.tensor([[3.0, 4.0]]).double().requires_grad_()
    A = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]]).double()
    b = torch.tensor([[1.0, 0.0, 0.0]]).double()
    program = ConeProgram(torch.eye(2).double(), -c, A, b, Cones(soc=(3,)))
    x = torch.tensor([[0.6, 0.8]]).double()
    y = torch.cat([torch.tensor([[4.0]]).double(), -4 * x], 1)
    s = torch.cat([torch.tensor([[1.0]]).double(), x], 1)
    attached = attach_gradient(program.pack(x, y, s), program)
    rows = [torch.autograd.grad(attached[0, i], c, retain_graph=True) for i in (0, 1)]
    expected = (torch.eye(2).double() - x.mT @ x) / 5
    assert_close(torch.stack([row[0][0] for row in rows]), expected)


@CONES
@SHARED
def test_value_is_unchanged_bit_by_bit(cones, is_shared):
    program, point = known_program(cones, is_shared=is_shared)
    program = built(numbers_of(program), cones)
    for order in (1, 2, 3):
        assert torch.equal(attach_gradient(point, program, order), point)


@CONES
@SHARED
def test_first_derivatives_pass_gradcheck_in_every_mode(cones, is_shared):
    program, point = known_program(cones, is_shared=is_shared)
    assert gradcheck(
        solution_map(cones, point),
        tuple(numbers_of(program)),
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@CONES
@SHARED
def test_second_derivatives_pass_gradgradcheck_at_order_two(cones, is_shared):
    program, point = known_program(cones, is_shared=is_shared, batch=1)
    solve = solution_map(cones, point, order=2)
    assert gradgradcheck(solve, tuple(numbers_of(program)), check_batched_grad=True)


def test_third_derivatives_are_right_at_order_three():
    program, point = known_program(Cones(zero=1, soc=(3,)), batch=1, n=2)
    numbers = tuple(numbers_of(program))
    solve = solution_map(program.cones, point, order=3)

    def slopes(*numbers):
        return torch.autograd.grad(solve(*numbers).sum(), numbers, create_graph=True)

    assert gradgradcheck(slopes, numbers)


@CONES
def test_forward_and_reverse_jacobians_agree(cones):
    program, point = known_program(cones)
    numbers, every = tuple(program.tensors()), (0, 1, 2, 3)
    solve = map_at(cones, point)
    reverse = jacrev(solve, every)(*numbers)
    assert_close(jacfwd(solve, every)(*numbers), reverse, **ROUNDING)
    leaves = tuple(numbers_of(program))
    eager = torch.autograd.functional.jacobian(solution_map(cones, point), leaves)
    assert_close(reverse, eager, **ROUNDING)
    tangents = tuple(torch.randn_like(number) for number in numbers)
    _, out = jvp(solve, numbers, tangents)
    expected = sum(
        torch.tensordot(jacobian, tangent, tangent.ndim)
        for jacobian, tangent in zip(reverse, tangents, strict=True)
    )
    assert_close(out, expected, **ROUNDING)


@CONES
@pytest.mark.parametrize("outer", [jacfwd, jacrev])
@pytest.mark.parametrize("inner", [jacfwd, jacrev])
def test_every_nesting_gives_the_same_hessian_at_order_two(cones, outer, inner):
    program, point = known_program(cones, batch=1)
    P, q, A, b = program.tensors()

    def total(q, A):
        numbers = (P, q, A, b)
        return attach_gradient(point, built(numbers, cones), 2).sin().sum()

    def again(q, A):
        program = built((P, q, A, b), cones)
        return attach_gradient(newton(program, point), program, 2).sin().sum()

    nested = outer(inner(total, (0, 1)), (0, 1))(q, A)
    eager = torch.autograd.functional.hessian(again, (q, A))
    assert_close(nested, eager, **ROUNDING)


@CONES
def test_vmap_is_the_loop(cones):
    programs, points = zip(
        *(known_program(cones, seed=seed) for seed in range(3)), strict=True
    )
    numbers = [
        torch.stack(same)
        for same in zip(*(program.tensors() for program in programs), strict=True)
    ]

    def slopes(value, *numbers):
        return grad(lambda *n: map_at(cones, value)(*n).sin().sum(), (0, 1, 2, 3))(
            *numbers
        )

    mapped = vmap(slopes)(torch.stack(points), *numbers)
    for k in range(3):
        alone = slopes(points[k], *(number[k] for number in numbers))
        assert_close(tuple(one[k] for one in mapped), alone, **ROUNDING)


def test_vmap_over_one_parameter_alone_is_the_loop():
    program, point = known_program(SOCP)
    P, q, A, b = program.tensors()
    values = point.expand(3, *point.shape)
    shifts = torch.stack([torch.zeros_like(q)] * 3)

    def slope(value, shift):
        return grad(lambda s: map_at(SOCP, value)(P, q + s, A, b).sum())(shift)

    mapped = vmap(slope, (None, 0))(point, shifts)
    assert_close(mapped, vmap(slope)(values, shifts))
    assert_close(mapped[1], slope(point, shifts[1]))


@CONES
@SHARED
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_attached_points_compile_into_one_graph(cones, is_shared, backend):
    program, point = known_program(cones, is_shared=is_shared)
    numbers = numbers_of(program)

    def loss(value, *numbers):
        return attach_gradient(value, built(numbers, cones), 1).sin().sum()

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    given = torch.autograd.grad(compiled(point, *numbers), numbers)
    expected = torch.autograd.grad(loss(point, *numbers), numbers)
    assert_close(given, expected, **ROUNDING)


def test_second_derivatives_compile_at_order_two():
    program, point = known_program(SOCP, batch=1)
    P, q, A, b = program.tensors()

    def curvature(q):
        def total(q):
            return attach_gradient(point, built((P, q, A, b), SOCP), 2).sin().sum()

        return hessian(total)(q)

    compiled = torch.compile(curvature, fullgraph=True, backend="aot_eager")
    assert_close(compiled(q), curvature(q), **ROUNDING)


def test_shared_matrices_collect_the_sum_of_their_samples():
    program, point = known_program(QP, batch=3, is_shared=True)
    numbers = numbers_of(program)
    attach_gradient(point, built(numbers, QP)).sin().sum().backward()
    apart = torch.zeros(5, 4).double()
    for k in range(3):
        one = numbers_of(program.select(torch.tensor([k])))
        attach_gradient(point[k : k + 1], built(one, QP)).sin().sum().backward()
        apart += one[2].grad
    assert_close(numbers[2].grad, apart)


@SHARED
def test_gradients_of_patterns_are_those_of_the_dense_matrix_on_the_pattern(is_shared):
    program, point = known_program(QP, is_shared=is_shared)
    P, q, A, b = program.tensors()
    rows, cols = torch.ones(5, 4).nonzero(as_tuple=True)
    values = A[..., rows, cols].clone().requires_grad_()
    A.requires_grad_()
    sparse = ConeProgram(P, q, PatternMatrix(values, rows, cols, (5, 4)), b, QP)
    attach_gradient(point, sparse).sin().sum().backward()
    attach_gradient(point, ConeProgram(P, q, A, b, QP)).sin().sum().backward()
    assert values.grad.shape == values.shape
    assert_close(values.grad, A.grad[..., rows, cols])


def test_numbers_that_need_no_gradient_cost_none():
    program, point = known_program(QP)
    P, q, A, b = program.tensors()
    attached = attach_gradient(point, ConeProgram(P, q.requires_grad_(), A, b, QP))
    attached.sum().backward()
    assert q.grad is not None
    assert P.grad is A.grad is b.grad is None


def test_objective_needs_only_the_point_of_one_order_less():
    # Envelope theorem: L is stationary in z, so the error of z enters squared.
    program, point = known_program(SOCP, batch=1)

    def minimum(*numbers):
        program = built(numbers, SOCP)
        attached = attach(newton(program, point), program, 2)
        return program.lagrangian(attached.previous)

    numbers = tuple(numbers_of(program))
    assert gradcheck(minimum, numbers, check_forward_ad=True)
    assert gradgradcheck(minimum, numbers)


def test_duplicated_constraints_give_the_least_squares_derivative_and_say_so():
    # x >= 1 twice, both active: the multipliers are not unique, x is.
    P = torch.eye(2).double()
    A = -torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]).double()
    x, v = torch.ones(2, 2).double(), torch.full((2, 2), 0.5).double()
    cones = Cones(nonneg=2)
    known = program_at(P.expand(2, 2, 2), A, x, v, cones)
    _, q, A, b = numbers_of(known)
    program = ConeProgram(P, q, A, b, cones)
    attached = attach(torch.cat([x, v], 1), program)
    assert attached.condition[0] == torch.inf
    assert bool(attached.condition[1].isfinite())
    weight = torch.randn(2, 4).double()
    gradients = torch.autograd.grad((attached.point * weight).sum(), (q, b))
    adjoint = (
        torch.linalg.pinv(program.jacobian(attached.point)).mT @ weight[:, :, None]
    )
    assert_close(gradients, (-adjoint[:, :2, 0], -adjoint[:, 2:, 0]))
    # x_1 follows the mean of the two bounds -b.
    (follows,) = torch.autograd.grad(
        attach_gradient(torch.cat([x, v], 1), program)[0, 0], b
    )
    assert_close(follows[0], torch.tensor([-0.5, -0.5]).double())


@pytest.mark.parametrize(("batch", "n", "rows"), [(0, 3, 2), (2, 0, 2), (2, 3, 0)])
def test_empty_axes_give_empty_gradients(batch, n, rows):
    program, point = known_program(Cones(nonneg=rows), batch=batch, n=max(n, 1))
    P, q, A, b = numbers_of(program)
    if n == 0:
        P, q, A = (t.detach()[..., :0].requires_grad_() for t in (P[:, :0], q, A))
        point = point[:, 1:]
    attached = attach_gradient(point, ConeProgram(P, q, A, b, program.cones), 2)
    assert attached.shape == (batch, n + rows)
    attached.sum().backward()
    assert bool(q.grad.isfinite().all())


def test_a_layer_inside_a_module_trains_through_functional_call():
    program, point = known_program(QP)
    P, q, A, b = program.tensors()
    net = torch.nn.Linear(4, 4).double()

    def loss(parameters):
        shift = functional_call(net, parameters, (q,))
        attached = map_at(QP, point)(P, q + shift - shift.detach(), A, b)
        return attached.sin().sum()

    parameters = {name: p.detach() for name, p in net.named_parameters()}
    functional = grad(loss)(parameters)
    loss(dict(net.named_parameters())).backward()
    for name, parameter in net.named_parameters():
        assert_close(functional[name], parameter.grad)
