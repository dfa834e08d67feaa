"""Benchmarks: asv suites (``bench_*.py``) and scripts that hold fastmaml against its peers."""
