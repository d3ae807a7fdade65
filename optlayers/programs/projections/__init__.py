"""Projections onto cones, one a file, and their derivatives."""
