import numpy as np
import pytest
import torch
from torch.testing import assert_close

from optlayers.linalg.least_squares import DENSE
from optlayers.linalg.pattern import Pattern
from optlayers.linalg.schur import SchurStructure
from optlayers.linalg.separable import coloured, separated


def seen(cameras, points, share, generator):
    """Two rows of each pair that sees one another: 3 columns a camera, 2 a point."""
    mask = np.zeros((2, cameras, points, 3 * cameras + 2 * points), dtype=bool)
    for i in range(cameras):
        mask[:, i, :, 3 * i : 3 * i + 3] = True
    for j in range(points):
        first = 3 * cameras + 2 * j
        mask[:, :, j, first : first + 2] = True
    rows = mask.reshape(-1, mask.shape[-1])
    return rows[generator.random(len(rows)) < share]


def chain(n):
    return np.abs(np.subtract.outer(np.arange(n - 1), np.arange(n)) - 0.5 + 1) < 1


def pattern_of(mask):
    return Pattern.row_major(*mask.nonzero(), mask.shape)


MASKS = {
    "all see all": lambda g: seen(3, 20, 1.0, g),
    "some see some": lambda g: seen(4, 30, 0.4, g),
    "a chain": lambda g: chain(12),
    "nothing in common": lambda g: np.eye(5, dtype=bool),
    "dense": lambda g: np.ones((7, 4), dtype=bool),
    "an unknown of no row": lambda g: np.eye(4, 6, dtype=bool),
    "a row of no unknown": lambda g: np.eye(6, 4, dtype=bool),
    "random": lambda g: g.random((40, 25)) < 0.1,
}


@pytest.fixture(params=MASKS)
def mask(request, generator):
    return MASKS[request.param](generator)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_damped_steps_are_those_of_the_dense_factorization(mask):
    structure = SchurStructure(pattern_of(mask))
    A, b = random(3, structure.pattern.size), random(3, mask.shape[0])
    D = 0.1 + torch.rand(3, mask.shape[1], dtype=torch.float64)
    dense = structure.pattern.scatter(A)
    assert_close(
        structure.damped(A, D).solve(b), DENSE.damped(dense, D).solve(b), rtol=0,
        atol=1e-11,
    )  # fmt: skip


def test_products_and_lengths_are_those_of_the_dense_matrix(mask):
    structure = SchurStructure(pattern_of(mask))
    A = random(2, structure.pattern.size)
    x, y = random(2, mask.shape[1]), random(2, mask.shape[0])
    dense = structure.pattern.scatter(A)
    assert_close(structure.product(A, x), DENSE.product(dense, x))
    assert_close(structure.transposed(A, y), DENSE.transposed(dense, y))
    assert_close(structure.lengths(A), DENSE.lengths(dense))
    scaled = structure.pattern.scatter(structure.scaled(A, y, x))
    assert_close(scaled, DENSE.scaled(dense, y, x))


def test_columns_of_one_colour_share_no_row(mask):
    colours = coloured(pattern_of(mask))
    for colour in range(colours.max() + 1):
        assert mask[:, colours == colour].sum(1).max() <= 1


def test_blocks_share_no_row_and_every_column_has_its_place(mask):
    blocks, kept = separated(pattern_of(mask))
    n = mask.shape[1]
    assert sorted([*blocks[blocks < n], *kept]) == list(range(n))
    touching = np.stack(
        [mask[:, own[own < n]].any(1) for own in blocks] or [mask[:, 0]]
    )
    assert touching.sum(0).max() <= 1


def test_points_are_eliminated_and_cameras_kept(generator):
    blocks, kept = separated(pattern_of(seen(3, 20, 1.0, generator)))
    assert kept.tolist() == list(range(9))
    assert blocks.shape == (20, 2)
    assert coloured(pattern_of(seen(3, 20, 1.0, generator))).max() == 4
