"""The fuzz test: random calls of the public API and damaged files, each case from a seed of its own.

`values` draws arguments, `calls` the calls that take them, `files` the damaged files; `oracle` says
what may come of them. `run` hands cases to worker processes, ``python -m tests.fuzz`` is both the
command and the worker.
"""
