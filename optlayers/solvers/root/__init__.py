"""Solvers of systems of equations and fixed points, one algorithm a file."""
