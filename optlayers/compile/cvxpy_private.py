"""All that is used of cvxpy beyond its public face, verified on cvxpy 1.9.

`tests/compile/test_cvxpy_assumptions.py` holds a test on each assumption made here, so
that an upgrade fails there first.
"""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
from cvxpy.constraints.power import PowConeND
from cvxpy.reductions.cone2cone.exact import ExactCone2Cone
from cvxpy.reductions.dcp2cone.dcp2cone import Dcp2Cone
from cvxpy.reductions.solvers.solving_chain import resolve_and_build_chain

from optlayers.modeling.signs import Sign

# cvxpy numbers its objects with a counter that is not protected: two threads could give
# two variables one number. Whoever builds cvxpy objects holds this lock.
CVXPY_LOCK = threading.RLock()

# Measured on an MPC with 124 rows (1.9.3): COO 4.5 ms, the default 5.7 ms; COO is also
# the one backend that takes three axes and thousands of parameter entries.
BACKEND = "COO"


class SignedVariable(cp.Variable):
    """A variable whose sign is known to the rules of convexity.

    cvxpy's own `nonneg=True` would turn the bound into a constraint without a
    multiplier; here the bound is an explicit constraint and only its sign is told.
    """

    def __init__(self, shape: tuple[int, ...], name: str, sign: Sign) -> None:
        self.known_sign = sign
        super().__init__(shape, name=name)

    def is_nonneg(self) -> bool:
        """Whether every entry is known to be at least zero."""
        return self.known_sign.is_nonneg

    def is_nonpos(self) -> bool:
        """Whether every entry is known to be at most zero."""
        return self.known_sign.is_nonpos


class SignedParameter(cp.Parameter):
    """A parameter whose sign and symmetry are known to the rules of convexity.

    cvxpy's own attributes would check values that it never sees here, and a symmetric
    parameter would be replaced by one of another shape.
    """

    def __init__(
        self, shape: tuple[int, ...], name: str, sign: Sign, is_square_symmetric: bool
    ) -> None:
        self.known_sign = sign
        self.known_symmetric = is_square_symmetric
        super().__init__(shape, name=name)

    def is_nonneg(self) -> bool:
        """Whether every entry is known to be at least zero."""
        return self.known_sign.is_nonneg

    def is_nonpos(self) -> bool:
        """Whether every entry is known to be at most zero."""
        return self.known_sign.is_nonpos

    def is_symmetric(self) -> bool:
        """Whether it equals its transpose."""
        return self.known_symmetric or super().is_symmetric()

    def is_hermitian(self) -> bool:
        """Whether it equals its transpose; all is real here."""
        return self.is_symmetric()


class Entries(NamedTuple):
    """Coefficients of a matrix that is affine in cvxpy's parameter vector.

    Attributes:
        rows, cols: position of each coefficient in the matrix, int64 [k].
        parameters: which entry of the parameter vector it multiplies, int64 [k].
        values: the coefficient, [k].
    """

    rows: np.ndarray
    cols: np.ndarray
    parameters: np.ndarray
    values: np.ndarray


class ConeForm(NamedTuple):
    """A cvxpy problem as minimize x'Px/2 + q'x + d subject to A x + s = b, s in K.

    Attributes:
        size, rows: numbers n and m of columns and rows of A.
        P, q, d, A, b: coefficients; vectors are matrices of one column.
        parameter_size: entries of the parameter vector, the last being the constant 1.
        first_column: by id of a variable, its first column (its entries in F order).
        first_parameter: by id of a parameter, its first entry (F order too).
        first_row: by id of a user's constraint, its first row (F order).
        row_owners: for every row the index of the constraint it came from; -1 is the
            objective.
        column_owners: the same for columns of auxiliary variables; -2 elsewhere.
        zero, nonneg, soc, psd, exp, power: sizes of the cones, in row order.
    """

    size: int
    rows: int
    P: Entries
    q: Entries
    d: Entries
    A: Entries
    b: Entries
    parameter_size: int
    first_column: Mapping[int, int]
    first_parameter: Mapping[int, int]
    first_row: Mapping[int, int]
    row_owners: np.ndarray
    column_owners: np.ndarray
    zero: int
    nonneg: int
    soc: tuple[int, ...]
    psd: tuple[int, ...]
    exp: int
    power: tuple[float, ...]


def problem_of(
    objective: cp.Minimize | cp.Maximize, constraints: Sequence[cp.Constraint]
) -> cp.Problem:
    """A problem, without cvxpy's advice to vectorize code that the user did not write.

    Call it under `CVXPY_LOCK`.
    """
    with _without_advice():
        return cp.Problem(objective, list(constraints))


def is_dpp(problem: cp.Problem) -> bool:
    """Whether cvxpy keeps the parameters of the problem symbolic."""
    checked: Any = problem  # its stub, compute_once, hides the arguments
    return checked.is_dpp(quad_form_dpp="qp")


def is_convex_operation(expression: Any) -> bool:
    """Whether the outermost operation of an expression is convex."""
    return expression.is_atom_convex()


def cone_form(problem: cp.Problem) -> ConeForm:
    """Reduce a minimization that is convex and DPP to its conic data.

    Parameters need no values. Nothing is solved. Call it under `CVXPY_LOCK`.
    """
    if not problem.variables():
        return _empty_form(problem)
    with _without_advice():
        return _cone_form(problem)


def _cone_form(problem: cp.Problem) -> ConeForm:
    chain = resolve_and_build_chain(
        problem,
        cp.CLARABEL,
        enforce_dpp=True,
        canon_backend=BACKEND,
        solver_opts={"use_quad_obj": True},
    )
    reduced, owners = problem, {}
    # Clarabel takes power cones of any length; those of three rows are what has a
    # projection here.
    split = ExactCone2Cone(target_cones={PowConeND})
    *reductions, stuffing, solver = chain.reductions
    final = {constraint.id: constraint.id for constraint in problem.constraints}
    for reduction in (*reductions, split, stuffing):
        if reduction is split and not _has_long_power_cones(reduced):
            continue
        before = reduced
        if isinstance(reduction, Dcp2Cone):
            # Told of Clarabel's power cones it warns of geo_mean; the second-order
            # cones it chooses are what this version solves, and exact for fractions.
            reduction.solver_context = None
        reduced, _ = reduction.apply(before)
        names = reduction.cons_id_map
        final = {given: names.get(last, last) for given, last in final.items()}
        if isinstance(reduction, Dcp2Cone):
            owners = _owners(before, reduced, names)
        else:
            owners = {names.get(old, old): owner for old, owner in owners.items()}
    formatted = solver.format_constraints(reduced, solver.EXP_CONE_ORDER)
    return _extract(problem, final, formatted, owners)


@contextmanager
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        advice = ".*contains too many subexpressions"
        warnings.filterwarnings("ignore", message=advice, category=UserWarning)
        yield


def _has_long_power_cones(problem: cp.Problem) -> bool:
    return any(isinstance(one, PowConeND) for one in problem.constraints)


def _owners(
    problem: cp.Problem, canonical: cp.Problem, names: Mapping[int, int]
) -> dict[int, int]:
    """Which constraint of `problem` each constraint of `canonical` came from.

    Dcp2Cone lists the auxiliary constraints of the objective first, then for every
    constraint its auxiliary ones followed by itself.
    """
    owners: dict[int, int] = {}
    waiting: list[cp.Constraint] = []
    position = {names[c.id]: k for k, c in enumerate(problem.constraints)}
    is_first = True
    for constraint in canonical.constraints:
        waiting.append(constraint)
        if constraint.id not in position:
            continue
        owner = position[constraint.id]
        of_objective = _of_objective(problem, canonical, waiting) if is_first else ()
        for one in waiting:
            owners[one.id] = -1 if one.id in of_objective else owner
        waiting, is_first = [], False
    owners.update((one.id, -1) for one in waiting)
    return owners


def _of_objective(
    problem: cp.Problem, canonical: cp.Problem, waiting: Sequence[cp.Constraint]
) -> set[int]:
    """Which of the auxiliary constraints hang on the objective's new variables."""
    if len(waiting) == 1:
        return set()
    given = {v.id for v in problem.variables()}
    reached = {v.id for v in canonical.objective.variables()} - given
    found: set[int] = set()
    while True:
        more = {
            c.id: {v.id for v in c.variables()} - given
            for c in waiting[:-1]
            if c.id not in found
        }
        new = [name for name, own in more.items() if own & reached]
        if not new:
            return found
        for name in new:
            found.add(name)
            reached |= more[name]


def _extract(
    problem: cp.Problem,
    final: Mapping[int, int],
    formatted: Any,
    owners: Mapping[int, int],
) -> ConeForm:
    n, m = formatted.x.size, formatted.constr_size
    sizes = [c.size for c in formatted.constraints]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    first = {c.id: int(s) for c, s in zip(formatted.constraints, starts, strict=False)}
    row_owners = np.repeat(
        np.array([owners.get(c.id, -1) for c in formatted.constraints], dtype=np.int64),
        sizes,
    )
    # The tensors stack columns of [A | b] and of [q; d] and squares of P; the data are
    # coefficients of A x + b in K, where ours are those of b - A x.
    stacked = _split(formatted.A, max(m, 1))
    is_b = stacked.cols == n
    linear = _split(formatted.q, n + 1)
    is_d = linear.rows == n
    cones = formatted.cone_dims
    return ConeForm(
        size=n,
        rows=m,
        P=_split(formatted.P, n),
        q=_where(linear, ~is_d),
        d=_where(linear, is_d)._replace(rows=np.zeros(int(is_d.sum()), np.int64)),
        A=_where(stacked, ~is_b)._replace(values=-stacked.values[~is_b]),
        b=_where(stacked, is_b)._replace(cols=np.zeros(int(is_b.sum()), np.int64)),
        parameter_size=formatted.total_param_size + 1,
        first_column=dict(formatted.var_id_to_col),
        first_parameter=dict(formatted.param_id_to_col),
        first_row={given: first[last] for given, last in final.items()},
        row_owners=row_owners,
        column_owners=_column_owners(problem, formatted, owners),
        zero=cones.zero,
        nonneg=cones.nonneg,
        soc=tuple(cones.soc),
        psd=tuple(cones.psd),
        exp=cones.exp,
        power=tuple(cones.p3d),
    )


def _split(tensor: Any, height: int) -> Entries:
    """Rows, columns, parameter and value of a tensor stored as stacked columns."""
    if tensor is None:
        nothing = np.zeros(0, np.int64)
        return Entries(nothing, nothing, nothing, np.zeros(0))
    coordinates = tensor.tocoo()
    flat = coordinates.row.astype(np.int64)
    kept = coordinates.data != 0
    cols, rows = np.divmod(flat[kept], height)
    return Entries(
        rows, cols, coordinates.col[kept].astype(np.int64), coordinates.data[kept]
    )


def _where(entries: Entries, chosen: np.ndarray) -> Entries:
    return Entries(*(one[chosen] for one in entries))


def _column_owners(
    problem: cp.Problem, formatted: Any, owners: Mapping[int, int]
) -> np.ndarray:
    columns = np.full(formatted.x.size, -2, dtype=np.int64)
    given = {v.id for v in problem.variables()}
    new = {v.id: v for v in formatted.variables if v.id not in given}
    if not new:
        return columns
    for constraint in formatted.constraints:
        for one in constraint.variables():
            if one.id in new:
                del new[one.id]
                start = formatted.var_id_to_col[one.id]
                owner = owners.get(constraint.id, -1)
                columns[start : start + one.size] = owner
    for one in new.values():
        start = formatted.var_id_to_col[one.id]
        columns[start : start + one.size] = -1
    return columns


def _empty_form(problem: cp.Problem) -> ConeForm:
    """The form of a problem in which no variable occurs: no column, no row."""
    assert not problem.constraints
    nothing = _split(None, 1)
    none = np.zeros(0, np.int64)
    return ConeForm(
        0, 0, nothing, nothing, nothing, nothing, nothing, 1,
        {}, {}, {}, none, none, 0, 0, (), (), 0, (),
    )  # fmt: skip
