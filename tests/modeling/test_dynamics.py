"""What an integrate refuses: equations, events, fields, and in which words."""

import pytest

import optlayers as ol
from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.differential import der, event, integrate
from optlayers.modeling.field_kinds import Control, Parameter, State, Time, Variable
from optlayers.modeling.language import between, in_cone, nonneg, total
from optlayers.modeling.problem import declare
from optlayers.modeling.verbs import feasible, minimize, solve
from tests.modeling.test_differential import pendulum
from tests.modeling.traced import trace


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
    (lambda x, p: [der(x) == x.first, x.first == p], r"x\.first in the rate of x"),
    (lambda x, p: [x.first == der(x), der(x) == p], r"Parameter that x\.first equals"),
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
    assert message.startswith("test_dynamics.py:")
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
