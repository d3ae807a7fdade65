"""From a compiled declaration to what calls it: one line of a table for each kind."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from optlayers.compile.minimize import MinimizeTemplate
from optlayers.compile.ode import OdeTemplate
from optlayers.compile.root import RootTemplate
from optlayers.compile.template import ConvexTemplate
from optlayers.functional.options import SolveOptions
from optlayers.interfaces import Kind, Program
from optlayers.layers.convex import ConvexRoute
from optlayers.layers.minimize import MinimizeRoute
from optlayers.layers.ode import OdeRoute
from optlayers.layers.result import Result
from optlayers.layers.root import RootRoute

Template = ConvexTemplate | RootTemplate | MinimizeTemplate | OdeTemplate


class Route(Protocol):
    """Solves one compiled declaration for any parameters.

    Attributes:
        template: the compiled declaration.
    """

    template: Any

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        captured: Mapping[str, nn.Module | Tensor],
        options: SolveOptions,
    ) -> Result:
        """Solve one batch."""
        ...

    def compiled(
        self,
        parameters: Mapping[str, Tensor],
        captured: Mapping[str, nn.Module | Tensor],
    ) -> Any:
        """The cone programs of one batch, of a kind that has some."""
        ...

    def prepare(self, options: SolveOptions) -> None:
        """Choose solvers ahead of the first call."""
        ...

    def empty_program(self) -> Program:
        """A program of the right structure."""
        ...


ROUTES: Mapping[Kind, Callable[[Any, str], Route]] = {
    Kind.CONVEX: ConvexRoute,
    Kind.ROOT: RootRoute,
    Kind.ODE: OdeRoute,
    Kind.MINIMIZE: MinimizeRoute,
}


def route_of(template: Template, subject: str) -> Route:
    """The route of a compiled declaration, by its kind.

    Args:
        template: the compiled declaration.
        subject: the name of the problem, for messages.
    """
    return ROUTES[template.kind](template, subject)
