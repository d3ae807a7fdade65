"""What is known of one atom: how to evaluate it, and the shape and sign of its result.

Its convexity is cvxpy's affair; see the twins in `optlayers.compile`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from optlayers.modeling.atoms.shapes import Shape
from optlayers.modeling.signs import Sign


@dataclass(frozen=True, eq=False)
class Atom:
    """One row of the table of atoms; all is said of one sample.

    Attributes:
        name: cvxpy's name.
        torch_function: called as `torch_function(*tensors, **options)`; differentiable,
            safe under `torch.func.vmap`.
        shape_rule: called as `shape_rule(*shapes, **options)`.
        sign_rule: called as `sign_rule(*signs, **options)`; it holds for every finite
            value of the torch function.
        elementwise: whether entry i of the result depends on entry i of the arguments.
    """

    name: str
    torch_function: Callable[..., Tensor]
    shape_rule: Callable[..., Shape]
    sign_rule: Callable[..., Sign]
    elementwise: bool = False

    def shape(self, shapes: Sequence[Shape], options: Mapping[str, Any]) -> Shape:
        """Shape of the result.

        Args:
            shapes: shape of each argument.
            options: static keyword options.

        Raises:
            ShapeMismatch: the shapes or options do not fit.
        """
        return self.shape_rule(*shapes, **options)

    def sign(self, signs: Sequence[Sign], options: Mapping[str, Any]) -> Sign:
        """Sign of the result.

        Args:
            signs: sign of each argument.
            options: static keyword options.
        """
        return self.sign_rule(*signs, **options)
