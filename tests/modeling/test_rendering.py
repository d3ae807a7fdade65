"""Declarations written as mathematics, in text and in LaTeX."""

import inspect

import pytest
import torch
from matplotlib.mathtext import MathTextParser

import optlayers.modeling.functions as ol
from optlayers.modeling.atom_formulas import ATOM_FORMULAS
from optlayers.modeling.atoms import ATOMS
from optlayers.modeling.field_kinds import Control, Parameter, State, Variable
from optlayers.modeling.formulas import Formulas
from optlayers.modeling.language import between, total
from optlayers.modeling.notation import LatexNotation, TextNotation
from optlayers.modeling.problem import declare
from optlayers.modeling.rendering import (
    RULES,
    latex_formulas,
    render_latex,
    render_text,
)
from optlayers.modeling.verbs import maximize, minimize
from tests.modeling.atom_cases import CASES
from tests.modeling.traced import built

weight = torch.nn.Parameter(torch.ones(2, 3))
net = torch.nn.Linear(5, 2)


def project(x=Variable("n"), y=Parameter("n"), A=Parameter("k n"), b=Parameter("k")):
    return minimize(ol.sum_squares(x - y), inside=A @ x <= b)


def portfolio(
    w=Variable("n", nonneg=True),
    mu=Parameter("n"),
    L=Parameter("n n"),
    risk=Parameter(nonneg=True),
):
    return maximize(mu @ w, budget=ol.sum(w) == 1, cap=ol.norm(L @ w) <= risk)


def mpc(
    x=State("n"),
    u=Control("m", lower=-1, upper=1),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
    q=Parameter("n", nonneg=True),
    r=Parameter("m", nonneg=True),
):
    return minimize(
        total(q @ x**2 + r @ u**2) + 10 * ol.sum_squares(x.last),
        start=x.first == x0,
        dynamics=x.next == A @ x + B @ u,
    )


def bounded(x=Variable("2"), a=Parameter("2", lower=0), S=Parameter("2 2", psd=True)):
    return minimize(ol.quad_form(x - a, S), box=between(-1, x, 1))


def learner(x=Variable("2"), f=Parameter("3")):
    return minimize(ol.sum_squares(x - weight @ f))


DECLARED = [project, portfolio, mpc, bounded, learner]


def test_a_projection_reads_as_in_a_textbook():
    assert render_text(declare(project)) == (
        "project: minimize over x ∈ ℝⁿ\n"
        "    ‖x − y‖₂²\n"
        "  subject to\n"
        "    inside: A x ≤ b\n"
        "  given y ∈ ℝⁿ, A ∈ ℝᵏˣⁿ, b ∈ ℝᵏ"
    )


def test_a_portfolio_reads_as_in_a_textbook():
    assert render_text(declare(portfolio)) == (
        "portfolio: maximize over w ∈ ℝⁿ₊\n"
        "    muᵀ w\n"
        "  subject to\n"
        "    budget: 𝟏ᵀ w = 1\n"
        "    cap:    ‖L w‖₂ ≤ risk\n"
        "  given mu ∈ ℝⁿ, L ∈ ℝⁿˣⁿ, risk ∈ ℝ₊"
    )


def test_stages_are_subscripts():
    assert render_text(declare(mpc)) == (
        "mpc: minimize over x₀, …, x_T ∈ ℝⁿ, u₀, …, u_{T−1} ∈ ℝᵐ\n"
        "    Σₖ₌₀ᵀ⁻¹ (qᵀ xₖ² + rᵀ uₖ²) + 10 ‖x_T‖₂²\n"
        "  subject to\n"
        "    start:    x₀ = x0\n"
        "    dynamics: xₖ₊₁ = A xₖ + B uₖ,  k = 0, …, T−1\n"
        "    u:        −1 ≤ uₖ ≤ 1,  k = 0, …, T−1\n"
        "  given x0 ∈ ℝⁿ, A ∈ ℝⁿˣⁿ, B ∈ ℝⁿˣᵐ, q ∈ ℝⁿ₊, r ∈ ℝᵐ₊"
    )


def test_a_traced_declaration_names_its_sizes():
    text = render_text(declare(mpc).trace({"n": 4, "m": 1}, 20))
    assert text.startswith("mpc (T = 20, n = 4, m = 1): minimize over x₀, …, x_T ∈ ℝ⁴")
    assert "B ∈ ℝ⁴ˣ¹" in text


def test_two_bounds_are_one_chain_and_sets_carry_attributes():
    text = render_text(declare(bounded))
    assert "box: −1 ≤ x ≤ 1" in text
    assert "given a ∈ [0, ∞)², S ∈ 𝕊²₊" in text
    assert "(x − a)ᵀ S (x − a)" in text


def test_what_is_learned_is_named():
    assert "learned weight ∈ ℝ²ˣ³" in render_text(declare(learner))


def test_a_body_that_depends_on_its_sizes_is_written_at_some():
    def unrolled(x=Variable("n")):
        return minimize(sum(one**2 for one in x))

    assert render_text(declare(unrolled)) == (
        "unrolled (n = 3): minimize over x ∈ ℝ³\n    x[0]² + x[1]² + x[2]²"
    )


def test_a_body_for_one_size_is_written_at_the_size_it_was_traced_at():
    def encoded(x=Variable("m"), o=Parameter("n")):
        return minimize(ol.sum_squares(x - net(o)))

    problem = declare(encoded)
    assert "written out once a layer gives the sizes" in render_text(problem)
    assert "o ∈ ℝⁿ" in render_text(problem)
    problem.trace({"m": 2, "n": 5})
    assert render_text(problem).startswith("encoded (m = 2, n = 5): minimize")
    assert "‖x − net(o)‖₂²" in render_text(problem)


def test_sizes_that_must_agree_are_found():
    def squared(x=Variable("n"), A=Parameter("k n")):
        return minimize(ol.sum_squares(A @ (A @ x)))

    assert "‖A A x‖₂²" in render_text(declare(squared))


def test_printing_a_declared_problem_shows_it():
    problem = declare(project)
    assert str(problem) == render_text(problem)
    assert problem._repr_latex_() == render_latex(problem)


FORMULAS = [
    (lambda x, y, A, s: x - (y - x), "x − (y − x)"),
    (lambda x, y, A, s: x - y - x, "x − y − x"),
    (lambda x, y, A, s: x + -y, "x − y"),
    (lambda x, y, A, s: -(x + y), "−(x + y)"),
    (lambda x, y, A, s: 2 * (x + y), "2 (x + y)"),
    (lambda x, y, A, s: x * 2, "2 x"),
    (lambda x, y, A, s: y - 2 * x, "y − 2 x"),
    (lambda x, y, A, s: y + x * -2, "y − 2 x"),
    (lambda x, y, A, s: s * 2 * x, "2 s x"),
    (lambda x, y, A, s: x * y, "x ∘ y"),
    (lambda x, y, A, s: A @ (x * y), "A (x ∘ y)"),
    (lambda x, y, A, s: x * (A @ y), "x ∘ A y"),
    (lambda x, y, A, s: (x + y) / s, "(x + y) / s"),
    (lambda x, y, A, s: x / (2 * s), "x / (2 s)"),
    (lambda x, y, A, s: A @ (x / s), "A (x / s)"),
    (lambda x, y, A, s: A.T @ x, "Aᵀ x"),
    (lambda x, y, A, s: (A @ x).T, "A x"),
    (lambda x, y, A, s: (A + A).T, "(A + A)ᵀ"),
    (lambda x, y, A, s: (x + y) @ A, "(x + y)ᵀ A"),
    (lambda x, y, A, s: x @ y, "xᵀ y"),
    (lambda x, y, A, s: (x - y) ** 2, "(x − y)²"),
    (lambda x, y, A, s: (x**2) ** 3, "(x²)³"),
    (lambda x, y, A, s: x**-1.5, "x^(−1.5)"),
    (lambda x, y, A, s: x**0.5, "√x"),
    (lambda x, y, A, s: ol.sqrt(x + 1), "√(x + 1)"),
    (lambda x, y, A, s: ol.sum(x + y), "𝟏ᵀ (x + y)"),
    (lambda x, y, A, s: ol.sum(A), "sum(A)"),
    (lambda x, y, A, s: ol.sum(A, axis=0), "sum(A, axis=0)"),
    (lambda x, y, A, s: ol.sum_squares(A), "‖A‖_F²"),
    (lambda x, y, A, s: ol.norm(x, 1), "‖x‖₁"),
    (lambda x, y, A, s: ol.norm(x, "inf") ** 2, "‖x‖_∞²"),
    (lambda x, y, A, s: ol.norm(A, "nuc"), "‖A‖_*"),
    (lambda x, y, A, s: torch.linalg.norm(A), "‖A‖_F"),
    (lambda x, y, A, s: ol.abs(x - y), "|x − y|"),
    (lambda x, y, A, s: ol.pos(x), "(x)₊"),
    (lambda x, y, A, s: ol.inv_pos(x), "1 / x"),
    (lambda x, y, A, s: ol.huber(x), "huber(x)"),
    (lambda x, y, A, s: ol.huber(x, 2), "huber(x, M=2)"),
    (lambda x, y, A, s: ol.maximum(x, 0), "max(x, 0)"),
    (lambda x, y, A, s: ol.quad_over_lin(x, s), "‖x‖₂² / s"),
    (lambda x, y, A, s: ol.lambda_max(A), "λₘₐₓ(A)"),
    (lambda x, y, A, s: ol.log_det(A), "log det(A)"),
    (lambda x, y, A, s: ol.outer(x, y), "x yᵀ"),
    (lambda x, y, A, s: torch.tanh(A @ x), "tanh(A x)"),
    (lambda x, y, A, s: ol.hstack([x, s]), "[x, s]"),
    (lambda x, y, A, s: x[1:] - A[0, 1:], "x[1:] − A[0, 1:]"),
    (lambda x, y, A, s: (x + y)[0], "(x + y)[0]"),
    (lambda x, y, A, s: x - torch.zeros(3), "x − 0"),
    (lambda x, y, A, s: x + torch.tensor([1.0, 2.0, 3.0]), "x + (1, 2, 3)"),
    (lambda x, y, A, s: x * 1e-7, "10⁻⁷ x"),
    (lambda x, y, A, s: 0 + x, "x"),
]


@pytest.mark.parametrize(("write", "text"), FORMULAS)
def test_parentheses_stand_only_where_they_are_needed(write, text):
    def body(x=Variable("3"), y=Parameter("3"), A=Parameter("3 3"), s=Parameter()):
        return minimize(ol.sum(x)), write(x, y, A, s)

    assert Formulas(TextNotation(), RULES).write(built(body)).text == text


STAGED = [
    (lambda x, u: x.next, "xₖ₊₁"),
    (lambda x, u: x.next.next + u, "xₖ₊₂ + uₖ"),
    (lambda x, u: (x + u).at(3), "x₃ + u₃"),
    (lambda x, u: (x.next - x).last, "x_T − x_{T−1}"),
    (lambda x, u: x.at(-2), "x_{T−1}"),
    (lambda x, u: x[1:], "x_{1:T}"),
    (lambda x, u: x[..., 0], "xₖ[0]"),
    (lambda x, u: total(x), "Σₖ₌₀ᵀ xₖ"),
    (lambda x, u: 2 * total(x - u), "2 (Σₖ₌₀ᵀ⁻¹ (xₖ − uₖ))"),
]


@pytest.mark.parametrize(("write", "text"), STAGED)
def test_a_stage_is_written_where_its_fields_stand(write, text):
    def body(x=State("2"), u=Control("2")):
        return minimize(total(ol.sum(x))), write(x, u)

    written = Formulas(TextNotation(), RULES, 20).write(built(body, steps=20))
    assert written.text == text


def assert_is_latex(formula):
    # matplotlib's reader refuses unknown commands and unbalanced braces.
    MathTextParser("agg").parse(f"${formula}$")


@pytest.mark.parametrize("declaration", DECLARED, ids=lambda one: one.__name__)
def test_every_line_is_latex(declaration):
    problem = declare(declaration)
    lines = latex_formulas(problem)
    assert lines
    for line in lines:
        assert_is_latex(line)
    latex = problem._repr_latex_()
    assert latex.startswith("$$\n\\begin{array}{lll}\n")
    assert latex.endswith("\\end{array}\n$$")
    assert latex.isascii()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_atom_is_written_in_text_and_latex(case):
    def body(x, **fields):
        arguments = list(fields.values())
        return minimize(x**2), x._apply(case.name, *arguments, **case.options)

    fields = {"x": Variable()} | {
        letter: Parameter(shape)
        for letter, shape in zip("abcd", case.shapes, strict=False)
    }
    body.__signature__ = inspect.Signature(
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=one)
        for name, one in fields.items()
    )
    node = built(body)
    text = Formulas(TextNotation(), RULES).write(node).text
    assert all(letter in text for letter in list(fields)[1:])
    latex = Formulas(LatexNotation(), RULES).write(node).text
    assert latex.isascii()
    assert_is_latex(latex)


def test_names_become_letters_in_latex():
    names = {
        "x": "x",
        "mu": r"\mu",
        "x_ref": r"x_{\mathrm{ref}}",
        "x_0": "x_{0}",
        "risk": r"\mathrm{risk}",
        "max_risk": r"\mathrm{max\_risk}",
    }
    for name, latex in names.items():
        assert LatexNotation().name(name) == latex
        assert_is_latex(latex)


def test_every_formula_rule_is_of_an_atom():
    assert set(ATOM_FORMULAS) <= set(ATOMS)
