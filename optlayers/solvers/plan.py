"""A plan: everything about a solve that is no tensor, reached by an integer.

Custom operators take tensors and numbers only; the number names the plan. Its owner
(a layer, a cache of `functional`) keeps it alive.
"""

import itertools
import threading
import weakref
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from optlayers.errors import OptlayersError
from optlayers.interfaces import Solver
from optlayers.programs.cone_program import ConeProgramStructure
from optlayers.solvers.certify import DEFAULT_TOLERANCE
from optlayers.solvers.checks import Check

OnFailure = Literal["raise", "nan", "keep"]

_numbers = itertools.count(1)
_lock = threading.Lock()
_plans: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """How one layer's programs are checked, solved and complained about.

    Attributes:
        structure: the static part of the program.
        solvers: tried in this order on the samples the ones before did not solve.
        subject: what error messages call the problem, a layer's name.
        row_names: the constraint each row of A belongs to, m names (or none).
        column_names: the variable each column belongs to, n names (or none).
        checks: what the declaration promises of the parameters.
        tolerance: relative residual within which a sample counts as solved.
        on_failure: "raise", or "nan" or "keep", which leave failures to the status.
        handle: the integer that names this plan in this process.

    Raises:
        ValueError: no solver, a tolerance that is not positive, or an unknown
            `on_failure`.
    """

    structure: ConeProgramStructure
    solvers: tuple[Solver, ...]
    subject: str = "the problem"
    row_names: tuple[str, ...] = ()
    column_names: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    tolerance: float = DEFAULT_TOLERANCE
    on_failure: OnFailure = "raise"
    handle: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.solvers:
            raise ValueError("a plan needs at least one solver.")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance={self.tolerance!r}: give a number above zero.")
        if self.on_failure not in ("raise", "nan", "keep"):
            raise ValueError(
                f'on_failure={self.on_failure!r}: give "raise", "nan" or "keep".'
            )
        object.__setattr__(self, "handle", keep(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, in this process or another, is a plan of its own with its own number.
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return (_make, (given,))


def keep(plan: Any) -> int:
    """A number by which `plan_of` finds a plan for as long as its owner keeps it."""
    handle = next(_numbers)
    with _lock:
        _plans[handle] = plan
    return handle


def plan_of(handle: int) -> Any:
    """The living plan of that number: a `Plan`, or that of another kind of program.

    Raises:
        OptlayersError: its owner is gone.
    """
    with _lock:
        plan = _plans.get(handle)
    if plan is None:
        raise OptlayersError(
            f"plan {handle} no longer exists: the layer that made it was deleted. "
            "Keep the layer alive for as long as compiled or captured code calls it."
        )
    return plan


def sample_ndims(structure: ConeProgramStructure) -> list[int]:
    """Axes of one sample of each of `ConeProgram.tensors()`: P (if any), q, A, b."""
    A = 2 if structure.A_positions is None else 1
    P = 2 if structure.P_positions is None else 1
    return [*([P] if structure.has_quadratic else []), 1, A, 1]


def _make(given: dict[str, Any]) -> Plan:
    return Plan(**given)
