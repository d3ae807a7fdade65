"""The language for tests of this room: atoms by name, fields, verbs; and a solver."""

from functools import partial
from types import SimpleNamespace

import clarabel
import numpy as np
import scipy.sparse as sp
import torch

from optlayers.compile.convex import compile_convex
from optlayers.modeling import language
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.expressions import apply
from optlayers.modeling.field_kinds import Control, Parameter, State, Variable
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import maximize, minimize

__all__ = [
    "Control",
    "Parameter",
    "State",
    "Variable",
    "compiled",
    "declared",
    "maximize",
    "minimize",
    "ol",
    "solved",
]


def _atom(name, *arguments, **options):
    return apply(name, arguments, **options)


ol = SimpleNamespace(
    **{name: partial(_atom, name) for name in ATOMS},
    between=language.between,
    nonneg=language.nonneg,
    nonpos=language.nonpos,
    psd_matrix=language.psd_matrix,
    total=language.total,
)


def declared(function, steps=None, **sizes):
    """The traced declaration."""
    return declare(function).trace(sizes, steps)


def compiled(function, steps=None, **sizes):
    """The template of a declaration at some sizes."""
    return compile_convex(declared(function, steps, **sizes))


def matrix(value):
    """A program's matrix, dense, of its first sample."""
    dense = value if isinstance(value, torch.Tensor) else value.to_dense()
    return (dense if dense.ndim == 2 else dense[0]).numpy()


def solved(template, parameters, captured=None):
    """Solution of one sample by Clarabel: variables, multipliers, objective."""
    leaves = template.evaluate_leaves(parameters, captured or {})
    program, offset = template.bind(leaves, 1)
    found = clarabel.DefaultSolver(
        sp.csc_matrix((template.n, template.n))
        if program.P is None
        else sp.csc_matrix(np.triu(matrix(program.P))),
        program.q[0].numpy(),
        sp.csc_matrix(matrix(program.A)),
        program.b[0].numpy(),
        _cones(template.cones),
        _settings(),
    ).solve()
    assert str(found.status) in ("Solved", "AlmostSolved"), found.status
    x = torch.tensor(found.x, dtype=torch.float64)[None]
    y = torch.tensor(found.z, dtype=torch.float64)[None]
    objective = (program.objective(x) + offset).item()
    return SimpleNamespace(
        values={name: read(x)[0].numpy() for name, read in template.variables.items()},
        duals={name: read(y)[0].numpy() for name, read in template.duals.items()},
        objective=-objective if template.maximize else objective,
    )


def _cones(cones):
    found = [clarabel.ZeroConeT(cones.zero)] if cones.zero else []
    found += [clarabel.NonnegativeConeT(cones.nonneg)] if cones.nonneg else []
    return found + [clarabel.SecondOrderConeT(size) for size in cones.soc]


def _settings():
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    return settings
