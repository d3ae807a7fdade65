import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.errors import OrderError, ParameterError, SolveError
from optlayers.functional.integrate import integrate
from optlayers.programs.initial_value import Event
from optlayers.solution import Status
from optlayers.solvers.ode.dopri5 import Dopri5
from tests.functional.sensitivities import (
    lotka_volterra,
    sensitivities,
    van_der_pol,
)

MODES = ("exact", "direct", "sweep", "checkpoint", "backsolve")
OF_STEPS = ("exact", "direct", "sweep", "checkpoint")
TWICE = ("exact", "direct", "checkpoint")
# Steps are this accurate, relative; derivatives must be right to 1e-6.
TIGHT = {"solver": "dopri5", "rtol": 1e-9, "atol": 1e-11}
NEAR = {"rtol": 1e-6, "atol": 1e-6}
LONG = "Lotka-Volterra, three periods"
PROBLEMS = {
    "van der Pol": (van_der_pol, [2.0], [2.0, 0.0], [0.0, 1.0, 2.5, 5.0]),
    "Lotka-Volterra": (lotka_volterra, [1.5, 1.0, 3.0, 1.0], [1.0, 1.0],
                       [0.0, 1.0, 2.5]),
    LONG: (lotka_volterra, [1.5, 1.0, 3.0, 1.0], [1.0, 1.0],
                                      [0.0, 4.0, 10.0]),
}  # fmt: skip


def numbers(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def leaf(*values: object) -> Tensor:
    return numbers(*values).requires_grad_()


@pytest.fixture(
    scope="module",
    params=[
        "van der Pol",
        "Lotka-Volterra",
        pytest.param(LONG, marks=pytest.mark.slow),
    ],
)
def known(request):
    """A problem with its solution and sensitivities by SciPy."""
    problem = PROBLEMS[request.param]
    return *problem, *map(torch.from_numpy, sensitivities(*problem))


@pytest.mark.parametrize("gradient", MODES)
def test_derivatives_are_those_of_the_sensitivity_equations(known, gradient):
    family, parameters, initial, times, value, in_parameters, in_initial = known
    p, start = leaf(*parameters), leaf(*initial)
    solved = integrate(
        family(p), start[None], numbers(*times), gradient=gradient, **TIGHT
    )
    weight = torch.linspace(1, 2, value.numel(), dtype=torch.float64).view_as(value)
    assert_close(solved.value[0], value, **NEAR)
    found = torch.autograd.grad((solved.value[0] * weight).sum(), (p, start))
    for one, matrix in zip(found, (in_parameters, in_initial), strict=True):
        expected = torch.einsum("tn,tnm->m", weight, matrix)
        assert_close(
            one / expected.abs().max(), expected / expected.abs().max(), **NEAR
        )


def decay(k: Tensor, start: Tensor, times: Tensor, **options) -> Tensor:
    """x' = -k x, k [B], start [B, n]."""

    def field(time: Tensor, state: Tensor) -> Tensor:
        return -k.unsqueeze(1) * state

    return integrate(field, start, times, **options).value


def decayed(k: Tensor, start: Tensor, times: Tensor) -> Tensor:
    """x = start exp(-k (t - t0))."""
    passed = times - times[..., :1]
    return start.unsqueeze(1) * torch.exp(-k.unsqueeze(1) * passed).unsqueeze(2)


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize(
    "times",
    [[0.3, 1.0, 1.7], [[0.3, 1, 1.7], [0, 0.5, 2]], [[1.7, 1, 0.3], [0, 1, 2.0]]],
    ids=["shared", "of each sample", "backward in one"],
)
def test_decay_has_the_derivatives_of_its_closed_form(gradient, times):
    inputs = leaf(0.5, 1.5), leaf([1.0, 2.0], [3.0, 1.0]), leaf(*times)
    found = decay(*inputs, gradient=gradient, **TIGHT)
    weight = torch.linspace(1, 2, found.numel(), dtype=torch.float64).view_as(found)
    expected = decayed(*inputs)
    assert_close(found, expected, **NEAR)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        assert_close(one, other, **NEAR)


@pytest.mark.parametrize("gradient", TWICE)
def test_second_derivatives_are_those_of_the_closed_form(gradient):
    inputs = leaf(0.5, 1.5), leaf([1.0], [3.0]), leaf(0.3, 1.0, 1.7)

    def curvature(value: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(value.square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(one.square().sum() for one in first), inputs)

    found = curvature(decay(*inputs, gradient=gradient, order=2, **TIGHT))
    for one, other in zip(found, curvature(decayed(*inputs)), strict=True):
        assert_close(one, other, **NEAR)


@pytest.mark.parametrize("gradient", OF_STEPS)
def test_gradients_pass_gradcheck(gradient):
    inputs = leaf(0.5, 0.9), leaf([1.0], [1.2]), leaf(0.0, 0.2, 0.4)

    def function(k: Tensor, start: Tensor, times: Tensor) -> Tensor:
        return decay(k, start, times, gradient=gradient, solver="dopri5", rtol=1e-9)

    assert gradcheck(function, inputs)


@pytest.mark.parametrize("gradient", TWICE)
def test_second_derivatives_pass_gradgradcheck(gradient):
    inputs = leaf(0.5), leaf([1.0]), leaf(0.0, 0.4)

    def function(k: Tensor, start: Tensor, times: Tensor) -> Tensor:
        return decay(
            k, start, times, gradient=gradient, solver="dopri5", rtol=1e-9, order=2
        )

    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("gradient", ["exact", "sweep", "backsolve"])
def test_a_second_derivative_that_was_not_asked_for_is_an_error(gradient):
    k, start = leaf(0.5), leaf([1.0])
    value = decay(k, start, numbers(0.0, 1.0), gradient=gradient, **TIGHT)
    (first,) = torch.autograd.grad(value.sum(), k, create_graph=True)
    with pytest.raises(OrderError, match="order=2"):
        torch.autograd.grad(first.sum(), start)


@pytest.mark.parametrize("gradient", ["sweep", "backsolve"])
def test_ways_of_first_order_refuse_a_second(gradient):
    with pytest.raises(ParameterError, match="order 2"):
        decay(leaf(0.5), leaf([1.0]), numbers(0, 1), gradient=gradient, order=2)


@pytest.mark.parametrize("gradient", MODES)
def test_modules_in_the_field_get_the_gradients_of_their_parameters(gradient):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    start, times = torch.randn(3, 2, dtype=torch.float64), numbers(0, 0.5, 1)

    def gradients(gradient: str) -> list[Tensor]:
        solved = integrate(
            lambda t, x: net(x), start, times, gradient=gradient, **TIGHT
        )
        return list(torch.autograd.grad(solved.value.square().sum(), net.parameters()))

    for one, other in zip(gradients(gradient), gradients("direct"), strict=True):
        assert_close(one, other, **NEAR)


@pytest.mark.parametrize("gradient", MODES)
def test_a_shared_parameter_collects_the_sum_of_its_rows(gradient):
    p, times = leaf(1.5, 1.0, 3.0, 1.0), numbers(0, 0.5, 1)
    starts = numbers([1.0, 1.0], [2.0, 0.5], [0.3, 4.0])

    def gradient_of(start: Tensor) -> Tensor:
        solved = integrate(
            lotka_volterra(p), start, times, gradient=gradient, solver="dopri5"
        )
        return torch.autograd.grad(solved.value.sum(), p)[0]

    apart = sum(gradient_of(one[None]) for one in starts)
    # The sums are taken in another order.
    assert_close(gradient_of(starts), apart, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("gradient", MODES)
def test_the_gradient_of_a_sample_does_not_depend_on_its_company(gradient):
    start, times = numbers([2.0, 0.0], [1.0, 1.0], [0.1, 0.0]), numbers(0, 2, 3)
    mu = numbers([1.0], [3.0], [9.0])

    def gradients(rows: list[int]) -> tuple[Tensor, ...]:
        own, begin = mu[rows].requires_grad_(), start[rows].requires_grad_()
        solved = integrate(
            van_der_pol(own), begin, times, gradient=gradient, solver="dopri5"
        )
        return torch.autograd.grad(solved.value.square().sum(), (own, begin))

    for one, other in zip(gradients([0, 1, 2]), gradients([1]), strict=True):
        # Sums over stages may be taken in another order.
        assert_close(one[1:2], other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gradient", MODES)
def test_a_sample_that_blows_up_has_no_gradient_and_leaks_none(gradient):
    p, times = leaf(1.0), leaf(0.0, 1.0, 2.0)

    def gradients(*rows: float) -> tuple[Tensor, ...]:
        start = numbers(*rows).unsqueeze(1).requires_grad_()
        solved = integrate(
            lambda t, x: p * x * x, start, times, gradient=gradient, solver="dopri5",
            on_failure="nan",
        )  # fmt: skip
        total = solved.value[solved.ok].sum()
        return torch.autograd.grad(total, (p, start, times))

    in_p, in_start, in_times = gradients(0.1, 5.0, torch.nan, 0.2)
    alone = gradients(0.1, 0.2)
    assert in_start[1:3].eq(0).all()
    assert_close(in_start[[0, 3]], alone[1])
    assert_close(in_p, alone[0])
    assert_close(in_times, alone[2])


@pytest.mark.parametrize("gradient", MODES)
def test_a_batch_that_fails_as_a_whole_has_gradients_of_zero(gradient):
    p, start = leaf(1.0), leaf([2.0], [5.0])
    solved = integrate(
        lambda t, x: p * x * x, start, numbers(0, 1), gradient=gradient,
        solver=Dopri5(max_steps=30), on_failure="keep",
    )  # fmt: skip
    assert not solved.ok.any()
    for one in torch.autograd.grad(
        solved.value.nan_to_num().sum(), (p, start), materialize_grads=True
    ):
        assert one.eq(0).all()


@pytest.mark.parametrize("gradient", MODES)
def test_single_precision_is_kept(gradient):
    k, start = torch.tensor([0.5], requires_grad=True), torch.ones(1, 2)
    value = decay(
        k, start, torch.tensor([0.0, 1.0]), gradient=gradient, solver="dopri5"
    )
    (found,) = torch.autograd.grad(value[0, 1].sum(), k)
    assert value.dtype == found.dtype == torch.float32
    # The tolerance of single precision is 1e-5 a step.
    assert_close(found, -2 * torch.exp(-k.detach()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize("solver", ["dopri8", "bosh3", "tsit5"])
def test_any_method_has_every_gradient(gradient, solver):
    k, start, times = leaf(0.5), leaf([1.0]), leaf(0.0, 0.7, 1.0)
    value = decay(k, start, times, gradient=gradient, solver=solver, rtol=1e-8)
    found = torch.autograd.grad(value.sum(), (k, start, times))
    expected = torch.autograd.grad(decayed(k, start, times).sum(), (k, start, times))
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, **NEAR)


@pytest.mark.parametrize("gradient", ["sweep", "checkpoint", "backsolve"])
def test_events_need_a_graph_of_the_steps(gradient):
    event = Event(lambda t, x: x[:, 0] - 0.5)
    with pytest.raises(ParameterError, match="events"):
        decay(
            leaf(0.5),
            leaf([1.0]),
            numbers(0, 1),
            gradient=gradient,
            events=event,
            solver="dopri5",
        )


def resting(a: Tensor, end: list[float], **options):
    """x' = a - x^2, which rests at sqrt(a)."""
    return integrate(
        lambda t, x: a.unsqueeze(1) - x * x, torch.ones(len(a), 1, dtype=a.dtype),
        numbers(*([0.0, one] for one in end)), solver="dopri5",
        gradient="steady_state", **options,
    )  # fmt: skip


def test_a_steady_state_has_two_derivatives():
    a = leaf(2.0, 3.0)
    value = resting(a, [30.0, 30.0], order=2, rtol=1e-10).value[:, 1]
    (first,) = torch.autograd.grad(value.sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    assert_close(first, 0.5 * a**-0.5, **NEAR)
    assert_close(second, -0.25 * a.detach() ** -1.5, **NEAR)


def test_a_state_that_still_moves_is_refused_with_its_distance():
    with pytest.raises(SolveError, match=r"sample 1 .* not come to rest|sample 1 is"):
        resting(leaf(2.0, 3.0), [30.0, 1.0])


def test_a_state_that_still_moves_has_a_status_of_its_own():
    a = leaf(2.0, 3.0)
    solved = resting(a, [30.0, 1.0], on_failure="nan")
    assert solved.status.tolist() == [Status.SOLVED, Status.STALLED]
    (found,) = torch.autograd.grad(solved.value[0, 1].sum(), a)
    assert_close(found, numbers(0.5 * 2**-0.5, 0.0), **NEAR)
