import pytest
import torch
from torch.testing import assert_close

from optlayers.errors import ParameterError, ShapeError
from optlayers.programs.minimize import MinimizeProgram


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture
def curved():
    """Two samples with everything: curved constraints, bounds that one lacks."""
    scale = double(1.0, 2.0)
    return MinimizeProgram(
        lambda x: scale * (x**4).sum(1) + x[:, 0] * x[:, 1],
        batch_size=2,
        size=3,
        equalities=lambda x: x[:, :1] ** 2 + x[:, 1:2] - 1,
        inequalities=lambda x: x[:, 1:] ** 3 - 2,
        equality_count=1,
        inequality_count=2,
        lower=double([0.0, -torch.inf, 0.5], [0.0, -torch.inf, -torch.inf]),
        upper=double(1.0, torch.inf, torch.inf),
    )


def points(program, count=2):
    size = program.size + program.equality_count + program.row_count
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def test_bounds_become_rows_after_the_inequalities(curved):
    x = double([0.25, 1.0, 2.0], [0.5, 0.0, 1.0])
    expected = double([-1.0, 6.0, -0.25, -1.5, -0.75], [-2.0, -1.0, -0.5, -1.0, -0.5])
    assert_close(curved.rows(x), expected)


def test_the_jacobian_is_that_of_the_residual(curved):
    z = points(curved)
    whole = torch.autograd.functional.jacobian(curved.residual, z)
    expected = torch.stack([whole[i, :, i] for i in range(2)])
    assert_close(curved.jacobian(z), expected)


def test_jacobians_of_constraints_stand_in_that_of_the_residual(curved):
    z = points(curved)
    Jh, Jr = curved.jacobians(z[:, :3])
    J = curved.jacobian(z)
    assert_close(Jh, J[:, 3:4, :3])
    assert_close(Jr, J[:, 4:, :3])


def test_products_are_those_with_the_hessian_of_the_lagrangian(curved):
    x, y, lam, _ = curved.split(points(curved))
    v = x.flip(1)
    H = curved.hessian_of_lagrangian(x, y, lam)
    assert_close(curved.products(x, y, lam)(v), (H @ v.unsqueeze(2)).squeeze(2))
    assert_close(H, H.mT)


def test_the_residual_vanishes_at_a_known_kkt_point():
    # minimize x1 + x2 on the disc of radius sqrt(2): x = (-1, -1), multiplier 1/2.
    program = MinimizeProgram(
        lambda x: x.sum(1), 1, 2,
        inequalities=lambda x: (x**2).sum(1, keepdim=True) - 2, inequality_count=1,
        lower=double(-torch.inf, -5.0),
    )  # fmt: skip
    z = program.point(double([-1, -1]), double([]), double([0.5, 0]), double([0, 4]))
    assert_close(program.residual(z), torch.zeros_like(z))
    assert_close(program.violation(z), double(0.0))
    x, _, lam, s = program.split(z)
    assert_close(program.point_at(x, double([]), lam), z)
    assert_close(s, double([0.0, 4.0]))


def test_linearize_gives_the_sensitivity_of_a_quadratic():
    # minimize x'x/2 - q'x subject to sum(x) = 0: dx/dq is the projection I - 11'/n.
    program = MinimizeProgram(
        lambda x: (x**2).sum(1) / 2, 1, 3, lambda x: x.sum(1, keepdim=True),
        equality_count=1,
    )  # fmt: skip
    operator = program.linearize(double([0, 0, 0, 0]))
    columns = [operator.solve(e.unsqueeze(0))[0, :3] for e in torch.eye(4).double()[:3]]
    assert_close(torch.stack(columns), torch.eye(3).double() - 1 / 3)


def test_the_gradient_of_a_constant_objective_is_zero():
    program = MinimizeProgram(lambda x: x.new_ones(len(x)), 2, 3)
    x = torch.ones(2, 3).double()
    assert_close(program.gradient(x), torch.zeros_like(x))
    assert_close(program.hessian_of_lagrangian(x), torch.zeros(2, 3, 3).double())


def test_parameters_that_ask_for_a_gradient_are_seen():
    w = torch.ones(3, dtype=torch.float64)
    program = MinimizeProgram(lambda x: (w * x**2).sum(1), 1, 3)
    x = torch.ones(1, 3).double()
    assert not program.depends_on_parameters(x)
    w.requires_grad_()
    assert program.depends_on_parameters(x)


def test_a_violation_that_is_not_finite_is_infinite():
    program = MinimizeProgram(lambda x: x.log().sum(1), 2, 1)
    assert program.violation(double([-1.0], [1.0])).tolist() == [torch.inf, 1.0]


def test_an_objective_of_another_shape_or_dtype_is_refused():
    x = torch.ones(2, 3).double()
    with pytest.raises(ShapeError, match=r"objective .* returned \[2, 1\]"):
        MinimizeProgram(lambda x: x[:, :1], 2, 3).value(x)
    with pytest.raises(ParameterError, match="float32"):
        MinimizeProgram(lambda x: x.sum(1).float(), 2, 3).value(x)
