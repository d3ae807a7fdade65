"""Rotations and rigid motions of the plane and of space, on batched tensors."""
