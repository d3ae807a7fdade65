"""How a solution is differentiated: the implicit function theorem, batched."""
