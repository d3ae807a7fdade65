"""The nn.Module that a declared problem becomes.

A layer binds tensors, collects the parameters of a call, and hands them to the route
of its kind; it holds no state of the solve.
"""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from optlayers.errors import (
    DeclarationError,
    NotConvex,
    ShapeError,
    SolverRefused,
    UnknownName,
)
from optlayers.functional.options import OPTION_NAMES, SolveOptions
from optlayers.interfaces import Kind
from optlayers.layers.binding import check_admissible, constrain
from optlayers.layers.convex import Compiled
from optlayers.layers.explanation import Explanation
from optlayers.layers.explanation.build import explain
from optlayers.layers.given import tensor_of
from optlayers.layers.in_cvxpy import in_cvxpy
from optlayers.layers.parameters import parameters_of
from optlayers.layers.patterned import bound_entries
from optlayers.layers.result import Result
from optlayers.layers.routes import ROUTES, Route, route_of
from optlayers.layers.starts import named_starts
from optlayers.layers.unknown_parameter import unknown_parameter
from optlayers.layers.warm_start import starts_of

if TYPE_CHECKING:
    from optlayers.layers.problem import Problem


class Layer(nn.Module):
    """A batched, differentiable layer whose output solves the declared problem.

    Call it with every parameter that was not bound, by name or in declared order; each
    takes any number of leading batch dimensions, which broadcast against each other.

    Attributes:
        problem: the declaration it was made of.
        options: the options of every call that does not override them.
        sizes: the dimensions known so far.
        steps: the number of stages, or None.
    """

    def __init__(self, problem: "Problem", **bound: Any) -> None:
        super().__init__()
        declared = problem.declared
        options = {name: bound.pop(name) for name in OPTION_NAMES if name in bound}
        self.problem = problem
        self.options = SolveOptions(**self._warmed(options))
        self.steps: int | None = _count("steps", bound.pop("steps", None))
        self.sizes = {
            name: _count(name, bound.pop(name))
            for name in declared.dimension_names
            if name in bound
        }
        self._check_stages()
        self._weak: frozenset[str] = frozenset()
        self._bound: dict[str, str] = {}
        self._captured: dict[str, str] = {}
        self._bind(bound)
        self._capture()
        self._prepare_routes()
        shapes = {name: tuple(self._read(name).shape) for name in self._bound}
        self.sizes = declared.infer_sizes(shapes, self.sizes)
        if self._sizes_known() and self._has_route():
            self._route(self.sizes, self.options.asked).prepare(self.options)

    # ---- what a user reads -------------------------------------------------------

    @property
    def kind(self) -> Kind:
        """Which kind of problem the declaration is."""
        return self._classify()[0]

    @property
    def why(self) -> str:
        """Why the declaration was routed to its kind."""
        return self._classify()[1]

    def explain(self) -> Explanation:
        """The tree of reasons at this layer's sizes, with its options.

        Raises:
            DeclarationError: a size is not known yet.
        """
        self._check_sizes_known()
        return explain(self.problem, self.sizes, self.steps, self.options)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The parameters a call must give, in order."""
        declared = self.problem.declared.parameter_names
        return tuple(name for name in declared if name not in self._bound)

    def bound(self) -> dict[str, Tensor]:
        """The present values of the bound parameters, by name."""
        return {name: self._read(name) for name in self._bound}

    def forward(self, *values: Any, **named: Any) -> Result:
        """Solve one batch.

        Args:
            *values: parameters in declared order, each [*batch, *declared shape].
            **named: parameters by name, and options for this call alone.

        Raises:
            ParameterError: a parameter is missing, unknown, or of another dtype or
                device than the rest.
            ShapeError: a shape does not fit the declaration or the other parameters.
            InvalidDataError: values break the declaration (`on_failure="raise"`).
            SolveError: some samples have no solution (`on_failure="raise"`).
            SolverRefused: no solver takes this program.
        """
        options = {name: named.pop(name) for name in OPTION_NAMES if name in named}
        parameters = self._collect(values, named)
        if torch.compiler.is_compiling():
            hints = ("warm_start", "starts", "all_starts")
            cold = {name: one for name, one in options.items() if name not in hints}
            self._ready(self._shapes_of(parameters), **cold)
        chosen = self.options.replace(**self._warmed(options))
        route = self._route_for(parameters, chosen)
        if chosen.is_hinted:
            chosen.check_kind(route.template.kind)
        return route(parameters, self._met(), chosen)

    def compiled(self, *values: Any, **named: Any) -> Compiled:
        """The cone programs that a call with these parameters solves.

        Differentiable in the parameters: what another solver, or a comparison, needs.

        Args:
            *values: parameters in declared order, as in the call.
            **named: parameters by name, as in the call.
        """
        parameters = self._collect(values, named)
        route = self._route_for(parameters, self.options)
        return route.compiled(parameters, self._met())

    def to_cvxpy(self, *values: Any, **named: Any) -> Any:
        """The declared problem at these parameter values as a plain `cvxpy.Problem`.

        Its variables are in `problem.var_dict` by name; its constraints stand in
        declared order, labelled by name. A geometric program is solved there with
        `gp=True`.

        Args:
            *values: parameters of one sample in declared order.
            **named: parameters by name.

        Raises:
            ShapeError: a batch, where one sample is meant.
            NotConvex: an atom without a counterpart in cvxpy.
        """
        parameters = self._collect(values, named)
        return in_cvxpy(self, parameters, self._met())

    def extra_repr(self) -> str:
        """One line for print(model)."""
        sizes = [f"{name}={size}" for name, size in self.sizes.items()]
        steps = [] if self.steps is None else [f"steps={self.steps}"]
        calls = f"call: {', '.join(self.parameter_names) or 'nothing'}"
        return ", ".join([self.problem.__name__, *steps, *sizes, calls])

    # ---- construction ------------------------------------------------------------

    def _check_stages(self) -> None:
        declared = self.problem.declared
        if declared.uses_stages and self.steps is None:
            raise DeclarationError(
                f"{declared.name} declares stages: give their number, as in "
                f"{declared.name}.layer(steps=20)."
            )
        if declared.is_continuous and self.steps is not None:
            raise DeclarationError(
                f"{declared.name} is a differential equation, and the save times of a "
                "call say how many values are wanted: drop steps=."
            )
        if not declared.uses_stages and self.steps is not None:
            raise DeclarationError(
                f"{declared.name} declares no State or Control: drop steps=."
            )

    def _bind(self, bound: Mapping[str, Any]) -> None:
        declared = self.problem.declared
        weak = set()
        for name, value in bound.items():
            if name not in declared.parameter_names:
                raise UnknownName(unknown_parameter(self.problem.declared, name))
            attribute = name if not hasattr(self, name) else f"{name}_"
            self._bound[name] = attribute
            if declared.fields[name].pattern is not None:
                weak |= set() if isinstance(value, Tensor) else {name}
                value = bound_entries(name, declared.fields[name], value)
            if isinstance(value, nn.Parameter):
                constraint = constrain(declared.fields[name])
                check_admissible(name, declared.fields[name], value)
                self.register_parameter(attribute, constraint.raw(value))
                continue
            if not isinstance(value, Tensor):
                weak.add(name)
            self.register_buffer(attribute, tensor_of(name, value).detach())
        self._weak = frozenset(weak)

    def _warmed(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options with the values of starts, whatever gave them."""
        declared = self.problem.declared
        readers = {"warm_start": starts_of, "starts": named_starts}
        found = {
            name: read(declared.name, declared.variable_names, options[name])
            for name, read in readers.items()
            if options.get(name) is not None
        }
        return {**options, **found}

    def _capture(self) -> None:
        for name, met in self.problem.declared.captured().items():
            if name in self._captured:
                continue
            attribute = name if not hasattr(self, name) else f"{name}_"
            self._captured[name] = attribute
            setattr(self, attribute, met)

    def _prepare_routes(self) -> None:
        self._routes: dict[Any, Route] = {}
        self._lock = threading.RLock()

    def _met(self) -> dict[str, Any]:
        """Parameters and modules met in the declaration, as this layer owns them."""
        return {
            name: getattr(self, attribute) for name, attribute in self._captured.items()
        }

    def _read(self, name: str) -> Tensor:
        value = getattr(self, self._bound[name])
        if isinstance(value, nn.Parameter):
            return constrain(self.problem.declared.fields[name]).read(value)
        return value

    # ---- one call ----------------------------------------------------------------

    def _collect(self, values: tuple, named: dict[str, Any]) -> dict[str, Tensor]:
        declared = self.problem.declared
        return parameters_of(declared, self.bound(), self._weak, values, named)

    def _route_for(self, parameters: dict[str, Tensor], options: SolveOptions) -> Route:
        shapes = self._shapes_of(parameters)
        route = self._routes.get((options.asked, *shapes.items()))
        return self._find_route(shapes, options.asked) if route is None else route

    def _shapes_of(self, parameters: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
        declared = self.problem.declared
        shapes = {n: tuple(parameters[n].shape) for n in declared.parameter_names}
        if not torch.compiler.is_compiling():
            return shapes
        # Sizes are fixed in compiled code, the batch is not. Dynamo takes the length of
        # a list for a number, where int() would leave it a symbol.
        counts = {name: len(declared.fields[name].dimensions) for name in shapes}
        return {
            name: tuple(
                len([0] * n) for n in shape[max(len(shape) - counts[name], 0) :]
            )
            for name, shape in shapes.items()
            if declared.fields[name].pattern is None
        }

    @torch.compiler.assume_constant_result
    def _ready(self, shapes: dict[str, tuple[int, ...]], **options: Any) -> None:
        """Make what a traced call needs; dynamo runs this as it is, at trace time."""
        chosen = self.options.replace(**options)
        self._find_route(shapes, chosen.asked).prepare(chosen)

    def _find_route(
        self, shapes: dict[str, tuple[int, ...]], asked: Kind | None
    ) -> Route:
        sizes = self.problem.declared.infer_sizes(shapes, self.sizes)
        empty = [f"{name}={size}" for name, size in sizes.items() if size < 1]
        if empty:
            raise ShapeError(
                f"{self.problem.__name__}: {', '.join(empty)}: every dimension "
                "needs at least one entry. Where a batch is empty, it is its axis in "
                "front that has none; leave a field without entries out."
            )
        missing = self._missing(sizes)
        if missing:
            raise DeclarationError(
                f"{self.problem.__name__}: no parameter tells the size of "
                f"{', '.join(missing)}; give it, as in "
                f"{self.problem.__name__}.layer({missing[0]}=3)."
            )
        route = self._route(sizes, asked)
        self._routes[(asked, *shapes.items())] = route
        return route

    def _route(self, sizes: Mapping[str, int], asked: Kind | None) -> Route:
        key = (asked, *sorted(sizes.items()))
        route = self._routes.get(key)
        if route is not None:
            return route
        with self._lock:
            return self._routes.setdefault(key, self._make_route(sizes, asked))

    def _make_route(self, sizes: Mapping[str, int], asked: Kind | None) -> Route:
        declared = self.problem.declared
        try:
            template = self.problem.template(sizes, self.steps, asked)
        except NotConvex as reason:
            if declared.convex:
                raise
            raise SolverRefused(
                f"{declared.name} is not convex, and cannot be solved as a smooth "
                f"problem.\n  {reason}"
            ) from None
        # Tracing may have met what reading the code had not.
        self._capture()
        return route_of(template, declared.name)

    def _check_sizes_known(self) -> None:
        if not self._sizes_known():
            missing = ", ".join(self._missing(self.sizes))
            raise DeclarationError(
                f"{self.problem.__name__}: the kind is known once {missing} is; give "
                "sizes to layer(...)."
            )

    def _has_route(self) -> bool:
        """Whether a call finds a solver, or is refused."""
        if self._classify()[0] not in ROUTES:
            return False
        try:
            self.problem.template(self.sizes, self.steps, self.options.asked)
        except NotConvex:
            return False
        return True

    def _classify(self) -> tuple[Kind, str]:
        self._check_sizes_known()
        try:
            template = self.problem.template(self.sizes, self.steps, self.options.asked)
        except NotConvex as reason:
            if self.problem.declared.convex:
                raise
            return Kind.MINIMIZE, str(reason)
        return template.kind, template.why

    def _missing(self, sizes: Mapping[str, int]) -> list[str]:
        return [n for n in self.problem.declared.dimension_names if n not in sizes]

    def _sizes_known(self) -> bool:
        return not self._missing(self.sizes)

    # ---- copies ------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_routes"], state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare_routes()


def _count(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise DeclarationError(f"{name}={value!r}: give a positive integer.")
    return int(value)
