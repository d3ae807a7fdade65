"""Objectives of unit size: tolerances then mean the same whatever the units of a cost.

Scaling P and q by a positive number leaves the solution alone and scales the dual.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optlayers.programs.cone_program import ConeProgram, Matrix

# Solvers and the residual are right to many digits while the largest entry of P and q
# lies between these; outside, absolute tolerances would hide or swamp the objective.
SMALLEST, LARGEST = 1e-3, 1e3


def objective_scale(program: ConeProgram) -> Tensor | None:
    """Powers of two that bring each objective to unit size, [B]; None if all have it.

    A sample of good size, or without an objective, has the scale 1.
    """
    size = _largest(program.q, 1)
    if program.P is not None:
        is_dense = isinstance(program.P, Tensor)
        numbers = program.P if isinstance(program.P, Tensor) else program.P.values
        size = np.maximum(size, _largest(numbers, 2 if is_dense else 1))
    is_fine = ((size >= SMALLEST) & (size <= LARGEST)) | (size == 0)
    if is_fine.all():
        return None
    exponent = np.round(-np.log2(np.where(is_fine, 1.0, size)))
    return torch.from_numpy(np.exp2(exponent))


def scaled(program: ConeProgram, scale: Tensor) -> ConeProgram:
    """The program with its objective times `scale`, [B]."""
    P = None if program.P is None else _times_scale(program.P, scale)
    q = program.q * scale.unsqueeze(1)
    return ConeProgram(P, q, program.A, program.b, program.cones)


def unscaled(program: ConeProgram, point: Tensor, scale: Tensor) -> Tensor:
    """The point of `program` from that of the scaled one, [B, n + m]."""
    x, y, s = program.split(point)
    return program.pack(x, y / scale.unsqueeze(1), s)


def _largest(numbers: Tensor, sample_ndim: int) -> NDArray[np.float64]:
    """Largest absolute entry of each sample, [B], or of all if there is no batch."""
    # In numpy: for few numbers a call costs a fifth of one of torch.
    axes = tuple(range(-sample_ndim, 0))
    return np.abs(numbers.numpy()).max(axis=axes, initial=0.0)


def _times_scale(P: Matrix, scale: Tensor) -> Matrix:
    if isinstance(P, Tensor):
        return P * scale[:, None, None]
    return P.with_values(P.values * scale.unsqueeze(1))
