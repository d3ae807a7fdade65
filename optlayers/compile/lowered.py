"""What a declaration became: cones and rows of every constraint, sizes, leaves."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from optlayers.compile.template import ConvexTemplate, MatrixMap


@dataclass(frozen=True)
class ConeRows:
    """The cones of one kind that a constraint became.

    Attributes:
        cone: "zero", "nonneg", "soc", "psd", "exp" or "power".
        number: how many cones; of "zero" and "nonneg", how many rows.
        rows: how many rows they take together.
    """

    cone: str
    number: int
    rows: int


@dataclass(frozen=True)
class LoweredPart:
    """What the objective or a constraint became.

    Attributes:
        name: "objective" or the constraint's name.
        cones: the rows it takes, by kind of cone.
        auxiliary: how many auxiliary variables stand for pieces of it.
    """

    name: str
    cones: tuple[ConeRows, ...]
    auxiliary: int

    @property
    def rows(self) -> int:
        """How many rows of A it takes."""
        return sum(one.rows for one in self.cones)


@dataclass(frozen=True)
class LoweredLeaf:
    """One tensor that the data of the program are affine in.

    Attributes:
        text: how it was written, or what it is computed from.
        shape: of one sample.
        is_computed: whether torch computes it; else it is a parameter itself.
    """

    text: str
    shape: tuple[int, ...]
    is_computed: bool


@dataclass(frozen=True)
class LoweredProgram:
    """The cone program of a declaration, by its sizes.

    Attributes:
        n: number of variables, auxiliary ones included.
        m: number of rows.
        quadratic_entries: entries of P that can differ from zero; None without a P.
        matrix_entries: the same of A.
        parts: what the objective and every constraint became; they add up to m rows.
        leaves: what the data are affine in.
        checks: what is checked of the parameters before every solve.
    """

    n: int
    m: int
    quadratic_entries: int | None
    matrix_entries: int
    parts: tuple[LoweredPart, ...]
    leaves: tuple[LoweredLeaf, ...]
    checks: tuple[str, ...]


def lowered_program(template: ConvexTemplate) -> LoweredProgram:
    """The sizes of a compiled declaration, part by part."""
    return LoweredProgram(
        n=template.n,
        m=template.m,
        quadratic_entries=None if template.P is None else _nonzeros(template.P),
        matrix_entries=_nonzeros(template.A),
        parts=tuple(_parts(template)),
        leaves=tuple(
            LoweredLeaf(one.text, one.shape, one.field is None)
            for one in template.leaves
        ),
        checks=tuple(
            dict.fromkeys(
                f"{one.check.name}: {one.check.attribute}"
                for one in template.leaf_checks
            )
        ),
    )


def _parts(template: ConvexTemplate) -> Iterator[LoweredPart]:
    rows: dict[str, Counter[str]] = {"objective": Counter()}
    numbers: dict[str, Counter[str]] = {"objective": Counter()}
    first = 0
    for cone, size in template.cones.each():
        name = template.row_names[first]
        first += size
        rows.setdefault(name, Counter())[cone] += size
        numbers.setdefault(name, Counter())[cone] += 1
    auxiliary = Counter(
        name.removeprefix("auxiliary of ")
        for name in template.column_names
        if name.startswith("auxiliary of ")
    )
    for name in dict.fromkeys(["objective", *template.duals, *rows, *auxiliary]):
        found = rows.get(name, Counter())
        cones = (ConeRows(one, numbers[name][one], found[one]) for one in found)
        yield LoweredPart(name, tuple(cones), auxiliary[name])


def _nonzeros(matrix: MatrixMap) -> int:
    if matrix.rows is None:
        return matrix.shape[0] * matrix.shape[1]
    return matrix.rows.numel()
