"""The fuzz test: random calls of the public API and damaged files, each case from its own seed.

`values` draws arguments, `calls` and `learning` the calls that take them; `files` and what it
imports damage files and read them; `oracle` and `memory` say what may come of it. `run` hands cases
to worker processes: ``python -m fuzz``, which runs a case by hand, too.
"""
