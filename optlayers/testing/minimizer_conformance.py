"""The laws a minimizer obeys, checked on programs whose KKT points are known.

A third party's test suite needs one line: `check_minimizer(Acme())`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optlayers.interfaces import Kind, Solver
from optlayers.programs.minimize import MinimizeProgram
from optlayers.solution import Solution, Status

ACCURACY = 1e-6  # of points and multipliers
Samples = list[int]


@dataclass(frozen=True)
class Example:
    """A batch of programs and their answers.

    Attributes:
        law: what holds when the example passes, as a sentence.
        program: makes the program of some samples, so that each can be solved alone.
        start: [B, n].
        x: the minima, [B, n]; NaN rows where a sample has none.
        equalities: multipliers of h, [B, me].
        rows: multipliers of r, [B, m].
    """

    law: str
    program: Callable[[Samples], MinimizeProgram]
    start: Tensor
    x: Tensor
    equalities: Tensor
    rows: Tensor


def check_minimizer(solver: Solver) -> None:
    """Run the suite on a solver of kind "minimize".

    Programs it refuses are skipped, but it must take at least one.

    Raises:
        AssertionError: a law is broken; the message states it and the numbers.
    """
    right = solver.kind == Kind.MINIMIZE
    _require(right, f"kind is Kind.MINIMIZE, not {solver.kind!r}.")
    taken = 0
    for example in examples():
        everyone = list(range(len(example.start)))
        reason = solver.refuses(example.program(everyone))
        if reason is not None:
            is_sentence = isinstance(reason, str) and bool(reason.strip())
            _require(
                is_sentence, f"refuses() returns a sentence or None, not {reason!r}."
            )
            continue
        taken += 1
        _check_example(solver, example, everyone)
        empty = solver.solve(example.program([]), example.start[:0])
        _require(
            empty.value.shape == example.start[:0].shape, "no samples give [0, n]."
        )
    _require(taken > 0, "it takes at least one of the programs of the suite.")


def examples() -> Iterator[Example]:
    """Small programs with closed-form answers; unconstrained ones first."""
    yield _without_constraints()
    yield _one_is_not_finite()
    yield _box()
    yield _plane()
    yield _disk()
    yield _one_is_infeasible()


def _check_example(solver: Solver, example: Example, everyone: Samples) -> None:
    given = example.start.clone()
    together = solver.solve(example.program(everyone), example.start)
    law = example.law
    unchanged = torch.equal(given, example.start)
    _require(unchanged, f"{law} (the start must not be changed).")
    _check_form(together, example)
    solvable = example.x.isfinite().all(1)
    claimed = together.status == Status.SOLVED
    _require(
        torch.equal(claimed, solvable),
        f"{law} (solved: {claimed.tolist()}, expected {solvable.tolist()}).",
    )
    duals = together.duals
    for name, value, expected in (
        ("x", together.value, example.x),
        ('duals["equalities"]', duals["equalities"], example.equalities),
        ('duals["inequalities"]', duals["inequalities"], example.rows),
    ):
        error = (value.double() - expected)[solvable].abs()
        worst = float(error.max()) if error.numel() else 0.0
        _require(worst <= ACCURACY, f"{law} ({name} is off by {worst:.1e}).")
    for i in solvable.nonzero()[:, 0].tolist():
        alone = solver.solve(example.program([i]), example.start[i : i + 1])
        # Products of other sizes round differently; nothing else may differ.
        apart = float((alone.value[0] - together.value[i]).abs().max())
        _require(
            apart <= ACCURACY,
            f"a sample's answer does not depend on its neighbours ({law}; it moves by "
            f"{apart:.1e}).",
        )


def _check_form(found: Solution, example: Example) -> None:
    for name, value, like in (
        ("value", found.value, example.x),
        ('duals["equalities"]', found.duals.get("equalities"), example.equalities),
        ('duals["inequalities"]', found.duals.get("inequalities"), example.rows),
        ("status", found.status, example.x[:, 0]),
    ):
        given = None if value is None else tuple(value.shape)
        wanted = tuple(like.shape)
        _require(given == wanted, f"Solution.{name} has shape {wanted}, not {given}.")
    is_small = found.status.dtype == torch.int8
    _require(is_small, f"Solution.status is int8, not {found.status.dtype}.")


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(f"broken: {law}")


def _numbers(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _without_constraints() -> Example:
    # exp(x) - a x is least at log(a).
    a = _numbers([1.0, 2.0], [0.5, 4.0], [3.0, 0.1])

    def program(samples: Samples) -> MinimizeProgram:
        own = a[samples]
        return MinimizeProgram(lambda x: (x.exp() - own * x).sum(1), len(samples), 2)

    law = "a smooth convex function is least where its gradient is zero"
    none = a[:, :0]
    return Example(law, program, torch.zeros_like(a), a.log(), none, none)


def _one_is_not_finite() -> Example:
    a = _numbers([1.0], [torch.nan], [2.0])

    def program(samples: Samples) -> MinimizeProgram:
        own = a[samples]
        return MinimizeProgram(lambda x: (x - own).square().sum(1), len(samples), 1)

    law = "a sample whose function is NaN is not solved and leaves the others alone"
    return Example(law, program, torch.zeros_like(a), a, a[:, :0], a[:, :0])


def _box() -> Example:
    # minimize |x - c|^2/2 subject to -1 <= x <= 1.
    c = _numbers([0.5, 2.0], [-3.0, 0.0], [1.5, -1.5])

    def program(samples: Samples) -> MinimizeProgram:
        own = c[samples]
        one = torch.ones(2, dtype=c.dtype)
        return MinimizeProgram(
            lambda x: (x - own).square().sum(1) / 2, len(samples), 2,
            lower=-one, upper=one,
        )  # fmt: skip

    rows = torch.cat([(-c - 1).relu(), (c - 1).relu()], 1)
    law = "bounds are rows, lower before upper, whose multipliers are the overshoot"
    return Example(law, program, torch.zeros_like(c), c.clamp(-1, 1), c[:, :0], rows)


def _plane() -> Example:
    # minimize |x|^2/2 subject to x_0 + x_1 = b: x = b/2, y = -b/2.
    b = _numbers([2.0], [-1.0])

    def program(samples: Samples) -> MinimizeProgram:
        own = b[samples]
        return MinimizeProgram(
            lambda x: x.square().sum(1) / 2, len(samples), 2,
            lambda x: x.sum(1, keepdim=True) - own, equality_count=1,
        )  # fmt: skip

    law = "the multiplier of h(x) = 0 makes grad f + Jh'y zero"
    start = torch.ones(2, 2, dtype=b.dtype)
    return Example(law, program, start, (b / 2).expand(2, 2), -b / 2, b[:, :0])


def _disk() -> Example:
    # minimize q'x subject to |x|^2 <= r^2: x = -r q/|q|, multiplier |q|/(2 r).
    q = _numbers([3.0, 4.0], [0.0, -2.0])
    r = _numbers([2.0], [1.0])

    def program(samples: Samples) -> MinimizeProgram:
        slope, radius = q[samples], r[samples]
        return MinimizeProgram(
            lambda x: (slope * x).sum(1), len(samples), 2, None,
            lambda x: x.square().sum(1, keepdim=True) - radius**2, 0, 1,
        )  # fmt: skip

    length = q.norm(dim=1, keepdim=True)
    law = "multipliers of g(x) <= 0 are positive where it is active"
    start = torch.full_like(q, 0.1)
    return Example(law, program, start, -r * q / length, q[:, :0], length / (2 * r))


def _one_is_infeasible() -> Example:
    # minimize (x - 1/2)^2 subject to x^2 + 1 <= b: no x for b < 1, x = 1/2 for b > 2.
    b = _numbers([2.0], [0.0], [5.0])

    def program(samples: Samples) -> MinimizeProgram:
        own = b[samples]
        return MinimizeProgram(
            lambda x: (x - 0.5).square().sum(1), len(samples), 1, None,
            lambda x: x.square() + 1 - own, 0, 1,
        )  # fmt: skip

    law = "an infeasible sample is not solved and leaves the others alone"
    x = _numbers([0.5], [torch.nan], [0.5])
    start = torch.full_like(b, 0.25)
    return Example(law, program, start, x, b[:, :0], torch.zeros_like(b))
