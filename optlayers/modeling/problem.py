"""A function whose signature declares fields, traced once per set of sizes."""

import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import nn

from optlayers.errors import DeclarationError, OptlayersError
from optlayers.modeling.capture import Captures, mentions, referenced
from optlayers.modeling.declaration import (
    Declaration,
    attribute_constraints,
    field_expression,
)
from optlayers.modeling.differential import integrate
from optlayers.modeling.dynamics import dynamics_of
from optlayers.modeling.equations import check_equations
from optlayers.modeling.expressions import Expression, call_module, call_torch
from optlayers.modeling.fields import RESERVED, BoundField, Field, Role
from optlayers.modeling.goals import NOT_OPTIMIZED, Goal
from optlayers.modeling.origin import Origin
from optlayers.modeling.poses import Pose
from optlayers.modeling.rendering import render_latex, render_text
from optlayers.modeling.sizes import check_sizes, infer_sizes
from optlayers.modeling.time_names import SAVE_TIMES, check_names
from optlayers.modeling.tracing import Body, tracing

__all__ = ["Declaration", "DeclaredProblem", "declare"]


class DeclaredProblem:
    """A problem as its author wrote it, sizes still by name.

    Attributes:
        name: name of the declaring function.
        function: that function; it is run once per set of sizes.
        fields: the fields, in order of the signature; the save times of a differential
            equation without a Time field come last.
        convex: whether the author insists on convexity; None leaves it open.
        geometric: whether it is a geometric program, of positive variables.
        parameter_names: the fields a call gives, in order.
        variable_names: the fields the solver chooses, in order.
        dimension_names: the named sizes, in the order they are first met.
        pattern_sizes: those that patterns fix.
        is_continuous: whether it ends with integrate, so that a State has a value at
            every time and a Control is given.
        uses_stages: whether it has a State or Control at stages, so that steps= is
            needed.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        fields: Mapping[str, Field],
        convex: bool | None = None,
        geometric: bool = False,
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "problem")
        self.is_continuous = mentions(function, integrate)
        self.fields = dict(fields)
        if self.is_continuous:
            check_names(_place(function), fields)
            if not any(one.role is Role.TIME for one in fields.values()):
                self.fields[SAVE_TIMES] = Field(Role.TIME)
        self.convex = convex
        self.geometric = geometric
        self._written = tuple(fields)
        # Not cached properties: these lock on Python 3.11, and torch.compile cannot
        # trace a lock when a layer is met for the first time.
        declared = self.fields.items()
        given = {Role.PARAMETER, Role.TIME}
        given |= {Role.CONTROL} if self.is_continuous else set()
        self.parameter_names = tuple(n for n, one in declared if one.role in given)
        self.variable_names = tuple(n for n, one in declared if one.role not in given)
        sizes = (name for _, one in declared for name in one.dimension_names)
        self.dimension_names = tuple(dict.fromkeys(sizes))
        self.pattern_sizes = infer_sizes(self.name, self.fields, {}, {})
        is_staged = any(one.role.is_staged for _, one in declared)
        self.uses_stages = is_staged and not self.is_continuous
        self.__wrapped__ = function
        self.__name__ = self.name
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self.__module__ = getattr(function, "__module__", "__main__")
        self.__doc__ = function.__doc__
        self._declarations: dict[Any, Declaration] = {}
        self._lock = threading.RLock()

    @property
    def is_sized(self) -> bool:
        """Whether all sizes are numbers, so that it can be traced as it stands."""
        is_known = all(name in self.pattern_sizes for name in self.dimension_names)
        return is_known and not self.uses_stages

    @property
    def traced(self) -> tuple[Declaration, ...]:
        """The declarations of the sizes met so far."""
        return tuple(self._declarations.values())

    def captured(self) -> dict[str, nn.Parameter | nn.Module]:
        """Parameters and modules that the body speaks of, by their registered name.

        Includes what earlier traces met beyond the names in the body's code.
        """
        found = dict(referenced(self.function))
        for declaration in list(self._declarations.values()):
            for name, value in declaration.captured.items():
                found.setdefault(name, value)
        return found

    def trace(
        self, sizes: Mapping[str, int] | None = None, steps: int | None = None
    ) -> Declaration:
        """Run the body at these sizes; once per set of sizes, from any thread.

        Args:
            sizes: size of every named dimension.
            steps: number of steps, where there are stages.

        Raises:
            DeclarationError: a size is missing, or the body is no declaration.
            ShapeError: shapes in the body do not fit.
        """
        given = {**self.pattern_sizes, **(sizes or {})}
        known = check_sizes(self.name, self.dimension_names, given)
        infer_sizes(self.name, self.fields, {}, known)
        steps = self._check_steps(steps)
        objects = referenced(self.function)
        marks = tuple(id(one) for one in objects.values())
        key = (tuple(sorted(known.items())), steps, marks)
        with self._lock:
            if key not in self._declarations:
                self._declarations[key] = self._run(known, steps, objects)
            return self._declarations[key]

    def infer_sizes(
        self, shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, int]
    ) -> dict[str, int]:
        """The sizes that parameters of these shapes imply, with those known before.

        Args:
            shapes: shape of each given parameter, [*batch, *declared].
            known: sizes given by name.

        Raises:
            ShapeError: shapes contradict the declaration, each other, or `known`.
        """
        return infer_sizes(self.name, self.fields, shapes, known)

    def _check_steps(self, steps: int | None) -> int | None:
        if not self.uses_stages:
            return None
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise DeclarationError(
                f"{self.name} declares stages and needs steps, a positive integer; "
                f"given {steps!r}. Write {self.name}.layer(steps=20)."
            )
        return steps

    def _run(
        self,
        sizes: Mapping[str, int],
        steps: int | None,
        objects: Mapping[str, nn.Parameter | nn.Module],
    ) -> Declaration:
        bound = {n: one.bind(n, sizes, steps) for n, one in self.fields.items()}
        values = {name: field_expression(one) for name, one in bound.items()}
        captures = Captures(objects)
        given = {n: _in_the_body(bound[n], values[n]) for n in self._written}
        with tracing(Body(captures, call_module, call_torch)):
            goal = self.function(**given)
        if not isinstance(goal, Goal):
            raise DeclarationError(self._not_a_goal(goal))
        self._check_sense(goal.sense)
        dynamics = None
        if goal.sense == "solve":
            check_equations(self.name, goal.constraints, bound)
        elif goal.sense == "integrate":
            dynamics = dynamics_of(self.name, goal.constraints, goal.events, bound)
        implied = [
            constraint
            for name, one in bound.items()
            for constraint in attribute_constraints(one, values[name])
        ]
        constraints = (*goal.constraints, *implied)
        self._check_names((*constraints, *goal.events))
        return Declaration(
            self.name,
            goal.sense,
            goal.objective,
            constraints,
            bound,
            dict(sizes),
            steps,
            captures.objects,
            dynamics,
        )

    def _check_sense(self, sense: str) -> None:
        place = _place(self.function)
        for word, is_asked in (("convex", self.convex), ("geometric", self.geometric)):
            if is_asked and sense in NOT_OPTIMIZED:
                raise DeclarationError(
                    f"{place}: {self.name} is {NOT_OPTIMIZED[sense]}, which "
                    f"{word}=True says nothing of; drop it."
                )
        if self.is_continuous and sense != "integrate":
            raise DeclarationError(
                f"{place}: {self.name} speaks of integrate and ends with {sense}; a "
                "State means a value at a time in the one and at stages in the other. "
                "Write two declarations."
            )
        if sense == "integrate" and not self.is_continuous:
            raise DeclarationError(
                f"{place}: {self.name} ends with an integrate that is not found in its "
                "code; call it by its own name there, imported where the file begins."
            )

    def _check_names(self, named: tuple[Any, ...]) -> None:
        seen: set[str] = set()
        for one in named:
            if one.name in seen:
                raise DeclarationError(
                    f"{one.origin.place}: two constraints of {self.name} are named "
                    f"{one.name}; rename the one you wrote."
                )
            seen.add(one.name)

    def _not_a_goal(self, returned: Any) -> str:
        place = _place(self.function)
        if returned is None:
            what = "returns nothing; did you forget `return`?"
        else:
            kind = type(returned).__name__
            what = f"returns {'an' if kind[0] in 'AEIO' else 'a'} {kind}."
        return (
            f"{place}: {self.name} {what}\n  End it with return minimize(objective, "
            "constraint, ...), maximize(...), solve(equation, ...) or integrate(...)."
        )

    def __str__(self) -> str:
        return render_text(self)

    def _repr_latex_(self) -> str:
        return render_latex(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> str:
        # By reference, as functions are: a declaration is code, not state.
        module = sys.modules.get(self.__module__)
        found: Any = module
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is not self and getattr(found, "declared", None) is not self:
            raise OptlayersError(
                f"{self.__qualname__} cannot be pickled: it is not found under that "
                f"name in module {self.__module__}. Declare it at module level."
            )
        return self.__qualname__

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={one.text}" for name, one in self.fields.items())
        return f"{self.name}({fields})"


def declare(
    function: Callable[..., Any],
    *,
    convex: bool | None = None,
    geometric: bool = False,
) -> DeclaredProblem:
    """Read a signature as a declaration; run the body if all sizes are numbers.

    Args:
        function: its arguments default to fields; it ends with one of the verbs,
            minimize, maximize, feasible, solve or integrate.
        convex: True makes "not convex" an error.
        geometric: True declares a geometric program.

    Raises:
        DeclarationError: an argument that is no field, a reserved name, or an error in
            a body whose sizes are all numbers.
    """
    if not callable(function) or isinstance(function, type):
        raise DeclarationError(
            f"ol.problem decorates a function, not {function!r}; write\n"
            "  @ol.problem\n  def project(x=Variable(...), y=Parameter(...)): ..."
        )
    fields = _read_signature(function)
    problem = DeclaredProblem(function, fields, convex, geometric)
    if problem.is_sized:
        problem.trace({}, None)
    return problem


def _in_the_body(field: BoundField, value: Expression) -> Expression | Pose:
    """What the argument of a field stands for."""
    return value if field.group is None else Pose(field.group, value)


def _read_signature(function: Callable[..., Any]) -> dict[str, Field]:
    place, fields = _place(function), {}
    for name, argument in inspect.signature(function).parameters.items():
        if not isinstance(argument.default, Field):
            raise DeclarationError(f"{place}: {_no_field(name, argument)}")
        fields[name] = argument.default
    if not any(one.role.is_variable for one in fields.values()):
        raise DeclarationError(
            f"{place}: nothing to solve for; declare a Variable, State or Control."
        )
    for name, one in fields.items():
        _check_reserved(place, name, f"the field {name}={one.text}")
        for dimension in one.dimension_names:
            what = f"the dimension {dimension!r} of {name}={one.text}"
            _check_reserved(place, dimension, what)
            if dimension in fields:
                raise DeclarationError(
                    f"{place}: {what} has the name of a field; layer({dimension}=...) "
                    "could mean either. Rename one."
                )
    return fields


def _no_field(name: str, argument: inspect.Parameter) -> str:
    if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
        return f"{argument} cannot be a field; declare each field by name."
    if argument.default is argument.empty:
        return f'{name} declares nothing; write {name}=Parameter("n") or the like.'
    if isinstance(argument.default, type) or callable(argument.default):
        shown = getattr(argument.default, "__name__", "it")
        return f"{name}={shown} is not called; write {name}={shown}()."
    return (
        f"{name}={argument.default!r} is no field; use the value in the body, or "
        f"declare {name}=Parameter() and bind it with layer({name}=...)."
    )


def _check_reserved(place: str, name: str, what: str) -> None:
    if name in RESERVED:
        raise DeclarationError(
            f"{place}: {what} takes a reserved name; options and results of layers are "
            f"{', '.join(sorted(RESERVED))}. Rename it."
        )


def _place(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return getattr(function, "__name__", "the problem")
    return Origin(code, 0).declaration_place
