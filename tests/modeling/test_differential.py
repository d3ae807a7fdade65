"""integrate, der, event: what they state, under which names, and what is refused."""

import pytest
import torch
from matplotlib.mathtext import MathTextParser
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling import differential
from optlayers.modeling.differential import der, event, integrate
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.field_kinds import Control, Parameter, State, Time, Variable
from optlayers.modeling.language import between, in_cone, nonneg, total
from optlayers.modeling.problem import declare
from optlayers.modeling.rendering import latex_formulas
from optlayers.modeling.verbs import feasible, minimize, solve
from tests.modeling.traced import trace

net = nn.Linear(2, 2, dtype=torch.float64)
rate = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))


def pendulum(q=State(), v=State(), q0=Parameter(), damping=Parameter(), t=Time()):
    return integrate(
        der(q) == v,
        der(v) == -9.81 * ol.sin(q) - damping * v,
        start_q=q.first == q0,
        start_v=v.first == 0,
    )


def ball(h=State(), v=State(), e=Parameter(), h0=Parameter()):
    impact = event(h, direction=-1, terminal=False, jump={v: -e * v})
    return integrate(
        der(h) == v, der(v) == -9.81, h.first == h0, v.first == 0, impact=impact
    )


def driven(x=State("n"), u=Control("m"), B=Parameter("n m"), x0=Parameter("n")):
    return integrate(flow=der(x) == B @ u - x, start=x.first == x0)


def evaluated(expressions, captured=None, **values):
    tensors = {n: torch.as_tensor(v, dtype=torch.float64) for n, v in values.items()}
    evaluator = Evaluator(list(expressions), variables=values)
    return evaluator(tensors, captured or {})


# ---- what is stated ------------------------------------------------------------------


def test_every_state_has_a_rate_and_an_initial_value_of_its_shape():
    declaration = trace(pendulum)
    dynamics = declaration.dynamics
    assert declaration.sense == "integrate" and not declaration.is_feasibility
    assert declaration.steps is None
    assert dynamics.states == ("q", "v") == tuple(dynamics.initial)
    assert dynamics.time == "t" and dynamics.controls == () == dynamics.events
    names = [one.name for one in declaration.constraints]
    assert names == ["equation_0", "equation_1", "start_q", "start_v"]
    found = evaluated(dynamics.rates.values(), q=0.3, v=2.0, damping=0.1)
    expected = torch.tensor([2.0, -9.81 * 0.29552020666133955 - 0.2]).double()
    assert_close(torch.stack(found), expected)
    assert_close(
        torch.stack(evaluated(dynamics.initial.values(), q0=0.7)).double(),
        torch.tensor([0.7, 0.0], dtype=torch.float64),
    )


def test_rates_are_in_the_order_of_the_signature_whatever_that_of_writing():
    def body(x=State(), y=State()):
        return integrate(y.first == 1, der(y) == -x, der(x) == y, 2 == x.first)

    dynamics = trace(body).dynamics
    assert dynamics.states == ("x", "y")
    assert evaluated(dynamics.rates.values(), x=3.0, y=4.0) == [4.0, -3.0]
    assert evaluated(dynamics.initial.values()) == [2.0, 1.0]


def test_either_side_may_be_the_derivative_and_scalars_fill_a_shape():
    def body(x=State("n"), p=Parameter()):
        return integrate(p == der(x), 1 == x.first)

    dynamics = trace(body, n=3).dynamics
    assert dynamics.rates["x"].shape == (3,) == dynamics.initial["x"].shape
    (found,) = evaluated(dynamics.rates.values(), p=2.0)
    assert_close(found, torch.full((3,), 2.0, dtype=torch.float64))


def test_states_in_bodies_are_values_at_one_time():
    def body(x=State("2"), y=State("2 3")):
        first, second = x
        assert (x.shape, y.shape, x[0].shape) == ((2,), (2, 3), ())
        assert not x.is_staged and not y.is_staged
        return integrate(
            [der(x) == ol.stack([second, -first]), der(y) == x @ y * ol.norm(x)],
            [x.first == 1, y.first == torch.eye(2, 3)],
        )

    assert trace(body).dynamics.rates["y"].shape == (2, 3)


def test_modules_and_learned_parameters_are_part_of_a_rate():
    def body(x=State(2), x0=Parameter(2)):
        return integrate(der(x) == net(x) - rate * x, x.first == x0)

    declaration = trace(body)
    assert set(declaration.captured) == {"net", "rate"}
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    rates = declaration.dynamics.rates.values()
    (found,) = evaluated(rates, declaration.captured, x=x)
    assert_close(found, net(x) - rate * x)


def test_a_control_is_given_by_the_call_and_the_save_times_have_a_name():
    problem = declare(driven)
    assert problem.is_continuous and not problem.uses_stages
    assert problem.parameter_names == ("u", "B", "x0", "times")
    assert problem.variable_names == ("x",)
    dynamics = problem.trace({"n": 2, "m": 1}).dynamics
    assert (dynamics.controls, dynamics.time) == (("u",), "times")
    assert declare(pendulum).parameter_names == ("q0", "damping", "t")


def test_a_declaration_without_stages_is_traced_where_it_stands():
    assert declare(pendulum).is_sized and len(declare(pendulum).traced) == 1
    with pytest.raises(DeclarationError, match="x starts"):
        declare(lambda x=State(): integrate(der(x) == 1))


def test_the_verb_is_found_through_helpers_and_modules():
    def finish(x):
        return differential.integrate(ol.der(x) == -x, x.first == 1)

    def body(x=State()):
        return finish(x)

    assert declare(body).is_continuous
    assert not declare(lambda x=State(): minimize(x.last**2)).is_continuous


def test_time_enters_rates_and_events():
    def body(x=State(), t=Time(), stop=Parameter()):
        return integrate(der(x) == t * x, x.first == 1, event(t - stop))

    dynamics = trace(body).dynamics
    assert evaluated(dynamics.rates.values(), x=2.0, t=3.0) == [6.0]
    (one,) = dynamics.events
    assert evaluated([one.function], t=3.0, stop=1.0) == [2.0]


# ---- events --------------------------------------------------------------------------


def test_events_are_named_by_keyword_or_counted_apart_from_equations():
    def body(x=State(), x0=Parameter()):
        return integrate(
            event(x - 1, direction=1),
            der(x) == 1,
            event(x - 2),
            x.first == x0,
            several=[event(x), event(x + 1)],
        )

    declaration = trace(body)
    events = declaration.dynamics.events
    names = [one.name for one in events]
    assert names == ["event_0", "event_1", "several.0", "several.1"]
    assert [one.direction for one in events] == [1, 0, 0, 0]
    assert all(one.terminal and not one.jump for one in events)
    assert [one.name for one in declaration.constraints] == ["equation_0", "equation_1"]


def test_a_jump_has_the_shape_of_its_state():
    def body(x=State("n"), y=State(), e=Parameter()):
        bounce = event(y, jump={x: e, y: -e * y + ol.sum(x)})
        return integrate(der(x) == y, der(y) == 0, x.first == 1, y.first == 1, bounce)

    (one,) = trace(body, n=2).dynamics.events
    found = evaluated(one.jump.values(), x=[1.0, 2.0], y=5.0, e=0.5)
    assert list(one.jump) == ["x", "y"]
    assert_close(found[0], torch.full((2,), 0.5, dtype=torch.float64))
    assert found[1] == 0.5


# ---- how it reads --------------------------------------------------------------------


def test_a_differential_equation_reads_as_in_a_textbook():
    assert str(declare(pendulum)) == (
        "pendulum: integrate q ∈ ℝ, v ∈ ℝ\n"
        "    equation_0: dq/dt = v\n"
        "    equation_1: dv/dt = −9.81 sin(q) − damping v\n"
        "    start_q:    q(t₀) = q0\n"
        "    start_v:    v(t₀) = 0\n"
        "  given q0 ∈ ℝ, damping ∈ ℝ, t₀, …, t_T ∈ ℝ"
    )


def test_events_and_controls_are_written_out():
    text = str(declare(ball))
    assert "impact:     h = 0 falling, v ← (−e) v\n" in text
    assert text.endswith("given e ∈ ℝ, h0 ∈ ℝ, t₀, …, t_T ∈ ℝ")
    given = "given u₀, …, u_{T−1} ∈ ℝᵐ, B ∈ ℝⁿˣᵐ, x0 ∈ ℝⁿ, t₀, …, t_T ∈ ℝ"
    assert given in str(declare(driven))

    def stopped(x=State(), s=Time()):
        return integrate(der(x) == s, x.first == 1, stop=event(x - s, direction=1))

    assert "dx/ds = s" in str(declare(stopped))
    assert "x − s = 0 rising, stop" in str(declare(stopped))


@pytest.mark.parametrize("body", [pendulum, ball, driven])
def test_latex_is_read_by_mathtext(body):
    formulas = latex_formulas(declare(body))
    assert any(r"\frac{\mathrm{d} " in one for one in formulas)
    for one in formulas:
        MathTextParser("path").parse(f"${one}$")


# ---- what is refused -----------------------------------------------------------------


def refusal(body, error=DeclarationError, **sizes):
    with pytest.raises(error) as caught:
        trace(body, **sizes)
    return str(caught.value)


LINES = [
    (lambda x, p: [der(x) == x], "does not say where x starts"),
    (lambda x, p: [x.first == 1], "does not say how x changes"),
    (lambda x, p: [der(x) == x, x.first == 1, der(x) == 1], "x has two equations"),
    (
        lambda x, p: [der(x) == x, x.first == 1, x.first == p],
        "x has two initial conditions, equation_1 .* and equation_2; keep one",
    ),
    (lambda x, p: [2 * der(x) == x, x.first == 1], r"solve for der\(x\)"),
    (lambda x, p: [p * der(x) == x, x.first == 1], r"as in ol\.der\(x\) == f"),
    (lambda x, p: [der(x) == der(x) + x, x.first == 1], r"has ol\.der\(x\) inside"),
    (lambda x, p: [der(x) == x, 2 * x.first == p], r"has x\.first inside"),
    (lambda x, p: [der(x) == x.first, x.first == p], r"has x\.first|ol\.der\(x\)"),
    (lambda x, p: [der(x) == x, x.first == x], "parameters only"),
    (lambda x, p: [der(x) == x, x.first == p, x == p], "neither a rate"),
    (lambda x, p: [der(x) <= x, x.first == p], r"write ol\.event\(left - right\)"),
    (lambda x, p: [der(x) == x, x.first == p, between(0, x, 1)], "keeps no bounds"),
    (lambda x, p: [in_cone(x, "nonneg")], "membership in a cone"),
    (lambda x, p: [der(x)], r"is an expression, der\(x\)"),
    (lambda x, p: [3], "is made with =="),
    (lambda x, p: [der(x + 1) == x], "takes a State by itself, not x \\+ 1"),
    (lambda x, p: [der(der(x)) == x], "declare the first as a State"),
    (lambda x, p: [der(p) == x], r"p was declared Parameter\(\)"),
    (lambda x, p: [der(1.0) == x], "not 1.0"),
    (lambda x, p: [x.next == x], r"stated by ol\.der\(x\)"),
    (lambda x, p: [x.last == 1], "read off the result, at the last save time"),
    (lambda x, p: [x.at(2) == 1], "at the save times"),
    (lambda x, p: [(2 * x).first == 1], r"x\.first"),
    (lambda x, p: [total(x) == 1], "declare one more State c"),
]


@pytest.mark.parametrize(("lines", "words"), LINES)
def test_what_is_no_rate_and_no_initial_value_says_why(lines, words):
    def body(x=State(), p=Parameter()):
        return integrate(*lines(x, p))

    with pytest.raises(DeclarationError, match=words):
        trace(body)


EVENTS = [
    (lambda x, p: event(x == p), DeclarationError, r"as in ol\.event\(h - floor\)"),
    (lambda x, p: event(ol.stack([x, p])), ShapeError, r"\[2\].*\n.*for each entry"),
    (lambda x, p: event(x, direction=2), DeclarationError, "direction=2: \\+1 is"),
    (lambda x, p: event(x, direction=True), DeclarationError, "direction=True"),
    (lambda x, p: event(x, terminal=1), DeclarationError, "give True or False"),
    (lambda x, p: event(x, jump=-x), DeclarationError, "give a dictionary"),
    (lambda x, p: event(x, jump={p: x}), DeclarationError, "p is no State by itself"),
    (lambda x, p: event(x, jump={"x": x}), DeclarationError, "'x' is no State"),
    (lambda x, p: event(x, jump={x: [x, x]}), ShapeError, r"has shape \[\], .* \[2\]"),
    (lambda x, p: event(p), DeclarationError, "never crosses zero"),
    (lambda x, p: event(der(x)), DeclarationError, "write out its right side"),
    (lambda x, p: event(x - x.first), DeclarationError, "for an initial value its"),
    (lambda x, p: event(x, jump={x: der(x)}), DeclarationError, "stands in event_0"),
]


@pytest.mark.parametrize(("made", "error", "words"), EVENTS)
def test_what_is_no_event_says_why(made, error, words):
    def body(x=State(), p=Parameter()):
        return integrate(der(x) == 1, x.first == p, made(x, p))

    with pytest.raises(error, match=words):
        trace(body)


FIELDS = [
    (lambda x=State(), y=Variable(): integrate(der(x) == y), "a Parameter for what"),
    (lambda x=State(nonneg=True): integrate(der(x) == x), "drop nonneg="),
    (lambda x=State(lower=0): integrate(der(x) == x), "keeps no bounds"),
    (lambda x=State(start=1): integrate(der(x) == x), "drop start="),
    (lambda x=State(), u=Control(start=1): integrate(der(x) == u), "drop start="),
    (lambda u=Control(): integrate(), "integrates nothing; declare what changes"),
    (lambda x=State(), s=Time(), t=Time(): integrate(der(x) == s), "s and t are both"),
    (lambda x=State(), times=Parameter(): integrate(der(x) == x), "reserved name"),
    (lambda x=State(), events=Parameter(): integrate(der(x) == x), "reserved name"),
    (lambda x=State("times"): integrate(der(x) == x), "the dimension 'times' of x"),
]


@pytest.mark.parametrize(("body", "words"), FIELDS)
def test_fields_that_have_no_meaning_in_an_integrate_are_refused(body, words):
    with pytest.raises(DeclarationError, match=words):
        declare(body).trace()


def test_an_error_names_file_line_and_source():
    def body(x=State("n"), M=Parameter("n n")):
        return integrate(stiff=M @ der(x) == -x, start=x.first == 0)

    message = refusal(body, n=2)
    assert message.startswith("test_differential.py:")
    assert "`stiff=M @ der(x) == -x`: stiff has ol.der(x) inside" in message


def test_rates_and_initial_values_must_have_the_shape_of_the_state():
    def wide(x=State("n"), A=Parameter("n n")):
        return integrate(der(x) == A, x.first == 0)

    def tall(x=State(), x0=Parameter("n")):
        return integrate(der(x) == 1, start=x.first == x0)

    message = refusal(wide, ShapeError, n=2)
    assert "equation_0: ol.der(x) has shape [2], and A [2, 2]" in message
    assert "start: x.first has shape [], and x0 [3]" in refusal(tall, ShapeError, n=3)


def test_a_slice_of_stages_is_refused_where_there_are_none():
    def body(x=State()):
        return integrate(der(x[1:]) == x[:-1])

    assert "x is a value at one time" in refusal(body, ShapeError)


def test_entries_of_a_state_are_stated_together():
    def rates(x=State(2)):
        return integrate(der(x)[0] == x[1], x.first == 0)

    def starts(x=State(2)):
        return integrate(der(x) == x, x.first[1] == 0)

    def inside(x=State(2)):
        return integrate(der(x[0]) == x[1])

    for body in (rates, starts, inside):
        assert "ol.stack([...])" in refusal(body)


def test_a_rate_may_choose_by_sign():
    def body(x=State()):
        return integrate(der(x) == torch.where(torch.gt(x, 0), -x, 2 * x), x.first == 1)

    rates = trace(body).dynamics.rates.values()
    assert evaluated(rates, x=3.0) == [-3.0] and evaluated(rates, x=-3.0) == [-6.0]


def test_an_initial_value_may_not_depend_on_time_or_controls():
    def late(x=State(), t=Time()):
        return integrate(der(x) == 1, x.first == t)

    def pushed(x=State(), u=Control()):
        return integrate(der(x) == 1, x.first == u)

    assert "t may be built of parameters only" in refusal(late)
    assert "u may be built of parameters only" in refusal(pushed)


def test_promises_of_what_moves_are_refused():
    def body(x=State(), t=Time()):
        return integrate(der(x) == nonneg(t) * x, x.first == 1)

    assert "t changes with the time; drop it" in refusal(body)


def test_a_derivative_at_stages_is_refused_with_the_stages_word():
    def body(x=State()):
        return minimize(x.last**2, der(x) == 1)

    with pytest.raises(
        DeclarationError, match=r"x\.next for its value one stage later"
    ):
        trace(body, steps=2)


def test_two_verbs_in_one_body_are_refused():
    def body(x=State(), is_discrete=Parameter()):
        if is_discrete.shape == ():
            return feasible(x == 1)
        return integrate(der(x) == x, x.first == 1)

    assert "Write two declarations" in refusal(body)


def test_an_integrate_that_is_not_found_in_the_code_is_refused():
    verbs = {"end": integrate}

    def body(x=Variable()):
        return verbs["end"](x == 1)

    assert "call it by its own name" in refusal(body)


@pytest.mark.parametrize("word", ["convex", "geometric"])
def test_words_of_other_kinds_are_refused(word):
    with pytest.raises(
        DeclarationError, match=f"a differential equation, which {word}"
    ):
        declare(pendulum, **{word: True})


def test_names_are_unique_among_equations_and_events():
    def body(x=State()):
        return integrate(der(x) == 1, x.first == 1, event(x), event_0=event(x + 1))

    assert "are named event_0" in refusal(body)


def test_an_event_of_a_program_is_refused():
    def body(x=Variable()):
        return minimize(x**2, stop=event(x))

    assert "stop is an event, which is told to ol.integrate" in refusal(body)


def test_a_derivative_of_a_variable_is_refused():
    def body(x=Variable()):
        return solve(der(x) == 1)

    assert r"x was declared Variable()" in refusal(body)
