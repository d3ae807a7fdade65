"""integrate, der, event: what they state, under which names, and how it reads."""

import pytest
import torch
from matplotlib.mathtext import MathTextParser
from torch import nn
from torch.testing import assert_close

import optlayers as ol
from optlayers.errors import DeclarationError
from optlayers.modeling import differential
from optlayers.modeling.differential import der, event, integrate
from optlayers.modeling.evaluate import Evaluator
from optlayers.modeling.field_kinds import Control, Parameter, State, Time
from optlayers.modeling.problem import declare
from optlayers.modeling.rendering import latex_formulas
from optlayers.modeling.verbs import minimize
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


def test_a_rate_may_choose_by_sign():
    def body(x=State()):
        return integrate(der(x) == torch.where(torch.gt(x, 0), -x, 2 * x), x.first == 1)

    rates = trace(body).dynamics.rates.values()
    assert evaluated(rates, x=3.0) == [-3.0] and evaluated(rates, x=-3.0) == [-6.0]


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
