"""DAQP and Clarabel: closed forms, each other, and the shipped conformance suite."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from optlayers import registry
from optlayers.linalg.pattern import PatternMatrix
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from optlayers.solution import Status
from optlayers.solvers import certify, set_num_threads
from optlayers.solvers.convex import daqp
from optlayers.testing import check_solver
from tests.solvers.programs import on_pattern, random_program

BOTH = ["daqp", "clarabel"]


@pytest.mark.parametrize("name", BOTH)
def test_the_solver_conforms(name):
    check_solver(registry.create("convex", name))


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize(("n", "zero", "nonneg"), [(4, 0, 3), (10, 3, 12), (24, 5, 40)])
def test_daqp_and_clarabel_agree(n, zero, nonneg, is_shared):
    program = random_program(6, n, zero, nonneg, is_shared)
    first, second = (registry.create("convex", name).solve(program) for name in BOTH)
    # Clarabel stops at a gap of 1e-10; distances are of the order of its square root.
    assert_close(first.value, second.value, atol=1e-6, rtol=0)
    assert_close(first.duals["y"], second.duals["y"], atol=1e-5, rtol=1e-5)


def test_daqp_is_exact_to_rounding():
    program = random_program(16, 10, 3, 12, is_shared=False)
    found = registry.create("convex", "daqp").solve(program)
    point = program.pack(found.value, found.duals["y"], found.duals["s"])
    assert float(certify.measure(program, point).max()) < 1e-12


@pytest.mark.parametrize("is_shared", [True, False])
def test_daqp_is_exact_also_where_the_objective_is_singular(is_shared):
    program = random_program(8, 10, 0, 12, is_shared, rank=4)
    found = registry.create("convex", "daqp").solve(program)
    point = program.pack(found.value, found.duals["y"], found.duals["s"])
    assert float(certify.measure(program, point).max()) < 1e-11


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_pattern_solves_as_its_dense_matrix_does(is_shared):
    dense = random_program(4, 5, 2, 4, is_shared)
    sparse = ConeProgram(
        on_pattern(dense.P), dense.q, on_pattern(dense.A), dense.b, dense.cones
    )
    for name in BOTH:
        solver = registry.create("convex", name)
        # Split and added entries round once more than the dense matrix.
        assert_close(
            solver.solve(sparse).value, solver.solve(dense).value, atol=1e-7, rtol=0
        )


def test_bounds_written_as_rows_have_their_multipliers():
    # minimize |x - c|^2/2, x <= 1 twice, -x <= 0, and a row that is no bound.
    one = torch.eye(2, dtype=torch.float64)
    A = torch.cat([one, torch.ones(1, 2).double(), one, -one])
    b = torch.tensor([[1.0, 1, 9, 2, 2, 0, 0]]).double()
    q = torch.tensor([[-3.0, 4.0]]).double()
    found = registry.create("convex", "daqp").solve(
        ConeProgram(one, q, A, b, Cones(nonneg=7))
    )
    assert found.value.tolist() == [[1.0, 0.0]]
    assert found.duals["y"].tolist() == [[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0]]
    assert found.duals["s"].tolist() == [[0.0, 1.0, 8.0, 1.0, 2.0, 1.0, 0.0]]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("is_shared", [True, False])
def test_an_answer_is_bitwise_the_same_alone_and_beside_bad_samples(name, is_shared):
    program = random_program(9, 20, 2, 30, is_shared)
    q, b = program.q.clone(), program.b.clone()
    b[4, 2:] = -100.0  # infeasible
    q[7] *= 1e9
    mixed = ConeProgram(program.P, q, program.A, b, program.cones)
    solver = registry.create("convex", name)
    together, clean = solver.solve(mixed), solver.solve(program)
    for i in (0, 3, 5, 8):
        alone = solver.solve(program.select(torch.tensor([i])))
        for found in (together, clean):
            assert torch.equal(found.value[i], alone.value[0])
            assert torch.equal(found.duals["y"][i], alone.duals["y"][0])


@pytest.mark.parametrize("name", BOTH)
def test_results_do_not_depend_on_the_number_of_threads(name):
    program = random_program(40, 20, 2, 30, is_shared=True)
    solver = registry.create("convex", name)
    try:
        set_num_threads(1)
        one = solver.solve(program)
        set_num_threads(4)
        four = solver.solve(program)
    finally:
        set_num_threads(None)
    assert torch.equal(one.value, four.value)
    assert torch.equal(one.duals["y"], four.duals["y"])


@pytest.mark.parametrize("name", BOTH)
def test_of_an_infeasible_sample_the_multiplier_is_a_certificate(name):
    A = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 0.0]]).double()
    b = torch.tensor([[1.0, -3.0, 5.0]]).double()
    zeros = torch.zeros(1, 2).double()
    program = ConeProgram(torch.eye(2).double(), zeros, A, b, Cones(nonneg=3))
    found = registry.create("convex", name).solve(program)
    assert found.status.tolist() == [Status.INFEASIBLE]
    y = found.duals["y"]
    assert bool(certify.proves_infeasible(program, y))
    assert float(y[0, 2] / y[0, 0]) < 1e-5  # the third row has no part in it


@pytest.mark.parametrize("name", BOTH)
def test_of_an_unbounded_sample_the_value_is_a_ray(name):
    P = torch.diag(torch.tensor([0.0, 1.0])).double()
    program = ConeProgram(
        P, torch.tensor([[-1.0, 2.0]]).double(), torch.tensor([[0.0, 1.0]]).double(),
        torch.ones(1, 1).double(), Cones(nonneg=1),
    )  # fmt: skip
    found = registry.create("convex", name).solve(program)
    assert found.status.tolist() == [Status.UNBOUNDED]
    assert bool(certify.proves_unbounded(program, found.value))


def test_a_program_without_rows_or_without_variables_is_solved():
    clarabel = registry.create("convex", "clarabel")
    q = torch.tensor([[-1.0, -2.0]]).double()
    none = torch.zeros(0, 2).double()
    free = ConeProgram(torch.eye(2).double(), q, none, torch.zeros(1, 0), Cones())
    for solver in (clarabel, registry.create("convex", "daqp")):
        assert_close(solver.solve(free).value, -q)
    empty = ConeProgram(
        None, torch.zeros(1, 0).double(), torch.zeros(2, 0).double(),
        torch.ones(1, 2).double(), Cones(nonneg=2),
    )  # fmt: skip
    assert clarabel.solve(empty).value.shape == (1, 0)
    assert "at least one variable" in registry.create("convex", "daqp").refuses(empty)


def test_daqp_refuses_other_cones_and_large_programs():
    daqp = registry.create("convex", "daqp", max_size=2)
    zeros = torch.zeros(1, 3).double()
    ball = ConeProgram(None, zeros, torch.eye(3).double(), zeros, Cones(soc=(3,)))
    assert (
        daqp.refuses(ball) == "takes equalities and inequalities only, no other cones."
    )
    box = ConeProgram(None, zeros, torch.eye(3).double(), zeros, Cones(nonneg=3))
    assert daqp.refuses(box) == "is dense; 3 variables exceed its max_size=2."


@pytest.mark.parametrize("name", BOTH)
def test_the_step_limit_is_a_status(name):
    program = random_program(2, 10, 0, 30, is_shared=False)
    found = registry.create("convex", name, max_steps=1).solve(program)
    assert found.status.tolist() == [Status.STEP_LIMIT] * 2


def test_the_tensors_of_a_program_are_left_alone():
    program = random_program(3, 6, 2, 6, is_shared=False)
    before = [t.clone() for t in program.tensors()]
    for name in BOTH:
        registry.create("convex", name).solve(program)
    assert all(map(torch.equal, before, program.tensors()))


def test_clarabel_takes_repeated_positions_as_sums():
    zero = torch.zeros(2, dtype=torch.int64)
    twice = PatternMatrix(torch.tensor([0.5, 1.5]).double(), zero, zero, (1, 1))
    b = torch.tensor([[4.0]]).double()
    program = ConeProgram(None, torch.ones(1, 1).double(), twice, b, Cones(zero=1))
    found = registry.create("convex", "clarabel").solve(program)
    assert_close(found.value, b / 2)
    assert np.isfinite(found.stats["seconds"].numpy()).all()


@pytest.mark.filterwarnings("error")
def test_points_of_failed_samples_are_not_multiplied(monkeypatch):
    """DAQP may return memory that it never wrote: NaN here, and then a warning."""
    whole = daqp._Problem.runner

    def runner(self, settings):
        run = whole(self, settings)

        def ruined(i):
            x, value, flag, report = run(i)
            return (x if flag == 1 else x * np.nan), value, flag, report

        return ruined

    monkeypatch.setattr(daqp._Problem, "runner", runner)
    one = torch.ones(1, 2, 1, dtype=torch.float64)
    program = ConeProgram(
        one[:, :1], one[:, 0], one * torch.tensor([[1.0], [-1.0]]),
        torch.tensor([[1.0, -2.0]], dtype=torch.float64), Cones(nonneg=2),
    )  # fmt: skip
    found = daqp.Daqp().solve(program)
    assert found.status == Status.INFEASIBLE
    assert found.value.isfinite().all() and (found.duals["s"] == 0).all()
