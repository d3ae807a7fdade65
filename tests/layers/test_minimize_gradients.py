"""Derivatives of minima where constraints are about to change, and how far to trust."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import ParameterError, SingularError
from optlayers.functional import minimize as minimize_function
from optlayers.solution import Status

DOUBLE = {"dtype": torch.float64}
# A KKT residual of 1e-8 at a condition of some tens.
CLOSE = {"rtol": 0, "atol": 1e-6}


def double(*numbers, requires_grad=False):
    return torch.tensor(numbers, **DOUBLE, requires_grad=requires_grad)


@ol.problem(convex=False)
def cut(x=Variable(start=1.0), t=Parameter()):
    """The nearest point to t that is not negative."""
    return minimize((x - t) ** 2, floor=x >= 0)


def slope_of(layer, t, **options):
    t = t.clone().requires_grad_()
    (slope,) = torch.autograd.grad(layer(t, **options).x.sum(), t)
    return slope


def barrier_slope(t, mu):
    """Of x = (t + sqrt(t^2 + 2 mu)) / 2, which minimizes (x - t)^2 - mu log x."""
    return (1 + t / (t**2 + 2 * mu).sqrt()) / 2


# ---- the barrier path ----------------------------------------------------------------


@pytest.mark.parametrize("strength", [1e-6, 1e-2, 1.0])
def test_the_smoothed_derivative_is_that_of_the_barrier_path(strength):
    t = double(-1.0, -0.1, 0.0, 1e-3, 0.1, 2.0)
    layer = cut.layer(solver="minimize.auto", gradient=ol.Smoothed(strength))
    assert_close(slope_of(layer, t), barrier_slope(t, strength), **CLOSE)
    assert_close(layer(t).x, t.clamp_min(0), **CLOSE)


def test_at_a_kink_it_lies_between_the_sides_and_tends_to_them_away_from_it():
    layer = cut.layer(solver="minimize.auto", gradient="smoothed")
    slope = slope_of(layer, double(-1.0, 0.0, 1.0))
    assert_close(slope[1], double(0.5)[0], **CLOSE)
    # The first constant of the barrier is 1e-4, which a distance of 1 divides by 2.
    assert_close(slope[[0, 2]], double(0.0, 1.0), rtol=0, atol=6e-5)
    exact = slope_of(cut.layer(solver="minimize.auto"), double(-1.0, 0.0, 1.0))
    assert exact[1] in (0, 1) and exact[[0, 2]].tolist() == [0, 1]


def test_of_several_constraints_it_is_that_of_the_logarithms_minimized_in_their_place():
    """A second way: f - mu sum(log(s)) without inequalities, differentiated exactly."""
    mu, start = 1e-2, double([0.4, 0.3])
    theta = double(0.9, 0.6, 1.0, requires_grad=True)

    def objective(x):
        return (x - theta[:2]).square().sum(-1) + torch.sin(x[:, 0] * x[:, 1])

    def slack(x):
        return torch.stack([theta[2] - x.square().sum(-1), 0.7 - x[:, 0]], -1)

    def equal(x):
        return x[:, 1:] - theta[2:] * x[:, :1] ** 2

    found = minimize_function(
        objective, start, equalities=equal, inequalities=lambda x: -slack(x),
        gradient=ol.Smoothed(mu), tolerance=1e-12,
    )  # fmt: skip
    barrier = minimize_function(
        lambda x: objective(x) - mu * slack(x).log().sum(-1), start, equalities=equal,
        tolerance=1e-12,
    )  # fmt: skip
    price = mu / slack(barrier.value)
    pairs = [
        (found.value, barrier.value),
        (found.duals["equalities"], barrier.duals["equalities"]),
        (found.duals["inequalities"], price),
    ]
    for own, other in pairs:
        for k in range(own.shape[1]):
            (slope,) = torch.autograd.grad(own[0, k], theta, retain_graph=True)
            (expected,) = torch.autograd.grad(other[0, k], theta, retain_graph=True)
            assert_close(slope, expected, **CLOSE)


def test_the_second_derivative_is_that_of_the_path_too():
    mu, t = 1e-2, double(-0.2, 0.0, 0.3, requires_grad=True)
    layer = cut.layer(solver="minimize.auto", gradient=ol.Smoothed(mu), order=2)
    (slope,) = torch.autograd.grad(layer(t).x.sum(), t, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), t)
    assert_close(bend, mu / (t.detach() ** 2 + 2 * mu) ** 1.5, **CLOSE)


def test_the_value_has_its_own_derivative_which_has_no_kink():
    t = double(-1.0, 0.0, 1.0, requires_grad=True)
    out = cut.layer(solver="minimize.auto", gradient="smoothed")(t)
    (slope,) = torch.autograd.grad(out.objective.sum(), t)
    # min(t, 0)^2, at the solution itself and not on the path.
    assert_close(slope, double(-2.0, 0.0, 0.0), **CLOSE)


def test_transforms_see_the_smoothed_derivative():
    mu, t = 1e-2, double(-0.2, 0.0, 0.3)
    layer = cut.layer(solver="minimize.auto", gradient=ol.Smoothed(mu))
    expected = barrier_slope(t, mu)

    def x(t):
        return layer(t).x

    assert_close(torch.func.vmap(torch.func.grad(x))(t), expected, **CLOSE)
    assert_close(torch.func.jacfwd(x)(t), torch.diag(expected), **CLOSE)


@pytest.mark.slow
def test_compiled_code_has_the_smoothed_derivative():
    mu, t = 1e-2, double(-0.2, 0.0, 0.3)
    layer = cut.layer(solver="minimize.auto", gradient=ol.Smoothed(mu))
    compiled = torch.compile(lambda t: layer(t).x, fullgraph=True, backend="aot_eager")
    given = t.clone().requires_grad_()
    (slope,) = torch.autograd.grad(compiled(given).sum(), given)
    assert_close(slope, barrier_slope(t, mu), **CLOSE)


def test_a_path_that_does_not_exist_is_refused_or_has_no_derivative():
    @ol.problem
    def pinned(x=Variable("2", start=0.5), t=Parameter()):
        """No point lies within these constraints."""
        return minimize(
            torch.cos(x[0]) + (x[1] - t) ** 2, low=x[0] >= 1, high=x[0] <= 1
        )

    t = double(0.3, requires_grad=True)
    with pytest.raises(
        SingularError, match=r"(?s)pinned.*path of sample 0.*ol.Smoothed"
    ):
        pinned(t, gradient="smoothed")
    with pytest.raises(SingularError, match="pinned"):
        torch.func.grad(lambda t: pinned(t, gradient="smoothed").x.sum())(t[0])
    out = pinned(t, gradient="smoothed", on_failure="nan")
    assert out.ok.all() and out.stats["gradient_condition"].isnan().all()
    (slope,) = torch.autograd.grad(out.x.sum(), t)
    assert slope == 0


def test_a_strength_is_a_positive_number_and_for_minima_alone():
    for wrong in (0, -1.0, float("nan"), "strong"):
        with pytest.raises(ParameterError, match="strength="):
            ol.Smoothed(wrong)
    with pytest.raises(ParameterError, match="gradient='smoothed'"):
        cut.layer(gradient="smoothed")(1.0)


# ---- constraints that depend on each other -------------------------------------------


@ol.problem
def twice(x=Variable("2", start=0.1), t=Parameter("2"), r=Parameter()):
    """Farther than allowed from t, which is said twice."""
    return minimize(
        ol.sum_squares(x - t) + torch.sin(x[0]) * 0.1,
        once=ol.sum_squares(x) <= r,
        again=2 * ol.sum_squares(x) <= 2 * r,
    )


@ol.problem
def once(x=Variable("2", start=0.1), t=Parameter("2"), r=Parameter()):
    return minimize(
        ol.sum_squares(x - t) + torch.sin(x[0]) * 0.1, once=ol.sum_squares(x) <= r
    )


@pytest.mark.parametrize("gradient", ["exact", "least_squares", "smoothed"])
def test_a_constraint_said_twice_changes_no_derivative_of_the_point(gradient):
    t, r = double(2.0, 1.0, requires_grad=True), double(1.0, requires_grad=True)
    out = twice(t, r[0], gradient=gradient)
    expected = once(t, r[0], gradient="exact")
    assert_close(out.x, expected.x, **CLOSE)
    for k in range(2):
        slopes = torch.autograd.grad(out.x[k], (t, r), retain_graph=True)
        others = torch.autograd.grad(expected.x[k], (t, r), retain_graph=True)
        close = {"rtol": 0, "atol": 1e-3} if gradient == "smoothed" else CLOSE
        assert_close(slopes, others, **close)
    (slope,) = torch.autograd.grad(out.objective, r)
    assert_close(slope, -(out.dual.once + 2 * out.dual.again)[None], **CLOSE)


def test_multipliers_that_are_not_unique_are_flagged():
    t, r = double([2.0, 1.0], [0.1, 0.1]), double(1.0).requires_grad_()
    stats = twice(t, r[0]).stats
    # The second sample lies inside.
    assert stats["multipliers_unique"].tolist() == [False, True]
    assert stats["gradient_condition"].isinf().tolist() == [True, False]
    assert stats["is_minimum"].tolist() == [True, True]
    assert once(t, r[0]).stats["multipliers_unique"].tolist() == [True, True]


def test_a_point_that_is_not_alone_has_no_derivative_and_is_no_strict_minimum():
    @ol.problem
    def valley(x=Variable("2", start=(0.1, 0.2)), c=Parameter()):
        return minimize((torch.sin(x[0] + x[1]) - c) ** 2, same=2 * x[0] == 2 * x[0])

    c = double(0.5, requires_grad=True)
    with pytest.raises(SingularError, match=r"valley.*not alone"):
        valley(c)
    out = valley(c, gradient="least_squares")
    assert not out.stats["is_minimum"] and not out.stats["multipliers_unique"]
    (slope,) = torch.autograd.grad(out.x.sum(), c)
    assert_close(slope, 1 / (1 - c.detach() ** 2).sqrt(), **CLOSE)


@pytest.mark.parametrize("gradient", ["exact", "least_squares"])
def test_a_valley_found_to_the_tolerance_alone_is_seen_to_be_one(gradient):
    @ol.problem
    def hyperbola(x=Variable("2", start=(1.0, 0.5)), t=Parameter()):
        """The residual left makes a singular matrix regular, of condition 5e9 on."""
        return minimize((x[0] * x[1] - t) ** 2)

    t = double(2.0, 0.7, 3.0, requires_grad=True)
    if gradient == "exact":
        with pytest.raises(SingularError, match=r"sample 0, 1, 2.*not alone"):
            hyperbola(t)
        return
    out = hyperbola(t, gradient=gradient)
    assert out.stats["is_minimum"].tolist() == [False] * 3
    x = out.x.detach()
    (slope,) = torch.autograd.grad(out.x.sum(), t)
    # The step of minimum norm is along the gradient of x0 x1, which is (x1, x0).
    assert_close(slope, x.sum(1) / x.square().sum(1), **CLOSE)
    with torch.no_grad():
        assert_close(out.x, hyperbola(t).x, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("bend", "start"),
    [
        (lambda x, p: torch.exp(-p * x), 1.0),
        (lambda x, p: p * x**3, 1.0),
        (lambda x, p: p * x**3, 1e-18),
        (lambda x, p: (x - p) ** 4, 0.3),
    ],
)
def test_curvature_that_vanishes_in_the_limit_makes_no_minimum(bend, start):
    p = double(2.0, requires_grad=True)
    found = minimize_function(lambda x: bend(x, p).sum(-1), double([start]))
    assert found.ok.all() and not found.stats["is_minimum"]


_KINKS = {
    "norm1": ol.norm1,
    "norm": ol.norm,
    "norm_inf": ol.norm_inf,
    "max": ol.max,
    "abs": lambda x: ol.sum(ol.abs(x)),
    "min": lambda x: -ol.min(x),
}


@pytest.mark.parametrize("name", _KINKS)
def test_a_kink_that_does_not_bind_takes_nothing_from_the_derivative(name):
    kink = _KINKS[name]

    def cost(x, p):
        return ol.sum((x - p) ** 4) + ol.sum_squares(x - p) + 0.5 * x[0] * x[1]

    @ol.problem
    def loose(x=Variable("2", start=(0.4, 0.1)), p=Parameter("2"), c=Parameter()):
        return minimize(cost(x, p), k=kink(x) <= c)

    @ol.problem
    def free(x=Variable("2", start=(0.4, 0.1)), p=Parameter("2")):
        return minimize(cost(x, p))

    p = double(1.0, 0.5, requires_grad=True)
    out = loose(p, 10.0)
    (slope,) = torch.autograd.grad(out.x.sum(), p)
    (expected,) = torch.autograd.grad(free(p).x.sum(), p)
    assert_close(slope, expected, **CLOSE)
    stats = loose(p, 10.0, on_failure="nan").stats
    assert stats["is_minimum"] and stats["multipliers_unique"]
    assert float(stats["gradient_condition"]) < 1e3


def test_complementarity_tells_how_near_a_change_of_the_active_constraints_is():
    t = double(-1.0, -1e-3, 0.0, 1e-3, 2.0, requires_grad=True)
    near = cut.layer(solver="minimize.auto")(t).stats["complementarity"]
    assert_close(near, double(1.0, 2e-3, 0.0, 1e-3, 1.0), **CLOSE)


def test_nothing_is_asked_of_a_point_whose_derivative_nobody_wants():
    stats = once(double(2.0, 1.0), double(1.0)[0]).stats
    assert set(stats) == {"steps", "residual", "seconds"}


# ---- samples that have not converged -------------------------------------------------


@ol.problem
def bent(x=Variable("2", start=(-1.2, 1.0)), a=Parameter(), shared=Parameter()):
    """Rosenbrock's valley, through which a search from its start takes many steps."""
    return minimize(
        (a - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2 + shared * ol.sum_squares(x)
    )


@pytest.mark.parametrize("on_failure", ["keep", "nan"])
def test_a_sample_that_has_not_converged_has_no_gradient(on_failure):
    # The sample that begins at its minimum, a = -1.2, is there after a few steps.
    limited = bent.layer(
        solver=ol.solvers.minimize.Newton(max_steps=10), on_failure=on_failure
    )
    a, shared = double(-1.1, 1.0, requires_grad=True), double(0.01, requires_grad=True)
    out = limited(a, shared[0])
    assert out.status.tolist() == [Status.SOLVED, Status.STEP_LIMIT]
    assert bool(out.x[1].isnan().all()) == (on_failure == "nan")
    total = out.x.nan_to_num().sum() + out.objective.nan_to_num().sum()
    slopes = torch.autograd.grad(total, (a, shared))
    alone = a.detach()[:1].requires_grad_()
    out = bent.layer()(alone, shared[0])
    expected = torch.autograd.grad(out.x.sum() + out.objective.sum(), (alone, shared))
    assert slopes[0][1] == 0
    assert_close(slopes[0][:1], expected[0], **CLOSE)
    assert_close(slopes[1], expected[1], **CLOSE)


def test_where_it_has_converged_the_gradient_is_the_true_one():
    a, shared = double(1.0, requires_grad=True), double(0.01, requires_grad=True)
    layer = bent.layer(order=2, tolerance=1e-10)

    def x(a, shared):
        return layer(a, shared[0]).x

    assert gradcheck(x, (a, shared))
    assert gradgradcheck(x, (a, shared))
