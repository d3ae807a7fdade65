"""The derivative of a solver's steps: closed forms, differences, then the theorem's."""

import pytest
import torch
from torch import nn
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, registry, solve
from optlayers.errors import NotSupported, TransformError
from optlayers.functional import fixed_point, root
from optlayers.implicit.unrolled import Unrollable, jacobian_of
from optlayers.solution import Status
from optlayers.solvers.root.anderson import Anderson
from optlayers.solvers.root.fixed_point import FixedPoint
from optlayers.solvers.root.newton import Newton

OF_MAPS = ("fixed_point", "anderson", "newton")
# Any residual counts as zero: the answer is what so many steps make of the start.
ANYTHING = 0.999999
# Of tolerance 1e-13: the derivative of k steps is off by about k |W|^k = 1e-12, that of
# second order by more.
LIMIT = {"rtol": 1e-9, "atol": 1e-9}


def cut_off(kind, steps, **options):
    return kind(max_steps=steps, tolerance=1e-300, **options)


def contraction(size=3, batch=2, norm=0.5):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(size, size, generator=generator, dtype=torch.float64)
    b = torch.randn(batch, size, generator=generator, dtype=torch.float64)
    return norm * W / torch.linalg.matrix_norm(W, 2), b


def equilibrium(W, b, solver, gradient="unrolled", **options):
    return fixed_point(
        lambda z: torch.tanh(z @ W.mT + b), torch.zeros_like(b), solver=solver,
        gradient=gradient, **options,
    )  # fmt: skip


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_of_a_linear_map_have_the_derivative_of_a_cut_off_series(steps):
    W, b = contraction(batch=1)
    b = 0.1 * b
    b.requires_grad_()
    solver = cut_off(FixedPoint, steps, check_every=1)
    z = fixed_point(
        lambda z: z @ W.mT + b, torch.zeros_like(b), solver=solver,
        gradient="unrolled", tolerance=ANYTHING,
    ).value  # fmt: skip
    found = torch.stack([grad(one, b, retain_graph=True)[0][0] for one in z[0]])
    expected = sum(torch.linalg.matrix_power(W, i) for i in range(steps))
    assert_close(found, expected)


def test_a_step_of_newton_on_a_square_is_that_of_babylon():
    a = torch.tensor([[2.0], [3.0]], dtype=torch.float64, requires_grad=True)
    start = torch.full_like(a, 1.5)
    found = root(
        lambda x: x * x - a, start, solver=cut_off(Newton, 1), gradient="unrolled",
        tolerance=ANYTHING,
    ).value  # fmt: skip
    assert_close(found, (start + a / start) / 2)
    assert_close(grad(found.sum(), a)[0], 0.5 / start)


@pytest.mark.parametrize(
    "solver",
    [
        cut_off(FixedPoint, 3, check_every=1),
        cut_off(FixedPoint, 3, damping=0.7, check_every=2),
        cut_off(Anderson, 4),
        cut_off(Anderson, 4, memory=2, damping=0.8),
        cut_off(Newton, 1),
    ],
)
def test_steps_cut_off_before_the_solution_agree_with_differences(solver):
    W, b = contraction(norm=0.9)

    def run(W, b):
        return equilibrium(W, b, solver, tolerance=ANYTHING).value

    inputs = W.requires_grad_(), b.requires_grad_()
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


@pytest.mark.parametrize("solver", OF_MAPS)
def test_at_the_solution_it_is_the_derivative_of_the_theorem(solver):
    W, b = (one.requires_grad_() for one in contraction())

    def derivatives(gradient):
        found = equilibrium(W, b, solver, gradient, tolerance=1e-13, order=2)
        first = grad(found.value.square().sum(), (W, b), create_graph=True)
        return first + grad(torch.cat(first).square().sum(), (W, b))

    assert_close(derivatives("unrolled"), derivatives("exact"), **LIMIT)


def test_it_tends_to_the_derivative_of_the_theorem_as_steps_grow():
    W, b = (one.requires_grad_() for one in contraction())

    def derivative(gradient, steps=200):
        solver = cut_off(FixedPoint, steps, check_every=1)
        found = equilibrium(W, b, solver, gradient, tolerance=ANYTHING)
        return grad(found.value.sum(), W)[0]

    exact = derivative("exact")
    errors = [(derivative("unrolled", k) - exact).norm() for k in (2, 6, 18)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_damped_steps_of_newton_are_taken_again():
    a = torch.tensor([[0.3], [-0.2]], dtype=torch.float64, requires_grad=True)

    def run(gradient):
        # From 3 a full step of Newton's method leads far away.
        start = torch.full_like(a, 3.0)
        return root(
            lambda x: torch.atan(x) - a, start, solver="newton", gradient=gradient
        )

    unrolled, exact = run("unrolled"), run("exact")
    assert torch.equal(unrolled.value, exact.value)
    assert_close(grad(unrolled.value.sum(), a), grad(exact.value.sum(), a))


@pytest.mark.parametrize("solver", OF_MAPS)
def test_samples_stop_at_their_own_step(solver):
    W, b = contraction(batch=3)
    b[1] *= 1e-3  # solved earlier
    b[2] *= 3

    def run(rows):
        own = b[rows].clone().requires_grad_()
        found = equilibrium(W, own, solver)
        return found, *grad(found.value.sum(), own)

    whole, gradient = run(slice(None))
    assert len(set(whole.stats["steps"].tolist())) > 1
    for i in range(3):
        alone, own = run(slice(i, i + 1))
        # The same operations on other batches, up to their rounding.
        assert_close(whole.value[i], alone.value[0])
        assert_close(gradient[i], own[0])


@pytest.mark.parametrize("solver", OF_MAPS)
def test_the_value_is_bitwise_that_of_the_solver(solver):
    W, b = contraction()
    with torch.no_grad():
        expected = equilibrium(W, b, solver).value
    assert torch.equal(equilibrium(W, b.requires_grad_(), solver).value, expected)


def test_failed_samples_have_no_gradient_and_leave_that_of_the_others():
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    a = torch.tensor([[4.0], [-1.0]], dtype=torch.float64, requires_grad=True)
    found = root(
        lambda x: scale * x * x - a, torch.ones_like(a), solver="newton",
        gradient="unrolled", on_failure="nan",
    )  # fmt: skip
    assert found.status[0] == Status.SOLVED != found.status[1]
    in_scale, in_a = grad(found.value[0].sum(), (scale, a))
    assert_close(in_scale, torch.tensor(-1.0, dtype=torch.float64))
    assert_close(in_a, torch.tensor([[0.25], [0.0]], dtype=torch.float64))


@ol.problem
def deep(z=Variable(3), b=Parameter(3), W=Parameter("3 3")):
    return solve(z == torch.tanh(W @ z + b))


@pytest.mark.parametrize("solver", OF_MAPS)
def test_declared_layers_have_it_too(solver):
    W, b = (one.requires_grad_() for one in contraction())

    def derivatives(gradient):
        layer = deep.layer(solver=solver, gradient=gradient, tolerance=1e-13)
        return grad(layer(b=b, W=W).z.square().sum(), (W, b))

    assert_close(derivatives("unrolled"), derivatives("exact"), **LIMIT)


def test_modules_of_a_declaration_learn_through_the_steps():
    net = nn.Linear(3, 3).double()
    with torch.no_grad():
        net.weight.mul_(0.5)

    @ol.problem
    def model(z=Variable(3), u=Parameter(3)):
        return solve(z == torch.tanh(net(z) + u))

    _, u = contraction()

    def derivative(gradient):
        out = model(u, solver="fixed_point", gradient=gradient, tolerance=1e-13)
        return grad(out.z.sum(), net.weight)[0]

    assert_close(derivative("unrolled"), derivative("exact"), **LIMIT)


def test_failed_samples_of_a_declaration_reach_no_shared_parameter():
    W, b = contraction()
    W.requires_grad_()
    b[1] = torch.nan
    out = deep(
        b=b, W=W, solver="fixed_point", gradient="unrolled", on_failure="keep"
    )  # fmt: skip
    alone = deep(b=b[0], W=W, solver="fixed_point")
    assert out.ok.tolist() == [True, False]
    assert_close(grad(out.z.sum(), W), grad(alone.z.sum(), W))


def test_memory_grows_with_the_steps():
    W, b = (one.requires_grad_() for one in contraction())
    kept = []

    def count(steps):
        kept.clear()
        solver = cut_off(FixedPoint, steps)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda one: kept.append(one) or one, lambda one: one
        ):
            equilibrium(W, b, solver, tolerance=ANYTHING)
        return len(kept)

    few, some, many = map(count, (4, 8, 16))
    assert many - some == 2 * (some - few) > 0


def test_solvers_that_cannot_be_unrolled_are_refused_by_name():
    system = (lambda z: 0.5 * z + 1, torch.zeros(1, 1, dtype=torch.float64))
    can = {"fixed_point", "anderson", "newton"}
    others = [name for name in registry.names("root") if name not in can]
    assert "auto" in others
    for name in others:
        kind = type(registry.create("root", name))
        with pytest.raises(NotSupported, match=f"those of {kind.__name__} are"):
            fixed_point(*system, solver=name, gradient="unrolled")
    for name in can:
        assert isinstance(registry.create("root", name), Unrollable)


def test_a_layer_refuses_before_its_first_call():
    with pytest.raises(NotSupported, match='Give solver="newton"'):
        deep.layer(gradient="unrolled")


def test_transforms_cannot_see_the_steps():
    layer = deep.layer(solver="newton", gradient="unrolled")
    W, b = contraction()
    with pytest.raises(TransformError, match="unrolled"):
        torch.func.vmap(lambda b: layer(b=b, W=W).z)(b)


def test_jacobians_of_rows_are_differentiable():
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    jacobian = jacobian_of(torch.stack([x[:, 0] ** 2, x.prod(1)], 1), x)
    expected = torch.tensor([[[2.0, 0.0], [2.0, 1.0]]], dtype=torch.float64)
    assert_close(jacobian, expected)
    assert_close(grad(jacobian.sum(), x)[0], torch.tensor([[3.0, 1.0]]).double())
