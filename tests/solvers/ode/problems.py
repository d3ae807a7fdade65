"""Initial value problems with known solutions, for every test of ODE solvers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optlayers.programs.initial_value import InitialValueProgram

Field = Callable[[Tensor, Tensor], Tensor]


def columns(*entries: Tensor) -> Tensor:
    """[B] each, as [B, n]."""
    return torch.stack(entries, 1)


def program_of(
    field: Field, initial: list[float], times: list[float], batch: int = 1
) -> InitialValueProgram:
    """One problem, `batch` times, in float64."""
    start = torch.tensor([initial] * batch, dtype=torch.float64)
    return InitialValueProgram(
        field, start, torch.tensor([times] * batch, dtype=torch.float64)
    )


def smooth(time: Tensor, state: Tensor) -> Tensor:
    """x' = -2 t x^2, y' = x - y sin t: not linear, not autonomous."""
    x, y = state.unbind(1)
    return columns(-2 * time * x * x, x - y * time.sin())


def oscillator(time: Tensor, state: Tensor) -> Tensor:
    """q' = v, v' = -q."""
    position, velocity = state.unbind(1)
    return columns(velocity, -position)


@dataclass(frozen=True)
class Detest:
    """A problem of the DETEST set, over t from 0 to 20 unless said otherwise.

    Source: T. E. Hull, W. H. Enright, B. M. Fellen, A. E. Sedgwick, Comparing
    numerical methods for ordinary differential equations (1972).
    """

    field: Field
    initial: tuple[float, ...]


def _two_bodies(time: Tensor, state: Tensor) -> Tensor:
    x, y, u, v = state.unbind(1)
    cube = (x * x + y * y) ** 1.5
    return columns(u, v, -x / cube, -y / cube)


def _matrix(rows: list[list[float]]) -> Field:
    matrix = torch.tensor(rows, dtype=torch.float64)
    return lambda time, state: state @ matrix.T


def _tridiagonal(size: int, below: float, diagonal: float, above: float) -> Field:
    ones = torch.ones(size - 1, dtype=torch.float64)
    full = torch.full((size,), diagonal, dtype=torch.float64)
    matrix = torch.diag(full) + torch.diag(above * ones, 1)
    matrix = matrix + torch.diag(below * ones, -1)
    return lambda time, state: state @ matrix.T


def _decay_chain(size: int, rates: Tensor) -> Field:
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size - 1):
        matrix[i, i] -= rates[i]
        matrix[i + 1, i] += rates[i]
    return lambda time, state: state @ matrix.T


def _reaction(time: Tensor, state: Tensor) -> Tensor:
    x, y, _ = state.unbind(1)
    return columns(-x, x - y * y, y * y)


def _euler_body(time: Tensor, state: Tensor) -> Tensor:
    x, y, z = state.unbind(1)
    return columns(y * z, -x * z, -0.51 * x * y)


def _torus(time: Tensor, state: Tensor) -> Tensor:
    x, y, z = state.unbind(1)
    radius = (x * x + y * y).sqrt()
    return columns(-y - x * z / radius, x - y * z / radius, x / radius)


def _predators(time: Tensor, state: Tensor) -> Tensor:
    x, y = state.unbind(1)
    return columns(2 * (x - x * y), -(y - x * y))


def _bessel(time: Tensor, state: Tensor) -> Tensor:
    x, y = state.unbind(1)
    after = time + 1
    return columns(y, -(y / after + (1 - 0.25 / after**2) * x))


def _van_der_pol(time: Tensor, state: Tensor) -> Tensor:
    x, y = state.unbind(1)
    return columns(y, (1 - x * x) * y - x)


def _duffing(time: Tensor, state: Tensor) -> Tensor:
    x, y = state.unbind(1)
    return columns(y, x**3 / 6 - x + 2 * (2.78535 * time).sin())


def _falling(time: Tensor, state: Tensor) -> Tensor:
    y = state[:, 1]
    return columns(y, 0.032 - 0.4 * y * y)


def _pursuit(time: Tensor, state: Tensor) -> Tensor:
    y = state[:, 1]
    return columns(y, (1 + y * y).sqrt() / (25 - time))


# The constants of C5, the five outer planets, in the units of the source.
_PLANETS = [3.42947415189, 3.35386959711, 1.35494901715,
            6.64145542550, 5.97156957878, 2.18231499728,
            11.2630437207, 14.6952576794, 6.27960525067,
            -30.1552268759, 1.65699966404, 1.43785752721,
            -21.1238353380, 28.4465098142, 15.3882659679]  # fmt: skip
_SPEEDS = [-0.557160570446, 0.505696783289, 0.230578543901,
           -0.415570776342, 0.365682722812, 0.169143213293,
           -0.325325669158, 0.189706021964, 0.0877265322780,
           -0.0240476254170, -0.287659532608, -0.117219543175,
           -0.176860753121, -0.216393453025, -0.0148647893090]  # fmt: skip
_MASSES = [0.954786104043e-3, 0.285583733151e-3, 0.437273164546e-4,
           0.517759138449e-4, 0.277777777778e-5]  # fmt: skip


def _five_bodies(time: Tensor, state: Tensor) -> Tensor:
    place, speed = state.split(15, 1)
    place = place.view(-1, 5, 3)
    mass = torch.tensor(_MASSES, dtype=state.dtype)
    cube = place.norm(dim=2, keepdim=True) ** 3
    away = place[:, None] - place[:, :, None]
    distance = away.norm(dim=3, keepdim=True) ** 3 + torch.eye(5)[..., None]
    pull = mass[:, None] * (away / distance - (place / cube)[:, None])
    own = -(1.00000597682 + mass)[:, None] * place / cube
    others = pull * (1 - torch.eye(5, dtype=state.dtype))[..., None]
    return torch.cat((speed, 2.95912208286 * (own + others.sum(2)).flatten(1)), 1)


def _orbit(eccentricity: float) -> Detest:
    initial = (
        1 - eccentricity, 0.0, 0.0,
        ((1 + eccentricity) / (1 - eccentricity)) ** 0.5,
    )  # fmt: skip
    return Detest(_two_bodies, initial)


DETEST = {
    "A1": Detest(lambda t, x: -x, (1.0,)),
    "A2": Detest(lambda t, x: -(x**3) / 2, (1.0,)),
    "A3": Detest(lambda t, x: x * t.cos()[:, None], (1.0,)),
    "A4": Detest(lambda t, x: x / 4 * (1 - x / 20), (1.0,)),
    "A5": Detest(lambda t, x: (x - t[:, None]) / (x + t[:, None]), (4.0,)),
    "B1": Detest(_predators, (1.0, 3.0)),
    "B2": Detest(_matrix([[-1, 1, 0], [1, -2, 1], [0, 1, -1]]), (2.0, 0.0, 1.0)),
    "B3": Detest(_reaction, (1.0, 0.0, 0.0)),
    "B4": Detest(_torus, (3.0, 0.0, 0.0)),
    "B5": Detest(_euler_body, (0.0, 1.0, 1.0)),
    "C1": Detest(_decay_chain(10, torch.ones(9)), (1.0,) + (0.0,) * 9),
    "C2": Detest(_decay_chain(10, torch.arange(1.0, 10.0)), (1.0,) + (0.0,) * 9),
    "C3": Detest(_tridiagonal(10, 1.0, -2.0, 1.0), (1.0,) + (0.0,) * 9),
    "C4": Detest(_tridiagonal(51, 1.0, -2.0, 1.0), (1.0,) + (0.0,) * 50),
    "C5": Detest(_five_bodies, tuple(_PLANETS + _SPEEDS)),
    "D1": _orbit(0.1),
    "D2": _orbit(0.3),
    "D3": _orbit(0.5),
    "D4": _orbit(0.7),
    "D5": _orbit(0.9),
    "E1": Detest(_bessel, (0.6713967071418030, 0.09540051444747446)),
    "E2": Detest(_van_der_pol, (2.0, 0.0)),
    "E3": Detest(_duffing, (0.0, 0.0)),
    "E4": Detest(_falling, (30.0, 0.0)),
    "E5": Detest(_pursuit, (0.0, 0.0)),
}
