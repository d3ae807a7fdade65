"""What is known of an expression's sign, and the algebra of such knowledge.

Atoms import `Sign` from here; `expressions` re-exports it.
"""

from enum import Enum


class Sign(Enum):
    """The sign of every entry of an expression, as far as it is known."""

    ZERO = "zero"
    NONNEG = "nonneg"
    NONPOS = "nonpos"
    UNKNOWN = "unknown"

    @property
    def is_nonneg(self) -> bool:
        """Whether every entry is known to be at least zero."""
        return self in (Sign.ZERO, Sign.NONNEG)

    @property
    def is_nonpos(self) -> bool:
        """Whether every entry is known to be at most zero."""
        return self in (Sign.ZERO, Sign.NONPOS)

    def __neg__(self) -> "Sign":
        return _NEGATED[self]

    def __add__(self, other: "Sign") -> "Sign":
        if self is Sign.ZERO:
            return other
        if other is Sign.ZERO or self is other:
            return self
        return Sign.UNKNOWN

    def __mul__(self, other: "Sign") -> "Sign":
        if self is Sign.ZERO or other is Sign.ZERO:
            return Sign.ZERO
        if Sign.UNKNOWN in (self, other):
            return Sign.UNKNOWN
        return Sign.NONNEG if self is other else Sign.NONPOS


_NEGATED = {
    Sign.ZERO: Sign.ZERO,
    Sign.NONNEG: Sign.NONPOS,
    Sign.NONPOS: Sign.NONNEG,
    Sign.UNKNOWN: Sign.UNKNOWN,
}
