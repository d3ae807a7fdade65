"""Solvers and peers side by side."""

import io

import pytest
import torch
from rich.console import Console

import optlayers as ol
from optlayers.compat.cvxpylayers import solve_by_cvxpylayers
from optlayers.errors import NotSupported, OptlayersError
from optlayers.programs.cone_program import ConeProgram
from optlayers.testing.zoo import CONVEX

# The peers' conic solves lose half the digits where the active set is not strict.
PEER_TOLERANCE = 1e-3


def compared(name: str, **options):
    (specimen,) = [one for one in CONVEX if one.name == name]
    printed = io.StringIO()
    console = Console(file=printed, width=120)
    layer = specimen.problem.layer(**specimen.sizes)
    found = ol.compare(layer, specimen.batch(2), console=console, **options)
    return found, printed.getvalue()


# cvxpylayers 1.2 copies tensors in a way that numpy 2 deprecates, forward and backward.
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("name", ["projection", "mpc", "portfolio", "markowitz"])
def test_our_solvers_agree_closely_and_the_peers_roughly(name):
    found, printed = compared(name)
    assert found.reference == "clarabel"
    assert {"clarabel", "diffcp", "cvxpylayers"} <= set(found.solution)
    for entry, apart in found.solution.items():
        limit = PEER_TOLERANCE if entry == "cvxpylayers" else 1e-8
        assert apart < limit, entry
        assert found.dual[entry] < limit, entry
    for entry, apart in found.gradient.items():
        assert apart < (1e-8 if entry == "daqp" else PEER_TOLERANCE), entry
    assert "cvxpylayers" in printed


def test_an_entry_that_refuses_is_reported_and_harms_no_other():
    found, printed = compared("portfolio", solvers=["clarabel", "daqp"])
    assert "cone" in found.errors["daqp"]
    assert list(found.solution) == ["clarabel"]
    assert "daqp" in printed


def test_no_answer_at_all_says_why():
    with pytest.raises(OptlayersError, match="daqp"):
        compared("portfolio", solvers=["daqp"])


def test_cones_without_a_parity_reference_are_named():
    zeros = torch.zeros(1, 3, dtype=torch.float64)
    matrix = torch.zeros(3, 3, dtype=torch.float64)
    program = ConeProgram(None, zeros, matrix, zeros, ol.Cones(exp=1))
    with pytest.raises(NotSupported, match="soc"):
        solve_by_cvxpylayers(program)
