"""Quadratic and cone programs as functions of tensors."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers import functional
from optlayers.errors import (
    InvalidDataError,
    ParameterError,
    ShapeError,
    SolveError,
    SolverRefused,
    UnknownName,
)
from optlayers.functional import Cones, Status

DOUBLE = {"dtype": torch.float64}


def inputs(*batch: int, n=4, k=3, p=1) -> dict[str, torch.Tensor]:
    """OptNet's generator, with equalities."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*batch, *shape, generator=generator, **DOUBLE)

    L, G, A, inside = draw(n, n), draw(k, n), draw(p, n), draw(n)
    return {
        "Q": L @ L.mT + 0.1 * torch.eye(n, **DOUBLE),
        "q": draw(n),
        "G": G,
        "h": (G @ inside.unsqueeze(-1)).squeeze(-1) + draw(k).abs(),
        "A": A,
        "b": (A @ inside.unsqueeze(-1)).squeeze(-1),
    }


def test_without_constraints_the_solution_is_that_of_a_linear_system():
    given = inputs(5)
    found = functional.quadratic_program(given["Q"], given["q"])
    assert_close(found.value, torch.linalg.solve(given["Q"], -given["q"]))
    assert found.duals["inequalities"].shape == (5, 0)


def test_optimality_conditions_hold():
    given = inputs(2, 3)
    found = functional.quadratic_program(**given)
    x = found.value.unsqueeze(-1)
    y = found.duals["inequalities"].unsqueeze(-1)
    z = found.duals["equalities"].unsqueeze(-1)
    slack = given["h"].unsqueeze(-1) - given["G"] @ x
    gradient = given["Q"] @ x + given["q"].unsqueeze(-1) + given["G"].mT @ y
    tight = {"rtol": 0, "atol": 1e-9}
    assert_close(gradient + given["A"].mT @ z, torch.zeros_like(gradient), **tight)
    assert_close(given["A"] @ x, given["b"].unsqueeze(-1), **tight)
    assert_close(y * slack, torch.zeros_like(y), **tight)
    assert (y >= 0).all() and (slack >= -1e-9).all()
    assert found.value.shape == (2, 3, 4) and found.status.shape == (2, 3)


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_pass_gradcheck(order):
    given = {name: one.requires_grad_() for name, one in inputs(2).items()}

    def solve(Q, *rest):
        # Only the symmetric part of Q is seen; gradcheck moves one entry at a time.
        found = functional.quadratic_program((Q + Q.mT) / 2, *rest, order=order)
        return found.value, found.duals["inequalities"], found.duals["equalities"]

    assert gradcheck(solve, tuple(given.values()), atol=1e-5)
    if order == 2:
        assert gradgradcheck(solve, tuple(given.values()), atol=1e-4)


def test_shared_matrices_need_no_batch_axis():
    given = inputs(4)
    shared = {name: given[name][0] for name in ("Q", "G", "A")}
    together = functional.quadratic_program(**(given | shared), on_failure="keep")
    for row in range(4):
        one = {name: given[name][row] for name in ("q", "h", "b")}
        alone = functional.quadratic_program(**(shared | one), on_failure="keep")
        assert_close(together.value[row], alone.value)


def test_a_cone_program_projects_onto_the_second_order_cone():
    point = torch.tensor([[0.5, 2.0, 0.0], [3.0, 1.0, 1.0], [-3.0, 1.0, 0.0]], **DOUBLE)
    eye = torch.eye(3, **DOUBLE)
    found = functional.cone_program(eye, -point, -eye, 0 * point, Cones(soc=(3,)))
    expected = torch.tensor(
        [[1.25, 1.25, 0.0], [3.0, 1.0, 1.0], [0.0, 0.0, 0.0]], **DOUBLE
    )
    assert_close(found.value, expected, rtol=1e-8, atol=1e-8)
    assert_close(found.duals["s"], expected, rtol=1e-8, atol=1e-8)


def test_a_linear_cone_program_needs_no_P():
    c = torch.tensor([1.0, 2.0], **DOUBLE)
    A, b = -torch.eye(2, **DOUBLE), -torch.ones(2, **DOUBLE)
    found = functional.cone_program(None, c, A, b, Cones(nonneg=2))
    assert_close(found.value, torch.ones(2, **DOUBLE))
    assert_close(found.duals["y"], c)


def test_float32_in_gives_float32_out():
    given = {name: one.float() for name, one in inputs(2).items()}
    found = functional.quadratic_program(**given)
    assert found.value.dtype == found.duals["equalities"].dtype == torch.float32


def test_an_empty_batch_gives_an_empty_solution():
    assert functional.quadratic_program(**inputs(0)).value.shape == (0, 4)


def test_a_failed_sample_is_a_status_and_leaves_the_others():
    given = inputs(3)
    given["h"][1] = -100.0
    given["G"][1, 1] = -given["G"][1, 0]
    found = functional.quadratic_program(**given, on_failure="nan")
    assert found.status.tolist() == [0, int(Status.INFEASIBLE), 0]
    assert found.value[1].isnan().all() and found.value[[0, 2]].isfinite().all()
    assert found.duals["inequalities"][1].isnan().all()
    with pytest.raises(SolveError, match="sample 1"):
        functional.quadratic_program(**given)


def test_an_indefinite_Q_is_named_before_the_solver_runs():
    given = inputs(2)
    given["Q"][1] -= 50 * torch.eye(4, **DOUBLE)
    with pytest.raises(InvalidDataError, match=r"(?s)sample 1.*Q has eigenvalue"):
        functional.quadratic_program(**given)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": torch.zeros(2, 5, **DOUBLE)}, ShapeError, "Q is"),
        ({"h": None}, ParameterError, "h is missing"),
        ({"b": torch.zeros(2, 1)}, ParameterError, "float32"),
        ({"q": torch.zeros(3, 4, **DOUBLE)}, ShapeError, "batch"),
        ({"solver": "dakp"}, UnknownName, "daqp"),
        ({"solver": 3}, ParameterError, "instance"),
    ],
)
def test_mistakes_are_named(change, error, message):
    with pytest.raises(error, match=message):
        functional.quadratic_program(**(inputs(2) | change))


def test_a_solver_that_does_not_take_the_program_says_why():
    eye, zero = torch.eye(3, **DOUBLE), torch.zeros(3, **DOUBLE)
    with pytest.raises(SolverRefused, match="cone"):
        functional.cone_program(eye, zero, -eye, zero, Cones(soc=(3,)), solver="daqp")
