"""Samples of systems of equations that fail, and what they leave untouched."""

import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, solve
from optlayers.errors import InvalidDataError, SolveError
from optlayers.solution import Status
from tests.layers.test_root import CLOSE, DOUBLE, intersection


@ol.problem
def logarithm(x=Variable(start=1.0), a=Parameter(), shared=Parameter()):
    return solve(torch.log(x) * shared == a)


@ol.problem
def square(x=Variable(start=1.0), a=Parameter(), shared=Parameter()):
    return solve(shared * x**2 == a)


@pytest.mark.parametrize("on_failure", ["nan", "keep"])
@pytest.mark.parametrize("bad", [-1.0, torch.nan])
def test_a_sample_without_root_changes_nothing_in_the_others(on_failure, bad):
    def run(rows, **options):
        a = torch.tensor(rows, **DOUBLE, requires_grad=True)
        shared = torch.tensor(2.0, **DOUBLE, requires_grad=True)
        out = square(a, shared, **options)
        return out, torch.autograd.grad(out.x[out.ok].sum(), (a, shared))

    with_bad, gradients = run([1.0, bad, 4.0], on_failure=on_failure)
    alone, expected = run([1.0, 4.0])
    assert with_bad.ok.tolist() == [True, False, True]
    assert torch.equal(with_bad.x[with_bad.ok], alone.x)
    assert with_bad.x[1].isnan() == (on_failure == "nan")
    assert gradients[0].tolist() == [expected[0][0], 0.0, expected[0][1]]
    assert torch.equal(gradients[1], expected[1])


def test_failed_rows_add_nothing_to_the_gradient_of_what_is_shared():
    a = torch.tensor([0.0, torch.inf, 1.0], **DOUBLE, requires_grad=True)
    shared = torch.tensor(1.0, **DOUBLE, requires_grad=True)
    out = logarithm(a, shared, on_failure="keep")
    out.x.sum().backward()
    assert out.ok.tolist() == [True, False, True]
    # x = exp(a / shared), so dx/da = x / shared and dx/dshared = -a x / shared^2.
    assert_close(a.grad, torch.tensor([1.0, 0.0, torch.e], **DOUBLE), **CLOSE)
    assert_close(shared.grad, torch.tensor(-torch.e, **DOUBLE), **CLOSE)


def test_one_of_many_diverging_changes_nothing_in_the_rest():
    a = torch.linspace(0.5, 3, 256, **DOUBLE)
    shared = torch.tensor(1.0, **DOUBLE)
    rest = torch.arange(256) != 100
    alone = square(a[rest], shared)
    a[100] = -1.0
    out = square(a, shared, on_failure="nan")
    assert torch.equal(out.x[rest], alone.x)
    assert out.ok[rest].all() and not out.ok[100]


def test_an_unsolved_sample_is_named_with_its_equation():
    with pytest.raises(SolveError) as refused:
        square(torch.tensor([1.0, -1.0], **DOUBLE), torch.tensor(1.0, **DOUBLE))
    message = str(refused.value)
    assert "square: 1 of 2 samples were not solved" in message
    assert "sample 1: STALLED" in message or "sample 1: STEP_LIMIT" in message
    assert "of equation_0 against" in message and "start=" in message


def test_data_that_break_the_declaration_are_found_before_the_solve():
    r, a = torch.tensor([1.0, -1.0, torch.nan], **DOUBLE), torch.tensor(1.0, **DOUBLE)
    with pytest.raises(InvalidDataError, match=r"r is -1, declared Parameter\(nonneg"):
        intersection(r=r, a=a)
    out = intersection(r=r, a=a, on_failure="nan")
    expected = [Status.SOLVED, Status.INVALID_DATA, Status.NOT_FINITE]
    assert out.status.tolist() == expected
    assert out.p[1:].isnan().all() and out.p[0].isfinite().all()


def test_a_batch_without_any_good_sample_keeps_finite_points():
    a = torch.full((2,), torch.nan, **DOUBLE)
    out = square(a, torch.tensor(1.0, **DOUBLE), on_failure="keep")
    assert not out.ok.any() and out.x.isfinite().all()


def test_a_root_outside_the_bounds_is_none():
    def body(x=Variable(lower=0, start=1.0), a=Parameter()):
        return solve(x == a)

    out = ol.problem(body)(torch.tensor([-1.0, 2.0], **DOUBLE), on_failure="keep")
    assert out.ok.tolist() == [False, True]
    assert (out.x >= 0).all()


@pytest.mark.parametrize("on_failure", ["nan", "keep"])
@pytest.mark.parametrize("options", [{}, {"solver": "newton", "gradient": "unrolled"}])
@pytest.mark.parametrize("bad", [-1.0, torch.nan])
def test_where_no_sample_is_solved_the_gradient_is_zero(on_failure, options, bad):
    a = torch.full((2,), bad, **DOUBLE, requires_grad=True)
    shared = torch.tensor(2.0, **DOUBLE, requires_grad=True)
    out = square(a, shared, on_failure=on_failure, **options)
    assert not out.ok.any()
    out.x.sum().backward()
    assert torch.equal(a.grad, torch.zeros_like(a))
    assert torch.equal(shared.grad, torch.zeros_like(shared))


def test_an_empty_batch_has_a_gradient_of_zero():
    a = torch.zeros(0, **DOUBLE, requires_grad=True)
    shared = torch.tensor(2.0, **DOUBLE, requires_grad=True)
    out = square(a, shared)
    out.x.sum().backward()
    assert out.x.shape == a.grad.shape == (0,)
    assert torch.equal(shared.grad, torch.zeros_like(shared))


@pytest.mark.parametrize("u", [torch.zeros(0, 2, **DOUBLE), torch.ones(2, 2, **DOUBLE)])
def test_weights_have_a_gradient_of_zero_where_nothing_is_solved(u):
    net = torch.nn.Linear(2, 2, **DOUBLE)

    @ol.problem
    def away(z=Variable(2), u=Parameter(2)):
        return solve(z == z + u + net(z).square().log().exp())

    out = away(u, on_failure="nan")
    out.z.sum().backward()
    assert out.z.shape == u.shape and not out.ok.any()
    # Of log(0) too, whose derivative is none: zero, not NaN.
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in net.parameters())


def test_what_a_function_closes_over_has_a_gradient_of_zero_too():
    scale = torch.tensor(2.0, **DOUBLE, requires_grad=True)

    @ol.smooth
    def scaled(x):
        return scale * x**2

    @ol.problem
    def closing(x=Variable(start=1.0), a=Parameter()):
        return solve(scaled(x) == a)

    out = closing(torch.tensor([-1.0], **DOUBLE), on_failure="nan")
    (slope,) = torch.autograd.grad(out.x.sum(), scale)
    assert slope == 0
