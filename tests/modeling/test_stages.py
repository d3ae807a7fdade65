"""Stages: windows, shifts, slices of a trajectory, and sums over stages."""

import numpy as np
import pytest
import torch

from optlayers.errors import DeclarationError, ShapeError
from optlayers.modeling.field_kinds import Control, Parameter, State, Variable
from optlayers.modeling.language import between, total
from optlayers.modeling.verbs import minimize
from tests.modeling.traced import built, trace

STEPS = 4


def of(expression_of, x=None, u=None):
    """What `expression_of(x, u, p)` builds on a State, a Control and a Parameter."""

    def body(x=x or State(2), u=u or Control(1), p=Parameter(2)):
        return minimize(total(x.sum() * 1 + u.sum())), expression_of(x, u, p)

    return built(body, STEPS)


def test_a_state_has_a_knot_more_than_a_control():
    x, u = of(lambda x, u, p: (x, u))
    assert (x.stages, u.stages) == (range(5), range(4))
    assert (x.shape, u.shape) == ((2,), (1,))
    assert x.options["field"].knots == 5


@pytest.mark.parametrize(
    ("build", "stages"),
    [
        (lambda x, u, p: x + u, range(4)),
        (lambda x, u, p: x.next, range(4)),
        (lambda x, u, p: u.next + x, range(3)),
        (lambda x, u, p: x.next.next - x, range(3)),
        (lambda x, u, p: p * x, range(5)),
        (lambda x, u, p: (x + u).next, range(3)),
        (lambda x, u, p: x.first + p, None),
        (lambda x, u, p: x.last, None),
        (lambda x, u, p: total(x), None),
        (lambda x, u, p: x[..., 0], range(5)),
    ],
)
def test_a_combination_lives_where_all_its_terms_live(build, stages):
    assert of(build).stages == stages


def test_first_last_and_at_pick_stages_of_the_window():
    build = [
        lambda x, u, p: x.first,
        lambda x, u, p: x.last,
        lambda x, u, p: x.at(2),
        lambda x, u, p: x.at(-2),
        lambda x, u, p: (x + u).last,
        lambda x, u, p: u.last,
    ]
    picked = [of(one) for one in build]
    assert [one.options["stage"] for one in picked] == [0, 4, 2, 3, 3, 3]
    assert {one.shape for one in picked} == {(2,), (1,)}


@pytest.mark.parametrize("stage", [5, -6, True, 1.0])
def test_a_stage_outside_the_window_is_refused(stage):
    with pytest.raises(DeclarationError, match="stage"):
        of(lambda x, u, p: x.at(stage))


def test_nothing_comes_after_the_last_stage():
    with pytest.raises(DeclarationError, match="nothing comes after stage 0"):
        of(lambda x, u, p: x.next.next.next.next.next)


@pytest.mark.parametrize(
    ("build", "shape", "index"),
    [
        (lambda x: x[1:], (4, 2), slice(1, 5, 1)),
        (lambda x: x[:-1], (4, 2), slice(0, 4, 1)),
        (lambda x: x[:], (5, 2), slice(0, 5, 1)),
        (lambda x: x[::2], (3, 2), slice(0, 5, 2)),
        (lambda x: x[9:], (0, 2), slice(5, 5, 1)),
        (lambda x: x[::-1], (5, 2), (4, 3, 2, 1, 0)),
        (lambda x: x[[0, -1], :], (2, 2), (0, 4)),
        (lambda x: x[np.arange(5) > 2, :], (2, 2), (3, 4)),
    ],
)
def test_a_slice_first_takes_stages_like_numpy_on_the_trajectory(build, shape, index):
    taken = of(lambda x, u, p: build(x))
    while taken.name != "stages":
        (taken,) = taken.arguments
    assert taken.stages is None
    assert taken.shape == shape
    assert taken.options["index"] == index


@pytest.mark.parametrize(
    "entries",
    [
        (slice(1, None), 0),
        (slice(None), [1, 0]),
        (slice(None, None, 2), slice(0, 1)),
        (2, 1),
        (-1, slice(None)),
        (slice(None), None),
        (slice(1, 3), ..., 0),
    ],
)
def test_indices_after_the_stages_have_the_shape_numpy_gives(entries):
    taken = of(lambda x, u, p: x[entries])
    assert taken.shape == np.zeros((5, 2))[entries].shape
    assert taken.stages is None


def test_any_index_on_a_scalar_trajectory_is_a_stage():
    first, last, some = of(lambda v, u, p: (v[0], v[-1], v[[1, 3]]), x=State())
    assert (first.name, first.options["stage"]) == ("at", 0)
    assert (last.name, last.options["stage"]) == ("at", 4)
    assert (some.name, some.options["index"], some.shape) == ("stages", (1, 3), (2,))


def test_an_ellipsis_first_takes_components_at_every_stage():
    taken = of(lambda x, u, p: x[..., 0])
    assert (taken.name, taken.shape, taken.stages) == ("index", (), range(5))


def test_indices_of_derived_expressions_are_components():
    taken = of(lambda x, u, p: (x.next - p)[0])
    assert (taken.name, taken.shape, taken.stages) == ("index", (), range(4))


@pytest.mark.parametrize("index", [0, -1, [0, 1]])
def test_a_lone_index_on_a_vector_trajectory_is_ambiguous(index):
    with pytest.raises(DeclarationError, match="could be a stage or a component"):
        of(lambda x, u, p: x[index])


def test_iterating_a_trajectory_gives_its_components():
    parts = of(lambda x, u, p: list(x))
    assert [part.stages for part in parts] == [range(5), range(5)]


def test_a_mask_over_stages_needs_one_entry_per_knot():
    with pytest.raises(ShapeError, match=r"needs shape \[5\]"):
        of(lambda x, u, p: x[np.ones(4, dtype=bool), :])


def test_elementwise_atoms_of_a_shift_are_shifts_of_the_atom():
    shifted = of(lambda x, u, p: x.next**2)
    assert shifted.name == "next"
    assert shifted.arguments[0].name == "power"
    assert shifted.arguments[0].stages == range(5)
    assert shifted.stages == range(4)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda x, u, ref: x - ref, "5 2"),
        (lambda x, u, ref: x.next - ref, "4 2"),
        (lambda x, u, ref: x.next == ref, "4 2"),
        (lambda x, u, ref: ref <= x, "5 2"),
        (lambda x, u, ref: x.next - x[:-1], "5 2"),
        (lambda x, u, ref: x - 2 * x[:], "5 2"),
        (lambda x, u, ref: x[1:] == x.next, "5 2"),
    ],
)
def test_a_trajectory_written_out_does_not_meet_a_term_per_stage(build, shape):
    def body(x=State(2), u=Control(1), ref=Parameter(shape)):
        return minimize(total(x @ x)), build(x, u, ref)

    with pytest.raises(DeclarationError, match="stages as its first axis"):
        built(body, STEPS)


def test_written_out_trajectories_meet_each_other():
    def body(x=State(2), u=Control(2), ref=Parameter("5 2")):
        return minimize(total(x @ x), x[:] == ref, x[1:] == x[:-1] + u[:])

    assert [one.shape for one in trace(body, STEPS).constraints] == [(5, 2), (4, 2)]


def test_a_staged_constraint_holds_at_each_stage_of_its_window():
    def body(x=State(2, lower=0), u=Control(1), p=Parameter(2)):
        return minimize(
            total(x @ x),
            dynamics=x.next == x + u * p,
            box=between(0, u, 1),
            start=x.first == p,
        )

    stages = {one.name: one.stages for one in trace(body, STEPS).constraints}
    assert stages == {
        "dynamics": range(4),
        "box.lower": range(4),
        "box.upper": range(4),
        "start": None,
        "x.lower": range(5),
    }


def test_total_takes_staged_expressions_only():
    def body(x=Variable(2)):
        return minimize(total(x @ x))

    with pytest.raises(DeclarationError, match=r"for the sum of its entries.*ol\.sum"):
        trace(body)


def test_a_staged_objective_is_told_of_total():
    def body(x=State(2)):
        return minimize(x @ x)

    with pytest.raises(DeclarationError, match=r"stages 0 to 4.\n  Sum it with ol\.to"):
        trace(body, STEPS)


def test_what_is_not_staged_has_no_next():
    with pytest.raises(DeclarationError, match=r"p has no stages, so no \.next"):
        of(lambda x, u, p: p.next)


def test_steps_must_be_given_and_positive():
    def body(x=State(2)):
        return minimize(total(x @ x))

    for steps in (None, 0, True, 2.5):
        with pytest.raises(DeclarationError, match="needs steps"):
            trace(body, steps)


def test_torch_functions_act_at_every_stage():
    wave = of(lambda x, u, p: torch.sin(x.next))
    assert (wave.name, wave.shape, wave.stages) == ("torch", (2,), range(4))
