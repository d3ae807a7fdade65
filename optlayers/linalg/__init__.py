"""Batched linear algebra: operators, factorizations, patterns, affine maps."""
