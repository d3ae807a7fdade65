"""The derivative of a final value that has come to rest, and of those before it."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, State, Time, integrate
from optlayers.errors import NotSupported, SolveError
from optlayers.implicit.steady_state import (
    NEAR,
    attach_steady_state,
    refuse_moving,
)
from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution, Status

D = torch.float64


@ol.problem
def valve(x=State(2), a=Parameter(2), x0=Parameter(2), t=Time()):
    return integrate(
        ol.der(x) == ol.stack([a[0] - x[0] ** 3 - x[1], x[0] - a[1] * x[1]]),
        x.first == x0,
    )


def path(times, **requires):
    a = torch.tensor([2.0, 1.0], dtype=D, requires_grad=requires.get("a", False))
    x0 = torch.tensor([1.5, 1.0], dtype=D, requires_grad=requires.get("x0", False))
    t = torch.tensor(times, dtype=D)
    found = valve(a=a, x0=x0, t=t, gradient="steady_state", tolerance=1e-9)
    return found.x, a, x0


def test_the_last_value_has_the_derivative_of_the_rest():
    x, a, _ = path([0.0, 30.0, 60.0], a=True)
    # a0 = x^3 + x / a1 at rest: dx/da0 = 1 / (3 x^2 + 1 / a1), x = 1.
    (slope,) = torch.autograd.grad(x[-1, 0], a)
    assert torch.allclose(slope, torch.tensor([0.25, 0.25], dtype=D), atol=1e-6)


@pytest.mark.parametrize("wanted", [{"a": True}, {"x0": True}])
def test_a_derivative_on_the_way_is_refused(wanted):
    x, *given = path([0.0, 30.0, 60.0], **wanted)
    with pytest.raises(NotSupported, match=r"save time 1, t = 30, is not zero"):
        torch.autograd.grad(x[1].sum(), [one for one in given if one.requires_grad])


def test_the_first_value_is_the_initial_one():
    x, _, x0 = path([0.0, 30.0, 60.0], x0=True)
    (slope,) = torch.autograd.grad(x[0].sum() + x[-1].sum(), x0)
    assert torch.equal(slope, torch.ones(2, dtype=D))


def attached(a: Tensor, last: list[list[float]], order=1, status=None):
    """Of x' = a - x^2, which rests at sqrt(a), with these last values."""
    final = torch.tensor(last, dtype=D)
    start = torch.ones_like(final).requires_grad_()
    times = torch.tensor([0.0, 9.0], dtype=D).expand(len(final), 2)
    program = InitialValueProgram(lambda t, x: a[:, None] - x * x, start, times)
    status = torch.zeros(len(final)) if status is None else torch.tensor(status)
    value = torch.stack((start.detach(), final), 1)
    solved = Solution(value, {}, status.to(torch.int8), {}, ())
    return attach_steady_state(program, solved, order), start, solved


def roots(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=D, requires_grad=True)


def test_the_derivative_is_that_of_the_state_at_rest():
    a = roots(4.0, 9.0)
    found, start, _ = attached(a, [[2.0], [3.0]])
    on_a, on_start = torch.autograd.grad(found.value[:, 1].sum(), (a, start))
    assert_close(on_a, torch.tensor([1 / 4, 1 / 6], dtype=D))
    assert not on_start.any()
    assert torch.equal(found.value.detach()[:, 1, 0], torch.tensor([2.0, 3.0]).to(D))


def test_derivatives_follow_central_differences_and_are_repeated():
    def last(a):
        return attached(a, [[2.0], [3.0]], order=2)[0].value[:, 1]

    a = roots(4.0, 9.0)
    (first,) = torch.autograd.grad(last(a).sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    assert_close(first, 0.5 * a**-0.5)
    assert_close(second, -0.25 * a.detach() ** -1.5)


def test_a_state_that_moves_is_stalled_with_its_distance_and_without_derivative():
    a = roots(4.0, 4.0)
    found, _, solved = attached(a, [[2.0], [2.5]])
    assert found.status.tolist() == [Status.SOLVED, Status.STALLED]
    # One step of Newton's method: (x^2 - a) / (2 x), relative to x.
    assert_close(found.stats["distance"][1], torch.tensor(2.25 / 5 / 2.5, dtype=D))
    (grad,) = torch.autograd.grad(found.value[:, 1].sum(), a)
    assert_close(grad, torch.tensor([0.25, 0.0], dtype=D))
    with pytest.raises(SolveError, match=r"1 of 2 samples .* sample 1 is 1\.8e-01"):
        refuse_moving(found, solved)


@pytest.mark.parametrize(("share", "status"), [(0.5, 0), (2.0, int(Status.STALLED))])
def test_rest_is_within_a_bound_relative_to_the_state(share, status):
    # Newton's step at x = r + d is about d.
    found, *_ = attached(roots(1e4), [[100.0 * (1 + share * NEAR)]])
    assert (int(found.status) != Status.SOLVED) == bool(status)


def test_a_rest_that_parameters_do_not_determine_has_no_derivative():
    # x' = a - x^2 at a = 0: df/dx = -2 x is zero at the state at rest.
    found, *_ = attached(roots(0.0, 4.0), [[0.0], [2.0]])
    assert found.status.tolist() == [Status.STALLED, Status.SOLVED]
    assert found.stats["distance"][0] == torch.inf


def test_failed_samples_keep_their_status_and_do_not_touch_the_others():
    a = roots(4.0, 4.0)
    failed = int(Status.NOT_FINITE)
    found, _, solved = attached(a, [[torch.nan], [2.0]], status=[failed, 0])
    assert found.status.tolist() == [failed, Status.SOLVED]
    (grad,) = torch.autograd.grad(found.value[1, 1].sum(), a)
    assert_close(grad, torch.tensor([0.0, 0.25], dtype=D))
    # What had failed before is told elsewhere.
    refuse_moving(found, solved)
