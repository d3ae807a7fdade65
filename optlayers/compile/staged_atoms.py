"""Staged twins: an atom applied at every stage of a trajectory, in one expression.

Staged arguments and the result have a leading stage axis [T, *shape]; the other
arguments are shared by all stages. Squares stay squares of the whole trajectory, so
that a stage cost such as q @ x**2 stays quadratic and affine in the parameter q. What
has no such form raises `NoStagedTwin` and is then lowered stage by stage.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cvxpy as cp
import numpy as np

from optlayers.compile.atoms import TRIANGLES, TWINS

Arguments = Sequence[cp.Expression]
Flags = Sequence[bool]
Options = Mapping[str, Any]
StagedTwin = Callable[[str, Arguments, Flags, Options], cp.Expression]


class NoStagedTwin(Exception):
    """The atom has no vectorized form on these arguments."""


def staged_twin(
    name: str,
    arguments: Sequence[cp.Expression],
    staged: Sequence[bool],
    options: Options,
) -> cp.Expression:
    """Apply an atom at every stage.

    Args:
        name: the atom's name.
        arguments: cvxpy expressions, [T, *shape] where staged, else [*shape].
        staged: which of them are; at least one.
        options: the atom's options, speaking of one stage.

    Returns:
        The expression of all stages, [T, *shape of the result].

    Raises:
        NoStagedTwin: it must be applied stage by stage.
    """
    twin = _STAGED_TWINS.get(name)
    if twin is None:
        raise NoStagedTwin(name)
    return twin(name, arguments, staged, options)


# ---- entry by entry ------------------------------------------------------------------


def _elementwise(name: str, arguments: Arguments, staged: Flags, options: Options):
    """Sample axes aligned to the right, the stage axis in front."""
    ndim = max(one.ndim - flag for one, flag in zip(arguments, staged, strict=True))
    aligned = []
    for one, is_staged in zip(arguments, staged, strict=True):
        missing = ndim - (one.ndim - is_staged)
        if is_staged and missing:
            shape = (one.shape[0], *(1,) * missing, *one.shape[1:])
            one = cp.reshape(one, shape, order="C")
        aligned.append(one)
    return TWINS[name](*aligned, **options)


# ---- reductions ----------------------------------------------------------------------


def _reduction(name: str, arguments: Arguments, staged: Flags, options: Options):
    """The same over later axes, of an atom that takes a tuple of them."""
    return _reduce(arguments[0], options, TWINS[name])


def _sum_squares(name: str, arguments: Arguments, staged: Flags, options: Options):
    return _reduce(cp.square(arguments[0]), options, TWINS["sum"])


def _norm(name: str, arguments: Arguments, staged: Flags, options: Options):
    (x,) = arguments
    if x.ndim != 3 or options.get("axis") is not None:
        return _reduce(x, options, TWINS[name])
    p = str(options.get("p", 2)).lower()
    if p == "fro" or (p == "2" and 1 in x.shape[1:]):
        return _reduce(x, {"p": 2, "axis": (0, 1)}, TWINS["pnorm"])
    if p == "1":
        return cp.max(cp.sum(cp.abs(x), axis=1), axis=1)
    if p == "inf":
        return cp.max(cp.sum(cp.abs(x), axis=2), axis=1)
    raise NoStagedTwin(name)


def _reduce(x: cp.Expression, options: Options, twin: Callable[..., cp.Expression]):
    shape, stages = x.shape[1:], x.shape[0]
    rest = {key: value for key, value in options.items() if key != "axis"}
    if not shape:
        rest.pop("keepdims", None)
        return twin(cp.reshape(x, (stages, 1), order="C"), axis=1, **rest)
    axis = options.get("axis")
    wanted = range(len(shape)) if axis is None else axis
    wanted = (wanted,) if isinstance(wanted, int) else wanted
    axes = tuple(one % len(shape) + 1 for one in wanted)
    return twin(x, axis=axes[0] if len(axes) == 1 else axes, **rest)


def _quad_over_lin(name: str, arguments: Arguments, staged: Flags, options: Options):
    x, y = arguments
    if staged[1] or not y.is_constant():
        raise NoStagedTwin(name)
    return _reduce(cp.square(x), options, TWINS["sum"]) / y


def _quad_form(name: str, arguments: Arguments, staged: Flags, options: Options):
    """Squares of a constant factor times x."""
    x, P = arguments
    if staged[1] or not P.is_constant() or P.parameters():
        raise NoStagedTwin(name)
    matrix = np.asarray(P.value)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    # cvxpy's own tolerance of a numerically semidefinite matrix is of this size.
    if values.min(initial=0.0) < -1e-9 * max(1.0, values.max(initial=0.0)):
        raise NoStagedTwin(name)
    factor = vectors * np.sqrt(values.clip(min=0.0))
    return cp.sum(cp.square(x @ factor), axis=1)


# ---- products ------------------------------------------------------------------------


def _matmul(name: str, arguments: Arguments, staged: Flags, options: Options):
    left, right = arguments
    ndims = (left.ndim - staged[0], right.ndim - staged[1])
    if all(staged) or max(ndims) > 2:
        raise NoStagedTwin(name)
    if staged[0]:
        return left @ right
    if right.ndim == 2:
        return right @ (left.T if left.ndim == 2 else left)
    if left.ndim == 1:
        return _vector_times_matrices(left, right)
    return left @ right


def _vector_times_matrices(q: cp.Expression, X: cp.Expression) -> cp.Expression:
    """q @ X_t at every stage, q [n] and X [T, n, m]."""
    rows = cp.reshape(q, (1, q.size), order="C") @ X
    return cp.reshape(rows, (X.shape[0], X.shape[2]), order="C")


def _vdot(name: str, arguments: Arguments, staged: Flags, options: Options):
    if all(staged):
        raise NoStagedTwin(name)
    moving, fixed = arguments if staged[0] else reversed(arguments)
    return _flat(moving) @ cp.vec(fixed, order="C")


def _outer(name: str, arguments: Arguments, staged: Flags, options: Options):
    x, y = (
        _flat(one) if flag else one for one, flag in zip(arguments, staged, strict=True)
    )
    left = (x.shape[0], x.shape[1], 1) if staged[0] else (x.size, 1)
    right = (y.shape[0], 1, y.shape[1]) if staged[1] else (1, y.size)
    return cp.multiply(cp.reshape(x, left, order="C"), cp.reshape(y, right, order="C"))


def _tv(name: str, arguments: Arguments, staged: Flags, options: Options):
    if len(arguments) > 1 or arguments[0].ndim != 2:
        raise NoStagedTwin(name)
    return cp.sum(cp.abs(cp.diff(arguments[0], axis=1)), axis=1)


def _trace(name: str, arguments: Arguments, staged: Flags, options: Options):
    (X,) = arguments
    return cp.sum(cp.multiply(X, np.eye(X.shape[1])), axis=(1, 2))


# ---- arrangement ---------------------------------------------------------------------


def _reshape(name: str, arguments: Arguments, staged: Flags, options: Options):
    (x,) = arguments
    lead, size = x.shape[0], math.prod(x.shape[1:])
    wanted = options.get("shape", -1)
    wanted = (wanted,) if isinstance(wanted, int) else tuple(wanted)
    known = math.prod(one for one in wanted if one != -1)
    shape = tuple(size // known if one == -1 else one for one in wanted)
    if options.get("order", "C") == "C":
        return cp.reshape(x, (lead, *shape), order="C")
    columns = cp.reshape(_reversed(x), (lead, *shape[::-1]), order="C")
    return _reversed(columns)


def _transpose(name: str, arguments: Arguments, staged: Flags, options: Options):
    (x,) = arguments
    axes, ndim = options.get("axes"), x.ndim - 1
    if axes is None:
        return _reversed(x)
    return cp.transpose(x, [0, *(axis % ndim + 1 for axis in axes)])


def _triangle(name: str, arguments: Arguments, staged: Flags, options: Options):
    mask = TRIANGLES[name](np.ones(arguments[0].shape[1:]), **options)
    return cp.multiply(mask[None], arguments[0])


def _broadcast_to(name: str, arguments: Arguments, staged: Flags, options: Options):
    (x,) = arguments
    shape = tuple(options["shape"])
    padded = _with_axes(x, len(shape) + 1)
    target = (x.shape[0], *shape)
    return padded if padded.shape == target else cp.broadcast_to(padded, target)


def _along_axis(name: str, arguments: Arguments, staged: Flags, options: Options):
    """Cumulative atoms, which keep the axis they run along."""
    (x,) = arguments
    axis = options.get("axis", 0)
    if axis is None:
        x, axis = _flat(x), 0
    rest = {key: value for key, value in options.items() if key != "axis"}
    return TWINS[name](x, axis=axis % (x.ndim - 1) + 1, **rest)


def _concatenate(name: str, arguments: Arguments, staged: Flags, options: Options):
    axis = options.get("axis", 0)
    pieces = _on_all_stages(arguments, staged)
    if axis is None:
        return cp.concatenate([_flat(one) for one in pieces], axis=1)
    return cp.concatenate(pieces, axis=axis % (pieces[0].ndim - 1) + 1)


def _stack(name: str, arguments: Arguments, staged: Flags, options: Options):
    pieces = _on_all_stages(arguments, staged)
    return cp.stack(pieces, axis=options.get("axis", 0) % pieces[0].ndim + 1)


def _hstack(name: str, arguments: Arguments, staged: Flags, options: Options):
    pieces = [_with_axes(one, 2) for one in _on_all_stages(arguments, staged)]
    return cp.concatenate(pieces, axis=1 if pieces[0].ndim == 2 else 2)


def _vstack(name: str, arguments: Arguments, staged: Flags, options: Options):
    pieces = [_with_axes(one, 3) for one in _on_all_stages(arguments, staged)]
    return cp.concatenate(pieces, axis=1)


def _on_all_stages(arguments: Arguments, staged: Flags) -> list[cp.Expression]:
    stages = arguments[list(staged).index(True)].shape[0]
    return [
        one if flag else cp.broadcast_to(one, (stages, *one.shape))
        for one, flag in zip(arguments, staged, strict=True)
    ]


def _with_axes(x: cp.Expression, ndim: int) -> cp.Expression:
    """Ones put in after the stage axis until there are `ndim` axes."""
    if x.ndim >= ndim:
        return x
    shape = (x.shape[0], *(1,) * (ndim - x.ndim), *x.shape[1:])
    return cp.reshape(x, shape, order="C")


def _flat(x: cp.Expression) -> cp.Expression:
    return cp.reshape(x, (x.shape[0], math.prod(x.shape[1:])), order="C")


def _reversed(x: cp.Expression) -> cp.Expression:
    """The axes of a stage in reverse."""
    return x if x.ndim < 3 else cp.transpose(x, [0, *range(x.ndim - 1, 0, -1)])


_ELEMENTWISE = (
    "add negate multiply divide power abs square sqrt pos neg inv_pos exp log log1p "
    "logistic entr huber kl_div rel_entr maximum minimum xexp loggamma log_normcdf"
)
_REDUCTIONS = (
    "sum mean var std max min ptp sum_largest sum_smallest log_sum_exp geo_mean norm1 "
    "norm_inf pnorm"
)
_STAGED_TWINS: Mapping[str, StagedTwin] = (
    dict.fromkeys(_ELEMENTWISE.split(), _elementwise)
    | dict.fromkeys(_REDUCTIONS.split(), _reduction)
    | dict.fromkeys(("cumsum", "cummax", "diff"), _along_axis)
    | dict.fromkeys(("reshape", "vec"), _reshape)
    | {
        "sum_squares": _sum_squares,
        "norm": _norm,
        "quad_over_lin": _quad_over_lin,
        "quad_form": _quad_form,
        "matmul": _matmul,
        "vdot": _vdot,
        "outer": _outer,
        "tv": _tv,
        "trace": _trace,
        "transpose": _transpose,
        "triu": _triangle,
        "tril": _triangle,
        "broadcast_to": _broadcast_to,
        "concatenate": _concatenate,
        "stack": _stack,
        "hstack": _hstack,
        "vstack": _vstack,
    }
)
