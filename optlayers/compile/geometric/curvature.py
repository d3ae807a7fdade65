"""Log-log curvature: how the logarithm of an expression bends in those of variables.

Source: Agrawal, Diamond, Boyd, Disciplined geometric programming (2019), section 3.
"""

from enum import Enum


class NotGeometric(Exception):
    """A rule of geometric programs is broken; one predicate, without its subject."""


class Curvature(Enum):
    """What is known of log f(exp u); the value says it in words."""

    AFFINE = "a monomial"
    CONVEX = "log-log convex, as posynomials are"
    CONCAVE = "log-log concave, as reciprocals of posynomials are"

    @property
    def is_convex(self) -> bool:
        """Whether it may be bounded above and minimized."""
        return self is not Curvature.CONCAVE

    @property
    def is_concave(self) -> bool:
        """Whether it may be bounded below and maximized."""
        return self is not Curvature.CONVEX

    def __neg__(self) -> "Curvature":
        return _NEGATED[self]

    def __add__(self, other: "Curvature") -> "Curvature":
        if self is Curvature.AFFINE or self is other:
            return other
        if other is Curvature.AFFINE:
            return self
        raise NotGeometric(
            "multiplies (or divides) one factor whose logarithm is convex and one "
            "whose logarithm is concave, and nothing is known of the result. Introduce "
            "a variable for one of the two and bound it by a constraint."
        )


_NEGATED = {
    Curvature.AFFINE: Curvature.AFFINE,
    Curvature.CONVEX: Curvature.CONCAVE,
    Curvature.CONCAVE: Curvature.CONVEX,
}
