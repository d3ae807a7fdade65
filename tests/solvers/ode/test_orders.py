"""Every method converges with the order that it states, within and at the ends."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from optlayers import registry
from optlayers.solvers.ode import FixedStep
from tests.solvers.ode.problems import Field, oscillator, program_of, smooth

METHODS = tuple(name for name in registry.names("ode") if name != "auto")
# Step counts for which the error is well above rounding and well below one.
STEPS = {1: 400, 2: 80, 3: 40, 4: 30, 5: 20, 8: 5}
END = 2.0


def last_value(field: Field, name: str, steps: int) -> torch.Tensor:
    """x(END) from (1, 1/2) with so many steps of equal size."""
    solver = registry.create("ode", name, control=FixedStep(size=END / steps))
    return solver.solve(program_of(field, [1.0, 0.5], [0.0, END])).value[0, -1]


def slope(field: Field, name: str, exact: list[float], steps: int) -> float:
    """By how many powers of two the error falls when steps are halved."""
    errors = [
        float(
            (last_value(field, name, count) - torch.tensor(exact, dtype=torch.float64))
            .abs()
            .max()
        )
        for count in (steps, 2 * steps)
    ]
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("name", METHODS)
def test_the_error_of_an_oscillator_falls_with_the_stated_order(name):
    order = registry.create("ode", name).stepper.order
    cos, sin = math.cos(END), math.sin(END)
    exact = [cos + 0.5 * sin, 0.5 * cos - sin]
    found = slope(oscillator, name, exact, STEPS[order])
    # The next power of the step, still there at these sizes, changes the slope a bit;
    # rodas5p gains one on linear problems.
    assert order - 0.3 < found < order + (1.3 if name == "rodas5p" else 0.3)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "leapfrog"])
def test_the_error_falls_as_fast_where_the_field_bends_and_depends_on_time(name):
    order = registry.create("ode", name).stepper.order
    found = solve_ivp(
        lambda t, x: [-2 * t * x[0] ** 2, x[0] - x[1] * math.sin(t)],
        (0.0, END), [1.0, 0.5], method="DOP853", rtol=1e-13, atol=1e-14,
    )  # fmt: skip
    # Methods of high order gain one more here, none loses any.
    assert order - 0.3 < slope(smooth, name, found.y[:, -1], STEPS[order]) < order + 1.5


@pytest.mark.parametrize("name", METHODS)
def test_dense_output_is_at_most_one_order_behind(name):
    stepper = registry.create("ode", name).stepper
    field = oscillator if name == "leapfrog" else smooth
    exact = registry.create("ode", "dopri8", rtol=1e-12, atol=1e-13)
    errors = []
    for steps in (STEPS[stepper.order], 2 * STEPS[stepper.order]):
        step = END / steps
        solver = registry.create("ode", name, control=FixedStep(size=step))
        inside = program_of(field, [1.0, 0.5], [0.0, 1.0 + 0.37 * step, END])
        pair = [one.solve(inside).value[0, 1] for one in (solver, exact)]
        errors.append(float((pair[0] - pair[1]).abs().max()))
    # Cubic Hermite output suffices up to order 4, and costs nothing.
    wanted = stepper.order - 1 if stepper.order > 3 else stepper.order
    assert math.log2(errors[0] / errors[1]) > wanted - 0.5


def test_dopri8_closes_the_arenstorf_orbit():
    mu = 0.012277471
    period = 17.0652165601579625588917206249

    def field(time, state):
        x, y, u, v = state.unbind(1)
        first = ((x + mu) ** 2 + y**2) ** 1.5
        second = ((x - 1 + mu) ** 2 + y**2) ** 1.5
        return torch.stack([
            u, v,
            x + 2 * v - (1 - mu) * (x + mu) / first - mu * (x - 1 + mu) / second,
            y - 2 * u - (1 - mu) * y / first - mu * y / second,
        ], 1)  # fmt: skip

    start = [0.994, 0.0, 0.0, -2.00158510637908252240537862224]
    solver = registry.create("ode", "dopri8", rtol=1e-10, atol=1e-10)
    solved = solver.solve(program_of(field, start, [0.0, period]))
    assert float((solved.value[0, -1] - torch.tensor(start)).abs().max()) < 1e-6


def test_leapfrog_keeps_the_energy_where_rk4_loses_it():
    drift = {}
    for name in ("leapfrog", "rk4"):
        solver = registry.create("ode", name, control=FixedStep(size=0.5))
        end = program_of(oscillator, [1.0, 0.0], [0.0, 1000.0])
        energy = solver.solve(end).value[0, -1].square().sum() / 2
        drift[name] = abs(float(energy) - 0.5)
    # At half a radian a step leapfrog's energy swings by 6 % of itself for ever.
    assert drift["leapfrog"] < 0.035 < 0.1 < drift["rk4"]
