"""The bridge from cvxpy: its expression trees, leaves and constraints, in our words."""
