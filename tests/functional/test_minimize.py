import math

import pytest
import torch
from scipy import optimize
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.errors import (
    OrderError,
    ParameterError,
    ShapeError,
    SingularError,
    SolveError,
    SolverRefused,
    TransformError,
    UnknownName,
)
from optlayers.functional import minimize
from optlayers.solution import Status

# What a KKT residual of 1e-8 leaves of well-conditioned solutions.
LOOSE = {"atol": 1e-7, "rtol": 0.0}


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float64)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("solver", ["gradient_descent", "newton", "lbfgs", "newton_cg"])
def test_the_minimum_of_a_quadratic_has_the_same_derivative_by_every_method(solver):
    # argmin x'Px/2 - w'x = P^-1 w, whose derivative in w is P^-1.
    P = double([3.0, 1.0], [1.0, 2.0])
    w = double(1.0, -2.0).requires_grad_()
    found = minimize(
        lambda x: (x * (x @ P)).sum(-1) / 2 - (w * x).sum(-1), zeros(1, 2),
        solver=solver,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(found.value[0, 0], w)
    assert_close(found.value[0], torch.linalg.solve(P, w), **LOOSE)
    # The derivative is taken at the point, and of a quadratic it is the same anywhere.
    assert_close(gradient, torch.linalg.inv(P)[0])


def test_the_weights_of_logistic_regression_agree_with_scipy():
    X, noise = random(40, 3), random(40, seed=1)
    label = (X @ double(1.0, -2.0, 0.5) + noise > 0).double()
    decay = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def loss(w, decay):
        logit = w @ X.mT
        fit = nn.functional.softplus(logit) - label * logit
        return fit.sum(-1) + decay * w.square().sum(-1) / 2

    def by_scipy(decay):
        def both(w):
            w = torch.tensor(w, requires_grad=True)
            value = loss(w, decay)
            return value.item(), torch.autograd.grad(value, w)[0].numpy()

        options = {"gtol": 1e-12, "ftol": 1e-15}
        found = optimize.minimize(
            both, [0.0] * 3, jac=True, method="L-BFGS-B", options=options
        )
        return torch.tensor(found.x)

    found = minimize(lambda w: loss(w, decay), zeros(1, 3))
    (gradient,) = torch.autograd.grad(found.value[0, 1], decay)
    # SciPy's point is right to about 1e-7, its difference over 2e-2 to 1e-4.
    assert_close(found.value[0], by_scipy(0.1), atol=1e-6, rtol=0)
    slope = (by_scipy(0.11) - by_scipy(0.09))[1] / 0.02
    assert_close(gradient, slope, atol=1e-4, rtol=1e-2)


def test_both_orders_of_derivatives_agree_with_differences():
    a = (1 + random(2, 3).abs()).requires_grad_()
    b = random(3, seed=1).requires_grad_()

    def solve(a, b):
        return minimize(
            lambda x: (a * x**2 + x**4 - b * x).sum(-1) + torch.sin(x[:, 0] * x[:, 1]),
            zeros(2, 3), order=2, tolerance=1e-12,
        ).value  # fmt: skip

    assert gradcheck(solve, (a, b))
    assert gradgradcheck(solve, (a, b))


@pytest.fixture
def constrained():
    """Value and multipliers at an active equality, inequality and bound."""

    def solve(center, radius):
        found = minimize(
            lambda x: (x - center).square().sum(-1), zeros(1, 3) + 0.1,
            equalities=lambda x: x[:, 1:2] - x[:, 2:] ** 2 - 0.1,
            inequalities=lambda x: x.square().sum(-1, keepdim=True) - radius,
            upper=double(0.3, torch.inf, torch.inf), tolerance=1e-11, order=2,
        )  # fmt: skip
        duals = [found.duals[key] for key in ("equalities", "inequalities", "upper")]
        assert (duals[1].detach() > 0.1).all()
        assert (duals[2].detach()[:, 0] > 0.1).all()
        return found.value, *duals

    center = double([1.0, 0.5, -1.0]).requires_grad_()
    return solve, (center, double(0.5).requires_grad_())


def test_values_and_multipliers_of_constraints_have_their_derivatives(constrained):
    assert gradcheck(*constrained)


@pytest.mark.slow
def test_values_of_constrained_minima_have_second_derivatives(constrained):
    solve, inputs = constrained
    assert gradgradcheck(lambda *given: solve(*given)[0], inputs)


def test_an_active_bound_passes_its_derivative_on():
    bound = double(0.25).requires_grad_()
    found = minimize(lambda x: (x - 1).square().sum(-1), zeros(2, 1), upper=bound)
    found.value.sum().backward()
    assert_close(found.value, double([0.25], [0.25]), **LOOSE)
    # The multiplier balances the slope 2 (1 - x).
    assert_close(found.duals["upper"], double([1.5], [1.5]), **LOOSE)
    assert_close(bound.grad, double(2.0))


def test_multipliers_of_bounds_have_one_entry_for_each_unknown():
    found = minimize(
        lambda x: (x - double(2.0, 0.0, -2.0)).square().sum(-1), zeros(1, 3),
        lower=double(-torch.inf, -1.0, -1.0), upper=1.0,
    )  # fmt: skip
    assert_close(found.value, double([1.0, 0.0, -1.0]), **LOOSE)
    assert_close(found.duals["lower"], double([0.0, 0.0, 2.0]), **LOOSE)
    assert_close(found.duals["upper"], double([2.0, 0.0, 0.0]), **LOOSE)
    assert set(found.duals) == {"lower", "upper"}


def test_the_ring_of_rosenbrock_has_scipys_point_and_a_multiplier():
    def rosenbrock(x):
        return (1 - x[..., 0]) ** 2 + 100 * (x[..., 1] - x[..., 0] ** 2) ** 2

    found = minimize(
        rosenbrock, zeros(1, 2),
        inequalities=lambda x: x.square().sum(-1, keepdim=True) - 1,
    )  # fmt: skip
    other = optimize.minimize(
        lambda x: float(rosenbrock(torch.tensor(x))), [0.0, 0.0], method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: 1 - x @ x},
        options={"ftol": 1e-14},
    )  # fmt: skip
    # SLSQP differentiates by differences.
    assert_close(found.value[0], torch.tensor(other.x), atol=1e-5, rtol=0)
    assert float(found.duals["inequalities"]) > 0


def test_any_leading_axes_are_a_batch():
    target = random(2, 3, 4)
    found = minimize(lambda x: (x - target).square().sum(-1), zeros(2, 3, 4))
    assert_close(found.value, target, **LOOSE)
    assert found.status.shape == (2, 3)
    assert found.stats["residual"].shape == (2, 3)


def test_one_problem_without_batch_is_solved():
    found = minimize(lambda x: (x - 1).square().sum(-1), zeros(3))
    assert_close(found.value, torch.ones(3, dtype=torch.float64), **LOOSE)
    assert found.status.shape == ()


def test_a_pytree_of_unknowns_comes_back_in_its_form():
    start = {"weight": zeros(2, 3, 2), "bias": zeros(2, 3)}
    found = minimize(
        lambda one: (
            (one["weight"] - 1).square().sum((1, 2))
            + (one["bias"] + one["weight"].sum(2)).square().sum(1)
        ),
        start,
    )
    assert_close(found.value["weight"], torch.ones(2, 3, 2).double(), **LOOSE)
    assert_close(found.value["bias"], -2 * torch.ones(2, 3).double(), **LOOSE)


def test_the_weights_of_a_module_receive_gradients():
    torch.manual_seed(0)
    energy = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    found = minimize(lambda x: energy(x)[:, 0] + x.square().sum(-1), zeros(3, 2))
    found.value.sum().backward()
    assert all(p.grad is not None for p in energy[0].parameters())
    assert float(energy[0].weight.grad.abs().max()) > 1e-3


def test_failed_rows_have_no_gradient_and_change_no_other():
    def solve(sign, **options):
        scale = torch.ones(3, dtype=torch.float64, requires_grad=True)
        found = minimize(
            lambda x: sign * (scale * (x[:, 0] - 1) ** 2 + x[:, 0]), zeros(3, 1),
            **options,
        )  # fmt: skip
        found.value.nan_to_num().sum().backward()
        return found, scale.grad

    whole, slope = solve(double(1.0, 1.0, 1.0))
    for way in ("keep", "nan"):
        mixed, own = solve(double(1.0, -1.0, 1.0), on_failure=way)
        assert mixed.status.tolist() == [0, Status.UNBOUNDED, 0]
        assert torch.equal(mixed.value[[0, 2]], whole.value[[0, 2]])
        assert torch.equal(own, slope * double(1.0, 0.0, 1.0))
        assert bool(mixed.value[1].isnan().all()) == (way == "nan")


def test_failures_are_named_with_their_numbers():
    sign = double(1.0, -1.0)
    with pytest.raises(SolveError, match=r"sample 1: UNBOUNDED.*KKT residual"):
        minimize(lambda x: sign * x.square().sum(-1), zeros(2, 1) + 1)


def test_a_flat_valley_has_no_derivative_but_one_of_least_norm():
    w = double(1.0).requires_grad_()

    def valley(x):
        return (x.sum(-1) - w) ** 2

    with pytest.raises(SingularError, match=r"KKT matrix is singular .* sample 0"):
        minimize(valley, zeros(1, 2))
    found = minimize(valley, zeros(1, 2), gradient="least_squares")
    found.value.sum().backward()
    assert found.stats["gradient_condition"].isinf().all()
    assert_close(w.grad, double(1.0))


def test_no_gradient_is_no_reason_to_look_at_the_kkt_matrix():
    w = double(1.0)
    found = minimize(lambda x: (x.sum(-1) - w) ** 2, zeros(1, 2))
    assert found.ok.all()
    assert not found.value.requires_grad
    assert "gradient_condition" not in found.stats


def test_one_derivative_too_many_is_refused():
    w = double(1.0).requires_grad_()
    x = minimize(lambda x: (x[:, 0] - w.sin()) ** 2, zeros(1, 1)).value
    (first,) = torch.autograd.grad(x.sum(), w, create_graph=True)
    with pytest.raises(OrderError, match="order=2"):
        torch.autograd.grad(first.sum(), w)


def test_many_unknowns_have_a_derivative_without_a_matrix():
    n = 600
    w = torch.linspace(0.5, 2, n, dtype=torch.float64, requires_grad=True)
    found = minimize(
        lambda x: (x**2 / 2 + x**4 / 4 - w * x).sum(-1), zeros(1, n), solver="newton_cg"
    )
    found.value.sum().backward()
    # x + x^3 = w, so that dx/dw = 1 / (1 + 3 x^2).
    assert_close(w.grad, 1 / (1 + 3 * found.value[0].detach() ** 2))


def test_single_precision_is_kept():
    w = torch.tensor([[1.0, 2.0]], requires_grad=True)
    found = minimize(lambda x: (x - w).square().sum(-1), torch.zeros(1, 2), upper=1.5)
    found.value.sum().backward()
    assert found.value.dtype == torch.float32
    assert_close(found.value, torch.tensor([[1.0, 1.5]]), atol=1e-4, rtol=0)
    assert_close(w.grad, torch.tensor([[1.0, 0.0]]), atol=1e-4, rtol=0)


def test_an_empty_batch_has_an_empty_solution():
    found = minimize(
        lambda x: x.square().sum(-1), zeros(0, 2),
        equalities=lambda x: x.sum(-1, keepdim=True), lower=0.0,
    )  # fmt: skip
    assert found.value.shape == (0, 2)
    assert found.duals["equalities"].shape == (0, 1)
    assert found.duals["lower"].shape == (0, 2)


def test_nan_in_one_sample_is_its_own_status():
    target = double([1.0], [math.nan], [3.0])
    found = minimize(
        lambda x: (x - target).square().sum(-1), zeros(3, 1), on_failure="nan"
    )
    assert found.status.tolist() == [0, Status.NOT_FINITE, 0]
    assert_close(found.value[[0, 2]], target[[0, 2]], **LOOSE)


def test_mistakes_are_refused_with_their_numbers():
    with pytest.raises(ShapeError, match=r"objective returned \[2, 3\].*\[2\]"):
        minimize(lambda x: x**2, zeros(2, 3))
    with pytest.raises(ShapeError, match=r"equalities returned \[2\].*\[2, m\]"):
        minimize(lambda x: x.sum(-1), zeros(2, 3), equalities=lambda x: x.sum(-1))
    with pytest.raises(ParameterError, match="float32"):
        minimize(lambda x: x.sum(-1).float(), zeros(2, 3))
    with pytest.raises(ParameterError, match=r"above upper, by up to 1.0e\+00"):
        minimize(lambda x: x.sum(-1), zeros(2, 3), lower=1.0, upper=0.0)
    with pytest.raises(ShapeError, match="lower"):
        minimize(lambda x: x.sum(-1), zeros(2, 3), lower=zeros(2))
    with pytest.raises(ParameterError, match=r"gradient='neumann'"):
        minimize(lambda x: x.sum(-1), zeros(2, 3), gradient="neumann")
    with pytest.raises(SolverRefused, match="no constraints or bounds"):
        minimize(lambda x: x.sum(-1), zeros(2, 3), lower=0.0, solver="newton")
    with pytest.raises(UnknownName, match="newton"):
        minimize(lambda x: x.sum(-1), zeros(2, 3), solver="newtn")


def test_transforms_are_refused_with_a_remedy():
    def solve(w):
        return minimize(lambda x: (x - w).square().sum(-1), zeros(1, 2)).value

    with pytest.raises(TransformError, match="batch axis of start"):
        torch.func.vmap(solve)(zeros(3, 2))


@pytest.mark.parametrize("bound", [None, 0.5], ids=["free", "bounded"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_no_gradient_is_taken_the_answer_is_the_same(mode, bound):
    target = random(2, 3)

    def solve():
        return minimize(
            lambda x: (x - target).square().sum(-1) + (x**4).sum(-1), zeros(2, 3),
            upper=bound,
        )  # fmt: skip

    with mode():
        quiet = solve()
    assert quiet.ok.all()
    assert_close(quiet.value, solve().value, atol=0, rtol=0)


def test_at_a_corner_that_too_many_constraints_make_the_derivative_is_a_compromise():
    # x <= a and x <= b with a = b: that of min(a, b) lies between (1, 0) and (0, 1).
    ends = double(1.0, 1.0).requires_grad_()
    found = minimize(
        lambda x: (x[:, 0] - 3) ** 2, zeros(1, 1), inequalities=lambda x: x - ends
    )
    assert_close(found.value, double([1.0]), **LOOSE)
    assert not found.stats["multipliers_unique"]
    (slope,) = torch.autograd.grad(found.value.sum(), ends)
    assert_close(slope.sum(), double(1.0)[0], **LOOSE)
    assert (slope >= -1e-9).all()


def test_stats_say_that_the_derivative_of_a_regular_minimum_can_be_trusted():
    center = double([1.0, 0.5, -1.0]).requires_grad_()
    stats = minimize(
        lambda x: (x - center).square().sum(-1), zeros(1, 3) + 0.1,
        inequalities=lambda x: x.square().sum(-1, keepdim=True) - 0.5,
    ).stats  # fmt: skip
    assert stats["is_minimum"] and stats["multipliers_unique"]
    assert float(stats["complementarity"]) > 0.1
    assert float(stats["gradient_condition"]) < 1e3


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.square().sum(-1).detach(),
        lambda x: torch.tensor(x.square().sum(-1).tolist(), dtype=x.dtype),
        lambda x: x.new_ones(1),
    ],
)
def test_functions_without_a_graph_to_x_are_named(cut):
    start = double([1.0, 1.0])
    with pytest.raises(ParameterError, match=r"objective has no graph.*\.detach"):
        minimize(cut, start)

    def column(x):
        return cut(x).unsqueeze(-1)

    for name in ("equalities", "inequalities"):
        with pytest.raises(ParameterError, match=f"{name} has no graph"):
            minimize(lambda x: x.square().sum(-1), start, **{name: column})


def test_a_graph_that_leads_elsewhere_is_none_to_x():
    w = double(3.0).requires_grad_()
    with pytest.raises(ParameterError, match="no graph to x"):
        minimize(lambda x: w * x.detach().square().sum(-1), double([1.0, 1.0]))


def test_constant_objectives_and_constraints_that_are_connected_are_taken():
    start = double([1.0, 1.0])
    found = minimize(
        lambda x: 0 * x.sum(-1), start,
        equalities=lambda x: x.sum(-1, keepdim=True) - 4,
        inequalities=lambda x: 0 * x.sum(-1, keepdim=True) - 1,
    )  # fmt: skip
    assert_close(found.value.sum(-1), double(4.0), **LOOSE)
    with torch.no_grad():
        assert_close(minimize(lambda x: x.square().sum(-1), start).value, zeros(1, 2))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"inequalities": 3}, "inequalities is int; give a function"),
        ({"equalities": "h"}, "equalities is str; give a function"),
        ({"lower": "a"}, "lower is str; give a number"),
        ({"upper": {"x": 1.0}}, "upper is dict; give a number"),
        ({"lower": torch.inf}, "lower holds inf.*give -inf"),
        ({"upper": -torch.inf}, "upper holds -inf.*give inf"),
        ({"starts": torch.zeros(0, 1, 2, dtype=torch.float64)}, "hold no start"),
    ],
)
def test_what_is_no_function_bound_or_start_is_named(given, match):
    with pytest.raises(ParameterError, match=match):
        minimize(lambda x: x.square().sum(-1), double([1.0, 1.0]), **given)


def test_an_objective_that_is_no_function_is_named():
    with pytest.raises(ParameterError, match="objective is Tensor; give a function"):
        minimize(double(1.0), double([1.0, 1.0]))


def test_bounds_are_taken_to_the_dtype_of_the_start():
    found = minimize(
        lambda x: x.square().sum(-1), double([1.0, 1.0]),
        lower=torch.tensor(0.5, dtype=torch.float32),
    )  # fmt: skip
    assert found.value.dtype == torch.float64
    assert_close(found.value, double([0.5, 0.5]), **LOOSE)
