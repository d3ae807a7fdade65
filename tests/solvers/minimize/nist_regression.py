"""Nonlinear regression with certified digits: the 27 data sets of NIST.

Source: NIST/ITL Statistical Reference Datasets, Nonlinear Regression,
https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml (public domain). The files in
nist/ are theirs without the prose: model, both starts, certified values, data.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILES = Path(__file__).parent / "nist"
NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[Ee][-+]?\d+)?")


@dataclass(frozen=True)
class Regression:
    """One data set with what is certified of it.

    Attributes:
        name: as NIST has it.
        model: (b, x) -> y; b is unpacked along its first axis, expressions or tensors.
        starts: both, [2, n].
        certified: the parameters, [n].
        sum_of_squares: the least, certified.
        x: predictors, [m], or [2, m] where there are two.
        y: responses, [m].
    """

    name: str
    model: Callable[[Any, Any], Any]
    starts: Tensor
    certified: Tensor
    sum_of_squares: float
    x: Tensor
    y: Tensor

    def residuals(self, b: Tensor) -> Tensor:
        """model - y at parameters [B, n], [B, m]."""
        return self.model(b.unsqueeze(2).unbind(1), self.x) - self.y


def read(name: str) -> Regression:
    """The data set of this name."""
    text = (FILES / f"{name}.dat").read_text(encoding="ascii")
    head, _, table = text.rpartition("\nData:")
    rows = re.findall(r"^\s*b\d+\s*=(.*)$", head, re.MULTILINE)
    parameters = _table(rows)
    (least,) = re.findall(r"Residual Sum of Squares:\s*(\S+)", head)
    columns = _table(table.splitlines()[1:]).mT
    y, x = columns[0], columns[1:]
    if name == "Nelson":
        y = y.log()
    x = x[0] if len(x) == 1 else x
    return Regression(
        name, MODELS[name], parameters[:, :2].mT.contiguous(), parameters[:, 2],
        float(least), x.contiguous(), y.contiguous(),
    )  # fmt: skip


def _table(lines: list[str]) -> Tensor:
    found = [[float(one) for one in NUMBER.findall(line)] for line in lines]
    return torch.tensor([row for row in found if row], dtype=torch.float64)


def _saturating(b, x):
    return b[0] * (1 - torch.exp(-b[1] * x))


def _exponentials(b, x):
    terms = (b[k] * torch.exp(-b[k + 1] * x) for k in (0, 2, 4))
    return sum(terms)


def _decay_over_line(b, x):
    return torch.exp(-b[0] * x) / (b[1] + b[2] * x)


def _peaks(b, x):
    first = b[2] * torch.exp(-(((x - b[3]) / b[4]) ** 2))
    second = b[5] * torch.exp(-(((x - b[6]) / b[7]) ** 2))
    return b[0] * torch.exp(-b[1] * x) + first + second


def _cubic_over_cubic(b, x):
    top = b[0] + x * (b[1] + x * (b[2] + x * b[3]))
    return top / (1 + x * (b[4] + x * (b[5] + x * b[6])))


def _oscillation(b, x):
    found = b[0]
    periods = ((12, b[1], b[2]), (b[3], b[4], b[5]), (b[6], b[7], b[8]))
    for period, cosine, sine in periods:
        angle = 2 * math.pi * x / period
        found = found + cosine * torch.cos(angle) + sine * torch.sin(angle)
    return found


MODELS: dict[str, Callable[[Any, Any], Any]] = {
    # Of lower difficulty, as NIST has it.
    "Misra1a": _saturating,
    "Chwirut2": _decay_over_line,
    "Chwirut1": _decay_over_line,
    "Lanczos3": _exponentials,
    "Gauss1": _peaks,
    "Gauss2": _peaks,
    "DanWood": lambda b, x: b[0] * torch.exp(b[1] * torch.log(x)),
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    # Of average difficulty.
    "Kirby2": lambda b, x: (b[0] + x * (b[1] + x * b[2])) / (1 + x * (b[3] + x * b[4])),
    "Hahn1": _cubic_over_cubic,
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * torch.exp(-b[2] * x[1]),
    "MGH17": lambda b, x: (
        b[0] + b[1] * torch.exp(-x * b[3]) + b[2] * torch.exp(-x * b[4])
    ),
    "Lanczos1": _exponentials,
    "Lanczos2": _exponentials,
    "Gauss3": _peaks,
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Roszman1": lambda b, x: b[0] - b[1] * x - torch.atan(b[2] / (x - b[3])) / math.pi,
    "ENSO": _oscillation,
    # Of higher difficulty.
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "Thurber": _cubic_over_cubic,
    "BoxBOD": _saturating,
    "Rat42": lambda b, x: b[0] / (1 + torch.exp(b[1] - b[2] * x)),
    "MGH10": lambda b, x: b[0] * torch.exp(b[1] / (x + b[2])),
    "Eckerle4": lambda b, x: b[0] / b[1] * torch.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Rat43": lambda b, x: (
        b[0] * torch.exp(-torch.log(1 + torch.exp(b[1] - b[2] * x)) / b[3])
    ),
    "Bennett5": lambda b, x: b[0] * torch.exp(-torch.log(b[1] + x) / b[2]),
}
