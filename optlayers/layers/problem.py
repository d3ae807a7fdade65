"""What `@ol.problem` returns: a declaration that can become layers.

One template per set of sizes is compiled, once, and shared by every layer of the
problem; nothing is recompiled in a training loop.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from optlayers.compile.convex import compile_convex
from optlayers.compile.geometric.compile import compile_geometric
from optlayers.compile.minimize import compile_minimize
from optlayers.compile.missing_signs import warn_of_missing_signs
from optlayers.compile.ode import compile_ode
from optlayers.compile.root import compile_root
from optlayers.compile.template import ConvexTemplate
from optlayers.errors import NotConvex, SolverRefused
from optlayers.functional.options import SolveOptions
from optlayers.implicit.transforms import outside_transforms
from optlayers.interfaces import Kind
from optlayers.layers.explanation import Explanation
from optlayers.layers.explanation.build import explain
from optlayers.layers.layer import Layer
from optlayers.layers.result import Result
from optlayers.layers.routes import Template
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.problem import DeclaredProblem, declare

# What compiles a declaration that optimizes nothing, by its verb.
COMPILERS = {"solve": compile_root, "integrate": compile_ode}


# Why a convex problem is solved as a smooth one.
ASKED_FOR = (
    "asked for: the solver takes smooth problems, convex or not (by itself the "
    "declaration is convex)"
)


class Problem:
    """A declared problem. Call it, make layers of it, print it.

    Attributes:
        declared: the declaration, knowing neither cvxpy nor solvers.
    """

    def __init__(self, declared: DeclaredProblem) -> None:
        self.declared = declared
        self.__wrapped__ = declared.function
        self.__name__ = declared.name
        self.__qualname__ = getattr(declared.function, "__qualname__", declared.name)
        self.__module__ = getattr(declared.function, "__module__", "__main__")
        self.__doc__ = declared.function.__doc__
        self._templates: dict[Any, Template | NotConvex] = {}
        self._direct: dict[Any, Layer] = {}
        self._lock = threading.RLock()
        self._is_warned = False
        self._compiler = compile_geometric if declared.geometric else compile_convex

    def layer(self, **bound: Any) -> Layer:
        """Make an `nn.Module` of this problem.

        Args:
            **bound: sizes by dimension name (`n=4`), `steps=` for staged problems,
                options (`solver=`, `gradient=`, `order=`, `on_failure=`,
                `tolerance=`, `warm_start=`, `starts=`), and parameters to bind: a
                tensor is frozen as a buffer, an `nn.Parameter` is learned, the rest is
                left to the call.

        Raises:
            UnknownName: a name that is no dimension, option or parameter.
            ShapeError: a bound tensor does not fit its declaration.
            NotConvex: `convex=True` was declared and the problem is not.
        """
        return Layer(self, **bound)

    def __call__(self, *values: Any, **named: Any) -> Result:
        """Solve directly: parameters by position or name, options by name."""
        sizes = {
            name: named.pop(name)
            for name in ("steps", *self.declared.dimension_names)
            if name in named
        }
        key = tuple(sizes.items())
        layer = self._direct.get(key)
        if layer is None:
            layer = self._direct.setdefault(key, self.layer(**sizes))
        return layer(*values, **named)

    def explain(self, **sizes: int) -> Explanation:
        """The tree of reasons: curvature and sign of every piece, and what it became.

        Print it, hand it to a rich console, or leave it as the last line of a cell.
        What is not convex shows where convexity is lost, and the remedy.

        Args:
            **sizes: size of every named dimension, and `steps=` for staged problems.

        Raises:
            DeclarationError: a size is missing or unknown.
        """
        steps = sizes.pop("steps", None)
        return explain(self, sizes, steps, SolveOptions())

    def template(
        self, sizes: Mapping[str, int], steps: int | None, asked: Kind | None = None
    ) -> Template:
        """The compiled declaration at these sizes.

        Args:
            sizes: size of every named dimension.
            steps: number of steps, where there are stages.
            asked: the kind of the solver asked for, if it has one: a convex problem is
                then compiled as the smooth one that it may be, too.

        Raises:
            NotConvex: the declaration is not convex, with the reason, and must be so
                or is not smooth either.
            SolverRefused: it is convex, and `asked` takes smooth problems only.
        """
        key = (tuple(sorted(sizes.items())), steps)
        # The first call may be made under a transform, which would wrap constants.
        with self._lock, outside_transforms():
            if key not in self._templates:
                self._templates[key] = self._compile(sizes, steps)
            found = self._templates[key]
            takes_other = asked is Kind.MINIMIZE and not self.declared.geometric
            if takes_other and isinstance(found, ConvexTemplate):
                key = (*key, asked)
                if key not in self._templates:
                    declaration = self.declared.trace(sizes, steps)
                    self._templates[key] = self._not_convex(declaration, ASKED_FOR)
                found = self._templates[key]
                if isinstance(found, NotConvex):
                    raise SolverRefused(f"{self.__name__}: {found}")
        if isinstance(found, NotConvex):
            raise found
        return found

    def _compile(
        self, sizes: Mapping[str, int], steps: int | None
    ) -> Template | NotConvex:
        declaration = self.declared.trace(sizes, steps)
        compiler = COMPILERS.get(declaration.sense, self._compiler)
        try:
            return compiler(declaration)
        except NotConvex as reason:
            if self.declared.convex or self.declared.geometric:
                return reason
            if self.declared.convex is None and not self._is_warned:
                self._is_warned = warn_of_missing_signs(declaration)
            return self._not_convex(declaration, str(reason))

    def _not_convex(self, declaration: Declaration, why: str) -> Template | NotConvex:
        """What a declaration becomes that is not solved as a convex one."""
        try:
            return compile_minimize(declaration, why)
        except NotConvex as reason:
            return reason

    def __str__(self) -> str:
        """The problem as textbook mathematics."""
        return str(self.declared)

    def __repr__(self) -> str:
        return f"<problem {self.declared!r}>"

    def _repr_latex_(self) -> str:
        """The same in LaTeX, which notebooks show."""
        return self.declared._repr_latex_()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> str:
        # By reference, as functions are; the declaration says so if it is not found.
        return self.declared.__reduce__()


def problem(
    function: Callable[..., Any] | None = None,
    *,
    convex: bool | None = None,
    geometric: bool = False,
) -> Any:
    """Declare a problem: the signature names the fields, the body the mathematics.

    Args:
        function: the declaration; its parameters default to `Variable`, `Parameter`,
            `State`, `Control` or `Time` fields.
        convex: True makes "not convex" an error, with a suggested rewrite.
        geometric: True declares a geometric program: variables are positive, and the
            problem is solved in their logarithms, where it is convex.

    Raises:
        DeclarationError: a field, name or body that the language does not know.

    Example:
        @ol.problem
        def project(x=Variable("n"), y=Parameter("n")):
            return minimize(ol.sum_squares(x - y), x >= 0)
    """
    if function is None:
        return lambda later: problem(later, convex=convex, geometric=geometric)
    return Problem(declare(function, convex=convex, geometric=geometric))
