"""Atoms: one row each with torch function, shape rule, sign rule and torch's names."""

from optlayers.modeling.atoms.atom import Atom
from optlayers.modeling.atoms.shapes import ShapeMismatch
from optlayers.modeling.atoms.table import ATOMS
from optlayers.modeling.atoms.torch_names import translate

__all__ = ["ATOMS", "Atom", "ShapeMismatch", "translate"]
