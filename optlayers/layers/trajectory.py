"""What a layer of a differential equation returns: states at save times, and events."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils import _pytree

from optlayers.errors import NotSupported
from optlayers.layers.result import Named, Result, shapes_text


class Happenings(Named[Tensor]):
    """When an event fired, and in which states: `times`, and each state by its name.

    Attributes:
        times: in order, [*batch, K], NaN where a sample had fewer than K.

    States are those before a jump, [*batch, K, *shape], NaN likewise.
    """

    what = "state"

    def __init__(self, times: Tensor, values: dict[str, Tensor]) -> None:
        super().__init__(values)
        self.times = times

    def __repr__(self) -> str:
        return f"Happenings(times={list(self.times.shape)}, {shapes_text(self)})"


class Events(Named[Happenings]):
    """What happened on the way, by the name of the event: `out.events.impact.times`."""

    what = "event"


class Trajectory(Result):
    """The solution of a differential equation, with the call's leading batch axes.

    Attributes:
        events: what happened on the way, `Events`.
        status: a `Status` per sample, int8 [*batch].
        stats: numbers per sample ("steps", "accepted", "rejected", "evaluations",
            "time", the time that was reached, "seconds"), each [*batch].

    Each state is an attribute of its own name, [*batch, T, *shape].
    """

    def __init__(
        self,
        values: dict[str, Tensor],
        events: dict[str, Happenings],
        status: Tensor,
        stats: dict[str, Tensor],
        within: Callable[[Any], "Trajectory"] | None = None,
    ) -> None:
        super().__init__(values, {}, None, status, stats)
        self.events = Events(events)
        self._within = within

    def at(self, times: Tensor | float) -> "Trajectory":
        """The states at other times between the first and the last save time.

        The equation is integrated once more, with its steps kept, so that dense output
        costs nothing where it is not asked for. Where nothing requires a gradient, or
        in `torch.no_grad()`, all uses share this one integration; else each costs an
        integration and has a graph of its own, as far back as the parameters.

        Args:
            times: [M] or [*batch, M], in any order, or one number.

        Returns:
            A trajectory at these times, differentiable as this one is. Of one number,
            its states have no axis of time, [*batch, *shape].

        Raises:
            ParameterError: a time outside, or a parameter, weight or buffer that has
                changed since the call.
            NotSupported: of a trajectory that was copied or mapped.
        """
        if self._within is None:
            raise NotSupported(
                "at() needs the trajectory as the layer returned it; this one was "
                "copied or mapped."
            )
        return self._within(times)


def _flatten(one: Trajectory) -> tuple[list[Tensor], Any]:
    leaves = [*one._values.values(), *one.stats.values(), one.status]
    names = []
    for name, log in one.events.items():
        leaves += [log.times, *log.values()]
        names.append((name, tuple(log)))
    return leaves, (tuple(one._values), tuple(one.stats), tuple(names))


def _unflatten(leaves: Iterable[Any], context: Any) -> Trajectory:
    rest = iter(leaves)
    values, stats = ({n: next(rest) for n in group} for group in context[:2])
    status = next(rest)
    events = {
        name: Happenings(next(rest), {n: next(rest) for n in states})
        for name, states in context[2]
    }
    return Trajectory(values, events, status, stats)


_pytree.register_pytree_node(Trajectory, _flatten, _unflatten)
