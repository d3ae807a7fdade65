"""The four conditions of Karush, Kuhn and Tucker, from the declaration itself.

L = f + sum of multiplier * (left - right), by the names in `out.dual`; where something
is maximized, f is its negative.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optlayers.modeling.evaluate import Evaluator


def kkt_errors(problem: Any, out: Any, given: Mapping[str, Tensor]) -> dict[str, float]:
    """How far one sample of a problem without stages is from each condition.

    Relative to the largest slope of objective and constraints' terms where above 1.

    Args:
        problem: of fixed sizes.
        out: its result for one sample.
        given: the parameters of that sample.
    """
    declared = problem.declared.trace({}, None)
    x = {
        name: out[name].detach().double().requires_grad_()
        for name, one in declared.fields.items()
        if one.is_variable
    }
    sides = [side for one in declared.constraints for side in (one.left, one.right)]
    evaluator = Evaluator([declared.objective, *sides], variables=x)
    value, *found = evaluator({**x, **given}, {})
    sign = -1.0 if declared.sense == "maximize" else 1.0
    terms = [sign * value.double()]
    errors = dict.fromkeys(("equalities", "inequalities", "sign", "complementarity"), 0)
    for k, one in enumerate(declared.constraints):
        excess = found[2 * k] - found[2 * k + 1]
        multiplier = out.dual[one.name].detach()
        terms.append((multiplier * excess).sum())
        if one.relation == "==":
            _note(errors, "equalities", excess.abs())
            continue
        _note(errors, "inequalities", excess.clamp_min(0))
        _note(errors, "sign", (-multiplier).clamp_min(0))
        _note(errors, "complementarity", (multiplier * excess).abs())
    slopes = [_slope(one, list(x.values())) for one in terms]
    size = max(1.0, *(one.abs().max().item() for one in slopes))
    stationarity = torch.stack(slopes).sum(0).abs().max().item() / size
    errors["complementarity"] /= size
    return {"stationarity": stationarity, **errors}


def _note(errors: dict[str, float], name: str, entries: Tensor) -> None:
    errors[name] = max(errors[name], entries.max().item())


def _slope(value: Tensor, x: list[Tensor]) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(torch.cat([one.reshape(-1) for one in x]))
    found = torch.autograd.grad(
        value, x, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([one.reshape(-1) for one in found])
