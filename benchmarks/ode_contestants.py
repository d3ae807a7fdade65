"""Those who solve the problems of the benchmark: us and the peers that are installed.

Each is asked for its answer at a tolerance, and for the gradients if it has them.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from ode_problems import Problem, leaves, weights
from scipy.integrate import solve_ivp
from torch import Tensor

from optlayers import functional
from optlayers.solvers import ode

OURS = "optlayers"
MOST_STEPS = 100_000
COMPILED = {"dopri5": ode.Dopri5, "tsit5": ode.Tsit5, "rodas5p": ode.Rodas5P}
# Of the start, the parameters and the tolerance: x [B, T, n] and the turns of the loop.
Entry = Callable[[Tensor, Mapping[str, Tensor], float], tuple[Any, int]]


@dataclass(frozen=True)
class Contestant:
    """A way to solve one problem.

    Attributes:
        problem: what it solves, which may be a part of the batch.
        forward: of the tolerance, x [B, T, n] and the turns of the loop.
        both: of the tolerance, the gradients of a weighted sum to the start and to
            each parameter; None where there are none.
        share: the batch over the part of it that is solved.
    """

    problem: Problem
    forward: Callable[[float], tuple[Any, int]]
    both: Callable[[float], list[Any]] | None
    share: float = 1.0


Named = Iterator[tuple[str, Contestant]]


def of_torch(problem: Problem, entry: Entry) -> Contestant:
    """A torch function of the start and the parameters."""

    def forward(tolerance: float) -> tuple[Tensor, int]:
        with torch.no_grad():
            return entry(problem.start, problem.parameters, tolerance)

    def both(tolerance: float) -> list[Tensor]:
        start, given = leaves(problem)
        value, _ = entry(start, given, tolerance)
        total = (value * weights(problem)).sum()
        return list(torch.autograd.grad(total, [start, *given.values()]))

    return Contestant(problem, forward, both)


# ---- ours ---------------------------------------------------------------------------


# Of the tolerances, what `functional.integrate` is given.
Options = Callable[[float, float], dict[str, Any]]


def ours(problem: Problem, options: Options) -> Entry:
    """`functional.integrate`."""

    def solve(
        start: Tensor, given: Mapping[str, Tensor], tolerance: float
    ) -> tuple[Tensor, int]:
        result = functional.integrate(
            lambda t, x: problem.rates(x, given, torch), start, problem.times,
            **options(tolerance, tolerance * problem.absolute),
        )  # fmt: skip
        return result.value, int(result.stats["steps"].max())

    return solve


def our_solvers(problem: Problem, *names: str) -> Named:
    """Our solvers by name."""
    for name in names:
        entry = ours(problem, partial(_named, name, "exact"))
        yield f"{OURS} {name}", of_torch(problem, entry)


def our_gradients(problem: Problem, solver: str, *names: str) -> Named:
    """One solver with its gradients by name."""
    for name in names:
        entry = ours(problem, partial(_named, solver, name))
        yield f"{OURS} {solver}, {name}", of_torch(problem, entry)


def compiled(problem: Problem, *names: str) -> Named:
    """Our solvers whose stages are handed to `torch.compile`."""
    for name in names:
        entry = ours(problem, partial(_compiled, name))
        yield f"{OURS} {name}, compiled", of_torch(problem, entry)


def _named(solver: str, gradient: str, rtol: float, atol: float) -> dict[str, Any]:
    return {"solver": solver, "gradient": gradient, "rtol": rtol, "atol": atol}


@cache
def _compiled(solver: str, rtol: float, atol: float) -> dict[str, Any]:
    """One instance for each tolerance, as what was compiled may live in it."""
    return {"solver": COMPILED[solver](rtol=rtol, atol=atol, compile=True)}


# ---- peers in torch -----------------------------------------------------------------


def torchdiffeq(
    problem: Problem, missing: set[str], *methods: str, adjoint: bool = False
) -> Named:
    """Through its steps, and with `odeint_adjoint`; one step size for the batch."""
    library = installed("torchdiffeq", missing)
    if library is None:
        return
    for method in methods:
        entry = _torchdiffeq(library.odeint, problem, method, lambda _: {})
        yield f"torchdiffeq {method}", of_torch(problem, entry)
    if adjoint:
        entry = _torchdiffeq(
            library.odeint_adjoint, problem, methods[0],
            lambda given: {"adjoint_params": given},
        )  # fmt: skip
        yield f"torchdiffeq {methods[0]}, adjoint", of_torch(problem, entry)


def _torchdiffeq(
    odeint: Callable[..., Tensor],
    problem: Problem,
    method: str,
    options: Callable[[tuple[Tensor, ...]], dict[str, Any]],
) -> Entry:
    def solve(
        start: Tensor, given: Mapping[str, Tensor], tolerance: float
    ) -> tuple[Tensor, int]:
        calls = 0

        def field(_: Tensor, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return problem.rates(x, given, torch)

        value = odeint(
            field, start, problem.times, method=method, rtol=tolerance,
            atol=tolerance * problem.absolute, **options(tuple(given.values())),
        )  # fmt: skip
        # It counts no steps: two calls at the start, then one a stage but the first.
        stages = {"dopri5": 6, "dopri8": 13, "bosh3": 3}[method]
        return value.transpose(0, 1), (calls - 2) // stages

    return solve


def torchode(problem: Problem, missing: set[str], *methods: str) -> Named:
    """Through its steps, with an integral controller as the others have."""
    library = installed("torchode", missing)
    if library is None:
        return
    for method in methods:
        yield (
            f"torchode {method}",
            of_torch(problem, _torchode(library, problem, method)),
        )


def _torchode(library: ModuleType, problem: Problem, method: str) -> Entry:
    def solve(
        start: Tensor, given: Mapping[str, Tensor], tolerance: float
    ) -> tuple[Tensor, int]:
        term = library.ODETerm(lambda t, x: problem.rates(x, given, torch))
        controller = library.IntegralController(
            rtol=tolerance, atol=tolerance * problem.absolute, term=term
        )
        solution = library.solve_ivp(
            term, start, problem.times, method=method, controller=controller.double()
        )
        return solution.ys, int(solution.stats["n_steps"].max())

    return solve


# ---- peers elsewhere ----------------------------------------------------------------


def diffrax(problem: Problem, missing: set[str], *solvers: str) -> Named:
    """Each sample under `jax.vmap`, jitted, in float64."""
    if installed("jax", missing) is None:
        return
    importlib.import_module("jax").config.update("jax_enable_x64", True)
    library = installed("diffrax", missing)
    if library is not None:
        for solver in solvers:
            yield f"diffrax {solver}, jitted", _diffrax(library, problem, solver)


def _diffrax(library: ModuleType, problem: Problem, solver: str) -> Contestant:
    jax = importlib.import_module("jax")
    jnp = importlib.import_module("jax.numpy")
    times = jnp.asarray(problem.times.numpy())

    def solve(start: Any, given: Mapping[str, Any], tolerance: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on what jax deprecates
            solution = library.diffeqsolve(
                library.ODETerm(lambda t, x, own: problem.rates(x, own, jnp)),
                getattr(library, solver)(), times[0], times[-1], None, start,
                args=given, saveat=library.SaveAt(ts=times), max_steps=MOST_STEPS,
                stepsize_controller=library.PIDController(
                    rtol=tolerance, atol=tolerance * problem.absolute
                ),
                throw=False,
            )  # fmt: skip
        return solution.ys, solution.stats["num_steps"]

    axes = {name: None if name in problem.shared else 0 for name in problem.parameters}
    mapped = jax.vmap(solve, in_axes=(0, axes, None))
    start = jnp.asarray(problem.start.numpy())
    given = {name: jnp.asarray(one.numpy()) for name, one in problem.parameters.items()}
    weight = jnp.asarray(weights(problem).numpy())
    forward = jax.jit(mapped)
    gradient = jax.jit(
        jax.grad(
            lambda start, given, tolerance: (
                mapped(start, given, tolerance)[0] * weight
            ).sum(),
            argnums=(0, 1),
        )
    )

    def of_forward(tolerance: float) -> tuple[Any, int]:
        value, steps = jax.block_until_ready(forward(start, given, tolerance))
        return value, int(steps.max())

    def of_both(tolerance: float) -> list[Any]:
        first, others = jax.block_until_ready(gradient(start, given, tolerance))
        return [first, *(others[name] for name in problem.parameters)]

    return Contestant(problem, of_forward, of_both)


def scipy(problem: Problem, *methods: str, count: int = 16) -> Named:
    """`solve_ivp`, sample by sample, on a part of a large batch."""
    part = problem if len(problem.start) <= count else problem.first(count)
    share = len(problem.start) / len(part.start)
    note = "" if share == 1 else f" (of {len(part.start)}, times {share:g})"
    for method in methods:
        yield (
            f"SciPy {method}, a loop{note}",
            Contestant(part, _scipy(part, method), None, share),
        )


def _scipy(problem: Problem, method: str) -> Callable[[float], tuple[Any, int]]:
    def solve(tolerance: float) -> tuple[np.ndarray, int]:
        times, rows, steps = problem.times.numpy(), [], 0
        for i, start in enumerate(problem.start.numpy()):
            own = {
                name: one.numpy() if name in problem.shared else one.numpy()[i]
                for name, one in problem.parameters.items()
            }

            def rates(t: float, x: np.ndarray, own: Any = own) -> np.ndarray:
                return problem.rates(x, own, np)

            solution = solve_ivp(
                rates, (times[0], times[-1]), start, method, t_eval=times,
                rtol=max(tolerance, 2.3e-14), atol=tolerance * problem.absolute,
            )  # fmt: skip
            rows.append(solution.y.T)
            steps += solution.nfev // {"RK45": 6, "DOP853": 12}.get(method, 1)
        return np.stack(rows), steps

    return solve


def installed(name: str, missing: set[str]) -> ModuleType | None:
    """A module, or None, and its name among the missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing.add(name)
        return None
