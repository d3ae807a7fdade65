import math

import numpy as np
import pytest
import torch
from scipy import optimize
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.errors import ParameterError, ShapeError, TransformError, UnknownName
from optlayers.functional import least_squares, minimize
from optlayers.programs.losses import LOSSES, loss_named

# What a KKT residual of 1e-8 leaves of well-conditioned fits.
LOOSE = {"atol": 1e-6, "rtol": 0.0}
SCIPY = ("linear", "soft_l1", "huber", "cauchy", "arctan")


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def decay(t, b):
    return b[..., :1] * torch.exp(-b[..., 1:2] * t) + b[..., 2:]


@pytest.fixture
def measured():
    """Times and values of a decay, [25], every sixth of which is far off."""
    generator = torch.Generator().manual_seed(3)
    t = torch.linspace(0, 4, 25, dtype=torch.float64)
    noise = torch.randn(25, generator=generator, dtype=torch.float64)
    y = decay(t, double(2.0, 1.2, 0.5)) + 0.05 * noise
    y[::6] += 1.5
    return t, y


@pytest.mark.parametrize("loss", SCIPY)
def test_scipy_finds_the_same_fit_for_each_loss(loss, measured):
    t, y = measured

    def residuals(b):
        return decay(t, b) - y

    found = least_squares(residuals, double([1.0, 1.0, 0.0]), loss=loss, scale=0.1)
    other = optimize.least_squares(
        lambda b: residuals(torch.from_numpy(b)).numpy(), [1.0, 1.0, 0.0], loss=loss,
        f_scale=0.1, xtol=1e-14, ftol=1e-14, gtol=1e-12, jac="3-point",
    )  # fmt: skip
    assert_close(found.value[0], torch.from_numpy(other.x), **LOOSE)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_squares_near_zero_and_grow_ever_more_slowly(loss):
    phi = loss_named(loss, 2.0)
    near = double([1e-4, -2e-4])
    assert_close(phi(near), near.square(), rtol=1e-6, atol=0)
    r = torch.linspace(0, 50, 400, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(phi(r).sum(), r)
    weight = slope[1:] / r.detach()[1:]
    assert bool((weight >= 0).all()) and bool((weight.diff() <= 1e-12).all())


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_bend_by_two_at_zero(loss):
    # A kink there would spoil the derivative of a fit without errors.
    def total(r):
        return loss_named(loss, 1.5)(r).sum()

    hessian = torch.autograd.functional.hessian(total, double(0.0, 0.0))
    assert_close(hessian, 2 * torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "tukey"])
def test_fits_are_differentiable_in_data_and_scale(loss, measured):
    t, y = (one[:14:2] for one in measured)
    y = y.clone().requires_grad_()
    scale = double(0.3).squeeze(0).requires_grad_()

    def fit(y, scale):
        return least_squares(
            lambda b: decay(t, b) - y, double([2.0, 1.2, 0.5]), loss=loss, scale=scale,
            tolerance=1e-12, order=2,
        ).value  # fmt: skip

    assert gradcheck(fit, (y, scale), atol=1e-5, fast_mode=True)
    if loss == "cauchy":
        assert gradgradcheck(fit, (y, scale), atol=1e-4, fast_mode=True)


def test_outliers_move_a_robust_fit_less_than_a_fit_of_squares(measured):
    t, y = measured
    truth = double([2.0, 1.2, 0.5])
    error = {
        loss: float((
            least_squares(lambda b: decay(t, b) - y, truth, loss=loss, scale=0.1).value
            - truth
        ).abs().max())
        for loss in ("linear", "cauchy", "tukey")
    }  # fmt: skip
    assert error["cauchy"] < error["linear"] / 4
    assert error["tukey"] < error["linear"] / 4


def test_a_scale_of_each_sample_fits_as_if_alone(measured):
    t, y = measured
    start, scale = double([1.0, 1.0, 0.0], [1.0, 1.0, 0.0]), double(0.05, 1.0)

    def residuals(b):
        return decay(t, b) - y

    both = least_squares(residuals, start, loss="cauchy", scale=scale).value
    for k in range(2):
        alone = least_squares(
            residuals, start[:1], loss="cauchy", scale=float(scale[k])
        )
        assert_close(both[k], alone.value[0], rtol=0, atol=1e-9)


def test_a_loss_of_ones_own_is_taken(measured):
    t, y = measured
    start = double([1.0, 1.0, 0.0])
    named = least_squares(lambda b: decay(t, b) - y, start, loss="cauchy", scale=0.1)
    own = least_squares(
        lambda b: decay(t, b) - y, start, loss=lambda r: torch.log1p((10 * r) ** 2)
    )
    assert_close(own.value, named.value, **LOOSE)


def test_bounds_and_their_multipliers_are_those_of_minimize(measured):
    t, y = measured
    limits = double(1.8, 0.9, math.inf).requires_grad_()

    def residuals(b):
        return decay(t, b) - y

    start = double([1.0, 0.5, 0.0])
    own = least_squares(residuals, start, upper=limits, tolerance=1e-10)
    other = minimize(
        lambda b: residuals(b).square().sum(-1), start, upper=limits,
        solver="interior_point", tolerance=1e-10,
    )  # fmt: skip
    assert_close(own.value, other.value, **LOOSE)
    assert_close(own.duals["upper"], other.duals["upper"], **LOOSE)
    (one,) = torch.autograd.grad(own.value[0, 2], limits)
    (two,) = torch.autograd.grad(other.value[0, 2], limits)
    assert_close(one, two, **LOOSE)


def test_unknowns_may_be_a_pytree_and_single_precision_stays(measured):
    t, y = (one.float() for one in measured)
    start = {"height": torch.ones(3, 1), "rate": torch.ones(3, 1)}
    found = least_squares(
        lambda b: b["height"] * torch.exp(-b["rate"] * t) - y, start, loss="huber"
    )
    assert found.value["rate"].dtype == torch.float32
    assert found.ok.all()


def test_a_line_through_points_has_the_closed_form():
    x, y = double(0.0, 1.0, 2.0, 4.0), double(1.0, 2.0, 2.5, 6.0)
    found = least_squares(lambda b: b[:, :1] + b[:, 1:] * x - y, double([0.0, 0.0]))
    slope, height = np.polyfit(x.numpy(), y.numpy(), 1)
    assert_close(found.value, double([height, slope]), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"loss": "couchy"}, UnknownName, 'Did you mean "cauchy"'),
        ({"loss": "huber", "scale": 0.0}, ParameterError, "positive"),
        ({"loss": "huber", "scale": double(1.0, 1.0)}, ShapeError, r"\[2\]"),
        ({"loss": lambda r: r.sum(-1)}, ShapeError, "keep the shape"),
        ({"lower": 2.0, "upper": 1.0}, ParameterError, "lower lies above upper"),
    ],
)
def test_what_cannot_be_is_refused(options, error, match):
    with pytest.raises(error, match=match):
        least_squares(lambda b: b - 1, double([0.0, 0.0]), **options)


def test_residuals_without_a_row_per_sample_are_refused():
    with pytest.raises(ShapeError, match="residuals returned"):
        least_squares(lambda b: b.sum(), double([0.0, 0.0]))


def test_transforms_are_refused_by_its_name():
    def inside(b):
        return least_squares(lambda x: x - 1, b).value

    with pytest.raises(TransformError, match=r"functional\.least_squares"):
        torch.func.vmap(inside)(double([[0.0]], [[1.0]]))
