"""The laws a convex solver obeys, checked on programs whose answers are known.

A third party's test suite needs one line: `check_solver(Acme())`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optlayers.interfaces import Kind, Solver
from optlayers.programs.cone_program import ConeProgram
from optlayers.programs.cones import Cones
from optlayers.solution import Solution, Status
from optlayers.solvers import certify

ACCURACY = 1e-6  # what a caller may ask of any solver, before polishing
# On cones that are not symmetric a gap of 1e-10 leaves the solution its root off.
ASYMMETRIC_ACCURACY = 2e-5


@dataclass(frozen=True)
class Example:
    """A batch of programs and their answers.

    Attributes:
        law: what holds when the example passes, as a sentence.
        program: of B samples.
        x: the solutions, [B, n]; rows of samples without one are ignored.
        y: the multipliers, [B, m]; likewise.
        status: the expected `Status` of each sample, int8 [B].
        accuracy: how far x and y, and the residual, may be off.
    """

    law: str
    program: ConeProgram
    x: Tensor
    y: Tensor
    status: Tensor
    accuracy: float = ACCURACY


def check_solver(solver: Solver) -> None:
    """Run the suite on a convex solver.

    Programs it refuses are skipped, but it must take at least one.

    Raises:
        AssertionError: a law is broken; the message states it and the numbers.
    """
    _require(solver.kind == Kind.CONVEX, f"kind is Kind.CONVEX, not {solver.kind!r}.")
    taken = 0
    for example in examples():
        reason = solver.refuses(example.program)
        if reason is not None:
            _require(
                isinstance(reason, str) and bool(reason.strip()),
                f"refuses() returns a sentence or None, not {reason!r}.",
            )
            continue
        taken += 1
        _check_example(solver, example)
        _check_independence(solver, example)
    _require(taken > 0, "it takes at least one of the programs of the suite.")
    _check_empty_batch(solver)


def examples() -> Iterator[Example]:
    """Small programs with closed-form answers."""
    yield _projection_on_a_box()
    yield _shared_matrices()
    yield _equality()
    yield _linear_program()
    yield _ball()
    yield _semidefinite()
    yield _exponential()
    yield _power()
    yield _one_bad_of_each()


def _check_example(solver: Solver, example: Example) -> None:
    given = [t.clone() for t in example.program.tensors()]
    found = solver.solve(example.program)
    law = example.law
    for before, after in zip(given, example.program.tensors(), strict=True):
        same = torch.equal(before, after) and before.dtype == after.dtype
        _require(same, f"{law} (the program's tensors must not be changed).")
    _check_form(found, example)
    _require(
        found.status.tolist() == example.status.tolist(),
        f"{law} (status {found.status.tolist()}, expected {example.status.tolist()}).",
    )
    ok = example.status == Status.SOLVED
    for name, value, expected in (
        ("x", found.value, example.x),
        ("y", found.duals["y"], example.y),
    ):
        error = (value.double() - expected)[ok].abs().max() if bool(ok.any()) else 0.0
        _require(
            float(error) <= example.accuracy, f"{law} ({name} is off by {error:.1e})."
        )
    y, s = found.duals["y"].double(), found.duals["s"].double()
    point = example.program.pack(found.value.double(), y, s)
    residual = certify.measure(example.program, point)[ok]
    worst = float(residual.max()) if len(residual) else 0.0
    _require(
        worst <= example.accuracy, f"{law} (x, y, s leave a residual of {worst:.1e})."
    )


def _check_form(found: Solution, example: Example) -> None:
    program = example.program
    batch, n, m = program.batch_size, program.size, program.rows
    for name, value, shape in (
        ("value", found.value, (batch, n)),
        ('duals["y"]', found.duals.get("y"), (batch, m)),
        ('duals["s"]', found.duals.get("s"), (batch, m)),
        ("status", found.status, (batch,)),
    ):
        given = None if value is None else tuple(value.shape)
        _require(given == shape, f"Solution.{name} has shape {shape}, not {given}.")
    _require(
        found.status.dtype == torch.int8,
        f"Solution.status is int8, not {found.status.dtype}.",
    )


def _check_independence(solver: Solver, example: Example) -> None:
    """Each sample alone gives bitwise what it gives in its batch."""
    together = solver.solve(example.program)
    for i in (example.status == Status.SOLVED).nonzero()[:, 0].tolist():
        alone = solver.solve(example.program.select(torch.tensor([i])))
        _require(
            torch.equal(alone.value[0], together.value[i]),
            f"a sample's answer does not depend on its neighbours ({example.law}).",
        )


def _check_empty_batch(solver: Solver) -> None:
    program = _projection_on_a_box().program.select(torch.zeros(0, dtype=torch.int64))
    if solver.refuses(program) is None:
        found = solver.solve(program)
        _require(found.value.shape == (0, program.size), "an empty batch gives [0, n].")


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(f"broken: {law}")


def _numbers(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _statuses(*statuses: Status) -> Tensor:
    return torch.tensor([int(s) for s in statuses], dtype=torch.int8)


def _solved(batch: int) -> Tensor:
    return _statuses(*[Status.SOLVED] * batch)


def _projection_on_a_box() -> Example:
    # minimize |x - c|^2/2 subject to x <= 1 and -x <= 1.
    c = _numbers([0.5, 2.0], [-3.0, 0.0], [1.5, -1.5])
    one = torch.eye(2, dtype=torch.float64)
    A = torch.cat([one, -one]).expand(3, 4, 2)
    program = ConeProgram(
        one.expand(3, 2, 2), -c, A, torch.ones(3, 4).double(), Cones(nonneg=4)
    )
    y = torch.cat([(c - 1).relu(), (-c - 1).relu()], 1)
    law = "the projection on a box clips, and its multipliers are the overshoot"
    return Example(law, program, c.clamp(-1, 1), y, _solved(3))


def _shared_matrices() -> Example:
    # minimize |x|^2 + q'x subject to x >= 0, P and A without a batch axis.
    q = _numbers([-2.0, 4.0, -6.0], [2.0, -4.0, 6.0])
    one = torch.eye(3, dtype=torch.float64)
    program = ConeProgram(2 * one, q, -one, torch.zeros(2, 3).double(), Cones(nonneg=3))
    law = "matrices without a batch axis are shared by all samples"
    return Example(law, program, (-q / 2).relu(), q.relu(), _solved(2))


def _equality() -> Example:
    # minimize |x|^2/2 subject to x_0 + x_1 = b: x = b/2, y = -b/2.
    b = _numbers([2.0], [-1.0])
    A = torch.ones(1, 2, dtype=torch.float64)
    program = ConeProgram(
        torch.eye(2).double(), torch.zeros(2, 2).double(), A, b, Cones(zero=1)
    )
    law = "the multiplier of A x = b has the sign that makes P x + q + A'y zero"
    return Example(law, program, (b / 2).expand(2, 2), -b / 2, _solved(2))


def _linear_program() -> Example:
    # minimize q'x subject to 0 <= x <= 1: a vertex for each sign pattern of q.
    q = _numbers([1.0, -2.0], [-3.0, -0.5])
    one = torch.eye(2, dtype=torch.float64)
    A = torch.cat([one, -one])
    b = _numbers([1.0, 1.0, 0.0, 0.0]).expand(2, 4)
    program = ConeProgram(None, q, A, b, Cones(nonneg=4))
    y = torch.cat([(-q).relu(), q.relu()], 1)
    law = "a linear program (no P) with one solution gives its vertex"
    return Example(law, program, (q < 0).double(), y, _solved(2))


def _ball() -> Example:
    # minimize q'x subject to |x| <= r: x = -r q/|q|, y = (|q|, q) for s = (r, x).
    q = _numbers([3.0, 4.0], [0.0, -2.0])
    r = _numbers([2.0], [1.0])
    A = _numbers([0.0, 0.0], [-1.0, 0.0], [0.0, -1.0])
    b = torch.cat([r, torch.zeros(2, 2).double()], 1)
    program = ConeProgram(None, q, A, b, Cones(soc=(3,)))
    length = q.norm(dim=1, keepdim=True)
    law = "a linear objective over a ball is least opposite to its gradient"
    y = torch.cat([length, q], 1)
    return Example(law, program, -r * q / length, y, _solved(2))


def _semidefinite() -> Example:
    # minimize |X - C|^2/2 over semidefinite X, in rows (X_00, sqrt2 X_01, X_11).
    root = 2**0.5
    c = _numbers([2.0, 0.0, -1.0], [0.0, root, 0.0])
    x = _numbers([2.0, 0.0, 0.0], [0.5, 0.5 * root, 0.5])
    one = torch.eye(3, dtype=torch.float64)
    program = ConeProgram(one, -c, -one, torch.zeros(2, 3).double(), Cones(psd=(2,)))
    law = "rows of a matrix are its upper triangle by columns, sqrt 2 off the diagonal"
    return Example(law, program, x, x - c, _solved(2))


def _exponential() -> Example:
    # minimize |x - c|^2/2 over the exponential cone: c is the solution less multiplier.
    x = _numbers([0.0, 2.0, 2.0], [0.0, 1.0, 1.0])
    y = _numbers([-1.0, -1.0, 1.0], [-2.0, -2.0, 2.0])
    one = torch.eye(3, dtype=torch.float64)
    program = ConeProgram(one, y - x, -one, torch.zeros(2, 3).double(), Cones(exp=1))
    law = "exponential cones are {y exp(x / y) <= z}"
    return Example(law, program, x, y, _solved(2), ASYMMETRIC_ACCURACY)


def _power() -> Example:
    # The same over the cone {x^0.3 y^0.7 >= |z|}.
    x = _numbers([1.0, 1.0, 1.0], [2.0, 2.0, -2.0])
    y = _numbers([0.3, 0.7, -1.0], [0.6, 1.4, 2.0])
    one, cones = torch.eye(3, dtype=torch.float64), Cones(power=(0.3,))
    program = ConeProgram(one, y - x, -one, torch.zeros(2, 3).double(), cones)
    law = "power cones are {x^a y^(1-a) >= |z|}"
    return Example(law, program, x, y, _solved(2), ASYMMETRIC_ACCURACY)


def _one_bad_of_each() -> Example:
    # minimize P x^2/2 + q x subject to x <= b_0 and -x <= b_1, in one variable.
    P = _numbers([[1.0]], [[1.0]], [[0.0]], [[1.0]])
    q = _numbers([-3.0], [0.0], [1.0], [-0.5])
    A = _numbers([[1.0], [-1.0]], [[1.0], [-1.0]], [[1.0], [0.0]], [[1.0], [-1.0]])
    b = _numbers([1.0, 0.0], [1.0, -2.0], [1.0, 0.0], [1.0, 0.0])
    x = _numbers([1.0], [0.0], [0.0], [0.5])
    y = _numbers([2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    good, none, endless = Status.SOLVED, Status.INFEASIBLE, Status.UNBOUNDED
    law = "infeasible and unbounded samples say so and leave the others alone"
    status = _statuses(good, none, endless, good)
    return Example(law, ConeProgram(P, q, A, b, Cones(nonneg=2)), x, y, status)
