"""The words that declare a field: Variable, Parameter, State, Control, Time."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optlayers.errors import DeclarationError
from optlayers.linalg.pattern import Pattern
from optlayers.modeling.dimensions import parse_dimensions
from optlayers.modeling.field_words import word_refusal
from optlayers.modeling.fields import Field, Role
from optlayers.modeling.origin import Origin
from optlayers.modeling.sparse import read_pattern

# The five words return Any: in the body they stand for tensors, and a type checker
# should accept arithmetic with them there.


def Variable(
    dims: Any = (),
    *,
    nonneg: bool = False,
    nonpos: bool = False,
    symmetric: bool = False,
    psd: bool = False,
    lower: Any = None,
    upper: Any = None,
    start: Any = None,
    doc: str = "",
    **others: Any,
) -> Any:
    """Declare an unknown that the solver chooses.

    Args:
        dims: its axes, as in "n", "k n", "T+1 n", "2 3", 3 or ("n", 3); none for a
            scalar.
        nonneg: every entry is at least zero.
        nonpos: every entry is at most zero.
        symmetric: it is a symmetric matrix.
        psd: it is a symmetric positive semidefinite matrix.
        lower: lower bound, a number or an array that broadcasts to its shape.
        upper: upper bound, likewise.
        start: first guess, likewise.
        doc: one sentence on what it is.
        **others: refused, with what to write instead.

    Raises:
        DeclarationError: dimensions or attributes that make no sense, or that a
            differentiable layer cannot have (integer, boolean, complex).
    """
    return _field(
        Role.VARIABLE, dims, others, nonneg=nonneg, nonpos=nonpos, symmetric=symmetric,
        psd=psd, lower=lower, upper=upper, start=start, doc=doc,
    )  # fmt: skip


def Parameter(
    dims: Any = (),
    *,
    nonneg: bool = False,
    nonpos: bool = False,
    symmetric: bool = False,
    psd: bool = False,
    lower: Any = None,
    upper: Any = None,
    doc: str = "",
    pattern: Any = None,
    **others: Any,
) -> Any:
    """Declare a tensor that every call gives; attributes are checked at the call.

    Args:
        dims: its axes, as in "n", "k n", "T+1 n", "2 3", 3 or ("n", 3); none for a
            scalar. A call may put any batch dimensions before them.
        nonneg: every entry is at least zero.
        nonpos: every entry is at most zero.
        symmetric: it is a symmetric matrix.
        psd: it is a symmetric positive semidefinite matrix.
        lower: least value it may take, a number or array.
        upper: largest value it may take, a number or array.
        doc: one sentence on what it is.
        pattern: where a matrix may have entries: a sparse matrix, a boolean matrix, or
            a pair (rows, cols). A call gives the entries [*batch, nnz] row by row, or
            the matrix.
        **others: refused, with what to write instead.

    Raises:
        DeclarationError: dimensions or attributes that make no sense, or that a
            differentiable layer cannot have (integer, boolean, complex).
    """
    return _field(
        Role.PARAMETER, dims, others, nonneg=nonneg, nonpos=nonpos,
        symmetric=symmetric, psd=psd, lower=lower, upper=upper, doc=doc,
        pattern=pattern,
    )  # fmt: skip


def State(
    dims: Any = (),
    *,
    nonneg: bool = False,
    nonpos: bool = False,
    lower: Any = None,
    upper: Any = None,
    start: Any = None,
    doc: str = "",
    **others: Any,
) -> Any:
    """Declare an unknown with a value at each of steps + 1 knots, or at every time.

    In a declaration that ends with `integrate(...)` it is followed in time from its
    initial value, has no bounds, and stands in the body for its present value.

    Args:
        dims: its axes at one knot, as in "n" or "2"; none for a scalar.
        nonneg: every entry is at least zero, at every knot.
        nonpos: every entry is at most zero, at every knot.
        lower: lower bound at every knot, a number or array.
        upper: upper bound at every knot, likewise.
        start: first guess, of one knot or of all.
        doc: one sentence on what it is.
        **others: refused, with what to write instead.

    Raises:
        DeclarationError: dimensions or attributes that make no sense, or that a
            differentiable layer cannot have (integer, boolean, complex).
    """
    return _field(
        Role.STATE, dims, others, nonneg=nonneg, nonpos=nonpos, lower=lower,
        upper=upper, start=start, doc=doc,
    )  # fmt: skip


def Control(
    dims: Any = (),
    *,
    nonneg: bool = False,
    nonpos: bool = False,
    lower: Any = None,
    upper: Any = None,
    start: Any = None,
    doc: str = "",
    **others: Any,
) -> Any:
    """Declare an unknown with a value at each of `steps` steps.

    In a declaration that ends with `integrate(...)` it is given by the call, one value
    for each interval between save times, [*batch, T - 1, *shape].

    Args:
        dims: its axes at one step, as in "m" or "2"; none for a scalar.
        nonneg: every entry is at least zero, at every step.
        nonpos: every entry is at most zero, at every step.
        lower: lower bound at every step, a number or array.
        upper: upper bound at every step, likewise.
        start: first guess, of one step or of all.
        doc: one sentence on what it is.
        **others: refused, with what to write instead.

    Raises:
        DeclarationError: dimensions or attributes that make no sense, or that a
            differentiable layer cannot have (integer, boolean, complex).
    """
    return _field(
        Role.CONTROL, dims, others, nonneg=nonneg, nonpos=nonpos, lower=lower,
        upper=upper, start=start, doc=doc,
    )  # fmt: skip


def Time(*, doc: str = "", **others: Any) -> Any:
    """Declare the time of a differential equation; a call gives the save times.

    In the body it is the present time, a scalar; a call gives [T] or [*batch, T] under
    its name. At most one of a declaration.

    Args:
        doc: one sentence on what it is.
        **others: refused, with what to write instead.

    Raises:
        DeclarationError: an attribute, of which the time has none.
    """
    return _field(Role.TIME, (), others, doc=doc)


def _field(
    role: Role,
    dims: Any,
    others: Mapping[str, Any],
    *,
    lower: Any = None,
    upper: Any = None,
    start: Any = None,
    pattern: Any = None,
    **words: Any,
) -> Field:
    """The field of a role; `others` are the words it does not take."""
    origin = Origin.here()
    if others:
        refusal = word_refusal(role, others)
        raise DeclarationError(f"{origin.place}: {role.value}: {refusal}")
    try:
        dimensions = parse_dimensions(dims)
        lower = _number("lower", lower)
        upper = _number("upper", upper)
        start = _number("start", start)
        if pattern is not None:
            pattern = read_pattern(pattern, dimensions)
            lower = _on_pattern("lower", lower, pattern)
            upper = _on_pattern("upper", upper, pattern)
    except DeclarationError as reason:
        raise DeclarationError(f"{origin.place}: {role.value}: {reason}") from None
    return Field(
        role,
        dimensions,
        lower=lower,
        upper=upper,
        start=start,
        origin=origin,
        pattern=pattern,
        **words,
    )


def _on_pattern(
    attribute: str, bound: float | Tensor | None, pattern: Pattern
) -> float | Tensor | None:
    """A bound of the entries of a sparse parameter, from one of the matrix."""
    if not isinstance(bound, Tensor):
        return bound
    try:
        return pattern.gather(bound.expand(pattern.shape))
    except RuntimeError:
        raise DeclarationError(
            f"{attribute} has shape {list(bound.shape)}, the pattern "
            f"{list(pattern.shape)}."
        ) from None


def _number(attribute: str, value: Any) -> float | Tensor | None:
    """A number, a float64 tensor, or None where the value says nothing."""
    if value is None:
        return None
    try:
        tensor = torch.as_tensor(value, dtype=torch.float64).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise DeclarationError(
            f"{attribute}={value!r} is neither number nor array; a bound that varies "
            "is a constraint in the body, as in x <= limit, of a problem that "
            "minimizes or maximizes. A solve takes numbers only."
        ) from None
    absent = {"lower": -torch.inf, "upper": torch.inf}.get(attribute)
    if absent is not None and tensor.numel() and bool((tensor == absent).all()):
        return None
    if not bool(tensor.isfinite().all()):
        raise DeclarationError(
            f"{attribute}={value!r} is not finite everywhere; bound the entries that "
            "have a bound in the body, as in x[:2] <= 1."
        )
    return tensor.item() if tensor.ndim == 0 else tensor
