"""The opaque solve: checks, fallback, belief, failure, transforms."""

import copy
import gc
import pickle
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch.testing import assert_close

from optlayers import registry
from optlayers.errors import (
    InvalidDataError,
    OptlayersError,
    ShapeError,
    SolveError,
)
from optlayers.interfaces import Kind
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from optlayers.solution import Solution, Status
from optlayers.solvers.checks import Check
from optlayers.solvers.opaque import solve
from optlayers.solvers.plan import Plan
from tests.solvers.programs import random_program

DAQP = registry.create("convex", "daqp")
CLARABEL = registry.create("convex", "clarabel")


def plan_for(program: ConeProgram, *solvers, **options) -> Plan:
    return Plan(
        structure=program.structure(), solvers=solvers or (DAQP, CLARABEL), **options
    )


@dataclass
class Stub:
    """Answers as `answer` says and counts the samples it was asked for."""

    answer: Callable[[ConeProgram], Solution]
    asked: list[int] = field(default_factory=list)
    kind: ClassVar[Kind] = Kind.CONVEX

    def refuses(self, program):
        return None

    def solve(self, program, start=None):
        self.asked.append(program.batch_size)
        return self.answer(program)


def lie(program: ConeProgram) -> Solution:
    """Claim that zero solves everything."""
    return claim(program, Status.SOLVED)


def claim(program: ConeProgram, status: Status) -> Solution:
    zeros = torch.zeros(program.batch_size, program.size, dtype=torch.float64)
    rows = torch.zeros_like(program.b)
    words = torch.full((program.batch_size,), int(status), dtype=torch.int8)
    return Solution(zeros, {"y": rows, "s": rows}, words)


def batch_with_bad_samples() -> tuple[ConeProgram, ConeProgram]:
    """64 programs, clean; and with 5 infeasible, 17 unbounded, 33 NaN in q."""
    clean = random_program(64, 4, 1, 5, is_shared=False)
    P, q, A, b = (t.clone() for t in clean.tensors())
    A[5, 1], A[5, 2], b[5, 1], b[5, 2] = A[5, 1], -A[5, 1], 1.0, -2.0
    P[17], A[17], b[17] = 0.0, 0.0, 0.0
    q[33, 2] = torch.nan
    return clean, ConeProgram(P, q, A, b, clean.cones)


def test_bad_samples_leave_the_others_bitwise_as_if_solved_alone():
    clean, mixed = batch_with_bad_samples()
    found = solve(mixed, plan_for(mixed, on_failure="nan"))
    expected = {5: Status.INFEASIBLE, 17: Status.UNBOUNDED, 33: Status.NOT_FINITE}
    alone = solve(clean, plan_for(clean))
    for i in range(64):
        assert found.status[i] == expected.get(i, Status.SOLVED)
        if i not in expected:
            one = clean.select(torch.tensor([i]))
            (x, y, _), (x1, y1, _) = (
                clean.split(found.point),
                one.split(solve(one, plan_for(one)).point),
            )
            assert torch.equal(x[i], x1[0])
            assert torch.equal(y[i], y1[0])
            assert torch.equal(found.point[i], alone.point[i])
    assert bool(found.point.isfinite().all())


def test_second_order_programs_are_bitwise_independent_too():
    q = torch.randn(12, 3, dtype=torch.float64)
    A = -torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    b = torch.zeros(12, 4).double()
    b[:, 0] = torch.rand(12) + 0.5
    P = torch.diag(torch.tensor([1.0, 0.1, 0.0])).double()
    program = ConeProgram(P, q, A, b, Cones(soc=(4,)))
    together = solve(program, plan_for(program, CLARABEL))
    for i in range(12):
        one = program.select(torch.tensor([i]))
        assert torch.equal(
            solve(one, plan_for(one, CLARABEL)).point[0], together.point[i]
        )
    assert float(together.residual.max()) < 1e-11


def test_a_solver_that_lies_is_not_believed():
    program = random_program(3, 4, 1, 5, is_shared=False)
    found = solve(program, plan_for(program, Stub(lie), on_failure="keep"))
    # Newton steps may repair a lie, which makes it true; they never hide one.
    measured = program.residual(found.point).abs() / program.scale(found.point)
    is_true = (measured <= 1e-8).all(1)
    assert torch.equal(found.status == Status.SOLVED, is_true)


def test_a_lie_that_cannot_be_repaired_is_stalled():
    zeros = torch.zeros(1, 1).double()
    program = ConeProgram(None, zeros + 1, zeros, zeros, Cones(nonneg=1))
    found = solve(program, plan_for(program, Stub(lie), on_failure="keep"))
    assert found.status.tolist() == [Status.STALLED]
    assert found.residual.item() > 0.1


def test_a_point_far_along_a_ray_does_not_pass_for_a_solution():
    # minimize -x subject to x >= 0: at x = 1e12 a residual of 1 is small beside it.
    one = torch.ones(1, 1).double()
    program = ConeProgram(None, -one, -one, 0 * one, Cones(nonneg=1))

    def far(p: ConeProgram) -> Solution:
        solved = torch.zeros(1, dtype=torch.int8)
        return Solution(1e12 * one, {"y": 0 * one, "s": 1e12 * one}, solved)

    found = solve(program, plan_for(program, Stub(far), on_failure="keep"))
    assert found.status.tolist() == [Status.STALLED]


@pytest.mark.parametrize("status", [Status.INFEASIBLE, Status.UNBOUNDED])
def test_a_claim_without_a_certificate_is_not_believed(status):
    program = random_program(2, 4, 1, 5, is_shared=False)
    liar = Stub(lambda p: claim(p, status))
    found = solve(program, plan_for(program, liar, DAQP))
    assert found.status.tolist() == [Status.SOLVED] * 2


def test_only_the_samples_that_failed_go_to_the_next_solver():
    program = random_program(6, 4, 1, 5, is_shared=False)
    right = DAQP.solve(program)

    def fail_on_two(p: ConeProgram) -> Solution:
        value, status = right.value.clone(), right.status.clone()
        value[[1, 4]], status[[1, 4]] = torch.nan, Status.STALLED
        return Solution(value, right.duals, status)

    first, second, third = Stub(fail_on_two), Stub(DAQP.solve), Stub(DAQP.solve)
    found = solve(program, plan_for(program, first, second, third))
    assert found.status.tolist() == [Status.SOLVED] * 6
    assert (first.asked, second.asked, third.asked) == ([6], [2], [])
    assert_close(found.point[:, :4], right.value)


def test_a_proven_infeasible_sample_is_not_asked_again():
    _, mixed = batch_with_bad_samples()
    second = Stub(CLARABEL.solve)
    solve(mixed, plan_for(mixed, DAQP, second, on_failure="nan"))
    assert second.asked == []


def test_contradicting_equalities_that_daqp_overlooks_are_found_infeasible():
    # DAQP 0.11 drops the second of two equal rows without looking at its right side.
    A = torch.ones(2, 2).double()
    b = torch.tensor([[1.0, 2.0], [1.0, 1.0]]).double()
    program = ConeProgram(torch.eye(2).double(), torch.zeros(2, 2).double(), A, b,
                          Cones(zero=2))  # fmt: skip
    found = solve(program, plan_for(program, on_failure="nan"))
    assert found.status.tolist() == [Status.INFEASIBLE, Status.SOLVED]
    assert found.unique.tolist() == [True, False]


def test_an_empty_batch_gives_empty_results():
    program = random_program(3, 4, 1, 5, is_shared=True).select(torch.arange(0))
    found = solve(program, plan_for(program), batch_shape=(4, 0))
    assert found.point.shape == (0, 10)
    assert all(len(t) == 0 for t in found)


def test_the_message_names_samples_constraints_and_the_remedy():
    _, mixed = batch_with_bad_samples()
    names = ("budget", "cap", "cap", "rest", "rest", "rest")
    plan = plan_for(
        mixed, subject="portfolio", row_names=names, column_names=("w",) * 4
    )
    with pytest.raises(SolveError) as caught:
        solve(mixed, plan, batch_shape=(8, 8))
    assert str(caught.value) == (
        "portfolio: 3 of 64 samples were not solved.\n"
        "  sample [0, 5]: INFEASIBLE, no point satisfies the constraints: `cap`.\n"
        "  sample [2, 1]: UNBOUNDED, the objective improves without bound: along `w`.\n"
        "  sample [4, 1]: NOT_FINITE, the data or an iterate is NaN or infinite: q of "
        "the cone program contains nan.\n"
        "  Loosen one of the constraints named, or give them a slack variable with a "
        "price.\n"
        "  Bound the variable named, or add a term that grows with it.\n"
        "  Look for a division by zero or an overflow before this layer.\n"
        '  on_failure="nan" gives NaN for such samples and leaves the others '
        "untouched."
    )


def test_constraints_that_conflict_are_all_named():
    A = torch.tensor([[1.0], [-1.0], [1.0]]).double()
    b = torch.tensor([[1.0, -2.0, 9.0]]).double()
    program = ConeProgram(torch.eye(1).double(), torch.zeros(1, 1).double(), A, b,
                          Cones(nonneg=3))  # fmt: skip
    plan = plan_for(program, row_names=("low", "high", "far"))
    with pytest.raises(
        SolveError, match="`low`, `high` cannot hold together"
    ) as caught:
        solve(program, plan, batch_shape=())
    assert "the problem was not solved" in str(caught.value)
    assert "sample" not in str(caught.value).split("on_failure")[0].replace(
        "samples", ""
    )


def test_a_long_list_of_samples_is_cut():
    program = random_program(9, 4, 0, 3, is_shared=True)
    stuck = Stub(lambda p: claim(p, Status.STEP_LIMIT))
    broken = ConeProgram(None, program.q, 0 * program.A, 0 * program.b, program.cones)
    with pytest.raises(SolveError) as caught:
        solve(broken, plan_for(broken, stuck))
    assert "and 4 more." in str(caught.value)
    assert len(re.findall(r"sample \d", str(caught.value))) == 5
    assert "step limit" in str(caught.value)
    assert "relative residual" in str(caught.value)


def test_a_broken_promise_is_found_before_any_solver_runs():
    program = random_program(3, 4, 0, 3, is_shared=True)
    risk = torch.tensor([0.1, -0.5, 0.2])
    check = Check("risk", "nonneg", "Parameter(nonneg=True)", 0)
    stub = Stub(DAQP.solve)
    with pytest.raises(InvalidDataError) as caught:
        solve(program, plan_for(program, stub, checks=(check,)), [risk])
    assert (
        "sample 1: INVALID_DATA, a parameter breaks its declaration: risk is -0.5"
        in str(caught.value)
    )
    assert "softplus" in str(caught.value)
    plan = plan_for(program, stub, checks=(check,), on_failure="nan")
    found = solve(program, plan, [risk])
    assert found.status.tolist() == [Status.SOLVED, Status.INVALID_DATA, Status.SOLVED]
    assert stub.asked == [2, 2]
    shared = solve(program, plan, [risk[1]])
    assert shared.status.tolist() == [Status.INVALID_DATA] * 3


def test_the_number_of_checked_tensors_and_the_batch_shape_must_fit():
    program = random_program(3, 4, 0, 3, is_shared=True)
    with pytest.raises(ShapeError, match="1 tensors for 0 checks"):
        solve(program, plan_for(program), [torch.ones(3)])
    with pytest.raises(ShapeError, match=r"\[2, 2\] is not a shape of 3 samples"):
        solve(program, plan_for(program), batch_shape=(2, 2))


def test_single_precision_is_solved_in_double():
    program = random_program(3, 4, 1, 3, is_shared=False)
    single = ConeProgram.rebuild(
        [t.float() for t in program.tensors()], program.structure()
    )
    found = solve(single, plan_for(single))
    assert found.point.dtype == torch.float64
    assert float(found.residual.max()) < 1e-11


def test_nothing_of_an_opaque_solve_carries_a_gradient():
    program = random_program(3, 4, 1, 3, is_shared=False)
    q = program.q.requires_grad_()
    live = ConeProgram(program.P, q, program.A, program.b, program.cones)
    assert not any(t.requires_grad for t in solve(live, plan_for(live)))


def test_eight_threads_may_solve_at_once():
    program = random_program(16, 8, 1, 9, is_shared=False)
    plan, expected = plan_for(program), solve(program, plan_for(program)).point
    answers: list[torch.Tensor] = []

    def work():
        answers.extend(solve(program, plan).point for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 40
    assert all(torch.equal(answer, expected) for answer in answers)


def test_a_copied_plan_has_a_number_of_its_own_and_a_dead_one_says_so():
    program = random_program(2, 4, 1, 3, is_shared=True)
    plan = plan_for(program)
    for other in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert other.handle != plan.handle
        assert other.solvers == plan.solvers
        assert torch.equal(solve(program, other).point, solve(program, plan).point)
    handle = plan.handle
    del plan
    gc.collect()
    with pytest.raises(OptlayersError, match="no longer exists"):
        torch.ops.optlayers.solve(program.tensors(), [], None, handle, [2])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"tolerance": 0.0}, "tolerance=0.0: give a number above zero"),
        ({"on_failure": "ignore"}, 'give "raise", "nan" or "keep"'),
        ({"solvers": ()}, "at least one solver"),
    ],
)
def test_a_plan_validates_its_options(option, message):
    program = random_program(2, 4, 1, 3, is_shared=True)
    given = {"structure": program.structure(), "solvers": (DAQP,)} | option
    with pytest.raises(ValueError, match=re.escape(message)):
        Plan(**given)
