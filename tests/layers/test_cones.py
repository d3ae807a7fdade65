"""One declared problem per cone: values, multipliers and gradients.

Values and multipliers against cvxpy, gradients against central differences of the layer
itself; each in a batch of three. Every problem projects onto its cone, so that the
solution is unique and the multipliers are 2 (x - given).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from optlayers.errors import SolveError

DOUBLE = {"dtype": torch.float64}
BATCH = 3
# cvxpy solves with Clarabel to about 1e-9 of the objective: half of the digits.
PEER = {"atol": 2e-5, "rtol": 1e-5}
TIGHT = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
STEP = 1e-4


@ol.problem
def to_zero(x=Variable(3), a=Parameter(3), b=Parameter()):
    return minimize(ol.sum_squares(x - a), cone=ol.in_cone(x[:2] - b, "zero"))


@ol.problem
def to_nonneg(x=Variable("2 2"), a=Parameter("2 2")):
    return minimize(ol.sum_squares(x - a), cone=ol.in_cone(x, "nonneg"))


@ol.problem
def to_soc(x=Variable("2 3"), a=Parameter("2 3")):
    return minimize(ol.sum_squares(x - a), cone=ol.in_cone(x, "soc"))


@ol.problem
def to_matrices(X=Variable("3 3", symmetric=True), a=Parameter("3 3", symmetric=True)):
    return minimize(ol.sum_squares(X - a), cone=X >> 0.1 * np.eye(3))


@ol.problem
def to_psd_variable(X=Variable("3 3", psd=True), a=Parameter("3 3", symmetric=True)):
    return minimize(ol.sum_squares(X - a))


@ol.problem
def to_several_matrices(
    X=Variable("2 2 2"), a=Parameter("2 2 2"), shift=Parameter(nonneg=True)
):
    return minimize(
        ol.sum_squares(X - a), cone=ol.in_cone(X - shift * np.eye(2), "psd")
    )


@ol.problem
def to_exp(x=Variable("2 3"), a=Parameter("2 3")):
    return minimize(ol.sum_squares(x - a), cone=ol.in_cone(x, "exp"))


@ol.problem
def to_power(x=Variable("2 2 3"), a=Parameter("2 2 3")):
    return minimize(ol.sum_squares(x - a), cone=ol.in_cone(x, "power", [0.3, 0.6]))


STACK = ol.Cones(zero=1, nonneg=2, soc=(3,), psd=(2,), exp=1, power=(0.4,))


@ol.problem
def to_stack(x=Variable(15), a=Parameter(15)):
    return minimize(ol.sum_squares(x - a), cone=ol.in_cone(x, STACK))


def svec_matrix(v):
    return cp.bmat([[v[0], v[1] / 2**0.5], [v[1] / 2**0.5, v[2]]])


def stack_constraints(x):
    return [
        x[0] == 0,
        x[1:3] >= 0,
        cp.SOC(x[3], x[4:6]),
        svec_matrix(x[6:9]) >> 0,
        cp.ExpCone(x[9], x[10], x[11]),
        cp.PowCone3D(x[12], x[13], x[14], 0.4),
    ]


@dataclass(frozen=True)
class Case:
    """A problem, what it is projected on in cvxpy, and its parameters' shapes."""

    problem: Any
    constraints: Callable[..., list]
    shapes: dict[str, tuple[int, ...]]
    is_symmetric: bool = False
    dual: str = "cone"


MATRIX = {"a": (3, 3)}
CASES = {
    "zero": Case(to_zero, lambda x, p: [x[:2] == p["b"]], {"a": (3,), "b": ()}),
    "nonneg": Case(to_nonneg, lambda x, p: [x >= 0], {"a": (2, 2)}),
    "soc": Case(
        to_soc, lambda x, p: [cp.SOC(x[:, 0], x[:, 1:], axis=1)], {"a": (2, 3)}
    ),
    "psd by >>": Case(
        to_matrices, lambda x, p: [x == x.T, x >> 0.1 * np.eye(3)], MATRIX, True
    ),
    "psd variable": Case(
        to_psd_variable, lambda x, p: [x == x.T, x >> 0], MATRIX, True, "X.psd"
    ),
    "psd batched": Case(
        to_several_matrices,
        lambda x, p: [
            cp.reshape(x[k], (2, 2), order="C") >> p["shift"] * np.eye(2)
            for k in (0, 1)
        ],
        {"a": (2, 2, 2), "shift": ()},
    ),
    "exp": Case(
        to_exp, lambda x, p: [cp.ExpCone(x[:, 0], x[:, 1], x[:, 2])], {"a": (2, 3)}
    ),
    "power": Case(
        to_power,
        lambda x, p: [
            cp.PowCone3D(*(x[i, j, k] for k in range(3)), alpha=[0.3, 0.6][j])
            for i in range(2)
            for j in range(2)
        ],
        {"a": (2, 2, 3)},
    ),
    "stack": Case(to_stack, lambda x, p: stack_constraints(x), {"a": (15,)}),
}


def drawn(case, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in case.shapes.items():
        value = torch.randn(BATCH, *shape, generator=generator, **DOUBLE)
        if case.is_symmetric:
            value = value + value.mT
        found[name] = value.abs() if name == "shift" else value
    return found


def variable_of(out):
    return out["X"] if "X" in dir(out) else out["x"]


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    return request.param


def test_values_are_cvxpys(case):
    p = drawn(case)
    out = case.problem(**p)
    for sample in range(BATCH):
        own = {name: value[sample].numpy() for name, value in p.items()}
        x = cp.Variable(own["a"].shape)
        objective = cp.sum_squares(x - own["a"])
        problem = cp.Problem(cp.Minimize(objective), case.constraints(x, own))
        problem.solve(cp.CLARABEL, canon_backend="COO", **TIGHT)
        assert_close(variable_of(out)[sample], torch.tensor(x.value), **PEER)
        assert_close(out.objective[sample].item(), problem.value, **PEER)


def test_multipliers_enter_the_lagrangian_with_their_sign(case):
    # L = f - <M, x>, so that M = 2 (x - a) on the cone; of free x the rest is zero.
    p = drawn(case)
    out = case.problem(**p)
    x, dual = variable_of(out), out.dual[case.dual]
    slope = 2 * (x - p["a"])
    if case.problem is to_zero:
        assert_close(slope[:, :2], dual, atol=1e-8, rtol=1e-8)
        return
    if case.problem is to_several_matrices:
        assert_close(dual, dual.mT)
    assert_close(slope, dual, atol=1e-8, rtol=1e-8)
    assert_close(((x - shifted(case, p)) * dual).sum(), torch.zeros((), **DOUBLE))


def shifted(case, p):
    if case.problem is to_matrices:
        return 0.1 * torch.eye(3, **DOUBLE)
    if case.problem is to_several_matrices:
        return p["shift"][:, None, None, None] * torch.eye(2, **DOUBLE)
    return torch.zeros((), **DOUBLE)


def test_gradients_are_central_differences(case):
    p = drawn(case)
    generator = torch.Generator().manual_seed(7)

    def draw(like):
        return torch.randn(like.shape, generator=generator, **DOUBLE)

    out = case.problem(**p)
    weights = draw(variable_of(out)), draw(out.dual[case.dual])

    def loss(values):
        solved = case.problem(**values)
        found = variable_of(solved), solved.dual[case.dual]
        return sum((w * one).sum() for w, one in zip(weights, found, strict=True))

    tracked = {name: value.clone().requires_grad_() for name, value in p.items()}
    loss(tracked).backward()
    for name, value in p.items():
        direction = draw(value)
        if case.is_symmetric:
            direction = direction + direction.mT
        ends = [loss({**p, name: value + s * STEP * direction}) for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * STEP)
        gradient = tracked[name].grad
        assert gradient is not None
        assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-6)


def test_float32_goes_in_and_comes_out(case):
    p = {name: value.float() for name, value in drawn(case).items()}
    out = case.problem(**p)
    assert variable_of(out).dtype == out.dual[case.dual].dtype == torch.float32
    exact = case.problem(**drawn(case))
    assert_close(variable_of(out).double(), variable_of(exact), atol=1e-4, rtol=1e-4)


# ---- matrix inequalities -------------------------------------------------------------


@ol.problem
def lyapunov(
    P=Variable("n n", symmetric=True),
    A=Parameter("n n"),
    Q=Parameter("n n", psd=True),
):
    return minimize(ol.trace(P), decay=A.T @ P + P @ A << -Q)


def test_the_least_solution_of_a_lyapunov_inequality_solves_the_equation():
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(BATCH, 3, 3, generator=generator, **DOUBLE) - 4 * torch.eye(3)
    Q = torch.eye(3, **DOUBLE).expand(BATCH, 3, 3)
    A.requires_grad_()
    out = lyapunov(A=A, Q=Q)
    eye = torch.eye(3, **DOUBLE)
    # A'P + PA = -Q as a linear system in the entries of P.
    system = torch.stack(
        [torch.kron(a, eye) + torch.kron(eye, a) for a in A.mT.contiguous()]
    )
    exact = torch.linalg.solve(system, -Q.reshape(BATCH, 9)).reshape(BATCH, 3, 3)
    assert_close(out.P, exact, atol=1e-8, rtol=1e-8)
    weight = torch.randn(3, 3, generator=generator, **DOUBLE)
    (found,) = torch.autograd.grad((weight * out.P).sum(), A)
    (expected,) = torch.autograd.grad((weight * exact).sum(), A)
    assert_close(found, expected, atol=1e-7, rtol=1e-6)


@ol.problem
def schur(x=Variable("n"), t=Variable(), y=Parameter("n"), B=Parameter("m n")):
    residual = (B @ x - y[: B.shape[0]]).reshape(-1, 1)
    block = ol.bmat([[np.eye(B.shape[0]), residual], [residual.T, t.reshape(1, 1)]])
    return minimize(t + ol.sum_squares(x - y), lmi=block >> 0)


def test_a_schur_complement_of_parameters_is_the_square_it_stands_for():
    generator = torch.Generator().manual_seed(2)
    B = torch.randn(BATCH, 2, 3, generator=generator, **DOUBLE, requires_grad=True)
    y = torch.randn(BATCH, 3, generator=generator, **DOUBLE)
    out = schur(y=y, B=B)
    right = torch.einsum("bmn,bm->bn", B, y[:, :2]) + y
    exact = torch.linalg.solve(B.mT @ B + torch.eye(3, **DOUBLE), right)
    assert_close(out.x, exact, atol=1e-7, rtol=1e-7)
    weight = torch.randn(3, generator=generator, **DOUBLE)
    (found,) = torch.autograd.grad((out.x @ weight).sum(), B)
    (expected,) = torch.autograd.grad((exact @ weight).sum(), B)
    assert_close(found, expected, atol=1e-6, rtol=1e-5)


@ol.problem
def pencil(x=Variable("2"), F0=Parameter("2 2"), F=Parameter("2 2 2")):
    return minimize(ol.sum_squares(x), lmi=F0 + x[0] * F[0] + x[1] * F[1] >> 0)


def test_a_pencil_of_parameter_matrices_has_the_gradient_of_differences():
    F0 = torch.tensor([[-1.0, 0.5], [0.5, 0.3]], **DOUBLE)
    F = torch.tensor([[[1.0, 0.2], [0.2, 0.0]], [[0.1, 0.4], [0.4, 1.0]]], **DOUBLE)
    inputs = [F0.requires_grad_(), F.requires_grad_()]
    pencil(*inputs).x.sum().backward()
    turn = torch.tensor([[0.3, -0.7], [-0.7, 0.2]], **DOUBLE)
    with torch.no_grad():
        ends = [pencil(F0 + s * STEP * turn, F - s * STEP * F).x.sum() for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * STEP)
        found = (F0.grad * turn).sum() - (F.grad * F).sum()
    assert_close(found, slope, rtol=1e-5, atol=1e-7)


# ---- no objective, no solution -------------------------------------------------------


@ol.problem
def bracket(X=Variable("2 2", symmetric=True), low=Parameter(), high=Parameter()):
    return ol.feasible(above=X >> low * np.eye(2), below=X << high * np.eye(2))


def test_a_feasible_point_is_found_and_what_cannot_hold_is_named():
    low = torch.tensor([0.0, 2.0, 0.5], requires_grad=True)
    high = torch.tensor([1.0, 1.0, 2.0])
    out = bracket(low=low, high=high, on_failure="nan")
    assert out.ok.tolist() == [True, False, True]
    assert bool(out.X[1].isnan().all())
    values, low = torch.linalg.eigvalsh(out.X[[0, 2]]), low.detach()
    assert bool((values >= low[[0, 2], None] - 1e-6).all())
    assert bool((values <= high[[0, 2], None] + 1e-6).all())
    assert out.objective[[0, 2]].tolist() == [0, 0]
    # Nothing tells how a point strictly inside moves.
    assert bool(out.stats["gradient_condition"][[0, 2]].isinf().all())
    with pytest.raises(SolveError, match=r"sample 1: .*`(above|below)`, `(above|be)"):
        bracket(low=low, high=high)


def test_the_reason_of_a_feasibility_problem_counts_its_cones():
    layer = bracket.layer()
    assert "there is no objective" in layer.why
    assert "2 semidefinite cones" in layer.why
