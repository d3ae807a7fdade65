"""The perspective of an atom f, s f(x / s) for s > 0; convex where f is."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from optlayers.modeling.atoms.atom import Atom
from optlayers.modeling.atoms.shapes import Shape, ShapeMismatch
from optlayers.modeling.signs import Sign


def perspective_of(atoms: Mapping[str, Atom]) -> Atom:
    """The row of the table for the perspective of any other row.

    Its arguments are those of the other atom and the scalar s; its options name that
    atom, `of`, and hold the options of that.

    Args:
        atoms: the other rows by name.
    """
    return Atom(
        "perspective",
        partial(_value, atoms),
        partial(_shape, atoms),
        partial(_sign, atoms),
    )


def _value(
    atoms: Mapping[str, Atom], *tensors: Tensor, of: str, **options: Any
) -> Tensor:
    *arguments, s = tensors
    s = s.reshape(())
    inside = s > 0
    scale = torch.where(inside, s, 1.0)
    scaled = (one / scale for one in arguments)
    value = scale * atoms[of].torch_function(*scaled, **options)
    return torch.where(inside, value, torch.nan)


def _shape(atoms: Mapping[str, Atom], *shapes: Shape, of: str, **options: Any) -> Shape:
    *arguments, s = shapes
    if s not in ((), (1,), (1, 1)):
        raise ShapeMismatch(f"needs a scalar s, not {list(s)}")
    return atoms[of].shape(arguments, options)


def _sign(atoms: Mapping[str, Atom], *signs: Sign, of: str, **options: Any) -> Sign:
    return atoms[of].sign(signs[:-1], options)
