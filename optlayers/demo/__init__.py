"""The demonstration: a controller for CartPole learned through a convex program."""
