"""What a public function does: a node on expressions, the torch function on tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.algebra import Algebra
from optlayers.modeling.atoms import ATOMS, ShapeMismatch
from optlayers.modeling.constants import NoTerm
from optlayers.modeling.expressions import apply, as_expression
from optlayers.modeling.inference import located
from optlayers.modeling.options import is_unknown
from optlayers.modeling.tracing import is_running


def call(name: str, *arguments: Any, **options: Any) -> Any:
    """Apply an atom.

    Args:
        name: the atom's name.
        *arguments: expressions, tensors, arrays, numbers, nested lists of these.
        **options: its static options.

    Returns:
        An expression if an argument is one, or if a learned parameter is met inside a
        declaration; else a tensor.

    Raises:
        ShapeError: the atom does not take these shapes.
        DeclarationError: an argument that is no term of an expression.
    """
    if _is_symbolic(arguments) or (is_running() and is_unknown(arguments)):
        return apply(name, arguments, **options)
    atom, tensors = ATOMS[name], [as_tensor(one) for one in arguments]
    try:
        atom.shape([tuple(one.shape) for one in tensors], options)
    except ShapeMismatch as reason:
        raise ShapeError(f"ol.{name}: {reason}.") from None
    return atom.torch_function(*tensors, **options)


def as_tensor(value: Any) -> Tensor:
    """A floating tensor of a tensor, array, number or nested list of numbers.

    Raises:
        DeclarationError: a pose, or the like.
    """
    if isinstance(value, NoTerm):
        raise located(DeclarationError(value.remedy))
    tensor = torch.as_tensor(value)
    if tensor.is_floating_point() or tensor.is_complex():
        return tensor
    return tensor.to(torch.get_default_dtype())


def as_term(value: Any) -> Any:
    """An expression as it is, anything else as a tensor or a learned parameter."""
    if isinstance(value, Algebra):
        return value
    if isinstance(value, list | tuple) and is_unknown(value):
        return as_expression(value)
    return value if isinstance(value, Tensor) else as_tensor(value)


def pieces_of(name: str, given: Any) -> Sequence[Any]:
    """The list that a joining function was given.

    Raises:
        DeclarationError: one expression or tensor, where a list of them is meant.
    """
    if isinstance(given, list | tuple) and given:
        return given
    raise located(
        DeclarationError(
            f"ol.{name} takes a list of pieces, as in ol.{name}([x, y]), not "
            f"{'an empty list' if isinstance(given, list | tuple) else 'one term'}."
        )
    )


def _is_symbolic(values: Any) -> bool:
    if isinstance(values, list | tuple):
        return any(_is_symbolic(one) for one in values)
    return isinstance(values, Algebra)
