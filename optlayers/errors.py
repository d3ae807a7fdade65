"""Every exception and warning of optlayers.

A message answers three questions: what is wrong, with which numbers, what to do next.
"""


class OptlayersError(Exception):
    """Base of all errors raised on purpose by optlayers."""


class DeclarationError(OptlayersError, ValueError):
    """A problem was declared wrongly; names file, line and subexpression."""


class ShapeError(OptlayersError, ValueError):
    """Two shapes do not fit, in a declaration or in a call."""


class NotConvex(DeclarationError):
    """`convex=True` was asked of a declaration that is not convex."""


class ParameterError(OptlayersError, ValueError):
    """A call gave a parameter that is missing, unknown, or of the wrong kind."""


class InvalidDataError(ParameterError):
    """Values break what the declaration says of them (NaN, negative, not PSD)."""


class SolveError(OptlayersError, RuntimeError):
    """Some samples have no solution; names them, their status and a constraint."""


class SingularError(SolveError):
    """The equations are singular at a solution: it has no derivative there."""


class SolverRefused(OptlayersError, RuntimeError):
    """No solver takes this program; gives the reason of each."""


class UnknownName(OptlayersError, LookupError):
    """A solver, option or field of that name does not exist; suggests the nearest."""


class UnknownOption(OptlayersError, TypeError):
    """An option that the receiver does not know; lists those it does."""


class OrderError(OptlayersError, RuntimeError):
    """An output was differentiated more often than `order=` allows."""


class NotSupported(OptlayersError, NotImplementedError):
    """Understood, but not available in this version; says what is."""


class TransformError(OptlayersError, RuntimeError):
    """A `torch.func` or `torch.compile` transform cannot see what it would need."""


class OptlayersWarning(UserWarning):
    """Base of all warnings given on purpose by optlayers."""


class SignWarning(OptlayersWarning):
    """A problem is not convex only because the sign of a weight was not declared."""


class NoEffectWarning(OptlayersWarning):
    """An argument is taken only for the sake of code written for another library."""


class CompileWarning(OptlayersWarning):
    """Something could not be handed to `torch.compile` and runs as it is."""
