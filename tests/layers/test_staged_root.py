"""Equations at stages: implicit steps, boundary values, in all the notation."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, solve
from optlayers.errors import ShapeError, SolveError

DOUBLE = {"dtype": torch.float64}
# A residual of 1e-10 at a condition of a few.
CLOSE = {"rtol": 0, "atol": 1e-8}
STEPS = 8


@ol.problem
def implicit_euler(x=State("n"), x0=Parameter("n"), A=Parameter("n n"), h=Parameter()):
    return solve(start=x.first == x0, step=x.next == x + h * (A @ x.next))


@ol.problem
def pendulum(q=State(), v=State(), a=Parameter(), b=Parameter()):
    """Swings from a to b in as many steps of 0.1."""
    return solve(
        start=q.first == a,
        end=q.last == b,
        move=q.next == q + 0.1 * v,
        swing=v.next == v - 0.1 * torch.sin(q.next),
    )


@ol.problem
def chain(x=State("2", start=1.0), u=Control(), s=Variable(), x0=Parameter("2")):
    """Speaks of single stages, slices, sums over stages and of one more unknown."""
    return solve(
        start=x.first == x0,
        move=x.next[0] == x[..., 0] + 0.1 * u,
        rise=x.next[1] == x[..., 1] + 0.2 * torch.cos(x[..., 0]),
        control=u == s * ol.sum(x),
        sum=ol.total(u) + ol.sum(x[1:3, 0]) + x.at(2)[1] == s + 2,
    )


def test_implicit_euler_is_a_power_of_the_inverse():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(3, 3, generator=generator, **DOUBLE) - 2 * torch.eye(3, **DOUBLE)
    x0 = torch.randn(2, 3, generator=generator, **DOUBLE)
    h = torch.tensor(0.1, **DOUBLE)
    out = implicit_euler.layer(steps=STEPS, n=3)(x0=x0, A=A, h=h)
    inverse = torch.linalg.inv(torch.eye(3, **DOUBLE) - h * A)
    powers = [torch.linalg.matrix_power(inverse, k) for k in range(STEPS + 1)]
    assert out.x.shape == (2, STEPS + 1, 3)
    assert_close(out.x, torch.stack([x0 @ one.mT for one in powers], 1), **CLOSE)


def test_its_derivative_agrees_with_differences():
    layer = implicit_euler.layer(steps=3, n=2, tolerance=1e-13)
    x0 = torch.tensor([1.0, -0.5], requires_grad=True, **DOUBLE)
    A = torch.tensor([[0.1, 1.0], [-1.0, 0.2]], requires_grad=True, **DOUBLE)
    h = torch.tensor(0.1, requires_grad=True, **DOUBLE)
    assert gradcheck(lambda x0, A, h: layer(x0=x0, A=A, h=h).x, (x0, A, h))


def test_boundary_values_are_those_of_shooting():
    a = torch.tensor([0.1, -0.3], **DOUBLE)
    b = torch.tensor([0.5, 0.2], requires_grad=True, **DOUBLE)
    out = pendulum.layer(steps=STEPS)(a=a, b=b)
    q, v = a, out.v[:, 0]
    for k in range(STEPS):
        q = q + 0.1 * v
        v = v - 0.1 * torch.sin(q)
        assert_close(out.q[:, k + 1], q, **CLOSE)
        assert_close(out.v[:, k + 1], v, **CLOSE)
    assert_close(out.q[:, -1], b, **CLOSE)


def test_the_speed_needed_answers_to_the_end_as_the_inverse_of_shooting():
    layer = pendulum.layer(steps=STEPS)
    a, b = torch.tensor(0.1, **DOUBLE), torch.tensor(0.5, requires_grad=True, **DOUBLE)
    speed = layer(a=a, b=b).v[0]
    (slope,) = torch.autograd.grad(speed, b)

    def shoot(v):
        q = a
        for _ in range(STEPS):
            q = q + 0.1 * v
            v = v - 0.1 * torch.sin(q)
        return q

    forward = torch.func.grad(shoot)(speed.detach())
    assert_close(slope, 1 / forward, **CLOSE)


def test_the_notation_of_stages_means_what_it_says():
    x0 = torch.tensor([0.3, -0.4], **DOUBLE)
    out = chain.layer(steps=4)(x0=x0)
    x, u, s = out.x, out.u, out.s
    assert x.shape == (5, 2)
    assert u.shape == (4,)
    assert_close(x[0], x0, **CLOSE)
    assert_close(x[1:, 0], x[:-1, 0] + 0.1 * u, **CLOSE)
    assert_close(x[1:, 1], x[:-1, 1] + 0.2 * torch.cos(x[:-1, 0]), **CLOSE)
    assert_close(u, s * x[:-1].sum(1), **CLOSE)
    assert_close(u.sum() + x[1:3, 0].sum() + x[2, 1], s + 2, **CLOSE)


def test_a_module_steps_and_learns():
    net = nn.Linear(2, 2, **DOUBLE)

    @ol.problem
    def learned(x=State(2), x0=Parameter(2)):
        return solve(start=x.first == x0, step=x.next == x + 0.1 * net(x.next))

    x0 = torch.tensor([[1.0, 2.0], [0.5, -1.0]], **DOUBLE)
    out = learned.layer(steps=3)(x0)
    (found,) = torch.autograd.grad(out.x.square().sum(), net.weight)
    total, x = x0.square().sum(), x0
    inverse = torch.linalg.inv(torch.eye(2, **DOUBLE) - 0.1 * net.weight)
    for _ in range(3):
        x = (x + 0.1 * net.bias) @ inverse.mT
        total = total + x.square().sum()
    assert_close(found, torch.autograd.grad(total, net.weight)[0], **CLOSE)


def test_starts_and_bounds_of_a_trajectory_hold_at_every_stage():
    guess = torch.linspace(1, 2, 4, **DOUBLE)

    @ol.problem
    def roots(x=State(lower=0, start=guess), w=Parameter()):
        return solve(x**2 == w)

    assert_close(roots.layer(steps=3)(torch.tensor(4.0, **DOUBLE)).x, 0 * guess + 2)


def test_equations_are_counted_over_stages():
    @ol.problem
    def loose(x=State("n"), x0=Parameter("n")):
        return solve(step=x.next == 0.5 * x + x0)

    with pytest.raises(ShapeError) as refused:
        loose.layer(steps=3, n=2)
    assert "6 equations for 8 unknowns" in str(refused.value)
    assert "step [3, 2] at stages 0 to 2" in str(refused.value)
    assert "x [4, 2]" in str(refused.value)


def test_an_equation_that_fails_is_named_with_its_stage():
    @ol.problem
    def broken(x=State(start=1.0), a=Parameter()):
        return solve(start=x.first == a, step=x.next**2 == x - 2)

    with pytest.raises(SolveError, match=r"of step at stage [01] against"):
        broken.layer(steps=2)(torch.tensor(3.0, **DOUBLE))


def test_a_long_body_does_not_nest_too_deep():
    @ol.problem
    def deep(x=State(), x0=Parameter()):
        value = x
        for _ in range(1500):
            value = value + 0.001
        return solve(start=x.first == x0, step=x.next == value)

    out = deep.layer(steps=2)(torch.tensor(1.0, **DOUBLE))
    assert_close(out.x, torch.tensor([1.0, 2.5, 4.0], **DOUBLE), **CLOSE)


def test_why_and_text_name_each_equation_once():
    layer = implicit_euler.layer(steps=STEPS, n=3)
    assert layer.why == (
        "solve(...) states 27 equations in as many unknowns (start, step): a root is "
        "looked for"
    )
    assert "step" in str(implicit_euler)


def test_long_trajectories_are_solved_by_default():
    layer = pendulum.layer(steps=60)
    b = torch.linspace(0.1, 0.5, 3, **DOUBLE)
    out = layer(a=torch.tensor(0.0, **DOUBLE), b=b)
    assert out.ok.all()
    assert_close(out.q[:, -1], b, **CLOSE)
