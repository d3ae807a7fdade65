"""What equations at stages are written out to."""

import torch
from torch.testing import assert_close

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, solve
from optlayers.compile.root import compile_root
from optlayers.compile.staged_equations import written_out
from tests.modeling.traced import trace

DOUBLE = {"dtype": torch.float64}


def steered(x=State("2", start=(1, 2)), u=Control(lower=0), w=Parameter("2")):
    return solve(start=x.first == w, step=x.next == x + u, feed=u == ol.sum(x))


def test_trajectories_become_variables_with_an_axis_of_stages():
    template = compile_root(trace(steered, steps=2))
    assert template.unknowns.shapes == {"x": (3, 2), "u": (2,)}
    assert template.row_names == (
        *("start",) * 2,
        *("step at stage 0",) * 2,
        *("step at stage 1",) * 2,
        "feed at stage 0",
        "feed at stage 1",
    )
    assert_close(template.start, torch.tensor([1, 2, 1, 2, 1, 2, 0, 0], **DOUBLE))
    assert template.lower is not None
    assert template.lower.tolist() == [-torch.inf] * 6 + [0, 0]


def test_the_residual_of_every_stage_is_left_less_right():
    template = compile_root(trace(steered, steps=2))
    z, w = torch.randn(4, 8, **DOUBLE), torch.randn(4, 2, **DOUBLE)
    x, u = z[:, :6].reshape(4, 3, 2), z[:, 6:]
    step = x[:, 1:] - x[:, :-1] - u.unsqueeze(2)
    parts = [x[:, 0] - w, step.flatten(1), u - x[:, :-1].sum(2)]
    assert_close(template.function(z, [w], {}), torch.cat(parts, 1))


def test_what_has_no_stages_stays_as_it_is():
    def plain(x=Variable("2"), w=Parameter("2")):
        return solve(x == torch.sin(x) + w)

    declaration = trace(plain)
    found = written_out(declaration)
    assert found.fields is declaration.fields
    assert found.equations == declaration.constraints
