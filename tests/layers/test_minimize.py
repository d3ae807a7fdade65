"""Layers of problems that are not convex: minima, multipliers, gradients, failures."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, maximize, minimize
from optlayers.errors import (
    InvalidDataError,
    NotConvex,
    NotSupported,
    OrderError,
    ParameterError,
    SingularError,
    SolveError,
    SolverRefused,
    TransformError,
)
from optlayers.interfaces import Kind
from optlayers.solution import Status
from tests.layers.nonlinear_problems import HOCK_SCHITTKOWSKI

DOUBLE = {"dtype": torch.float64}
# A KKT residual of 1e-8 at a condition of some tens.
CLOSE = {"rtol": 0, "atol": 1e-6}

torch.manual_seed(0)
potential = nn.Sequential(
    nn.Linear(2, 8, **DOUBLE), nn.Tanh(), nn.Linear(8, 1, **DOUBLE)
)


@ol.problem
def ring(x=Variable("2", start=(0.5, 0.5)), a=Parameter(), r=Parameter(nonneg=True)):
    """Rosenbrock's function on a disk."""
    return minimize(
        (1 - x[0]) ** 2 + a * (x[1] - x[0] ** 2) ** 2, outer=ol.sum_squares(x) <= r**2
    )


@ol.problem
def wave(x=Variable(lower=-1, upper=1, start=0.2), w=Parameter()):
    return minimize(torch.sin(3 * x) + w * x)


@ol.problem
def rectangle(side=Variable("2", start=1), length=Parameter(nonneg=True)):
    """The largest area of a given circumference."""
    return maximize(side[0] * side[1], rope=2 * ol.sum(side) == length)


@ol.problem
def farthest(x=Variable("2", nonneg=True, upper=3, start=1), p=Parameter("2")):
    return maximize(ol.sum_squares(x - p))


@ol.problem
def learned(x=Variable("2", lower=-2, upper=2), u=Parameter("2")):
    return minimize(potential(x - u)[0] + 0.5 * ol.sum_squares(x - u))


@ol.problem(convex=False)
def well(x=Variable(nonneg=True, start=1.0), a=Parameter(), shared=Parameter()):
    """Two wells, of which one is left; its minimum is the root of a * shared."""
    return minimize(x**4 / 4 - a * shared * x**2 / 2)


def double(*numbers, requires_grad=False):
    return torch.tensor(numbers, **DOUBLE, requires_grad=requires_grad)


# ---- minima and multipliers ----------------------------------------------------------


@pytest.mark.parametrize("name", HOCK_SCHITTKOWSKI)
def test_the_minimum_of_the_book_is_found_from_its_start(name):
    problem, minimum = HOCK_SCHITTKOWSKI[name]
    layer = problem.layer()
    out = layer()
    assert layer.kind is Kind.MINIMIZE
    # The book gives ten digits.
    assert_close(out.objective.double(), double(minimum)[0], rtol=1e-6, atol=1e-6)


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


def test_squares_in_the_objective_are_known_to_the_solver():
    @ol.problem
    def fit(b=Variable("2", start=0.5), t=Parameter("n"), y=Parameter("n")):
        return minimize(ol.sum_squares(b[0] * ol.exp(b[1] * t) - y))

    t = torch.linspace(0, 1, 5, **DOUBLE)
    y = 2 * torch.exp(-1.5 * t)
    for solver in ("auto", "levenberg_marquardt", "gauss_newton"):
        assert_close(fit.layer(solver=solver)(t, y).b, double(2.0, -1.5), **CLOSE)


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


# ---- batches, failures, precision ----------------------------------------------------


def test_a_batch_broadcasts_and_its_samples_know_nothing_of_each_other():
    a, r = double(1.0, 20.0)[:, None], double(0.7, 1.0, 2.0)
    out = ring(a, r)
    assert out.x.shape == (2, 3, 2) and out.objective.shape == (2, 3)
    alone = ring(a[1, 0], r[2])
    assert_close(out.x[1, 2], alone.x, **CLOSE)
    assert ring(a[:0], r).x.shape == (0, 3, 2)


def test_a_broken_sample_is_named_and_leaves_the_others_alone():
    a, r = double(20.0, torch.nan, 20.0), double(0.8, 1.0, -1.0)
    named = r"(?s)sample \[?1\]?: .*a is nan.*r is -1"
    with pytest.raises(InvalidDataError, match=named):
        ring(a, r)
    out = ring(a, r, on_failure="nan")
    assert out.status.tolist() == [0, Status.NOT_FINITE, Status.INVALID_DATA]
    assert bool(out.x[1:].isnan().all()) and bool(out.dual.outer[1:].isnan().all())
    assert torch.equal(out.x[0], ring(a[0], r[0]).x)


def test_a_sample_without_minimum_has_no_gradient_and_spoils_none():
    shared = double(2.0, requires_grad=True)
    a = double(1.0, torch.nan, 1.5, requires_grad=True)
    out = well(a, shared[0], on_failure="keep")
    assert out.ok.tolist() == [True, False, True]
    (out.x.sum() + out.objective.sum()).backward()
    assert a.grad[1] == 0
    # x = sqrt(c) and f = -c^2 / 4 of c = a * shared.
    c = double(2.0, 3.0)
    slope = 0.5 / c.sqrt() - 0.5 * c
    assert_close(a.grad[[0, 2]], 2 * slope, **CLOSE)
    assert_close(shared.grad[0], double(1.0, 1.5) @ slope, **CLOSE)


def test_constraints_that_cannot_hold_are_named():
    @ol.problem
    def nowhere(x=Variable("2", start=1), r=Parameter()):
        return minimize(
            torch.sin(x[0]), disk=ol.sum_squares(x) <= r, beyond=x[0] * x[1] >= 9
        )

    with pytest.raises(SolveError, match=r"(?s)nowhere.*(disk|beyond)"):
        nowhere(double(1.0))
    out = nowhere(double(1.0, 40.0), on_failure="nan")
    assert out.ok.tolist() == [False, True]


def test_single_precision_comes_back_as_it_was_given():
    out = ring(torch.tensor(100.0), torch.tensor([0.8, 2.0]))
    assert out.x.dtype == out.dual.outer.dtype == out.objective.dtype == torch.float32
    exact = ring(double(100.0)[0], double(0.8, 2.0))
    assert_close(out.x, exact.x.float(), rtol=1e-5, atol=1e-5)


def test_a_module_of_single_precision_is_called_in_it():
    single = copy.deepcopy(potential).float()

    @ol.problem
    def problem(x=Variable("2", lower=-2, upper=2), u=Parameter("2")):
        return minimize(single(x - u)[0] + 0.5 * ol.sum_squares(x - u))

    out = problem(torch.tensor([0.3, -0.2]))
    assert_close(out.x, learned(double(0.3, -0.2)).x.float(), rtol=0, atol=1e-3)


# ---- routing -------------------------------------------------------------------------


def test_the_reason_is_kept_and_shown():
    layer = ring.layer()
    assert layer.kind is Kind.MINIMIZE and "applies power" in layer.why
    assert "minimize" in str(layer.explain())
    assert "outer" in str(ring)


def test_convexity_can_still_be_demanded():
    @ol.problem(convex=True)
    def strict(x=Variable("2")):
        return minimize(x[0] * x[1], ol.sum_squares(x) <= 1)

    with pytest.raises(NotConvex):
        strict()


def test_what_has_kinks_is_refused_by_name_with_the_remedy():
    @ol.problem
    def kinked(x=Variable("2"), w=Parameter("2")):
        return minimize(x[0] * x[1] + ol.norm1(x - w), ol.sum_squares(x) <= 4)

    layer = kinked.layer()
    assert layer.kind is Kind.MINIMIZE and "norm1" in layer.why
    with pytest.raises(SolverRefused, match=r"norm1.*not smooth.*t >= e and t >= -e"):
        layer(double(1.0, 1.0))


def test_its_epigraph_is_taken():
    @ol.problem
    def epigraph(x=Variable("2", start=(1, -0.2)), t=Variable("2", start=2)):
        return minimize(
            x[0] * x[1] + 3 * ol.sum(t), ol.sum_squares(x) == 1, t >= x, t >= -x
        )

    out = epigraph()
    # At (1, 0), where the other factor makes up for its own absolute value.
    assert_close(out.objective, double(3.0)[0], **CLOSE)


def test_cones_are_refused_by_name_with_the_remedy():
    @ol.problem
    def matrix(X=Variable("2 2", symmetric=False), c=Parameter()):
        return minimize(X[0, 0] * X[1, 1] + c, part=X >> 0)

    with pytest.raises(SolverRefused, match=r"(?s)part.*psd.*L @ L\.T"):
        matrix(1.0)


def test_transforms_are_refused_with_the_remedy():
    layer = ring.layer()
    with pytest.raises(TransformError, match="batch axis"):
        torch.func.vmap(lambda r: layer(double(20.0)[0], r).x)(double(0.8, 1.0))


def test_there_are_no_cone_programs_of_it():
    with pytest.raises(NotSupported, match="not convex"):
        ring.layer().compiled(100.0, 1.0)


def test_options_of_other_kinds_are_refused():
    with pytest.raises(ParameterError, match="diffcp"):
        ring.layer(gradient="diffcp")


def test_a_layer_can_be_copied_and_pickled():
    layer = ring.layer(a=double(20.0)[0])
    r = double(0.8)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(r).x, layer(r).x)
