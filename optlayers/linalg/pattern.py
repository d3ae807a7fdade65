"""Sparse matrices as values on a fixed pattern, batched by their values alone.

Products gather and `index_add`, so the gradient of the values stays on the pattern and
no dense matrix is formed.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from optlayers.errors import ShapeError


@dataclass(frozen=True, eq=False)
class PatternMatrix:
    """A matrix, or B of them, with shared positions; repeated positions add up.

    Attributes:
        values: entries, [nnz] or [B, nnz].
        rows: row of each entry, int64 [nnz].
        cols: column of each entry, int64 [nnz].
        shape: (m, n).

    Raises:
        ShapeError: values, rows and cols do not have one entry each per position.
    """

    values: Tensor
    rows: Tensor
    cols: Tensor
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        given, rows, cols = self.values.shape, self.rows.shape, self.cols.shape
        if self.values.ndim not in (1, 2) or not given[-1:] == rows == cols:
            raise ShapeError(
                f"PatternMatrix: values {list(given)}, rows {list(rows)}, cols "
                f"{list(cols)} do not fit; give values [nnz] or [B, nnz], rows [nnz] "
                "and cols [nnz]."
            )

    @property
    def is_batched(self) -> bool:
        """Whether each sample has values of its own."""
        return self.values.ndim == 2

    def to_dense(self) -> Tensor:
        """The matrix with its zeros, [m, n] or [B, m, n]."""
        m, n = self.shape
        places = self.rows * n + self.cols
        flat = self.values.new_zeros(*self.values.shape[:-1], m * n)
        return flat.index_add(-1, places, self.values).unflatten(-1, (m, n))

    def matvec(self, x: Tensor) -> Tensor:
        """M x, [B, n] -> [B, m]."""
        products = self.values * x.index_select(1, self.cols)
        zeros = x.new_zeros(x.shape[0], self.shape[0])
        return zeros.index_add(1, self.rows, products)

    def transposed_matvec(self, y: Tensor) -> Tensor:
        """M' y, [B, m] -> [B, n]."""
        products = self.values * y.index_select(1, self.rows)
        zeros = y.new_zeros(y.shape[0], self.shape[1])
        return zeros.index_add(1, self.cols, products)

    def with_values(self, values: Tensor) -> "PatternMatrix":
        """The same pattern with other values, [nnz] or [B, nnz]."""
        return replace(self, values=values)

    def detach(self) -> "PatternMatrix":
        """The same matrix, cut from every derivative."""
        return self.with_values(self.values.detach())
