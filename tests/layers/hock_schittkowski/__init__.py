"""Problems of W. Hock, K. Schittkowski, Test Examples for Nonlinear Programming Codes
(1981), as declarations, grouped by their number of unknowns.
"""

from tests.layers.hock_schittkowski import (
    five_unknowns,
    four_unknowns,
    many_unknowns,
    three_unknowns,
    two_unknowns,
)

ENTRIES = {
    **two_unknowns.ENTRIES,
    **three_unknowns.ENTRIES,
    **four_unknowns.ENTRIES,
    **five_unknowns.ENTRIES,
    **many_unknowns.ENTRIES,
}
