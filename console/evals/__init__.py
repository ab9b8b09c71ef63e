"""Evaluations on real data that others made: nothing is asked of a model or of the network. docs/evals.md."""
