"""Which numbers a call depended on, to tell whether they have changed since."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from optlayers.errors import ParameterError

# A tensor with its version and its memory.
Mark = tuple[Tensor, int, int]


class Versions:
    """The parameters, weights and buffers of a call, as they were then."""

    def __init__(
        self,
        subject: str,
        parameters: Mapping[str, Tensor],
        captured: Mapping[str, nn.Module | Tensor],
    ) -> None:
        """Remember all of them as they are now.

        Args:
            subject: the name of the problem, for messages.
            parameters: of the call, by name.
            captured: parameters and modules met in the declaration, by name.
        """
        self._subject, self._parameters = subject, dict(parameters)
        self._captured = dict(captured)
        self.remember()

    def remember(self) -> None:
        """Take what there is now as unchanged."""
        self._marks = dict(self._present())

    def check(self) -> None:
        """Refuse to go on where a number has changed.

        Raises:
            ParameterError: names the tensor.
        """
        present = dict(self._present())
        for name in self._marks | present:
            if not _are_same(self._marks.get(name), present.get(name)):
                raise ParameterError(
                    f"{self._subject}: {name} has changed since this trajectory was "
                    "computed, and at() integrates again; call the layer again, or ask "
                    "at() before the step that changes it."
                )

    def _present(self) -> Iterator[tuple[str, Mark]]:
        for name, one in self._tensors():
            # Tensors made in inference mode count no versions.
            version = 0 if one.is_inference() else one._version
            place = one.data_ptr() if one.layout == torch.strided else 0
            yield name, (one, version, place)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._parameters.items()
        for name, met in self._captured.items():
            if isinstance(met, Tensor):
                yield name, met
                continue
            for inner, one in (*met.named_parameters(), *met.named_buffers()):
                yield f"{name}.{inner}", one


def _are_same(before: Mark | None, now: Mark | None) -> bool:
    if before is None or now is None:
        return False
    return before[0] is now[0] and before[1:] == now[1:]
