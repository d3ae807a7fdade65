import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, maximize, minimize
from optlayers.errors import OrderError, SingularError
from tests.layers.nonconvex import (
    DOUBLE,
    double,
    farthest,
    learned,
    potential,
    rectangle,
    ring,
    wave,
)

# A KKT residual of 1e-8 at a condition of some tens.
CLOSE = {"rtol": 0, "atol": 1e-6}


# ---- minima and multipliers ----------------------------------------------------------


def test_a_disk_holds_rosenbrock_where_it_is_small():
    r = double(0.8, 1.0, 3.0)
    out = ring(double(100.0)[0], r)
    assert_close(out.x[2], double(1.0, 1.0), **CLOSE)
    assert_close(out.x[:2].norm(dim=1), r[:2], **CLOSE)
    assert bool((out.dual.outer[:2] > 0.1).all()) and out.dual.outer[2] == 0
    # L = f + outer * (x'x - r^2) is stationary.
    x = out.x.detach().requires_grad_()
    f = (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2
    (slope,) = torch.autograd.grad(f.sum(), x)
    assert_close(slope, -2 * out.dual.outer[:, None] * x.detach(), **CLOSE)


def test_the_price_of_a_radius_is_its_multiplier():
    r = double(0.8, 1.0, requires_grad=True)
    out = ring(double(100.0)[0], r)
    out.objective.sum().backward()
    assert_close(r.grad, -2 * r.detach() * out.dual.outer, **CLOSE)


def test_what_is_maximized_has_its_value_and_the_multipliers_of_its_negative():
    length = double(8.0, 12.0, requires_grad=True)
    out = rectangle(length)
    assert_close(out.side, (length / 4)[:, None].expand(-1, 2), **CLOSE)
    assert_close(out.objective, length.detach() ** 2 / 16, **CLOSE)
    # L = -ab + rope * (2a + 2b - length): rope = a / 2.
    assert_close(out.dual.rope, length / 8, **CLOSE)
    (slope,) = torch.autograd.grad(out.objective.sum(), length, retain_graph=True)
    assert_close(slope, length / 8, **CLOSE)
    (slope,) = torch.autograd.grad(out.dual.rope.sum(), length)
    assert_close(slope, torch.full_like(length, 1 / 8), **CLOSE)


def test_attributes_are_constraints_and_have_multipliers():
    out = farthest(double(2.0, 1.0))
    assert_close(out.x, double(0.0, 3.0), **CLOSE)
    # L = -|x - p|^2 - nonneg'x + upper'(x - 3).
    assert_close(out.dual["x.nonneg"], double(4.0, 0.0), **CLOSE)
    assert_close(out.dual["x.upper"], double(0.0, 4.0), **CLOSE)
    assert list(out.dual) == ["x.nonneg", "x.upper"]


def test_of_two_attributes_the_tighter_has_the_multiplier():
    @ol.problem
    def both(x=Variable("3", nonneg=True, lower=double(-1.0, 0.0, 2.0), start=3)):
        return minimize(ol.sum(x**3 + x) - torch.cos(x[0]))

    out = both()
    assert_close(out.x, double(0.0, 0.0, 2.0), **CLOSE)
    # Where both say zero, the first has it.
    assert_close(out.dual["x.nonneg"], double(1.0, 1.0, 0.0), **CLOSE)
    assert_close(out.dual["x.lower"], double(0.0, 0.0, 13.0), **CLOSE)


def test_multipliers_stand_in_declared_order_and_shape():
    @ol.problem
    def shaped(X=Variable("2 2", start=1), c=Variable(lower=0), a=Parameter()):
        return minimize(
            ol.sum(X**4) + c**3,
            ol.sum_squares(X) >= 1,
            rows=ol.sum(X, axis=1) == a,
            every=X**2 <= 9,
        )

    out = shaped(double(2.0, 3.0))
    shapes = {name: list(one.shape) for name, one in out.dual.items()}
    assert shapes == {
        "constraint_0": [2], "rows": [2, 2], "every": [2, 2, 2], "c.lower": [2],
    }  # fmt: skip


def test_stages_stand_in_front_and_every_knot_is_bounded():
    @ol.problem
    def pendulum(
        q=State(upper=1.2), v=State(), u=Control(lower=-3, upper=3), q0=Parameter()
    ):
        return minimize(
            ol.total(u**2) + 50 * (q.last - 1) ** 2 + 50 * v.last**2,
            begin=q.first == q0,
            rest=v.first == 0,
            turn=q.next == q + 0.2 * v,
            swing=v.next == v + 0.2 * (u - torch.sin(q)),
        )

    q0 = double(0.0, 0.3)
    out = pendulum.layer(steps=8)(q0)
    assert out.q.shape == (2, 9) and out.u.shape == (2, 8)
    assert out.dual.swing.shape == (2, 8) and out.dual.begin.shape == (2,)
    assert out.dual["q.upper"].shape == (2, 9)
    change = 0.2 * (out.u - torch.sin(out.q[:, :-1]))
    assert_close(out.v[:, 1:] - out.v[:, :-1], change, **CLOSE)


def test_a_feasible_point_is_found_where_nothing_is_optimized():
    @ol.problem
    def meet(x=Variable("2", start=(1, 0.5))):
        return ol.feasible(ol.sum_squares(x) == 4, x[0] * x[1] == 1)

    x = meet().x
    assert_close(torch.stack([x @ x, x[0] * x[1]]), double(4.0, 1.0), **CLOSE)


def test_a_search_that_begins_at_a_saddle_point_leaves_it():
    @ol.problem
    def corners(x=Variable("2"), r=Parameter(nonneg=True)):
        return maximize(x[0] * x[1], disk=ol.sum_squares(x) <= r**2)

    out = corners(double(1.0, 2.0))
    # On the diagonal, where L = -x0 x1 + disk (x'x - r^2) is stationary.
    assert_close(out.objective, double(0.5, 2.0), **CLOSE)
    assert_close(out.dual.disk, double(0.5, 0.5), **CLOSE)


def test_squares_in_the_objective_are_known_to_the_solver():
    @ol.problem
    def fit(b=Variable("2", start=0.5), t=Parameter("n"), y=Parameter("n")):
        return minimize(ol.sum_squares(b[0] * ol.exp(b[1] * t) - y))

    t = torch.linspace(0, 1, 5, **DOUBLE)
    y = 2 * torch.exp(-1.5 * t)
    for solver in ("auto", "levenberg_marquardt", "gauss_newton"):
        assert_close(fit.layer(solver=solver)(t, y).b, double(2.0, -1.5), **CLOSE)


@pytest.mark.parametrize("solver", ["gradient_descent", "newton"])
def test_an_argmin_is_a_root_of_the_slope_whoever_finds_it(solver):
    """F(x, w) = df/dx = 0, so that dx/dw = -(d2f/dx2)^-1 d2f/dxdw."""

    @ol.problem
    def bowl(x=Variable("2", start=0.1), w=Parameter("2")):
        return minimize(ol.sum(torch.cosh(x)) + torch.sin(x[0] * x[1]) / 2 - w @ x)

    w = double(0.3, -0.4, requires_grad=True)
    x = bowl(w, solver=solver).x

    def f(x):
        return x.cosh().sum() + (x[0] * x[1]).sin() / 2 - w.detach() @ x

    at = x.detach()
    assert_close(torch.func.grad(f)(at), torch.zeros_like(at), **CLOSE)
    expected = torch.linalg.inv(torch.func.hessian(f)(at))
    rows = [torch.autograd.grad(one, w, retain_graph=True)[0] for one in x]
    assert_close(torch.stack(rows), expected, **CLOSE)


# ---- gradients -----------------------------------------------------------------------


def test_point_multiplier_and_value_have_right_derivatives():
    layer = ring.layer()

    def outputs(a, r):
        out = layer(a, r)
        return out.x, out.dual.outer, out.objective

    a = double(20.0, requires_grad=True)
    r = double(0.8, 1.2, 2.0, requires_grad=True)
    assert gradcheck(outputs, (a, r))


def test_second_derivatives_are_right_where_they_are_asked_for():
    layer = ring.layer(order=2)

    def outputs(a, r):
        out = layer(a, r)
        return out.x, out.dual.outer, out.objective

    inputs = (double(5.0, requires_grad=True), double(0.8, 2.0, requires_grad=True))
    assert gradgradcheck(outputs, inputs)


def test_what_was_not_asked_for_is_refused():
    a = double(5.0, requires_grad=True)
    (first,) = torch.autograd.grad(
        ring(a, double(0.8)).objective.sum(), a, create_graph=True
    )
    with pytest.raises(OrderError, match="order"):
        torch.autograd.grad(first.sum(), a)


def test_a_minimum_that_is_not_alone_has_no_derivative_but_a_shortest():
    @ol.problem
    def valley(x=Variable("2", start=(0.1, 0.2)), c=Parameter()):
        return minimize((torch.sin(x[0] + x[1]) - c) ** 2)

    c = double(0.5, requires_grad=True)
    with pytest.raises(SingularError, match=r"valley.*KKT matrix.*sample 0"):
        valley(c)
    out = valley(c, gradient="least_squares")
    total = out.x.sum()
    total.backward()
    assert_close(total.detach(), torch.asin(c.detach())[0], **CLOSE)
    # The sum is asin c, wherever on the valley it is.
    assert_close(c.grad, 1 / (1 - c.detach() ** 2).sqrt(), **CLOSE)


def test_active_bounds_stand_still():
    w = double(-9.0, 0.5, 9.0, requires_grad=True)
    out = wave(w)
    out.x.sum().backward()
    assert_close(out.x[[0, 2]], double(1.0, -1.0), **CLOSE)
    assert w.grad[0] == 0 and w.grad[2] == 0
    # 3 cos 3x + w = 0, of which x moves by 1 / (9 sin 3x).
    expected = 1 / (9 * torch.sin(3 * out.x[1].detach()))
    assert_close(w.grad[1], expected, **CLOSE)


def test_a_learned_objective_learns():
    layer = learned.layer()
    u = double(0.3, -0.2)
    out = layer(u)
    x = out.x.detach().requires_grad_()
    value = potential(x - u)[0] + 0.5 * (x - u).square().sum()
    (slope,) = torch.autograd.grad(value, x)
    assert_close(slope, torch.zeros_like(slope), **CLOSE)
    weight = dict(layer.named_parameters())["potential.0.weight"]
    (found,) = torch.autograd.grad(out.x[0], weight)
    step = torch.zeros_like(weight)
    step[1, 0] = 1e-4
    moved = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * step)
            moved.append(layer(u).x[0])
            weight.sub_(sign * step)
    # Central differences of a step of 1e-4.
    assert_close(found[1, 0], (moved[0] - moved[1]) / 2e-4, rtol=1e-5, atol=1e-7)
