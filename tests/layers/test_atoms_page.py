"""The page of atoms says what the table and the compiler say; run this to write it.

`python -m tests.layers.test_atoms_page` from the repository root.
"""

import inspect
from pathlib import Path

import optlayers as ol
from optlayers.compile.convex import compile_convex
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.signs import Sign
from tests.layers.atom_problems import PROBLEMS
from tests.modeling.atom_cases import CASES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "atoms.md"
OPERATORS = {
    "add": "Sum, `x + y`",
    "negate": "The negative, `-x`",
    "divide": "Quotient, `x / y`, of a parameter below",
}
CONES = ("soc", "psd", "exp", "power")
HEAD = """# Atoms

Names and arguments are cvxpy's. On expressions a function builds a node of the problem,
on tensors it is evaluated by torch. *Curvature* is that in the arguments that depend on
variables; an atom that is marked geometric belongs to problems declared with
`@ol.problem(geometric=True)`. *Sign* is what is known of the value where the argument
has any sign or, after a comma, is at least zero. *Cones* are those beyond zero and
nonneg in a problem with the atom; `power`, `pnorm` and `geo_mean` choose between
second-order and power cones by `approx=`. `perspective` takes squares, powers 4, 8,
..., -1 and between 0 and 1, `sqrt`, `inv_pos`, `log`, `log1p`, `entr`, and whatever is
linear or positively homogeneous. `loggamma` and `log_normcdf` are cvxpy's
approximations.

The domain of an atom is in its docstring: `xexp` is convex of arguments declared
nonnegative. `lambda_max`, `lambda_min`, `lambda_sum_largest`, `lambda_sum_smallest`,
`log_det`, `tr_inv`, `von_neumann_entr` and `matrix_frac` (its second argument) are
functions of the symmetric part of a matrix, (A + A.T) / 2, which is not checked to be
all of it.

Not atoms here: cvxpy's functions of complex numbers, the quasiconvex ones (`ceil`,
`floor`, `sign`, `length`, `dist_ratio`, `gen_lambda_max`, `condition_number`), and
`quantum_rel_entr` and `quantum_cond_entr`, which cvxpy only approximates.
Aliases: `norm2`, `norm_nuc`, `total_variation`, `scalar_product`, `conv`, `bmat`,
`permute_dims`, `swapaxes`, `moveaxis`, `squeeze`, `expand_dims`.

| atom | meaning | curvature | sign | cones |
|---|---|---|---|---|
"""


def meaning_of(name: str) -> str:
    if name in OPERATORS:
        return OPERATORS[name]
    first = inspect.getdoc(getattr(ol, name)).splitlines()[0]
    return first.split(";")[0].rstrip(".").replace("|", "\\|")


def curvature_of(name: str) -> str:
    if name == "perspective":
        return "that of f"
    found = dict.fromkeys(one.curvature for one in PROBLEMS if one.name == name)
    return " or ".join(found) or "geometric"


def sign_of(name: str) -> str:
    if name == "perspective":
        return "that of f"
    case = next(one for one in CASES if one.name == name)

    def word(sign: Sign) -> str:
        known = ATOMS[name].sign([sign] * len(case.arguments), case.options)
        return "≥ 0" if known.is_nonneg else "≤ 0" if known.is_nonpos else "any"

    words = dict.fromkeys((word(Sign.UNKNOWN), word(Sign.NONNEG)))
    return ", ".join(words)


def cones_of(name: str) -> str:
    found = set()
    for problem in PROBLEMS:
        if problem.name == name:
            template = compile_convex(problem.declared().declared.trace({}, None))
            found |= {kind for kind in CONES if getattr(template.cones, kind)}
    return ", ".join(kind for kind in CONES if kind in found)


def page() -> str:
    lines = [
        f"| `{name}` | {meaning_of(name)} | {curvature_of(name)} | {sign_of(name)} | "
        f"{cones_of(name)} |"
        for name in sorted(ATOMS)
    ]
    return HEAD + "\n".join(lines) + "\n"


def test_the_page_is_what_the_table_says():
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
