"""What was solved for by name, and what more is needed to read it as declared."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from optlayers.compile.leaves import Captured


class Named(NamedTuple):
    """Outputs by name.

    Attributes:
        values: each variable, [B, *shape].
        dual: each multiplier, [B, *shape].
        objective: in the declared sense, [B].
    """

    values: dict[str, Tensor]
    dual: dict[str, Tensor]
    objective: Tensor


class Given(NamedTuple):
    """What a call was given, and what became of it.

    Attributes:
        parameters: by name, each [*shape] (shared) or [B, *shape].
        captured: parameters and modules met in the declaration, by name.
        ok: which samples were solved, bool [B]; None if all were.
    """

    parameters: Mapping[str, Tensor]
    captured: Captured
    ok: Tensor | None = None


# From what a program was solved for to what was declared.
Recover = Callable[[Named, Given], Named]


def as_it_is(found: Named, given: Given) -> Named:
    """The recovery of a declaration that was compiled in its own variables."""
    return found
