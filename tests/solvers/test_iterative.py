"""The loop that iterative solvers share: what counts as the size of a residual."""

import torch

from optlayers.solvers.iterative import size_of


def test_a_residual_that_is_not_finite_has_no_finite_size():
    rows = torch.tensor([[1.0, -3.0], [0.0, torch.inf], [torch.nan, 1.0]])
    assert size_of(rows).tolist() == [3.0, torch.inf, torch.inf]


def test_no_equations_are_solved():
    assert size_of(torch.zeros(2, 0)).tolist() == [0.0, 0.0]
