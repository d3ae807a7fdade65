"""From expressions to cvxpy, a trajectory as one variable [knots, *shape].

A staged expression is lowered on its whole window, stage axis first, and sliced where
it is combined; only an operation without a staged twin is lowered stage by stage.
"""

from collections.abc import Sequence

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from cvxpy.constraints.nonpos import Inequality
from cvxpy.constraints.zero import Equality

from optlayers.compile.atoms import TWINS, TwinRefused
from optlayers.compile.columns import (
    entry_numbers,
    full_shape,
    is_triangular,
    window,
)
from optlayers.compile.conic import Piece, conic, entrywise
from optlayers.compile.cvxpy_private import SignedParameter, SignedVariable
from optlayers.compile.leaves import LeafTable
from optlayers.compile.parametric import Parametrics
from optlayers.compile.sparse import SparseForm
from optlayers.compile.staged_atoms import NoStagedTwin, staged_twin
from optlayers.errors import NotConvex
from optlayers.modeling.cones import cone_names
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.expressions import Expression
from optlayers.modeling.fields import BoundField
from optlayers.modeling.inference import quoted
from optlayers.modeling.signs import Sign


class Lowering:
    """Lowers the expressions of one declaration, each once.

    Attributes:
        variables: the cvxpy variable of each declared one, as they are met.
        parameters: the cvxpy parameter of each leaf met, by the leaf's number.
        auxiliary: auxiliary variables and their constraints, in order of creation.
    """

    def __init__(self, leaves: LeafTable, parametrics: Parametrics) -> None:
        self.leaves = leaves
        self.parametrics = parametrics
        self.variables: dict[str, SignedVariable] = {}
        self.parameters: dict[int, SignedParameter] = {}
        self.auxiliary: list[tuple[SignedVariable, cp.Constraint]] = []
        self._lowered: dict[Expression, cp.Expression] = {}

    def lower(self, e: Expression) -> cp.Expression:
        """The cvxpy expression, [*shape], or [stages, *shape] if it is staged."""
        known = self._lowered.get(e)
        if known is None:
            known = self._lowered[e] = self._lower(e)
        return known

    def assume(self, e: Expression, lowered: cp.Expression) -> None:
        """Take an expression for lowered already."""
        self._lowered[e] = lowered

    def constraint(
        self, constraint: Constraint, left: Expression, right: Expression
    ) -> list[Piece]:
        """The cvxpy constraints of two prepared sides, in the constraint's own shape.

        Raises:
            NotConvex: what lies in a cone is not affine.
        """
        if constraint.cone is not None:
            return self._membership(constraint, left, right)
        shape, lead = constraint.shape, _lead(constraint)
        left_side, right_side = self._sides(constraint, left, right)
        if np.broadcast_shapes(left_side.shape, right_side.shape) != lead + shape:
            left_side = cp.broadcast_to(left_side, lead + shape)
        # Not the operators: Python lets the right operand answer first where its class
        # is derived from the left one's, and cvxpy then swaps the sides.
        if constraint.relation == "==":
            return [entrywise(Equality(left_side, right_side), lead + shape)]
        cone = _norm_cone(left_side, right_side)
        lowered = Inequality(left_side, right_side) if cone is None else cone
        return [entrywise(lowered, lead + shape)]

    def _membership(
        self, constraint: Constraint, left: Expression, right: Expression
    ) -> list[Piece]:
        """left in a cone, or right - left."""
        cone, whole = constraint.cone, _lead(constraint) + constraint.shape
        assert cone is not None
        e = self.on_stages(left, constraint.stages)
        if constraint.relation == "<<":
            left_side, right_side = self._sides(constraint, left, right)
            e = right_side if left_side.is_zero() else right_side - left_side
        if e.shape != whole:
            e = cp.broadcast_to(e, whole)
        is_affine = e.is_affine()
        if not is_affine and not (cone_names(cone) == {"nonneg"} and e.is_concave()):
            raise NotConvex(
                f"{constraint.origin.place}: `{constraint.origin.text}`: what lies in "
                "a cone has to be affine in the variables."
            )
        return conic(cone, e)

    def _sides(
        self, constraint: Constraint, left: Expression, right: Expression
    ) -> list[cp.Expression]:
        """Both sides on the stages of a constraint, with all axes where staged."""
        shape, lead, sides = constraint.shape, _lead(constraint), []
        for one in (left, right):
            side = self.on_stages(one, constraint.stages)
            if one.is_staged and one.ndim < len(shape):
                padded = (1,) * (len(shape) - one.ndim) + one.shape
                side = cp.reshape(side, lead + padded, order="C")
            sides.append(side)
        return sides

    def variable(self, field: BoundField, expression: Expression) -> cp.Expression:
        """The declared variable, [*full_shape]; a symmetric one from its triangle."""
        shape, numbers = full_shape(field), None
        if is_triangular(field):
            numbers = entry_numbers(field)
            shape = (int(numbers.max()) + 1,)
        known = SignedVariable(shape, field.name, expression.sign)
        self.variables[field.name] = known
        if numbers is None:
            return known
        size = numbers.size
        spread = sp.csr_array(
            (np.ones(size), (np.arange(size), numbers.ravel())), (size, shape[0])
        )
        matrix = cp.reshape(spread @ known, numbers.shape, order="C")
        return cp.symmetric_wrap(matrix) if matrix.ndim == 2 else matrix

    # ---- one node --------------------------------------------------------------------

    def _lower(self, e: Expression) -> cp.Expression:
        if not e.depends_on_variables:
            return self._parameter(e)
        if e.name == "field":
            return self.variable(e.options["field"], e)
        if e.name == "auxiliary":
            return self._auxiliary(e)
        return self._structure(e) if e.name in _STRUCTURAL else self._atom(e)

    def _structure(self, e: Expression) -> cp.Expression:
        (argument,) = e.arguments
        return _STRUCTURAL[e.name](e, argument, self.lower(argument))

    def _is_affine_in_leaves(self, e: Expression) -> bool:
        if e.name == "multiply":
            return any(map(self.parametrics.is_constant, e.arguments))
        return e.name in ("negate", "add", "transpose", "index")

    def _parameter(self, e: Expression) -> cp.Expression:
        form = self.parametrics.sparse(e)
        if form is not None:
            return self._sparse(form)
        if e.name == "matmul" and any(map(self.parametrics.sparse, e.arguments)):
            product = self.parametrics.derive(
                torch.matmul, *e.arguments, shape=e.shape, sign=e.sign
            )
            return self.lower(product)
        if self.parametrics.is_constant(e):
            return cp.Constant(self.parametrics.array(e))
        if self._is_affine_in_leaves(e):
            # Left to the affine maps, which cost nothing more, rather than to torch.
            return self._atom(e) if e.name in TWINS else self._structure(e)
        position = self.leaves.position(e)
        known = self.parameters.get(position)
        if known is None:
            known = self.parameters[position] = SignedParameter(
                e.shape, f"leaf_{position}", e.sign, self.parametrics.is_symmetric(e)
            )
        return known

    def _sparse(self, form: SparseForm) -> cp.Expression:
        """A sparse matrix: scipy's if it is constant, else its entries put in place."""
        pattern, (m, n) = form.pattern, form.pattern.shape
        if self.parametrics.is_constant(form.values):
            return cp.Constant(pattern.compressed(self.parametrics.array(form.values)))
        factor, values = self.parametrics.peel(form.values)
        places = pattern.rows.numpy() + m * pattern.cols.numpy()
        entries = (np.full(pattern.size, factor), (places, np.arange(pattern.size)))
        spread = sp.csc_array(entries, shape=(m * n, pattern.size))
        return cp.reshape(spread @ self.lower(values), (m, n), order="F")

    def _auxiliary(self, e: Expression) -> cp.Expression:
        (argument,) = e.arguments
        value = self.lower(argument)
        name = f"auxiliary_{len(self.auxiliary)}"
        if value.is_affine() or not value.is_concave():
            variable = SignedVariable(value.shape, name, e.sign)
            kind = Equality if value.is_affine() else Inequality
            relation = kind(value, variable)
        else:
            # Held below only, it need not have the sign of what it stands for.
            variable = SignedVariable(value.shape, name, Sign.UNKNOWN)
            relation = Inequality(variable, value)
        self.auxiliary.append((variable, relation))
        return variable

    def _atom(self, e: Expression) -> cp.Expression:
        if e.name not in TWINS:
            raise NotConvex(_no_twin(e))
        arguments = [self.on_stages(one, e.stages) for one in e.arguments]
        staged = [one.is_staged for one in e.arguments]
        try:
            if not any(staged):
                return TWINS[e.name](*arguments, **e.options)
            try:
                return staged_twin(e.name, arguments, staged, e.options)
            except NoStagedTwin:
                return _stage_by_stage(e, arguments, staged)
        except (TwinRefused, cp.DCPError, ValueError, NotImplementedError) as reason:
            sentence = str(reason).strip().rstrip(".")
            raise NotConvex(f"{quoted(e)}: {sentence}.") from None

    def on_stages(self, e: Expression, stages: range | None) -> cp.Expression:
        """The lowered expression on some of its stages; as it is if it has none."""
        lowered = self.lower(e)
        if stages is None or e.stages is None or stages == e.stages:
            return lowered
        first = stages.start - e.stages.start
        return lowered[first : first + len(stages)]


def _stage_by_stage(
    e: Expression, arguments: Sequence[cp.Expression], staged: Sequence[bool]
) -> cp.Expression:
    results = [
        TWINS[e.name](
            *(
                one[stage] if is_staged else one
                for one, is_staged in zip(arguments, staged, strict=True)
            ),
            **e.options,
        )
        for stage in range(len(window(e)))
    ]
    return cp.stack(results, axis=0)


def _no_twin(e: Expression) -> str:
    place = quoted(e)
    if e.name == "module":
        return f"{place} calls a module on variables, of which nothing is known."
    if e.options.get("function") is torch.pow:
        return (
            f"{place} raises to a power that parameters decide, and so does its "
            "convexity. Give the exponent as a plain number; in a geometric program, "
            "@ol.problem(geometric=True), it may be a parameter."
        )
    name = getattr(e.options.get("function"), "__name__", e.name)
    return f"{place} applies torch.{name} to variables, of which no convexity is known."


# ---- structure -----------------------------------------------------------------------


def _index(e: Expression, argument: Expression, lowered: cp.Expression):
    lead = () if e.stages is None else (len(e.stages),)
    index = e.options["index"]
    if all(isinstance(entry, int | slice) for entry in index):
        return lowered[(*(slice(None) for _ in lead), *index)]
    size = int(np.prod(argument.shape, dtype=int))
    places = np.arange(size).reshape(argument.shape)[index]
    flat = cp.reshape(lowered, (*lead, size), order="C")
    chosen = flat[(*(slice(None) for _ in lead), places.ravel())]
    return cp.reshape(chosen, (*lead, *e.shape), order="C")


def _next(e: Expression, argument: Expression, lowered: cp.Expression):
    first = window(e).start + e.options["shift"] - window(argument).start
    return lowered[first : first + len(window(e))]


def _at(e: Expression, argument: Expression, lowered: cp.Expression):
    return lowered[e.options["stage"] - window(argument).start]


def _stages(e: Expression, argument: Expression, lowered: cp.Expression):
    index = e.options["index"]
    return lowered[list(index) if isinstance(index, tuple) else index]


def _total(e: Expression, argument: Expression, lowered: cp.Expression):
    return cp.sum(lowered, axis=0)


_STRUCTURAL = {
    "index": _index,
    "next": _next,
    "at": _at,
    "stages": _stages,
    "total": _total,
}


def _lead(constraint: Constraint) -> tuple[int, ...]:
    """The axis of stages, if there is one."""
    return () if constraint.stages is None else (len(constraint.stages),)


def _norm_cone(left: cp.Expression, right: cp.Expression) -> cp.Constraint | None:
    """|e| <= r as one cone (r, e), whose first dual is the multiplier; else None.

    cvxpy would bound |e| by a new variable, which is free, and J singular, wherever the
    limit is not active.
    """
    if not isinstance(left, cp.Pnorm) or left.p != 2 or left.axis is not None:
        return None
    (inside,) = left.args
    if not (inside.is_affine() and right.is_affine() and right.is_scalar()):
        return None
    return cp.SOC(right, cp.vec(inside, order="C"))
