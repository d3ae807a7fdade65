import pytest
import torch

from optlayers.errors import SingularError
from optlayers.functional import root
from optlayers.implicit.multiple_roots import at_multiple_root
from optlayers.programs.root import RootProgram

DOUBLE = {"dtype": torch.float64}


def suspected(function, point):
    program = RootProgram(function, *point.shape)
    return at_multiple_root(program, point, program.linearize(point)).tolist()


@pytest.mark.parametrize("multiplicity", [2, 3, 5])
def test_points_near_a_multiple_root_are_told_from_those_near_a_simple_one(
    multiplicity,
):
    def function(x):
        return (x - 1) ** multiplicity * (x + 1)

    point = torch.tensor([[1 + 1e-3], [1 - 1e-4], [-1 + 1e-3], [-1.0]], **DOUBLE)
    assert suspected(function, point) == [True, True, False, False]


def test_a_system_is_told_by_its_singular_direction():
    def function(z):
        x, y = z.unbind(1)
        return torch.stack([x + y - 2, (x - y) ** 2], 1)

    assert suspected(function, torch.tensor([[1 + 1e-5, 1 - 1e-5]], **DOUBLE)) == [True]


def test_a_residual_of_roundings_tells_nothing():
    # Terms of 1e6 cancel, so the residual is 1e-10 and its sign random; J is 1e-3.
    def function(x):
        return (1e6 + 1e-3 * x) - (1e6 + 1e-3)

    point = 1 + torch.linspace(-1e-8, 1e-8, 64, **DOUBLE).unsqueeze(1)
    assert not any(suspected(function, point))


@pytest.mark.parametrize("start", [1.0, -0.3])
def test_no_derivative_is_given_at_a_root_that_is_double_in_the_limit(start):
    w = torch.tensor([[0.0], [1e-6]], **DOUBLE, requires_grad=True)
    start = torch.full((2, 1), start, **DOUBLE)
    with pytest.raises(SingularError, match="solution of sample 0"):
        root(lambda x: x**2 - w, start)
    found = root(lambda x: x**2 - w, start, on_failure="keep")
    assert found.stats["gradient_condition"].isinf().tolist() == [True, False]
    found.value[1].sum().backward()
    # dx/dw = 1 / (2 x); the residual of 1e-10 leaves 1e-4 of x.
    torch.testing.assert_close(
        w.grad[1], 0.5 / found.value[1].detach(), rtol=1e-12, atol=0
    )
