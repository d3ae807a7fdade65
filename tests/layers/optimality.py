"""The four conditions of Karush, Kuhn and Tucker, from the declaration itself.

L = f + sum of multiplier * (left - right), by the names in `out.dual`; where something
is maximized, f is its negative.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optlayers.modeling.evaluate import Evaluator


def kkt_errors(
    problem: Any, out: Any, given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """How far each sample of a problem without stages is from each condition, [B].

    Relative to the largest slope of objective and constraints' terms where above 1.

    Args:
        problem: of fixed sizes.
        out: its result, of one batch axis.
        given: the parameters, shared by all samples.
    """
    declared = problem.declared.trace({}, None)
    fields = declared.fields.values()
    names = [one.name for one in fields if one.is_variable]
    x = {name: out[name].detach().double().requires_grad_() for name in names}
    sides = [side for one in declared.constraints for side in (one.left, one.right)]
    evaluator = Evaluator([declared.objective, *sides], variables=names)
    (value, *found), _ = evaluator.batched({**x, **given}, {})
    terms = [-value if declared.sense == "maximize" else value]
    parts: dict[str, list[Tensor]] = {
        "equalities": [], "inequalities": [], "sign": [], "complementarity": [],
    }  # fmt: skip
    for k, one in enumerate(declared.constraints):
        excess = found[2 * k] - found[2 * k + 1]
        multiplier = out.dual[one.name].detach()
        terms.append((multiplier * excess).reshape(len(out.status), -1).sum(1))
        if one.relation == "==":
            parts["equalities"].append(excess)
            continue
        parts["inequalities"].append(excess.clamp_min(0))
        parts["sign"].append(multiplier.clamp_max(0))
        parts["complementarity"].append(multiplier * excess)
    slopes = torch.stack([_slope(one, list(x.values())) for one in terms])
    size = slopes.abs().amax((0, 2)).clamp_min(1)
    errors = {name: _largest(entries, size) for name, entries in parts.items()}
    errors["complementarity"] = errors["complementarity"] / size
    return {"stationarity": slopes.sum(0).abs().amax(1) / size, **errors}


def _largest(parts: list[Tensor], like: Tensor) -> Tensor:
    found = [one.detach().reshape(len(like), -1).abs().amax(1) for one in parts]
    return torch.stack([torch.zeros_like(like), *found]).amax(0)


def _slope(value: Tensor, x: list[Tensor]) -> Tensor:
    """The gradient of each sample's number in all its variables, [B] -> [B, n]."""
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(one).reshape(len(one), -1) for one in x], 1)
    found = torch.autograd.grad(
        value.sum(), x, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([one.reshape(len(one), -1) for one in found], 1)
