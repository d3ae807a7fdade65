"""Problems that call modules, as functions of the modules' tensors too.

An operator that transforms cannot look into must be given every tensor it reads.
"""

from dataclasses import replace

import torch
from torch import nn

from optlayers.solvers.minimize.plan import MinimizePlan, PointFunction
from optlayers.solvers.root.modules import Standalone, tensors_of


@torch.compiler.assume_constant_result
def standalone(plan: MinimizePlan, names: tuple[str, ...], *modules: nn.Module) -> int:
    """The handle of a plan that takes the tensors of modules as its last inputs.

    Dynamo runs this as it is, at trace time, so it takes modules one by one.

    Args:
        plan: of the problem that calls them; keeps the plan that is made.
        names: of the modules, as the problem knows them.
        *modules: as many.
    """
    tensors = tensors_of(modules)
    shapes = tuple(one.ndim for one in tensors)
    key = (*map(id, modules), *shapes)
    found = plan.standalone.get(key)
    if found is None:
        own = dict(zip(names, modules, strict=True))

        def alone(function: PointFunction) -> PointFunction:
            return Standalone(function, plan.input_ndims, own)

        given = ("objective", "equalities", "inequalities", "residuals", "loss")
        given = (*given, "auxiliary_starts")
        functions = {name: getattr(plan, name) for name in given}
        made = replace(
            plan,
            input_ndims=(*plan.input_ndims, *shapes),
            separable=plan.separable and tuple(map(alone, plan.separable)),
            **{n: None if one is None else alone(one) for n, one in functions.items()},
        )
        found = plan.standalone.setdefault(key, made)
    return found.handle
