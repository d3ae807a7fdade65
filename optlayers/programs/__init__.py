"""What a problem is: its numbers, its residual, its linearization."""
