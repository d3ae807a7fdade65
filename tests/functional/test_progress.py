"""The bar of long integrations: shown on request, to its end, and then silent."""

import torch

from optlayers.functional import integrate
from optlayers.functional.progress import ProgressBar
from optlayers.solvers.ode import Dopri5
from tests.solvers.ode.problems import oscillator, program_of


def double(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def decay(time: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    return -state


def test_a_progress_bar_is_shown_on_request_only(capsys):
    for progress in (False, True):
        integrate(
            decay, double(1.0), double(0.0, 1.0), solver="dopri5", progress=progress
        )
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("100%" in shown.err) == progress


def test_a_bar_is_shown_for_a_sample_that_fails_on_the_way(capsys):
    solved = integrate(
        lambda time, state: state * state, double(2.0), double(0.0, 1.0),
        solver="dopri5", progress=True, on_failure="nan",
    )  # fmt: skip
    assert not bool(solved.ok)
    # Nobody is on the way any more.
    assert "100%" in capsys.readouterr().err


def test_a_bar_shows_the_share_of_the_slowest_sample(capsys):
    walk = Dopri5().walk(program_of(oscillator, [1.0, 0.0], [0.0, 30.0]))
    while walk.fraction < 0.5:
        walk.advance()
    with ProgressBar("half way") as bar:
        bar.update(walk)
    shown = capsys.readouterr().err
    assert "half way" in shown and f"{100 * walk.fraction:.0f}%" in shown


def test_a_bar_that_was_left_is_silent(capsys):
    walk = Dopri5().walk(program_of(oscillator, [1.0, 0.0], [0.0, 1.0]))
    bar = ProgressBar("over")
    with bar:
        pass
    capsys.readouterr()
    bar.update(walk)
    assert capsys.readouterr().err == ""
