"""Several starts of `functional.minimize`, of which the lowest minimum is kept."""

import pytest
import torch

from optlayers.errors import ParameterError, ShapeError
from optlayers.functional import minimize


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def wells(tilt):
    """One unknown a sample, with a minimum near each of 1 and -1."""
    return lambda x: ((x**2 - 1) ** 2).sum(-1) + tilt * x[..., 0]


def test_the_lower_of_two_wells_is_kept_with_its_gradient():
    tilt = double(0.1, -0.1).requires_grad_()
    start = torch.full((2, 1), 0.9, dtype=torch.float64)
    x = minimize(wells(tilt), start, starts=8).value[:, 0]
    assert x.sign().tolist() == [-1, 1]
    (slope,) = torch.autograd.grad(x.sum(), tilt)
    # 4 x^3 - 4 x + tilt = 0 gives dx/dtilt = -1 / (12 x^2 - 4).
    torch.testing.assert_close(slope, -1 / (12 * x.detach() ** 2 - 4))


def test_starts_may_differ_by_sample():
    start = torch.zeros(2, 1, dtype=torch.float64)
    starts = double([[1.1], [-1.1]], [[1.2], [-1.2]])
    x = minimize(wells(double(0.0, 0.0)), start, starts=starts).value[:, 0]
    torch.testing.assert_close(x, double(1.0, -1.0))
    flipped = minimize(
        wells(double(0.1, 0.1)), start, starts=double([[1.0]] * 2, [[-1.0]] * 2)
    )
    assert (flipped.value < 0).all()


def test_starts_of_a_pytree_have_its_form():
    start = {"x": double([0.9]), "y": double([1.0, 2.0])}
    starts = {name: torch.stack([one, -one]) for name, one in start.items()}
    found = minimize(
        lambda z: (z["x"][:, 0] ** 2 - 1) ** 2
        + 0.1 * z["x"][:, 0]
        + (z["y"] - 3).square().sum(1),
        start, starts=starts,
    )  # fmt: skip
    assert found.value["x"].item() < -1
    torch.testing.assert_close(found.value["y"], double([3.0, 3.0]))


def test_bounds_of_each_sample_hold_its_starts():
    lower, upper = double([-2.0], [0.5]), double([2.0], [2.0])
    start = torch.full((2, 1), 0.9, dtype=torch.float64)
    found = minimize(
        wells(double(0.1, 0.1)), start, lower=lower, upper=upper, starts=16
    )
    assert found.value[:, 0].sign().tolist() == [-1, 1]


def test_a_start_without_a_value_does_not_spoil_the_others():
    found = minimize(
        lambda x: x[..., 0] ** 2 / 2 - x[..., 0].log(), double([-3.0]),
        starts=double([[-3.0]], [[0.5]]),
    )  # fmt: skip
    torch.testing.assert_close(found.value, double([1.0]))


def test_starts_of_the_wrong_form_are_refused():
    start = double([0.9])
    with pytest.raises(ParameterError, match="starts=0"):
        minimize(wells(double(0.1)), start, starts=0)
    with pytest.raises(ShapeError, match=r"with one axis S in front of \[\[1, 1\]\]"):
        minimize(wells(double(0.1)), start, starts=double(1.0, -1.0))
