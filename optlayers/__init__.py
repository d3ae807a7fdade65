"""Declare the mathematics once, get a batched, differentiable PyTorch layer."""

from optlayers import errors, functional, registry, solvers
from optlayers.layers import Layer, Multipliers, Problem, Result, problem
from optlayers.modeling.language import (
    between,
    nonneg,
    nonpos,
    psd_matrix,
    smooth,
    total,
)
from optlayers.modeling.field_kinds import (
    Control,
    Parameter,
    State,
    Time,
    Variable,
)
from optlayers.modeling.verbs import der, event, integrate, maximize, minimize, solve
from optlayers.solution import Solution, Status
def __getattr__(name):
    from optlayers.modeling.atoms import ATOMS
    from optlayers.modeling.expressions import apply
    if name in ATOMS:
        return lambda *a, **k: apply(name, a, **k)
    raise AttributeError(name)
