"""One sample of a layer's problem in cvxpy: what stands behind `layer.to_cvxpy`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from optlayers.compile.to_cvxpy import declared_in_cvxpy
from optlayers.errors import NotConvex, ShapeError
from optlayers.modeling.goals import NOT_OPTIMIZED

if TYPE_CHECKING:
    from optlayers.layers.layer import Layer


def in_cvxpy(
    layer: "Layer", parameters: Mapping[str, Tensor], captured: Mapping[str, Any]
) -> Any:
    """The problem of one sample as a `cvxpy.Problem`.

    Args:
        layer: whose problem and sizes are meant.
        parameters: tensor of every parameter, by name.
        captured: parameters and modules met in the declaration, by name.

    Raises:
        ShapeError: a parameter with batch dimensions.
        NotConvex: a system of equations, or a differential equation.
    """
    declared = layer.problem.declared
    shapes = {name: tuple(value.shape) for name, value in parameters.items()}
    sizes = declared.infer_sizes(shapes, layer.sizes)
    declaration = declared.trace(sizes, layer.steps)
    if declaration.sense in NOT_OPTIMIZED:
        what = NOT_OPTIMIZED[declaration.sense]
        raise NotConvex(f"{declared.name} is {what}, not for cvxpy.")
    for name, value in parameters.items():
        shape = declaration.fields[name].shape
        if tuple(value.shape) != shape:
            raise ShapeError(
                f"{declared.name}: to_cvxpy takes one sample, and {name} "
                f"{list(value.shape)} is a batch of {list(shape)}; give one of them, "
                f"as in {name}={name}[0]."
            )
    return declared_in_cvxpy(declaration, parameters, captured, declared.geometric)
