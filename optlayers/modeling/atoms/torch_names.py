"""Which torch functions and Tensor methods mean an atom.

Every rule in `torch_rules` has the signature of its torch function and builds the
atom; what fits no rule stays an ordinary torch node.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import Signature
from operator import attrgetter
from typing import Any

import torch

from optlayers.modeling.atoms import torch_rules as rules
from optlayers.modeling.atoms.torch_rules import Build, Unlike


def translate(
    build: Build,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
) -> Any | None:
    """Say a torch call with atoms.

    Args:
        build: called as `build(name, *arguments, **options)`; returns the node.
        function: what `__torch_function__` was given.
        arguments: its positional arguments.
        keywords: its keyword arguments.

    Returns:
        What `build` returned, or None where no atom means this call.
    """
    found = _RULES.get(function)
    if found is None or any(keywords.get(name) for name in _OF_NO_ATOM):
        return None
    rule, signature = found
    given = {
        _TORCH_SPELLING.get(name, name): value
        for name, value in keywords.items()
        if name not in _OF_NO_ATOM
    }
    try:
        signature.bind(build, *arguments, **given)
    except TypeError:
        return None
    try:
        return rule(build, *arguments, **given)
    except Unlike:
        return None


# numpy's spelling, which torch accepts too.
_TORCH_SPELLING = {"axis": "dim", "keepdims": "keepdim"}
# Some wrappers of torch pass these even where the user named none of them.
_OF_NO_ATOM = frozenset(("out", "dtype", "inplace"))

# Bare names stand for torch.name, Tensor.name and torch.nn.functional.name.
_NAMES: Mapping[Callable[..., Any], str] = {
    rules.unary("abs"): "abs absolute __abs__",
    rules.unary("negate"): "neg negative __neg__",
    rules.unary("exp"): "exp",
    rules.unary("log"): "log",
    rules.unary("log1p"): "log1p special.log1p",
    rules.unary("sqrt"): "sqrt",
    rules.unary("square"): "square",
    rules.unary("pos"): "relu",
    rules.unary("entr"): "special.entr",
    rules.unary("trace"): "trace",
    rules.binary("multiply"): "mul multiply __mul__ __rmul__",
    rules.binary("matmul"): ("matmul mm mv dot linalg.matmul __matmul__"),
    rules.reflected("matmul"): "__rmatmul__",
    rules.binary("maximum"): "maximum fmax",
    rules.binary("minimum"): "minimum fmin",
    rules.binary("outer"): "outer ger",
    rules.binary("kron"): "kron",
    rules.add: "add __add__ __radd__",
    rules.subtract: "sub subtract __sub__",
    rules.subtract_reflected: "rsub __rsub__",
    rules.divide: "div divide true_divide __truediv__ __div__",
    rules.divide_reflected: "__rtruediv__ __rdiv__",
    rules.reciprocal: "reciprocal",
    rules.power: "pow float_power __pow__",
    rules.clamp: "clamp clip",
    rules.clamp_min: "clamp_min",
    rules.clamp_max: "clamp_max",
    rules.softplus: "softplus",
    rules.linear: "linear",
    rules.reduction("sum"): "sum",
    rules.reduction("mean"): "mean",
    rules.reduction("max"): "amax",
    rules.reduction("min"): "amin",
    rules.reduction("log_sum_exp"): "logsumexp special.logsumexp",
    rules.extremum("max", "maximum"): "max",
    rules.extremum("min", "minimum"): "min",
    rules.deviation("var"): "var",
    rules.deviation("std"): "std",
    rules.entry_norm: "norm",
    rules.linalg_norm: "linalg.norm",
    rules.vector_norm: "linalg.vector_norm",
    rules.matrix_norm: "linalg.matrix_norm",
    rules.cumsum: "cumsum",
    rules.diff: "diff",
    rules.stack: "stack",
    rules.concatenate: "cat concat concatenate",
    rules.joined("hstack"): "hstack",
    rules.joined("vstack"): "vstack row_stack",
    rules.reshape: "reshape view",
    rules.flatten: "flatten ravel",
    rules.squeeze: "squeeze",
    rules.unsqueeze: "unsqueeze",
    rules.swap_axes: "transpose swapaxes swapdims",
    rules.matrix_transpose: "t adjoint",
    rules.permute: "permute",
    rules.move_axes: "movedim moveaxis",
    rules.triangle("triu"): "triu",
    rules.triangle("tril"): "tril",
    rules.broadcast_to: "broadcast_to",
    rules.einsum: "einsum",
    rules.diag: "diag",
    rules.diagonal: "diagonal linalg.diagonal",
    rules.diag_embed: "diag_embed",
}


def _holders_of(name: str) -> list[Any]:
    if "." in name:
        return [attrgetter(name)(torch)]
    places = (torch, torch.Tensor, torch.nn.functional)
    return [getattr(place, name) for place in places if hasattr(place, name)]


_RULES: Mapping[Any, tuple[Callable[..., Any], Signature]] = {
    function: (rule, Signature.from_callable(rule))
    for rule, names in _NAMES.items()
    for name in names.split()
    for function in _holders_of(name)
}
