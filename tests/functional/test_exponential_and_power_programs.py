"""Gradients of exponential- and power-cone programs, right to 1e-6 on 130 instances.

The truth is a closed form, or Newton's method on the smooth optimality conditions of
the same problem, which knows neither cones nor projections.
"""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.programs.cones import Cones

ACCURACY = 1e-6  # of gradients, relative to the largest
RESIDUAL = 1e-9


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def zero_of(conditions, start: Tensor, *parameters: Tensor) -> Tensor:
    """The zero near each row of `start`, [B, k], differentiable once in parameters."""
    jacobian = torch.vmap(torch.func.jacrev(conditions))
    many = torch.vmap(conditions)
    point, fixed = start.detach(), [one.detach() for one in parameters]
    for _ in range(6):
        point = point - torch.linalg.solve(jacobian(point, *fixed), many(point, *fixed))
    assert float(many(point, *fixed).abs().max()) < 1e-10
    J = jacobian(point, *fixed)
    return point - torch.linalg.solve(J, many(point, *parameters))


def compare(found: Tensor, true: Tensor, parameters: list[Tensor]) -> None:
    """Values and gradients of a random functional agree."""
    assert_close(found, true, rtol=0, atol=1e-7)
    weights = normal(*found.shape, seed=99)
    ours = torch.autograd.grad((found * weights).sum(), parameters, retain_graph=True)
    theirs = torch.autograd.grad((true * weights).sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        error = (one - other).abs().max() / (1 + other.abs().max())
        assert float(error) < ACCURACY


def entropy_program(c: Tensor) -> ol.Solution:
    """Minimize sum p log p - c'p over the simplex; x = (p, t), t_i >= p_i log p_i."""
    n = c.shape[-1]
    A, b = torch.zeros(1 + 3 * n, 2 * n).double(), torch.zeros(1 + 3 * n).double()
    A[0, :n] = b[0] = 1
    for i in range(n):  # (-t_i, p_i, 1) in K_exp
        A[1 + 3 * i, n + i], A[2 + 3 * i, i], b[3 + 3 * i] = 1, -1, 1
    q = torch.cat([-c, torch.ones_like(c)], -1)
    cones = Cones(zero=1, exp=n)
    return ol.functional.cone_program(None, q, A, b, cones, order=2)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_forty_entropy_projections_are_softmax(n):
    c = (2 * normal(8, n, seed=n)).requires_grad_()
    found = entropy_program(c)
    assert float(found.stats["residual"].max()) < RESIDUAL
    compare(found.value[:, :n], c.softmax(-1), [c])
    # d log-sum-exp = softmax: the multiplier of the mass is 1 - log-sum-exp.
    compare(found.duals["y"][:, :1], c.logsumexp(-1, keepdim=True) - 1, [c])


def test_second_derivatives_of_the_entropy_projection_are_those_of_softmax():
    c = normal(3, seed=1)
    weights = normal(3, seed=2)

    def ours(c):
        return entropy_program(c).value[:3] @ weights

    def theirs(c):
        return c.softmax(-1) @ weights

    assert_close(
        torch.func.hessian(ours)(c), torch.func.hessian(theirs)(c), atol=1e-7, rtol=0
    )


@ol.problem
def logistic_regression(
    x=Variable("n"), F=Parameter("k n"), rho=Parameter(nonneg=True)
):
    return minimize(ol.sum(ol.logistic(F @ x)) + rho * ol.sum_squares(x))


def test_twenty_logistic_regressions_meet_their_smooth_conditions():
    F = normal(20, 6, 3, seed=3).requires_grad_()
    rho = (0.2 + normal(20, seed=4).square()).requires_grad_()
    found = logistic_regression(F=F, rho=rho)
    assert float(found.stats["residual"].max()) < RESIDUAL

    def slope(x, F, rho):
        return F.mT @ (F @ x).sigmoid() + 2 * rho * x

    compare(found.x, zero_of(slope, found.x, F, rho), [F, rho])


@ol.problem
def soft_maximum(x=Variable("n"), F=Parameter("k n"), g=Parameter("k")):
    return minimize(ol.log_sum_exp(F @ x + g) + ol.sum_squares(x) / 2)


def test_twenty_soft_maxima_meet_their_smooth_conditions():
    F, g = normal(20, 5, 3, seed=5).requires_grad_(), normal(20, 5, seed=6)
    g = g.requires_grad_()
    found = soft_maximum(F=F, g=g)
    assert float(found.stats["residual"].max()) < RESIDUAL

    def slope(x, F, g):
        return F.mT @ (F @ x + g).softmax(-1) + x

    compare(found.x, zero_of(slope, found.x, F, g), [F, g])


@ol.problem
def information_projection(
    p=Variable("n"), q=Parameter("n", nonneg=True), a=Parameter("n"), level=Parameter()
):
    return minimize(ol.sum(ol.kl_div(p, q)), mass=ol.sum(p) == 1, mean=a @ p == level)


def test_ten_information_projections_meet_their_smooth_conditions():
    q = normal(10, 4, seed=7).exp().requires_grad_()
    a = normal(10, 4, seed=8)
    level = (a * normal(10, 4, seed=9).softmax(-1)).sum(-1).requires_grad_()
    a = a.requires_grad_()
    found = information_projection(q=q, a=a, level=level)
    assert float(found.stats["residual"].max()) < RESIDUAL

    def conditions(z, q, a, level):
        p, mass, mean = z[:4], z[4], z[5]
        excess = torch.stack([p.sum() - 1, a @ p - level])
        return torch.cat([torch.log(p / q) + mass + mean * a, excess])

    duals = [found.dual.mass[:, None], found.dual.mean[:, None]]
    point = torch.cat([found.p, *duals], 1)
    compare(point, zero_of(conditions, point, q, a, level), [q, a, level])


@ol.problem
def in_a_ball(
    x=Variable("n"), F=Parameter("k n"), c=Parameter("n"), r=Parameter(nonneg=True)
):
    return minimize(
        ol.log_sum_exp(F @ x), ball=ol.norm(x) <= r, plane=c @ x == 0.1, far=x[0] <= 9
    )


def test_ten_programs_of_two_curved_cones_meet_their_smooth_conditions():
    F, c = normal(10, 5, 3, seed=10), normal(10, 3, seed=11)
    F = (F + normal(10, 1, 3, seed=12)).requires_grad_()  # leans to one side
    c, r = c.requires_grad_(), (1 + normal(10, seed=13).square()).requires_grad_()
    found = in_a_ball(F=F, c=c, r=r)
    assert float(found.stats["residual"].max()) < RESIDUAL
    active = found.dual.ball.detach() > 1e-3
    assert int(active.sum()) >= 5

    def conditions(z, F, c, r):
        x, ball, plane = z[:3], z[3], z[4]
        slope = F.mT @ (F @ x).softmax(-1) + ball * x / x.norm() + plane * c
        return torch.cat([slope, torch.stack([x.norm() - r, c @ x - 0.1])])

    duals = [found.dual.ball[:, None], found.dual.plane[:, None]]
    point = torch.cat([found.x, *duals], 1)[active]
    true = zero_of(conditions, point, F[active], c[active], r[active])
    compare(point, true, [F, c, r])


@pytest.mark.parametrize("exponent", [0.05, 0.2, 0.5, 0.7, 0.95])
def test_fifteen_projections_on_a_power_cone_meet_their_smooth_conditions(exponent):
    y = normal(3, 3, seed=int(100 * exponent))
    y[:, 2] = y[:, 2] + 3 * y[:, 2].sign()
    y.requires_grad_()
    eye = torch.eye(3).double()
    cones = Cones(power=(exponent,))
    found = ol.functional.cone_program(eye, -y, -eye, torch.zeros(3).double(), cones)
    assert float(found.stats["residual"].max()) < RESIDUAL

    def conditions(z, y):
        x, price = z[:3], z[3]

        def gap(x):
            return (
                exponent * x[0].log() + (1 - exponent) * x[1].log() - x[2].abs().log()
            )

        return torch.cat([x - y - price * torch.func.grad(gap)(x), gap(x)[None]])

    x = found.value
    price = ((x - y)[:, 2:] / -(1 / x[:, 2:])).detach()
    true = zero_of(conditions, torch.cat([x, price], 1), y)[:, :3]
    compare(x, true, [y])


def test_fifteen_projections_on_a_three_norm_ball_meet_their_conditions():
    # |x|_3 <= r where some t has sum t = r and |x_i| <= t_i^(1/3) r^(2/3).
    y = (4 * normal(15, 4, seed=14)).requires_grad_()
    r = (1 + normal(15, seed=15).square() / 4).requires_grad_()
    P = torch.diag(torch.tensor([2.0] * 4 + [0.0] * 4).double())
    A = torch.zeros(13, 8).double()
    A[0, 4:] = 1
    for i in range(4):  # rows (t_i, r, x_i)
        A[1 + 3 * i, 4 + i] = A[3 + 3 * i, i] = -1
    is_r = torch.tensor([1.0, *[0.0, 1.0, 0.0] * 4]).double()
    found = ol.functional.cone_program(
        P,
        torch.cat([-2 * y, torch.zeros(15, 4).double()], 1),
        A,
        r[:, None] * is_r,
        Cones(zero=1, power=(1 / 3,) * 4),
    )
    assert float(found.stats["residual"].max()) < RESIDUAL
    x = found.value[:, :4]

    def size(x):
        return x.abs().pow(3).sum().pow(1 / 3)

    def conditions(z, y, r):
        x, price = z[:4], z[4]
        slope = 2 * (x - y) + price * torch.func.grad(size)(x)
        return torch.cat([slope, (size(x) - r)[None]])

    # At the sphere x'grad|x| = |x| = r.
    price = (2 * (y - x) * x).sum(1) / r
    point = torch.cat([x, price[:, None]], 1)
    compare(point, zero_of(conditions, point, y, r), [y, r])
