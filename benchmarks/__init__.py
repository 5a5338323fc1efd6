"""Benchmarks of the project beside its peers; each runs by hand and prints what it measured."""
