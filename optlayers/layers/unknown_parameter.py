"""What to say of a name that a layer was given and that its problem does not have."""

from difflib import get_close_matches

from optlayers import registry
from optlayers.functional.options import OPTION_NAMES, unknown_option
from optlayers.interfaces import Kind
from optlayers.modeling.problem import DeclaredProblem


def unknown_parameter(declared: DeclaredProblem, name: str) -> str:
    """One sentence: what the name may have meant, or which names there are.

    Args:
        declared: the problem.
        name: neither one of its free parameters nor an option.
    """
    known = (*declared.parameter_names, *declared.dimension_names)
    if name in declared.fields:
        return (
            f"{declared.name}: {name} is not a parameter; a layer solves for it. "
            f"Parameters: {', '.join(declared.parameter_names) or 'none'}."
        )
    near = get_close_matches(name, [*known, *OPTION_NAMES, "steps"], n=1)
    for kind in _likely_kinds(declared):
        solver = registry.taking(kind.value, name)
        if solver:
            return (
                f"{declared.name}: {name} is an option of solvers; write "
                f"{'tolerance=..., or ' * (name == 'rtol')}"
                f"solver=ol.solvers.{kind.value}.{solver}({name}=...)."
            )
    if near and near[0] in OPTION_NAMES:
        return f"{declared.name}: {unknown_option(name)}"
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"{declared.name}: no parameter or dimension {name!r}; there are "
        f"{', '.join(known) or 'none'}.{hint}"
    )


def _likely_kinds(declared: DeclaredProblem) -> tuple[Kind, ...]:
    """Which kind the declaration is, as far as that is known before its sizes."""
    senses = {one.sense for one in declared.traced}
    if declared.is_continuous:
        return (Kind.ODE,)
    if senses:
        return (Kind.ROOT,) if "solve" in senses else (Kind.CONVEX,)
    return (Kind.CONVEX, Kind.ROOT)
