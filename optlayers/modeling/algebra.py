"""What Python's operators, numpy and torch mean on expressions."""


class Algebra:
    """Operators of `Expression`."""

    __array_ufunc__ = None
