"""What optlayers ships for the tests of other people's solvers."""

from optlayers.testing.conformance import check_solver

__all__ = ["check_solver"]
