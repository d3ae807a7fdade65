"""Kinks of nonlinear problems in epigraph form: values, multipliers, derivatives."""

import pytest
import torch

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, maximize, minimize

# The KKT residual is at most 1e-8.
CLOSE = {"rtol": 1e-6, "atol": 1e-7}
SMOOTH = "minimize.auto"


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def bend(x):
    """Not convex, and smooth."""
    return x[0] * x[1] + 0.5 * ol.sum(x**4)


@ol.problem
def shrunk(x=Variable("n"), y=Parameter("n"), w=Parameter(nonneg=True)):
    return minimize(0.5 * ol.sum_squares(x - y) + w * ol.norm1(x))


@ol.problem
def double_well(x=Variable(start=2), c=Parameter(), w=Parameter(nonneg=True)):
    return minimize((x**2 - c) ** 2 / 4 + w * ol.abs(x))


@ol.problem
def minimax(x=Variable("2", start=(1, -0.1)), a=Parameter(nonneg=True)):
    return minimize(
        ol.maximum(
            x[0] ** 2 + x[1] ** 4,
            (2 - x[0]) ** 2 + (2 - x[1]) ** 2,
            a * torch.exp(x[1] - x[0]),
        )
    )


# Pairs: with an atom, and with the variable in its place written by hand.
def _abs(x, t, a):
    return minimize(bend(x) + ol.sum(ol.abs(x - a)), cap=ol.sum_squares(x) <= 1)


def _abs_by_hand(x, t, a):
    return minimize(
        bend(x) + ol.sum(t), x - a <= t, a - x <= t, cap=ol.sum_squares(x) <= 1
    )


def _max(x, t, a):
    return minimize(bend(x) + 2 * ol.max(x - a), cap=ol.sum_squares(x) <= 1)


def _max_by_hand(x, t, a):
    return minimize(bend(x) + 2 * t, x - a <= t, cap=ol.sum_squares(x) <= 1)


def _norm_inf(x, t, a):
    return minimize(bend(x) + a @ x, cap=ol.norm_inf(x) <= 0.5)


def _norm_inf_by_hand(x, t, a):
    return minimize(bend(x) + a @ x, x <= t, -x <= t, cap=t <= 0.5)


def _norm(x, t, a):
    return minimize(bend(x) + 0.2 * ol.norm(x - a), cap=ol.sum_squares(x) <= 1)


def _norm_by_hand(x, t, a):
    return minimize(
        bend(x) + 0.2 * t,
        ol.sum_squares(x - a) <= t**2,
        t >= 0,
        cap=ol.sum_squares(x) <= 1,
    )


def _pos(x, t, a):
    return minimize(bend(x) + ol.sum(ol.pos(x - a)) - a @ x, cap=x[0] <= 1)


def _pos_by_hand(x, t, a):
    total = bend(x) + ol.sum(t) - a @ x
    return minimize(total, x - a <= t, t >= 0, cap=x[0] <= 1)


def _min(x, t, a):
    return maximize(ol.min(a - x**2 + x[0]) - bend(x), cap=ol.sum_squares(x) <= 1)


def _min_by_hand(x, t, a):
    return maximize(t - bend(x), t <= a - x**2 + x[0], cap=ol.sum_squares(x) <= 1)


def posed(goal):
    def body(x=Variable("2", start=(0.4, -0.3)), a=Parameter("2")):
        return goal(x, None, a)

    return ol.problem(body)


def posed_with(sizes, goal):
    def body(
        x=Variable("2", start=(0.4, -0.3)), t=Variable(sizes, start=3), a=Parameter("2")
    ):
        return goal(x, t, a)

    return ol.problem(body)


@pytest.mark.parametrize(
    ("short", "by_hand", "sizes"),
    [
        (_abs, _abs_by_hand, "2"),
        (_max, _max_by_hand, ""),
        (_norm_inf, _norm_inf_by_hand, ""),
        (_norm, _norm_by_hand, ""),
        (_pos, _pos_by_hand, "2"),
        (_min, _min_by_hand, ""),
    ],
)
def test_an_atom_is_what_one_would_write_by_hand(short, by_hand, sizes):
    a = double([0.3, -0.2], [1.0, 0.4], [-0.5, 0.9]).requires_grad_()
    out, long = posed(short)(a), posed_with(sizes, by_hand)(a)
    torch.testing.assert_close(out.x, long.x, **CLOSE)
    torch.testing.assert_close(out.objective, long.objective, **CLOSE)
    torch.testing.assert_close(out.dual.cap, long.dual.cap, **CLOSE)
    for ours, theirs in ((out.x, long.x), (out.objective, long.objective)):
        (slope,) = torch.autograd.grad(ours.sum(), a, retain_graph=True)
        (expected,) = torch.autograd.grad(theirs.sum(), a, retain_graph=True)
        torch.testing.assert_close(slope, expected, **CLOSE)


def test_small_entries_become_zero():
    # Soft thresholding: x = sign(y) max(|y| - w, 0), with the derivative of that.
    y = double([2.0, -0.3, -1.5], [0.1, 0.8, 0.2]).requires_grad_()
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    out = shrunk(y, w, solver=SMOOTH)
    expected = y.sign() * (y.abs() - w).clamp_min(0)
    torch.testing.assert_close(out.x, expected, **CLOSE)
    slopes = torch.autograd.grad(out.x.sum(), (y, w))
    torch.testing.assert_close(slopes, torch.autograd.grad(expected.sum(), (y, w)))


def test_a_penalty_on_magnitudes_moves_wells_that_are_not_convex():
    c, w = double(4.0, 4.0, 1.0), double(0.0, 1.0, 3.0)
    out = double_well(c[1:], w[1:])
    # x^3 - c x + w = 0 at the well; with the larger penalty there is none but zero.
    x = out.x[0]
    torch.testing.assert_close(x**3 - 4 * x + 1, torch.zeros(()).double())
    assert x > 1.8 and out.x[1].abs() <= 1e-8
    torch.testing.assert_close(out.objective[1], double(0.25)[0])


def test_the_largest_of_three_functions_is_least():
    # Source: C. Charalambous, A. Conn, An efficient method to solve the minimax
    # problem directly (1978), example 2; its value is 1.9522245.
    out = minimax(double(2.0)[0])
    assert out.objective.item() == pytest.approx(1.9522245, abs=1e-7)
    torch.testing.assert_close(out.x, double(1.1390, 0.8996), rtol=0, atol=1e-4)


@pytest.mark.parametrize("at", [2.0, 2.3, 4.0])
def test_derivatives_are_those_of_differences(at):
    a = torch.tensor(at, dtype=torch.float64, requires_grad=True)

    def found(a):
        out = minimax(a, tolerance=1e-12)
        return out.x, out.objective

    assert torch.autograd.gradcheck(found, (a,))


def test_a_minimum_at_the_tip_of_a_norm_is_not_called_solved():
    # There the gradients of |e|^2 and t^2 vanish: no multiplier balances the slope.
    @ol.problem
    def pulled(x=Variable("2", start=1), a=Parameter("2")):
        return minimize(x[0] * x[1] / 9 + ol.norm(x - a))

    out = pulled(double([0.3, -0.2]), on_failure="keep")
    assert not out.ok.any()
    torch.testing.assert_close(out.x, double([0.3, -0.2]), rtol=0, atol=1e-3)


def test_nothing_but_declared_names_comes_back():
    out = double_well(double(4.0), double(1.0))
    assert "x" in out and set(dir(out)) & {"x", "abs(x)"} == {"x"}
    assert set(out.dual) == set()
    assert repr(out) == "Result(x=[1]; 1 of 1 solved)"


def test_axes_are_taken_one_by_one():
    @ol.problem
    def columns(X=Variable("3 2", start=0.3), Y=Parameter("3 2")):
        largest = ol.max(X - Y, axis=0) + ol.norm_inf(X, axis=0)
        return minimize(ol.sum(X**4) + ol.sum(largest) + ol.sum(ol.norm1(X, axis=1)))

    generator = torch.Generator().manual_seed(1)
    Y = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    joint = columns(Y, solver=SMOOTH)
    assert joint.ok
    convex = columns(Y)
    torch.testing.assert_close(joint.objective, convex.objective, rtol=1e-6, atol=1e-6)


def test_stages_have_kinks_of_their_own():
    @ol.problem
    def steered(x=State(), u=Control(start=0.1), x0=Parameter()):
        return minimize(
            ol.total(0.1 * ol.abs(u) + 0.2 * x.next**2),
            x.first == x0,
            move=x.next == x + u - 0.1 * x**3,
        )

    x0 = double(1.0, -0.5).requires_grad_()
    out = steered.layer(steps=4)(x0)
    assert out.ok.all() and out.u.shape == (2, 4)
    cost = 0.1 * out.u.abs().sum(1) + 0.2 * out.x[:, 1:].square().sum(1)
    torch.testing.assert_close(out.objective, cost, **CLOSE)
    (slope,) = torch.autograd.grad(out.objective.sum(), x0)
    step = 1e-6
    up, down = (
        steered.layer(steps=4)(x0.detach() + h).objective for h in (step, -step)
    )
    torch.testing.assert_close(slope, (up - down) / (2 * step), rtol=1e-5, atol=1e-6)


def test_variables_begin_at_their_atoms_from_every_start():
    c, w = double(4.0), double(0.5)
    out = double_well(c, w, starts={"x": double(3.0, 0.2)}, all_starts=True)
    assert out.ok.all() and (out.x > 0).all()
    warm = double_well(c, w, warm_start={"x": double(-2.0)})
    torch.testing.assert_close(warm.x, -double_well(c, w).x, **CLOSE)
    mapped = torch.func.vmap(lambda one: double_well(one, 0.5).x)(c)
    torch.testing.assert_close(mapped, double_well(c, w).x, **CLOSE)


def test_modules_inside_of_kinks_are_learned():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh()).double()

    @ol.problem
    def fitted(x=Variable("2"), y=Parameter("4")):
        return minimize(ol.norm1(net(x) - y) + 0.1 * ol.sum_squares(x))

    layer = fitted.layer()
    y = net(double(0.3, -0.2)).detach()
    out = layer(y + 0.01)
    assert out.ok
    out.objective.backward()
    assert net[0].weight.grad.abs().max() > 0
    mapped = torch.func.vmap(lambda one: layer(one).objective)(y[None] + 0.01)
    torch.testing.assert_close(mapped[0], out.objective)


def test_samples_that_fail_leave_the_others_alone():
    c = double(4.0, torch.nan)
    out = double_well(c, double(1.0, 1.0), on_failure="nan")
    assert out.ok.tolist() == [True, False]
    torch.testing.assert_close(out.x[0], double_well(c[0], 1.0).x, **CLOSE)
