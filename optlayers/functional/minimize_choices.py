"""What minimization decides: which KKT residual counts as zero."""

import torch

# Relative sizes of the largest entry: about the root of a rounding in float64, and a
# thousand roundings in float32, in which second derivatives are no better.
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-4}
