"""What optlayers ships for the tests of other people's solvers."""

from optlayers.testing.conformance import check_solver
from optlayers.testing.minimizer_conformance import check_minimizer

__all__ = ["check_minimizer", "check_solver"]
