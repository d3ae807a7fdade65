"""Layers of systems of equations: roots, branches, gradients, options, copies."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize, solve
from optlayers.errors import (
    NotConvex,
    NotSupported,
    OrderError,
    ParameterError,
    SingularError,
    SolverRefused,
    UnknownName,
)
from optlayers.interfaces import Kind

DOUBLE = {"dtype": torch.float64}
# A residual of 1e-10 at a condition of a few.
CLOSE = {"rtol": 0, "atol": 1e-8}

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 3, **DOUBLE), nn.Tanh())
shift = nn.Parameter(torch.tensor([0.1, -0.2, 0.3], **DOUBLE))
with torch.no_grad():
    net[0].weight.mul_(0.5)


@ol.problem
def phase(x=Variable(), w=Parameter()):
    """A sine that is shifted."""
    return solve(torch.sin(x + w) == 0)


@ol.problem
def upper_half(y=Variable(lower=0, start=0.5), x=Parameter()):
    return solve(x**2 + y**2 == 1)


@ol.problem
def lower_half(y=Variable(nonpos=True, start=-0.5), x=Parameter()):
    return solve(x**2 + y**2 == 1)


@ol.problem
def implicit(y=Variable(start=1.0), x=Parameter()):
    return solve(torch.sin(x * y) == y)


@ol.problem
def equilibrium(z=Variable("d"), u=Parameter("d"), W=Parameter("d d")):
    return solve(z == torch.tanh(W @ z + u))


@ol.problem
def learned(z=Variable("3"), u=Parameter("3")):
    return solve(z == net(z) + shift * u)


@ol.problem
def intersection(
    p=Variable("2", start=(1, 0.5)),
    s=Variable(),
    r=Parameter(nonneg=True),
    a=Parameter(),
):
    return solve(
        ring=ol.sum_squares(p) == r**2,
        line=p[1] == a * p[0],
        sum=s == p[0] + p[1],
    )


def weights(rows=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    u = torch.randn(rows, 3, generator=generator, dtype=dtype)
    return u, 0.3 * torch.randn(3, 3, generator=generator, dtype=dtype)


# ---- the lecture's equations ---------------------------------------------------------


def test_the_root_of_a_sine_moves_against_its_shift():
    w = torch.linspace(-1, 1, 5, **DOUBLE).requires_grad_()
    out = phase(w)
    out.x.sum().backward()
    assert_close(out.x, -w, **CLOSE)
    assert_close(w.grad, -torch.ones_like(w), **CLOSE)


@pytest.mark.parametrize(("half", "sign"), [(upper_half, 1.0), (lower_half, -1.0)])
def test_a_half_plane_chooses_the_branch_of_the_circle(half, sign):
    x = torch.linspace(-0.8, 0.8, 5, **DOUBLE).requires_grad_()
    out = half(x)
    out.y.sum().backward()
    y = sign * (1 - x.detach() ** 2).sqrt()
    assert_close(out.y, y, **CLOSE)
    assert_close(x.grad, -x.detach() / y, **CLOSE)


def test_an_equation_without_explicit_form_has_the_implicit_derivative():
    x = torch.tensor([1.5, 2.0], **DOUBLE, requires_grad=True)
    y = implicit(x).y
    y.sum().backward()
    cosine = torch.cos(x * y).detach()
    expected = y.detach() * cosine / (1 - x.detach() * cosine)
    assert (y > 0.5).all()
    assert_close(x.grad, expected, **CLOSE)


def test_several_variables_come_back_by_name():
    r, a = torch.tensor([1.0, 2.0], **DOUBLE), torch.tensor(1.0, **DOUBLE)
    out = intersection(r=r, a=a)
    along = r / 2**0.5
    assert_close(out.p, torch.stack([along, along], 1), **CLOSE)
    assert_close(out.s, 2 * along, **CLOSE)
    assert out.ok.all() and out.objective is None and len(out.dual) == 0
    assert set(out.stats) == {"steps", "residual", "seconds"}


# ---- gradients -----------------------------------------------------------------------


def test_both_orders_of_an_equilibrium_agree_with_differences():
    def z(u, W):
        return equilibrium(u, W, order=2, tolerance=1e-13).z

    inputs = [one.requires_grad_() for one in weights(2)]
    assert gradcheck(z, inputs) and gradgradcheck(z, inputs)


def test_both_orders_of_several_equations_agree_with_differences():
    def both(r, a):
        out = intersection(r=r, a=a, order=2, tolerance=1e-13)
        return out.p, out.s

    r = torch.tensor([1.0, 2.0], **DOUBLE, requires_grad=True)
    a = torch.tensor(0.7, **DOUBLE, requires_grad=True)
    assert gradcheck(both, (r, a)) and gradgradcheck(both, (r, a))


def test_a_module_and_a_learned_parameter_inside_get_their_gradients():
    u = weights(2)[0].requires_grad_()

    def z(u, *_):
        return learned(u, order=2, tolerance=1e-13).z

    inputs = (u, shift, *net.parameters())
    assert gradcheck(z, inputs) and gradgradcheck(z, inputs)


def test_a_tensor_that_a_function_closes_over_gets_its_gradient():
    scale = torch.tensor(2.0, **DOUBLE, requires_grad=True)

    def body(x=Variable(start=1.0), a=Parameter()):
        return solve(ol.smooth(lambda v: scale * v**2)(x) == a)

    ol.problem(body)(torch.tensor(8.0, **DOUBLE)).x.backward()
    assert_close(scale.grad, torch.tensor(-0.5, **DOUBLE), **CLOSE)


@pytest.mark.parametrize("gradient", ["dense", "gmres", "bicgstab", "normal_cg"])
def test_every_exact_gradient_is_the_same(gradient):
    u, W = (one.requires_grad_() for one in weights())
    exact = torch.autograd.grad(equilibrium(u, W).z.square().sum(), (u, W))
    out = equilibrium(u, W, gradient=gradient)
    assert_close(torch.autograd.grad(out.z.square().sum(), (u, W)), exact, **CLOSE)


def test_approximate_gradients_need_a_fixed_point():
    u, W = weights()
    assert equilibrium(u.requires_grad_(), W, gradient="neumann").z.requires_grad
    with pytest.raises(NotSupported, match="system of equations"):
        phase(torch.zeros(2, requires_grad=True), gradient="one_step")


def test_more_derivatives_than_ordered_are_refused():
    w = torch.zeros(2, **DOUBLE, requires_grad=True)
    (slope,) = torch.autograd.grad(phase(w).x.exp().sum(), w, create_graph=True)
    with pytest.raises(OrderError, match="order=2"):
        torch.autograd.grad(slope.sum(), w)


def test_a_singular_jacobian_is_named_and_least_squares_answers():
    a = torch.zeros(1, **DOUBLE, requires_grad=True)
    # The search begins at the double root, to which it would come slowly.
    touching = ol.problem(lambda x=Variable(), a=Parameter(): solve(x**2 == a))
    with pytest.raises(SingularError, match="least_squares"):
        touching(a)
    out = touching(a, gradient="least_squares")
    (slope,) = torch.autograd.grad(out.x.sum(), a)
    assert slope == 0 and out.stats["gradient_condition"].isinf().all()


# ---- the face of a layer -------------------------------------------------------------


def test_kind_and_why():
    layer = equilibrium.layer(d=3)
    assert layer.kind is Kind.ROOT and "fixed point" in layer.why
    assert "root: solve" in str(equilibrium.explain(d=3))
    assert "auto: chosen" in str(layer.explain())


def test_float32_gives_float32_solved_in_double():
    u, W = weights(dtype=torch.float32)
    out = equilibrium(u, W)
    assert out.z.dtype == torch.float32
    assert out.stats["residual"].max() <= 1e-10
    assert_close(out.z, torch.tanh(out.z @ W.T + u))


def test_a_module_is_called_in_its_own_precision():
    single = copy.deepcopy(net).float()

    def body(z=Variable("3"), u=Parameter("3")):
        return solve(z == single(z) + u)

    u = weights(dtype=torch.float32)[0]
    out = ol.problem(body)(u)
    assert out.z.dtype == torch.float32 and out.stats["residual"].max() <= 1e-5


def test_any_number_of_batch_dimensions_broadcasts():
    u, W = weights(6)
    out = equilibrium(u.reshape(2, 3, 3), W)
    assert out.z.shape == (2, 3, 3) and out.ok.shape == (2, 3)
    assert_close(out.z.reshape(6, 3), equilibrium(u, W).z)
    one = equilibrium(u[0], W)
    assert one.z.shape == (3,) and one.ok.shape == ()
    assert_close(one.z, out.z[0, 0], **CLOSE)


def test_an_empty_batch_gives_empty_results():
    W = weights()[1].requires_grad_()
    out = equilibrium(torch.zeros(0, 3, **DOUBLE), W)
    assert out.z.shape == (0, 3) and out.ok.shape == (0,)


def test_inference_mode_solves_too():
    u, W = weights()
    expected = equilibrium(u, W).z, learned(u).z
    with torch.inference_mode():
        assert_close((equilibrium(u + 0, W).z, learned(u + 0).z), expected)


def test_a_system_without_parameters_is_one_sample():
    problem = ol.problem(lambda x=Variable(start=1.0): solve(x**2 == 2))
    assert_close(problem().x, torch.tensor(2.0, **DOUBLE).sqrt(), **CLOSE)


@pytest.mark.parametrize("solver", ["anderson", "fixed_point", "broyden", "newton"])
def test_solvers_are_chosen_by_name(solver):
    u, W = weights()
    assert_close(equilibrium(u, W, solver=solver).z, equilibrium(u, W).z, **CLOSE)


def test_solver_instances_keep_their_options():
    u, W = weights()
    newton = ol.registry.create("root", "newton", max_steps=1)
    out = equilibrium(u, W, solver=newton, on_failure="keep")
    assert (out.stats["steps"] <= 1).all() and not out.ok.all()


def test_an_option_of_solvers_is_answered_with_where_it_belongs():
    words = r"solver=ol\.solvers\.root\.Newton\(max_steps=\.\.\.\)"
    with pytest.raises(UnknownName, match=words):
        phase(torch.zeros(()), max_steps=3)
    with pytest.raises(UnknownName, match=words):
        phase.layer(max_steps=3)


def test_gradients_that_there_are_not_are_answered_with_those_of_every_kind():
    with pytest.raises(ParameterError, match=r"\n  root: exact, dense, .*\n  ode: "):
        phase.layer(gradient="foo")


def test_gradients_of_another_kind_are_refused():
    def least(x=Variable(), y=Parameter()):
        return minimize((x - y) ** 2)

    with pytest.raises(ParameterError, match="one of exact, dense"):
        equilibrium.layer(d=3, gradient="diffcp")
    with pytest.raises(ParameterError, match="one of exact, diffcp"):
        ol.problem(least).layer(gradient="gmres")


def test_solvers_of_something_else_are_refused():
    with pytest.raises(SolverRefused, match="solves convex programs"):
        phase.layer(solver=ol.registry.create("convex", "clarabel"))
    with pytest.raises(SolverRefused, match="x == map"):
        phase.layer(solver="anderson")


def test_an_approximate_gradient_has_no_second_derivative():
    with pytest.raises(ParameterError, match="approximate"):
        equilibrium.layer(d=3, gradient="neumann", order=2)


def test_integers_are_refused():
    with pytest.raises(ParameterError, match="int64"):
        phase(torch.zeros(2, dtype=torch.int64))


def test_there_is_no_cone_program_of_a_system():
    layer = phase.layer()
    with pytest.raises(NotSupported, match="no cone program"):
        layer.compiled(torch.zeros(2))
    with pytest.raises(NotConvex, match="system of equations"):
        layer.to_cvxpy(torch.zeros(()))


# ---- modules and copies --------------------------------------------------------------


def test_what_is_met_in_the_equations_is_registered_and_trained():
    layer = learned.layer()
    assert set(layer.state_dict()) == {"net.0.weight", "net.0.bias", "shift"}
    layer(weights()[0]).z.sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    layer.zero_grad()


def test_bound_parameters_are_learned():
    u, W = weights()
    layer = equilibrium.layer(W=nn.Parameter(W))
    assert list(layer.state_dict()) == ["W"]
    layer(u).z.sum().backward()
    shared = W.clone().requires_grad_()
    equilibrium(u, shared).z.sum().backward()
    assert_close(layer.W.grad, shared.grad)


def test_copies_train_apart_and_pickles_answer_the_same():
    u = weights()[0]
    layer = learned.layer()
    expected = layer(u).z
    twin = pickle.loads(pickle.dumps(layer))
    assert_close(twin(u).z, expected)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    assert_close(layer(u).z, expected)
    assert not torch.allclose(other(u).z, expected)
    other.load_state_dict(layer.state_dict())
    assert_close(other(u).z, expected)
