"""The precision in which one search runs: that of what it calls, or double."""

from collections.abc import Mapping

import torch

from optlayers.compile.samples import Inputs
from optlayers.errors import ParameterError

SEARCHABLE = (torch.float64, torch.float32)


def search_precision(subject: str, dtypes: Mapping[str, torch.dtype]) -> torch.dtype:
    """The precision of a search, given what is called in its own, by name.

    Args:
        subject: the name of the problem, for messages.
        dtypes: of each module, and of what functions refer to.

    Raises:
        ParameterError: there are several, or it is none to search in.
    """
    # A module is called in its own precision; all else gains from double.
    found = set(dtypes.values())
    if not found:
        return torch.float64
    if len(found) == 1 and found <= set(SEARCHABLE):
        return found.pop()
    listed = ", ".join(f"{name} is {one}" for name, one in dtypes.items())
    raise ParameterError(
        f"{subject}: {listed}; modules are called in their own precision, and one "
        "search runs in one, float32 or float64. Convert with .double() or .float()."
    )


def possible_precisions(reads: Inputs) -> tuple[torch.dtype, ...]:
    """What `search_precision` may answer, for plans that are made ahead."""
    keeps_its_own = reads.module_names or reads.within_functions
    return SEARCHABLE if keeps_its_own else (torch.float64,)
