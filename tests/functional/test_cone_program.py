"""Semidefinite, exponential and power cone programs as functions of tensors."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from optlayers import functional
from optlayers.errors import NotSupported, OrderError, ShapeError, SolveError
from optlayers.functional import Cones, Status
from optlayers.implicit.attach import attach_gradient
from optlayers.implicit.diffcp import attach_diffcp
from optlayers.programs.cone_program import ConeProgram
from optlayers.solvers.certify import proves_infeasible, proves_unbounded
from tests.functional.semidefinite import (
    gradient_by_complementarity,
    matrix_of,
    random_semidefinite,
    rows_of,
)

RESIDUAL = 1e-9
GRADIENT = 1e-6
# cvxpy's answers are those of an interior-point method, which leaves square roots of
# its gap.
CVXPY = {"rtol": 1e-4, "atol": 1e-4}
CVXPY_OPTIONS = {"solver": cp.CLARABEL, "tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10}
TIGHT = {"rtol": 1e-8, "atol": 1e-8}
I2 = torch.eye(2).double()


def relative_error(found, expected):
    error = (found - expected).abs() / expected.abs().clamp_min(1)
    return float(error.detach().max())


def check_gradients(order, equalities, batch, seed):
    q, A, b, cones = random_semidefinite(batch, order, equalities, seed)
    leaves = [t.clone().requires_grad_() for t in (q, A, b)]
    found = functional.cone_program(None, *leaves, cones)
    assert float(found.stats["residual"].max()) <= RESIDUAL
    weights = torch.randn(found.value.shape).double()
    (found.value * weights).sum().backward()
    p = equalities
    for i in range(batch):
        x, y = found.value[i].detach(), found.duals["y"][i, :p].detach()
        expected = gradient_by_complementarity(
            q[i], A[i, :p], b[i, :p], x, y, weights[i]
        )
        gradients = leaves[0].grad[i], leaves[1].grad[i, :p], leaves[2].grad[i, :p]
        for ours, theirs in zip(gradients, expected, strict=True):
            assert relative_error(ours, theirs) <= GRADIENT


@pytest.mark.parametrize(
    ("order", "equalities", "batch"), [(3, 3, 40), (4, 3, 30), (6, 5, 25), (12, 8, 5)]
)
def test_one_hundred_semidefinite_programs_have_the_gradient_of_their_conditions(
    order, equalities, batch
):
    check_gradients(order, equalities, batch, seed=order)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "equalities", "batch"), [(3, 3, 100), (8, 8, 100), (16, 12, 40)]
)
def test_larger_semidefinite_programs_have_the_gradient_of_their_conditions(
    order, equalities, batch
):
    check_gradients(order, equalities, batch, seed=100 + order)


def nearest_correlation(G, P):
    """The diagonal-one semidefinite X with least <X - G, P(X - G)>, as rows."""
    k = G.shape[-1]
    size = k * (k + 1) // 2
    diagonal = rows_of(torch.diag_embed(torch.eye(k).double()))
    A = torch.cat([diagonal, -torch.eye(size).double()])
    b = torch.cat([torch.ones(k), torch.zeros(size)]).double()
    g = rows_of(G)
    q = -(P @ g.unsqueeze(-1)).squeeze(-1)
    return functional.cone_program(P, q, A, b, Cones(zero=k, psd=(k,)), order=2).value


def test_semidefinite_parameters_perturbed_symmetrically_match_differences():
    torch.manual_seed(0)
    k, batch, step = 3, 10, 1e-4
    size = k * (k + 1) // 2
    G = 1.5 * torch.randn(batch, k, k).double()
    G = (G + G.mT) / 2
    L = torch.randn(batch, size, size).double()
    P = (L @ L.mT / size + torch.eye(size)).requires_grad_()
    weights = torch.randn(batch, size).double()
    gradient = torch.autograd.grad((nearest_correlation(G, P) * weights).sum(), P)[0]
    for _ in range(5):
        direction = torch.randn(batch, size, size).double()
        direction = (direction + direction.mT) / 2
        sides = [
            (nearest_correlation(G, P.detach() + h * direction) * weights).sum(1)
            for h in (step, -step)
        ]
        expected = (sides[0] - sides[1]) / (2 * step)
        found = (gradient * direction).sum((1, 2))
        assert relative_error(found, expected) <= GRADIENT


def test_the_second_derivative_matches_differences_of_the_first():
    torch.manual_seed(1)
    k, step = 3, 1e-4
    size = k * (k + 1) // 2
    G = 1.5 * torch.randn(4, k, k).double()
    direction = torch.randn(4, k, k).double()
    P, weights = torch.eye(size).double(), torch.randn(4, size).double()

    def slope(G):
        G = ((G + G.mT) / 2).requires_grad_()
        value = (nearest_correlation(G, P) * weights).sum()
        return torch.autograd.grad(value, G, create_graph=True)[0], G

    first, at = slope(G)
    direction = (direction + direction.mT) / 2
    second = torch.autograd.grad((first * direction).sum(), at)[0]
    ahead, behind = slope(G + step * direction)[0], slope(G - step * direction)[0]
    assert relative_error(second, (ahead - behind) / (2 * step)) <= GRADIENT


def test_an_order_beyond_the_projections_is_refused_by_name():
    q, A, b, cones = random_semidefinite(1, 3, 2, seed=0)
    with pytest.raises(OrderError, match=r"order=4.*up to order 3"):
        functional.cone_program(None, q.requires_grad_(), A, b, cones, order=4)


def test_values_duals_and_slack_of_a_semidefinite_program_are_those_of_cvxpy():
    q, A, b, cones = random_semidefinite(3, 4, 3, seed=3)
    found = functional.cone_program(None, q, A, b, cones)
    for i in range(3):
        X = cp.Variable((4, 4), symmetric=True)
        matrices = matrix_of(A[i, :3]).numpy()
        equal = [cp.trace(matrices[j] @ X) == b[i, j].item() for j in range(3)]
        definite = X >> 0
        cost = cp.trace(matrix_of(q[i]).numpy() @ X)
        cp.Problem(cp.Minimize(cost), [*equal, definite]).solve(**CVXPY_OPTIONS)
        assert_close(matrix_of(found.value[i]), torch.tensor(X.value), **CVXPY)
        y, s = found.duals["y"][i], found.duals["s"][i]
        prices = torch.tensor([float(one.dual_value) for one in equal]).double()
        assert_close(y[:3], prices, **CVXPY)
        assert_close(matrix_of(y[3:]), torch.tensor(definite.dual_value), **CVXPY)
        assert_close(matrix_of(s[3:]), torch.tensor(X.value), **CVXPY)


def random_curved(batch, n, exp, exponents, seed):
    """Programs with interior points on both sides: q, A, b and cones."""
    generator = torch.Generator().manual_seed(seed)

    def positive():
        return torch.rand(batch, generator=generator).double() + 0.5

    def draw(*shape):
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    s, y = [], []
    for _ in range(exp):
        x, t = draw(), positive()
        s += [x, t, t * (x / t).exp() + positive()]
        u, v = -positive(), draw()
        y += [u, v, -u * (v / u - 1).exp() + positive()]
    for a in exponents:
        for rows, one, other in ((s, 1.0, 1.0), (y, a, 1 - a)):
            x, t = positive(), positive()
            height = (x / one) ** a * (t / other) ** (1 - a)
            rows += [x, t, 0.9 * height * draw().tanh()]
    s, y = torch.stack(s, 1), torch.stack(y, 1)
    A, x = draw(s.shape[1], n), draw(n)
    q = -torch.einsum("bmn,bm->bn", A, y)
    b = torch.einsum("bmn,bn->bm", A, x) + s
    return q, A, b, Cones(exp=exp, power=exponents)


CURVED = pytest.mark.parametrize(
    ("exp", "exponents"),
    [(4, ()), (0, (0.3, 0.5, 0.8)), (2, (0.25, 0.6))],
    ids=["exp", "power", "both"],
)


@CURVED
def test_values_duals_and_slack_of_curved_programs_are_those_of_cvxpy(exp, exponents):
    q, A, b, cones = random_curved(3, 4, exp, exponents, seed=0)
    found = functional.cone_program(None, q, A, b, cones)
    assert float(found.stats["residual"].max()) <= RESIDUAL
    for i in range(3):
        x = cp.Variable(4)
        s = b[i].numpy() - A[i].numpy() @ x
        inside = [cp.ExpCone(*(s[3 * j + k] for k in range(3))) for j in range(exp)]
        inside += [
            cp.PowCone3D(*(s[3 * (exp + j) + k] for k in range(3)), a)
            for j, a in enumerate(exponents)
        ]
        cp.Problem(cp.Minimize(q[i].numpy() @ x), inside).solve(**CVXPY_OPTIONS)
        assert_close(found.value[i], torch.tensor(x.value), **CVXPY)
        assert_close(found.duals["s"][i], torch.tensor(s.value), **CVXPY)
        y = np.concatenate([np.ravel(one.dual_value) for one in inside])
        assert_close(found.duals["y"][i], torch.tensor(y), **CVXPY)


@CURVED
def test_gradients_of_curved_programs_match_differences(exp, exponents):
    given = random_curved(20, 4, exp, exponents, seed=1)
    cones, step = given[-1], 1e-5
    leaves = [t.clone().requires_grad_() for t in given[:3]]
    weights = torch.randn(20, 4).double()

    def value(*tensors):
        return (functional.cone_program(None, *tensors, cones).value * weights).sum(1)

    gradients = torch.autograd.grad(value(*leaves).sum(), leaves)
    directions = [torch.randn(t.shape).double() for t in given[:3]]
    sides = [
        value(*(t + h * d for t, d in zip(given[:3], directions, strict=True)))
        for h in (step, -step)
    ]
    found = sum(
        (g * d).flatten(1).sum(1) for g, d in zip(gradients, directions, strict=True)
    )
    assert relative_error(found, (sides[0] - sides[1]) / (2 * step)) <= 1e-5


@pytest.mark.parametrize(
    ("cones", "rows"),
    [(Cones(psd=(2,)), 3), (Cones(exp=2), 6), (Cones(power=(0.5,)), 3)],
)
def test_wrong_numbers_of_rows_name_what_the_cones_need(cones, rows):
    A, b = torch.zeros(rows + 1, 2).double(), torch.zeros(rows + 1).double()
    with pytest.raises(ShapeError, match=rf"\[{rows}, 2\]"):
        functional.cone_program(None, torch.zeros(2).double(), A, b, cones)


def test_programs_without_a_solution_have_their_status_and_a_proof():
    # x I >= [[0, 1], [1, 0]] is feasible for x >= 1: costs 1, -1, and no x fits twice.
    q = torch.tensor([[1.0], [-1.0], [1.0]]).double()
    above = rows_of(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())
    far = rows_of(torch.diag(torch.tensor([1.0, 1.0])).double())
    A = torch.cat([-rows_of(I2), rows_of(I2)])[None, :, None].repeat(3, 1, 1)
    A[1, 3:] = 0
    b = torch.cat([-above, 5 * far]).repeat(3, 1)
    b[2, 3:] = -2 * far
    cones = Cones(psd=(2, 2))
    found = functional.cone_program(None, q, A, b, cones, on_failure="keep")
    expected = [Status.SOLVED, Status.UNBOUNDED, Status.INFEASIBLE]
    assert found.status.tolist() == [int(one) for one in expected]
    assert_close(found.value[0], torch.ones(1).double(), **TIGHT)
    program = ConeProgram(None, q, A, b, cones)
    proof, ray = found.duals["y"][2:], found.value[1:2]
    assert bool(proves_infeasible(program.select(torch.tensor([2])), proof).all())
    assert bool(proves_unbounded(program.select(torch.tensor([1])), ray).all())
    with pytest.raises(SolveError, match="INFEASIBLE"):
        functional.cone_program(None, q, A, b, cones)


def test_a_bad_sample_leaves_the_others_alone():
    q, A, b, cones = random_semidefinite(3, 4, 3, seed=5)
    alone = functional.cone_program(None, q, A, b, cones)
    q[1, 0] = torch.nan
    q.requires_grad_()
    found = functional.cone_program(None, q, A, b, cones, on_failure="nan")
    assert found.ok.tolist() == [True, False, True]
    assert torch.equal(found.value[[0, 2]], alone.value[[0, 2]])
    found.value[[0, 2]].sum().backward()
    assert bool(q.grad.isfinite().all()) and bool((q.grad[1] == 0).all())


def test_a_derivative_that_is_one_of_several_is_flagged():
    # The semidefinite X nearest to V: at an eigenvalue zero there is a kink.
    V = torch.stack([torch.diag(torch.tensor([2.0, -1.0])), torch.diag(I2[0])])
    q = -rows_of(V.double()).requires_grad_()
    eye = torch.eye(3).double()
    b = torch.zeros(2, 3).double()
    found = functional.cone_program(eye, q, -eye, b, Cones(psd=(2,)))
    condition = found.stats["gradient_condition"]
    assert bool(condition[0].isfinite()) and bool(condition[1].isinf())


def test_single_precision_and_empty_batches_are_kept():
    q, A, b, cones = random_semidefinite(2, 3, 2, seed=6)
    exact = functional.cone_program(None, q, A, b, cones).value
    single = functional.cone_program(None, q.float(), A.float(), b.float(), cones)
    assert single.value.dtype == torch.float32
    assert_close(single.value.double(), exact, rtol=1e-4, atol=1e-4)
    empty = functional.cone_program(None, q[:0], A[:0], b[:0], cones)
    assert empty.value.shape == (0, 6)


def test_transforms_see_through_semidefinite_programs():
    q, A, b, cones = random_semidefinite(2, 2, 1, seed=7)

    def value(q, A, b):
        return functional.cone_program(None, q, A, b, cones, order=2).value

    rows = torch.func.vmap(torch.func.jacrev(value))(q, A, b)
    again = torch.func.vmap(torch.func.jacfwd(value))(q, A, b)
    assert_close(rows, again, **TIGHT)
    hessian = torch.func.hessian(lambda q: value(q, A[0], b[0]).pow(2).sum())(q[0])
    assert_close(hessian, hessian.mT, **TIGHT)


def test_compiled_gradients_of_semidefinite_programs_are_those_of_eager_ones():
    q, A, b, cones = random_semidefinite(2, 2, 1, seed=8)
    found = functional.cone_program(None, q, A, b, cones)
    value = torch.cat([found.value, found.duals["y"] - found.duals["s"]], 1)

    def point(q):
        return attach_gradient(value, ConeProgram(None, q, A, b, cones))

    compiled = torch.compile(point, fullgraph=True, backend="aot_eager")
    q.requires_grad_()
    gradients = [torch.autograd.grad(f(q).sin().sum(), q)[0] for f in (compiled, point)]
    assert_close(*gradients)


def test_power_cones_are_refused_by_diffcp():
    q, A, b, cones = random_curved(1, 2, 0, (0.5,), seed=2)
    program = ConeProgram(None, q, A, b, cones)
    with pytest.raises(NotSupported, match="power"):
        attach_diffcp(torch.zeros(1, 5).double(), program, torch.ones(1).bool())
