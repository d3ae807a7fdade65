"""The way back from log space: values, objective and multipliers as they were declared.

x = exp u. At the solution of log f0 + mu (log f - log g) is stationary; times f0 it is
the Lagrangian f0 + lambda (f - g) with lambda = mu f0 / g, for f = g where mu > 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from optlayers.compile.geometric.relations import LogConstraint, LogObjective
from optlayers.compile.geometric.solved import AtSolution
from optlayers.compile.leaves import LeafEvaluation, LeafTable
from optlayers.compile.outcome import Given, Named
from optlayers.compile.parametric import Parametrics
from optlayers.implicit.failed import replace_failed
from optlayers.modeling.declaration import Declaration


@dataclass(frozen=True, eq=False)
class Multiplier:
    """How one multiplier is read.

    Attributes:
        shape: its shape for one sample, the stage axis first.
        side: number of the logarithm it is divided by; None if it is zero.
        entries: where the entries of the one in log space stand along the flattened
            shape; None if they are all.
    """

    shape: tuple[int, ...]
    side: int | None
    entries: Tensor | None

    def __call__(
        self, read: Tensor | None, scales: list[Tensor], like: Tensor
    ) -> Tensor:
        """The multiplier, [B, *shape].

        Args:
            read: the multiplier in log space, [B, *shape there]; None if it has none.
            scales: what multipliers are scaled with, by number of the side, [B, size].
            like: of the batch size, dtype and device of the result, [B].
        """
        if self.side is None or read is None:
            return like.new_zeros(like.shape[0], *self.shape)
        scale, shape = scales[self.side], read.shape
        if scale.shape[1] < math.prod(shape[1:]):
            # A side without stages, in a constraint that has some.
            shape = torch.Size((shape[0], 1, *shape[2:]))
        scaled = read * scale.reshape(shape)
        if self.entries is None:
            return scaled
        stages = self.shape[: read.ndim - 2]
        size = math.prod(self.shape[len(stages) :])
        whole = scaled.new_zeros(*scaled.shape[:-1], size)
        index = self.entries.to(scaled.device)
        return whole.index_copy(-1, index, scaled).reshape(-1, *self.shape)


class GeometricRecovery:
    """Turns the solution in log space into that of the declared problem.

    Attributes:
        names: the declared variables.
        sign: of the objective; 0 if it is zero.
        multipliers: how each is read, in declared order.
    """

    def __init__(
        self,
        declared: Declaration,
        in_logs: Declaration,
        objective: LogObjective,
        constraints: Mapping[str, LogConstraint],
    ) -> None:
        self.names = tuple(n for n, f in declared.fields.items() if f.is_variable)
        self.sign = objective.sign
        solved, table = AtSolution(in_logs), LeafTable(Parametrics())
        self.multipliers: dict[str, Multiplier] = {}
        for one in declared.constraints:
            found = constraints[one.name]
            lead = () if one.stages is None else (len(one.stages),)
            side = entries = None
            if found.constraint is not None and found.side is not None:
                stages = found.constraint.stages
                side = table.position(solved.on_stages(found.side, stages))
            if found.entries is not None:
                entries = torch.from_numpy(found.entries)
            self.multipliers[one.name] = Multiplier((*lead, *one.shape), side, entries)
        self._sides = LeafEvaluation(table.leaves, solved.shapes)
        self._parameters = tuple(
            n for n, f in declared.fields.items() if not f.is_variable
        )

    def __call__(self, found: Named, given: Given) -> Named:
        """Values, multipliers and objective of the declared problem.

        Args:
            found: those in log space, the objective in its own sense.
            given: parameters, and which samples were solved.
        """
        magnitude = found.objective.exp()
        scales = self._scales(found, given)
        return Named(
            {name: found.values[name].exp() for name in self.names},
            {
                name: read(found.dual.get(name), scales, found.objective)
                for name, read in self.multipliers.items()
            },
            self.sign * magnitude,
        )

    def _scales(self, found: Named, given: Given) -> list[Tensor]:
        """f0 / g of each side, [B, size]."""
        objective = found.objective
        if self.sign == 0:
            objective = torch.zeros_like(objective)
        if given.ok is None:
            return self._ratios(objective, found.values, given.parameters, given)
        # Failed rows stand for a good one, or their NaN would reach shared parameters.
        ok, batch = given.ok, len(objective)
        names = (*found.values, *self._parameters)
        both = {**found.values, **given.parameters}
        rows = [
            one if one.ndim > self._sides.ndims[name] else one.expand(batch, *one.shape)
            for name, one in ((name, both[name]) for name in names)
        ]
        good, *rest = replace_failed([objective, *rows], ok)
        replaced = dict(zip(names, rest, strict=True))
        logs = {name: replaced[name] for name in found.values}
        with torch.no_grad():
            kept = self._ratios(objective, found.values, given.parameters, given)
        scales = self._ratios(good, logs, replaced, given)
        return [
            torch.where(ok[:, None], new, old)
            for new, old in zip(scales, kept, strict=True)
        ]

    def _ratios(
        self,
        objective: Tensor,
        logs: Mapping[str, Tensor],
        parameters: Mapping[str, Tensor],
        given: Given,
    ) -> list[Tensor]:
        sides = self._sides({**parameters, **logs}, given.captured)
        return [
            (objective[:, None] - side.to(objective.device)).exp() for side in sides
        ]
