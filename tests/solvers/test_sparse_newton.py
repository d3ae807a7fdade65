"""Newton steps from entries: those of the dense Jacobian, also where it is large."""

import pytest
import torch

from optlayers.functional import cone_program
from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from optlayers.solution import Status
from optlayers.solvers import certify
from optlayers.solvers.certify import (
    DEFAULT_TOLERANCE,
    POLISH_TARGET,
    measure,
    polish,
)
from optlayers.solvers.sparse_newton import count_entries, sparse_step
from tests.programs.known import QP, known_program
from tests.solvers.programs import on_pattern

# Kinds interleaved, so that rows of equal cones are not neighbours.
EVERY_KIND = Cones(2, 3, soc=(3, 2, 3), psd=(2, 3, 2), exp=2, power=(0.3, 0.6))


def dense_step(program, point):
    F = program.residual(point)
    return -torch.linalg.solve(program.jacobian(point), F.unsqueeze(2)).squeeze(2)


def with_patterns(program):
    P, A = on_pattern(program.P), on_pattern(program.A)
    return ConeProgram(P, program.q, A, program.b, program.cones)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize(
    "cones",
    [
        *(QP, Cones(soc=(3, 2, 3)), Cones(psd=(2, 3)), Cones(exp=2)),
        *(Cones(power=(0.3, 0.6)), EVERY_KIND),
    ],
    ids=["linear", "soc", "psd", "exp", "power", "all"],
)
def test_a_sparse_step_is_the_dense_one(cones, is_shared):
    size = 30 if cones is EVERY_KIND else 8
    program, point = known_program(cones, batch=3, n=size, is_shared=is_shared)
    start = point + 0.1 * torch.randn(point.shape).double()
    expected = dense_step(program, start)
    for one in (program, with_patterns(program)):
        torch.testing.assert_close(sparse_step(one, start), expected, rtol=1e-8, atol=0)


def test_entries_are_counted_for_every_cone():
    program, point = known_program(EVERY_KIND, n=6)
    rows, cols, _ = EVERY_KIND.derivative_entries(point[:, 6:])
    # P and A have every entry, and so has A'D one per column of A and entry of D.
    most = 6 * 6 + EVERY_KIND.size * 6 + 6 * len(rows) + len(rows)
    assert count_entries(program) == most
    D = EVERY_KIND.project_dual_derivative(point[:, 6:])
    outside = torch.ones_like(D).index_put_(
        (torch.arange(2)[:, None], rows, cols), torch.tensor(0.0).double()
    )
    assert not (D * outside).any()


def test_a_jacobian_that_is_singular_and_does_not_reach_the_residual_keeps_the_point():
    # minimize x + 0 y subject to y = 0: no z makes F zero.
    program = ConeProgram(
        None,
        torch.tensor([[1.0, 0.0]]).double(),
        torch.tensor([[0.0, 1.0]]).double(),
        torch.zeros(1, 1).double(),
        Cones(zero=1),
    )
    start = torch.zeros(1, 3).double()
    residual = measure(program, start)
    assert not sparse_step(program, start).any()
    found, after = polish(program, start, residual)
    assert torch.equal(found, start) and torch.equal(after, residual)


def large_program(n):
    """Sparse, with a second-order cone among its rows, and its solution."""
    generator = torch.Generator().manual_seed(0)
    cones = Cones(zero=n // 4, nonneg=n - n // 4 - 4, soc=(4,))
    random = torch.rand(3, 2 * n, generator=generator, dtype=torch.float64)
    rows = torch.cat([torch.arange(n), (n * random[0]).long()])
    cols = torch.cat([torch.arange(n), (n * random[1]).long()])
    values = torch.cat([torch.ones(n).double(), random[2] - 0.5])
    A = PatternMatrix(values, rows, cols, (n, n))
    line = torch.arange(n)
    P = PatternMatrix(torch.ones(n).double(), line, line, (n, n))
    point = torch.randn(1, 2 * n, generator=generator, dtype=torch.float64)
    x, v = point.split(n, 1)
    v[:, -4] = 0.5  # on the boundary of the cone, with a multiplier
    y = cones.project_dual(v)
    program = ConeProgram(
        P, -(x + A.transposed_matvec(y)), A, A.matvec(x) + y - v, cones
    )
    return program, point


def test_a_large_sparse_program_is_brought_to_rounding(monkeypatch):
    def no_dense_matrix(*_):
        raise AssertionError("a dense Jacobian was formed")

    monkeypatch.setattr(ConeProgram, "jacobian", no_dense_matrix)
    program, point = large_program(2500)
    start = point + 1e-7 * torch.randn(point.shape).double()
    residual = measure(program, start)
    assert float(residual[0]) > DEFAULT_TOLERANCE
    found, residual = polish(program, start, residual)
    assert float(residual[0]) <= POLISH_TARGET
    torch.testing.assert_close(found, point, rtol=0, atol=1e-9)


def test_a_large_sparse_program_is_solved_by_default():
    program, point = large_program(2500)
    found = cone_program(program.P, program.q, program.A, program.b, program.cones)
    assert found.status.tolist() == [Status.SOLVED]
    assert float(found.stats["residual"][0]) <= POLISH_TARGET
    torch.testing.assert_close(found.value, point[:, :2500], rtol=0, atol=1e-9)


def test_what_has_too_many_entries_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(certify, "SPARSE_ENTRIES", 100)
    program, point = large_program(2500)
    start = point + 1e-7
    residual = measure(program, start)
    assert torch.equal(polish(program, start, residual)[0], start)
