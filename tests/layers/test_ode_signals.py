"""Inputs of differential equations: controls, signals, and when they switch."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Control, Parameter, State, Time, integrate

D = torch.float64
VALUES = torch.tensor([1.0, -2.0, 3.0], dtype=D)
GRADIENTS = ["exact", "direct", "sweep", "checkpoint"]


@ol.problem
def controlled(x=State(), u=Control(), t=Time()):
    return integrate(ol.der(x) == u - 0.5 * x, x.first == 0)


@ol.problem
def held(x=State(), v=Parameter("k"), s=Parameter("k"), t=Time()):
    return integrate(ol.der(x) == ol.hold(v, s, t) - 0.5 * x, x.first == 0)


@ol.problem
def ramped(x=State(), v=Parameter("k"), s=Parameter("k"), t=Time()):
    return integrate(ol.der(x) == ol.interpolate(v, s, t) - 0.5 * x, x.first == 0)


def numbers(*values, moves=True):
    return torch.tensor(values, dtype=D, requires_grad=moves)


def flow(x, left, slope, length):
    """x' = left + slope s - x / 2 after a time, in closed form."""
    # The particular solution is 2 left - 4 slope + 2 slope s.
    start = 2 * left - 4 * slope
    return start + 2 * slope * length + (x - start) * torch.exp(-length / 2)


def steps(values, ends):
    """The end of x for piecewise constant inputs, [k] between [k + 1] ends."""
    x = torch.zeros((), dtype=D)
    for value, begin, end in zip(values, ends[:-1], ends[1:], strict=True):
        x = flow(x, value, 0.0, end - begin)
    return x


def ramps(values, knots, ends):
    """The end of x for an input linear between knots that lie within [2] ends."""
    x = flow(torch.zeros((), dtype=D), values[0], 0.0, knots[0] - ends[0])
    for k in range(len(knots) - 1):
        length = knots[k + 1] - knots[k]
        x = flow(x, values[k], (values[k + 1] - values[k]) / length, length)
    return flow(x, values[-1], 0.0, ends[1] - knots[-1])


def assert_same(found, wanted, inputs):
    # The tolerance of the solver is 1e-10; derivatives are those of its steps.
    assert_close(found, wanted, rtol=0, atol=1e-9)
    one = torch.autograd.grad(found.sum(), inputs, materialize_grads=True)
    other = torch.autograd.grad(
        wanted.sum(), inputs, materialize_grads=True, allow_unused=True
    )
    assert_close(one, other, rtol=0, atol=1e-6)


def layer_of(problem, gradient="exact", **options):
    return problem.layer(tolerance=1e-10, gradient=gradient, **options)


# ---- closed form ---------------------------------------------------------------------


@pytest.mark.parametrize("gradient", [*GRADIENTS, "backsolve"])
def test_all_save_times_of_a_control_have_their_derivative(gradient):
    t = numbers(0.0, 1.0, 1.8, 2.5)
    out = layer_of(controlled, gradient)(u=VALUES, t=t)
    assert_same(out.x[-1], steps(VALUES, t), [t])
    (slopes,) = torch.autograd.grad(steps(VALUES, t), t)
    # By central differences, from outside.
    outside = numbers(-0.2865, 1.4171, -3.5234, 2.3928, moves=False)
    assert_close(slopes, outside, rtol=0, atol=1e-4)


@pytest.mark.parametrize("gradient", [*GRADIENTS, "backsolve"])
def test_knots_of_a_held_signal_have_their_derivative(gradient):
    s, t, v = numbers(0.0, 1.0, 1.8), numbers(0.0, 2.5), VALUES.clone().requires_grad_()
    out = layer_of(held, gradient)(v=v, s=s, t=t)
    ends = torch.cat((t[:1], s[1:], t[1:]))
    assert_same(out.x[-1], steps(v, ends), [s, t, v])


@pytest.mark.parametrize("gradient", [*GRADIENTS, "backsolve"])
def test_knots_of_an_interpolated_signal_have_their_derivative(gradient):
    s, t, v = numbers(0.2, 1.0, 1.8), numbers(0.0, 2.5), VALUES.clone().requires_grad_()
    out = layer_of(ramped, gradient)(v=v, s=s, t=t)
    assert_same(out.x[-1], ramps(v, s, t), [s, t, v])


def test_knots_are_met_by_methods_of_high_order():
    s, t = numbers(0.2, 1.0, 1.8, moves=False), numbers(0.0, 2.5, moves=False)
    out = layer_of(ramped, solver="dopri8")(v=VALUES, s=s, t=t)
    assert_close(out.x[-1], ramps(VALUES, s, t), rtol=0, atol=1e-10)
    out = layer_of(held, solver="dopri8")(v=VALUES, s=s, t=t)
    ends = torch.cat((t[:1], s[1:], t[1:]))
    assert_close(out.x[-1], steps(VALUES, ends), rtol=0, atol=1e-10)


# ---- many samples, both directions ---------------------------------------------------


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_each_sample_has_knots_of_its_own(gradient):
    s = numbers([0.0, 1.0, 1.8], [0.0, 0.3, 0.4], [0.0, 2.0, 2.2])
    t = numbers(0.0, 2.5)
    out = layer_of(held, gradient)(v=VALUES, s=s, t=t)
    wanted = [steps(VALUES, torch.cat((t[:1], one[1:], t[1:]))) for one in s]
    assert_same(out.x[:, -1], torch.stack(wanted), [s, t])


@pytest.mark.parametrize("gradient", ["direct", "sweep", "backsolve"])
def test_knots_outside_the_times_change_nothing(gradient):
    s, t = numbers([-1.0, 1.0, 3.0], [-2.0, -1.0, 1.5]), numbers(0.0, 2.5)
    out = layer_of(held, gradient)(v=VALUES, s=s, t=t)
    first = steps(VALUES[:2], torch.stack([t[0], s[0, 1], t[1]]))
    second = steps(VALUES[1:], torch.stack([t[0], s[1, 2], t[1]]))
    assert_same(out.x[:, -1], torch.stack([first, second]), [s, t])


@pytest.mark.parametrize("gradient", ["direct", "sweep", "backsolve"])
def test_controls_may_run_backward_in_time(gradient):
    t = numbers([2.5, 1.8, 1.0, 0.0], [0.0, 1.0, 1.8, 2.5])
    out = layer_of(controlled, gradient)(u=VALUES, t=t)
    wanted = torch.stack([steps(VALUES, one) for one in t])
    assert_same(out.x[:, -1], wanted, [t])


@pytest.mark.parametrize("gradient", ["direct", "sweep"])
def test_held_signals_may_run_backward_in_time(gradient):
    s, t = numbers(0.0, 1.0, 1.8), numbers(2.5, 0.0)
    out = layer_of(held, gradient)(v=VALUES, s=s, t=t)
    ends = torch.stack([t[0], s[2], s[1], t[1]])
    assert_same(out.x[-1], steps(VALUES.flip(0), ends), [s, t])


def test_states_between_switches_move_with_the_times_at_which_they_are_asked_for():
    s, t = numbers(0.0, 1.0, 1.8), numbers(0.0, 0.5, 1.4, 2.5)
    out = layer_of(held)(v=VALUES, s=s, t=t)
    middle = steps(VALUES[:2], torch.stack([t[0], s[1], t[2]]))
    assert_same(out.x[2], middle, [s, t])
    asked = numbers(1.4, 0.5)
    at = layer_of(held)(v=VALUES, s=s, t=t).at(asked).x
    wanted = steps(VALUES[:2], torch.stack([t[0], s[1], asked[0]]))
    # Dense output is of a lower order than the steps.
    assert_close(at[0], wanted, rtol=0, atol=1e-8)
    one = torch.autograd.grad(at[0], (s, asked, t))
    other = torch.autograd.grad(wanted, (s, asked, t))
    assert_close(one, other, rtol=0, atol=1e-6)


# ---- together with other things ------------------------------------------------------


@pytest.mark.parametrize("gradient", ["exact", "checkpoint"])
def test_second_derivatives_in_switch_times_are_those_of_the_closed_form(gradient):
    s, t = numbers(0.0, 1.0, 1.8), numbers(0.0, 2.5)

    def second(value):
        (first,) = torch.autograd.grad(value, s, create_graph=True)
        return torch.autograd.grad(first[1:].square().sum(), (s, t))

    found = layer_of(held, gradient, order=2)(v=VALUES, s=s, t=t).x[-1]
    wanted = steps(VALUES, torch.cat((t[:1], s[1:], t[1:])))
    assert_close(second(found), second(wanted), rtol=0, atol=1e-6)


def test_events_know_how_they_depend_on_a_switch():
    @ol.problem
    def switched(x=State(), s=Parameter("k"), t=Time()):
        rate = ol.hold([1.0, 3.0], s, t)
        return integrate(
            ol.der(x) == rate, x.first == 0, there=ol.event(x - 2, terminal=True)
        )

    s = numbers([0.0, 0.5], [0.0, 1.4])
    out = layer_of(switched)(s=s, t=numbers(0.0, 3.0, moves=False))
    # s + 3 (t - s) = 2.
    wanted = (2 + 2 * s[:, 1]) / 3
    assert_same(out.events.there.times[:, 0], wanted, [s])


def test_switches_written_in_the_declaration_are_met_in_full_precision():
    @ol.problem
    def fixed(x=State(), t=Time()):
        rate = ol.hold([1.0, -2.0, 3.0], [0.0, 0.3, 1.7], t)
        return integrate(ol.der(x) == rate - 0.5 * x, x.first == 0)

    out = layer_of(fixed)(t=numbers(0.0, 2.5, moves=False))
    ends = numbers(0.0, 0.3, 1.7, 2.5, moves=False)
    assert_close(out.x[-1], steps(VALUES, ends), rtol=0, atol=1e-9)


def test_the_solution_is_the_same_bitwise_whether_switches_have_derivatives_or_not():
    s, t, v = numbers(0.0, 1.0, 1.8), numbers(0.0, 0.7, 2.5), VALUES.clone()
    v.requires_grad_()
    moving = layer_of(held, "direct")(v=v, s=s, t=t)
    still = layer_of(held, "direct")(v=v, s=s.detach(), t=t.detach())
    assert moving.stats["steps"] == still.stats["steps"]
    assert torch.equal(moving.x, still.x)


def test_controls_and_signals_together_have_the_derivative_of_differences():
    @ol.problem
    def mixed(
        x=State(2),
        u=Control(),
        s=Parameter("k"),
        r=Parameter("m"),
        t=Time(),
    ):
        a = ol.hold([0.3, 1.5, -1.0], s, t)
        b = ol.interpolate([1.0, -0.5, 2.0], r, t)
        rate = [x[1] * a + ol.sin(t) * u, -x[0] * b + ol.cos(x[1])]
        return integrate(ol.der(x) == ol.stack(rate), x.first == 1)

    t = numbers([0.0, 0.9, 1.7, 2.5], [2.6, 1.5, 0.4, -0.2])
    s = numbers([-0.5, 0.55, 1.2], [0.1, 0.8, 2.0])
    r = numbers([0.3, 1.1, 2.2], [-0.4, 1.25, 3.0])
    inputs = (t, s, r)
    layer = layer_of(mixed)

    def total(t, s, r):
        return layer(u=VALUES, s=s, r=r, t=t).x.square().sum()

    way = [torch.linspace(-1, 1, one.numel(), dtype=D).view_as(one) for one in inputs]
    found = torch.autograd.grad(total(*inputs), inputs)
    along = sum((one * by).sum() for one, by in zip(found, way, strict=True))
    with torch.no_grad():
        size = 1e-5
        ahead = total(*(one + size * by for one, by in zip(inputs, way, strict=True)))
        behind = total(*(one - size * by for one, by in zip(inputs, way, strict=True)))
    # Rounding over the size of the difference, and its square.
    assert_close(along, (ahead - behind) / (2 * size), rtol=0, atol=1e-6)


def test_switches_that_coincide_move_together():
    @ol.problem
    def both(x=State(), u=Control(), v=Parameter("k"), s=Parameter("k"), t=Time()):
        return integrate(ol.der(x) == u + ol.hold(v, s, t) - 0.5 * x, x.first == 0)

    one = numbers(1.0)
    t = torch.cat((numbers(0.0), one, numbers(2.5)))
    s = torch.cat((numbers(0.0), one))
    u, v = VALUES[:2], VALUES[1:]
    out = layer_of(both)(u=u, v=v, s=s, t=t)
    assert_same(out.x[-1], steps(u + v, t), [one])


def test_a_sample_without_times_leaves_the_derivatives_of_others_alone():
    t = numbers([0.0, 1.0, 1.8, 2.5], [0.0, float("nan"), 1.8, 2.5])
    out = layer_of(controlled, on_failure="nan")(u=VALUES, t=t)
    assert out.ok.tolist() == [True, False]
    (found,) = torch.autograd.grad(out.x[0, -1], t)
    alone = numbers(0.0, 1.0, 1.8, 2.5)
    (wanted,) = torch.autograd.grad(steps(VALUES, alone), alone)
    assert_close(found[0], wanted, rtol=0, atol=1e-6)
    assert bool((found[1] == 0).all())


def test_a_switch_time_is_learned_by_its_gradient():
    t = numbers(0.0, 2.5, moves=False)
    layer = layer_of(held)
    target = steps(VALUES[:2], numbers(0.0, 1.3, 2.5, moves=False))
    switch = numbers(0.9)
    for _ in range(6):
        s = torch.cat((t[:1], switch))
        missed = layer(v=VALUES[:2], s=s, t=t).x[-1] - target
        (slope,) = torch.autograd.grad(missed, switch)
        with torch.no_grad():
            switch -= missed / slope
    assert_close(switch.detach(), numbers(1.3, moves=False), rtol=0, atol=1e-8)
