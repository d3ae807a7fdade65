"""The language: expressions as data, fields, atoms, stages, constraints, rendering."""
