"""Parity with other libraries: comparison, translation, drop-in replacements."""

from optlayers.compat.drop_in import CvxpyLayer
from optlayers.compat.from_cvxpy import from_cvxpy

__all__ = ["CvxpyLayer", "from_cvxpy"]
