"""Expressions as data: an operation, its arguments, and what is known of the result.

One sample, no batch dimension. Operators live in `algebra`, inference in `inference`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from optlayers.modeling.algebra import Algebra
from optlayers.modeling.origin import Origin
from optlayers.modeling.signs import Sign

__all__ = ["Expression", "Sign", "apply"]


@dataclass(frozen=True, eq=False, repr=False)
class Expression(Algebra):
    """One node of a declaration.

    Structural names and their options (every other name is an atom's):
        "field" {field: BoundField}; "constant" {value: Tensor};
        "learned" {name: str, tensor: nn.Parameter}; "index" {index};
        "next" {shift: int}; "at" {stage: int}, unstaged; "stages" {index: slice or
        tuple of ints}, unstaged, [length, *shape]; "total" {}, unstaged;
        "torch" {function, arguments, keywords, output}; "module" {name, module,
        arguments, keywords, output}; "assert" {attribute: nonneg, nonpos or psd}.

    Attributes:
        name: the operation.
        arguments: what it is applied to.
        options: static keyword options (axis=, p=, index=, ...).
        shape: shape of one sample at one stage.
        stages: the stages it lives on, `range(first, stop)`; None if not staged.
        sign: what is known of the sign of every entry.
        origin: where it was written.
    """

    name: str
    arguments: tuple["Expression", ...]
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    stages: range | None
    sign: Sign
    origin: Origin
    depends_on_variables: bool = field(init=False)

    def __post_init__(self):
        if self.name == "field":
            known = self.options["field"].is_variable
        else:
            known = any(one.depends_on_variables for one in self.arguments)
        object.__setattr__(self, "depends_on_variables", known)

    @cached_property
    def field_names(self) -> frozenset[str]:
        """Names of the fields it is built from."""
        if self.name == "field":
            return frozenset((self.options["field"].name,))
        return frozenset().union(*(one.field_names for one in self.arguments))

    @property
    def ndim(self) -> int:
        """Number of axes of one sample at one stage."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype in force; the values decide when it is evaluated."""
        return torch.get_default_dtype()

    @property
    def is_staged(self) -> bool:
        """Whether it has a value at every stage of a window."""
        return self.stages is not None


def apply(name: str, arguments, **options) -> Expression:
    """Build the node of an atom: coerce, infer its shape, stages and sign, check."""
    raise NotImplementedError
