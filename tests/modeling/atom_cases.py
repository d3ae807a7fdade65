"""One or more calls of every atom, and points at which it is smooth.

An argument is described by a domain and a shape: "any 3", "positive 2 3", "psd 3".
"""

from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np


@dataclass(frozen=True)
class Case:
    """One call of an atom.

    Attributes:
        name: the atom.
        arguments: a domain and a shape each.
        options: its static options.
    """

    name: str
    arguments: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({', '.join(self.arguments)}; {options})"

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(_shape(argument) for argument in self.arguments)

    def point(self, generator: np.random.Generator) -> list[np.ndarray]:
        return [_sample(argument, generator) for argument in self.arguments]

    def cvxpy(self, arguments: list[Any]) -> cp.Expression:
        """cvxpy's own atom of that name, not our twin of it."""
        function = _CVXPY.get(self.name) or getattr(cp, self.name)
        return function(*arguments, **self.options)


def _shape(argument: str) -> tuple[int, ...]:
    domain, *sizes = argument.split()
    return tuple(map(int, sizes)) * (2 if domain == "psd" else 1)


def _sample(argument: str, generator: np.random.Generator) -> np.ndarray:
    shape = _shape(argument)
    domain = argument.split()[0]
    if domain == "any":
        return generator.standard_normal(shape)
    if domain == "fraction":  # of which three in a row have a sum below one
        return generator.uniform(0.05, 0.25, shape)
    if domain == "positive":
        return generator.uniform(0.3, 2.0, shape)
    square = generator.standard_normal(shape)
    return square @ square.T + 0.5 * np.eye(shape[0])


def _listed(function):
    return lambda *arguments, **options: function(list(arguments), **options)


def _perspective(*arguments, of, **options):
    """s f(x / s), written out."""
    *inner, s = arguments
    return s * getattr(cp, of)(*(one / s for one in inner), **options)


_CVXPY = {
    "triu": lambda X, k=0: cp.multiply(np.triu(np.ones(X.shape), k), X),
    "tril": lambda X, k=0: cp.multiply(np.tril(np.ones(X.shape), k), X),
    "einsum": lambda *factors, subscripts: cp.einsum(subscripts, *factors),
    "perspective": _perspective,
    "add": lambda x, y: x + y,
    "negate": lambda x: -x,
    "divide": lambda x, y: x / y,
    "hstack": _listed(cp.hstack),
    "vstack": _listed(cp.vstack),
    "stack": _listed(cp.stack),
    "concatenate": _listed(cp.concatenate),
}


def _all(name: str, *calls: str, **options: Any) -> list[Case]:
    return [Case(name, tuple(call.split(", ")), options) for call in calls]


def _everywhere(name: str, domain: str, **options: Any) -> list[Case]:
    return _all(name, domain, f"{domain} 3", f"{domain} 2 3", **options)


def _reduced(name: str, domain: str = "any", **options: Any) -> list[Case]:
    return [
        *_all(name, f"{domain} 4", f"{domain} 2 3", **options),
        *_all(name, f"{domain} 2 3", axis=0, **options),
        *_all(name, f"{domain} 2 3", axis=-1, keepdims=True, **options),
    ]


_PAIRS = ("any 3, any 3", "any 2 3, any 3", "any, any 2 2", "any 2 1, any 1 3")
_POSITIVE_PAIRS = ("positive 3, positive 3", "positive, positive 2 2")

CASES: list[Case] = [
    *_all("add", *_PAIRS),
    *_everywhere("negate", "any"),
    *_all("multiply", *_PAIRS),
    *_all("divide", "any 3, positive 3", "any 2 3, positive", "any, positive 3"),
    *_all("matmul", "any 3, any 3", "any 2 3, any 3", "any 2, any 2 3"),
    *_all("matmul", "any 2 3, any 3 4", "any 2 3 4, any 4 2"),
    *_everywhere("power", "any", p=2),
    *_everywhere("power", "positive", p=3),
    *_everywhere("power", "positive", p=0.5),
    *_everywhere("power", "positive", p=-1),
    *_everywhere("power", "any", p=4),
    *_everywhere("abs", "any"),
    *_everywhere("square", "any"),
    *_everywhere("sqrt", "positive"),
    *_everywhere("pos", "any"),
    *_everywhere("neg", "any"),
    *_everywhere("inv_pos", "positive"),
    *_everywhere("exp", "any"),
    *_everywhere("log", "positive"),
    *_everywhere("log1p", "positive"),
    *_everywhere("logistic", "any"),
    *_everywhere("entr", "positive"),
    *_everywhere("huber", "any"),
    *_everywhere("huber", "any", M=0.5),
    *_everywhere("xexp", "positive"),
    *_all("scalene", "any 3, positive, positive", "any 2 3, positive, positive"),
    *_everywhere("loggamma", "positive"),
    *_everywhere("log_normcdf", "any"),
    *_all("kl_div", *_POSITIVE_PAIRS),
    *_all("rel_entr", *_POSITIVE_PAIRS),
    *_all("maximum", *_PAIRS, "any 3, any 3, any"),
    *_all("minimum", *_PAIRS, "any 3, any 3, any"),
    *_reduced("sum"),
    *_all("sum", "any 2 3 2", axis=(0, 2)),
    *_reduced("mean"),
    *_reduced("var"),
    *_reduced("var", ddof=1),
    *_reduced("std"),
    *_reduced("max"),
    *_reduced("min"),
    *_all("max", "any 2 3 2", axis=(0, 2)),
    *_reduced("ptp"),
    *_reduced("sum_squares"),
    *_reduced("sum_largest", k=2),
    *_reduced("sum_smallest", k=2),
    *_all("sum_largest", "any", k=1),
    *_all("sum_largest", "any 5", k=2.5),
    *_reduced("log_sum_exp"),
    *_reduced("geo_mean", "positive"),
    *_all("geo_mean", "positive 3", p=(1, 2, 1)),
    *_all("cvar", "any 5", beta=0.5),
    *_all("cvar", "any 4", beta=0.25),
    *_all("inv_prod", "positive 4"),
    *_all("harmonic_mean", "positive 4", "positive 2 3"),
    *_all("norm", "any 4", "any 2 3", "any 1 3", "any"),
    *_all("norm", "any 4", "any 2 3", p=1),
    *_all("norm", "any 4", "any 2 3", p="inf"),
    *_all("norm", "any 2 3", p="fro"),
    *_all("norm", "any 2 3", p="nuc"),
    *_all("norm", "any 4", p=3),
    *_all("norm", "any 2 3", p=2, axis=0),
    *_all("norm", "any 2 3", p=1, axis=1, keepdims=True),
    *_reduced("norm1"),
    *_reduced("norm_inf"),
    *_reduced("pnorm"),
    *_all("pnorm", "any 4", "any 2 3", p=3),
    *_all("pnorm", "positive 4", p=0.5),
    *_all("mixed_norm", "any 2 3"),
    *_all("mixed_norm", "any 2 3", p=2, q="inf"),
    *_all("quad_form", "any 3, psd 3"),
    *_all("quad_over_lin", "any 3, positive", "any 2 3, positive"),
    *_all("quad_over_lin", "any 2 3, positive", axis=1),
    *_all("matrix_frac", "any 3, psd 3", "any 3 2, psd 3"),
    *_all("vdot", "any 3, any 3", "any 2 3, any 2 3"),
    *_all("dotsort", "any 4, any 4", "any 4, any 2"),
    *_all("outer", "any 2, any 3"),
    *_all("kron", "any 2 3, any 3 2"),
    *_all("convolve", "any 2, any 4", "any 3, any 3", "any, any 2"),
    *_all("einsum", "any 2 3, any 3 4", subscripts="ij,jk->ki"),
    *_all("einsum", "any 3 3", subscripts="ii->i"),
    *_all("einsum", "any 3, any 2 3, any 2", subscripts="i,ji,j->"),
    *_all("tv", "any 4", "any 3 4", "any 3 4, any 3 4"),
    *_all("trace", "any 3 3"),
    *_all("lambda_max", "psd 3"),
    *_all("lambda_min", "psd 3"),
    *_all("lambda_sum_largest", "psd 3", k=2),
    *_all("lambda_sum_smallest", "psd 3", k=2),
    *_all("log_det", "psd 3"),
    *_all("tr_inv", "psd 3"),
    *_all("von_neumann_entr", "psd 3"),
    *_all("sigma_max", "any 2 3"),
    *_all("normNuc", "any 2 3"),
    *_all("reshape", "any 2 3", shape=(3, 2), order="C"),
    *_all("reshape", "any 2 3", shape=(3, -1), order="F"),
    *_all("reshape", "any 6", shape=(1, 2, 3), order="F"),
    *_all("vec", "any 2 3", order="C"),
    *_all("vec", "any 2 3", order="F"),
    *_all("transpose", "any 2 3", "any 3"),
    *_all("transpose", "any 2 3 4", axes=(1, 2, 0)),
    *_all("concatenate", "any 2 3, any 1 3", axis=0),
    *_all("concatenate", "any 2 3, any 2 1", axis=1),
    *_all("concatenate", "any 2 3, any 2", axis=None),
    *_all("stack", "any 3, any 3", axis=0),
    *_all("stack", "any 2 3, any 2 3", axis=-1),
    *_all("hstack", "any 2, any 3", "any 2 3, any 2 1", "any, any 2"),
    *_all("vstack", "any 3, any 3", "any 2 3, any 1 3", "any, any"),
    *_all("diag", "any 3", "any 3 3"),
    *_all("diag", "any 3", "any 3 3", k=1),
    *_all("upper_tri", "any 3 3"),
    *_all("vec_to_upper_tri", "any 6", "any 3 1"),
    *_all("vec_to_upper_tri", "any 3", strict=True),
    *_all("triu", "any 3 3", "any 2 3"),
    *_all("triu", "any 3 3", k=1),
    *_all("tril", "any 3 2", k=-1),
    *_all("broadcast_to", "any 3", "any", "any 2 1", shape=(2, 3)),
    *_all("partial_trace", "any 6 6", dims=(2, 3)),
    *_all("partial_trace", "any 6 6", dims=(2, 3), axis=1),
    *_all("partial_transpose", "any 6 6", dims=(2, 3)),
    *_all("partial_transpose", "any 8 8", dims=(2, 2, 2), axis=1),
    *_all("cumsum", "any 4", "any 2 3", axis=0),
    *_all("cumsum", "any 2 3", axis=1),
    *_all("cumsum", "any 2 3", axis=None),
    *_all("cummax", "any 4", "any 2 3", axis=0),
    *_all("diff", "any 4", "any 3 3"),
    *_all("diff", "any 4", k=2),
    *_all("diff", "any 2 3", axis=1),
    *_reduced("prod", "positive"),
    *_all("cumprod", "positive 4", "positive 2 3", axis=0),
    *_all("cumprod", "positive 2 3", axis=1),
    *_all("one_minus_pos", "fraction", "fraction 3"),
    *_all("diff_pos", "positive 3, fraction 3", "positive 2 3, fraction"),
    *_all("eye_minus_inv", "fraction 3 3"),
    *_all("resolvent", "fraction 3 3, positive"),
    *_all("pf_eigenvalue", "positive 3 3"),
    *_all("gmatmul", "any 2 3, positive 3", "any 2 3, positive 3 2"),
    *_all("perspective", "any 3, positive", of="square"),
    *_all("perspective", "any 3, positive", "any 2 3, positive", of="sum_squares"),
    *_all("perspective", "positive 3, positive", of="log"),
    *_all("perspective", "positive, positive", of="log1p"),
    *_all("perspective", "positive 3, positive", of="entr"),
    *_all("perspective", "positive 3, positive", of="inv_pos"),
    *_all("perspective", "positive 2, positive", of="power", p=4),
    *_all("perspective", "positive 3, positive", of="sqrt"),
]
