"""`CvxpyLayer` as cvxpylayers has it, solved and differentiated here.

from optlayers.compat import CvxpyLayer   # instead of cvxpylayers.torch
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cvxpy as cp
from torch import Tensor, nn

from optlayers.compat.bridge.naming import describe_leaf, refuse_missing
from optlayers.compat.from_cvxpy import from_cvxpy
from optlayers.errors import DeclarationError, NoEffectWarning
from optlayers.functional.options import OPTION_NAMES
from optlayers.layers.result import Result


class CvxpyLayer(nn.Module):
    """Called by position, answers a tuple, as cvxpylayers' layer of this name.

    The problem need not obey DPP. Solutions are polished, so the settings of solvers
    (`eps`, `max_iters`, ...) are accepted and have no effect; options of this library
    (`solver=`, `tolerance=`, `on_failure=`, `order=`) may be given among them. What is
    given and has no effect is named in a `NoEffectWarning`.

    Attributes:
        layer: the layer that answers, with results by name.
    """

    def __init__(
        self,
        problem: cp.Problem,
        parameters: Sequence[cp.Parameter],
        variables: Sequence[cp.Variable],
        solver: Any = None,
        gp: bool = False,
        verbose: bool = False,
        canon_backend: str | None = None,
        solver_args: Mapping[str, Any] | None = None,
    ) -> None:
        """Translate the problem.

        Args:
            problem: a cvxpy problem.
            parameters: all of its parameters, in the order of the call.
            variables: those to return; multipliers (`constraint.dual_variables`) too.
            solver: accepted, without effect: cvxpylayers' solvers are not ours.
            gp: whether it is a geometric program.
            verbose: accepted, without effect.
            canon_backend: accepted, without effect.
            solver_args: defaults of the call.

        Raises:
            DeclarationError: a parameter is missing, or something returned is neither
                a variable nor a multiplier of the problem.
            NotConvex: it is no convex problem, or with gp=True no geometric program;
                names the first piece that is to blame.
            NotSupported: an atom or constraint that has no counterpart.
        """
        super().__init__()
        refuse_missing(problem, parameters, "a call gives all of the problem's")
        _warn_of(solver=solver, verbose=verbose, canon_backend=canon_backend)
        own = {one.id for one in problem.variables()}
        names = _unreserved(parameters, "p")
        self._reads = [_Reader.of(one, problem) for one in variables]
        primal = [one for one in variables if one.id in own]
        rest = [
            one for one in problem.variables() if one.id not in {v.id for v in primal}
        ]
        unknowns = _unreserved([*primal, *rest], "x")
        convex = None if gp else True
        declared = from_cvxpy(problem, names, unknowns, geometric=gp, convex=convex)
        # Compiled here once, so that what is not convex is refused here.
        declared.template({}, None)
        self._order = tuple(names)
        self._names = {one.id: name for name, one in unknowns.items()}
        self._defaults = dict(solver_args or {})
        self.layer = declared.layer(**_options(self._defaults))

    def forward(
        self,
        *params: Tensor,
        solver_args: Mapping[str, Any] | None = None,
        warm_start: bool = False,
    ) -> tuple[Tensor, ...]:
        """Solve one batch.

        Args:
            *params: a tensor for each parameter, with any batch dimensions first.
            solver_args: options of this call.
            warm_start: accepted, without effect.

        Returns:
            A tensor for each of `variables`, in their order.
        """
        if len(params) != len(self._order):
            raise DeclarationError(
                f"CvxpyLayer takes {len(self._order)} parameters, given {len(params)}."
            )
        _warn_of(warm_start=warm_start)
        given = dict(zip(self._order, params, strict=True))
        out = self.layer(**given, **_options(solver_args or {}))
        return tuple(read(out, self._names) for read in self._reads)


class _Reader:
    """Reads one returned thing off a result."""

    def __init__(self, identity: int, constraint: str | None, part: Any) -> None:
        self.identity = identity
        self.constraint = constraint
        self.part = part

    @classmethod
    def of(cls, one: Any, problem: cp.Problem) -> "_Reader":
        if any(one.id == variable.id for variable in problem.variables()):
            return cls(one.id, None, None)
        for number, constraint in enumerate(problem.constraints):
            for part, dual in enumerate(constraint.dual_variables):
                if dual.id == one.id:
                    name = constraint.label or f"constraint_{number}"
                    return cls(one.id, name, _part(constraint, part, dual))
        raise DeclarationError(
            f"{describe_leaf(one)} is neither a variable nor a multiplier of the "
            "problem."
        )

    def __call__(self, out: Result, names: Mapping[int, str]) -> Tensor:
        if self.constraint is None:
            return out[names[self.identity]]
        multiplier = out.dual[self.constraint]
        return multiplier if self.part is None else self.part(multiplier)


def _part(constraint: Any, part: int, dual: cp.Variable) -> Any:
    """The piece of a cone's multiplier that one of cvxpy's dual variables is."""
    if isinstance(constraint, cp.SOC):
        is_single = constraint.args[1].ndim < 2
        lead = 1 if is_single else 2

        def read(multiplier: Tensor) -> Tensor:
            batch = multiplier.shape[: multiplier.ndim - lead]
            if part == 0:
                return multiplier[..., 0].reshape(*batch, *dual.shape)
            rows = multiplier[..., 1:]
            turned = rows if is_single or constraint.axis else rows.mT
            return turned.reshape(*batch, *dual.shape)

        return read
    if len(constraint.dual_variables) > 1:
        return lambda multiplier: multiplier[..., part]
    return None


def _unreserved(leaves: Sequence[Any], letter: str) -> dict[str, Any]:
    """Names that cannot collide: results are read by position."""
    return {f"{letter}{number}": one for number, one in enumerate(leaves)}


def _warn_of(**arguments: Any) -> None:
    """Name the arguments given that have no effect."""
    given = [f"{name}={one!r}" for name, one in arguments.items() if one]
    if given:
        have = "has" if len(given) == 1 else "have"
        warnings.warn(
            f"{', '.join(given)} {have} no effect; give solver_args options of "
            f"optlayers: {', '.join(sorted(OPTION_NAMES))}.",
            NoEffectWarning,
            stacklevel=3,
        )


def _options(solver_args: Mapping[str, Any]) -> dict[str, Any]:
    """Our options among solver_args; others are said to have no effect."""
    ours = {key: one for key, one in solver_args.items() if key in OPTION_NAMES}
    others = sorted(set(solver_args) - set(ours))
    if others:
        warnings.warn(
            f"solver_args {', '.join(others)} have no effect: solutions are polished "
            f"to the tolerance. Options are {', '.join(sorted(OPTION_NAMES))}.",
            NoEffectWarning,
            stacklevel=3,
        )
    return ours
