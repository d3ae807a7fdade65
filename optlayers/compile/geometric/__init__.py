"""Geometric programs: declarations that are convex in the logarithms of variables."""
