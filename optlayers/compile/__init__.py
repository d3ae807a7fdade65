"""The one room that knows modeling and cvxpy: declarations to programs, and back."""
