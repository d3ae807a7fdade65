"""Problems of Hock and Schittkowski as functions of batches, [B, n].

Inequalities are written g(x) <= 0, the negative of the book's. Source: W. Hock,
K. Schittkowski, Test Examples for Nonlinear Programming Codes (1981).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BatchFunction = Callable[[Tensor], Tensor]
INF = math.inf


class Problem(NamedTuple):
    """One problem: its start and bounds [n], and its least value f*."""

    objective: BatchFunction
    start: Tensor
    minimum: float
    equalities: BatchFunction | None
    inequalities: BatchFunction | None
    lower: Tensor | None
    upper: Tensor | None

    def counts(self) -> tuple[int, int]:
        """How many equalities and inequalities there are, without the bounds."""
        at = self.start.unsqueeze(0)
        both = (self.equalities, self.inequalities)
        equal, below = (0 if one is None else one(at).shape[1] for one in both)
        return equal, below


PROBLEMS: dict[int, Problem] = {}


def _add(
    number: int,
    objective: Callable[..., Tensor],
    start: Sequence[float],
    minimum: float,
    *,
    equal: Callable[..., Sequence[Tensor]] | None = None,
    positive: Callable[..., Sequence[Tensor]] | None = None,
    lower: Sequence[float] | None = None,
    upper: Sequence[float] | None = None,
) -> None:
    """Note a problem whose functions take the variables one by one, each [B]."""

    def stacked(rows: Callable[..., Sequence[Tensor]], sign: float) -> BatchFunction:
        return lambda x: sign * torch.stack(list(rows(*x.unbind(1))), 1)

    def numbers(values: Sequence[float] | None) -> Tensor | None:
        return None if values is None else torch.tensor(values, dtype=torch.float64)

    PROBLEMS[number] = Problem(
        lambda x: objective(*x.unbind(1)),
        torch.tensor(start, dtype=torch.float64),
        minimum,
        None if equal is None else stacked(equal, 1.0),
        None if positive is None else stacked(positive, -1.0),
        numbers(lower),
        numbers(upper),
    )


def _rosenbrock(a, b):
    return 100 * (b - a**2) ** 2 + (1 - a) ** 2


def _product(*factors):
    return math.prod(factors[1:], start=factors[0])


_add(1, _rosenbrock, [-2, 1], 0.0, lower=[-INF, -1.5])
_add(2, _rosenbrock, [-2, 1], 0.0504261879, lower=[-INF, 1.5])
_add(3, lambda a, b: b + 1e-5 * (b - a) ** 2, [10, 1], 0.0, lower=[-INF, 0])
_add(4, lambda a, b: (a + 1) ** 3 / 3 + b, [1.125, 0.125], 8 / 3, lower=[1, 0])
_add(5, lambda a, b: (a + b).sin() + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1, [0, 0],
     -(3**0.5) / 2 - math.pi / 3, lower=[-1.5, -3], upper=[4, 3])  # fmt: skip
_add(6, lambda a, b: (1 - a) ** 2 + 0 * b, [-1.2, 1], 0.0,
     equal=lambda a, b: [10 * (b - a**2)])  # fmt: skip
_add(7, lambda a, b: (1 + a**2).log() - b, [2, 2], -(3**0.5),
     equal=lambda a, b: [(1 + a**2) ** 2 + b**2 - 4])  # fmt: skip
_add(8, lambda a, b: 0 * (a + b) - 1, [2, 1], -1.0,
     equal=lambda a, b: [a**2 + b**2 - 25, a * b - 9])  # fmt: skip
_add(9, lambda a, b: (math.pi * a / 12).sin() * (math.pi * b / 16).cos(), [0, 0], -0.5,
     equal=lambda a, b: [4 * a - 3 * b])  # fmt: skip
_add(10, lambda a, b: a - b, [-10, 10], -1.0,
     positive=lambda a, b: [-3 * a**2 + 2 * a * b - b**2 + 1])  # fmt: skip
_add(11, lambda a, b: (a - 5) ** 2 + b**2 - 25, [4.9, 0.1], -8.498464223,
     positive=lambda a, b: [b - a**2])  # fmt: skip
_add(12, lambda a, b: 0.5 * a**2 + b**2 - a * b - 7 * a - 7 * b, [0, 0], -30.0,
     positive=lambda a, b: [25 - 4 * a**2 - b**2])  # fmt: skip
_add(14, lambda a, b: (a - 2) ** 2 + (b - 1) ** 2, [2, 2], 9 - 2.875 * 7**0.5,
     equal=lambda a, b: [a - 2 * b + 1],
     positive=lambda a, b: [1 - 0.25 * a**2 - b**2])  # fmt: skip
_add(15, _rosenbrock, [-2, 1], 306.5, upper=[0.5, INF],
     positive=lambda a, b: [a * b - 1, a + b**2])  # fmt: skip
_add(16, _rosenbrock, [-2, 1], 0.25, lower=[-0.5, -INF], upper=[0.5, 1],
     positive=lambda a, b: [a + b**2, a**2 + b])  # fmt: skip
_add(17, _rosenbrock, [-2, 1], 1.0, lower=[-0.5, -INF], upper=[0.5, 1],
     positive=lambda a, b: [b**2 - a, a**2 - b])  # fmt: skip
_add(18, lambda a, b: 0.01 * a**2 + b**2, [2, 2], 5.0, lower=[2, 0], upper=[50, 50],
     positive=lambda a, b: [a * b - 25, a**2 + b**2 - 25])  # fmt: skip
_add(19, lambda a, b: (a - 10) ** 3 + (b - 20) ** 3, [20.1, 5.84], -6961.81381,
     lower=[13, 0], upper=[100, 100],
     positive=lambda a, b: [(a - 5) ** 2 + (b - 5) ** 2 - 100,
                            82.81 - (a - 6) ** 2 - (b - 5) ** 2])  # fmt: skip
_add(20, _rosenbrock, [-2, 1], 81.5 - 25 * 3**0.5, lower=[-0.5, -INF],
     upper=[0.5, INF],
     positive=lambda a, b: [a + b**2, a**2 + b, a**2 + b**2 - 1])  # fmt: skip
_add(21, lambda a, b: 0.01 * a**2 + b**2 - 100, [-1, -1], -99.96, lower=[2, -50],
     upper=[50, 50], positive=lambda a, b: [10 * a - b - 10])  # fmt: skip
_add(22, lambda a, b: (a - 2) ** 2 + (b - 1) ** 2, [2, 2], 1.0,
     positive=lambda a, b: [2 - a - b, b - a**2])  # fmt: skip
_add(23, lambda a, b: a**2 + b**2, [3, 1], 2.0, lower=[-50, -50], upper=[50, 50],
     positive=lambda a, b: [a + b - 1, a**2 + b**2 - 1, 9 * a**2 + b**2 - 9,
                            a**2 - b, b**2 - a])  # fmt: skip
_add(24, lambda a, b: ((a - 3) ** 2 - 9) * b**3 / (27 * 3**0.5), [1, 0.5], -1.0,
     lower=[0, 0], positive=lambda a, b: [a / 3**0.5 - b, a + 3**0.5 * b,
                                          6 - a - 3**0.5 * b])  # fmt: skip
_add(26, lambda a, b, c: (a - b) ** 2 + (b - c) ** 4, [-2.6, 2, 2], 0.0,
     equal=lambda a, b, c: [(1 + b**2) * a + c**4 - 3])  # fmt: skip
_add(27, lambda a, b, c: 0.01 * (a - 1) ** 2 + (b - a**2) ** 2, [2, 2, 2], 0.04,
     equal=lambda a, b, c: [a + c**2 + 1])  # fmt: skip
_add(28, lambda a, b, c: (a + b) ** 2 + (b + c) ** 2, [-4, 1, 1], 0.0,
     equal=lambda a, b, c: [a + 2 * b + 3 * c - 1])  # fmt: skip
_add(29, lambda a, b, c: -a * b * c, [1, 1, 1], -16 * 2**0.5,
     positive=lambda a, b, c: [48 - a**2 - 2 * b**2 - 4 * c**2])  # fmt: skip
_add(30, lambda a, b, c: a**2 + b**2 + c**2, [1, 1, 1], 1.0, lower=[1, -10, -10],
     upper=[10, 10, 10], positive=lambda a, b, c: [a**2 + b**2 - 1])  # fmt: skip
_add(31, lambda a, b, c: 9 * a**2 + b**2 + 9 * c**2, [1, 1, 1], 6.0,
     lower=[-10, 1, -10], upper=[10, 10, 1],
     positive=lambda a, b, c: [a * b - 1])  # fmt: skip
_add(32, lambda a, b, c: (a + 3 * b + c) ** 2 + 4 * (a - b) ** 2, [0.1, 0.7, 0.2], 1.0,
     lower=[0, 0, 0], equal=lambda a, b, c: [1 - a - b - c],
     positive=lambda a, b, c: [6 * b + 4 * c - a**3 - 3])  # fmt: skip
_add(33, lambda a, b, c: (a - 1) * (a - 2) * (a - 3) + c, [0, 0, 3], 2**0.5 - 6,
     lower=[0, 0, 0], upper=[INF, INF, 5],
     positive=lambda a, b, c: [c**2 - b**2 - a**2,
                               a**2 + b**2 + c**2 - 4])  # fmt: skip
_add(34, lambda a, b, c: -a, [0, 1.05, 2.9], -math.log(math.log(10)),
     lower=[0, 0, 0], upper=[100, 100, 10],
     positive=lambda a, b, c: [b - a.exp(), c - b.exp()])  # fmt: skip
_add(35, lambda a, b, c: 9 - 8 * a - 6 * b - 4 * c + 2 * a**2 + 2 * b**2 + c**2
     + 2 * a * b + 2 * a * c, [0.5, 0.5, 0.5], 1 / 9, lower=[0, 0, 0],
     positive=lambda a, b, c: [3 - a - b - 2 * c])  # fmt: skip
_add(36, lambda a, b, c: -a * b * c, [10, 10, 10], -3300.0, lower=[0, 0, 0],
     upper=[20, 11, 42], positive=lambda a, b, c: [72 - a - 2 * b - 2 * c])  # fmt: skip
_add(37, lambda a, b, c: -a * b * c, [10, 10, 10], -3456.0, lower=[0, 0, 0],
     upper=[42, 42, 42], positive=lambda a, b, c: [72 - a - 2 * b - 2 * c,
                                                   a + 2 * b + 2 * c])  # fmt: skip
_add(38, lambda a, b, c, d: _rosenbrock(a, b) + 90 * (d - c**2) ** 2 + (1 - c) ** 2
     + 10.1 * ((b - 1) ** 2 + (d - 1) ** 2) + 19.8 * (b - 1) * (d - 1),
     [-3, -1, -3, -1], 0.0, lower=[-10] * 4, upper=[10] * 4)  # fmt: skip
_add(39, lambda a, b, c, d: -a, [2, 2, 2, 2], -1.0,
     equal=lambda a, b, c, d: [b - a**3 - c**2, a**2 - b - d**2])  # fmt: skip
_add(40, lambda a, b, c, d: -a * b * c * d, [0.8, 0.8, 0.8, 0.8], -0.25,
     equal=lambda a, b, c, d: [a**3 + b**2 - 1, a**2 * d - c, d**2 - b])  # fmt: skip
_add(41, lambda a, b, c, d: 2 - a * b * c, [2, 2, 2, 2], 52 / 27, lower=[0] * 4,
     upper=[1, 1, 1, 2], equal=lambda a, b, c, d: [a + 2 * b + 2 * c - d])  # fmt: skip
_add(42, lambda a, b, c, d: (a - 1) ** 2 + (b - 2) ** 2 + (c - 3) ** 2 + (d - 4) ** 2,
     [1, 1, 1, 1], 28 - 10 * 2**0.5,
     equal=lambda a, b, c, d: [a - 2, c**2 + d**2 - 2])  # fmt: skip
_add(43, lambda a, b, c, d: a**2 + b**2 + 2 * c**2 + d**2 - 5 * a - 5 * b - 21 * c
     + 7 * d, [0, 0, 0, 0], -44.0,
     positive=lambda a, b, c, d: [
         8 - a**2 - b**2 - c**2 - d**2 - a + b - c + d,
         10 - a**2 - 2 * b**2 - c**2 - 2 * d**2 + a + d,
         5 - 2 * a**2 - b**2 - c**2 - 2 * a + b + d])  # fmt: skip
_add(44, lambda a, b, c, d: a - b - c - a * c + a * d + b * c - b * d, [0, 0, 0, 0],
     -15.0, lower=[0] * 4,
     positive=lambda a, b, c, d: [8 - a - 2 * b, 12 - 4 * a - b, 12 - 3 * a - 4 * b,
                                  8 - 2 * c - d, 8 - c - 2 * d, 5 - c - d])  # fmt: skip
_add(45, lambda *x: 2 - _product(*x) / 120, [2] * 5, 1.0, lower=[0] * 5,
     upper=[1, 2, 3, 4, 5])  # fmt: skip
_add(46, lambda a, b, c, d, e: (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4
     + (e - 1) ** 6, [2**0.5 / 2, 1.75, 0.5, 2, 2], 0.0,
     equal=lambda a, b, c, d, e: [a**2 * d + (d - e).sin() - 1,
                                  b + c**4 * d**2 - 2])  # fmt: skip
_add(48, lambda a, b, c, d, e: (a - 1) ** 2 + (b - c) ** 2 + (d - e) ** 2,
     [3, 5, -3, 2, -2], 0.0,
     equal=lambda a, b, c, d, e: [a + b + c + d + e - 5,
                                  c - 2 * (d + e) + 3])  # fmt: skip
_add(49, lambda a, b, c, d, e: (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4
     + (e - 1) ** 6, [10, 7, 2, -3, 0.8], 0.0,
     equal=lambda a, b, c, d, e: [a + b + c + 4 * d - 7, c + 5 * e - 6])  # fmt: skip
_add(50, lambda a, b, c, d, e: (a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4
     + (d - e) ** 2, [35, -31, 11, 5, -5], 0.0,
     equal=lambda a, b, c, d, e: [a + 2 * b + 3 * c - 6, b + 2 * c + 3 * d - 6,
                                  c + 2 * d + 3 * e - 6])  # fmt: skip


def _plane(a, b, c, d, e):
    return [a + 3 * b, c + d - 2 * e, b - e]


_add(51, lambda a, b, c, d, e: (a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2
     + (e - 1) ** 2, [2.5, 0.5, 2, -1, 0.5], 0.0,
     equal=lambda a, b, c, d, e: [a + 3 * b - 4, c + d - 2 * e, b - e])  # fmt: skip
_add(52, lambda a, b, c, d, e: (4 * a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2
     + (e - 1) ** 2, [2] * 5, 1859 / 349, equal=_plane)  # fmt: skip
_add(53, lambda a, b, c, d, e: (a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2
     + (e - 1) ** 2, [2] * 5, 176 / 43, equal=_plane, lower=[-10] * 5,
     upper=[10] * 5)  # fmt: skip
_add(60, lambda a, b, c: (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 4, [2, 2, 2],
     0.03256820025, lower=[-10] * 3, upper=[10] * 3,
     equal=lambda a, b, c: [a * (1 + b**2) + c**4 - 4 - 3 * 2**0.5])  # fmt: skip
_add(61, lambda a, b, c: 4 * a**2 + 2 * b**2 + 2 * c**2 - 33 * a + 16 * b - 24 * c,
     [0, 0, 0], -143.6461422,
     equal=lambda a, b, c: [3 * a - 2 * b**2 - 7, 4 * a - c**2 - 11])  # fmt: skip
_add(62, lambda a, b, c: -32.174 * (
         255 * ((a + b + c + 0.03) / (0.09 * a + b + c + 0.03)).log()
         + 280 * ((b + c + 0.03) / (0.07 * b + c + 0.03)).log()
         + 290 * ((c + 0.03) / (0.13 * c + 0.03)).log()),
     [0.7, 0.2, 0.1], -26272.51448, lower=[0] * 3, upper=[1] * 3,
     equal=lambda a, b, c: [a + b + c - 1])  # fmt: skip
_add(63, lambda a, b, c: 1000 - a**2 - 2 * b**2 - c**2 - a * b - a * c, [2, 2, 2],
     961.7151721, lower=[0] * 3,
     equal=lambda a, b, c: [8 * a + 14 * b + 7 * c - 56,
                            a**2 + b**2 + c**2 - 25])  # fmt: skip
_add(64, lambda a, b, c: 5 * a + 5e4 / a + 20 * b + 7.2e4 / b + 10 * c + 1.44e5 / c,
     [1, 1, 1], 6299.842428, lower=[1e-5] * 3,
     positive=lambda a, b, c: [1 - 4 / a - 32 / b - 120 / c])  # fmt: skip
_add(65, lambda a, b, c: (a - b) ** 2 + (a + b - 10) ** 2 / 9 + (c - 5) ** 2,
     [-5, 5, 0], 0.9535288567, lower=[-4.5, -4.5, -5], upper=[4.5, 4.5, 5],
     positive=lambda a, b, c: [48 - a**2 - b**2 - c**2])  # fmt: skip
_add(66, lambda a, b, c: 0.2 * c - 0.8 * a, [0, 1.05, 2.9], 0.5181632741,
     lower=[0] * 3, upper=[100, 100, 10],
     positive=lambda a, b, c: [b - a.exp(), c - b.exp()])  # fmt: skip
_add(71, lambda a, b, c, d: a * d * (a + b + c) + c, [1, 5, 5, 1], 17.0140173,
     lower=[1] * 4, upper=[5] * 4,
     equal=lambda a, b, c, d: [a**2 + b**2 + c**2 + d**2 - 40],
     positive=lambda a, b, c, d: [a * b * c * d - 25])  # fmt: skip
_add(73, lambda a, b, c, d: 24.55 * a + 26.75 * b + 39 * c + 40.5 * d, [1] * 4,
     29.89437816, lower=[0] * 4, equal=lambda a, b, c, d: [a + b + c + d - 1],
     positive=lambda a, b, c, d: [
         2.3 * a + 5.6 * b + 11.1 * c + 1.3 * d - 5,
         12 * a + 11.9 * b + 41.8 * c + 52.1 * d - 21 - 1.645 * (
             0.28 * a**2 + 0.19 * b**2 + 20.5 * c**2 + 0.62 * d**2).sqrt(),
     ])  # fmt: skip
_add(76, lambda a, b, c, d: a**2 + 0.5 * b**2 + c**2 + 0.5 * d**2 - a * c + c * d - a
     - 3 * b + c - d, [0.5] * 4, -4.681818181, lower=[0] * 4,
     positive=lambda a, b, c, d: [5 - a - 2 * b - c - d, 4 - 3 * a - b - 2 * c + d,
                                  b + 4 * c - 1.5])  # fmt: skip
_add(77, lambda a, b, c, d, e: (a - 1) ** 2 + (a - b) ** 2 + (c - 1) ** 2
     + (d - 1) ** 4 + (e - 1) ** 6, [2] * 5, 0.24150513,
     equal=lambda a, b, c, d, e: [a**2 * d + (d - e).sin() - 2 * 2**0.5,
                                  b + c**4 * d**2 - 8 - 2**0.5])  # fmt: skip


def _sphere(a, b, c, d, e):
    return [
        a**2 + b**2 + c**2 + d**2 + e**2 - 10,
        b * c - 5 * d * e,
        a**3 + b**3 + 1,
    ]


_BOX = [2.3, 2.3, 3.2, 3.2, 3.2]
_add(78, _product, [-2, 1.5, 2, -1, -1], -2.91970041, equal=_sphere)
_add(79, lambda a, b, c, d, e: (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 2
     + (c - d) ** 4 + (d - e) ** 4, [2] * 5, 0.0787768209,
     equal=lambda a, b, c, d, e: [a + b**2 + c**3 - 2 - 3 * 2**0.5,
                                  b - c**2 + d + 2 - 2 * 2**0.5,
                                  a * e - 2])  # fmt: skip
_add(80, lambda *x: _product(*x).exp(), [-2, 2, 2, -1, -1], 0.0539498478,
     equal=_sphere, lower=[-one for one in _BOX], upper=_BOX)  # fmt: skip
_add(81, lambda *x: _product(*x).exp() - 0.5 * (x[0] ** 3 + x[1] ** 3 + 1) ** 2,
     [-2, 2, 2, -1, -1], 0.0539498478, equal=_sphere,
     lower=[-one for one in _BOX], upper=_BOX)  # fmt: skip
_add(100, lambda a, b, c, d, e, f, g: (a - 10) ** 2 + 5 * (b - 12) ** 2 + c**4
     + 3 * (d - 11) ** 2 + 10 * e**6 + 7 * f**2 + g**4 - 4 * f * g - 10 * f - 8 * g,
     [1, 2, 0, 4, 0, 1, 1], 680.6300573,
     positive=lambda a, b, c, d, e, f, g: [
         127 - 2 * a**2 - 3 * b**4 - c - 4 * d**2 - 5 * e,
         282 - 7 * a - 3 * b - 10 * c**2 - d + e,
         196 - 23 * a - b**2 - 6 * f**2 + 8 * g,
         -4 * a**2 - b**2 + 3 * a * b - 2 * c**2 - 5 * f + 11 * g])  # fmt: skip
_add(113, lambda a, b, c, d, e, f, g, h, i, j: a**2 + b**2 + a * b - 14 * a - 16 * b
     + (c - 10) ** 2 + 4 * (d - 5) ** 2 + (e - 3) ** 2 + 2 * (f - 1) ** 2 + 5 * g**2
     + 7 * (h - 11) ** 2 + 2 * (i - 10) ** 2 + (j - 7) ** 2 + 45,
     [2, 3, 5, 5, 1, 2, 7, 3, 6, 10], 24.3062091,
     positive=lambda a, b, c, d, e, f, g, h, i, j: [
         105 - 4 * a - 5 * b + 3 * g - 9 * h,
         -10 * a + 8 * b + 17 * g - 2 * h,
         8 * a - 2 * b - 5 * i + 2 * j + 12,
         -3 * (a - 2) ** 2 - 4 * (b - 3) ** 2 - 2 * c**2 + 7 * d + 120,
         -5 * a**2 - 8 * b - (c - 6) ** 2 + 2 * d + 40,
         -0.5 * (a - 8) ** 2 - 2 * (b - 4) ** 2 - 3 * e**2 + f + 30,
         -(a**2) - 2 * (b - 2) ** 2 + 2 * a * b - 14 * e + 6 * f,
         3 * a - 6 * b - 12 * (i - 8) ** 2 + 7 * j])  # fmt: skip
