"""The exception made from failed samples: which, why, where, and what to do next."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from optlayers.batching import position
from optlayers.errors import InvalidDataError, SolveError
from optlayers.programs.cone_program import ConeProgram
from optlayers.solution import Status
from optlayers.solvers.plan import Plan

LISTED_SAMPLES = 5
LISTED_NAMES = 4
# Entries of a certificate below this share of its largest do not take part in it.
TAKES_PART = 1e-3

# What a broken check has to say of a sample, by its number.
Fault = Callable[[int], str]


def failure(
    plan: Plan,
    program: ConeProgram,
    point: Tensor,
    status: Tensor,
    residual: Tensor,
    faults: dict[int, Fault],
    batch_shape: Sequence[int],
) -> SolveError | InvalidDataError:
    """The exception for a batch in which some samples failed.

    Args:
        plan: how they were solved.
        program: of B samples.
        point: [B, n + m]; the certificate or ray of infeasible and unbounded samples.
        status: int8 [B].
        residual: relative, [B].
        faults: by sample, what a check found wrong with its parameters.
        batch_shape: the user's batch axes; prod = B.
    """

    def detail(i: int) -> str:
        reason = Status(int(status[i]))
        return _detail(plan, program, point[i], reason, i, float(residual[i]))

    return report(plan.subject, status, faults, batch_shape, detail, _REMEDIES)


def report(
    subject: str,
    status: Tensor,
    faults: Mapping[int, Fault],
    batch_shape: Sequence[int],
    detail: Callable[[int], str],
    remedies: Mapping[Status, str],
) -> SolveError | InvalidDataError:
    """The exception for a batch of any kind in which some samples failed.

    Args:
        subject: what the problem is called.
        status: int8 [B].
        faults: by sample, what a check found wrong with its parameters.
        batch_shape: the user's batch axes; prod = B.
        detail: what is to be said of a sample without fault; "" if nothing is.
        remedies: what to do next, by status.
    """
    failed = (status != Status.SOLVED).nonzero()[:, 0].tolist()
    lines = [_headline(subject, len(failed), len(status))]
    for i in failed[:LISTED_SAMPLES]:
        reason = Status(int(status[i]))
        where = f"sample {position(i, tuple(batch_shape))}: " if batch_shape else ""
        words = faults[i](i) if i in faults else detail(i)
        lines.append(
            f"  {where}{reason.name}, {reason.meaning}{words and ': '}{words}."
        )
    if len(failed) > LISTED_SAMPLES:
        lines.append(f"  and {len(failed) - LISTED_SAMPLES} more.")
    advice = dict.fromkeys(
        _REMEDIES[reason]
        if i in faults and reason == Status.INVALID_DATA
        else remedies[reason]
        for i, reason in ((i, Status(int(status[i]))) for i in failed)
    )
    lines += [f"  {one}" for one in advice]
    lines.append(
        '  on_failure="nan" gives NaN for such samples and leaves the others untouched.'
    )
    error = InvalidDataError if faults else SolveError
    return error("\n".join(lines))


def _headline(subject: str, failed: int, total: int) -> str:
    if total == 1:
        return f"{subject} was not solved."
    return f"{subject}: {failed} of {total} samples were not solved."


def _detail(
    plan: Plan,
    program: ConeProgram,
    point: Tensor,
    reason: Status,
    sample: int,
    residual: float,
) -> str:
    n = program.size
    match reason:
        case Status.INFEASIBLE:
            names = _largest(point[n:], plan.row_names, "row")
            return f"{names} cannot hold together" if "," in names else names
        case Status.UNBOUNDED:
            return f"along {_largest(point[:n], plan.column_names, 'variable')}"
        case Status.NOT_FINITE:
            return _not_finite(program, sample)
    if residual == float("inf"):
        return "no finite iterate was found"
    return (
        f"relative residual {residual:.1e} against a tolerance of {plan.tolerance:.1e}"
        f"{_worst_equation(plan, program, point, sample)}"
    )


def _largest(weights: Tensor, names: tuple[str, ...], unnamed: str) -> str:
    """The names with the largest entries, largest first."""
    sizes: dict[str, float] = {}
    for k, weight in enumerate(weights.abs().tolist()):
        name = f"`{names[k]}`" if names else f"{unnamed} {k}"
        sizes[name] = max(sizes.get(name, 0.0), weight)
    most = max(sizes.values(), default=0.0)
    chosen = [name for name, size in sizes.items() if size > TAKES_PART * most]
    chosen.sort(key=lambda name: -sizes[name])
    if not chosen:
        return f"{unnamed} unknown"
    shown = ", ".join(chosen[:LISTED_NAMES])
    more = len(chosen) - LISTED_NAMES
    return f"{shown}, and {more} more" if more > 0 else shown


def _not_finite(program: ConeProgram, sample: int) -> str:
    """The first of P, q, A, b that is not finite; parameters are named by checks."""
    names = ("q", "A", "b") if program.P is None else ("P", "q", "A", "b")
    own = program.select(torch.tensor([sample])).tensors()
    for name, numbers in zip(names, own, strict=True):
        if not bool(numbers.isfinite().all()):
            broken = numbers[~numbers.isfinite()][0].item()
            return f"{name} of the cone program contains {broken}"
    return ""


def _worst_equation(
    plan: Plan, program: ConeProgram, point: Tensor, sample: int
) -> str:
    own = program.select(torch.tensor([sample]))
    size = own.residual(point[None])[0].abs()
    if size.numel() == 0 or not bool(size.isfinite().all()):
        return ""
    worst, n = int(size.argmax()), program.size
    if worst >= n:
        names, k, unnamed = plan.row_names, worst - n, "row"
    else:
        names, k, unnamed = plan.column_names, worst, "variable"
    return f", largest at {f'`{names[k]}`' if names else f'{unnamed} {k}'}"


_REMEDIES: Mapping[Status, str] = {
    Status.INFEASIBLE: "Loosen one of the constraints named, or give them a slack "
    "variable with a price.",
    Status.UNBOUNDED: "Bound the variable named, or add a term that grows with it.",
    Status.STEP_LIMIT: "Raise max_steps of the solver, or scale the parameters.",
    Status.STALLED: "Scale the parameters nearer to 1, raise tolerance=, or try "
    "another solver=.",
    Status.NOT_FINITE: "Look for a division by zero or an overflow before this layer.",
    Status.INVALID_DATA: "Map the parameter into its range before the call (softplus, "
    "clamp, sort, L @ L.T), or change its declaration.",
}
