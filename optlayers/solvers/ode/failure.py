"""What is said of samples that did not reach their last time."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from optlayers.programs.initial_value import InitialValueProgram
from optlayers.solution import Solution, Status
from optlayers.solvers.failure import Fault, report

_REMEDIES: Mapping[Status, str] = {
    Status.STEP_LIMIT: "Raise max_steps of the solver, loosen rtol=, or, if the "
    'problem is stiff, try solver="rodas5p" or "kvaerno5".',
    Status.STALLED: "The step became too short to change the time: look for a "
    "discontinuity of the field there, or for events that follow one another ever "
    "faster, as of a ball that comes to rest (end it by a terminal event), or try a "
    "stiff solver.",
    Status.NOT_FINITE: "Look for a division by zero, a logarithm, an overflow or NaN "
    "in the field, the start, the parameters and the functions of events, or end the "
    "integration before, with an event.",
    Status.INVALID_DATA: "Give finite times, each row strictly increasing or strictly "
    "decreasing.",
}


def raise_failed(
    subject: str,
    program: InitialValueProgram,
    solved: Solution,
    batch_shape: Sequence[int],
    faults: Mapping[int, Fault] = MappingProxyType({}),
    event_names: Sequence[str] = (),
) -> None:
    """Raise if a sample failed.

    Args:
        subject: what the problem is called.
        program: of B samples.
        solved: what was found of them.
        batch_shape: the user's batch axes; prod = B.
        faults: by sample, what a check found wrong with its parameters.
        event_names: of the events; their numbers if they have none.

    Raises:
        SolveError: names the samples, the times they reached and their states.
    """
    if bool((solved.status == Status.SOLVED).all()):
        return

    def detail(i: int) -> str:
        if int(solved.status[i]) == Status.INVALID_DATA:
            return _times(program.times[i].detach())
        time = float(solved.stats["time"][i])
        steps = int(solved.stats["steps"][i])
        words = f"stopped at t = {time:.6g} after {steps} steps"
        lost = [
            event_names[k] if event_names else f"events[{k}]"
            for k, log in enumerate(solved.events)
            if log.lost is not None and bool(log.lost[i])
        ]
        return words + f", where the function of {', '.join(lost)} is NaN" * bool(lost)

    raise report(subject, solved.status, faults, batch_shape, detail, _REMEDIES)


def _times(times: Tensor) -> str:
    """The first save times of a sample, [T], or two that are the same."""
    same = (times.diff() == 0).nonzero()
    if len(same):
        k = int(same[0, 0])
        return (
            f"its times {k} and {k + 1} are the same number in {times.dtype}, "
            f"{float(times[k]):.9g}; times closer than rounding need float64"
        )
    shown = ", ".join(f"{one:.3g}" for one in times[:4].tolist())
    return f"its times are {shown}{', ...' * (len(times) > 4)}"
