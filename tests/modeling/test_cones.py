"""Constraints on cones: what is written on either side, and what is refused."""

import numpy as np
import pytest
import torch
from matplotlib.mathtext import MathTextParser
from torch import nn

import optlayers.modeling.functions as ol
from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.cones import Cone, Stack
from optlayers.modeling.field_kinds import Control, Parameter, State, Variable
from optlayers.modeling.language import in_cone
from optlayers.modeling.problem import declare
from optlayers.modeling.rendering import latex_formulas, render_text
from optlayers.modeling.verbs import feasible, minimize
from optlayers.programs.cones import Cones
from tests.modeling.traced import trace

LEARNED = nn.Parameter(torch.eye(2))
SIDES = {
    "number": 0,
    "list": [[1.0, 0.0], [0.0, 1.0]],
    "array": np.eye(2),
    "tensor": torch.eye(2),
    "learned": LEARNED,
}


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_anything_square_stands_on_either_side(side):
    def body(X=Variable("2 2")):
        return minimize(
            ol.sum(X), X >> side, side << X, X << side, side >> X, kept=X >> X.T
        )

    above, below, *reversed_ones, kept = trace(body).constraints
    for one in (above, below):
        assert (one.relation, one.right.name) == ("<<", "field")
    for one in reversed_ones:
        assert (one.relation, one.left.name) == ("<<", "field")
    assert kept.name == "kept"
    assert kept.shape == (2, 2)


def test_a_staged_matrix_is_held_at_every_stage():
    def body(x=State("n"), u=Control("n")):
        return feasible(in_cone(ol.outer(x, u), "psd"), ol.outer(x, x) >> np.eye(2))

    one, other = declare(body).trace({"n": 2}, 4).constraints
    assert (one.stages, one.shape) == (range(4), (2, 2))
    assert (other.stages, other.shape) == (range(5), (2, 2))


def test_a_semidefinite_variable_brings_its_constraint():
    def body(X=Variable("n n", psd=True)):
        return minimize(ol.trace(X))

    (one,) = declare(body).trace({"n": 3}).constraints
    assert (one.name, one.relation, one.cone) == ("X.psd", "<<", Cone("psd", 3))


def test_leading_axes_are_several_cones():
    def body(x=Variable("2 4 3")):
        exponents = [0.1, 0.2, 0.3, 0.4]
        return feasible(in_cone(x, "exp"), in_cone(x, "power", exponents))

    exp, power = trace(body).constraints
    assert exp.cone == Cone("exp", 3)
    assert power.cone == Cone("power", 3, (0.1, 0.2, 0.3, 0.4) * 2)
    assert exp.shape == power.shape == (2, 4, 3)


def test_a_stack_lists_its_cones_in_the_order_of_its_rows():
    def body(x=Variable(14)):
        cones = Cones(zero=1, nonneg=2, soc=(2,), psd=(2,), exp=1, power=(0.3,))
        return feasible(in_cone(x, cones))

    (one,) = trace(body).constraints
    kinds = ("zero", 1), ("nonneg", 2), ("soc", 2), ("psd", 2), ("exp", 3)
    parts = tuple(Cone(name, size) for name, size in kinds)
    assert one.cone == Stack((*parts, Cone("power", 3, (0.3,))))


REFUSED = {
    "not square": (lambda X, x: X[:1] >> 0, "square matrices"),
    "a vector": (lambda X, x: x >> 0, "square matrices"),
    "a number": (lambda X, x: X >> 1, r"multiple of np.eye\(n\)"),
    "other size": (lambda X, x: X >> np.eye(2), "do not broadcast"),
    "a smaller matrix": (lambda X, x: X >> np.eye(1), "differ in size"),
    "a chain": (lambda X, x: 0 << X << np.eye(3), "the two constraints one by one"),
    "unknown cone": (lambda X, x: in_cone(x, "expp"), 'Did you mean "exp"'),
    "another name": (lambda X, x: in_cone(X, "SDP"), 'Did you mean "psd"'),
    "no name": (lambda X, x: in_cone(x, 3), "there is no cone 3"),
    "last axis": (lambda X, x: in_cone(X[:, :2], "exp"), "write ol.stack"),
    "scalar": (lambda X, x: in_cone(x[0], "soc"), "one entry at least"),
    "empty": (lambda X, x: in_cone(x[:0], "soc"), "one entry at least"),
    "rectangle": (lambda X, x: in_cone(X[:2], "psd"), "square matrices"),
    "rows": (lambda X, x: in_cone(x, Cones(nonneg=2)), "needs 2 entries"),
    "no exponent": (lambda X, x: in_cone(x, "power"), "needs an exponent"),
    "exponent one": (lambda X, x: in_cone(x, "power", 1), "strictly between"),
    "exponents": (lambda X, x: in_cone(x, "power", [0.1] * 2), "leading axes"),
    "unknown exponent": (lambda X, x: in_cone(x, "power", x[0]), "it cannot be a"),
    "superfluous": (lambda X, x: in_cone(x, "exp", 0.5), "drop it"),
    "stacked exponent": (lambda X, x: in_cone(x, Cones(exp=1), 0.5), "drop it"),
    "no constraint": (lambda X, x: [], "no constraint|at least one"),
}


@pytest.mark.parametrize(("write", "words"), REFUSED.values(), ids=REFUSED)
def test_what_means_nothing_is_refused_with_a_remedy(write, words):
    def body(X=Variable("3 3"), x=Variable(3)):
        written = write(X, x)
        return feasible(written) if written != [] else feasible()

    with pytest.raises((DeclarationError, ShapeError), match=words):
        trace(body)


def written(
    X=Variable("n n", psd=True), P=Parameter("n n"), x=Variable("2 3"), y=Variable(9)
):
    return feasible(
        lmi=P @ X + X @ P.T << -P @ P.T,
        floor=X >> np.eye(X.shape[0]),
        sign=0 << P @ X,
        exp=in_cone(x, "exp"),
        power=in_cone(x, "power", exponent=0.3),
        none=in_cone(x, "zero"),
        some=in_cone(x, "nonneg"),
        matrix=in_cone(X - P, "psd"),
        stack=in_cone(y, Cones(zero=1, nonneg=2, psd=(2,), soc=(3,))),
    )


def test_cones_read_as_in_a_textbook():
    assert render_text(declare(written)) == (
        "written: find X ∈ 𝕊ⁿ₊, x ∈ ℝ²ˣ³, y ∈ ℝ⁹\n"
        "  subject to\n"
        "    lmi:    P X + X Pᵀ ⪯ (−P) Pᵀ\n"
        "    floor:  X ⪰ I\n"
        "    sign:   P X ⪰ 0\n"
        "    exp:    x ∈ 𝒦_exp\n"
        "    power:  x ∈ 𝒦_pow(0.3)\n"
        "    none:   x = 0\n"
        "    some:   0 ≤ x\n"
        "    matrix: X − P ∈ 𝕊₊\n"
        "    stack:  y ∈ {0}×ℝ²₊×𝒦_soc×𝕊²₊\n"
        "  given P ∈ ℝⁿˣⁿ"
    )


def test_cones_are_latex_that_matplotlib_reads():
    formulas = latex_formulas(declare(written))
    assert r"X \succeq I" in formulas
    assert r"x \in \mathcal{K}_{\mathrm{exp}}" in formulas
    for one in formulas:
        MathTextParser("path").parse(f"${one}$")
