"""What is said of networks whose weights have another dtype than the numbers given."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from optlayers.errors import OptlayersError, ParameterError


@contextmanager
def explained_dtypes(
    subject: str, modules: Iterable[tuple[str, nn.Module]], dtype: torch.dtype
) -> Iterator[None]:
    """Name the weight of another dtype if torch refuses to compute with it.

    A module may cast on its own, so nothing is refused beforehand.

    Args:
        subject: what is called, for messages.
        modules: that are evaluated within, by name.
        dtype: of what they are given.

    Raises:
        ParameterError: instead of torch's RuntimeError.
    """
    try:
        yield
    except RuntimeError as reason:
        if isinstance(reason, OptlayersError):
            raise
        for name, module in modules:
            for inner, one in module.named_parameters():
                if one.is_floating_point() and one.dtype != dtype:
                    raise ParameterError(
                        f"{subject}: {name}.{inner} is {one.dtype} and meets a state "
                        f"of {dtype}. Convert one of them: {name}.to({dtype})."
                    ) from reason
        raise
