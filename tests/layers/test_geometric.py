"""Geometric programs: values against cvxpy's gp=True, derivatives by differences."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, maximize, minimize
from optlayers.errors import InvalidDataError
from optlayers.solution import Status

DOUBLE = {"dtype": torch.float64}
# What Clarabel reaches by itself, without a polish.
TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
CVXPY = {"rtol": 1e-5, "atol": 1e-6}
# What central differences of 1e-5 resolve.
DIFFERENCES = {"rtol": 1e-5, "atol": 2e-6}


def tensor(value):
    return torch.tensor(value, **DOUBLE)


def central(function, value, step=1e-5):
    """Gradient of a scalar function by central differences."""
    gradient = torch.zeros_like(value)
    for k in range(value.numel()):
        ends = []
        for sign in (1, -1):
            moved = value.clone().flatten()
            moved[k] += sign * step
            ends.append(function(moved.reshape(value.shape)))
        gradient.view(-1)[k] = (ends[0] - ends[1]) / (2 * step)
    return gradient


# ---- the geometric program of the paper on cvxpylayers, 2019 -------------------------


@ol.problem(geometric=True)
def cube(
    x=Variable(),
    y=Variable(),
    z=Variable(),
    a=Parameter(),
    b=Parameter(),
    c=Parameter(),
):
    return minimize(
        1 / (x * y * z), area=a * (x * y + x * z + y * z) <= b, low=x >= y**c
    )


def cube_by_cvxpy(a, b, c):
    x, y, z = (cp.Variable(pos=True) for _ in range(3))
    area = a * (x * y + x * z + y * z) <= b
    problem = cp.Problem(cp.Minimize(1 / x / y / z), [area, x >= y**c])
    problem.solve(gp=True, solver=cp.CLARABEL, **TIGHT)
    return [problem.value, x.value, y.value, z.value]


CUBES = (tensor([2.0, 2.5, 3.0]), tensor(1.0), tensor([0.5, 0.6, 0.7]))


def cube_outputs(a, b, c, order=1):
    out = cube.layer(order=order)(a=a, b=b, c=c)
    return out.objective, out.x, out.y, out.z, out.dual.area, out.dual.low


def test_a_batch_of_the_gallery_agrees_with_cvxpy():
    found = torch.stack(cube_outputs(*CUBES)[:4], dim=1)
    expected = [
        cube_by_cvxpy(a, 1.0, c)
        for a, c in zip(CUBES[0].tolist(), CUBES[2].tolist(), strict=True)
    ]
    assert_close(found, tensor(np.array(expected, dtype=float).tolist()), **CVXPY)


def test_a_parametric_exponent_has_gradients():
    inputs = tuple(one.clone().requires_grad_() for one in CUBES)
    assert gradcheck(cube_outputs, inputs, atol=1e-5, check_forward_ad=True)


def test_geometric_programs_are_differentiated_twice():
    inputs = tuple(one[:1].requires_grad_() for one in (CUBES[0], CUBES[2]))

    def outputs(a, c):
        out = cube.layer(order=2)(a=a, b=tensor(1.0), c=c)
        return out.objective, out.x, out.dual.area

    assert gradgradcheck(outputs, inputs, atol=1e-4)


def test_kind_and_reason_say_that_it_is_a_geometric_program():
    layer = cube.layer()
    assert layer.kind == "convex"
    assert layer.why.startswith("a geometric program, convex in the logarithms: ")


def test_the_declared_problem_is_shown():
    assert "a (x y + x z + y z) ≤ b" in str(cube)
    assert "exp" not in str(cube)


# ---- multipliers belong to the declared problem --------------------------------------


def tied_inputs():
    return {
        "budget": tensor([2.0, 1.5, 3.0]),
        "tie": tensor([0.4, 0.3, 0.5]),
        "cap": tensor([[0.7, 0.9], [0.6, 0.5], [0.8, 0.6]]),
    }


@ol.problem(geometric=True)
def tied(
    x=Variable("2", upper=4.0),
    y=Variable(lower=0.05),
    budget=Parameter(),
    tie=Parameter(),
    cap=Parameter("2"),
):
    return minimize(
        1 / (x[0] * y) + x[1] / x[0] + 2 / x[1],
        budget=ol.sum(x) <= budget - 0.1,
        tie=x[0] * y == tie,
        cap=x * ol.sqrt(y) <= cap,
    )


@pytest.mark.parametrize("name", ["budget", "tie", "cap"])
def test_the_multiplier_of_a_right_hand_side_is_minus_its_sensitivity(name):
    given = tied_inputs()
    out = tied(**given)

    def value(moved):
        return tied(**(given | {name: moved})).objective.sum().item()

    assert_close(-out.dual[name], central(value, given[name]), **DIFFERENCES)


def test_multipliers_of_a_maximized_objective_are_those_of_its_negative():
    @ol.problem(geometric=True)
    def box(
        h=Variable(), w=Variable(), d=Variable(), wall=Parameter(), floor=Parameter()
    ):
        return maximize(
            h * w * d,
            wall=2 * (h * w + h * d) <= wall,
            floor=w * d <= floor,
            shape=0.5 <= h / w,
        )

    given = {"wall": tensor([10.0, 20.0]), "floor": tensor([3.0, 5.0])}
    out = box(**given)
    for name in given:

        def value(moved, name=name):
            return box(**(given | {name: moved})).objective.sum().item()

        expected = central(value, given[name])
        assert_close(out.dual[name], expected, **DIFFERENCES)


def test_a_box_of_given_wall_and_floor_has_a_closed_form():
    """Walls s = 2 h (w + d), floor w d = f: w = d = sqrt f, h = s / (4 sqrt f)."""

    @ol.problem(geometric=True)
    def box(h=Variable(), w=Variable(), d=Variable(), s=Parameter(), f=Parameter()):
        return maximize(h * w * d, wall=2 * h * (w + d) <= s, floor=w * d <= f)

    s, f = tensor([8.0, 10.0]).requires_grad_(), tensor([1.0, 4.0]).requires_grad_()
    out = box(s=s, f=f)
    assert_close(out.w, f.sqrt(), rtol=1e-9, atol=0)
    assert_close(out.h, s / (4 * f.sqrt()), rtol=1e-9, atol=0)
    assert_close(out.objective, s * f.sqrt() / 4, rtol=1e-9, atol=0)
    assert_close(out.dual.wall, f.sqrt() / 4, rtol=1e-9, atol=0)
    assert_close(out.dual.floor, s / (8 * f.sqrt()), rtol=1e-9, atol=0)
    found = torch.autograd.grad(out.h.sum(), (s, f), retain_graph=True)
    assert_close(found[0], 1 / (4 * f.sqrt()).detach(), rtol=1e-9, atol=0)
    assert_close(found[1], (-s / (8 * f**1.5)).detach(), rtol=1e-9, atol=0)
    found = torch.autograd.grad(out.dual.floor.sum(), (s, f))
    assert_close(found[1], (-s / (16 * f**1.5)).detach(), rtol=1e-9, atol=0)


def test_a_constraint_that_always_holds_has_a_multiplier_of_zero():
    @ol.problem(geometric=True)
    def least(x=Variable("3", nonneg=True, lower=(-1.0, 0.5, 0.0)), a=Parameter()):
        return minimize(ol.sum(x + a / x), always=x >= 0)

    out = least(a=tensor([0.04, 0.16]))
    assert_close(out.x, tensor([[0.2, 0.5, 0.2], [0.4, 0.5, 0.4]]))
    assert_close(out.dual["x.nonneg"], torch.zeros(2, 3, **DOUBLE))
    assert_close(out.dual.always, torch.zeros(2, 3, **DOUBLE))
    lower = torch.zeros(2, 3, **DOUBLE)
    lower[:, 1] = 1 - tensor([0.04, 0.16]) / 0.25
    assert_close(out.dual["x.lower"], lower)


# ---- problems of the tutorial (Boyd, Kim, Vandenberghe, Hassibi 2007) ----------------


@ol.problem(geometric=True)
def power_control(
    p=Variable("n", lower=0.01, upper=5.0),
    G=Parameter("n n"),
    noise=Parameter("n"),
    quality=Parameter(),
):
    """Least transmitted power at a given signal to interference ratio."""
    others = 1 - np.eye(3)
    interference = (others * G) @ p + noise
    signal = ol.diag(G) * p
    return minimize(ol.sum(p), quality=quality * interference / signal <= 1)


def power_inputs():
    generator = torch.Generator().manual_seed(1)
    G = 0.1 * torch.rand(3, 3, 3, generator=generator, **DOUBLE)
    G = G + torch.eye(3, **DOUBLE)
    noise = 0.3 + torch.rand(3, 3, generator=generator, **DOUBLE)
    return G, noise, tensor([1.5, 2.0, 1.0])


def test_power_control_solves_its_linear_equations():
    """All constraints are active: p = D F p + D noise."""
    G, noise, quality = power_inputs()
    out = power_control(G=G, noise=noise, quality=quality)
    gains = quality[:, None] / torch.diagonal(G, dim1=1, dim2=2)
    F = gains[..., None] * (G - torch.diag_embed(torch.diagonal(G, dim1=1, dim2=2)))
    expected = torch.linalg.solve(torch.eye(3, **DOUBLE) - F, gains * noise)
    assert_close(out.p, expected, rtol=1e-8, atol=0)


def test_power_control_has_the_gradients_of_differences():
    inputs = tuple(one[:1].requires_grad_() for one in power_inputs())

    def outputs(*given):
        out = power_control(*given)
        return out.p, out.dual.quality

    assert gradcheck(outputs, inputs, atol=1e-6)


def test_floor_planning_agrees_with_cvxpy():
    """Two columns of two rectangles each, of given area and bounded aspect."""

    @ol.problem(geometric=True)
    def plan(w=Variable("4"), h=Variable("4"), area=Parameter("4"), aspect=Parameter()):
        width = ol.max(w[:2]) + ol.max(w[2:])
        height = ol.maximum(h[0] + h[1], h[2] + h[3])
        return minimize(
            width * height,
            area=w * h == area,
            low=h <= aspect * w,
            high=w <= aspect * h,
        )

    area, aspect = tensor([0.2, 0.5, 1.5, 0.5]), 1.8
    w, h = cp.Variable(4, pos=True), cp.Variable(4, pos=True)
    width = cp.maximum(w[0], w[1]) + cp.maximum(w[2], w[3])
    height = cp.maximum(h[0] + h[1], h[2] + h[3])
    same = [
        cp.multiply(w, h) == area.numpy(), h <= aspect * w, w <= aspect * h
    ]  # fmt: skip
    problem = cp.Problem(cp.Minimize(width * height), same)
    problem.solve(gp=True, solver=cp.CLARABEL)
    out = plan(area=area, aspect=tensor(aspect))
    assert_close(out.objective.item(), problem.value, rtol=1e-5, atol=0)


def test_wire_sizing_agrees_with_cvxpy():
    """Elmore delay of a wire of five segments, against its area."""

    @ol.problem(geometric=True)
    def wire(
        w=Variable("5", lower=0.1, upper=10.0), load=Parameter(), area=Parameter()
    ):
        delay = 0.0
        for k in range(5):
            below = load
            for j in range(k, 5):
                below = below + w[j] + 0.1
            delay = delay + below / w[k]
        return minimize(delay, area=ol.sum(w) <= area)

    load, area = tensor([1.0, 2.0, 3.0]).requires_grad_(), tensor(4.0)
    out = wire(load=load, area=area)
    for sample, value in enumerate(load.tolist()):
        w = cp.Variable(5, pos=True)
        delay = sum((value + cp.sum(w[k:]) + 0.1 * (5 - k)) / w[k] for k in range(5))
        problem = cp.Problem(cp.Minimize(delay), [cp.sum(w) <= 4, w >= 0.1, w <= 10])
        problem.solve(gp=True, solver=cp.CLARABEL)
        assert_close(out.objective[sample].item(), problem.value, rtol=1e-5, atol=0)
    (found,) = torch.autograd.grad(out.w[:, 0].sum(), load)

    def first(moved):
        return wire(load=moved, area=area).w[:, 0].sum().item()

    assert_close(found, central(first, load.detach()), rtol=1e-5, atol=1e-8)


def test_a_geometric_program_over_stages_takes_every_stage_at_once():
    """x grows by u each step; the declared multipliers are sensitivities."""

    @ol.problem(geometric=True)
    def growth(x=State(), u=Control(lower=1.0), x0=Parameter(), goal=Parameter()):
        return minimize(
            ol.total(u**2 + x) + 1 / x.last,
            start=x.first == x0,
            grow=x.next == u * x,
            goal=x.last >= goal,
        )

    layer = growth.layer(steps=3)
    x0, goal = tensor([0.5, 0.7]), tensor([2.0, 3.0])
    out = layer(x0=x0, goal=goal)
    assert out.x.shape == (2, 4)
    assert out.dual.grow.shape == (2, 3)
    assert_close(out.x[:, 1:], out.u * out.x[:, :-1], rtol=1e-9, atol=0)
    for name, sign in (("x0", -1), ("goal", 1)):
        given = {"x0": x0, "goal": goal}

        def value(moved, given=given, name=name):
            return layer(**(given | {name: moved})).objective.sum().item()

        dual = out.dual.start if name == "x0" else out.dual.goal
        assert_close(sign * dual, central(value, given[name]), **DIFFERENCES)
    u = cp.Variable(3, pos=True)
    x = [0.5]
    for k in range(3):
        x.append(x[-1] * u[k])
    cost = sum(u[k] ** 2 + x[k] for k in range(3)) + 1 / x[3]
    problem = cp.Problem(cp.Minimize(cost), [u >= 1, x[3] >= 2.0])
    problem.solve(gp=True, solver=cp.CLARABEL)
    assert_close(out.objective[0].item(), problem.value, rtol=1e-6, atol=0)


# ---- failure, precision, transforms --------------------------------------------------


def test_a_parameter_that_is_not_positive_is_named_before_the_solve():
    with pytest.raises(InvalidDataError, match="a is -1, declared positive"):
        cube(a=tensor([2.0, -1.0]), b=tensor(1.0), c=tensor(0.5))


@pytest.mark.parametrize("on_failure", ["nan", "keep"])
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_bad_sample_spoils_no_other(bad, on_failure):
    a = tensor([2.0, bad, 3.0]).requires_grad_()
    b, c = tensor(1.0).requires_grad_(), tensor(0.5).requires_grad_()
    out = cube(a=a, b=b, c=c, on_failure=on_failure)
    expected = Status.NOT_FINITE if bad != bad else Status.INVALID_DATA
    assert out.status.tolist() == [Status.SOLVED, expected, Status.SOLVED]
    total = (out.x + out.dual.low + out.objective)[out.ok].sum()
    found = torch.autograd.grad(total, (a, b, c))
    good = tensor([2.0, 3.0]).requires_grad_()
    clean = cube(a=good, b=b, c=c)
    total = (clean.x + clean.dual.low + clean.objective).sum()
    expected = torch.autograd.grad(total, (good, b, c))
    assert_close(found[0][[0, 2]], expected[0])
    assert found[0][1] == 0
    assert_close(found[1:], expected[1:])


def test_a_problem_without_a_solution_is_infeasible():
    @ol.problem(geometric=True)
    def crossed(x=Variable(), a=Parameter()):
        return minimize(x, low=x >= a, high=x <= 1)

    out = crossed(a=tensor([0.5, 2.0]), on_failure="nan")
    assert out.status.tolist() == [Status.SOLVED, Status.INFEASIBLE]


def test_float32_in_gives_float32_out():
    out = cube(*(one.float() for one in CUBES))
    assert out.x.dtype == out.objective.dtype == out.dual.area.dtype == torch.float32
    assert_close(out.x.double(), cube(*CUBES).x, rtol=1e-5, atol=0)


def test_an_empty_batch_gives_empty_results():
    out = cube(a=torch.zeros(0, **DOUBLE), b=tensor(1.0), c=tensor(0.5))
    assert out.x.shape == out.dual.low.shape == (0,)


def test_transforms_take_geometric_programs():
    layer = cube.layer()
    a, b, c = CUBES

    def one(a, c):
        return layer(a=a, b=b, c=c).x

    expected = layer(a=a, b=b, c=c).x
    assert_close(torch.func.vmap(one)(a, c), expected)
    jacobian = torch.func.jacrev(one)(a[0], c[0])
    _, forward = torch.func.jvp(lambda a: one(a, c[0]), (a[0],), (tensor(1.0),))
    assert_close(jacobian, forward)


@pytest.mark.slow
def test_the_compiler_takes_geometric_programs():
    layer = cube.layer()
    a, b, c = (one.clone().requires_grad_() for one in CUBES)

    def total(a, b, c):
        out = layer(a=a, b=b, c=c)
        return (out.x * out.dual.area).sum()

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    assert_close(compiled(a, b, c), total(a, b, c))
    found = torch.autograd.grad(compiled(a, b, c), (a, b, c))
    assert_close(found, torch.autograd.grad(total(a, b, c), (a, b, c)))


def test_a_network_of_positive_output_may_be_a_parameter():
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1, **DOUBLE)

    @ol.problem(geometric=True)
    def priced(x=Variable(), seen=Parameter("2")):
        weight = torch.nn.functional.softplus(network(seen))[0]
        return minimize(weight * x + 1 / x)

    seen = torch.randn(3, 2, **DOUBLE)
    out = priced.layer()(seen=seen)
    weight = torch.nn.functional.softplus(network(seen))[:, 0]
    assert_close(out.x, weight.rsqrt())
    assert_close(
        torch.autograd.grad(out.x.sum(), network.weight)[0],
        torch.autograd.grad(weight.rsqrt().sum(), network.weight)[0],
    )


# ---- atoms that constraints on new unknowns express ----------------------------------


def test_differences_bounded_below_have_a_closed_form():
    """x = 1 / (1 - a) and y = a (1 - x a / 4)."""

    @ol.problem(geometric=True)
    def apart(x=Variable(), y=Variable(), a=Parameter()):
        return minimize(
            x + 1 / y,
            one=x * ol.one_minus_pos(a * ol.sqrt(x) / ol.sqrt(x)) >= 1,
            two=y <= ol.diff_pos(a, a**2 * x / 4),
        )

    a = tensor([0.2, 0.3, 0.5]).requires_grad_()
    out = apart(a=a)
    # The larger x is, the smaller y: both constraints are active.
    x = 1 / (1 - a)
    y = a - a**2 * x / 4
    assert_close(out.x, x, rtol=1e-8, atol=0)
    assert_close(out.y, y, rtol=1e-8, atol=0)
    found = torch.autograd.grad(out.objective.sum(), a, retain_graph=True)
    assert_close(found, torch.autograd.grad((x + 1 / y).sum(), a), rtol=1e-7, atol=0)
    assert_close(out.dual.two.detach(), (1 / y**2).detach(), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("atom", "closed"),
    [
        (lambda X: ol.sum(ol.eye_minus_inv(X / 10)), lambda X: inverse(X / 10).sum()),
        (
            lambda X: ol.sum(ol.resolvent(X, 10.0)),
            lambda X: inverse(X / 10).sum() / 10,
        ),
        (ol.pf_eigenvalue, lambda X: torch.linalg.eigvals(X).abs().max()),
    ],
)
def test_functions_of_positive_matrices_take_their_values(atom, closed):
    @ol.problem(geometric=True)
    def least(X=Variable("3 3"), floor=Parameter("3 3")):
        return minimize(atom(X), floor=X >= floor)

    generator = torch.Generator().manual_seed(5)
    floor = 0.5 + torch.rand(2, 3, 3, generator=generator, **DOUBLE)
    out = least(floor=floor.requires_grad_())
    expected = torch.stack([closed(one) for one in floor])
    assert_close(out.objective, expected, rtol=1e-6, atol=0)
    (found,) = torch.autograd.grad(out.objective.sum(), floor)
    expected = torch.autograd.grad(expected.sum(), floor)[0]
    assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert_close(out.dual.floor, found, rtol=1e-5, atol=1e-7)


def inverse(X):
    return torch.linalg.inv(torch.eye(3, **DOUBLE) - X)
