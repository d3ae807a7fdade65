"""Several starts of one call: which minimum is kept, and where the starts lie."""

import math

import pytest
import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import (
    NotSupported,
    ParameterError,
    ShapeError,
    SolveError,
    UnknownName,
)
from optlayers.solution import Status

# The KKT residual is at most 1e-8, and the least curvature of the wells about 8.
SMOOTH = "minimize.auto"
CLOSE = {"rtol": 0.0, "atol": 1e-7}


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@ol.problem
def wells(x=Variable(start=0.9), tilt=Parameter()):
    return minimize((x**2 - 1) ** 2 + tilt * x)


@ol.problem
def boxed_wells(x=Variable("2", lower=-2, upper=2, start=1.5), tilt=Parameter("2")):
    return minimize(ol.sum((x**2 - 1) ** 2) + tilt @ x)


@ol.problem
def rastrigin(x=Variable("2", lower=-5.12, upper=5.12), a=Parameter("2")):
    waves = ol.sum(torch.cos(2 * math.pi * (x - a)))
    return minimize(20 + ol.sum_squares(x - a) - 10 * waves)


@ol.problem
def griewank(x=Variable("2", lower=-10, upper=10), a=Parameter("2")):
    z = x - a
    waves = torch.cos(z[0]) * torch.cos(z[1] / math.sqrt(2))
    return minimize(1 + ol.sum_squares(z) / 4000 - waves)


@ol.problem
def logarithm(x=Variable(start=-3), c=Parameter(nonneg=True)):
    # Its only minimum, at sqrt(c), is seen from starts above zero alone.
    return minimize(x**2 / 2 - c * torch.log(x))


@ol.problem
def bowl(x=Variable("2"), y=Parameter("2")):
    return minimize(ol.sum_squares(x - y))


def test_the_lower_of_two_wells_is_kept():
    tilt = double(0.1, -0.1, 0.3)
    x = wells(tilt, starts=8).x
    assert (x.sign() == -tilt.sign()).all()
    torch.testing.assert_close(4 * x**3 - 4 * x + tilt, torch.zeros(3).double())


def test_one_start_is_the_declared_one():
    tilt = double(0.1, 0.3)
    assert torch.equal(wells(tilt, starts=1).x, wells(tilt).x)
    assert (wells(tilt).x > 0).all()


def test_the_gradient_is_that_of_the_minimum_kept():
    tilt = double(0.1, -0.1).requires_grad_()
    out = wells(tilt, starts=8)
    (slope,) = torch.autograd.grad(out.x.sum(), tilt, retain_graph=True)
    # 4 x^3 - 4 x + tilt = 0 gives dx/dtilt = -1 / (12 x^2 - 4).
    torch.testing.assert_close(slope, -1 / (12 * out.x.detach() ** 2 - 4), **CLOSE)
    (slope,) = torch.autograd.grad(out.objective.sum(), tilt)
    torch.testing.assert_close(slope, out.x.detach(), **CLOSE)


# The basin of the least minimum takes a hundredth of the square, and an eighth.
@pytest.mark.parametrize(
    ("problem", "once", "often"), [(rastrigin, 0, 6), (griewank, 8, 20)]
)
def test_the_least_of_many_minima_is_found_more_often(problem, once, often):
    generator = torch.Generator().manual_seed(2)
    a = 3 * torch.rand(20, 2, generator=generator, dtype=torch.float64) + 0.7
    layer = problem.layer()
    # Both functions are zero at their least minimum, x = a.
    counts = [
        (layer(a, starts=count, on_failure="keep").objective < 1e-8).sum().item()
        for count in (1, 32)
    ]
    assert counts[0] <= once and counts[1] >= often


def test_samples_are_independent_of_each_other():
    tilt = double([0.1, -0.2], [0.3, 0.1], [-0.2, -0.2])
    layer = boxed_wells.layer()
    together = layer(tilt, starts=16)
    alone = layer(tilt[1:2], starts=16)
    torch.testing.assert_close(together.x[1:2], alone.x, **CLOSE)
    assert (together.x.sign() == -tilt.sign()).all()


def test_the_random_numbers_of_the_caller_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    wells(double(0.1), starts=8)
    assert torch.equal(torch.rand(2), expected)


def test_starts_that_fail_do_not_spoil_the_others():
    c = double(1.0, 4.0)
    alone = logarithm(c, solver=SMOOTH, on_failure="keep")
    assert not alone.ok.any()
    several = logarithm(c, solver=SMOOTH, starts={"x": double(-3, 0.5, -1)})
    torch.testing.assert_close(several.x, double(1.0, 2.0), **CLOSE)


def test_a_sample_none_of_whose_starts_is_solved_has_failed():
    starts = double(-3, -1)
    out = logarithm(double(1.0), solver=SMOOTH, starts=starts, on_failure="nan")
    assert out.x.isnan().all()
    assert out.status.item() == Status.NOT_FINITE
    with pytest.raises(SolveError, match="not finite"):
        logarithm(double(1.0), solver=SMOOTH, starts=starts)


def test_data_that_break_a_declaration_fail_whatever_the_starts():
    @ol.problem
    def rooted(x=Variable(start=1), c=Parameter(nonneg=True)):
        return minimize((x**2 - c) ** 2)

    out = rooted(double(4.0, -1.0), starts=4, on_failure="keep")
    assert out.status.tolist() == [Status.SOLVED, Status.INVALID_DATA]
    assert out.x[0].abs().item() == pytest.approx(2.0)


def test_starts_may_be_given_by_name_or_as_they_are():
    tilt = double(0.1, 0.2)
    by_name = wells(tilt, starts={"x": double(1.0, -1.0)})
    torch.testing.assert_close(by_name.x, wells(tilt, starts=double(1, -1)).x, **CLOSE)
    assert (by_name.x < 0).all()


def test_of_equal_minima_the_one_of_the_first_start_is_kept():
    flat = double(0.0)
    assert wells(flat, starts=double(1.1, -1.0)).x.item() == pytest.approx(1.0)
    assert wells(flat, starts=double(-1.1, 1.0)).x.item() == pytest.approx(-1.0)


def test_all_starts_are_samples_behind_those_of_the_call():
    tilt = double([0.1, -0.1, 0.3], [0.2, 0.2, 0.2]).requires_grad_()
    out = wells(tilt, starts=double(1.1, -1.1), all_starts=True)
    assert out.x.shape == out.status.shape == (2, 3, 2)
    assert (out.x[..., 0] > 0).all() and (out.x[..., 1] < 0).all()
    (slope,) = torch.autograd.grad(out.x.sum(), tilt)
    expected = (-1 / (12 * out.x.detach() ** 2 - 4)).sum(-1)
    torch.testing.assert_close(slope, expected, **CLOSE)
    best = out.objective.argmin(-1, keepdim=True)
    kept = wells(tilt, starts=double(1.1, -1.1))
    torch.testing.assert_close(out.x.gather(-1, best)[..., 0], kept.x, **CLOSE)


def test_all_starts_of_one_sample_are_one_axis():
    out = wells(0.1, starts=3, all_starts=True)
    assert out.x.shape == (3,)


def test_starts_are_seen_through_by_vmap():
    tilt = double(0.1, -0.1, 0.3)
    layer = wells.layer(starts=8)
    mapped = torch.func.vmap(lambda one: layer(one).x)(tilt)
    torch.testing.assert_close(mapped, layer(tilt).x, **CLOSE)


def test_starts_are_searched_around_a_warm_start():
    tilt = double(0.0, 0.0)
    out = wells(tilt, warm_start={"x": double(1.2, -1.2)}, starts=1)
    torch.testing.assert_close(out.x, double(1.0, -1.0), **CLOSE)


def test_starts_lie_within_the_bounds():
    seen = []

    def watched(x):
        seen.append(x.detach().clone())
        return (x - 0.3).square()

    @ol.problem
    def watching(
        x=Variable("2", lower=(0, -1), upper=(1, 1)), y=Variable("1", lower=0)
    ):
        return minimize(ol.sum(ol.smooth(watched)(ol.hstack([x, y]))))

    watching(starts=64)
    first = max(seen, key=len)
    assert len(first) == 64
    assert (first[:, 0] >= 0).all() and (first[:, 0] <= 1).all()
    assert (first[:, 1].abs() <= 1).all() and (first[:, 2] >= 0).all()
    # Uniform between bounds, and of unit deviation where one is missing.
    assert first[:, 0].std().item() == pytest.approx(1 / math.sqrt(12), rel=0.1)
    assert first[:, 2].square().mean().item() == pytest.approx(1.0, rel=0.1)


def test_single_precision_stays_single():
    assert wells(torch.tensor([0.1]), starts=4).x.dtype == torch.float32


def test_an_empty_batch_is_solved():
    assert wells(torch.zeros(0), starts=4).x.shape == (0,)
    assert wells(torch.zeros(0), starts=4, all_starts=True).x.shape == (0, 4)


def test_starts_of_the_wrong_form_are_refused():
    with pytest.raises(ParameterError, match="starts=0: give an integer"):
        wells.layer(starts=0)
    with pytest.raises(ParameterError, match="all_starts=True: say how many"):
        wells.layer(all_starts=True)
    with pytest.raises(UnknownName, match="'y', which is no variable; these are x"):
        wells(0.1, starts={"y": double(1.0)})
    with pytest.raises(ShapeError, match=r"x \[2, 3\], and x is \[2\]"):
        boxed_wells(double(0.1, 0.1), starts=torch.zeros(2, 3))
    with pytest.raises(ParameterError, match="give their number, or values by name"):
        wells(0.1, starts="many")


def test_a_convex_problem_takes_one_start():
    with pytest.raises(NotSupported, match="problems of kind convex are solved from"):
        bowl(double(0.1, 0.1), starts=4)
    y = double(0.1, 0.1)
    out = bowl(y, starts=4, solver=SMOOTH)
    torch.testing.assert_close(out.x, y, **CLOSE)


def test_no_starts_at_all_are_refused():
    with pytest.raises(ParameterError, match=r"x \[0\], which holds no start"):
        wells(double(0.1), starts={"x": torch.zeros(0)})
