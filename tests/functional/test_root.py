import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from optlayers.errors import (
    OrderError,
    ParameterError,
    ShapeError,
    SingularError,
    SolveError,
    SolverRefused,
    TransformError,
    UnknownName,
)
from optlayers.functional import fixed_point, root
from optlayers.solution import Status

EXACT = ("exact", "dense", "gmres", "bicgstab", "normal_cg", "least_squares")


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float64)


def test_the_root_of_a_sine_moves_against_its_shift():
    w = torch.linspace(-1, 1, 5, dtype=torch.float64).unsqueeze(1).requires_grad_()
    found = root(lambda x: torch.sin(x + w), zeros(5, 1))
    found.value.sum().backward()
    assert_close(found.value, -w)
    assert_close(w.grad, -torch.ones_like(w))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_half_plane_chooses_the_branch_of_the_circle(sign):
    x = torch.linspace(-0.8, 0.8, 5, dtype=torch.float64).unsqueeze(1).requires_grad_()
    bound = {"lower": zeros(1)} if sign > 0 else {"upper": zeros(1)}
    found = root(lambda y: x**2 + y**2 - 1, zeros(5, 1) + sign / 2, **bound)
    found.value.sum().backward()
    y = sign * (1 - x.detach() ** 2).sqrt()
    assert_close(found.value, y)
    assert_close(x.grad, -x.detach() / y)


def test_an_equation_without_explicit_form_has_the_implicit_derivative():
    x = torch.tensor([[1.5], [2.0]], dtype=torch.float64, requires_grad=True)
    found = root(lambda y: torch.sin(x * y) - y, zeros(2, 1) + 1)
    y = found.value
    y.sum().backward()
    cosine = torch.cos(x * y).detach()
    expected = y.detach() * cosine / (1 - x.detach() * cosine)
    assert (y > 0.5).all()
    assert_close(x.grad, expected)


@pytest.mark.parametrize("method", EXACT)
def test_both_orders_of_derivatives_agree_with_differences(method):
    generator = torch.Generator().manual_seed(0)
    A = 0.3 * torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    b = torch.randn(2, 3, generator=generator, dtype=torch.float64)

    def solve(A, b):
        return fixed_point(
            lambda z: torch.tanh((A @ z.unsqueeze(2)).squeeze(2) + b), zeros(2, 3),
            order=2, gradient=method, tolerance=1e-13,
        ).value  # fmt: skip

    inputs = (A.requires_grad_(), b.requires_grad_())
    assert gradcheck(solve, inputs)
    assert gradgradcheck(solve, inputs)


def test_approximate_gradients_tend_to_the_exact_one():
    b = torch.tensor([[0.3, -0.2]], dtype=torch.float64, requires_grad=True)

    def gradient(method):
        value = fixed_point(lambda z: 0.1 * torch.tanh(z) + b, zeros(1, 2),
                            gradient=method).value  # fmt: skip
        return torch.autograd.grad(value.sum(), b)[0]

    exact = gradient("exact")
    assert_close(gradient("neumann"), exact, rtol=0, atol=1e-9)
    assert_close(gradient("one_step"), torch.ones_like(b))
    assert not torch.allclose(gradient("one_step"), exact, atol=1e-3)


def test_approximate_gradients_have_no_second_order():
    with pytest.raises(ParameterError, match="approximate"):
        fixed_point(lambda z: 0.5 * z, zeros(1, 2), gradient="one_step", order=2)


def test_one_derivative_too_many_is_refused():
    w = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    value = root(lambda x: x**3 - w, zeros(1, 1) + 1).value
    (first,) = torch.autograd.grad(value.sum(), w, create_graph=True)
    with pytest.raises(OrderError):
        torch.autograd.grad(first.sum(), w)


def test_a_diverging_sample_changes_nothing_in_the_other_255():
    generator = torch.Generator().manual_seed(0)
    target = 1 + torch.rand(256, 1, generator=generator, dtype=torch.float64)
    weight = torch.ones(1, dtype=torch.float64)

    def run(bad):
        own = target.clone()
        if bad:
            own[17] = -1.0
        own, w = own.requires_grad_(), weight.clone().requires_grad_()
        found = root(lambda x: w * x * x - own, zeros(256, 1) + 1, on_failure="nan")
        kept = torch.arange(256) != 17
        found.value[kept].sum().backward()
        return found, own.grad, w.grad, kept

    whole, gradient, shared, kept = run(bad=False)
    mixed, mixed_gradient, mixed_shared, _ = run(bad=True)
    assert mixed.status[17] != Status.SOLVED
    assert mixed.value[17].isnan().all()
    assert torch.equal(mixed.value[kept], whole.value[kept])
    assert torch.equal(mixed_gradient[kept], gradient[kept])
    assert (mixed_gradient[17] == 0).all()
    assert_close(mixed_shared, shared)


def test_failures_are_named():
    target = torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    with pytest.raises(SolveError, match=r"1 of 3 samples.*\n.*sample 1: STALLED"):
        root(lambda x: x * x - target, zeros(3, 1) + 1)


def test_a_singular_jacobian_is_named_and_least_squares_is_on_request():
    w = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)

    def twice(z):
        total = z.sum(1, keepdim=True) - w
        return torch.cat([total, total], 1)

    start = zeros(1, 2) + 0.9
    with pytest.raises(SingularError, match="sample 0"):
        root(twice, start, solver="levenberg_marquardt")
    found = root(twice, start, solver="levenberg_marquardt", gradient="least_squares")
    found.value.sum().backward()
    assert_close(w.grad, torch.ones_like(w))
    assert found.stats["gradient_condition"].isinf().all()


def test_modules_are_differentiated():
    torch.manual_seed(0)
    net = nn.Linear(3, 3).double()
    with torch.no_grad():
        net.weight.mul_(0.3)
    found = fixed_point(lambda z: torch.tanh(net(z)) + 1, zeros(4, 3))
    found.value.square().sum().backward()
    step = 1e-6
    expected = torch.zeros_like(net.bias)
    for i in range(3):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                net.bias[i] += sign * step
                value = fixed_point(lambda z: torch.tanh(net(z)) + 1, zeros(4, 3),
                                    tolerance=1e-13).value  # fmt: skip
                ends.append(value.square().sum())
                net.bias[i] -= sign * step
        expected[i] = (ends[0] - ends[1]) / (2 * step)
    assert_close(net.bias.grad, expected, rtol=1e-6, atol=1e-8)


def test_unknowns_may_be_a_pytree():
    b = torch.tensor([1.0, 8.0], dtype=torch.float64, requires_grad=True)

    def equations(z):
        cubed = z["a"] ** 3 - b.unsqueeze(1)
        return {"a": cubed, "pair": (z["pair"][0] - z["a"].unsqueeze(2) * 2,)}

    start = {"a": zeros(2, 1) + 1, "pair": (zeros(2, 1, 1),)}
    found = root(equations, start).value
    found["pair"][0].sum().backward()
    assert_close(found["a"].flatten(), b.detach() ** (1 / 3))
    assert_close(b.grad, 2 / 3 * b.detach() ** (-2 / 3))


def test_leading_axes_come_back():
    target = torch.rand(2, 3, 4, dtype=torch.float64) + 1
    found = root(lambda x: x**2 - target, torch.ones(2, 3, 4, dtype=torch.float64))
    assert found.status.shape == (2, 3)
    assert_close(found.value, target.sqrt())


def test_single_precision_stays_single():
    found = root(lambda x: x**2 - 2, torch.ones(3, 1))
    assert found.value.dtype == torch.float32
    assert_close(found.value, torch.full((3, 1), math.sqrt(2)), rtol=0, atol=1e-5)


def test_an_empty_batch_gives_an_empty_result():
    assert root(lambda x: x - 1, zeros(0, 2)).value.shape == (0, 2)


def test_large_fixed_points_form_no_jacobian():
    n = 600
    b = torch.linspace(0, 1, n, dtype=torch.float64).unsqueeze(0).requires_grad_()
    found = fixed_point(lambda z: 0.5 * torch.sin(z.roll(1, 1)) + b, zeros(1, n))
    found.value.sum().backward()
    slope = 0.5 * torch.cos(found.value.detach().roll(1, 1))
    # J' w = 1 by the cyclic recursion w_i = 1 + slope_{i+1} w_{i+1}, iterated.
    w = torch.ones(1, n, dtype=torch.float64)
    for _ in range(80):
        w = 1 + (slope * w).roll(-1, 1)
    assert_close(b.grad, w, rtol=0, atol=1e-9)
    assert found.stats["gradient_condition"].isnan().all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"solver": "newtn"}, UnknownName, "newton"),
        ({"solver": "anderson"}, SolverRefused, "map"),
        ({"solver": 3}, ParameterError, "solver=3"),
        ({"gradient": "exakt"}, ParameterError, "exact"),
        ({"order": 0}, ParameterError, "order=0"),
        ({"tolerance": -1.0}, ParameterError, "tolerance"),
        ({"on_failure": "skip"}, ParameterError, "on_failure"),
    ],
)
def test_bad_options_are_named(change, error, words):
    with pytest.raises(error, match=words):
        root(lambda x: x - 1, zeros(1, 2), **change)


@pytest.mark.parametrize(
    "bounds",
    [
        {"lower": 0},
        {"lower": torch.zeros(2)},
        {"lower": [0.0, 0.0]},
        {"lower": zeros(3, 2), "upper": torch.full((3, 2), 9)},
    ],
)
def test_bounds_are_numbers_or_of_the_form_of_the_unknowns(bounds):
    found = root(lambda x: x * x - 4, zeros(3, 2) + 0.1, **bounds)
    assert_close(found.value, zeros(3, 2) + 2)


@pytest.mark.parametrize(
    "below", [{"x": 0, "y": 1}, {"x": zeros(2), "y": zeros(2, 2, 2) + 1}]
)
def test_bounds_of_a_pytree_are_a_pytree(below):
    start = {"x": zeros(2), "y": zeros(2, 2, 2)}

    def product(z):
        return {"x": z["x"] ** 2 - 4, "y": z["y"] ** 2 - 9}

    found = root(product, start, lower=below)
    assert_close(found.value["x"], zeros(2) + 2)
    assert_close(found.value["y"], zeros(2, 2, 2) + 3)


def test_bounds_keep_single_precision():
    found = root(lambda x: x * x - 4, torch.ones(1, 1), lower=zeros(1))
    assert found.value.dtype == torch.float32


@pytest.mark.parametrize(
    ("bounds", "error", "words"),
    [
        ({"lower": zeros(3)}, ShapeError, r"lower: \[3\] is neither \[2\]"),
        ({"upper": zeros(2, 1)}, ShapeError, r"upper: .* nor \[1, 2\]"),
        ({"lower": 1, "upper": 0}, ParameterError, "by up to 1.0e"),
        ({"lower": math.nan}, ParameterError, "lower holds NaN"),
    ],
)
def test_bad_bounds_are_named(bounds, error, words):
    with pytest.raises(error, match=words):
        root(lambda x: x - 1, zeros(1, 2), **bounds)


@pytest.mark.parametrize("start", [zeros(1, 2), {"x": zeros(1, 2)}])
def test_another_precision_than_that_of_the_start_is_named(start):
    def single(z):
        return {"x": z["x"].float()} if isinstance(z, dict) else z.float()

    with pytest.raises(ParameterError, match="float32 for unknowns"):
        root(single, start)


def test_too_few_equations_are_named():
    with pytest.raises(ShapeError, match=r"\[1, 1\].*\[1, 2\]"):
        root(lambda x: x[:, :1], zeros(1, 2))


def test_transforms_are_refused_with_the_remedy():
    with pytest.raises(TransformError, match="batch axis"):
        torch.func.vmap(lambda w: root(lambda x: x - w, zeros(1, 1)).value)(zeros(3, 1))


def test_systems_without_unknowns_are_solved():
    a = torch.ones((), dtype=torch.float64, requires_grad=True)
    for found in (
        root(lambda x: a * x, zeros(3, 0)),
        fixed_point(torch.cos, zeros(3, 0)),
    ):
        assert found.value.shape == (3, 0)
        assert (found.status == Status.SOLVED).all() and not found.stats["steps"].any()


def test_another_structure_is_shown_with_its_names():
    start = {"a": zeros(2, 1), "b": zeros(2, 1)}
    words = r"returned {'a': \[2, 1\], 'c': \[2, 1\]} for unknowns {'a': \[2, 1\], 'b'"
    with pytest.raises(ShapeError, match=words):
        root(lambda z: {"a": z["a"], "c": z["b"]}, start)


def test_gradients_that_there_are_not_are_answered_with_those_of_roots():
    words = r"gradient='foo': one of exact, dense.*unrolled\.$"
    for solve in (root, fixed_point):
        with pytest.raises(ParameterError, match=words):
            solve(torch.cos, zeros(1, 1), gradient="foo")
