"""Parity with other libraries: side-by-side comparison."""
