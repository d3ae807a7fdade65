import pytest
import torch
from torch.testing import assert_close

from optlayers.programs.curvature import reduced_curvature
from optlayers.programs.minimize import MinimizeProgram


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def at(program, x):
    """The KKT point with the multipliers that make the gradient shortest."""
    Jh, Jr = program.jacobians(x)
    active = program.rows(x).abs() < 1e-9
    A = torch.cat([Jh, Jr * active.unsqueeze(2)], 1)
    multipliers = -(torch.linalg.pinv(A.mT) @ program.gradient(x).unsqueeze(2))[..., 0]
    me = program.equality_count
    return program.point_at(x, multipliers[:, :me], multipliers[:, me:].clamp_min(0))


def test_without_constraints_it_is_the_least_eigenvalue_of_the_hessian():
    # Eigenvalues -2 and 6 along (1, -1) and (1, 1); the largest entry is 4.
    program = MinimizeProgram(
        lambda x: x[:, 0] ** 2 + x[:, 1] ** 2 + 4 * x.prod(1), 1, 2
    )
    found = reduced_curvature(program, double([0.0, 0.0]))
    assert_close(found.lowest, double(-0.5))
    assert_close(found.direction.abs(), double([0.5, 0.5]).sqrt())
    assert found.direction.prod() < 0


def test_a_circle_bends_what_runs_along_it():
    # L = x0 + y (x'x - 1): at (-1, 0) y = 1/2 and W = I; at (1, 0) y = -1/2, W = -I.
    circle = MinimizeProgram(
        lambda x: x[:, 0], 2, 2, lambda x: x.square().sum(1, keepdim=True) - 1, None, 1
    )
    found = reduced_curvature(circle, at(circle, double([-1.0, 0.0], [1.0, 0.0])))
    assert_close(found.lowest, double(1.0, -1.0))
    assert_close(found.direction.abs(), double([0.0, 1.0], [0.0, 1.0]))


def test_bounds_with_positive_multipliers_hold_and_others_do_not():
    # -x0^2 + x0 + x1^2 within x0 >= 0: the bound has multiplier 1. Shifted so that the
    # slope at it is zero, nothing holds x0 back.
    held = MinimizeProgram(
        lambda x: -(x[:, 0] ** 2) + x[:, 0] + x[:, 1] ** 2,
        1,
        2,
        lower=double(0.0, -9.0),
    )
    loose = MinimizeProgram(
        lambda x: x[:, 1] ** 2 - x[:, 0] ** 2, 1, 2, lower=double(0.0, -9.0)
    )
    x = double([0.0, 0.0])
    assert_close(reduced_curvature(held, at(held, x)).lowest, double(1.0))
    assert_close(reduced_curvature(loose, at(loose, x)).lowest, double(-1.0))


def test_a_corner_leaves_no_direction():
    corner = MinimizeProgram(
        lambda x: x.sum(1) - x.square().sum(1), 1, 2, lower=double(0.0, 0.0)
    )
    found = reduced_curvature(corner, at(corner, double([0.0, 0.0])))
    assert found.lowest == torch.inf
    assert_close(found.direction, double([0.0, 0.0]))


def test_rows_of_any_unit_and_number_are_seen():
    # x0 = 0 said twice, once in another unit.
    def twice(x):
        return torch.stack([1e-6 * x[:, 0], 1e6 * x[:, 0]], 1)

    program = MinimizeProgram(
        lambda x: x[:, 1] ** 2 - x[:, 0] ** 2, 1, 2, twice, None, 2
    )
    found = reduced_curvature(
        program, program.point_at(double([0.0, 0.0]), double([0.0, 0.0]), double([]))
    )
    assert_close(found.lowest, double(1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_curvature_keeps_the_dtype_of_the_point(dtype):
    usual = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64 if dtype == torch.float32 else dtype)
        point = torch.tensor([[1.0, 0.0, 0.5]], dtype=dtype)
        found = reduced_curvature(
            MinimizeProgram(
                lambda x: -x.square().sum(1), 1, 2, equality_count=1,
                equalities=lambda x: x.square().sum(1, keepdim=True) - 1,
            ), point,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(usual)
    assert found.lowest.dtype == found.direction.dtype == dtype
    # W = (-2 + 2 * 0.5) I, and (0, 1) is the direction left.
    torch.testing.assert_close(found.lowest, torch.tensor([-1.0], dtype=dtype))
