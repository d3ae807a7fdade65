"""What Python's operators mean on expressions, and the remedy where they mean nothing.

The operators say which atom is meant; `Expression` builds it.
"""

import sys
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp

from optlayers.errors import DeclarationError
from optlayers.modeling.origin import Origin
from optlayers.modeling.remedies import Remedy, truth_remedy


class Algebra(ABC):
    """Operators and methods shared by everything that stands for a tensor."""

    # numpy then leaves `array @ expression` to the expression as a whole.
    __array_ufunc__ = None
    __hash__ = object.__hash__

    shape: tuple[int, ...]

    @abstractmethod
    def _apply(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Build the node of atom `name`."""

    @abstractmethod
    def _relate(self, relation: str, left: Any, right: Any) -> Any:
        """Build the constraint `left relation right`."""

    @abstractmethod
    def _select(self, index: Any) -> Any:
        """Build the node of `self[index]`."""

    # ---- arithmetic --------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return self._apply("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._apply("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._apply("add", self, self._apply("negate", other))

    def __rsub__(self, other: Any) -> Any:
        return self._apply("add", other, self._apply("negate", self))

    def __mul__(self, other: Any) -> Any:
        _refuse_star(other)
        return self._apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        _refuse_star(other)
        return self._apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._apply("divide", other, self)

    def __matmul__(self, other: Any) -> Any:
        return self._apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return self._apply("matmul", other, self)

    def __pow__(self, exponent: Any) -> Any:
        return self._apply("power", self, p=exponent)

    @abstractmethod
    def __rpow__(self, base: Any) -> Any:
        """`base ** self`."""

    def __neg__(self) -> Any:
        return self._apply("negate", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self._apply("abs", self)

    # ---- relations ---------------------------------------------------------------

    def __eq__(self, other: Any) -> Any:
        return self._relate("==", self, other)

    def __le__(self, other: Any) -> Any:
        return self._relate("<=", self, other)

    def __ge__(self, other: Any) -> Any:
        return self._relate("<=", other, self)

    def __rshift__(self, other: Any) -> Any:
        return self._relate("<<", other, self)

    def __rrshift__(self, other: Any) -> Any:
        return self._relate("<<", self, other)

    def __lshift__(self, other: Any) -> Any:
        return self._relate("<<", self, other)

    def __rlshift__(self, other: Any) -> Any:
        return self._relate("<<", other, self)

    def __lt__(self, other: Any) -> NoReturn:
        raise _refusal("strict", relation="<", weak="<=", function="torch.lt")

    def __gt__(self, other: Any) -> NoReturn:
        raise _refusal("strict", relation=">", weak=">=", function="torch.gt")

    def __ne__(self, other: Any) -> NoReturn:
        raise _refusal("unequal")

    # ---- containers --------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        return self._select(index)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise _refusal("assignment")

    def __contains__(self, item: Any) -> NoReturn:
        raise _refusal("membership")

    # ---- what an unknown number cannot do ----------------------------------------

    def __bool__(self) -> NoReturn:
        origin = Origin.here()
        raise DeclarationError(truth_remedy(origin, "expression"))

    def __float__(self) -> NoReturn:
        raise _refusal("number", type="float")

    def __int__(self) -> NoReturn:
        raise _refusal("number", type="int")

    def __complex__(self) -> NoReturn:
        raise _refusal("number", type="complex")

    def __index__(self) -> NoReturn:
        raise _refusal("index")

    def __array__(self, *_: Any, **__: Any) -> Any:
        # scipy.sparse asks numpy what stands on the right of its operators, and leaves
        # the operator to our side only if numpy makes one object of it (1.17).
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if not caller.startswith("scipy.sparse."):
            raise _refusal("array")
        boxed = np.empty((), dtype=object)
        boxed[()] = self
        return boxed

    def item(self) -> NoReturn:
        """Refused: an expression has no value while the problem is declared."""
        raise _refusal("number", type="item")

    # ---- a few methods that tensors and arrays share -----------------------------

    def sum(self, axis: Any = None, keepdims: bool = False, **other: Any) -> Any:
        """Sum of the entries over `axis` (or `dim`), all of them by default."""
        axis, keepdims = _reduction(axis, keepdims, other)
        return self._apply("sum", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False, **other: Any) -> Any:
        """Mean of the entries over `axis` (or `dim`), of all of them by default."""
        axis, keepdims = _reduction(axis, keepdims, other)
        return self._apply("mean", self, axis=axis, keepdims=keepdims)

    def abs(self) -> Any:
        """Absolute value of every entry."""
        return self._apply("abs", self)

    def reshape(self, *shape: Any) -> Any:
        """The same entries, row by row, in another shape."""
        if len(shape) == 1 and isinstance(shape[0], tuple | list):
            shape = tuple(shape[0])
        return self._apply("reshape", self, shape=tuple(shape))

    def flatten(self) -> Any:
        """The same entries as one vector, row by row."""
        return self._apply("reshape", self, shape=(-1,))

    def t(self) -> Any:
        """The transpose of a matrix."""
        return self._apply("transpose", self)

    @property
    def T(self) -> Any:
        """The transpose of a matrix; scalars and vectors are their own."""
        return self if len(self.shape) < 2 else self._apply("transpose", self)

    @property
    def mT(self) -> Any:
        """The transpose of a matrix."""
        return self._apply("transpose", self)


def _reduction(axis: Any, keepdims: bool, other: dict[str, Any]) -> tuple[Any, bool]:
    """Read the spelling of torch (dim, keepdim) too, and what np.sum passes along."""
    axis = other.pop("dim", axis)
    keepdims = other.pop("keepdim", keepdims)
    unknown = [name for name, value in other.items() if value is not None]
    if unknown:
        raise DeclarationError(
            f"{Origin.here().place}: {unknown[0]}= means nothing inside a declaration; "
            "give axis= and keepdims= only."
        )
    return axis, keepdims


def _refuse_star(other: Any) -> None:
    if isinstance(other, sp.spmatrix):
        raise _refusal("star", type=type(other).__name__)


def _refusal(what: str, **words: str) -> DeclarationError:
    return DeclarationError(Remedy(what, words).written_at(Origin.here()))
