"""Words of stages on expressions: next, first, last, at, and the sum over stages.

They say which node is meant; `Expression` builds it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from optlayers.errors import DeclarationError
from optlayers.modeling.indexing import Step
from optlayers.modeling.inference import located
from optlayers.modeling.stages import at_stage, shifted, summed

if TYPE_CHECKING:
    from optlayers.modeling.expressions import Expression


class Staged(ABC):
    """What has a value at every stage of a window, or at one time."""

    name: str
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    stages: range | None

    @abstractmethod
    def _grow(self, step: Step) -> "Expression":
        """Build a node of this one."""

    @abstractmethod
    def _why_unstaged(self, word: str) -> str:
        """Why there is no `.word` where there are no stages."""

    @property
    def is_staged(self) -> bool:
        """Whether it has a value at every stage of a window."""
        return self.stages is not None

    @property
    def next(self) -> "Expression":
        """The expression one stage later."""
        return self._staged("next", lambda stages: shifted(self.shape, stages, 1))

    @property
    def first(self) -> "Expression":
        """Its value at the first stage; of a differential equation at the start."""
        if self.name == "field" and self.options["field"].is_continuous:
            return self._grow(Step("first", {}, self.shape, None))
        return self._staged(
            "first", lambda stages: at_stage(self.shape, stages, stages.start)
        )

    @property
    def last(self) -> "Expression":
        """Its value at the last stage."""
        return self._staged("last", lambda stages: at_stage(self.shape, stages, -1))

    def at(self, stage: int) -> "Expression":
        """Its value at one stage; negative ones count from the end."""
        return self._staged("at", lambda stages: at_stage(self.shape, stages, stage))

    def over_stages(self) -> "Expression":
        """Its sum over all stages; `ol.total` is this."""
        return self._staged("total", lambda stages: summed(self.shape))

    def _staged(self, word: str, step: Callable[[range], Step]) -> "Expression":
        if self.stages is None:
            raise located(DeclarationError(self._why_unstaged(word)))
        try:
            return self._grow(step(self.stages))
        except DeclarationError as reason:
            raise located(reason) from None
