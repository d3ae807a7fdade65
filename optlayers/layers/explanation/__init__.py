"""The tree of reasons of a problem, as data and as text, rich tree and HTML."""

from optlayers.layers.explanation.data import Explanation

__all__ = ["Explanation"]
