"""Which of the peers' tests `make floors` runs, too: those marked `floors`.

All of the bridge ``fastmaml.jax``, for which JAX's version counts. Of the problems that JAX only
computes anew, each seventh, with every family and every loss among them: `make peers` has them all,
and on the oldest versions the suite holds the same kernels against plain NumPy.
"""

from itertools import groupby
from pathlib import Path

import pytest

BRIDGES = ("test_jax_layouts.py", "test_jax_loss.py")
#: prime to the number of families and no more than it, so that all of them and all losses are met
EVERY = 7


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark them, before pytest asks for the marks."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for _, group in groupby(here, key=lambda item: item.nodeid.split("[")[0]):
        for number, item in enumerate(group):
            if item.path.name in BRIDGES or number % EVERY == 0:
                item.add_marker("floors")
