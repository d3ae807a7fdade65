"""A problem explains itself: the tree of reasons, what it became, and who solves it."""

from html.parser import HTMLParser
from io import StringIO

import pytest
import torch
from rich.console import Console

import optlayers as ol
from optlayers import Parameter, State, Variable, maximize, minimize
from optlayers.errors import DeclarationError, ParameterError
from optlayers.interfaces import Kind
from optlayers.testing.zoo import CONVEX


@ol.problem
def fit(
    x=Variable("n"),
    A=Parameter("k n"),
    b=Parameter("k"),
    w=Parameter(nonneg=True),
    r=Parameter(),
):
    return minimize(
        ol.sum_squares(A @ x - b) + w * ol.norm(x, 1), ball=ol.norm(x) <= torch.exp(r)
    )


@ol.problem
def tilted(x=Variable("n", nonneg=True), c=Parameter("n")):
    return maximize(c @ x - ol.sum(ol.exp(x)), low=ol.sqrt(x[0]) >= 0.5)


@ol.problem
def saddle(x=Variable("2")):
    return minimize(1 + x[0] * x[1], ring=ol.norm(x) == 1)


def test_the_text_of_a_small_problem():
    assert str(fit.explain(n=3, k=2)) == (
        "fit (n = 3, k = 2)\n"
        "├─ kind: convex: " + WHY + "\n"
        "├─ reasons\n"
        "│  ├─ objective: minimize\n"
        "│  │  └─ ol.sum_squares(A @ x - b) + w * ol.norm(x, 1): scalar convex "
        "≥ 0\n"
        "│  │     ├─ ol.sum_squares(A @ x - b): scalar convex ≥ 0; sum_squares is "
        "convex\n"
        "│  │     │  └─ A @ x - b: [2] affine\n"
        "│  │     │     ├─ A @ x: [2] affine\n"
        "│  │     │     │  ├─ A: [2, 3] constant, evaluated in torch\n"
        "│  │     │     │  └─ x: [3] affine\n"
        "│  │     │     └─ -b: [2] constant, evaluated in torch\n"
        "│  │     └─ w * ol.norm(x, 1): scalar convex ≥ 0; the weight w is nonneg\n"
        "│  │        ├─ w: scalar constant ≥ 0, evaluated in torch\n"
        "│  │        └─ ol.norm(x, 1): scalar convex ≥ 0; norm is convex\n"
        "│  │           └─ x: [3] affine\n"
        "│  └─ ball: convex <= constant\n"
        "│     ├─ ol.norm(x): scalar convex ≥ 0; norm is convex, not monotone\n"
        "│     │  └─ x: [3] affine\n"
        "│     └─ torch.exp(r): scalar constant ≥ 0, evaluated in torch\n"
        "├─ cone program\n"
        "│  ├─ data: 6 variables, 10 rows, P of 9 entries, read off the objective, A "
        "of 15\n"
        "│  │    entries\n"
        "│  ├─ objective: 6 inequalities, 3 auxiliary variables lifted\n"
        "│  ├─ ball: 1 second-order cone of 4 rows\n"
        "│  ├─ leaves: 5 of 15 entries\n"
        "│  │  ├─ w: scalar, as given\n"
        "│  │  ├─ torch.exp(r): scalar, computed in torch\n"
        "│  │  ├─ computed from A: [3, 3], computed in torch\n"
        "│  │  ├─ computed from A, b: [3], computed in torch\n"
        "│  │  └─ computed from b: scalar, computed in torch\n"
        "│  └─ checked before every solve: A: finite, b: finite, w: nonneg, r: finite\n"
        "└─ solvers\n"
        "   ├─ daqp: refuses: takes equalities and inequalities only, no other cones.\n"
        "   └─ clarabel: chosen"
    )


WHY = (
    "the objective is convex and every constraint is convex, by the rules of\n"
    "│    disciplined convex programming: a quadratic second-order cone program of 6\n"
    "│    variables and 6 inequalities, 1 second-order cone"
)


def test_curvature_sign_and_direction_of_every_piece():
    objective, low, nonneg = tilted.explain(n=2).parts
    (total,) = objective.sides
    assert (total.curvature, total.sign, objective.fault) == ("concave", "unknown", "")
    linear, negated = total.arguments
    assert (linear.text, linear.curvature, linear.shape) == ("c @ x", "affine", ())
    weight, x = linear.arguments
    assert weight.in_torch and weight.curvature == "constant"
    assert (x.in_torch, x.sign) == (False, "nonneg")
    assert (negated.text, negated.curvature, negated.sign) == (
        "-ol.sum(ol.exp(x))",
        "concave",
        "nonpos",
    )
    exponential = negated.arguments[0].arguments[0]
    assert exponential.rule == "exp is convex, nondecreasing"
    assert [side.curvature for side in low.sides] == ["constant", "concave"]
    assert (nonneg.name, nonneg.relation) == ("x.nonneg", "<=")


def test_where_convexity_is_lost_the_remedy_stands():
    found = saddle.explain()
    assert found.kind is Kind.MINIMIZE
    assert found.program is None and found.solvers == ()
    objective, ring = found.parts
    (total,) = objective.sides
    assert total.curvature == "unknown" and total.fault == ""
    product = total.arguments[1]
    assert "product of two expressions that depend on variables" in product.fault
    assert "only affine expressions can be equal" in ring.fault
    # Named where it is lost, and not again at what contains it.
    assert str(found).count("✗") == 2


def test_a_demand_for_convexity_does_not_keep_the_reasons_back():
    @ol.problem(convex=True)
    def wrong(x=Variable("n")):
        return minimize(-ol.norm(x))

    assert "is minimized, but it is concave" in str(wrong.explain(n=2))


def test_rows_of_several_cones_lie_in_a_product():
    @ol.problem
    def several(x=Variable("5")):
        cones = ol.Cones(nonneg=2, soc=(3,))
        return minimize(ol.sum(x), rows=ol.in_cone(x, cones))

    assert "rows: in a product of cones" in str(several.explain())


def test_a_layer_explains_itself_with_its_sizes_and_its_solver():
    layer = fit.layer(n=3, k=2, solver="clarabel")
    assert [one.name for one in layer.explain().solvers] == ["clarabel"]
    assert layer.explain().sizes == (("n", 3), ("k", 2))
    with pytest.raises(DeclarationError, match="known once n, k is"):
        fit.layer().explain()
    with pytest.raises(DeclarationError):
        fit.explain(n=3)


def test_an_explanation_refuses_what_a_call_refuses_as_solver():
    with pytest.raises(ParameterError, match="or a solver instance"):
        fit.layer(n=3, k=2, solver=3).explain()


@pytest.mark.parametrize("specimen", CONVEX, ids=lambda one: one.name)
def test_every_specimen_of_the_zoo_explains_itself(specimen):
    sizes = dict(specimen.sizes)
    shapes = {name: tuple(one.shape) for name, one in specimen.batch(1).items()}
    sizes |= specimen.problem.declared.infer_sizes(shapes, {})
    found = specimen.problem.explain(**sizes)
    program = found.program
    assert sum(part.rows for part in program.parts) == program.m
    names = {part.name for part in found.parts}
    assert {part.name for part in program.parts} - {"objective"} <= names
    assert all(part.fault == "" for part in found.parts)
    assert any(one.refusal == "" for one in found.solvers)
    assert found.kind is Kind.CONVEX
    assert max(map(len, str(found).splitlines())) <= 100


def test_a_geometric_program_shows_its_logarithms():
    @ol.problem(geometric=True)
    def box(h=Variable(), w=Variable(), area=Parameter(nonneg=True)):
        return maximize(h * w, wall=2 * h + 3 * w <= area)

    found = box.explain()
    assert found.is_geometric
    assert sum(part.rows for part in found.program.parts) == found.program.m
    assert "├─ the logarithms\n" in str(found)


def test_a_long_sum_is_counted_rather_than_shown():
    @ol.problem
    def chained(x=Variable("n")):
        cost = ol.norm(x)
        for k in range(300):
            cost = cost + ol.square(x[k % 3] - k)
        return minimize(cost)

    text = str(chained.explain(n=3))
    assert "…: 290 more terms" in text
    assert len(text.splitlines()) < 100


def test_what_is_used_again_and_again_is_written_out_once():
    @ol.problem
    def doubled(x=Variable("n")):
        e = x
        for _ in range(7):
            e = e[:] + 2 * e[:]
        return minimize(ol.norm(e))

    text = str(doubled.explain(n=2))
    assert "(as above)" in text
    assert len(text.splitlines()) < 80  # 2^7 leaves, were all written out


def test_stages_are_told():
    @ol.problem
    def walk(x=State("n"), r=Parameter("n", nonneg=True)):
        return minimize(ol.total(r @ x**2), start=x.first == 1)

    text = str(walk.explain(n=2, steps=4))
    assert text.startswith("walk (steps = 4, n = 2)\n")
    assert "r @ x**2: scalar at k = 0…4 convex ≥ 0; the weight r is nonneg" in text


class Balance(HTMLParser):
    """Counts tags, remembers text and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_well_formed_escaped_and_needs_nothing_from_elsewhere():
    source = fit.explain(n=3, k=2)._repr_html_()
    parser = Balance()
    parser.feed(source)
    parser.close()
    assert parser.open == []
    assert "convex <= constant" in "".join(parser.text)
    assert "convex &lt;= constant" in source
    assert not {"src", "href"} & {name for name, _ in parser.attributes}
    assert "<script" not in source


def test_rich_prints_the_same_lines():
    console = Console(width=200, record=True, file=StringIO())
    console.print(fit.explain(n=3, k=2))
    text = console.export_text()
    for part in ("ball: convex <= constant", "clarabel: chosen", "w: scalar, as given"):
        assert part in text
