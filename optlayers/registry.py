"""One registry of solvers for every kind of program, built-in and third-party.

Names resolve lazily: a solver is imported when it is created or considered, and one
that cannot be imported is reported with its reason instead of breaking the others.
"""

import difflib
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from optlayers.catalogue import BUILT_IN
from optlayers.errors import SolverRefused, UnknownName, UnknownOption
from optlayers.interfaces import Kind, Program, Solver

ENTRY_POINT_GROUP = "optlayers.solvers"
THIRD_PARTY_RANK = 100  # after every built-in: an installation never changes "auto"

Factory = Callable[..., Solver]


@dataclass(frozen=True)
class Registration:
    """A solver known by name.

    Attributes:
        kind: the kind of program it solves.
        name: the name a user writes.
        load: imports and returns the solver class.
        rank: lower is tried first by "auto".
        install: what to type when `load` raises ImportError; empty if unknown.
    """

    kind: str
    name: str
    load: Callable[[], Factory]
    rank: int
    install: str = ""


_lock = threading.RLock()
_registrations: dict[tuple[str, str], Registration] = {}
_factories: dict[tuple[str, str], Factory] = {}
_unavailable: dict[tuple[str, str], str] = {}
_is_filled = False


def register(
    kind: str, name: str, factory: Factory | None = None, *, rank: int = 50
) -> Any:
    """Make a solver known by name; a decorator when `factory` is omitted.

    Args:
        kind: "convex", "root", "minimize" or "ode".
        name: the name a user writes in `solver=`; an earlier one of it is replaced.
        factory: the solver class, called with the user's options.
        rank: lower is tried first by `solver="auto"`; built-ins start at 10.

    Raises:
        UnknownName: `kind` is none of the four.
    """
    if factory is None:
        return lambda decorated: register(kind, name, decorated, rank=rank)
    _fill()
    entry = Registration(_checked_kind(kind), name, lambda: factory, rank)
    with _lock:
        _remember(entry)
    return factory


def create(kind: str, name: str, **options: Any) -> Solver:
    """Make the solver called `name`.

    Raises:
        UnknownName: no solver of this kind has that name.
        UnknownOption: it has no such option; the message lists those it has.
        SolverRefused: it is known but cannot be imported here.
    """
    kind = _checked_kind(kind)
    known = names(kind)
    if name not in known:
        raise UnknownName(
            f"no {kind} solver is called {name!r}.{did_you_mean(name, known)}\n"
            f"  known: {', '.join(known)}"
        )
    factory = _load(kind, name)
    if factory is None:
        raise SolverRefused(
            f"{kind} solver {name!r} cannot be used: {_unavailable[kind, name]}"
        )
    _check_options(kind, name, factory, options)
    return factory(**options)


def names(kind: str) -> tuple[str, ...]:
    """Every name known for `kind`, best ranked first; nothing is imported."""
    kind = _checked_kind(kind)
    return tuple(entry.name for entry in _entries(kind))


def taking(kind: str, option: str) -> str | None:
    """The class of the best-ranked solver by name that has an option, or None."""
    for name in names(kind):
        factory = _load(kind, name) if name != "auto" else None
        if factory and option in inspect.signature(factory).parameters:
            return factory.__name__
    return None


def unavailable(kind: str) -> dict[str, str]:
    """Why each solver of `kind` that cannot be imported cannot, by name."""
    kind = _checked_kind(kind)
    for name in names(kind):
        _load(kind, name)
    with _lock:
        return {n: why for (k, n), why in _unavailable.items() if k == kind}


def choose(program: Program) -> Solver:
    """The best-ranked solver, with default options, that does not refuse `program`.

    Raises:
        SolverRefused: all refuse; a line each says why.
    """
    refusals: list[str] = []
    for solver in _willing(program, refusals):
        return solver
    raise SolverRefused(_all_refused(program, refusals))


def ranked(program: Program) -> tuple[Solver, ...]:
    """Every solver that does not refuse `program`, best first.

    Raises:
        SolverRefused: all refuse; a line each says why.
    """
    refusals: list[str] = []
    solvers = tuple(_willing(program, refusals))
    if not solvers:
        raise SolverRefused(_all_refused(program, refusals))
    return solvers


def verdicts(program: Program) -> dict[str, str]:
    """What every solver says of `program`, best first: "", or why it refuses."""
    found = {}
    for name, solver, reason in _asked(program):
        found[name] = "" if solver is not None else reason
    return found


def refresh() -> None:
    """Look for entry points again, after a package was installed while running."""
    global _is_filled
    with _lock:
        _is_filled = False
        _unavailable.clear()
    _fill()


def did_you_mean(name: str, known: Any) -> str:
    """A question that names the nearest known name, or nothing if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _willing(program: Program, refusals: list[str]) -> Iterator[Solver]:
    for name, solver, reason in _asked(program):
        if solver is None:
            refusals.append(f"{name}: {reason}")
        else:
            yield solver


def _asked(program: Program) -> Iterator[tuple[str, Solver | None, str]]:
    """Every name, best ranked first, with its solver, or None and why not."""
    kind = Kind(program.kind).value
    for name in names(kind):
        factory = _load(kind, name)
        if factory is None:
            yield name, None, _unavailable[kind, name]
            continue
        try:
            solver = factory()
            reason = solver.refuses(program)
        except Exception as error:
            # A third party's fault must not keep the others from being asked.
            solver = None
            reason = f"failed when asked ({type(error).__name__}: {error})."
        yield (name, solver, "") if reason is None else (name, None, reason)


def _all_refused(program: Program, refusals: list[str]) -> str:
    kind = Kind(program.kind).value
    lines = "\n".join(f"  {line}" for line in refusals)
    return f"no {kind} solver takes this program.\n{lines or '  none is registered.'}"


def _load(kind: str, name: str) -> Factory | None:
    """The solver class, or None with the reason kept in `_unavailable`."""
    key = (kind, name)
    with _lock:
        if key in _factories:
            return _factories[key]
        if key in _unavailable:
            return None
        entry = _registrations[key]
    try:
        factory = entry.load()
        if not callable(factory):
            raise TypeError(f"{factory!r} is not a class")
    except Exception as error:
        # Whatever a plug-in raises at import is its own affair: note it and go on.
        with _lock:
            _unavailable[key] = _why_not(entry, error)
        return None
    with _lock:
        return _factories.setdefault(key, factory)


def _why_not(entry: Registration, error: Exception) -> str:
    if isinstance(error, ImportError) and entry.install:
        return f"not installed (pip install {entry.install}): {error}."
    return f"could not be loaded ({type(error).__name__}: {error})."


def _entries(kind: str) -> list[Registration]:
    _fill()
    with _lock:
        found = [entry for (k, _), entry in _registrations.items() if k == kind]
    return sorted(found, key=lambda entry: (entry.rank, entry.name))


def _fill() -> None:
    """Read the catalogue and the entry points, once."""
    global _is_filled
    with _lock:
        if _is_filled:
            return
        for line in BUILT_IN:
            if (line.kind, line.name) not in _registrations:
                loader = _importer(line.target)
                _remember(
                    Registration(line.kind, line.name, loader, line.rank, line.install)
                )
        for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
            _add_entry_point(point)
        _is_filled = True


def _add_entry_point(point: metadata.EntryPoint) -> None:
    kind, _, name = point.name.partition(".")
    key = (kind, name)
    if kind not in {k.value for k in Kind} or not name:
        # Nothing can be asked for by such a name, so there is nobody to tell.
        return
    if key not in _registrations:
        _remember(Registration(kind, name, point.load, THIRD_PARTY_RANK))


def _remember(entry: Registration) -> None:
    key = (entry.kind, entry.name)
    _registrations[key] = entry
    _factories.pop(key, None)
    _unavailable.pop(key, None)


def _importer(target: str) -> Callable[[], Factory]:
    module, _, attribute = target.partition(":")
    return lambda: getattr(importlib.import_module(module), attribute)


def _checked_kind(kind: str) -> str:
    known = [k.value for k in Kind]
    value = kind.value if isinstance(kind, Kind) else kind
    if value not in known:
        raise UnknownName(
            f"there is no kind of program called {value!r}."
            f"{did_you_mean(str(value), known)}\n  known: {', '.join(known)}"
        )
    return value


def _check_options(
    kind: str, name: str, factory: Factory, options: dict[str, Any]
) -> None:
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    for option in options:
        if option not in known:
            raise UnknownOption(
                f"{kind} solver {name!r} has no option {option!r}."
                f"{did_you_mean(option, known)}\n"
                f"  options: {', '.join(known) or 'none'}"
            )
