"""One declared problem for every atom, and the same in cvxpy from the same words.

`words` is the module that the formula is read with: optlayers on fields, cvxpy on one
sample's numbers. A convex atom f is minimized as f(A x + b) + |x - y|^2 over
sum(x) = t, a concave one maximized, and an affine one limits |x - y|^2, so that
solutions are unique and every parameter stands inside the atom.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
import torch

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize


@dataclass(frozen=True, eq=False)
class AtomProblem:
    """A declaration and its twin.

    Attributes:
        name: the atom, as the table has it.
        label: tells it from other problems of the same atom.
        domain: of the argument: "any", "positive", "nonneg" (declared so) or "psd".
        shape: of the argument, which is the variable's.
        formula: called as `formula(words, z, **more)`; a scalar; of any shape if
            affine.
        curvature: "convex", "concave" or "affine".
        more: domain and shape of further parameters.
    """

    name: str
    label: str
    domain: str
    shape: tuple[int, ...]
    formula: Callable[..., Any]
    curvature: str
    more: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {self.label}".strip()

    # ---- parameters ------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Domain and shape of every parameter."""
        square = (self.shape[0], self.shape[0])
        if self.curvature == "affine":
            own = {"A": ("scales", self.shape), "b": ("limits", self._image())}
        elif not self.shape:
            own = {"A": ("one", ()), "b": (f"{self.domain} shift", ())}
        else:
            kind = "nonneg one" if self.domain == "nonneg" else "one"
            own = {"A": (kind, square), "b": (f"{self.domain} shift", self.shape)}
        target = "psd target" if self.domain == "psd" else f"{self.domain} target"
        if self.curvature == "affine":
            target = "any target"
        own["y"] = (target, self.shape)
        if self.curvature != "affine":
            own["t"] = ("total", ())
        return own | self.more

    def _image(self) -> tuple[int, ...]:
        numbers = {name: np.ones(shape) for name, (_, shape) in self.more.items()}
        return self.formula(cp, cp.Variable(self.shape), **numbers).shape

    def batch(self, count: int, seed: int) -> dict[str, torch.Tensor]:
        """Random parameters, [count, *shape] each."""
        generator = np.random.default_rng(seed)
        return {
            name: torch.tensor(
                np.stack([_draw(kind, shape, generator) for _ in range(count)])
            )
            for name, (kind, shape) in self.parameters.items()
        }

    def directions(self, count: int, seed: int) -> dict[str, torch.Tensor]:
        """Random directions in which parameters may move; symmetric where they are."""
        generator = np.random.default_rng(seed)
        found = {}
        for name, (kind, shape) in self.parameters.items():
            step = torch.tensor(generator.standard_normal((count, *shape)))
            found[name] = (step + step.mT) / 2 if "psd" in kind else step
        return found

    # ---- the problem, twice ----------------------------------------------------------

    def declared(self) -> ol.Problem:
        """The declaration."""
        known = {"psd": {"symmetric": True}, "nonneg": {"nonneg": True}}
        fields: dict[str, Any] = {
            "x": Variable(self.shape, **known.get(self.domain, {}))
        }
        for name, (kind, shape) in self.parameters.items():
            signed = kind.split()[0] == "nonneg" and name in ("A", "b", *self.more)
            is_psd = kind == "psd shift" or kind == "psd"
            fields[name] = Parameter(
                shape, nonneg=signed, **({"psd": True} if is_psd else {})
            )

        def body(**given: Any) -> Any:
            x = given.pop("x")
            objective, constraints = self._written(ol, x, **given)
            verb = maximize if self.curvature == "concave" else minimize
            return verb(objective, **constraints)

        body.__name__ = f"of_{self.name}"
        body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=one)
            for name, one in fields.items()
        )
        return ol.problem(body)

    def reference(
        self, numbers: dict[str, np.ndarray]
    ) -> tuple[cp.Problem, cp.Variable, dict[str, cp.Constraint]]:
        """The same in cvxpy, of one sample."""
        known = {"psd": {"symmetric": True}, "nonneg": {"nonneg": True}}
        x = cp.Variable(self.shape, **known.get(self.domain, {}))
        objective, constraints = self._written(cp, x, **numbers)
        goal = cp.Maximize if self.curvature == "concave" else cp.Minimize
        return cp.Problem(goal(objective), list(constraints.values())), x, constraints

    def _written(self, words: Any, x: Any, **given: Any) -> Any:
        more = {name: given[name] for name in self.more}
        near = words.sum_squares(x - given["y"])
        if self.curvature == "affine":
            z = words.multiply(given["A"], x)
            return near, {"limits": self.formula(words, z, **more) <= given["b"]}
        A, b = given["A"], given["b"]
        if self.name == "perspective":
            value = self.formula(words, x, A, b)
        else:
            value = self.formula(words, self._argument(x, A, b), **more)
        plane = {"plane": words.sum(x) == given["t"]}
        sign = -1 if self.curvature == "concave" else 1
        return value + sign * near, plane

    def _argument(self, x: Any, A: Any, b: Any) -> Any:
        if not self.shape:
            return A * x + b
        if self.domain == "psd":
            return A @ x @ A.T + b
        return A @ x + b


def _draw(kind: str, shape: tuple[int, ...], generator: Any) -> np.ndarray:
    if kind in ("one", "nonneg one"):
        noise = 0.2 * generator.standard_normal(shape)
        noise = np.abs(noise) if "nonneg" in kind else noise
        return (np.eye(shape[0]) if shape else 1.0) + noise
    if kind == "scales":
        return generator.uniform(0.5, 1.5, shape)
    if kind == "limits":
        return generator.uniform(0.1, 0.5, shape)
    if kind == "total":
        return generator.uniform(0.5, 1.0, shape)
    if kind in ("positive shift", "positive"):
        return generator.uniform(1.0, 2.0, shape)
    if kind in ("nonneg shift", "nonneg"):
        return generator.uniform(0.2, 0.8, shape)
    if kind in ("positive target", "nonneg target"):
        return generator.uniform(0.8, 1.6, shape)
    noise = generator.standard_normal(shape)
    if kind == "psd target":
        return 0.5 * (noise + noise.T)
    if kind in ("psd shift", "psd"):
        return 0.3 * noise @ noise.T + 1.5 * np.eye(shape[0])
    return noise


PROBLEMS: list[AtomProblem] = []


def _problem(curvature, name, argument, formula, label="", **more):
    domain, *sizes = argument.split()
    shape = tuple(map(int, sizes)) * (2 if domain == "psd" else 1)
    wanted = {}
    for key, described in more.items():
        kind, *dimensions = described.split()
        size = tuple(map(int, dimensions)) * (2 if kind == "psd" else 1)
        wanted[key] = (kind, size)
    PROBLEMS.append(AtomProblem(name, label, domain, shape, formula, curvature, wanted))


def _convex(*arguments, **more):
    _problem("convex", *arguments, **more)


def _concave(*arguments, **more):
    _problem("concave", *arguments, **more)


def _affine(*arguments, **more):
    _problem("affine", *arguments, **more)


# ---- arithmetic ----------------------------------------------------------------------

_affine("add", "any 3", lambda o, z, p: z + p, p="any 3")
_affine("negate", "any 3", lambda o, z: -z)
_affine("multiply", "any 3", lambda o, z, p: o.multiply(p, z), p="any 3")
_affine("divide", "any 3", lambda o, z, p: z / p, p="positive 3")
_affine("matmul", "any 3", lambda o, z, P: P @ z, P="any 2 3")
_convex("power", "any 3", lambda o, z: o.sum(o.power(z, 2)), "square")
_convex("power", "any 3", lambda o, z: o.sum(o.power(z, 4)), "fourth")
_convex("power", "nonneg 3", lambda o, z: o.sum(o.power(z, 3)), "cube")
_convex("power", "nonneg 3", lambda o, z: o.sum(o.power(z, -1)), "reciprocal")
_convex("power", "positive 3", lambda o, z: o.sum(o.power(z, 1.7, approx=False)), "1.7")
_concave("power", "positive 3", lambda o, z: o.sum(o.power(z, 0.5)), "root")

# ---- entry by entry ------------------------------------------------------------------

_convex("abs", "any 3", lambda o, z: o.sum(o.abs(z)))
_convex("square", "any 3", lambda o, z: o.sum(o.square(z)))
_concave("sqrt", "positive 3", lambda o, z: o.sum(o.sqrt(z)))
_convex("pos", "any 3", lambda o, z: o.sum(o.pos(z)))
_convex("neg", "any 3", lambda o, z: o.sum(o.neg(z)))
_convex("inv_pos", "positive 3", lambda o, z: o.sum(o.inv_pos(z)))
_convex("exp", "any 3", lambda o, z: o.sum(o.exp(z)))
_concave("log", "positive 3", lambda o, z: o.sum(o.log(z)))
_concave("log1p", "positive 3", lambda o, z: o.sum(o.log1p(z)))
_convex("xexp", "nonneg 3", lambda o, z: o.sum(o.xexp(z)))
_convex("scalene", "any 3", lambda o, z, p, q: o.sum(o.scalene(z, p, q)),
        p="nonneg", q="nonneg")  # fmt: skip
_convex("loggamma", "positive 3", lambda o, z: o.sum(o.loggamma(z)))
_concave("log_normcdf", "any 3", lambda o, z: o.sum(o.log_normcdf(z)))
_convex("logistic", "any 3", lambda o, z: o.sum(o.logistic(z)))
_concave("entr", "positive 3", lambda o, z: o.sum(o.entr(z)))
_convex("huber", "any 3", lambda o, z: o.sum(o.huber(z, 0.5)))
_convex("kl_div", "positive 3", lambda o, z, p: o.sum(o.kl_div(z, p)), p="positive 3")
_convex("rel_entr", "positive 3", lambda o, z, p: o.sum(o.rel_entr(p, z)),
        p="positive 3")  # fmt: skip
_convex("rel_entr", "positive 4", lambda o, z: o.sum(o.rel_entr(z[:2], z[2:])), "both")
_convex("maximum", "any 3", lambda o, z, p: o.sum(o.maximum(z, p)), p="any 3")
_concave("minimum", "any 3", lambda o, z, p: o.sum(o.minimum(z, p)), p="any 3")

# ---- reductions ----------------------------------------------------------------------

_affine("sum", "any 2 3", lambda o, z: o.sum(z, axis=1))
_affine("mean", "any 2 3", lambda o, z: o.mean(z, axis=0))
_convex("var", "any 4", lambda o, z: o.var(z, ddof=1))
_convex("std", "any 4", lambda o, z: o.std(z))
_convex("max", "any 2 3", lambda o, z: o.sum(o.max(z, axis=1)))
_concave("min", "any 2 3", lambda o, z: o.sum(o.min(z, axis=0)))
_convex("ptp", "any 4", lambda o, z: o.ptp(z))
_convex("sum_squares", "any 2 3", lambda o, z: o.sum_squares(z))
_convex("sum_largest", "any 4", lambda o, z: o.sum_largest(z, 2))
_concave("sum_smallest", "any 4", lambda o, z: o.sum_smallest(z, 2))
_convex("log_sum_exp", "any 2 3", lambda o, z: o.sum(o.log_sum_exp(z, axis=1)))
_convex("cvar", "any 5", lambda o, z: o.cvar(z, 0.5))
_concave("geo_mean", "positive 3", lambda o, z: o.geo_mean(z))
_concave("geo_mean", "positive 3", lambda o, z: o.geo_mean(z, [1, 2, 1]), "weighted")
_concave("harmonic_mean", "positive 3", lambda o, z: o.harmonic_mean(z))
_convex("inv_prod", "positive 3", lambda o, z: o.inv_prod(z))
_convex("norm", "any 3", lambda o, z: o.norm(z))
_convex("norm", "any 3 2", lambda o, z: o.norm(z, 2), "spectral")
_convex("norm1", "any 3", lambda o, z: o.norm1(z))
_convex("norm_inf", "any 3", lambda o, z: o.norm_inf(z))
_convex("pnorm", "any 3", lambda o, z: o.pnorm(z, 3), "3")
_convex("pnorm", "any 3", lambda o, z: o.pnorm(z, 1.7, approx=False), "1.7")
_concave("pnorm", "positive 3", lambda o, z: o.pnorm(z, 0.5), "half")
_convex("mixed_norm", "any 2 3", lambda o, z: o.mixed_norm(z, 2, 1))

# ---- products ------------------------------------------------------------------------

_convex("quad_form", "any 3", lambda o, z, P: o.quad_form(z, P), P="psd 3")
_convex("quad_over_lin", "positive 3", lambda o, z: o.quad_over_lin(z[:2], z[2]))
_convex("matrix_frac", "any 3", lambda o, z, P: o.matrix_frac(z, P), P="psd 3")
_affine("vdot", "any 2 2", lambda o, z, P: o.vdot(z, P), P="any 2 2")
_convex("dotsort", "any 4", lambda o, z, p: o.dotsort(z, p), p="nonneg 2")
_affine("outer", "any 3", lambda o, z, p: o.outer(p, z), p="any 2")
_affine("kron", "any 2 2", lambda o, z, P: o.kron(P, z), P="any 2 2")
_affine("convolve", "any 3", lambda o, z, p: o.convolve(p, z), p="any 2")
_affine("einsum", "any 2 3", lambda o, z, P: o.einsum("ij,ik->kj", P, z), P="any 2 2")
_convex("tv", "any 4", lambda o, z: o.tv(z))
_convex("tv", "any 3 3", lambda o, z: o.tv(z), "image")

# ---- spectra -------------------------------------------------------------------------

_affine("trace", "any 3 3", lambda o, z: o.trace(z))
_convex("lambda_max", "psd 3", lambda o, z: o.lambda_max(z))
_concave("lambda_min", "psd 3", lambda o, z: o.lambda_min(z))
_convex("lambda_sum_largest", "psd 3", lambda o, z: o.lambda_sum_largest(z, 2))
_concave("lambda_sum_smallest", "psd 3", lambda o, z: o.lambda_sum_smallest(z, 2))
_concave("log_det", "psd 3", lambda o, z: o.log_det(z))
_concave("von_neumann_entr", "psd 2", lambda o, z: o.von_neumann_entr(
    z if o is ol else cp.symmetric_wrap(z)  # cvxpy does not see that it is symmetric
))  # fmt: skip
_convex("tr_inv", "psd 3", lambda o, z: o.tr_inv(z))
_convex("sigma_max", "any 3 2", lambda o, z: o.sigma_max(z))
_convex("normNuc", "any 3 2", lambda o, z: o.normNuc(z))

# ---- arrangement ---------------------------------------------------------------------

_affine("reshape", "any 2 3", lambda o, z: o.reshape(z, (3, 2), order="F"))
_affine("vec", "any 2 3", lambda o, z: o.vec(z, order="F"))
_affine("transpose", "any 2 3", lambda o, z: o.transpose(z))
_affine("concatenate", "any 3", lambda o, z, p: o.concatenate([z, -p]),
        p="positive 2")  # fmt: skip
_affine("stack", "any 3", lambda o, z: o.stack([z, -z]))
_affine("hstack", "any 3", lambda o, z: o.hstack([z, z[0]]))
_affine("vstack", "any 3", lambda o, z: o.vstack([z, -z]))
_affine("diag", "any 3", lambda o, z: o.diag(z))
_affine("upper_tri", "any 3 3", lambda o, z: o.upper_tri(z))
_affine("vec_to_upper_tri", "any 3", lambda o, z: o.vec_to_upper_tri(z))
_affine("broadcast_to", "any 3", lambda o, z: o.broadcast_to(z, (2, 3)))
_affine("partial_trace", "any 4 4", lambda o, z: o.partial_trace(z, (2, 2), 1))
_affine("partial_transpose", "any 4 4", lambda o, z: o.partial_transpose(z, (2, 2)))
_affine("cumsum", "any 4", lambda o, z: o.cumsum(z))
_convex("cummax", "any 4", lambda o, z: o.sum(o.cummax(z)))
_affine("diff", "any 4", lambda o, z: o.diff(z))


def _triangle(name):
    """cvxpy has none: a product with a mask."""
    mask = getattr(np, name)(np.ones((3, 3)))

    def formula(words, z):
        return getattr(words, name)(z) if words is ol else cp.multiply(mask, z)

    return formula


_affine("triu", "any 3 3", _triangle("triu"))
_affine("tril", "any 3 3", _triangle("tril"))


# ---- perspectives --------------------------------------------------------------------


def _perspective(label, function, closed):
    """Of function(A x + b) and s; cvxpy's side is the closed form s f((A x + b s) / s).

    x and s are the first two and the last entry of the variable.
    """

    def formula(words, z, A, b):
        x, s = z[:2], z[2]
        if words is ol:
            return ol.perspective(function(A[:2, :2] @ x + b[:2]), s)
        return closed(A[:2, :2] @ x + b[:2] * s, s)

    _convex("perspective", "nonneg 3", formula, label)


def _entries(terms):
    return cp.sum(cp.hstack(terms))


_perspective("square", lambda z: ol.sum(z**2), lambda v, s: cp.quad_over_lin(v, s))
_perspective(
    "norm and constant",
    lambda z: ol.norm(z) + ol.sum_squares(z) + 1,
    lambda v, s: cp.norm(v) + cp.quad_over_lin(v, s) + s,
)
_perspective(
    "log", lambda z: -ol.sum(ol.log(z)),
    lambda v, s: _entries([cp.rel_entr(s, v[k]) for k in range(2)]),
)  # fmt: skip
_perspective(
    "entr", lambda z: -ol.sum(ol.entr(z)),
    lambda v, s: _entries([cp.rel_entr(v[k], s) for k in range(2)]),
)  # fmt: skip
_perspective(
    "inv_pos", lambda z: ol.sum(ol.inv_pos(z)),
    lambda v, s: _entries([cp.quad_over_lin(s, v[k]) for k in range(2)]),
)  # fmt: skip
_perspective(
    "fourth power", lambda z: ol.sum(z**4),
    # v^4 / s^3 = (v^2 / s)^2 / s, convex and increasing in v^2 / s.
    lambda v, s: _entries(
        [cp.quad_over_lin(cp.quad_over_lin(v[k], s), s) for k in range(2)]
    ),
)  # fmt: skip
