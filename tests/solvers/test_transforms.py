"""The opaque solve is a constant to every transform of torch."""

import pytest
import torch
from torch.testing import assert_close

from optlayers import registry
from optlayers.errors import SolveError
from optlayers.programs.cone_program import ConeProgram
from optlayers.solution import Status
from optlayers.solvers.checks import Check
from optlayers.solvers.opaque import solve
from optlayers.solvers.plan import Plan
from tests.solvers.programs import random_program


def plan_for(program: ConeProgram, **options) -> Plan:
    solvers = (registry.create("convex", "daqp"),)
    return Plan(structure=program.structure(), solvers=solvers, **options)


def solution_of(q: torch.Tensor, program: ConeProgram, plan: Plan, risk=None):
    own = ConeProgram(program.P, q, program.A, program.b, program.cones)
    watched = [] if risk is None else [risk]
    return solve(own, plan, watched).point


@pytest.mark.parametrize("is_shared", [True, False])
def test_vmap_flattens_the_mapped_axis_into_the_batch(is_shared):
    program = random_program(3, 4, 1, 3, is_shared)
    plan = plan_for(program)
    q = torch.randn(5, 3, 4, dtype=torch.float64)
    mapped = torch.func.vmap(lambda one: solution_of(one, program, plan))(q)
    assert torch.equal(mapped, torch.stack([solution_of(o, program, plan) for o in q]))


def test_vmap_nests_and_maps_shared_matrices_and_checked_tensors():
    program = random_program(3, 4, 1, 3, is_shared=True)
    check = Check("r", "nonneg", "", 0)
    plan = plan_for(program, checks=(check,), on_failure="nan")
    A = program.A + 0.01 * torch.randn(2, 5, 4, 4, dtype=torch.float64)
    risk = torch.ones(2)
    risk[1] = -1

    def one(A: torch.Tensor, risk: torch.Tensor):
        own = ConeProgram(program.P, program.q, A, program.b, program.cones)
        found = solve(own, plan, [risk])
        return found.point, found.status

    inner = torch.func.vmap(one, in_dims=(0, None))
    point, status = torch.func.vmap(inner)(A, risk)
    assert (status[0] == Status.SOLVED).all()
    assert (status[1] == Status.INVALID_DATA).all()
    for j in range(5):
        alone = one(A[0, j], risk[0])[0]
        # A slack is a product with A, which rounds by whether A is shared or not.
        assert_close(point[0, j], alone, atol=1e-13, rtol=1e-13)


def test_a_failure_under_vmap_names_its_place_in_the_mapped_axis():
    program = random_program(3, 4, 0, 3, is_shared=True)
    q = torch.randn(2, 3, 4, dtype=torch.float64)
    q[1, 2] = torch.nan
    plan = plan_for(program)
    with pytest.raises(SolveError, match=r"sample \[1, 2\]: NOT_FINITE, the data"):
        torch.func.vmap(lambda one: solution_of(one, program, plan))(q)


def test_jvp_and_grad_see_a_constant():
    program = random_program(3, 4, 1, 3, is_shared=False)
    plan = plan_for(program)

    def through(q):
        return solution_of(q, program, plan) + q.sum()

    q = program.q
    _, tangent = torch.func.jvp(through, (q,), (torch.ones_like(q),))
    assert_close(tangent, torch.full_like(tangent, q.numel()))
    gradient = torch.func.grad(lambda q: through(q).sum())(q)
    assert_close(gradient, torch.full_like(q, 3 * 8))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_solve_compiles_without_a_break_and_raises_inside(backend):
    program = random_program(3, 4, 1, 3, is_shared=False)
    plan = plan_for(program)

    def around(q):
        return solution_of(2 * q, program, plan).sin()

    compiled = torch.compile(around, fullgraph=True, backend=backend)
    assert_close(compiled(program.q), around(program.q), atol=0, rtol=0)
    with pytest.raises(
        SolveError, match="sample 1: NOT_FINITE, the data or an iterate is NaN"
    ):
        compiled(program.q * torch.tensor([1.0, torch.nan, 1.0]).double()[:, None])


def test_the_operator_passes_torchs_own_checks():
    program = random_program(3, 4, 1, 3, is_shared=False)
    plan = plan_for(program)
    torch.library.opcheck(
        torch.ops.optlayers.solve.default,
        (program.tensors(), [], None, plan.handle, [3]),
        test_utils=("test_schema", "test_faketensor"),
    )
