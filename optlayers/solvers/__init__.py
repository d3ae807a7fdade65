"""How a program is solved: one algorithm a file, no gradients anywhere.

Solvers are named by kind: `optlayers.solvers.convex.Clarabel(max_steps=50)`.
"""

from optlayers.solvers import convex, minimize, ode, root
from optlayers.solvers.per_instance import get_num_threads, set_num_threads

__all__ = [
    "convex",
    "get_num_threads",
    "minimize",
    "ode",
    "root",
    "set_num_threads",
]
