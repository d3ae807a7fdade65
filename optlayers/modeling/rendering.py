"""Declarations as textbook mathematics, in plain text and in LaTeX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from torch import Tensor, nn

from optlayers.modeling.atom_formulas import ATOM_FORMULAS
from optlayers.modeling.cones import Cone, Stack
from optlayers.modeling.constraints import Constraint
from optlayers.modeling.declaration import Declaration
from optlayers.modeling.dynamics import EventDeclaration
from optlayers.modeling.dynamics_formulas import DYNAMICS, event_formula
from optlayers.modeling.fields import BoundField, Role
from optlayers.modeling.formulas import Formulas, StageIndex
from optlayers.modeling.notation import LatexNotation, Notation, TextNotation
from optlayers.modeling.structure_formulas import STRUCTURE
from optlayers.modeling.time_names import SAVE_TIMES

if TYPE_CHECKING:
    from optlayers.modeling.problem import DeclaredProblem


RULES = {**STRUCTURE, **DYNAMICS, **ATOM_FORMULAS}

# How the first line begins where nothing is optimized.
_WORDS = {"find": "find", "solve": "solve for", "integrate": "integrate"}
# Where nothing is chosen, equations are not "subject to".
_EQUATIONS = ("solve", "integrate")


@dataclass(frozen=True)
class Row:
    """One relation as it is written.

    Attributes:
        label: names of its multipliers.
        formula: the relation.
        stages: where it holds, "" if it is not staged.
    """

    label: str
    formula: str
    stages: str


@dataclass(frozen=True)
class Sheet:
    """A problem in written parts, not yet laid out.

    Attributes:
        title: its name, with the sizes where they are known.
        sense: minimize or maximize; find, solve or integrate, without an objective.
        unknowns: "x in R^n" for each variable.
        objective: the formula.
        rows: the constraints, and the events.
        given: "y in R^n" for each parameter.
        learned: parameters and modules of torch that it speaks of.
    """

    title: str
    sense: str
    unknowns: tuple[str, ...]
    objective: str
    rows: tuple[Row, ...]
    given: tuple[str, ...]
    learned: tuple[str, ...]


def render_text(problem: "Declaration | DeclaredProblem") -> str:
    """A problem as mathematics in Unicode, for `print`.

    Args:
        problem: traced, with its sizes; or declared, then with sizes by name.
    """
    sheet = _sheet(problem, TextNotation())
    unknowns = ", ".join(sheet.unknowns)
    lines = [f"{sheet.title}: {sheet.sense} over {unknowns}"]
    if sheet.sense in _WORDS:
        lines = [f"{sheet.title}: {_WORDS[sheet.sense]} {unknowns}"]
    else:
        lines.append(f"    {sheet.objective}")
    if sheet.rows:
        lines += [] if sheet.sense in _EQUATIONS else ["  subject to"]
        width = max(len(row.label) for row in sheet.rows) + 1
        for row in sheet.rows:
            stages = f",  {row.stages}" if row.stages else ""
            lines.append(f"    {row.label + ':':<{width}} {row.formula}{stages}")
    if sheet.given:
        lines.append(f"  given {', '.join(sheet.given)}")
    if sheet.learned:
        lines.append(f"  learned {', '.join(sheet.learned)}")
    return "\n".join(lines)


def render_latex(problem: "Declaration | DeclaredProblem") -> str:
    """A problem as a LaTeX array between dollars, for notebooks.

    Args:
        problem: traced, with its sizes; or declared, then with sizes by name.
    """
    rows = [" & ".join(columns) for columns in _latex_rows(problem)]
    body = " \\\\\n".join(rows)
    return f"$$\n\\begin{{array}}{{lll}}\n{body}\n\\end{{array}}\n$$"


def latex_formulas(problem: "Declaration | DeclaredProblem") -> list[str]:
    """The formulas of a problem line by line, each LaTeX of its own.

    Args:
        problem: traced, with its sizes; or declared, then with sizes by name.
    """
    return [one for row in _latex_rows(problem) for one in row if one]


def _latex_rows(problem: "Declaration | DeclaredProblem") -> list[tuple[str, ...]]:
    notation = LatexNotation()
    sheet, upright = _sheet(problem, notation), notation.word
    over = ",\\ ".join(sheet.unknowns)
    rows = [(upright(sheet.sense), sheet.objective, rf"\mathrm{{over}}\ {over}")]
    if sheet.sense in _WORDS:
        rows = [(upright(_WORDS[sheet.sense]), over, "")]
    heads = [] if sheet.sense in _EQUATIONS else [r"\mathrm{subject\ to}"]
    for position, row in enumerate(sheet.rows):
        head = "".join(heads[position : position + 1])
        label = rf"\mathrm{{({row.label})}}".replace("_", r"\_")
        where = rf"{row.stages}\quad {label}" if row.stages else label
        rows.append((head, row.formula, where))
    if sheet.given:
        rows.append((upright("given"), ",\\ ".join(sheet.given), ""))
    if sheet.learned:
        rows.append((upright("learned"), ",\\ ".join(sheet.learned), ""))
    return rows


# ---- sizes by name -------------------------------------------------------------------


def _sheet(problem: "Declaration | DeclaredProblem", notation: Notation) -> Sheet:
    if isinstance(problem, Declaration):
        return _written(problem, notation, by_name=False)
    return _declared(problem, notation)


# A body is traced at two sets of sizes. If it reads the same at both, it does not
# depend on them and is written with names; else it is written at sizes that work.
_SIZES, _STEPS = (3, 13), (40, 47)


def _declared(problem: "DeclaredProblem", notation: Notation) -> Sheet:
    if problem.is_sized:
        return _written(problem.trace(), notation, by_name=True)
    # Different sizes first; a body may need equal ones (A @ A of a "k n" matrix).
    for stride in (1, 0):
        both = [
            _trial(problem, size, stride, steps)
            for size, steps in zip(_SIZES, _STEPS, strict=True)
        ]
        sheets = [_written(one, notation, True) for one in both if one is not None]
        if len(sheets) == 2 and sheets[0] == sheets[1]:
            return sheets[0]
    found = next(iter(problem.traced), None) or _smallest(problem)
    if found is None:
        return _signature(problem, notation)
    return _written(found, notation, by_name=False)


def _smallest(problem: "DeclaredProblem") -> Declaration | None:
    """The body at the first of some equal sizes at which it runs."""
    for size in range(1, 9):
        found = _trial(problem, size, 0, _STEPS[0])
        if found is not None:
            return found
    return None


def _trial(
    problem: "DeclaredProblem", size: int, stride: int, steps: int
) -> Declaration | None:
    sizes = {n: size + stride * k for k, n in enumerate(problem.dimension_names)}
    sizes |= problem.pattern_sizes
    try:
        return problem.trace(sizes, steps if problem.uses_stages else None)
    except Exception:
        # Sizes that nobody asked for: whatever the body says of them, print goes on.
        return None


def _signature(problem: "DeclaredProblem", notation: Notation) -> Sheet:
    """What can be said of a body that ran at no sizes yet: its fields."""
    sizes = dict.fromkeys(problem.dimension_names, _SIZES[0]) | problem.pattern_sizes
    steps = 2 if problem.uses_stages else None
    fields = {n: one.bind(n, sizes, steps) for n, one in problem.fields.items()}
    on = Formulas(notation, RULES, steps)
    return Sheet(
        title=problem.name,
        sense="problem",
        unknowns=_members(on, fields, True, True),
        objective=notation.word("written out once a layer gives the sizes"),
        rows=(),
        given=_members(on, fields, False, True),
        learned=(),
    )


# ---- parts of the sheet --------------------------------------------------------------


def _written(declaration: Declaration, notation: Notation, by_name: bool) -> Sheet:
    on = Formulas(notation, RULES, declaration.steps)
    events: tuple[EventDeclaration, ...] = ()
    if declaration.dynamics is not None:
        events = declaration.dynamics.events
        on = replace(on, time=_symbol(declaration.dynamics.time))
    return Sheet(
        title=_title(declaration, by_name),
        sense="find" if declaration.is_feasibility else declaration.sense,
        unknowns=_members(on, declaration.fields, True, by_name),
        objective=on.write(declaration.objective).text,
        rows=(
            *_rows(on, declaration.constraints),
            *(Row(one.name, event_formula(on, one), "") for one in events),
        ),
        given=_members(on, declaration.fields, False, by_name),
        learned=tuple(
            _learned(notation, name, value)
            for name, value in declaration.captured.items()
        ),
    )


def _title(declaration: Declaration, by_name: bool) -> str:
    sizes = dict(declaration.sizes)
    if declaration.steps is not None:
        sizes = {"T": declaration.steps, **sizes}
    if by_name or not sizes:
        return declaration.name
    shown = ", ".join(f"{name} = {size}" for name, size in sizes.items())
    return f"{declaration.name} ({shown})"


def _rows(on: Formulas, constraints: Sequence[Constraint]) -> list[Row]:
    """The constraints, two bounds on one thing as a chain, plain signs left out."""
    silent = (".nonneg", ".nonpos", ".psd")
    shown = [one for one in constraints if not one.name.endswith(silent)]
    rows, position = [], 0
    while position < len(shown):
        one, *rest = shown[position : position + 2]
        if rest and _is_chain(one, rest[0]):
            rows.append(_chain(on, one, rest[0]))
            position += 2
        else:
            rows.append(_row(on, one))
            position += 1
    return rows


def _is_chain(below: Constraint, above: Constraint) -> bool:
    stem = below.name.removesuffix(".lower")
    named = below.name == f"{stem}.lower" and above.name == f"{stem}.upper"
    return named and below.right is above.left and below.stages == above.stages


def _chain(on: Formulas, below: Constraint, above: Constraint) -> Row:
    label = below.name.removesuffix(".lower")
    sides = (below.left, below.right, above.right)
    formula = f" {on.notation.at_most} ".join(on.write(one).text for one in sides)
    return Row(label, formula, _where(on, below))


def _row(on: Formulas, one: Constraint) -> Row:
    left, right = on.write(one.left).text, on.write(one.right).text
    name = one.cone.name if isinstance(one.cone, Cone) else None
    if one.relation == "==" or name == "zero":
        formula = f"{left} = {right}"
    elif one.relation == "<=":
        formula = f"{left} {on.notation.at_most} {right}"
    elif name == "nonneg":
        formula = f"{right} {on.notation.at_most} {left}"
    elif one.relation == "in":
        formula = f"{left} {on.notation.element_of} {_cones(on, one.cone)}"
    elif one.left.depends_on_variables:
        formula = f"{left} {on.notation.below} {right}"
    else:
        formula = f"{right} {on.notation.above} {left}"
    return Row(one.name, formula, _where(on, one))


def _cones(on: Formulas, cone: Cone | Stack | None) -> str:
    """The set that an expression lies in; leading axes are not written."""
    if isinstance(cone, Stack):
        names = [_stacked(on, one) for one in cone.cones]
        return on.notation.product(
            name if count == 1 else on.notation.superscript(name, str(count))
            for name, count in ((n, len(list(same))) for n, same in groupby(names))
        )
    assert cone is not None
    return on.notation.space("S", [], "+") if cone.name == "psd" else _cone(on, cone)


def _stacked(on: Formulas, cone: Cone) -> str:
    """One part of a stack, with its size."""
    size = [] if cone.size == 1 else [str(cone.size)]
    match cone.name:
        case "zero":
            zero = on.notation.fenced("{", "0", "}")
            return on.notation.superscript(zero, size[0]) if size else zero
        case "nonneg":
            return on.notation.space("R", size, "+")
        case "psd":
            return on.notation.space("S", [str(cone.size)], "+")
    return _cone(on, cone)


def _cone(on: Formulas, cone: Cone) -> str:
    if cone.name != "power":
        return on.notation.cone(cone.name)
    different = dict.fromkeys(cone.exponents)
    exponents = ", ".join(on.notation.number(one) for one in different)
    return f"{on.notation.cone('pow')}{on.notation.grouped(exponents)}"


def _where(on: Formulas, one: Constraint) -> str:
    if one.stages is None:
        return ""
    first, last = on.window(one.stages)
    if first == last:
        return f"k = {first}"
    return f"k = {first}, {on.notation.ellipsis}, {last}"


def _members(
    on: Formulas, fields: Mapping[str, BoundField], unknown: bool, by_name: bool
) -> tuple[str, ...]:
    return tuple(
        f"{_listed(on, one)} {on.notation.element_of} {_space(on, one, by_name)}"
        for one in fields.values()
        if one.is_variable == unknown
    )


def _listed(on: Formulas, one: BoundField) -> str:
    name = on.notation.name(one.name)
    is_sampled = one.role in (Role.TIME, Role.CONTROL)
    if is_sampled and one.stages is None:
        name = on.notation.name(_symbol(one.name))
    elif one.stages is None or on.steps is None:
        return name
    last = StageIndex("T", -1 if one.role is Role.CONTROL else 0)
    first = on.notation.subscript(name, "0")
    return (
        f"{first}, {on.notation.ellipsis}, "
        f"{on.notation.subscript(name, last.written(on.notation))}"
    )


def _symbol(time: str) -> str:
    """How a time is written; one that was not declared is t."""
    return "t" if time == SAVE_TIMES else time


def _space(on: Formulas, one: BoundField, by_name: bool) -> str:
    shape = one.shape if one.pattern is None else one.pattern.shape
    sizes = [str(size) for size in shape]
    if by_name:
        sizes = [str(dimension) for dimension in one.dimensions]
    if one.group is not None:
        letters, digit = one.group.name[:2], one.group.name[2:]
        space = on.notation.word(letters) + on.notation.grouped(digit)
        count = on.notation.product(sizes[:-2])
        return on.notation.superscript(space, count) if count else space
    mark = "+" if one.nonneg or one.psd else "-" if one.nonpos else ""
    if one.psd or one.symmetric:
        return on.notation.space("S", sizes[:1], "+" if one.psd else "")
    if one.is_variable or mark or (one.lower is None and one.upper is None):
        return on.notation.space("R", sizes, mark)
    box = _interval(on, one)
    return on.notation.superscript(box, on.notation.product(sizes)) if sizes else box


def _interval(on: Formulas, one: BoundField) -> str:
    """The bounds declared of a parameter."""
    lower, upper = (
        on.notation.ellipsis if isinstance(end, Tensor) else on.notation.number(end)
        for end in (
            float("-inf") if one.lower is None else one.lower,
            float("inf") if one.upper is None else one.upper,
        )
    )
    left = "(" if one.lower is None else "["
    right = ")" if one.upper is None else "]"
    return f"{left}{lower}, {upper}{right}"


def _learned(notation: Notation, name: str, value: nn.Parameter | nn.Module) -> str:
    if isinstance(value, nn.Module):
        return notation.word(name)
    space = notation.space("R", [str(size) for size in value.shape], "")
    return f"{notation.name(name)} {notation.element_of} {space}"
